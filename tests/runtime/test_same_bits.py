"""The same bits from run to run; and where NumPy's matrix products have no part in it, or the
library divides them, whatever the number of threads.
"""

import hashlib
import os
import subprocess
import sys

import pytest

# Both are large enough for OpenBLAS to use several threads, and for clusters to run in tiles.
TRAIN = """
import hashlib
import numpy as np
import needle_ir as ndl
from needle_ir import nn

ndl.manual_seed(0)
model = nn.Sequential(
    nn.Linear(300, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.1),
    nn.Linear(512, 256), nn.LayerNorm1d(256), nn.ReLU(), nn.Linear(256, 10),
)
opt = ndl.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-2)

@ndl.jit
def step(x, y):
    opt.reset_grad()
    loss = nn.SoftmaxLoss()(model(x), y)
    loss.backward()
    opt.step()
    return loss

generator = np.random.default_rng(0)
bits = hashlib.sha256()
for _ in range(4):
    x = generator.random((600, 300), np.float32)
    bits.update(step(x, generator.integers(0, 10, 600)).numpy().tobytes())
for tensor in [*model.parameters(), *opt.u, *opt.v]:
    bits.update(tensor.numpy().tobytes())
print(bits.hexdigest())
"""

# What the runtime itself computes in a training step: sums, of which some go through BLAS as a row
# of ones times a matrix, row-wise functions, fused loops, an optimizer's update.
WITHOUT_PRODUCTS = """
import hashlib
import numpy as np
import needle_ir as ndl
from needle_ir import nn

generator = np.random.default_rng(0)
norm, rows = nn.BatchNorm1d(300), nn.LayerNorm1d(300)
scale = nn.Parameter(generator.random((700, 300), np.float32))
opt = ndl.optim.Adam([*norm.parameters(), *rows.parameters(), scale], lr=1e-3, weight_decay=1e-2)

@ndl.jit
def step(x, y):
    opt.reset_grad()
    loss = nn.SoftmaxLoss()(rows(ndl.relu(norm(x * scale))), y)
    loss.backward()
    opt.step()
    return loss

bits = hashlib.sha256()
for _ in range(4):
    x = generator.random((700, 300), np.float32)
    bits.update(step(x, generator.integers(0, 300, 700)).numpy().tobytes())
for tensor in [*opt.params, *opt.u, *opt.v]:
    bits.update(tensor.numpy().tobytes())
print(bits.hexdigest())
"""


def digest(program: str, threads: int, own_threads: int | None = None) -> str:
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    environment["NEEDLE_IR_NUM_THREADS"] = "" if own_threads is None else str(own_threads)
    child = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return child.stdout.strip()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_run_gives_the_same_bits_again(threads: int) -> None:
    result = digest(TRAIN, threads)
    assert len(result) == len(hashlib.sha256().hexdigest())
    assert result == digest(TRAIN, threads)


def test_what_is_computed_without_products_depends_on_no_threads() -> None:
    """OpenBLAS adds up the terms of a matrix product in another order with one thread than with
    several: there `a @ b` in NumPy differs as well.
    """
    assert digest(WITHOUT_PRODUCTS, 1) == digest(WITHOUT_PRODUCTS, 2)


def test_a_training_run_depends_on_no_threads_of_the_library() -> None:
    """Products among them: each block is computed by one thread."""
    expected = digest(TRAIN, threads=1, own_threads=1)
    for threads, own_threads in [(2, 1), (1, 2), (2, 3)]:
        assert digest(TRAIN, threads, own_threads) == expected

"""Measures what an epoch takes beside its training steps alone: the loader, the metrics, the loop.

Both run the functions of apps/mlp_resnet.py on one core, in turns. `--data-dir` names a folder with
MNIST; without it, images of MNIST's number and size are drawn.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # What is measured is this checkout, not a needle_ir that is installed.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.cores import pick_cores, pin

pin(pick_cores(1))  # before NumPy starts its threads

import numpy as np

import needle_ir as ndl
from apps.mlp_resnet import MLPResNet, epoch, train_step
from benchmarks.blas import numpy_blas
from needle_ir.data import DataLoader, MNISTDataset, mnist_files
from needle_ir.data.digits import USUAL_NAMES
from needle_ir.data.idx import write_idx

BATCH = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="a folder with MNIST")
    parser.add_argument("--rounds", type=int, default=3, help="epochs, and as often their steps")
    parser.add_argument("--images", type=int, default=60_000, help="how many images are drawn")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data_dir or _drawn(Path(scratch), options.images)
        dataset = MNISTDataset(*mnist_files(folder, train=True))
    pairs = measure(dataset, options.rounds)
    steps = len(DataLoader(dataset, BATCH))
    whole, alone = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"NumPy {np.__version__}, {numpy_blas()}")
    print(f"an epoch of {len(dataset)} images in batches of {BATCH}: {whole:.3f} s")
    print(f"{steps} steps in the steady state: {alone:.3f} s, {1e3 * alone / steps:.3f} ms a step")
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"the epoch takes {ratio:.3f} times as long as its steps")
    return 0


def measure(dataset: MNISTDataset, rounds: int) -> list[tuple[float, float]]:
    """Seconds of an epoch and of as many steps on one batch, `rounds` times in turns."""
    np.random.seed(0)
    model = MLPResNet(dataset.images[0].size)
    opt = ndl.optim.Adam(model.parameters(), lr=0.001, weight_decay=0.001)
    loader = DataLoader(dataset, BATCH, shuffle=True)
    images, labels = next(iter(loader))
    for _ in range(20):  # compiles, and reaches the steady state
        train_step(model, opt, images, labels)
    pairs = []
    for _ in range(rounds):
        started = time.perf_counter()
        epoch(loader, model, opt)
        between = time.perf_counter()
        for _ in range(len(loader)):
            train_step(model, opt, images, labels)
        pairs.append((between - started, time.perf_counter() - between))
    return pairs


def _drawn(folder: Path, count: int) -> Path:
    """A folder with `count` images of noise, and labels, in the files of a training set."""
    generator = np.random.default_rng(0)
    images_name, labels_name = USUAL_NAMES[True]
    write_idx(folder / images_name, generator.integers(0, 256, (count, 28, 28), np.uint8))
    write_idx(folder / labels_name, generator.integers(0, 10, count, np.uint8))
    return folder


if __name__ == "__main__":
    sys.exit(main())

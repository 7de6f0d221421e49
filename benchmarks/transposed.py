"""Measures products whose right operand is transposed, as a flag for BLAS and as a copy.

By these `needle_ir/runtime/products.py` chose which operands are copied.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from benchmarks.blas import numpy_blas
from benchmarks.cores import describe_machine
from benchmarks.tables import Table, new_console, print_tables

# Rows of the result, the sum's length, columns of the result.
SHAPES = (
    (100, 50, 100),
    (100, 100, 50),
    (100, 100, 100),
    (100, 10, 100),
    (32, 64, 64),
    (10, 100, 100),
    (128, 128, 128),
    (200, 100, 100),
    (256, 256, 128),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500, help="calls of each (default: 500)")
    rounds = parser.parse_args(arguments).rounds
    rows = []
    for shape in SHAPES:
        flag, copy = measure(shape, rounds)
        name = " by ".join(map(str, shape))
        rows.append((name, f"{1e6 * flag:.1f}", f"{1e6 * copy:.1f}", f"{copy / flag:.2f}"))
    title = f"float32 products in µs; {describe_machine()}; {numpy_blas()}"
    columns = ("multiplications", "as a flag", "copied", "ratio")
    print_tables([Table(title, columns, tuple(rows))], new_console())
    return 0


def measure(shape: tuple[int, int, int], rounds: int) -> tuple[float, float]:
    """The median of the seconds of a product, with the flag and with a copy. They take turns."""
    rows, inner, columns = shape
    random = np.random.default_rng(0)
    a, b = (random.random((n, inner), np.float32) for n in (rows, columns))
    out = np.empty((rows, columns), np.float32)
    ways: tuple[Callable[[], object], ...] = (
        lambda: np.matmul(a, b.T, out),
        lambda: np.matmul(a, b.T.copy(), out),
    )
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for way, found in zip(ways, seconds, strict=True):
            started = time.perf_counter()
            way()
            found.append(time.perf_counter() - started)
    flag, copy = map(statistics.median, seconds)
    return flag, copy


if __name__ == "__main__":
    sys.exit(main())

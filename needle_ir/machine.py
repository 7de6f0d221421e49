"""What this machine reaches at best: operations a second, and bytes a second by size.

Each is measured when it is first asked for, and then kept for the process. The two together take
about half a second. What else the machine does meanwhile makes them smaller.
"""

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter

import numpy as np

_SIZES = tuple(4096 << 2 * step for step in range(8))  # bytes of an array: 4 KiB to 64 MiB
_SQUARES = (512, 1024)  # rows of the matrices
_SECONDS_PER_SQUARE = 0.1
_SECONDS_PER_SIZE = 0.01


@cache
def peak_gflops() -> float:
    """The most float32 operations a second that a product of square matrices reached here, in 10⁹.

    The best of several, of 512 and of 1024 rows, with as many threads as the BLAS library uses.
    """
    rates = []
    for size in _SQUARES:
        a = np.ones((size, size), np.float32)
        multiply = partial(np.matmul, a, a, np.empty_like(a))
        rates.append(2 * size**3 / _best(multiply, _SECONDS_PER_SQUARE) / 1e9)
    return max(rates)


def copy_gbps(bytes_moved: int) -> float:
    """The bytes a second, in 10⁹, that a copy reached here which moved about as many bytes.

    A copy of an array of n bytes moves 2 n: it reads and writes each. Copies that fit into a cache
    are faster than large ones, and very small ones take the time of a call; so the rate is that of
    the nearest size from 4 KiB to 64 MiB that is no smaller.
    """
    rates = copy_rates()
    return next((rate for moved, rate in rates if moved >= bytes_moved), rates[-1][1])


@cache
def copy_rates() -> tuple[tuple[int, float], ...]:
    """(bytes moved, 10⁹ bytes a second) of copies of 4 KiB to 64 MiB, the best of several each."""
    rates = []
    for size in _SIZES:
        source = np.ones(size, np.uint8)
        target = np.empty_like(source)
        copy = partial(np.copyto, target, source)
        rates.append((2 * size, 2 * size / _best(copy, _SECONDS_PER_SIZE) / 1e9))
    return tuple(rates)


def _best(call: Callable[[], object], seconds: float) -> float:
    """The time of the fastest of several calls, after one to warm up."""
    call()
    best, end = float("inf"), perf_counter() + seconds
    for number in range(1000):
        start = perf_counter()
        call()
        now = perf_counter()
        best = min(best, now - start)
        if now > end and number >= 2:
            break
    return best

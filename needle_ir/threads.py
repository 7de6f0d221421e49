"""How many threads share the steps of a program."""

from needle_ir.arguments import whole_number
from needle_ir.runtime.pool import pool


def set_num_threads(count: int | None) -> None:
    """Let `count` threads, the calling one among them, share the large steps of every program.

    They share large matrix products, block by block, and fused loops over arrays of 2 MiB or more,
    tile by tile. One thread computes each part, and the parts are the same for any `count`: so are
    the bits of the results. To that end OpenBLAS is told to use one thread, in the whole process,
    for NumPy's own products as well.

    None undoes it: then OpenBLAS divides products among as many threads as before, and all else
    runs in the calling thread. So it is at the start, unless the environment variable
    NEEDLE_IR_NUM_THREADS holds a number of threads. `docs/benchmarks.md` has what either costs.

    Raises TypeError for what is no integer, ValueError below 1, and RuntimeError where NumPy's BLAS
    is no OpenBLAS whose functions can be found.
    """
    pool.resize(None if count is None else whole_number("count", count, at_least=1))


def get_num_threads() -> int | None:
    """How many threads share the large steps of a program; None as long as none was set."""
    return pool.size

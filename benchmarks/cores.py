"""Cores and the environment of a contender's process. Nothing here imports NumPy: a process is
pinned before it does.
"""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

# Variables that choose BLAS kernels or threads, or that change what a library compiles.
_TUNING = ("BLIS_", "GOTO_", "JAX_", "KMP_", "MKL_", "NPY_", "NVPL_", "OMP_", "OPENBLAS_", "TORCH",
           "XLA_")  # fmt: skip
_THREADS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def environment(cores: int, path: Path, scratch: Path) -> dict[str, str]:
    """The variables of a process that imports from `path` and may use `cores` threads.

    Nothing that tunes is kept. Temporary files go to `scratch`, which is empty, so that no compiler
    finds what it wrote in an earlier run. Python may write bytecode, as it does by default.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_TUNING)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    threads = dict.fromkeys(_THREADS, str(cores))
    return kept | threads | {"PYTHONPATH": str(path), "TMPDIR": str(scratch)}


def removed_variables() -> list[str]:
    """The variables of this process that `environment` leaves out."""
    return sorted(name for name in os.environ if name.startswith(_TUNING))


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pick_cores(count: int) -> list[int]:
    """The first `count` usable cores. Raises ValueError where there are fewer."""
    usable = usable_cores()
    if count > len(usable):
        raise ValueError(f"{count} cores are asked for, and {len(usable)} may be used")
    return usable[:count]


def pin(cores: Sequence[int]) -> None:
    """Keep this process on `cores`, where the system has a way to do it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def describe_machine() -> str:
    """The processor's model and the number of usable cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    cores = len(usable_cores())
    return f"{model}, {cores} core{'s' if cores > 1 else ''}"


def load_average() -> float | None:
    """How many processes wanted to run in the last minute; None where nobody counts them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None

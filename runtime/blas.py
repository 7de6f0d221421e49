"""How many threads NumPy's BLAS uses, where that BLAS is an OpenBLAS."""

from collections.abc import Callable
from ctypes import CDLL
from functools import cache
from importlib import import_module
from typing import Any

# NumPy's wheels rename the functions; `64_` stands for 64-bit integers.
_NAMES = ["scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}"]


def num_threads() -> int:
    """The threads that a large product is divided among. Raises RuntimeError for another BLAS."""
    return int(_function("get_num_threads")())


def set_num_threads(count: int) -> None:
    """Divide the products of this process among `count` threads, NumPy's own too. Raises
    RuntimeError for another BLAS.
    """
    _function("set_num_threads")(count)


@cache
def _function(name: str) -> Callable[..., Any]:
    # A look-up in this library goes on in those that it was linked with.
    library = CDLL(import_module("numpy._core._multiarray_umath").__file__)
    for template in _NAMES:
        function: Callable[..., Any] | None = getattr(library, template.format(name), None)
        if function is not None:
            return function
    raise RuntimeError("NumPy's BLAS is no OpenBLAS that can be asked to use one thread")

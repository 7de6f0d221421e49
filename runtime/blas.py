"""What NumPy's BLAS is, where it is an OpenBLAS: its kernels, and how many threads it uses."""

from collections.abc import Callable
from ctypes import CDLL, c_char_p
from functools import cache
from importlib import import_module
from typing import Any

# NumPy's wheels rename the functions; `64_` stands for 64-bit integers.
_NAMES = ["scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}64_", "openblas_{}"]


@cache
def core_name() -> str:
    """The processor that the kernels are for, such as "Haswell"; empty for another BLAS."""
    try:
        function = _function("get_corename")
    except RuntimeError:
        return ""
    function.restype = c_char_p  # type: ignore[attr-defined]
    name: bytes = function()
    return name.decode()


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
    raise RuntimeError("NumPy's BLAS is no OpenBLAS that can be asked, or told how many threads")

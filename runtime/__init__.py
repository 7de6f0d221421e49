"""The runtime: kernels, the executor, the interpreter."""

if __name__ != "needle_ir.runtime":
    raise ImportError("this folder is imported as `needle_ir.runtime`, not as `runtime`")

from importlib import import_module
from typing import TYPE_CHECKING, Any

from needle_ir.runtime.draws import draws

if TYPE_CHECKING:
    from needle_ir.runtime.executor import Executor, Wrap
    from needle_ir.runtime.inline import Kernel
    from needle_ir.runtime.interpreter import interpret
    from needle_ir.runtime.kernels import (
        KERNELS,
        VIEWS,
        MissingKernelError,
        evaluate,
        fused_kernel,
        make_kernel,
    )
    from needle_ir.runtime.recycle import Leases

# What only records and draws needs no kernels: the module of each name, imported on first use.
_ON_FIRST_USE = {
    "KERNELS": "kernels",
    "VIEWS": "kernels",
    "Executor": "executor",
    "Kernel": "inline",
    "Leases": "recycle",
    "MissingKernelError": "kernels",
    "Wrap": "executor",
    "evaluate": "kernels",
    "fused_kernel": "kernels",
    "interpret": "interpreter",
    "make_kernel": "kernels",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return getattr(import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "KERNELS",
    "VIEWS",
    "Executor",
    "Kernel",
    "Leases",
    "MissingKernelError",
    "Wrap",
    "draws",
    "evaluate",
    "fused_kernel",
    "interpret",
    "make_kernel",
]

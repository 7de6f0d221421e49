"""The runtime: kernels, the executor, the interpreter."""

if __name__ != "needle_ir.runtime":
    raise ImportError("this folder is imported as `needle_ir.runtime`, not as `runtime`")

from needle_ir.runtime.draws import draws
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

__all__ = [
    "KERNELS",
    "VIEWS",
    "Executor",
    "Kernel",
    "MissingKernelError",
    "Wrap",
    "draws",
    "evaluate",
    "fused_kernel",
    "interpret",
    "make_kernel",
]

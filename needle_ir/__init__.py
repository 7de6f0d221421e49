"""needle_ir: a deep-learning graph compiler that you can see through."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "passes" / "__init__.py").is_file():
    # A checkout: `passes/`, `runtime/` and `viz/` lie beside this folder, not in it.
    __path__.append(str(_ROOT))

from needle_ir import autograd, init, ir, nn, ops, optim
from needle_ir.autograd import grad, value_and_grad
from needle_ir.compiler import dump_graphs, instruments, record_passes
from needle_ir.derivatives import hessian, jacfwd, jacrev, jvp, vjp
from needle_ir.device import Device, all_devices, cpu, default_device
from needle_ir.init import manual_seed
from needle_ir.ir import DTypeError, Graph, OpError, ShapeError
from needle_ir.jit import Compiled, JitFunction, compile, jit, trace
from needle_ir.notebook import picture
from needle_ir.ops import (
    composite,
    concatenate,
    equal,
    exp,
    expm1,
    log,
    log1p,
    log_softmax,
    logaddexp,
    logsumexp,
    matmul,
    maximum,
    minimum,
    relu,
    sigmoid,
    softmax,
    softplus,
    sqrt,
    stack,
    stop_gradient,
    tanh,
    where,
)
from needle_ir.plan_cache import CacheInfo, cache_info, clear_cache
from needle_ir.realize import TracedValueError, sync
from needle_ir.recompiles import RecompileWarning, explain_recompiles
from needle_ir.recording import enable_grad, no_grad
from needle_ir.tensor import Tensor

if TYPE_CHECKING:
    from needle_ir import data, passes, runtime, viz
    from needle_ir.bisection import Bisection, bisect
    from needle_ir.explanation import Explanation, explain
    from needle_ir.failures import replay
    from needle_ir.nans import debug_nans
    from needle_ir.profiler import Profile, profile
    from needle_ir.reporting import Report, report
    from needle_ir.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

ir.Representable.REPRESENTATIONS["image/svg+xml"] = picture
del picture

# What a training program does not need is imported when it is first asked for: the module of each.
_ON_FIRST_USE = {
    "Bisection": "bisection",
    "Explanation": "explanation",
    "Profile": "profiler",
    "Report": "reporting",
    "bisect": "bisection",
    "debug_nans": "nans",
    "explain": "explanation",
    "get_num_threads": "threads",
    "profile": "profiler",
    "replay": "failures",
    "report": "reporting",
    "set_num_threads": "threads",
}
_FOLDERS = ("data", "passes", "runtime", "viz")


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return import_module(f"{__name__}.{name}")
    if name in _ON_FIRST_USE:
        return getattr(import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Bisection",
    "CacheInfo",
    "Compiled",
    "DTypeError",
    "Device",
    "Explanation",
    "Graph",
    "JitFunction",
    "OpError",
    "Profile",
    "RecompileWarning",
    "Report",
    "ShapeError",
    "Tensor",
    "TracedValueError",
    "all_devices",
    "autograd",
    "bisect",
    "cache_info",
    "clear_cache",
    "compile",
    "composite",
    "concatenate",
    "cpu",
    "data",
    "debug_nans",
    "default_device",
    "dump_graphs",
    "enable_grad",
    "equal",
    "exp",
    "explain",
    "explain_recompiles",
    "expm1",
    "get_num_threads",
    "grad",
    "hessian",
    "init",
    "instruments",
    "ir",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "log",
    "log1p",
    "log_softmax",
    "logaddexp",
    "logsumexp",
    "manual_seed",
    "matmul",
    "maximum",
    "minimum",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "passes",
    "profile",
    "record_passes",
    "relu",
    "replay",
    "report",
    "runtime",
    "set_num_threads",
    "sigmoid",
    "softmax",
    "softplus",
    "sqrt",
    "stack",
    "stop_gradient",
    "sync",
    "tanh",
    "trace",
    "value_and_grad",
    "viz",
    "vjp",
    "where",
]

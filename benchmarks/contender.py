"""The contenders: what each one is, and what its module has to give."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """A training step that is ready to run. A contender's module makes it in `make_step`.

    `run(number)` takes one step on that batch; what it returns may still be computing. `loss` waits
    for it and gives the loss from before the update. `wait` returns when all is computed. `facts`
    says what was used: versions, BLAS, random generator. `memory` gives bytes by name.
    """

    run: Callable[[int], Any]
    wait: Callable[[Any], None]
    loss: Callable[[Any], float]
    facts: Callable[[], dict[str, str]]
    memory: Callable[[], dict[str, int]] = dict


@dataclass(frozen=True)
class Contender:
    """A way to run the step: `make_step(configuration, variant)` of a module in this folder."""

    name: str
    label: str
    module: str
    variant: str = ""
    package: str | None = None  # what must be installed; None for what needs NumPy only


_ALL = (
    Contender("numpy", "NumPy by hand", "numpy_step"),
    Contender("needle-jit", "needle_ir, jit", "needle_step", "jit"),
    Contender("needle-eager", "needle_ir, no decorator", "needle_step", "eager"),
    Contender("torch-eager", "PyTorch eager", "torch_step", "eager", "torch"),
    Contender("torch-fused", "PyTorch eager, fused Adam", "torch_step", "fused", "torch"),
    Contender("torch-compile", "PyTorch torch.compile", "torch_step", "compile", "torch"),
    Contender("jax", "JAX jit", "jax_step", "threefry2x32", "jax"),
    Contender("jax-rbg", "JAX jit, unsafe_rbg", "jax_step", "unsafe_rbg", "jax"),
)
CONTENDERS = {contender.name: contender for contender in _ALL}

"""Modules made of modules: Sequential, Residual, Identity, Flatten."""

from collections.abc import Iterator
from math import prod
from typing import Any

from needle_ir.arguments import check_array
from needle_ir.ir import ShapeError
from needle_ir.nn.module import Module
from needle_ir.tensor import Tensor


class Identity(Module):
    """Returns its input."""

    def forward(self, x: Tensor) -> Tensor:
        """x itself."""
        return x


class Flatten(Module):
    """Makes (n, …) to (n, product of the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        """x of two axes. Raises ShapeError for a scalar, which has no batch axis."""
        check_array("Flatten", x)
        if not x.shape:
            raise ShapeError("Flatten keeps the batch axis, and a tensor of rank 0 has none")
        return x.reshape(x.shape[0], prod(x.shape[1:]))


class Sequential(Module):
    """Applies modules one after the other. They are in `modules`."""

    def __init__(self, *modules: Module):
        for module in modules:
            _check_module("Sequential", module)
        self.modules = modules

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """The modules by their position."""
        yield from ((str(i), module) for i, module in enumerate(self.modules))

    def forward(self, x: Any) -> Any:
        """The output of the last module."""
        for module in self.modules:
            x = module(x)
        return x


class Residual(Module):
    """Returns fn(x) + x."""

    def __init__(self, fn: Module):
        _check_module("Residual", fn)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """fn(x) + x."""
        result: Tensor = self.fn(x) + x
        return result


def _check_module(owner: str, module: Any) -> None:
    if isinstance(module, Module):
        return
    if isinstance(module, list | tuple):
        raise TypeError(f"{owner} takes modules one by one: write {owner}(*modules)")
    if isinstance(module, type) and issubclass(module, Module):
        raise TypeError(f"{owner} takes a module, not its class: write {module.__name__}(...)")
    raise TypeError(f"{owner} takes a Module, not {type(module).__name__}")

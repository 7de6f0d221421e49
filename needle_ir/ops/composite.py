"""Composites: bigger ops whose definition is their decomposition into smaller ones."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from needle_ir.ir import (
    Node,
    Op,
    OpError,
    TensorType,
    Trait,
    inherit_origin,
    input_node,
    register_op,
    topological,
)
from needle_ir.ops.build import apply_all


class Composite:
    """A function that is recorded as one node. Call it on tensors or on nodes."""

    def __init__(self, op: Op, function: Callable[..., Node]):
        self.op = op
        update_wrapper(self, function)

    def __call__(self, *operands: Any, **attrs: Any) -> Any:
        """The op applied to tensors, or to nodes: one node."""
        return apply_all(self.op, operands, attrs)


def composite(
    *, vjp: Callable[..., tuple[Node | None, ...]] | None = None, name: str | None = None
) -> Callable[[Callable[..., Node]], Composite]:
    """Make a function of nodes an op of its own.

    The positional arguments of the function are the op's operands, its keyword-only arguments the
    attributes. It is shown and recorded as one node; the lowering pass opens it. The type rule is
    the function itself, run on operands without data. `vjp(ct, out, *operands, **attrs)` replaces
    the derived derivative where one by hand is better. Random draws and other effects have their
    place in the program, so that they stand outside: pass what was drawn as an operand. Raises
    OpError, where it is recorded, for a composite that has one inside.

        @composite()
        def silu(x):
            return x / (1 + exp(-x))
    """

    def decorate(function: Callable[..., Node]) -> Composite:
        def infer(*types: TensorType, **attrs: Any) -> TensorType:
            with inherit_origin(None):
                result = function(*[input_node(t) for t in types], **attrs)
            _refuse_effects(result)
            return result.type

        op = Op(name=name or function.__name__, infer=infer, decompose=function, vjp=vjp)
        register_op(op, _definition(function))
        return Composite(op, function)

    return decorate


def _definition(function: Callable[..., Node]) -> str | None:
    """What is defined: the same twice where a module is run again. A function inside of another
    one may be a different one each time.
    """
    name: str = function.__qualname__
    return None if "<" in name else f"{function.__module__}.{name}"


def _refuse_effects(result: Node) -> None:
    for node in topological([result]):
        if node.op.has(Trait.EFFECT):
            raise OpError(
                f"it has {node.op.name} inside, whose place in the program would be lost; "
                "draw outside of the composite, and pass the draw as an operand"
            )

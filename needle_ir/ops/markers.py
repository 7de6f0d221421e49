"""Ops that speak to the autodiff pass only. It removes them all."""

from typing import Any

from needle_ir.ir import (
    NO_ATTRS,
    DTypeError,
    Node,
    Op,
    ShapeError,
    TensorType,
    Trait,
    capture_origin,
    is_floating,
)
from needle_ir.ops.build import apply

_MARKER = frozenset({Trait.MARKER})


def _grad_type(y: TensorType, x: TensorType, *ct: TensorType) -> TensorType:
    for name, operand in (("differentiated", y), ("differentiated by", x)):
        if not is_floating(operand.dtype):
            raise DTypeError(f"{operand.dtype} can not be {name}; cast it to a float dtype")
    if ct and ct[0].shape != y.shape:
        raise ShapeError(f"the cotangent has shape {ct[0].shape}, the output {y.shape}")
    if ct and ct[0].dtype != y.dtype:
        raise DTypeError(f"the cotangent is {ct[0].dtype}, the output {y.dtype}; cast it to that")
    return x


def _same_type(x: TensorType) -> TensorType:
    return x


def _known_type(x: TensorType, value: TensorType) -> TensorType:
    if x != value:
        raise ShapeError(f"the value is {value}, the expression {x}")
    return x


def _variable_vjp(ct: Node, out: Node, x: Node) -> tuple[Node | None]:
    return (ct,)


def _stop_gradient_vjp(ct: Node, out: Node, x: Node) -> tuple[Node | None]:
    return (None,)


def _known_vjp(ct: Node, out: Node, x: Node, value: Node) -> tuple[Node | None, Node | None]:
    return ct, None


GRAD = Op(name="grad", infer=_grad_type, traits=_MARKER)
VARIABLE = Op(name="variable", infer=_same_type, traits=_MARKER, vjp=_variable_vjp)
STOP_GRADIENT = Op(name="stop_gradient", infer=_same_type, traits=_MARKER, vjp=_stop_gradient_vjp)
KNOWN = Op(name="known", infer=_known_type, traits=_MARKER, vjp=_known_vjp)


def grad(y: Any, x: Any, ct: Any = None) -> Any:
    """A request: the derivative of sum(y * ct) by x, a tensor of x's type.

    `ct` is the cotangent of y, ones where None. `x` is a leaf or a `variable`.
    """
    return apply(GRAD, y, x) if ct is None else apply(GRAD, y, x, ct)


def variable(x: Any) -> Any:
    """x, as something to differentiate by: no rewrite looks through it before autodiff has."""
    return apply(VARIABLE, x)


def stop_gradient(x: Any) -> Any:
    """x, as a constant to every derivative."""
    return apply(STOP_GRADIENT, x)


def cut(x: Node) -> Node:
    """`stop_gradient` of a node at hand."""
    return Node(STOP_GRADIENT, (x,), NO_ATTRS, x.type, capture_origin())


def known(x: Any, value: Any) -> Any:
    """x, whose array is known to be `value`: derivatives follow x, the run reads `value`."""
    return apply(KNOWN, x, value)

"""Composites of optimizers: all gradients, a step of a moment or of a parameter."""

from needle_ir.ir import Node
from needle_ir.ops.composite import composite
from needle_ir.ops.elementwise import cast, sqrt
from needle_ir.ops.markers import grad
from needle_ir.ops.packing import pack


@composite()
def gradients(y: Node, *xs: Node) -> Node:
    """The derivatives of sum(y) by each of `xs`, which are of one dtype, packed: (n,)."""
    result: Node = pack(*[grad(y, x) for x in xs])
    return result


@composite()
def moving_average(average: Node, x: Node, *, beta: float) -> Node:
    """beta * average + (1 - beta) * x, in the dtype of `average`."""
    result: Node = cast(average * beta + x * (1.0 - beta), average.dtype)
    return result


@composite()
def moving_square_average(average: Node, x: Node, *, beta: float) -> Node:
    """beta * average + (1 - beta) * x**2, in the dtype of `average`."""
    result: Node = cast(average * beta + x * x * (1.0 - beta), average.dtype)
    return result


@composite()
def decayed_gradient(gradient: Node, parameter: Node, *, decay: float) -> Node:
    """gradient + decay * parameter: the gradient of an added penalty decay / 2 * parameter**2."""
    return gradient + decay * parameter


@composite()
def sgd_update(parameter: Node, direction: Node, lr: Node) -> Node:
    """parameter - lr * direction, in the dtype of the parameter."""
    result: Node = cast(parameter - lr * direction, parameter.dtype)
    return result


@composite()
def adam_update(
    parameter: Node,
    u: Node,
    v: Node,
    lr: Node,
    t: Node,
    *,
    beta1: float,
    beta2: float,
    eps: float,
) -> Node:
    """One step of Adam (Kingma and Ba 2015, algorithm 1) from its updated moments u and v.

    The correction of v is taken out of the root, as at the end of section 2 there: a division less
    for each element. `t` is the number of steps with this one, float64: 1 - 0.999 would lose four
    of float32's seven digits. The result has the dtype of the parameter.
    """
    scale = sqrt(1 - beta2**t)
    rate = lr * cast(scale / (1 - beta1**t), u.dtype)
    step: Node = rate * u / (sqrt(v) + cast(eps * scale, v.dtype))
    result: Node = cast(parameter - step, parameter.dtype)
    return result

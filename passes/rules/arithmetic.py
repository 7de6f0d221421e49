"""Rules about sums, products and quotients of floats."""

from math import frexp, isfinite

import numpy as np

from needle_ir.ir import DType, Node, constant_node, is_floating
from needle_ir.ops import as_constant, broadcast_to, negative, sqrt
from needle_ir.passes.pattern import floating, scalar_constant, scalar_value
from needle_ir.passes.rule import Rule


def filled(x: Node, value: float, dtype: DType | None = None) -> Node:
    """`value` in the shape of x, and in its dtype or another one."""
    result: Node = broadcast_to(as_constant(value, dtype or x.dtype), x.shape)
    return result


def negated(c: Node) -> Node:
    """The constant -c."""
    return constant_node(np.negative(c.attrs["value"]))


def product(a: Node, b: Node) -> Node:
    """The constant a * b, of two constants with one element."""
    with np.errstate(all="ignore"):
        return constant_node(np.multiply(a.attrs["value"], b.attrs["value"]))


def total(a: Node, b: Node) -> Node:
    """The constant a + b, of two constants with one element."""
    with np.errstate(all="ignore"):
        return constant_node(np.add(a.attrs["value"], b.attrs["value"]))


def _is_power_of_two(number: float) -> bool:
    return isfinite(number) and abs(frexp(number)[0]) == 0.5


def _has_exact_reciprocal(c: Node) -> bool:
    """Whether 1 / c is a number of c's dtype: then dividing by c is multiplying by it."""
    value = scalar_value(c)
    if not is_floating(c.dtype) or not _is_power_of_two(value):
        return False
    with np.errstate(all="ignore"):
        reciprocal = c.dtype.type(1) / c.dtype.type(value)
    return bool(np.isfinite(reciprocal)) and float(reciprocal) == 1 / value


def _reciprocal(c: Node) -> Node:
    value = c.attrs["value"]
    with np.errstate(all="ignore"):
        return constant_node(np.divide(value.dtype.type(1), value))


def _both_scale_up(a: Node, b: Node) -> bool:
    """Whether multiplying by a and then by b rounds nothing: an overflow is one either way."""
    values = (scalar_value(a), scalar_value(b))
    if not all(_is_power_of_two(value) and abs(value) >= 1 for value in values):
        return False
    return bool(np.isfinite(product(a, b).attrs["value"]).all())


EXACT = (
    Rule("double-negative", lambda x: -negative(x), lambda x: x),
    Rule("times-one", lambda x: x * 1, lambda x: x),
    Rule("times-minus-one", lambda x: x * -1, lambda x: -x),
    Rule("divide-by-one", lambda x: x / 1, lambda x: x),
    Rule("divide-by-minus-one", lambda x: x / -1, lambda x: -x),
    Rule("minus-zero", lambda x: x - 0, lambda x: x),
    Rule("plus-negative-zero", lambda x: x + -0.0, lambda x: x),
    Rule("negative-zero-minus", lambda x: -0.0 - x, lambda x: -x),
    Rule("add-negative", lambda x, y: x + -y, lambda x, y: x - y),
    Rule("subtract-negative", lambda x, y: x - -y, lambda x, y: x + y),
    Rule("negative-times-negative", lambda x, y: -x * -y, lambda x, y: x * y),
    Rule("negative-by-negative", lambda x, y: -x / -y, lambda x, y: x / y),
    Rule(
        "negative-times-constant",
        lambda x, c=scalar_constant: -x * c,
        lambda x, c: x * negated(c),
    ),
    Rule(
        "negative-by-constant",
        lambda x, c=scalar_constant: -x / c,
        lambda x, c: x / negated(c),
    ),
    Rule(
        "constant-by-negative",
        lambda x, c=scalar_constant: c / -x,
        lambda x, c: negated(c) / x,
    ),
    # Where the product is read elsewhere too, there would be two products for a negative.
    Rule(
        "negative-of-scaled",
        lambda x, c=scalar_constant: -(x * c),
        lambda x, c: x * negated(c),
        single_use=True,
    ),
    Rule(
        "divide-by-power-of-two",
        lambda x, c=scalar_constant: x / c,
        lambda x, c: x * _reciprocal(c),
        lambda c: _has_exact_reciprocal(c),
    ),
    Rule(
        "scale-up-twice",
        lambda x=floating, a=scalar_constant, b=scalar_constant: x * a * b,
        lambda x, a, b: x * product(a, b),
        lambda a, b: _both_scale_up(a, b),
    ),
)

FAST_MATH = (
    Rule("plus-zero", lambda x=floating: x + 0, lambda x: x),
    Rule("times-zero", lambda x=floating: x * 0, lambda x: filled(x, 0)),
    Rule("zero-minus", lambda x=floating: 0 - x, lambda x: -x),
    Rule("minus-itself", lambda x=floating: x - x, lambda x: filled(x, 0)),
    Rule("divide-by-itself", lambda x: x / x, lambda x: filled(x, 1)),
    Rule(
        "negative-of-difference",
        lambda y, x=floating: -(x - y),
        lambda x, y: y - x,
        single_use=True,
    ),
    Rule("add-then-subtract", lambda x=floating, y=floating: (x + y) - y, lambda x: x),
    Rule("subtract-then-add", lambda x=floating, y=floating: (x - y) + y, lambda x: x),
    Rule("multiply-then-divide", lambda x, y: (x * y) / y, lambda x: x),
    Rule("divide-then-multiply", lambda x, y: (x / y) * y, lambda x: x),
    Rule(
        "divide-by-constant",
        lambda x, c=scalar_constant: x / c,
        lambda x, c: x * _reciprocal(c),
        lambda c: scalar_value(c) != 0,
    ),
    Rule(
        "scale-twice",
        lambda x=floating, a=scalar_constant, b=scalar_constant: x * a * b,
        lambda x, a, b: x * product(a, b),
    ),
    Rule(
        "shift-twice",
        lambda x=floating, a=scalar_constant, b=scalar_constant: x + a + b,
        lambda x, a, b: x + total(a, b),
    ),
    Rule("divide-twice", lambda x, y, z: x / y / z, lambda x, y, z: x / (y * z), single_use=True),
    Rule(
        "divide-by-quotient",
        lambda x, y, z: x / (y / z),
        lambda x, y, z: x * z / y,
        single_use=True,
    ),
    Rule(
        "factor",
        lambda x=floating, y=floating, z=floating: x * y + x * z,
        lambda x, y, z: x * (y + z),
        single_use=True,
    ),
    Rule("root-of-square", lambda x: sqrt(x * x), lambda x: abs(x)),
    Rule("square-of-root", lambda x: sqrt(x) * sqrt(x), lambda x: x),
)

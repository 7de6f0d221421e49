"""Rules about comparisons, negations and `where`."""

import numpy as np

from needle_ir.ir import CONSTANT, Node, constant_node
from needle_ir.ops import (
    broadcast_to,
    cast,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_not,
    not_equal,
    where,
)
from needle_ir.ops.elementwise import BOOL
from needle_ir.ops.shape import broadcast_shapes
from needle_ir.passes.pattern import boolean, floating, scalar_constant, scalar_value
from needle_ir.passes.rule import Rule
from needle_ir.passes.rules.arithmetic import filled


def _spread(x: Node, *others: Node) -> Node:
    """x in the shape that it has with `others` beside it."""
    result: Node = broadcast_to(x, broadcast_shapes(x.shape, *[other.shape for other in others]))
    return result


def _false(x: Node) -> Node:
    return filled(x, False, BOOL)


def _true(x: Node) -> Node:
    return filled(x, True, BOOL)


def _selects(one: Node, other: Node, values: tuple[object, object]) -> bool:
    """Whether the branches are these two numbers; a zero is the positive one."""
    return all(
        scalar_value(x) == value and not np.signbit(float(scalar_value(x)))
        for x, value in zip((one, other), values, strict=True)
    )


def _times(c: Node, number: int) -> Node:
    value = c.attrs["value"]
    with np.errstate(all="ignore"):
        return constant_node(np.multiply(value, value.dtype.type(number)))


def _number_by(c: Node, number: int) -> Node:
    value = c.attrs["value"]
    with np.errstate(all="ignore"):
        return constant_node(np.divide(value.dtype.type(number), value))


def _is_zero(x: Node) -> bool:
    return x.op is CONSTANT and not any(x.attrs["value"].tobytes())


EXACT = (
    Rule(
        "where-constant",
        lambda a, b, c=scalar_constant: where(c, a, b),
        lambda a, b, c: _spread(a, b, c) if scalar_value(c) else _spread(b, a, c),
    ),
    Rule("where-same", lambda c, x: where(c, x, x), lambda c, x: _spread(x, c)),
    # The kernel of where is faster with a zero at the end.
    Rule(
        "where-not",
        lambda a, b, c=boolean: where(logical_not(c), a, b),
        lambda a, b, c: where(c, b, a),
        lambda b: not _is_zero(b),
    ),
    Rule(
        "where-where-true",
        lambda c, x, y, z: where(c, where(c, x, y), z),
        lambda c, x, z: where(c, x, z),
    ),
    Rule(
        "where-where-false",
        lambda c, x, y, z: where(c, x, where(c, y, z)),
        lambda c, x, z: where(c, x, z),
    ),
    Rule(
        "where-one-zero",
        lambda c, x=scalar_constant, y=scalar_constant: where(c, x, y),
        lambda c, x: cast(c, x.dtype),
        lambda x, y: _selects(x, y, (1, 0)),
    ),
    Rule(
        "where-false-true",
        lambda c, x=boolean & scalar_constant, y=scalar_constant: where(c, x, y),
        lambda c: logical_not(c),
        lambda x, y: _selects(x, y, (0, 1)),
    ),
    Rule(
        "flag-times-constant",
        lambda d, x=boolean, c=scalar_constant: cast(x, d) * c,
        lambda x, c: where(x, c, _times(c, 0)),
    ),
    Rule(
        "flag-by-constant",
        lambda d, x=boolean, c=scalar_constant: cast(x, d) / c,
        lambda x, c: where(x, _number_by(c, 1), _number_by(c, 0)),
    ),
    Rule("not-not", lambda x: logical_not(logical_not(x)), lambda x: cast(x, bool)),
    Rule("not-equal", lambda x, y: logical_not(equal(x, y)), lambda x, y: not_equal(x, y)),
    Rule("not-not-equal", lambda x, y: logical_not(not_equal(x, y)), lambda x, y: equal(x, y)),
    # Of a NaN neither is true, less nor greater or equal.
    Rule(
        "integer-not-less",
        lambda y, x=~floating: logical_not(less(x, y)),
        lambda x, y: greater_equal(x, y),
    ),
    Rule(
        "integer-not-less-equal",
        lambda y, x=~floating: logical_not(less_equal(x, y)),
        lambda x, y: greater(x, y),
    ),
    Rule(
        "integer-not-greater",
        lambda y, x=~floating: logical_not(greater(x, y)),
        lambda x, y: less_equal(x, y),
    ),
    Rule(
        "integer-not-greater-equal",
        lambda y, x=~floating: logical_not(greater_equal(x, y)),
        lambda x, y: less(x, y),
    ),
    Rule("less-itself", lambda x: less(x, x), lambda x: _false(x)),
    Rule("greater-itself", lambda x: greater(x, x), lambda x: _false(x)),
    Rule("integer-equal-itself", lambda x=~floating: equal(x, x), lambda x: _true(x)),
    Rule("integer-not-equal-itself", lambda x=~floating: not_equal(x, x), lambda x: _false(x)),
    Rule("integer-less-equal-itself", lambda x=~floating: less_equal(x, x), lambda x: _true(x)),
    Rule(
        "integer-greater-equal-itself",
        lambda x=~floating: greater_equal(x, x),
        lambda x: _true(x),
    ),
    Rule("equal-true", lambda x=boolean: equal(x, True), lambda x: x),
    Rule("equal-false", lambda x=boolean: equal(x, False), lambda x: logical_not(x)),
    Rule("not-equal-true", lambda x=boolean: not_equal(x, True), lambda x: logical_not(x)),
    Rule("not-equal-false", lambda x=boolean: not_equal(x, False), lambda x: x),
)

FAST_MATH = (
    Rule(
        "not-less",
        lambda y, x=floating: logical_not(less(x, y)),
        lambda x, y: greater_equal(x, y),
    ),
    Rule(
        "not-less-equal",
        lambda y, x=floating: logical_not(less_equal(x, y)),
        lambda x, y: greater(x, y),
    ),
    Rule(
        "not-greater",
        lambda y, x=floating: logical_not(greater(x, y)),
        lambda x, y: less_equal(x, y),
    ),
    Rule(
        "not-greater-equal",
        lambda y, x=floating: logical_not(greater_equal(x, y)),
        lambda x, y: less(x, y),
    ),
)

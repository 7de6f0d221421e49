"""Cases of the rules about comparisons, negations and `where`."""

import numpy as np

from needle_ir import ops
from tests.passes.rules.case import (
    Case,
    Kept,
    nested,
)

EXACT = [
    Case("where-constant", "fib", lambda x, y: ops.where(ops.as_constant(True), x, y), "return %x"),
    Case(
        "where-constant", "fib", lambda x, y: ops.where(ops.as_constant([False]), x, y), "return %y"
    ),
    Case("where-same", "fib", lambda x, y: ops.where(x > y, x, x), "return %x"),
    Case(
        "where-not",
        "fib",
        lambda x, y: ops.where(ops.logical_not(ops.cast(x, bool)), x, y),
        "%0 = cast(%x) {dtype=bool} : bool[2,3]; %1 = where(%0, %y, %x) : f32[2,3]; return %1",
    ),
    Case(
        "where-where-true",
        "fib",
        lambda x, y: nested(x > y, x, y)[0],
        "%0 = greater(%x, %y) : bool[2,3]; %1 = where(%0, %x, %y) : f32[2,3]; return %1",
    ),
    Case(
        "where-where-false",
        "fib",
        lambda x, y: nested(x > y, x, y)[1],
        "%0 = greater(%x, %y) : bool[2,3]; %1 = where(%0, %x, %y) : f32[2,3]; return %1",
    ),
    Case(
        "where-one-zero",
        "fi",
        lambda x, y: ops.where(x > y, ops.as_constant(1, x.dtype), 0),
        "%0 = greater(%x, %y) : bool[2,3]; %1 = cast(%0) {dtype=f32} : f32[2,3]; return %1",
    ),
    Case(
        "where-false-true",
        "fib",
        lambda x, y: ops.where(x > y, ops.as_constant(False), True),
        "%0 = greater(%x, %y) : bool[2,3]; %1 = logical_not(%0) : bool[2,3]; return %1",
    ),
    Case(
        "flag-times-constant",
        "fi",
        lambda x, y: ops.cast(x > y, x.dtype) * 3,
        "%0 = greater(%x, %y) : bool[2,3]; "
        "%1 = constant {value=3.0} : f32[]; "
        "%2 = constant {value=0.0} : f32[]; "
        "%3 = where(%0, %1, %2) : f32[2,3]; "
        "return %3",
    ),
    Case(
        "flag-times-constant",
        "f",
        lambda x, y: ops.cast(x > y, x.dtype) * -np.inf,
        "%0 = greater(%x, %y) : bool[2,3]; "
        "%1 = constant {value=-inf} : f32[]; "
        "%2 = constant {value=nan} : f32[]; "
        "%3 = where(%0, %1, %2) : f32[2,3]; "
        "return %3",
    ),
    Case(
        "flag-by-constant",
        "f",
        lambda x, y: ops.cast(x > y, x.dtype) / 0.9,
        "%0 = greater(%x, %y) : bool[2,3]; "
        "%1 = constant {value=1.1111112} : f32[]; "
        "%2 = constant {value=0.0} : f32[]; "
        "%3 = where(%0, %1, %2) : f32[2,3]; "
        "return %3",
    ),
    Case(
        "flag-by-constant",
        "f",
        lambda x, y: ops.cast(x > y, x.dtype) / 0.0,
        "%0 = greater(%x, %y) : bool[2,3]; "
        "%1 = constant {value=inf} : f32[]; "
        "%2 = constant {value=nan} : f32[]; "
        "%3 = where(%0, %1, %2) : f32[2,3]; "
        "return %3",
    ),
    Case(
        "not-not",
        "fib",
        lambda x, y: ops.logical_not(ops.logical_not(x)),
        "%0 = cast(%x) {dtype=bool} : bool[2,3]; return %0",
    ),
    Case(
        "not-equal",
        "fib",
        lambda x, y: ops.logical_not(ops.equal(x, y)),
        "%0 = not_equal(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "not-not-equal",
        "fib",
        lambda x, y: ops.logical_not(ops.not_equal(x, y)),
        "%0 = equal(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "integer-not-less",
        "ib",
        lambda x, y: ops.logical_not(x < y),
        "%0 = greater_equal(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "integer-not-less-equal",
        "ib",
        lambda x, y: ops.logical_not(x <= y),
        "%0 = greater(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "integer-not-greater",
        "ib",
        lambda x, y: ops.logical_not(x > y),
        "%0 = less_equal(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "integer-not-greater-equal",
        "ib",
        lambda x, y: ops.logical_not(x >= y),
        "%0 = less(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "less-itself",
        "fib",
        lambda x, y: x < x,
        "%0 = constant {value=false} : bool[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : bool[2,3]; "
        "return %1",
    ),
    Case(
        "greater-itself",
        "fib",
        lambda x, y: x > x,
        "%0 = constant {value=false} : bool[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : bool[2,3]; "
        "return %1",
    ),
    Case(
        "integer-equal-itself",
        "ib",
        lambda x, y: ops.equal(x, x),
        "%0 = constant {value=true} : bool[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : bool[2,3]; "
        "return %1",
    ),
    Case(
        "integer-not-equal-itself",
        "ib",
        lambda x, y: ops.not_equal(x, x),
        "%0 = constant {value=false} : bool[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : bool[2,3]; "
        "return %1",
    ),
    Case(
        "integer-less-equal-itself",
        "ib",
        lambda x, y: x <= x,
        "%0 = constant {value=true} : bool[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : bool[2,3]; "
        "return %1",
    ),
    Case(
        "integer-greater-equal-itself",
        "ib",
        lambda x, y: x >= x,
        "%0 = constant {value=true} : bool[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : bool[2,3]; "
        "return %1",
    ),
    Case("equal-true", "b", lambda x, y: ops.equal(x, True), "return %x"),
    Case(
        "equal-false",
        "b",
        lambda x, y: ops.equal(False, x),
        "%0 = logical_not(%x) : bool[2,3]; return %0",
    ),
    Case(
        "not-equal-true",
        "b",
        lambda x, y: ops.not_equal(x, True),
        "%0 = logical_not(%x) : bool[2,3]; return %0",
    ),
    Case("not-equal-false", "b", lambda x, y: ops.not_equal(x, False), "return %x"),
]

FAST_MATH = [
    Case(
        "not-less",
        "f",
        lambda x, y: ops.logical_not(x < y),
        "%0 = greater_equal(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "not-less-equal",
        "f",
        lambda x, y: ops.logical_not(x <= y),
        "%0 = greater(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "not-greater",
        "f",
        lambda x, y: ops.logical_not(x > y),
        "%0 = less_equal(%x, %y) : bool[2,3]; return %0",
    ),
    Case(
        "not-greater-equal",
        "f",
        lambda x, y: ops.logical_not(x >= y),
        "%0 = less(%x, %y) : bool[2,3]; return %0",
    ),
]

KEPT = [
    Kept(
        "where-constant",
        "a condition with elements",
        "fib",
        lambda x, y: ops.where(np.array([True, False, True]), x, y),
    ),
    Kept("where-same", "two branches", "fib", lambda x, y: ops.where(x > y, x, y)),
    Kept(
        "where-not",
        "a zero at the end",
        "fi",
        lambda x, y: ops.where(ops.logical_not(ops.cast(x, bool)), y, 0),
    ),
    Kept(
        "where-not",
        "the negation of a number",
        "fi",
        lambda x, y: ops.where(ops.logical_not(x), x, y),
    ),
    Kept(
        "where-where-true",
        "another condition",
        "fib",
        lambda x, y: ops.where(x > y, ops.where(x < y, x, y), y),
    ),
    Kept("where-where-true", "the other branch", "fib", lambda x, y: nested(x > y, x, y)[1]),
    Kept(
        "where-where-false",
        "another condition",
        "fib",
        lambda x, y: ops.where(x > y, x, ops.where(x < y, x, y)),
    ),
    Kept("where-where-false", "the other branch", "fib", lambda x, y: nested(x > y, x, y)[0]),
    Kept(
        "where-one-zero",
        "the other zero",
        "f",
        lambda x, y: ops.where(x > y, ops.as_constant(1, x.dtype), -0.0),
    ),
    Kept(
        "where-one-zero",
        "a condition that repeats",
        "f",
        lambda x, y: ops.where(ops.max(x) > ops.max(y), np.ones((1, 1)), 0),
    ),
    Kept(
        "where-false-true",
        "true and false",
        "fib",
        lambda x, y: ops.where(x > y, ops.as_constant(True), False),
    ),
    Kept("where-false-true", "numbers", "fi", lambda x, y: ops.where(x > y, ops.as_constant(0), 1)),
    Kept("flag-times-constant", "no constant", "fi", lambda x, y: ops.cast(x > y, x.dtype) * y),
    Kept(
        "flag-times-constant",
        "the cast of a number",
        "f",
        lambda x, y: ops.cast(ops.cast(x, np.float16), x.dtype) * 3,
    ),
    Kept("flag-by-constant", "no constant", "f", lambda x, y: ops.cast(x > y, x.dtype) / y),
    Kept("flag-by-constant", "the other operand", "f", lambda x, y: 3 / ops.cast(x > y, x.dtype)),
    Kept("not-not", "one", "fib", lambda x, y: ops.logical_not(x)),
    Kept("not-equal", "less", "fib", lambda x, y: ops.logical_not(x < y)),
    Kept("not-not-equal", "equal", "fib", lambda x, y: ops.logical_not(ops.equal(x, y))),
    Kept("integer-not-less", "floats", "f", lambda x, y: ops.logical_not(x < y)),
    Kept("integer-not-less-equal", "floats", "f", lambda x, y: ops.logical_not(x <= y)),
    Kept("integer-not-greater", "floats", "f", lambda x, y: ops.logical_not(x > y)),
    Kept("integer-not-greater-equal", "floats", "f", lambda x, y: ops.logical_not(x >= y)),
    Kept("less-itself", "another node", "fib", lambda x, y: x < y),
    Kept("greater-itself", "another node", "fib", lambda x, y: x > y),
    Kept("integer-equal-itself", "floats", "f", lambda x, y: ops.equal(x, x)),
    Kept("integer-not-equal-itself", "floats", "f", lambda x, y: ops.not_equal(x, x)),
    Kept("integer-less-equal-itself", "floats", "f", lambda x, y: x <= x),
    Kept("integer-greater-equal-itself", "floats", "f", lambda x, y: x >= x),
    Kept("equal-true", "numbers", "i", lambda x, y: ops.equal(x, 1)),
    Kept("equal-true", "false", "b", lambda x, y: ops.equal(x, False)),
    Kept("equal-false", "numbers", "fi", lambda x, y: ops.equal(x, 0)),
    Kept("not-equal-true", "false", "b", lambda x, y: ops.not_equal(x, False)),
    Kept("not-equal-false", "numbers", "fi", lambda x, y: ops.not_equal(x, 0)),
    Kept("not-less", "another comparison", "f", lambda x, y: ops.logical_not(x <= y)),
    Kept("not-less-equal", "another comparison", "f", lambda x, y: ops.logical_not(x < y)),
    Kept("not-greater", "another comparison", "f", lambda x, y: ops.logical_not(x >= y)),
    Kept("not-greater-equal", "another comparison", "f", lambda x, y: ops.logical_not(x > y)),
]

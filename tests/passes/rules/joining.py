"""Cases of the rules about concatenate, and slices of it."""

from needle_ir import ops
from tests.passes.rules.case import Case, Kept, half, other_half

EXACT = [
    Case("concatenate-one", "fib", lambda x, y: ops.concatenate([x], 1), "return %x"),
    Case(
        "concatenate-empty",
        "fib",
        lambda x, y: ops.concatenate([x, ops.slice(y, (0, 0), (x.shape[0], 0)), y], 1),
        "%0 = concatenate(%x, %y) {axis=1} : f32[2,6]; return %0",
    ),
    Case(
        "concatenate-concatenate",
        "fib",
        lambda x, y: ops.concatenate([x, ops.concatenate([y, x], 1), y], 1),
        "%0 = concatenate(%x, %y, %x, %y) {axis=1} : f32[2,12]; return %0",
    ),
    Case(
        "concatenate-slices",
        "fib",
        lambda x, y: ops.concatenate([half(x), other_half(x), y], 0),
        "%0 = concatenate(%x, %y) {axis=0} : f32[4,3]; return %0",
    ),
    Case(
        "slice-concatenate", "fib", lambda x, y: other_half(ops.concatenate([x, y], 0)), "return %y"
    ),
]

FAST_MATH: list[Case] = []

KEPT = [
    Kept("concatenate-one", "two", "fib", lambda x, y: ops.concatenate([x, y], 1)),
    Kept(
        "concatenate-empty",
        "all are empty",
        "fib",
        lambda x, y: ops.concatenate(
            [ops.slice(x, (0, 0), (0, 3)), ops.slice(y, (0, 0), (0, 3))], 0
        ),
    ),
    Kept(
        "concatenate-empty",
        "empty along another axis",
        "fib",
        lambda x, y: ops.concatenate(
            [ops.slice(x, (0, 0), (0, 3)), ops.slice(y, (0, 0), (0, 3))], 1
        ),
    ),
    Kept(
        "concatenate-concatenate",
        "another axis",
        "fib",
        lambda x, y: ops.concatenate([ops.concatenate([x, y], 1), ops.concatenate([y, x], 1)], 0),
    ),
    Kept(
        "concatenate-slices",
        "of two arrays",
        "fib",
        lambda x, y: ops.concatenate([half(x), other_half(y)], 0),
    ),
    Kept(
        "concatenate-slices",
        "another order",
        "fib",
        lambda x, y: ops.concatenate([other_half(x), half(x)], 0),
    ),
    Kept(
        "concatenate-slices",
        "another axis",
        "fib",
        lambda x, y: ops.concatenate([half(x), other_half(x)], 1),
    ),
    Kept(
        "slice-concatenate",
        "in two parts",
        "fib",
        lambda x, y: ops.slice(ops.concatenate([x, y], 0), (1, 0), x.shape),
    ),
]

"""Cases of the rules about conversions between dtypes."""

import numpy as np

from needle_ir import ops
from tests.passes.rules.case import (
    Case,
    Kept,
)

EXACT = [
    Case("cast-nothing", "fib", lambda x, y: ops.cast(x, x.dtype), "return %x"),
    Case(
        "cast-cast",
        "f",
        lambda x, y: ops.cast(ops.cast(x, np.float64), np.float16),
        "%0 = cast(%x) {dtype=f16} : f16[2,3]; return %0",
    ),
    Case(
        "cast-cast",
        "b",
        lambda x, y: ops.cast(ops.cast(x, np.float16), np.int64),
        "%0 = cast(%x) {dtype=i64} : i64[2,3]; return %0",
    ),
]

FAST_MATH: list[Case] = []

KEPT = [
    Kept("cast-nothing", "another dtype", "fi", lambda x, y: ops.cast(x, np.float64)),
    Kept(
        "cast-cast",
        "a narrower dtype between",
        "f",
        lambda x, y: ops.cast(ops.cast(x, np.float16), x.dtype),
    ),
    Kept(
        "cast-cast", "integers between", "f", lambda x, y: ops.cast(ops.cast(x, np.int64), x.dtype)
    ),
    Kept(
        "cast-cast",
        "not every int64 is a float64",
        "i",
        lambda x, y: ops.cast(ops.cast(ops.sum(x, 0), np.float64), np.int64),
    ),
    Kept(
        "cast-cast",
        "an integer of a float out of range",
        "f",
        lambda x, y: ops.cast(ops.cast(x, np.float64), np.int8),
    ),
    Kept(
        "cast-cast",
        "the float16 of an integer",
        "i",
        lambda x, y: ops.cast(ops.cast(x, np.float64), np.float16),
    ),
]

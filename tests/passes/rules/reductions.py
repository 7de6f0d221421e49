"""Cases of the rules about sums, largest and smallest elements."""

import numpy as np

from needle_ir import ops
from tests.passes.rules.case import (
    Case,
    Kept,
    also,
    batch,
    blocks,
    stacked,
)

EXACT = [
    Case(
        "reshape-reduction",
        "f",
        lambda x, y: ops.reshape(ops.sum(x, 0), (1, -1)),
        "%0 = sum(%x) {axes=[0], keepdims=true} : f32[1,3]; return %0",
    ),
    Case(
        "reshape-reduction",
        "f",
        lambda x, y: ops.reshape(ops.sum(x, 1, True), (-1,)),
        "%0 = sum(%x) {axes=[1], keepdims=false} : f32[2]; return %0",
    ),
    Case(
        "extremum-of-ones",
        "fib",
        lambda x, y: ops.max(ops.reshape(x, (1, *x.shape, 1)), (0, 3)),
        "return %x",
    ),
    Case("extremum-of-ones", "fib", lambda x, y: ops.min(x, ()), "return %x"),
    Case(
        "extremum-of-broadcast",
        "fib",
        lambda x, y: ops.max(stacked(x), 0, True),
        "%0 = reshape(%x) {shape=[1, 2, 3]} : f32[1,2,3]; return %0",
    ),
    Case("extremum-of-broadcast", "fib", lambda x, y: ops.min(stacked(x), 0), "return %x"),
    Case(
        "integer-sum-of-ones",
        "i",
        lambda x, y: ops.sum(ops.reshape(ops.cast(x, np.int64), (*x.shape, 1)), 2),
        "%0 = cast(%x) {dtype=i64} : i64[2,3]; return %0",
    ),
    Case(
        "integer-sum-of-broadcast",
        "i",
        lambda x, y: ops.sum(stacked(x), (0, 1)),
        "%0 = sum(%x) {axes=[0], keepdims=false} : i64[3]; "
        "%1 = constant {value=4} : i64[]; "
        "%2 = multiply(%0, %1) : i64[3]; "
        "return %2",
    ),
    Case(
        "integer-sum-of-broadcast",
        "b",
        lambda x, y: ops.sum(stacked(x), (0, 2), True),
        "%0 = sum(%x) {axes=[1], keepdims=true} : i64[2,1]; "
        "%1 = constant {value=4} : i64[]; "
        "%2 = multiply(%0, %1) : i64[2,1]; "
        "%3 = reshape(%2) {shape=[1, 2, 1]} : i64[1,2,1]; "
        "return %3",
    ),
    Case(
        "integer-sum-sum",
        "ib",
        lambda x, y: ops.sum(ops.sum(x, 1), 0),
        "%0 = sum(%x) {axes=[0, 1], keepdims=false} : i64[]; return %0",
    ),
    Case(
        "integer-sum-sum",
        "ib",
        lambda x, y: ops.sum(ops.sum(x, 0, True), 1, True),
        "%0 = sum(%x) {axes=[0, 1], keepdims=true} : i64[1,1]; return %0",
    ),
    Case(
        "integer-max-max",
        "ib",
        lambda x, y: ops.max(ops.max(x, 0), 0, True),
        "%0 = max(%x) {axes=[0, 1], keepdims=false} : i32[]; "
        "%1 = reshape(%0) {shape=[1]} : i32[1]; "
        "return %1",
    ),
    Case(
        "integer-min-min",
        "ib",
        lambda x, y: ops.min(ops.min(x, 1, True), 0),
        "%0 = min(%x) {axes=[0, 1], keepdims=false} : i32[]; "
        "%1 = reshape(%0) {shape=[1]} : i32[1]; "
        "return %1",
    ),
]

FAST_MATH = [
    Case("sum-of-ones", "f", lambda x, y: ops.sum(x, ()), "return %x"),
    Case("logsumexp-of-ones", "f", lambda x, y: ops.logsumexp(x, ()), "return %x"),
    Case(
        "sum-of-broadcast",
        "f",
        lambda x, y: ops.sum(stacked(x, 6), 0),
        "%0 = constant {value=6.0} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "sum-sum",
        "f",
        lambda x, y: ops.sum(ops.sum(x, 0), 0),
        "%0 = sum(%x) {axes=[0, 1], keepdims=false} : f32[]; return %0",
    ),
    Case(
        "max-max",
        "f",
        lambda x, y: ops.max(ops.max(x, 0), 0),
        "%0 = max(%x) {axes=[0, 1], keepdims=false} : f32[]; return %0",
    ),
    Case(
        "min-min",
        "f",
        lambda x, y: ops.min(ops.min(x, 0), 0),
        "%0 = min(%x) {axes=[0, 1], keepdims=false} : f32[]; return %0",
    ),
    Case(
        "sum-of-negative",
        "f",
        lambda x, y: ops.sum(-x, 0),
        "%0 = sum(%x) {axes=[0], keepdims=false} : f32[3]; %1 = negative(%0) : f32[3]; return %1",
    ),
    Case(
        "sum-of-scaled",
        "f",
        lambda x, y: ops.sum(x * 0.1, 0),
        "%0 = sum(%x) {axes=[0], keepdims=false} : f32[3]; "
        "%1 = constant {value=0.1} : f32[]; "
        "%2 = multiply(%0, %1) : f32[3]; "
        "return %2",
    ),
]

KEPT = [
    Kept(
        "reshape-reduction",
        "use outside of the pattern",
        "f",
        lambda x, y: also(ops.sum(x, 0), batch),
    ),
    Kept("reshape-reduction", "other axes", "f", lambda x, y: blocks(ops.sum(x, 0))),
    Kept(
        "extremum-of-ones", "an axis with elements", "fib", lambda x, y: ops.max(batch(x), (0, 1))
    ),
    Kept("extremum-of-ones", "a sum", "f", lambda x, y: ops.sum(batch(x), 0)),
    Kept("extremum-of-broadcast", "other axes", "fib", lambda x, y: ops.max(stacked(x), 1)),
    Kept(
        "extremum-of-broadcast",
        "an axis with elements too",
        "fib",
        lambda x, y: ops.max(stacked(x), (0, 1)),
    ),
    Kept("integer-sum-of-ones", "floats", "f", lambda x, y: ops.sum(x, ())),
    Kept(
        "integer-sum-of-ones",
        "the sum of an int32 is an int64",
        "i",
        lambda x, y: ops.sum(batch(x), 0),
    ),
    Kept("integer-sum-of-broadcast", "floats", "f", lambda x, y: ops.sum(stacked(x), 0)),
    Kept("integer-sum-of-broadcast", "other axes", "i", lambda x, y: ops.sum(stacked(x), 1)),
    Kept("integer-sum-sum", "floats", "f", lambda x, y: ops.sum(ops.sum(x, 0), 0)),
    Kept(
        "integer-sum-sum",
        "use outside of the pattern",
        "i",
        lambda x, y: also(ops.sum(x, 0), ops.sum),
    ),
    Kept("integer-max-max", "floats", "f", lambda x, y: ops.max(ops.max(x, 0), 0)),
    Kept(
        "integer-max-max",
        "the smallest of the largest",
        "i",
        lambda x, y: ops.min(ops.max(x, 0), 0),
    ),
    Kept("integer-min-min", "floats", "f", lambda x, y: ops.min(ops.min(x, 0), 0)),
    Kept("sum-of-ones", "an axis with elements", "f", lambda x, y: ops.sum(batch(x), (0, 1))),
    Kept("logsumexp-of-ones", "an axis with elements", "f", lambda x, y: ops.logsumexp(x, 0)),
    Kept("sum-of-broadcast", "other axes", "f", lambda x, y: ops.sum(stacked(x), 1)),
    Kept("sum-sum", "use outside of the pattern", "f", lambda x, y: also(ops.sum(x, 0), ops.sum)),
    Kept("max-max", "use outside of the pattern", "f", lambda x, y: also(ops.max(x, 0), ops.max)),
    Kept("min-min", "use outside of the pattern", "f", lambda x, y: also(ops.min(x, 0), ops.min)),
    Kept("sum-of-negative", "use outside of the pattern", "f", lambda x, y: also(-x, ops.sum)),
    Kept("sum-of-scaled", "use outside of the pattern", "f", lambda x, y: also(x * 0.1, ops.sum)),
    Kept("sum-of-scaled", "no constant", "f", lambda x, y: ops.sum(x * y, 0)),
]

"""Cases of the rules about views."""

import numpy as np

from needle_ir import ops
from tests.passes.rules.case import (
    Case,
    Kept,
    batch,
    blocks,
    half,
    other_half,
    reverse,
    stacked,
    upper,
)

EXACT = [
    Case("reshape-nothing", "fib", lambda x, y: ops.reshape(x, x.shape), "return %x"),
    Case(
        "reshape-reshape",
        "fib",
        lambda x, y: ops.reshape(ops.reshape(x, (-1,)), x.shape[::-1]),
        "%0 = reshape(%x) {shape=[3, 2]} : f32[3,2]; return %0",
    ),
    Case("transpose-nothing", "fib", lambda x, y: ops.permute(x, (0, 1)), "return %x"),
    Case(
        "transpose-transpose",
        "fib",
        lambda x, y: ops.permute(ops.permute(blocks(x), (1, 2, 0)), (0, 2, 1)),
        "%0 = reshape(%x) {shape=[2, 3, 1]} : f32[2,3,1]; "
        "%1 = transpose(%0) {permutation=[1, 0, 2]} : f32[3,2,1]; "
        "return %1",
    ),
    Case(
        "transpose-ones",
        "fib",
        lambda x, y: ops.permute(blocks(x), (0, 2, 1)),
        "%0 = reshape(%x) {shape=[2, 1, 3]} : f32[2,1,3]; return %0",
    ),
    Case(
        "reshape-transposed-ones",
        "fib",
        lambda x, y: ops.reshape(ops.permute(upper(x), (1, 0, 2)), (-1,)),
        "%0 = reshape(%x) {shape=[1, 2, 3]} : f32[1,2,3]; "
        "%1 = slice(%0) {lengths=[1, 1, 3], starts=[0, 0, 0], steps=[1, 1, 1]} : f32[1,1,3]; "
        "%2 = reshape(%1) {shape=[3]} : f32[3]; "
        "return %2",
    ),
    Case("broadcast-nothing", "fib", lambda x, y: ops.broadcast_to(x, x.shape), "return %x"),
    Case(
        "broadcast-broadcast",
        "fib",
        lambda x, y: ops.broadcast_to(stacked(x), (5, 4, *x.shape)),
        "%0 = broadcast_to(%x) {shape=[5, 4, 2, 3]} : f32[5,4,2,3]; return %0",
    ),
    Case(
        "broadcast-ones",
        "fib",
        lambda x, y: ops.broadcast_to(x, (1, *x.shape)),
        "%0 = reshape(%x) {shape=[1, 2, 3]} : f32[1,2,3]; return %0",
    ),
    Case(
        "broadcast-reshaped",
        "fib",
        lambda x, y: ops.broadcast_to(batch(x), (4, *x.shape)),
        "%0 = broadcast_to(%x) {shape=[4, 2, 3]} : f32[4,2,3]; return %0",
    ),
    Case(
        "reshape-broadcast",
        "fib",
        lambda x, y: ops.reshape(stacked(x), (4, 1, *x.shape)),
        "%0 = broadcast_to(%x) {shape=[4, 1, 2, 3]} : f32[4,1,2,3]; return %0",
    ),
    Case(
        "transpose-broadcast",
        "fib",
        lambda x, y: ops.permute(stacked(x), (1, 2, 0)),
        "%0 = reshape(%x) {shape=[2, 3, 1]} : f32[2,3,1]; "
        "%1 = broadcast_to(%0) {shape=[2, 3, 4]} : f32[2,3,4]; "
        "return %1",
    ),
    Case(
        "broadcast-result",
        "fib",
        lambda x, y: stacked(x) + stacked(y),
        "%0 = add(%x, %y) : f32[2,3]; "
        "%1 = broadcast_to(%0) {shape=[4, 2, 3]} : f32[4,2,3]; "
        "return %1",
    ),
    Case(
        "broadcast-result",
        "fi",
        lambda x, y: -stacked(x),
        "%0 = negative(%x) : f32[2,3]; "
        "%1 = broadcast_to(%0) {shape=[4, 2, 3]} : f32[4,2,3]; "
        "return %1",
    ),
    Case(
        "broadcast-operand",
        "fib",
        lambda x, y: batch(x) + batch(y),
        "%0 = reshape(%y) {shape=[1, 2, 3]} : f32[1,2,3]; %1 = add(%x, %0) : f32[1,2,3]; return %1",
    ),
    Case(
        "broadcast-operand",
        "f",
        lambda x, y: x * np.full((1, 1), 3, x.dtype),
        "%0 = constant {value=3.0} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case("slice-nothing", "fib", lambda x, y: ops.slice(x, (0, 0), x.shape), "return %x"),
    Case(
        "slice-slice",
        "fib",
        lambda x, y: half(reverse(x)),
        "%0 = slice(%x) {lengths=[1, 3], starts=[1, 0], steps=[-1, 1]} : f32[1,3]; return %0",
    ),
    Case(
        "slice-broadcast",
        "fib",
        lambda x, y: ops.slice(stacked(x), (1, 0, 0), (2, *x.shape)),
        "%0 = broadcast_to(%x) {shape=[2, 2, 3]} : f32[2,2,3]; return %0",
    ),
    Case(
        "slice-unslice",
        "fib",
        lambda x, y: half(ops.unslice(half(x), x.shape, (0, 0), (1, 1))),
        "%0 = slice(%x) {lengths=[1, 3], starts=[0, 0], steps=[1, 1]} : f32[1,3]; return %0",
    ),
    Case(
        "unslice-nothing", "fib", lambda x, y: ops.unslice(x, x.shape, (0, 0), (1, 1)), "return %x"
    ),
]

FAST_MATH = [
    Case(
        "function-of-broadcast",
        "f",
        lambda x, y: ops.exp(stacked(x)),
        "%0 = exp(%x) : f32[2,3]; %1 = broadcast_to(%0) {shape=[4, 2, 3]} : f32[4,2,3]; return %1",
    ),
]

KEPT = [
    Kept("reshape-nothing", "another shape", "fib", lambda x, y: ops.reshape(x, (-1,))),
    Kept(
        "reshape-reshape",
        "a transpose between",
        "fib",
        lambda x, y: ops.reshape(ops.permute(ops.reshape(x, (3, 2))), (6,)),
    ),
    Kept("transpose-nothing", "axes that move", "fib", lambda x, y: ops.permute(x, (1, 0))),
    Kept(
        "transpose-transpose",
        "a reshape between",
        "fib",
        lambda x, y: ops.permute(ops.reshape(ops.permute(x), (2, 3))),
    ),
    Kept(
        "transpose-ones",
        "an axis with elements moves",
        "fib",
        lambda x, y: ops.permute(blocks(x), (1, 0, 2)),
    ),
    Kept(
        "transpose-ones",
        "a view that a reshape would copy",
        "fib",
        lambda x, y: ops.permute(upper(x), (1, 0, 2)),
    ),
    Kept(
        "reshape-transposed-ones",
        "axes with elements",
        "fib",
        lambda x, y: ops.reshape(ops.permute(x), (-1,)),
    ),
    Kept("broadcast-nothing", "it repeats", "fib", lambda x, y: stacked(x)),
    Kept("broadcast-broadcast", "something between", "fi", lambda x, y: stacked(-stacked(x))),
    Kept("broadcast-ones", "it repeats", "fib", lambda x, y: stacked(x)),
    Kept(
        "broadcast-ones",
        "a view that a reshape would copy",
        "fib",
        lambda x, y: stacked(ops.permute(x), 1),
    ),
    Kept(
        "broadcast-reshaped",
        "an axis at the end",
        "fib",
        lambda x, y: ops.broadcast_to(blocks(x), (*x.shape, 4)),
    ),
    Kept(
        "reshape-broadcast",
        "axes that become one",
        "fib",
        lambda x, y: ops.reshape(stacked(x), (-1,)),
    ),
    Kept("transpose-broadcast", "something between", "fi", lambda x, y: ops.permute(-stacked(x))),
    Kept(
        "broadcast-result",
        "the other operand has the size",
        "f",
        lambda x, y: stacked(x) * np.arange(24, dtype=x.dtype).reshape(4, 2, 3),
    ),
    Kept("broadcast-result", "two ways of rounding", "f", lambda x, y: ops.exp(stacked(x))),
    Kept("broadcast-result", "a reduction", "f", lambda x, y: ops.sum(stacked(x), 0)),
    Kept("broadcast-operand", "it gives the shape", "fi", lambda x, y: -stacked(x)),
    Kept("broadcast-operand", "a matrix product", "f", lambda x, y: stacked(x) @ ops.permute(y)),
    Kept(
        "broadcast-operand",
        "a power of one element",
        "f",
        lambda x, y: ops.max(x, None, True) ** np.full((1, 1), 2, x.dtype),
    ),
    Kept("slice-nothing", "a part", "fib", lambda x, y: half(x)),
    Kept("slice-nothing", "backwards", "fib", lambda x, y: reverse(x)),
    Kept("slice-slice", "something between", "fi", lambda x, y: half(-reverse(x))),
    Kept("slice-broadcast", "no broadcast", "fib", lambda x, y: half(ops.reshape(x, (3, 2)))),
    Kept(
        "slice-unslice",
        "another part",
        "fib",
        lambda x, y: other_half(ops.unslice(half(x), x.shape, (0, 0), (1, 1))),
    ),
    Kept(
        "unslice-nothing",
        "a part",
        "fib",
        lambda x, y: ops.unslice(half(x), x.shape, (0, 0), (1, 1)),
    ),
    Kept(
        "unslice-nothing", "backwards", "fib", lambda x, y: ops.unslice(x, x.shape, (1, 0), (-1, 1))
    ),
    Kept(
        "function-of-broadcast",
        "the other operand has the size",
        "f",
        lambda x, y: stacked(x) ** np.arange(24, dtype=x.dtype).reshape(4, 2, 3),
    ),
]

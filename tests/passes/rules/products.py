"""Cases of the rules about matrix products."""

from needle_ir import ops
from tests.passes.rules.case import Case, Kept, also, batch, stacked

EXACT = [
    Case(
        "transposed-left",
        "f",
        lambda x, y: ops.permute(x) @ y,
        "%0 = matmul(%x, %y) {transpose_a=true} : f32[3,3]; return %0",
    ),
    Case(
        "transposed-left",
        "i",
        lambda x, y: ops.matmul(ops.permute(x), x),
        "%0 = matmul(%x, %x) {transpose_a=true} : i32[3,3]; return %0",
    ),
    Case(
        "transposed-right",
        "f",
        lambda x, y: x @ ops.permute(y),
        "%0 = matmul(%x, %y) {transpose_b=true} : f32[2,2]; return %0",
    ),
    Case(
        "transposed-right",
        "f",
        lambda x, y: ops.matmul(ops.permute(x), ops.permute(y), transpose_b=True),
        "%0 = matmul(%x, %y) {transpose_a=true} : f32[3,3]; return %0",
    ),
    Case(
        "transposed-right",
        "f",
        lambda x, y: batch(x) @ ops.permute(batch(y), (0, 2, 1)),
        "%0 = reshape(%x) {shape=[1, 2, 3]} : f32[1,2,3]; "
        "%1 = reshape(%y) {shape=[1, 2, 3]} : f32[1,2,3]; "
        "%2 = matmul(%0, %1) {transpose_b=true} : f32[1,2,2]; "
        "return %2",
    ),
]

FAST_MATH = [
    Case(
        "transposed-product",
        "f",
        lambda x, y: ops.permute(x @ ops.permute(y)),
        "%0 = matmul(%y, %x) {transpose_b=true} : f32[2,2]; return %0",
    ),
]

KEPT = [
    Kept(
        "transposed-left",
        "other axes",
        "f",
        lambda x, y: ops.permute(stacked(x, 2), (1, 0, 2)) @ ops.reshape(y, (3, 2)),
    ),
    Kept(
        "transposed-left",
        "a vector",
        "f",
        lambda x, y: ops.permute(ops.max(x, 0), (0,)) @ ops.reshape(y, (3, 2)),
    ),
    Kept(
        "transposed-right",
        "other axes",
        "f",
        lambda x, y: x @ ops.permute(ops.reshape(y, (3, 1, 2)), (1, 0, 2)),
    ),
    Kept(
        "transposed-product",
        "use outside of the pattern",
        "f",
        lambda x, y: also(ops.matmul(x, y, transpose_b=True), ops.permute),
    ),
    Kept(
        "transposed-product",
        "other axes",
        "f",
        lambda x, y: ops.permute(stacked(x, 2) @ ops.reshape(y, (3, 2)), (1, 0, 2)),
    ),
]

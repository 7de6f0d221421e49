"""Cases of the rules about concatenate and pack, and about taking parts of them."""

from needle_ir import ops
from needle_ir.ir import Node
from tests.passes.rules.case import Case, Kept, batch, half, other_half, thirds


def second_half_of_y(packed: Node, start: int, size: int) -> Node:
    result: Node = ops.unpack(packed, start + size // 2, (size - size // 2,))
    return result


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
    Case(
        "pack-one",
        "fib",
        lambda x, y: ops.pack(x),
        "%0 = reshape(%x) {shape=[6]} : f32[6]; return %0",
    ),
    Case(
        "pack-reshape",
        "fib",
        lambda x, y: ops.pack(batch(x), ops.reshape(y, (-1,))),
        "%0 = pack(%x, %y) : f32[12]; return %0",
    ),
    Case(
        "pack-unpacks",
        "fib",
        lambda x, y: ops.pack(y, *thirds(ops.concatenate([x, y, x], 0))),
        "%0 = concatenate(%x, %y, %x) {axis=0} : f32[6,3]; %1 = pack(%y, %0) : f32[24]; return %1",
    ),
    Case("unpack-all", "fib", lambda x, y: ops.unpack(x, 0, x.shape), "return %x"),
    Case(
        "unpack-reshape",
        "fib",
        lambda x, y: ops.unpack(ops.reshape(x, (-1,)), 0, (x.type.size // 2,)),
        "%0 = unpack(%x) {shape=[3], start=0} : f32[3]; return %0",
    ),
    Case(
        "reshape-unpack",
        "fib",
        lambda x, y: ops.reshape(ops.unpack(x, 0, (x.type.size // 2,)), (1, -1)),
        "%0 = unpack(%x) {shape=[1, 3], start=0} : f32[1,3]; return %0",
    ),
    Case(
        "unpack-unpack",
        "fib",
        lambda x, y: ops.unpack(
            ops.unpack(x, x.type.size // 3, (x.type.size // 2,)), 0, (x.type.size // 6,)
        ),
        "%0 = unpack(%x) {shape=[1], start=2} : f32[1]; return %0",
    ),
    Case(
        "unpack-pack",
        "fib",
        lambda x, y: ops.unpack(ops.pack(x, y, x), x.type.size, y.shape),
        "return %y",
    ),
    Case(
        "unpack-pack",
        "fib",
        lambda x, y: second_half_of_y(ops.pack(x, y), x.type.size, y.type.size),
        "%0 = unpack(%y) {shape=[3], start=3} : f32[3]; return %0",
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
    Kept("pack-one", "two", "fib", lambda x, y: ops.pack(x, y)),
    Kept("pack-reshape", "a transpose", "fib", lambda x, y: ops.pack(ops.permute(x), y)),
    Kept("pack-unpacks", "of two arrays", "fib", lambda x, y: ops.pack(thirds(x)[0], thirds(y)[1])),
    Kept("pack-unpacks", "another order", "fib", lambda x, y: ops.pack(*thirds(x)[::-1])),
    Kept("pack-unpacks", "a gap", "fib", lambda x, y: ops.pack(*thirds(x)[::2])),
    Kept("unpack-all", "a part", "fib", lambda x, y: thirds(x)[0]),
    Kept("unpack-reshape", "a transpose", "fib", lambda x, y: ops.unpack(ops.permute(x), 1, (4,))),
    Kept("reshape-unpack", "a slice", "fib", lambda x, y: ops.reshape(half(x), (3, 1))),
    Kept(
        "unpack-unpack",
        "something between",
        "fi",
        lambda x, y: ops.unpack(-ops.unpack(x, 1, (4,)), 1, (2,)),
    ),
    Kept("unpack-pack", "of two", "fib", lambda x, y: ops.unpack(ops.pack(x, y), 3, (2, 3))),
]

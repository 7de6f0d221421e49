"""For every rule of simplify: an expression that it rewrites, and the text of what comes out.

`x` and `y` are inputs of one type with two axes; the text is for f32[2,3].
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from needle_ir import ops
from needle_ir.ir import Node


class Case(NamedTuple):
    rule: str
    before: Callable[[Node, Node], Node]
    after: list[str]

    def __repr__(self) -> str:
        return self.rule


EXACT_CASES = [
    Case("double-negative", lambda x, y: -ops.negative(x), ["return %x"]),
    Case("times-one", lambda x, y: x * 1, ["return %x"]),
    Case("times-one", lambda x, y: 1 * x, ["return %x"]),
    Case("times-one", lambda x, y: x * np.ones((1, 1), x.dtype), ["return %x"]),
    Case("divide-by-one", lambda x, y: x / 1, ["return %x"]),
    Case("minus-zero", lambda x, y: x - 0, ["return %x"]),
    Case("power-one", lambda x, y: ops.power(x, 1), ["return %x"]),
    Case("square", lambda x, y: x**2, ["%0 = multiply(%x, %x) : f32[2,3]", "return %0"]),
    Case("add-negative", lambda x, y: x + -y, ["%0 = subtract(%x, %y) : f32[2,3]", "return %0"]),
    Case("add-negative", lambda x, y: -y + x, ["%0 = subtract(%x, %y) : f32[2,3]", "return %0"]),
    Case("subtract-negative", lambda x, y: x - -y, ["%0 = add(%x, %y) : f32[2,3]", "return %0"]),
    Case(
        "relu-relu", lambda x, y: ops.relu(ops.relu(x)), ["%0 = relu(%x) : f32[2,3]", "return %0"]
    ),
    Case(
        "transpose-transpose",
        lambda x, y: ops.permute(ops.permute(ops.reshape(x, (*x.shape, 1)), (1, 2, 0)), (0, 2, 1)),
        [
            "%0 = reshape(%x) {shape=[2, 3, 1]} : f32[2,3,1]",
            "%1 = transpose(%0) {permutation=[1, 0, 2]} : f32[3,2,1]",
            "return %1",
        ],
    ),
    Case("transpose-nothing", lambda x, y: ops.permute(x, (0, 1)), ["return %x"]),
    Case(
        "reshape-reshape",
        lambda x, y: ops.reshape(ops.reshape(x, (-1,)), x.shape[::-1]),
        ["%0 = reshape(%x) {shape=[3, 2]} : f32[3,2]", "return %0"],
    ),
    Case("reshape-nothing", lambda x, y: ops.reshape(x, x.shape), ["return %x"]),
    Case(
        "broadcast-broadcast",
        lambda x, y: ops.broadcast_to(ops.broadcast_to(x, (4, *x.shape)), (5, 4, *x.shape)),
        ["%0 = broadcast_to(%x) {shape=[5, 4, 2, 3]} : f32[5,4,2,3]", "return %0"],
    ),
    Case("broadcast-nothing", lambda x, y: ops.broadcast_to(x, x.shape), ["return %x"]),
    Case("cast-nothing", lambda x, y: ops.cast(x, x.dtype), ["return %x"]),
]

FAST_MATH_CASES = [
    Case("plus-zero", lambda x, y: x + 0, ["return %x"]),
    Case("plus-zero", lambda x, y: 0 + x, ["return %x"]),
    Case(
        "times-zero",
        lambda x, y: x * 0,
        [
            "%0 = constant {value=0.0} : f32[]",
            "%1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]",
            "return %1",
        ],
    ),
    Case(
        "minus-itself",
        lambda x, y: x - x,
        [
            "%0 = constant {value=0.0} : f32[]",
            "%1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]",
            "return %1",
        ],
    ),
    Case(
        "divide-by-itself",
        lambda x, y: x / x,
        [
            "%0 = constant {value=1.0} : f32[]",
            "%1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]",
            "return %1",
        ],
    ),
    Case("sum-nothing", lambda x, y: ops.sum(x, ()), ["return %x"]),
]

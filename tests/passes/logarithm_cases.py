"""For every op of which stabilize works out the logarithm: an expression and that logarithm.

`x` and `y` are inputs of the type f32[2,3].
"""

import numpy as np

from needle_ir import ops
from needle_ir.ops import exp, sigmoid, sum
from tests.passes.stabilize_cases import LOG_SIGMOID, LOG_SOFTMAX, LOGADDEXP, Expression

MASK = np.array([[True, False, True], [True, True, False]])
EXPONENTIAL_CASES: dict[str, tuple[Expression, list[str]]] = {
    "exp": (lambda x, y: exp(x), ["return %x"]),
    "softmax": (lambda x, y: ops.softmax(x), LOG_SOFTMAX),
    "sigmoid": (lambda x, y: sigmoid(x), LOG_SIGMOID),
    "add": (lambda x, y: exp(x) + exp(y), LOGADDEXP),
    "multiply": (
        lambda x, y: exp(x) * exp(y),
        ["%0 = add(%x, %y) : f32[2,3]", "return %0"],
    ),
    "divide": (
        lambda x, y: exp(x) / exp(y),
        ["%0 = subtract(%x, %y) : f32[2,3]", "return %0"],
    ),
    "power": (
        lambda x, y: exp(x) ** 3.0,
        [
            "%0 = constant {value=3.0} : f32[]",
            "%1 = multiply(%x, %0) : f32[2,3]",
            "return %1",
        ],
    ),
    "sqrt": (
        lambda x, y: ops.sqrt(ops.softmax(x)),
        [
            LOG_SOFTMAX[0],
            "%1 = constant {value=0.5} : f32[]",
            "%2 = multiply(%0, %1) : f32[2,3]",
            "return %2",
        ],
    ),
    "sum": (
        lambda x, y: sum(exp(x), 0),
        ["%0 = logsumexp(%x) {axes=[0], keepdims=false} : f32[3]", "return %0"],
    ),
    "max": (
        lambda x, y: ops.max(exp(x), 0, True),
        ["%0 = max(%x) {axes=[0], keepdims=true} : f32[1,3]", "return %0"],
    ),
    "min": (
        lambda x, y: ops.min(exp(x)),
        ["%0 = min(%x) {axes=[0, 1], keepdims=false} : f32[]", "return %0"],
    ),
    "where": (
        lambda x, y: ops.where(y > 0, exp(x), 0),
        [
            "%0 = constant {value=0.0} : f32[]",
            "%1 = greater(%y, %0) : bool[2,3]",
            "%2 = constant {value=-inf} : f32[]",
            "%3 = where(%1, %x, %2) : f32[2,3]",
            "return %3",
        ],
    ),
    "reshape": (
        lambda x, y: ops.reshape(exp(x), (6,)),
        ["%0 = reshape(%x) {shape=[6]} : f32[6]", "return %0"],
    ),
    "transpose": (
        lambda x, y: ops.permute(exp(x)),
        ["%0 = transpose(%x) {permutation=[1, 0]} : f32[3,2]", "return %0"],
    ),
    "broadcast_to": (
        lambda x, y: ops.broadcast_to(exp(x), (4, 2, 3)),
        ["%0 = broadcast_to(%x) {shape=[4, 2, 3]} : f32[4,2,3]", "return %0"],
    ),
    "slice": (
        lambda x, y: ops.slice(exp(x), (0, 1), (2, 2)),
        ["%0 = slice(%x) {lengths=[2, 2], starts=[0, 1], steps=[1, 1]} : f32[2,2]", "return %0"],
    ),
    "gather": (
        lambda x, y: ops.gather(exp(x), np.array([1]), np.array([2])),
        [
            "%0 = constant {value=[1]} : i64[1]",
            "%1 = constant {value=[2]} : i64[1]",
            "%2 = gather(%x, %0, %1) : f32[1]",
            "return %2",
        ],
    ),
    "concatenate": (
        lambda x, y: ops.concatenate([exp(x), exp(y)], 0),
        ["%0 = concatenate(%x, %y) {axis=0} : f32[4,3]", "return %0"],
    ),
    "a constant": (
        lambda x, y: exp(x) * 4.0,
        [
            "%0 = constant {value=1.3862944} : f32[]",
            "%1 = add(%x, %0) : f32[2,3]",
            "return %1",
        ],
    ),
    "a mask": (
        lambda x, y: exp(x) * ops.cast(y > 0, "float32"),
        [
            "%0 = constant {value=0.0} : f32[]",
            "%1 = greater(%y, %0) : bool[2,3]",
            "%2 = constant {value=-inf} : f32[]",
            "%3 = where(%1, %0, %2) : f32[2,3]",
            "%4 = add(%x, %3) : f32[2,3]",
            "return %4",
        ],
    ),
}

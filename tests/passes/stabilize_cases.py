"""For every rule of stabilize: expressions that it rewrites, with the text of what comes out.

`x` and `y` are inputs of the type f32[2,3].
"""

from collections.abc import Callable
from typing import NamedTuple

from needle_ir import ops
from needle_ir.ir import Node
from needle_ir.ops import abs, exp, expm1, log, log1p, sigmoid, softplus, sum

Expression = Callable[[Node, Node], Node]


class Case(NamedTuple):
    rule: str
    before: Expression
    after: list[str]

    def __repr__(self) -> str:
        return self.rule


def total(x: Node) -> Node:
    return sum(exp(x), 1, True)


def weighted(x: Node, y: Node) -> Node:
    """Something over sum(something)."""
    terms = exp(x) * y
    result: Node = terms / sum(terms, 1, True)
    return result


def mean(x: Node, y: Node) -> Node:
    p = exp(x)
    result: Node = sum(p * y, 1) / sum(p, 1)
    return result


def by_matmul(x: Node, y: Node) -> Node:
    p = exp(x)
    result: Node = (p @ ops.permute(y)) / sum(p, 1, True)
    return result


def tanh(x: Node, y: Node) -> Node:
    up, down = exp(x), exp(y)
    result: Node = (up - down) / (up + down)
    return result


def shifted(x: Node) -> Node:
    return x - ops.max(x, 1, True)


def in_front(x: Node) -> Node:
    """x with one more axis."""
    result: Node = ops.reshape(x, (1, *x.shape))
    return result


def shifted_in_front(x: Node) -> Node:
    """What `shifted(in_front(x))` is when it is simplified."""
    return x - ops.max(in_front(x), 2, True)


MINUS = "%0 = negative(%x) : f32[2,3]"
IN_FRONT = "%0 = reshape(%x) {shape=[1, 2, 3]} : f32[1,2,3]"
SOFTMAX = ["%0 = softmax(%x) {axes=[1]} : f32[2,3]", "return %0"]
LOG_SOFTMAX = ["%0 = log_softmax(%x) {axes=[1]} : f32[2,3]", "return %0"]
SOFTPLUS = ["%0 = softplus(%x) : f32[2,3]", "return %0"]
SIGMOID = ["%0 = sigmoid(%x) : f32[2,3]", "return %0"]
SIGMOID_OF_MINUS = [MINUS, "%1 = sigmoid(%0) : f32[2,3]", "return %1"]
SOFTPLUS_OF_MINUS = [MINUS, "%1 = softplus(%0) : f32[2,3]", "return %1"]
LOG_SIGMOID = [MINUS, "%1 = softplus(%0) : f32[2,3]", "%2 = negative(%1) : f32[2,3]", "return %2"]
LOGADDEXP = ["%0 = logaddexp(%x, %y) : f32[2,3]", "return %0"]
EXPM1 = ["%0 = expm1(%x) : f32[2,3]", "return %0"]
LOG1MEXP = ["%0 = log1mexp(%x) : f32[2,3]", "return %0"]
HALF = "%0 = constant {value=0.5} : f32[]"
MINUS_HALF = "%0 = constant {value=-0.5} : f32[]"


def times(constant: str, function: str) -> list[str]:
    return [
        constant,
        "%1 = multiply(%x, %0) : f32[2,3]",
        f"%2 = {function}(%1) : f32[2,3]",
        "return %2",
    ]


CASES = [
    Case(
        "look-behind-known",
        lambda x, y: ops.known(exp(x), y),
        ["%0 = exp(%x) : f32[2,3]", "return %0"],
    ),
    Case("log-of-exponential", lambda x, y: log(exp(x)), ["return %x"]),
    Case("log-of-exponential", lambda x, y: log(exp(x) + exp(y)), LOGADDEXP),
    Case("log-of-exponential", lambda x, y: log(exp(x) / total(x)), LOG_SOFTMAX),
    Case(
        "log-sum-exp",
        lambda x, y: log(sum(exp(x), 1)),
        ["%0 = logsumexp(%x) {axes=[1], keepdims=false} : f32[2]", "return %0"],
    ),
    Case(
        "log-of-weighted-sum",
        lambda x, y: log(sum(y * exp(x), 1)),
        ["%0 = weighted_logsumexp(%x, %y) {axes=[1], keepdims=false} : f32[2]", "return %0"],
    ),
    Case(
        "log-of-weighted-softmax",
        lambda x, y: log(ops.weighted_softmax(x, y, 1)),
        [
            "%0 = weighted_logsumexp(%x, %y) {axes=[1], keepdims=true} : f32[2,1]",
            "%1 = subtract(%x, %0) : f32[2,3]",
            "%2 = log(%y) : f32[2,3]",
            "%3 = add(%1, %2) : f32[2,3]",
            "return %3",
        ],
    ),
    Case(
        "log-of-product",
        lambda x, y: log(y * ops.softmax(x)),
        [
            "%0 = log_softmax(%x) {axes=[1]} : f32[2,3]",
            "%1 = log(%y) : f32[2,3]",
            "%2 = add(%0, %1) : f32[2,3]",
            "return %2",
        ],
    ),
    Case(
        "log-of-quotient",
        lambda x, y: log(exp(x) / y),
        ["%0 = log(%y) : f32[2,3]", "%1 = subtract(%x, %0) : f32[2,3]", "return %1"],
    ),
    Case(
        "log-of-quotient",
        lambda x, y: log(y / sigmoid(x)),
        [
            "%0 = log(%y) : f32[2,3]",
            "%1 = negative(%x) : f32[2,3]",
            "%2 = softplus(%1) : f32[2,3]",
            "%3 = negative(%2) : f32[2,3]",
            "%4 = subtract(%0, %3) : f32[2,3]",
            "return %4",
        ],
    ),
    Case("log-of-1-plus", lambda x, y: log(1 + x), ["%0 = log1p(%x) : f32[2,3]", "return %0"]),
    Case("log-of-1-plus", lambda x, y: log(x + 1), ["%0 = log1p(%x) : f32[2,3]", "return %0"]),
    Case(
        "log-of-1-minus",
        lambda x, y: log(1 - x),
        [MINUS, "%1 = log1p(%0) : f32[2,3]", "return %1"],
    ),
    Case(
        "log-of-expm1",
        lambda x, y: log(expm1(x)),
        [MINUS, "%1 = log1mexp(%0) : f32[2,3]", "%2 = add(%x, %1) : f32[2,3]", "return %2"],
    ),
    Case("log-of-minus-expm1", lambda x, y: log(-expm1(x)), LOG1MEXP),
    Case("log1p-of-exponential", lambda x, y: log1p(exp(x)), SOFTPLUS),
    Case("log1p-of-minus-exponential", lambda x, y: log1p(-exp(x)), LOG1MEXP),
    Case(
        "log1p-of-minus-exponential",
        lambda x, y: log(1 - ops.softmax(x)),
        [LOG_SOFTMAX[0], "%1 = log1mexp(%0) : f32[2,3]", "return %1"],
    ),
    Case("log1p-in-form", lambda x, y: log1p(expm1(x)), ["return %x"]),
    Case(
        "log1p-in-form",
        lambda x, y: log1p(ops.tanh(x)),
        [
            "%0 = constant {value=2.0} : f32[]",
            "%1 = multiply(%x, %0) : f32[2,3]",
            "%2 = negative(%1) : f32[2,3]",
            "%3 = softplus(%2) : f32[2,3]",
            "%4 = negative(%3) : f32[2,3]",
            "%5 = constant {value=0.6931472} : f32[]",
            "%6 = add(%4, %5) : f32[2,3]",
            "return %6",
        ],
    ),
    Case(
        "log1p-of-minus-tanh-squared",
        lambda x, y: log1p(-(ops.tanh(x) * ops.tanh(x))),
        [
            "%0 = constant {value=2.0} : f32[]",
            "%1 = multiply(%x, %0) : f32[2,3]",
            "%2 = negative(%1) : f32[2,3]",
            "%3 = softplus(%2) : f32[2,3]",
            "%4 = negative(%3) : f32[2,3]",
            "%5 = constant {value=-2.0} : f32[]",
            "%6 = multiply(%x, %5) : f32[2,3]",
            "%7 = negative(%6) : f32[2,3]",
            "%8 = softplus(%7) : f32[2,3]",
            "%9 = subtract(%4, %8) : f32[2,3]",
            "%10 = constant {value=1.3862944} : f32[]",
            "%11 = add(%9, %10) : f32[2,3]",
            "return %11",
        ],
    ),
    Case(
        "log-of-difference-of-sigmoids",
        lambda x, y: log(sigmoid(x) - sigmoid(y)),
        [
            "%0 = subtract(%y, %x) : f32[2,3]",
            "%1 = log1mexp(%0) : f32[2,3]",
            "%2 = negative(%x) : f32[2,3]",
            "%3 = softplus(%2) : f32[2,3]",
            "%4 = subtract(%1, %3) : f32[2,3]",
            "%5 = softplus(%y) : f32[2,3]",
            "%6 = subtract(%4, %5) : f32[2,3]",
            "return %6",
        ],
    ),
    Case(
        "log-of-difference",
        lambda x, y: log(exp(x) - exp(y)),
        [
            "%0 = constant {value=-inf} : f32[]",
            "%1 = equal(%y, %0) : bool[2,3]",
            "%2 = subtract(%y, %x) : f32[2,3]",
            "%3 = where(%1, %0, %2) : f32[2,3]",
            "%4 = log1mexp(%3) : f32[2,3]",
            "%5 = add(%x, %4) : f32[2,3]",
            "return %5",
        ],
    ),
    Case(
        "log-of-weighted-terms",
        lambda x, y: log(exp(x) * y + exp(y) * x),
        [
            "%0 = reshape(%x) {shape=[1, 2, 3]} : f32[1,2,3]",
            "%1 = reshape(%y) {shape=[1, 2, 3]} : f32[1,2,3]",
            "%2 = concatenate(%0, %1) {axis=0} : f32[2,2,3]",
            "%3 = reshape(%y) {shape=[1, 2, 3]} : f32[1,2,3]",
            "%4 = reshape(%x) {shape=[1, 2, 3]} : f32[1,2,3]",
            "%5 = concatenate(%3, %4) {axis=0} : f32[2,2,3]",
            "%6 = weighted_logsumexp(%2, %5) {axes=[0], keepdims=false} : f32[2,3]",
            "return %6",
        ],
    ),
    Case(
        "log-of-weighted-terms",
        lambda x, y: log(exp(x) - exp(y) * x),
        [
            "%0 = reshape(%x) {shape=[1, 2, 3]} : f32[1,2,3]",
            "%1 = reshape(%y) {shape=[1, 2, 3]} : f32[1,2,3]",
            "%2 = concatenate(%0, %1) {axis=0} : f32[2,2,3]",
            "%3 = constant {value=1.0} : f32[]",
            "%4 = broadcast_to(%3) {shape=[2, 3]} : f32[2,3]",
            "%5 = reshape(%4) {shape=[1, 2, 3]} : f32[1,2,3]",
            "%6 = negative(%3) : f32[]",
            "%7 = multiply(%x, %6) : f32[2,3]",
            "%8 = reshape(%7) {shape=[1, 2, 3]} : f32[1,2,3]",
            "%9 = concatenate(%5, %8) {axis=0} : f32[2,2,3]",
            "%10 = weighted_logsumexp(%2, %9) {axes=[0], keepdims=false} : f32[2,3]",
            "return %10",
        ],
    ),
    Case(
        "log1p-in-form",
        lambda x, y: log1p(-sigmoid(x)),
        ["%0 = softplus(%x) : f32[2,3]", "%1 = negative(%0) : f32[2,3]", "return %1"],
    ),
    Case(
        "shifted-logsumexp",
        lambda x, y: ops.logsumexp(shifted(x), 1, True) + ops.max(x, 1, True),
        ["%0 = logsumexp(%x) {axes=[1], keepdims=true} : f32[2,1]", "return %0"],
    ),
    Case(
        "shifted-logsumexp",
        lambda x, y: ops.logsumexp(shifted_in_front(x), 2, True) + ops.max(in_front(x), 2, True),
        [IN_FRONT, "%1 = logsumexp(%0) {axes=[2], keepdims=true} : f32[1,2,1]", "return %1"],
    ),
    Case("log-softmax", lambda x, y: x - ops.logsumexp(x, 1, True), LOG_SOFTMAX),
    Case(
        "log-softmax",
        lambda x, y: x - ops.logsumexp(in_front(x), 2, True),
        [IN_FRONT, "%1 = log_softmax(%0) {axes=[2]} : f32[1,2,3]", "return %1"],
    ),
    Case(
        "log-softmax",
        lambda x, y: x - ops.broadcast_to(ops.reshape(ops.logsumexp(x, 1), (2, 1)), (2, 3)),
        LOG_SOFTMAX,
    ),
    Case(
        "log-softmax",
        lambda x, y: x - ops.logsumexp(x, 0),
        ["%0 = log_softmax(%x) {axes=[0]} : f32[2,3]", "return %0"],
    ),
    Case(
        "minus-log-softmax",
        lambda x, y: ops.logsumexp(x) - x,
        [
            "%0 = log_softmax(%x) {axes=[0, 1]} : f32[2,3]",
            "%1 = negative(%0) : f32[2,3]",
            "return %1",
        ],
    ),
    Case(
        "minus-log-softmax",
        lambda x, y: ops.logsumexp(in_front(x), 2, True) - x,
        [
            IN_FRONT,
            "%1 = log_softmax(%0) {axes=[2]} : f32[1,2,3]",
            "%2 = negative(%1) : f32[1,2,3]",
            "return %2",
        ],
    ),
    Case("softmax", lambda x, y: exp(ops.log_softmax(x)), SOFTMAX),
    Case(
        "shifted-log-softmax",
        lambda x, y: ops.log_softmax(shifted_in_front(x), 2),
        [IN_FRONT, "%1 = log_softmax(%0) {axes=[2]} : f32[1,2,3]", "return %1"],
    ),
    Case(
        "shifted-softmax",
        lambda x, y: ops.softmax(shifted_in_front(x), 2),
        [IN_FRONT, "%1 = softmax(%0) {axes=[2]} : f32[1,2,3]", "return %1"],
    ),
    Case("shifted-log-softmax", lambda x, y: ops.log_softmax(shifted(x)), LOG_SOFTMAX),
    Case("shifted-log-softmax", lambda x, y: ops.log_softmax(x - ops.max(x)), LOG_SOFTMAX),
    Case("shifted-softmax", lambda x, y: ops.softmax(shifted(x)), SOFTMAX),
    Case(
        "shifted-softmax",
        lambda x, y: ops.softmax(x - ops.stop_gradient(ops.min(x, 1, True))),
        SOFTMAX,
    ),
    Case("sigmoid", lambda x, y: exp(-softplus(x)), SIGMOID_OF_MINUS),
    Case("sigmoid", lambda x, y: exp(-softplus(-x)), SIGMOID),
    Case("1-minus-sigmoid", lambda x, y: 1 - sigmoid(x), SIGMOID_OF_MINUS),
    Case(
        "1-minus-sigmoid",
        lambda x, y: 1 - sigmoid(x - y),
        ["%0 = subtract(%y, %x) : f32[2,3]", "%1 = sigmoid(%0) : f32[2,3]", "return %1"],
    ),
    Case(
        "1-minus-sigmoid",
        lambda x, y: 1 - ops.broadcast_to(sigmoid(x), (4, 2, 3)),
        [
            MINUS,
            "%1 = sigmoid(%0) : f32[2,3]",
            "%2 = broadcast_to(%1) {shape=[4, 2, 3]} : f32[4,2,3]",
            "return %2",
        ],
    ),
    Case(
        "1-minus-sigmoid",
        lambda x, y: 1 - ops.permute(ops.reshape(sigmoid(x), (3, 2))),
        [
            "%0 = reshape(%x) {shape=[3, 2]} : f32[3,2]",
            "%1 = transpose(%0) {permutation=[1, 0]} : f32[2,3]",
            "%2 = negative(%1) : f32[2,3]",
            "%3 = sigmoid(%2) : f32[2,3]",
            "return %3",
        ],
    ),
    Case("minus-softplus", lambda x, y: x - softplus(x), LOG_SIGMOID),
    Case("softplus-minus", lambda x, y: softplus(x) - x, SOFTPLUS_OF_MINUS),
    Case("softplus-plus", lambda x, y: x + softplus(-x), SOFTPLUS),
    Case("softplus-by-relu", lambda x, y: ops.relu(x) + softplus(-abs(x)), SOFTPLUS),
    Case("softplus-by-maximum", lambda x, y: softplus(-abs(x)) + ops.maximum(0.0, x), SOFTPLUS),
    Case(
        "minus-logaddexp",
        lambda x, y: x - ops.logaddexp(y, x),
        [
            "%0 = subtract(%y, %x) : f32[2,3]",
            "%1 = softplus(%0) : f32[2,3]",
            "%2 = negative(%1) : f32[2,3]",
            "return %2",
        ],
    ),
    Case(
        "logaddexp-by-maximum",
        lambda x, y: ops.maximum(x, y) + softplus(-abs(x - y)),
        LOGADDEXP,
    ),
    Case(
        "shifted-logaddexp",
        lambda x, y: shifted_logaddexp(x, y, ops.maximum(x, y)),
        LOGADDEXP,
    ),
    Case("expm1", lambda x, y: exp(x) - 1, EXPM1),
    Case("expm1-plus", lambda x, y: -1 + exp(x), EXPM1),
    Case(
        "minus-expm1",
        lambda x, y: 1 - exp(x),
        ["%0 = expm1(%x) : f32[2,3]", "%1 = negative(%0) : f32[2,3]", "return %1"],
    ),
    Case("1-plus-expm1", lambda x, y: expm1(x) + 1, ["%0 = exp(%x) : f32[2,3]", "return %0"]),
    Case(
        "1-minus-minus-expm1",
        lambda x, y: 1 - (1 - exp(x)),
        ["%0 = exp(%x) : f32[2,3]", "return %0"],
    ),
    Case(
        "1-plus-tanh",
        lambda x, y: 1 + ops.tanh(x),
        [
            "%0 = constant {value=2.0} : f32[]",
            "%1 = multiply(%x, %0) : f32[2,3]",
            "%2 = sigmoid(%1) : f32[2,3]",
            "%3 = multiply(%2, %0) : f32[2,3]",
            "return %3",
        ],
    ),
    Case(
        "1-minus-tanh",
        lambda x, y: 1 - ops.tanh(x),
        [
            "%0 = constant {value=-2.0} : f32[]",
            "%1 = multiply(%x, %0) : f32[2,3]",
            "%2 = sigmoid(%1) : f32[2,3]",
            "%3 = constant {value=2.0} : f32[]",
            "%4 = multiply(%2, %3) : f32[2,3]",
            "return %4",
        ],
    ),
    Case("tanh", lambda x, y: tanh(x, -x), ["%0 = tanh(%x) : f32[2,3]", "return %0"]),
    Case(
        "tanh-of-difference",
        lambda x, y: tanh(x, y),
        [
            "%0 = subtract(%x, %y) : f32[2,3]",
            "%1 = constant {value=0.5} : f32[]",
            "%2 = multiply(%0, %1) : f32[2,3]",
            "%3 = tanh(%2) : f32[2,3]",
            "return %3",
        ],
    ),
    Case("tanh-by-expm1", lambda x, y: expm1(x) * sigmoid(-x), times(HALF, "tanh")),
    Case("tanh-by-expm1", lambda x, y: expm1(x) / (1 + exp(x)), times(HALF, "tanh")),
    Case("tanh-by-minus-expm1", lambda x, y: sigmoid(-x) * -expm1(x), times(MINUS_HALF, "tanh")),
    Case("tanh-by-sigmoid", lambda x, y: 2 * sigmoid(x) - 1, times(HALF, "tanh")),
    Case("tanh-by-minus-sigmoid", lambda x, y: 1 - 2 * sigmoid(x), times(MINUS_HALF, "tanh")),
    Case("quotient-of-exponentials", lambda x, y: exp(x) / total(x), SOFTMAX),
    Case("quotient-of-exponentials", lambda x, y: exp(x) / (1 + exp(x)), SIGMOID),
    Case(
        "quotient-of-exponentials",
        lambda x, y: exp(x) / exp(y),
        ["%0 = subtract(%x, %y) : f32[2,3]", "%1 = exp(%0) : f32[2,3]", "return %1"],
    ),
    Case("reciprocal-of-exponential", lambda x, y: 1 / (1 + exp(-x)), SIGMOID),
    Case(
        "reciprocal-of-exponential",
        lambda x, y: 1 / exp(x),
        [MINUS, "%1 = exp(%0) : f32[2,3]", "return %1"],
    ),
    Case(
        "over-1-plus-exp",
        lambda x, y: y / (1 + exp(-x)),
        ["%0 = sigmoid(%x) : f32[2,3]", "%1 = multiply(%y, %0) : f32[2,3]", "return %1"],
    ),
    Case(
        "constant-over-exponential",
        lambda x, y: 0.5 / (exp(x) + exp(y)),
        [
            "%0 = constant {value=-0.6931472} : f32[]",
            "%1 = logaddexp(%x, %y) : f32[2,3]",
            "%2 = subtract(%0, %1) : f32[2,3]",
            "%3 = exp(%2) : f32[2,3]",
            "return %3",
        ],
    ),
    Case(
        "weighted-softmax",
        lambda x, y: weighted(x, y),
        ["%0 = weighted_softmax(%x, %y) {axes=[1]} : f32[2,3]", "return %0"],
    ),
    Case(
        "weighted-quotient",
        lambda x, y: exp(x) * y / total(x),
        [SOFTMAX[0], "%1 = multiply(%0, %y) : f32[2,3]", "return %1"],
    ),
    Case(
        "weighted-mean",
        lambda x, y: mean(x, y),
        [
            SOFTMAX[0],
            "%1 = multiply(%0, %y) : f32[2,3]",
            "%2 = sum(%1) {axes=[1], keepdims=false} : f32[2]",
            "return %2",
        ],
    ),
    Case(
        "weighted-mean-by-matmul",
        lambda x, y: by_matmul(x, y),
        [
            SOFTMAX[0],
            "%1 = transpose(%y) {permutation=[1, 0]} : f32[3,2]",
            "%2 = matmul(%0, %1) : f32[2,2]",
            "return %2",
        ],
    ),
    Case(
        "over-exponential",
        lambda x, y: y / exp(x),
        [
            "%0 = constant {value=-0.5} : f32[]",
            "%1 = multiply(%x, %0) : f32[2,3]",
            "%2 = exp(%1) : f32[2,3]",
            "%3 = multiply(%y, %2) : f32[2,3]",
            "%4 = multiply(%x, %0) : f32[2,3]",
            "%5 = exp(%4) : f32[2,3]",
            "%6 = multiply(%3, %5) : f32[2,3]",
            "return %6",
        ],
    ),
    Case(
        "times-reciprocal",
        lambda x, y: exp(x) * exp(-y),
        ["%0 = subtract(%x, %y) : f32[2,3]", "%1 = exp(%0) : f32[2,3]", "return %1"],
    ),
    Case("times-reciprocal", lambda x, y: exp(x) * (1 / total(x)), SOFTMAX),
    Case("power-of-exponential", lambda x, y: (1 + exp(-x)) ** -1, SIGMOID),
    Case("power-of-exponential", lambda x, y: exp(x) ** 0.5, times(HALF, "exp")),
    Case("sqrt-of-exponential", lambda x, y: ops.sqrt(exp(x)), times(HALF, "exp")),
]


def shifted_logaddexp(x: Node, y: Node, s: Node) -> Node:
    result: Node = ops.logaddexp(x - s, y - s) + s
    return result

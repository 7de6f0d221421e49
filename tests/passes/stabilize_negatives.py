"""For every rule of stabilize: expressions that look like its left side and are something else.

`x` and `y` are inputs of the type f32[2,3].
"""

from typing import NamedTuple

import numpy as np

from needle_ir import ops
from needle_ir.ir import Node
from needle_ir.ops import abs, exp, expm1, log, log1p, sigmoid, softplus, sum
from tests.passes.stabilize_cases import Expression, shifted, shifted_logaddexp


class Negative(NamedTuple):
    rule: str  # that does not apply
    why: str
    expression: Expression

    def __repr__(self) -> str:
        return f"{self.rule}: {self.why}"


NEGATIVES = [
    Negative("look-behind-known", "nothing is lost", lambda x, y: ops.known(x * y, y)),
    Negative("look-behind-known", "a logarithm", lambda x, y: ops.known(log(exp(x) + x), y)),
    Negative("log-of-exponential", "any sign", lambda x, y: log(x + y)),
    Negative("log-of-exponential", "one of two has any sign", lambda x, y: log(exp(x) + y)),
    Negative("log-of-exponential", "a difference", lambda x, y: log(exp(x) - exp(y))),
    Negative("log-of-exponential", "a negative constant", lambda x, y: log(exp(x) * -2.0)),
    Negative("log-of-exponential", "a guard against 0", lambda x, y: log(ops.softmax(x) + 1e-8)),
    Negative("log-sum-exp", "any sign", lambda x, y: log(sum(exp(x) + y))),
    Negative("log-sum-exp", "another function", lambda x, y: log(sum(expm1(x)))),
    Negative(
        "log-sum-exp", "an empty axis", lambda x, y: log(sum(exp(ops.slice(x, (0, 0), (2, 0))), 1))
    ),
    Negative("log-sum-exp", "a sum of integers", lambda x, y: log(sum(ops.cast(exp(x), "int32")))),
    Negative("log-of-exponential", "a power that is no constant", lambda x, y: log(exp(x) ** y)),
    Negative("log-of-exponential", "the power 0", lambda x, y: log(exp(x) ** 0)),
    Negative(
        "log-of-exponential",
        "another float dtype between",
        lambda x, y: log(ops.cast(exp(x), "float64")),
    ),
    Negative(
        "log-of-exponential",
        "selected beside any sign",
        lambda x, y: log(ops.where(y > 0, exp(x), y)),
    ),
    Negative("log-of-weighted-sum", "no exponential", lambda x, y: log(sum(x * y, 1))),
    Negative("log-of-weighted-sum", "a term added", lambda x, y: log(sum(exp(x) * y + y, 1))),
    Negative("log-of-weighted-sum", "both exponential", lambda x, y: log(sum(exp(x) * exp(y)))),
    Negative(
        "log-of-weighted-softmax", "another op", lambda x, y: log(y * ops.weighted_softmax(x, y))
    ),
    Negative("log-of-product", "no exponential", lambda x, y: log(x * y)),
    Negative("log-of-quotient", "no exponential", lambda x, y: log(x / y)),
    Negative("log-of-1-plus", "another number", lambda x, y: log(2 + x)),
    Negative("log-of-1-plus", "integers", lambda x, y: log(1 + ops.cast(x, "int32"))),
    Negative(
        "log-of-1-plus",
        "the 1 makes it larger",
        lambda x, y: log(x + ops.as_constant(np.ones((1, 1, 1), np.float32))),
    ),
    Negative("log-of-1-minus", "the other way round", lambda x, y: log(x - 1)),
    Negative("log-of-expm1", "log1p", lambda x, y: log1p(expm1(x))),
    Negative("log-of-minus-expm1", "another sign", lambda x, y: log(expm1(x))),
    Negative("log1p-of-exponential", "a probability", lambda x, y: log1p(ops.softmax(x))),
    Negative("log1p-of-exponential", "another sign", lambda x, y: log1p(-exp(x))),
    Negative("log1p-of-minus-exponential", "another sign", lambda x, y: log1p(exp(x))),
    Negative("log1p-of-minus-exponential", "any sign", lambda x, y: log1p(-x)),
    Negative("log1p-in-form", "another sign", lambda x, y: log1p(sigmoid(x))),
    Negative("log1p-in-form", "another function", lambda x, y: log1p(-ops.sqrt(x))),
    Negative("log1p-in-form", "another square", lambda x, y: log1p(-(ops.tanh(x) * x))),
    Negative("log-of-difference-of-sigmoids", "a sum", lambda x, y: log(sigmoid(x) + sigmoid(y))),
    Negative("log-of-difference", "any sign below", lambda x, y: log(exp(x) - y)),
    Negative("log-of-difference", "any sign above", lambda x, y: log(y - exp(x))),
    Negative("log-of-difference", "a constant", lambda x, y: log(exp(x) - 0.5)),
    Negative(
        "log-of-difference",
        "rows and columns",
        lambda x, y: log(exp(ops.max(x, 1, True)) - exp(ops.max(y, 0, True))),
    ),
    Negative(
        "log-of-weighted-terms",
        "a guard against 0",
        lambda x, y: log(sigmoid(x) * y + sigmoid(-x) * (1 - y) + 1e-8),
    ),
    Negative("log-of-weighted-terms", "one of any sign", lambda x, y: log(exp(x) * y + x)),
    Negative("log-of-weighted-terms", "a product", lambda x, y: log(exp(x) * y)),
    Negative(
        "log-of-weighted-terms",
        "a sum over an axis",
        lambda x, y: log(exp(x) * y + sum(exp(x) * y, 1, True)),
    ),
    Negative(
        "shifted-logsumexp",
        "another shift back",
        lambda x, y: ops.logsumexp(shifted(x), 1, True) + ops.max(y, 1, True),
    ),
    Negative("log-softmax", "of something else", lambda x, y: x - ops.logsumexp(y, 1, True)),
    Negative(
        "log-softmax",
        "beside the wrong rows",
        lambda x, y: (x @ ops.permute(y)) - ops.logsumexp(x @ ops.permute(y), 1),
    ),
    Negative(
        "log-softmax",
        "with more axes than x",
        lambda x, y: ops.max(x, 1) - ops.reshape(ops.logsumexp(ops.max(x, 1)), (1, 1)),
    ),
    Negative("log-softmax", "added", lambda x, y: x + ops.logsumexp(x, 1, True)),
    Negative("minus-log-softmax", "of something else", lambda x, y: ops.logsumexp(y, 1, True) - x),
    Negative("softmax", "times 2", lambda x, y: exp(2 * ops.log_softmax(x))),
    Negative(
        "shifted-log-softmax",
        "along another axis",
        lambda x, y: ops.log_softmax(x - ops.max(x, 0)),
    ),
    Negative(
        "shifted-log-softmax",
        "the largest of something else",
        lambda x, y: ops.log_softmax(x - ops.max(y, 1, True)),
    ),
    Negative(
        "shifted-log-softmax",
        "for each row of a table of rows",
        lambda x, y: ops.log_softmax(x - ops.reshape(ops.max(y, 1), (2, 1, 1)), 2),
    ),
    Negative(
        "shifted-softmax",
        "not constant along one axis of two",
        lambda x, y: ops.softmax(x - ops.max(x, 1, True), (0, 1)),
    ),
    Negative("shifted-softmax", "no extremum", lambda x, y: ops.softmax(x - sum(x, 1, True))),
    Negative("shifted-softmax", "the other way round", lambda x, y: ops.softmax(ops.max(x) - x)),
    Negative("sigmoid", "another sign", lambda x, y: exp(softplus(x))),
    Negative("1-minus-sigmoid", "the other way round", lambda x, y: sigmoid(x) - 1),
    Negative("1-minus-sigmoid", "another number", lambda x, y: 2 - sigmoid(x)),
    Negative("1-minus-sigmoid", "a sum of them", lambda x, y: 1 - sum(sigmoid(x), 1)),
    Negative("minus-softplus", "of something else", lambda x, y: x - softplus(y)),
    Negative("softplus-minus", "of something else", lambda x, y: softplus(y) - x),
    Negative("softplus-plus", "another sign", lambda x, y: softplus(x) + x),
    Negative("softplus-by-relu", "of something else", lambda x, y: ops.relu(y) + softplus(-abs(x))),
    Negative("softplus-by-relu", "another sign", lambda x, y: ops.relu(x) + softplus(abs(x))),
    Negative(
        "softplus-by-maximum", "another number", lambda x, y: ops.maximum(x, 1) + softplus(-abs(x))
    ),
    Negative("minus-logaddexp", "of others", lambda x, y: x - ops.logaddexp(y, x + y)),
    Negative(
        "logaddexp-by-maximum",
        "the other way round",
        lambda x, y: ops.minimum(x, y) + softplus(-abs(x - y)),
    ),
    Negative(
        "logaddexp-by-maximum",
        "another difference",
        lambda x, y: ops.maximum(x, y) + softplus(-abs(x + y)),
    ),
    Negative(
        "shifted-logaddexp",
        "two shifts",
        lambda x, y: ops.logaddexp(x - ops.max(x), y - ops.max(y)) + ops.max(x),
    ),
    Negative(
        "shifted-logaddexp",
        "the shift makes it larger",
        lambda x, y: shifted_logaddexp(
            ops.max(x, 1, True), ops.max(y, 1, True), ops.min(x, 0, True)
        ),
    ),
    Negative("expm1", "another number", lambda x, y: exp(x) - 2),
    Negative("expm1", "a node", lambda x, y: exp(x) - y),
    Negative("expm1-plus", "another number", lambda x, y: exp(x) + 1),
    Negative("minus-expm1", "another number", lambda x, y: 2 - exp(x)),
    Negative("1-plus-expm1", "another number", lambda x, y: 2 + expm1(x)),
    Negative("1-minus-minus-expm1", "another sign", lambda x, y: 1 - expm1(x)),
    Negative("1-plus-tanh", "another number", lambda x, y: 2 + ops.tanh(x)),
    Negative("1-minus-tanh", "the other way round", lambda x, y: ops.tanh(x) - 1),
    Negative(
        "log1p-of-minus-tanh-squared", "of others", lambda x, y: log(1 - ops.tanh(x) * ops.tanh(y))
    ),
    Negative(
        "log1p-of-minus-tanh-squared", "no logarithm", lambda x, y: 1 - ops.tanh(x) * ops.tanh(x)
    ),
    Negative("tanh", "of others", lambda x, y: (exp(x) - exp(-y)) / (exp(x) + exp(-y))),
    Negative("tanh-of-difference", "a sum", lambda x, y: (exp(x) + exp(y)) / (exp(x) + exp(y))),
    Negative(
        "tanh-of-difference", "of three", lambda x, y: (exp(x) - exp(y)) / (exp(x) + exp(x + y))
    ),
    Negative("tanh-by-expm1", "of something else", lambda x, y: expm1(x) * sigmoid(-y)),
    Negative("tanh-by-expm1", "another sign", lambda x, y: expm1(x) * sigmoid(x)),
    Negative("tanh-by-minus-expm1", "another sign", lambda x, y: -expm1(x) * sigmoid(x)),
    Negative("tanh-by-sigmoid", "another number", lambda x, y: 3 * sigmoid(x) - 1),
    Negative("tanh-by-minus-sigmoid", "another number", lambda x, y: 2 - 2 * sigmoid(x)),
    Negative("quotient-of-exponentials", "any sign above", lambda x, y: y / exp(x)),
    Negative("quotient-of-exponentials", "any sign below", lambda x, y: exp(x) / y),
    Negative(
        "quotient-of-exponentials",
        "rows over columns",
        lambda x, y: exp(ops.max(x, 1, True)) / exp(ops.max(y, 0, True)),
    ),
    Negative(
        "quotient-of-exponentials",
        "neither overflows nor vanishes",
        lambda x, y: sigmoid(x) / (1 + sigmoid(y)),
    ),
    Negative("quotient-of-exponentials", "over a constant", lambda x, y: exp(x) / 2.0),
    Negative("quotient-of-exponentials", "over an empty sum", lambda x, y: _over_an_empty_sum(x)),
    Negative("reciprocal-of-exponential", "another number", lambda x, y: 2 / exp(x)),
    Negative("reciprocal-of-exponential", "of a probability", lambda x, y: 1 / sigmoid(x)),
    Negative("over-1-plus-exp", "another number", lambda x, y: y / (2 + exp(x))),
    Negative("constant-over-exponential", "negative", lambda x, y: -0.5 / (exp(x) + exp(y))),
    Negative("weighted-softmax", "along another axis", lambda x, y: _square(x, y, 1)),
    Negative("weighted-softmax", "of others", lambda x, y: exp(x) * y / sum(exp(y) * x, 1, True)),
    Negative(
        "weighted-quotient",
        "neither overflows nor vanishes",
        lambda x, y: sigmoid(x) * y / (1 + sigmoid(x)),
    ),
    Negative("weighted-quotient", "over any sign", lambda x, y: exp(x) * y / sum(y, 1, True)),
    Negative("weighted-mean", "over another axis", lambda x, y: _mean_over(x, y, 1, 0)),
    Negative("weighted-mean", "over the other axis", lambda x, y: _mean_over(x, y, 0, 1)),
    Negative(
        "weighted-mean-by-matmul",
        "the total of the columns",
        lambda x, y: (exp(_gram(x)) @ _gram(y)) / sum(exp(_gram(x)), 0),
    ),
    Negative("over-exponential", "a probability", lambda x, y: y / sigmoid(x)),
    Negative("times-reciprocal", "no reciprocal", lambda x, y: exp(x) * exp(y)),
    Negative("times-reciprocal", "any sign", lambda x, y: y * exp(-x)),
    Negative(
        "times-reciprocal",
        "rows times columns",
        lambda x, y: exp(ops.max(x, 1, True)) * exp(-ops.max(y, 0, True)),
    ),
    Negative("power-of-exponential", "above 1", lambda x, y: exp(x) ** 3.0),
    Negative("power-of-exponential", "no exponential", lambda x, y: y**-1),
    Negative("power-of-exponential", "a probability", lambda x, y: ops.softmax(x) ** -1),
    Negative("sqrt-of-exponential", "no exponential", lambda x, y: ops.sqrt(x)),
    Negative("sqrt-of-exponential", "a probability", lambda x, y: ops.sqrt(ops.softmax(x))),
]


def _over_an_empty_sum(x: Node) -> Node:
    nothing = ops.slice(x, (0, 0), (2, 0))
    result: Node = exp(ops.max(x, 1, True)) / sum(exp(nothing), 1, True)
    return result


def _gram(x: Node) -> Node:
    return x @ ops.permute(x)


def _square(x: Node, y: Node, axis: int) -> Node:
    """Terms over the sums of their rows, lying beside the columns."""
    terms = exp(_gram(x)) * _gram(y)
    result: Node = terms / sum(terms, axis)
    return result


def _mean_over(x: Node, y: Node, above: int, below: int) -> Node:
    p = exp(_gram(x))
    result: Node = sum(p * _gram(y), above) / sum(p, below)
    return result

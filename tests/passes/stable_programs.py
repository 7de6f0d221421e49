"""The ways in which people write a stable function in primitives, and what it is in real numbers.

A family is a function of an array x with a reference in longdouble that neither overflows nor
cancels, and every way to write it. `Y`, `LABELS` and the like are constants beside x, of shape
(2, 3) as x is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from needle_ir import ops
from needle_ir.ir import Node
from needle_ir.ops import exp, log, mean, sum, where

Array = np.ndarray[Any, Any]
Program = Callable[[Node], Node]

Y = np.array([[0.25, 0.0, 1.0], [1.0, 0.5, 0.75]])
LABELS = np.array([2, 0])
HOT = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
MASK = np.array([[True, False, True], [True, True, True]])
VALUES = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])


class Family(NamedTuple):
    """`reference` gives the value in real numbers. In float32 it has one for x of at most
    `largest`, and of at most the magnitude `near`. The programs in `rounded` subtract numbers of
    the size of x, as they are written.
    """

    reference: Callable[[Array], Array]
    programs: dict[str, Program]
    largest: float = np.inf
    near: float = np.inf
    rounded: tuple[str, ...] = ()


def of(x: Node, array: Array) -> Node:
    """A constant beside x."""
    dtype = None if array.dtype.kind in "ib" else x.dtype
    return ops.as_constant(array, dtype)


# References ---------------------------------------------------------------------------------------


def logsumexp(x: Array, axis: Any = 1, keepdims: bool = False) -> Array:
    top = x.max(axis, keepdims=True)
    total = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return np.asarray(total if keepdims else total.squeeze(axis))


def log_softmax(x: Array, axis: Any = 1) -> Array:
    shifted = x - x.max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


def softmax(x: Array) -> Array:
    return np.exp(log_softmax(x))


def softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def sigmoid(x: Array) -> Array:
    return np.exp(-softplus(-x))


def log1mexp(x: Array) -> Array:
    return np.log(-np.expm1(x))


def masked(x: Array) -> Array:
    return np.where(MASK, x, -np.inf)


def cross_entropy(x: Array) -> Array:
    return -np.mean(log_softmax(x)[[0, 1], LABELS])


def binary_cross_entropy(x: Array) -> Array:
    return np.mean(Y * softplus(-x) + (1 - Y) * softplus(x))


# Programs -----------------------------------------------------------------------------------------


def flipped(x: Node) -> Node:
    return ops.slice(x, (0, 2), (2, 3), (1, -1))


def total(x: Node, keepdims: bool = True) -> Node:
    return sum(exp(x), 1, keepdims)


def top(x: Node) -> Node:
    return ops.max(x, 1, True)


def column(x: Node, shape: tuple[int, ...] = (2, 1)) -> Node:
    return ops.reshape(x, shape)


def share(x: Node) -> Node:
    return exp(x) / total(x)


def logistic(x: Node) -> Node:
    return 1 / (1 + exp(-x))


def pick(x: Node) -> Node:
    return ops.gather(x, of(x, np.arange(2)), of(x, LABELS))


def is_label(x: Node) -> Node:
    return ops.equal(of(x, LABELS[:, None]), of(x, np.arange(3)))


def mask(x: Node) -> Node:
    return of(x, MASK.astype(np.int64)) > 0


FAMILIES: dict[str, Family] = {
    "logsumexp": Family(
        logsumexp,
        {
            "naive": lambda x: log(total(x, False)),
            "mean": lambda x: log(mean(exp(x), 1)) + float(np.log(3)),
            "of two sums": lambda x: log(
                sum(exp(ops.slice(x, (0, 0), (2, 1))), 1)
                + sum(exp(ops.slice(x, (0, 1), (2, 2))), 1)
            ),
            "shifted by the largest of all": lambda x: (
                log(sum(exp(x - ops.max(x)), 1)) + ops.max(x)
            ),
            "a sum of sums": lambda x: log(sum(sum(exp(ops.reshape(x, (2, 3, 1))), 2), 1)),
            "scaled": lambda x: log(sum(exp(x) * 4.0, 1)) - float(np.log(4)),
            "through a square root": lambda x: 2 * log(ops.sqrt(total(x, False))),
            "by softplus": lambda x: _by_softplus(x),
        },
        rounded=(
            "of two sums",
            "by softplus",
        ),
    ),
    "log_softmax": Family(
        log_softmax,
        {
            "log of softmax": lambda x: log(share(x)),
            "x minus": lambda x: x - log(total(x)),
            "minus x": lambda x: -(log(total(x)) - x),
            "plus minus": lambda x: -log(total(x)) + x,
            "shifted": lambda x: (x - top(x)) - log(total(x - top(x))),
            "shifted, two steps": lambda x: x - (log(total(x - top(x))) + top(x)),
            "log of shifted": lambda x: log(exp(x - top(x)) / total(x - top(x))),
            "shifted and detached": lambda x: log(share(x - ops.stop_gradient(top(x)))),
            "not kept": lambda x: x - column(log(total(x, False))),
            "broadcast": lambda x: x - ops.broadcast_to(column(log(total(x, False))), x.shape),
            "transposed": lambda x: ops.permute(ops.permute(x) - log(sum(exp(ops.permute(x)), 0))),
            "by a reciprocal": lambda x: log(exp(x) * (1 / total(x))),
            "of an op": lambda x: log(ops.softmax(x)),
            "of a power": lambda x: 0.5 * log(share(x) ** 2),
        },
    ),
    "softmax": Family(
        softmax,
        {
            "naive": share,
            "shifted": lambda x: share(x - top(x)),
            "shifted by the largest of all": lambda x: share(x - ops.max(x)),
            "shifted and detached": lambda x: share(x - ops.stop_gradient(top(x))),
            "by a reciprocal": lambda x: exp(x) * (1 / total(x)),
            "by a power": lambda x: exp(x) * total(x) ** -1,
            "not kept": lambda x: exp(x) / column(total(x, False)),
            "broadcast": lambda x: exp(x) / ops.broadcast_to(column(total(x, False)), x.shape),
            "exp of log": lambda x: exp(x - log(total(x))),
            "of the op": lambda x: exp(x - ops.logsumexp(x, 1, True)),
            "twice": lambda x: share(log(share(x))),
            "normalized again": lambda x: share(x) / sum(share(x), 1, True),
            "exponentials detached": lambda x: exp(x) / sum(exp(x * 1.0), 1, True),
        },
    ),
    "weighted mean": Family(
        lambda x: (softmax(x) * VALUES).sum(1),
        {
            "weights first": lambda x: sum(share(x) * of(x, VALUES), 1),
            "quotient of sums": lambda x: sum(exp(x) * of(x, VALUES), 1) / total(x, False),
            "normalized last": lambda x: sum(exp(x) * of(x, VALUES) / total(x), 1),
            "shifted": lambda x: sum(exp(x - top(x)) * of(x, VALUES), 1) / total(x - top(x), False),
        },
    ),
    "weighted mean by matmul": Family(
        lambda x: softmax(x) @ VALUES.T,
        {
            "normalized first": lambda x: share(x) @ of(x, VALUES.T),
            "normalized last": lambda x: (exp(x) @ of(x, VALUES.T)) / total(x),
            "shifted": lambda x: (exp(x - top(x)) @ of(x, VALUES.T)) / total(x - top(x)),
        },
    ),
    "masked softmax": Family(
        lambda x: softmax(masked(x)),
        {
            "where before": lambda x: share(where(mask(x), x, -np.inf)),
            "where after": lambda x: _normalized(where(mask(x), exp(x), 0)),
            "times a cast": lambda x: _normalized(exp(x) * ops.cast(mask(x), x.dtype)),
            "times floats": lambda x: _normalized(exp(x) * of(x, MASK.astype(float))),
            "floats of x": lambda x: _normalized(of(x, MASK.astype(float)) * share(x)),
        },
    ),
    "masked logsumexp": Family(
        lambda x: logsumexp(masked(x)),
        {
            "where before": lambda x: log(sum(exp(where(mask(x), x, -np.inf)), 1)),
            "where after": lambda x: log(sum(where(mask(x), exp(x), 0), 1)),
            "times a cast": lambda x: log(sum(exp(x) * ops.cast(mask(x), x.dtype), 1)),
            "times floats": lambda x: log(sum(exp(x) * of(x, MASK.astype(float)), 1)),
        },
    ),
    "cross-entropy": Family(
        cross_entropy,
        {
            "softmax_loss": lambda x: ops.softmax_loss(x, of(x, LABELS)),
            "picked logits": lambda x: mean(log(total(x, False)) - pick(x)),
            "logits times one-hot": lambda x: mean(log(total(x, False)) - sum(x * of(x, HOT), 1)),
            "one-hot times log-probabilities": lambda x: -sum(of(x, HOT) * log(share(x))) / 2.0,
            "one-hot times log-softmax": lambda x: -mean(sum(of(x, HOT) * (x - log(total(x))), 1)),
            "gathered logs": lambda x: -mean(pick(log(share(x)))),
            "log of the gathered": lambda x: -mean(log(pick(share(x)))),
            "log of a gathered quotient": lambda x: -mean(log(pick(exp(x)) / total(x, False))),
            "log of probabilities times one-hot": lambda x: (
                -mean(log(sum(share(x) * of(x, HOT), 1)))
            ),
            "log of exponentials times one-hot": lambda x: (
                -mean(log(sum(exp(x) * of(x, HOT), 1) / total(x, False)))
            ),
            "where of logits": lambda x: mean(
                log(total(x, False)) - sum(where(is_label(x), x, 0), 1)
            ),
            "where of logs": lambda x: -mean(sum(where(is_label(x), log(share(x)), 0), 1)),
            "where of probabilities": lambda x: -mean(log(sum(where(is_label(x), share(x), 0), 1))),
            "where under the log": lambda x: -mean(sum(log(where(is_label(x), share(x), 1)), 1)),
            "shifted by hand": lambda x: mean(
                top(x) + log(total(x - top(x))) - ops.reshape(pick(x), (2, 1))
            ),
            "one_hot": lambda x: (
                -mean(
                    sum(ops.cast(ops.one_hot(of(x, LABELS), classes=3), x.dtype) * log(share(x)), 1)
                )
            ),
        },
        rounded=(
            "picked logits",
            "logits times one-hot",
            "log of a gathered quotient",
            "log of exponentials times one-hot",
            "where of logits",
            "shifted by hand",
        ),
    ),
    "label smoothing": Family(
        lambda x: -np.mean((0.9 * HOT + 0.1 / 3) * log_softmax(x)),
        {"by hand": lambda x: -mean((0.9 * of(x, HOT) + 0.1 / 3) * log(share(x)))},
    ),
    "entropy": Family(
        lambda x: -(softmax(x) * log_softmax(x)).sum(1),
        {"p log p": lambda x: -sum(share(x) * log(share(x)), 1)},
    ),
    "divergence": Family(
        lambda x: (softmax(x) * (log_softmax(x) - log_softmax(x[:, ::-1]))).sum(1),
        {
            "log of a quotient": lambda x: sum(share(x) * log(share(x) / share(flipped(x))), 1),
            "difference of logs": lambda x: sum(
                share(x) * (log(share(x)) - log(share(flipped(x)))), 1
            ),
        },
        rounded=("log of a quotient", "difference of logs"),
    ),
    "sharpened": Family(
        lambda x: softmax(x / 2),
        {"power": lambda x: share(x) ** 0.5 / sum(share(x) ** 0.5, 1, True)},
    ),
    "contrastive": Family(
        lambda x: softplus(logsumexp(x[:, 1:]) - x[:, 0]),
        {"one against the others": lambda x: _contrastive(x)},
        rounded=("one against the others",),
    ),
    "sigmoid": Family(
        sigmoid,
        {
            "naive": logistic,
            "by exp": lambda x: exp(x) / (1 + exp(x)),
            "by exp, the other order": lambda x: exp(x) / (exp(x) + 1),
            "power": lambda x: (1 + exp(-x)) ** -1,
            "one minus": lambda x: 1 - 1 / (1 + exp(x)),
            "one minus the other": lambda x: 1 - exp(-x) / (1 + exp(-x)),
            "by where": lambda x: where(x > 0, logistic(x), exp(x) / (1 + exp(x))),
            "of two": lambda x: exp(x + 2.0) / (exp(x + 2.0) + exp(x * 0 + 2.0)),
            "exp of log": lambda x: exp(-log(1 + exp(-x))),
        },
    ),
    "1 - sigmoid": Family(
        lambda x: sigmoid(-x),
        {
            "naive": lambda x: 1 - logistic(x),
            "of the op": lambda x: 1 - ops.sigmoid(x),
            "by exp": lambda x: 1 - exp(x) / (1 + exp(x)),
        },
    ),
    "log-sigmoid": Family(
        lambda x: -softplus(-x),
        {
            "log of sigmoid": lambda x: log(logistic(x)),
            "minus log": lambda x: -log(1 + exp(-x)),
            "minus log1p": lambda x: -ops.log1p(exp(-x)),
            "x minus": lambda x: x - log(1 + exp(x)),
            "by exp": lambda x: log(exp(x) / (1 + exp(x))),
            "one minus": lambda x: log(1 - 1 / (1 + exp(x))),
            "log1p": lambda x: ops.log1p(-(1 / (1 + exp(x)))),
            "of the op": lambda x: log(ops.sigmoid(x)),
        },
    ),
    "log(1 - sigmoid)": Family(
        lambda x: -softplus(x),
        {
            "naive": lambda x: log(1 - logistic(x)),
            "of the op": lambda x: log(1 - ops.sigmoid(x)),
            "log1p": lambda x: ops.log1p(-ops.sigmoid(x)),
            "by exp": lambda x: log(1 - exp(x) / (1 + exp(x))),
        },
    ),
    "softplus": Family(
        softplus,
        {
            "naive": lambda x: log(1 + exp(x)),
            "the other order": lambda x: log(exp(x) + 1),
            "log1p": lambda x: ops.log1p(exp(x)),
            "minus": lambda x: x + log(1 + exp(-x)),
            "minus log-sigmoid": lambda x: -log(1 / (1 + exp(x))),
            "by relu": lambda x: ops.relu(x) + log(1 + exp(-ops.abs(x))),
            "by maximum": lambda x: ops.maximum(x, 0) + ops.log1p(exp(-ops.abs(x))),
            "logaddexp": lambda x: log(exp(x) + exp(x * 0)),
        },
    ),
    "logaddexp": Family(
        lambda x: np.logaddexp(x, x[:, ::-1]),
        {
            "naive": lambda x: log(exp(x) + exp(flipped(x))),
            "the other order": lambda x: log(exp(flipped(x)) + exp(x)),
            "shifted": lambda x: _shifted_logaddexp(x, flipped(x)),
            "by the difference": lambda x: (
                ops.maximum(x, flipped(x)) + log(1 + exp(-ops.abs(x - flipped(x))))
            ),
        },
    ),
    "log cosh": Family(
        lambda x: np.logaddexp(x, -x) - np.log(2),
        {"naive": lambda x: log((exp(x) + exp(-x)) / 2)},
    ),
    "binary cross-entropy": Family(
        binary_cross_entropy,
        {
            "naive": lambda x: (
                -mean(of(x, Y) * log(logistic(x)) + (1 - of(x, Y)) * log(1 - logistic(x)))
            ),
            "softplus": lambda x: mean(log(1 + exp(x)) - x * of(x, Y)),
            "stable by hand": lambda x: mean(
                ops.maximum(x, 0) - x * of(x, Y) + log(1 + exp(-ops.abs(x)))
            ),
            "minus x": lambda x: mean(x - x * of(x, Y) + log(1 + exp(-x))),
        },
    ),
    "silu": Family(
        lambda x: x * sigmoid(x),
        {
            "quotient": lambda x: x / (1 + exp(-x)),
            "product": lambda x: x * logistic(x),
            "by exp": lambda x: x * exp(x) / (1 + exp(x)),
        },
    ),
    "tanh": Family(
        np.tanh,
        {
            "of exponentials": lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)),
            "of exp(2x)": lambda x: (exp(2 * x) - 1) / (exp(2 * x) + 1),
            "of exp(-2x)": lambda x: (1 - exp(-2 * x)) / (1 + exp(-2 * x)),
            "of sigmoid": lambda x: 2 / (1 + exp(-2 * x)) - 1,
            "one minus": lambda x: 1 - 2 / (exp(2 * x) + 1),
        },
    ),
    "hyperbolic secant": Family(
        lambda x: np.exp(np.log(2) - np.logaddexp(x, -x)),
        {"quotient": lambda x: 2 / (exp(x) + exp(-x))},
    ),
    "logistic density": Family(
        lambda x: np.exp(-softplus(x) - softplus(-x)),
        {
            "quotient": lambda x: exp(-x) / (1 + exp(-x)) ** 2,
            "product": lambda x: logistic(x) * (1 - logistic(x)),
        },
    ),
    "expm1": Family(
        np.expm1,
        {
            "naive": lambda x: exp(x) - 1,
            "minus one first": lambda x: -1 + exp(x),
            "one minus": lambda x: -(1 - exp(x)),
        },
        largest=80,
    ),
    "log1p": Family(
        lambda x: np.log1p(np.abs(x)),
        {
            "naive": lambda x: log(1 + ops.abs(x)),
            "the other order": lambda x: log(ops.abs(x) + 1),
            "one minus": lambda x: log(1 - (-ops.abs(x))),
        },
    ),
    "inverse of softplus": Family(
        lambda x: np.abs(x) + log1mexp(-np.abs(x)),
        {"naive": lambda x: log(exp(ops.abs(x)) - 1)},
    ),
    "log(1 - exp)": Family(
        lambda x: log1mexp(-np.abs(x)),
        {
            "naive": lambda x: log(1 - exp(-ops.abs(x))),
            "log1p": lambda x: ops.log1p(-exp(-ops.abs(x))),
            "expm1": lambda x: log(-ops.expm1(-ops.abs(x))),
        },
    ),
    "deviation": Family(
        lambda x: np.exp(x / 2),
        {"square root of a variance": lambda x: ops.sqrt(exp(x))},
        largest=170,
    ),
    "gaussian": Family(
        lambda x: 3 * x + 0.5 * np.exp(-x),
        {"square over a variance": lambda x: 3 * x + (of(x, VALUES) * 0 + 0.5) / exp(x)},
        near=80,
    ),
    "log(1 + tanh)": Family(
        lambda x: np.log(2) - softplus(-2 * x),
        {
            "naive": lambda x: log(1 + ops.tanh(x)),
            "log1p": lambda x: ops.log1p(ops.tanh(x)),
            "halved": lambda x: log((1 + ops.tanh(x)) / 2) + float(np.log(2)),
        },
    ),
    "log(1 - tanh^2)": Family(
        lambda x: np.log(4) - 2 * np.logaddexp(x, -x),
        {
            "square": lambda x: log(1 - ops.tanh(x) ** 2),
            "product": lambda x: log((1 - ops.tanh(x)) * (1 + ops.tanh(x))),
            "log1p": lambda x: ops.log1p(-(ops.tanh(x) ** 2)),
            "two logs": lambda x: log(1 - ops.tanh(x)) + log(1 + ops.tanh(x)),
        },
    ),
    "inverse of tanh": Family(
        lambda x: x,
        {
            "two logs": lambda x: (log(1 + ops.tanh(x)) - log(1 - ops.tanh(x))) / 2,
            "log of a quotient": lambda x: log((1 + ops.tanh(x)) / (1 - ops.tanh(x))) / 2,
            "two log1p": lambda x: (ops.log1p(ops.tanh(x)) - ops.log1p(-ops.tanh(x))) / 2,
        },
    ),
    "log of a survival": Family(
        lambda x: -np.abs(x),
        {"one minus what is gone": lambda x: log(1 - (1 - exp(-ops.abs(x))))},
    ),
    "log of a difference": Family(
        lambda x: x + log1mexp(np.asarray(-1, x.dtype)),
        {"of exponentials": lambda x: log(exp(x) - exp(x - 1.0))},
        rounded=("of exponentials",),
    ),
    "log of an interval": Family(
        lambda x: log1mexp(np.asarray(-2, x.dtype)) - softplus(-1 - x) - softplus(x - 1),
        {
            "of the op": lambda x: log(ops.sigmoid(x + 1.0) - ops.sigmoid(x - 1.0)),
            "naive": lambda x: log(logistic(x + 1.0) - logistic(x - 1.0)),
        },
        rounded=("of the op", "naive"),
    ),
    "log of a product of probabilities": Family(
        lambda x: -softplus(-x[:, 0]) - softplus(x[:, 1]) - softplus(x[:, 2]),
        {"parts": lambda x: _log_of_product(logistic(x))},
    ),
    "soft labels": Family(
        lambda x: np.logaddexp(np.log(SOFT) - softplus(-x), np.log(1 - SOFT) - softplus(x)),
        {
            "an input beside": lambda x: log(
                logistic(x) * soft(x) + (1 - logistic(x)) * (1 - soft(x))
            ),
            "a difference": lambda x: log(
                logistic(x) - (logistic(x) * (1 - soft(x)) - (1 - logistic(x)) * (1 - soft(x)))
            ),
        },
    ),
    "a product": Family(
        lambda x: np.exp(x * 0 + 1),
        {"with its reciprocal": lambda x: exp(x + 1.0) * exp(-x)},
    ),
    "a mixture": Family(
        lambda x: np.log((VALUES**2 * np.exp(x - x.max(1, keepdims=True))).sum(1)) + x.max(1),
        {"log of a weighted sum": lambda x: log(sum(of(x, VALUES**2) * exp(x), 1))},
        rounded=("log of a weighted sum",),
    ),
}


SOFT = np.array([[0.25, 0.125, 0.75], [0.875, 0.5, 0.625]])


def soft(x: Node) -> Node:
    """Weights that are no constant."""
    return of(x, SOFT) + x * 0


def _log_of_product(p: Node) -> Node:
    a, b, c = (ops.slice(p, (0, i), (2, 1)) for i in range(3))
    return ops.reshape(log(a * (1 - b) * (1 - c)), (2,))


def _by_softplus(x: Node) -> Node:
    first, rest = ops.slice(x, (0, 0), (2, 1)), ops.slice(x, (0, 1), (2, 2))
    difference = log(sum(exp(rest), 1, True)) - first
    return ops.reshape(first + log(1 + exp(difference)), (2,))


def _normalized(terms: Node) -> Node:
    result: Node = terms / sum(terms, 1, True)
    return result


def _contrastive(x: Node) -> Node:
    first = exp(ops.reshape(ops.slice(x, (0, 0), (2, 1)), (2,)))
    result: Node = -log(first / (first + sum(exp(ops.slice(x, (0, 1), (2, 2))), 1)))
    return result


def _shifted_logaddexp(x: Node, y: Node) -> Node:
    largest = ops.maximum(x, y)
    result: Node = largest + log(exp(x - largest) + exp(y - largest))
    return result

"""Kernels of the ops that are right where their definition by `exp` and `log` is not."""

from collections.abc import Callable
from math import isfinite

import numpy as np

from needle_ir.ir import Array, Node, TensorType
from needle_ir.runtime.inline import Kernel
from needle_ir.runtime.rows import Reduce, largest_of, total_of

# In a training step each look-up costs a little.
_add, _subtract, _exp = np.add.reduce, np.subtract, np.exp


def _subtrahend(x: TensorType, axes: tuple[int, ...]) -> Reduce:
    """What gives the largest element of each row, to subtract before exponentiating."""
    largest = largest_of(x, axes)

    def subtrahend(array: Array) -> Array:
        top = largest(array)
        if isfinite(_add(top, None)):  # then each of them is
            return top
        # inf - inf is NaN: where the largest element is no number to subtract, nothing is.
        return np.where(np.isfinite(top), top, top.dtype.type(0))

    return subtrahend


def make_logsumexp(node: Node) -> Kernel:
    """log(sum(exp(x - top))) + top, with the largest element of the row as top."""
    axes, (x,) = node.attrs["axes"], node.inputs
    subtrahend, total = _subtrahend(x.type, axes), total_of(x.type, axes)

    def logsumexp(x: Array, out: Array) -> None:
        top = subtrahend(x)
        result = np.log(total(np.exp(x - top))) + top
        np.copyto(out, result.reshape(out.shape))

    return logsumexp


def make_softmax(node: Node) -> Kernel:
    """exp(x - top) / sum(exp(x - top)), with the largest element of the row as top."""
    axes = node.attrs["axes"]
    subtrahend, total = _subtrahend(node.type, axes), total_of(node.type, axes)

    def softmax(x: Array, out: Array) -> None:
        if x.size:
            _subtract(x, subtrahend(x), out)
            _exp(out, out)
            np.divide(out, total(out), out)

    return softmax


def make_log_softmax(node: Node) -> Kernel:
    """(x - top) - log(sum(exp(x - top))), with the largest element of the row as top."""
    axes = node.attrs["axes"]
    subtrahend, total = _subtrahend(node.type, axes), total_of(node.type, axes)

    def log_softmax(x: Array, out: Array) -> None:
        if x.size:
            _subtract(x, subtrahend(x), out)
            _subtract(out, np.log(total(_exp(out))), out)

    return log_softmax


def _terms(node: Node) -> TensorType:
    """The type of weights * exp(x)."""
    x, weights = node.inputs
    return TensorType(np.broadcast_shapes(x.shape, weights.shape), x.dtype)


def _weighted(node: Node) -> Callable[[Array, Array], tuple[Array, Array]]:
    """What gives weights * exp(x - top), and top, the largest element of the row whose weight is
    not 0.
    """
    subtrahend = _subtrahend(_terms(node), node.attrs["axes"])

    def weighted(x: Array, weights: Array) -> tuple[Array, Array]:
        counted: Array = np.where(weights != 0, x, x.dtype.type(-np.inf))
        top = subtrahend(counted)
        return weights * np.exp(counted - top), top

    return weighted


def make_weighted_logsumexp(node: Node) -> Kernel:
    """log(sum(weights * exp(x - top))) + top."""
    weighted, total = _weighted(node), total_of(_terms(node), node.attrs["axes"])

    def weighted_logsumexp(x: Array, weights: Array, out: Array) -> None:
        terms, top = weighted(x, weights)
        result = np.log(total(terms)) + top
        np.copyto(out, result.reshape(out.shape))

    return weighted_logsumexp


def make_weighted_softmax(node: Node) -> Kernel:
    """weights * exp(x - top) / sum(weights * exp(x - top))."""
    weighted, total = _weighted(node), total_of(_terms(node), node.attrs["axes"])

    def weighted_softmax(x: Array, weights: Array, out: Array) -> None:
        if out.size:
            terms, _ = weighted(x, weights)
            np.divide(terms, total(terms), out)

    return weighted_softmax


def make_sigmoid(node: Node) -> Kernel:
    """1 / (1 + exp(-x)); exp(x) where exp(-x) overflows."""
    # There 1 + exp(x) is 1 to the last bit.
    limit = -np.floor(np.log(np.finfo(node.dtype).max))

    def sigmoid(x: Array, out: Array) -> None:
        tail = x < limit
        small = np.exp(x[tail]) if tail.any() else None
        np.negative(x, out)
        np.exp(out, out)
        np.add(out, 1, out)
        np.divide(1, out, out)
        if small is not None:
            out[tail] = small

    return sigmoid


def make_softplus(node: Node) -> Kernel:
    """max(x, 0) + log1p(exp(-|x|))."""

    def softplus(x: Array, out: Array) -> None:
        rest = np.log1p(np.exp(np.copysign(x, -1)))
        np.maximum(x, 0, out=out)
        np.add(out, rest, out)

    return softplus


def make_log1mexp(node: Node) -> Kernel:
    """log(-expm1(x)) near 0, log1p(-exp(x)) below -log(2): Mächler 2012."""

    def log1mexp(x: Array, out: Array) -> None:
        near = np.log(-np.expm1(x))
        far = np.log1p(-np.exp(x))
        np.copyto(out, np.where(x > -np.log(2), near, far))

    return log1mexp

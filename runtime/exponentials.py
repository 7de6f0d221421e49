"""Kernels of the ops that are right where their definition by `exp` and `log` is not."""

import numpy as np

from needle_ir.ir import Array, Node
from needle_ir.runtime.inline import Kernel

# The methods `max`, `sum` and `all` are Python around these, and take up to twice as long for the
# few classes of a classifier.
_max, _sum, _all = np.maximum.reduce, np.add.reduce, np.logical_and.reduce


def _largest(x: Array, axes: tuple[int, ...]) -> Array:
    """The largest element of each row, to subtract before exponentiating."""
    top: Array = _max(x, axes, keepdims=True)
    finite = np.isfinite(top)
    # inf - inf is NaN: where the largest element is no number to subtract, nothing is.
    return top if _all(finite, None) else np.where(finite, top, top.dtype.type(0))


def make_logsumexp(node: Node) -> Kernel:
    """log(sum(exp(x - top))) + top, with the largest element of the row as top."""
    axes = node.attrs["axes"]

    def logsumexp(x: Array, out: Array) -> None:
        top = _largest(x, axes)
        total = np.log(_sum(np.exp(x - top), axes, keepdims=True)) + top
        np.copyto(out, total.reshape(out.shape))

    return logsumexp


def make_softmax(node: Node) -> Kernel:
    """exp(x - top) / sum(exp(x - top)), with the largest element of the row as top."""
    axes = node.attrs["axes"]

    def softmax(x: Array, out: Array) -> None:
        if x.size:
            np.subtract(x, _largest(x, axes), out)
            np.exp(out, out)
            np.divide(out, _sum(out, axes, keepdims=True), out)

    return softmax


def make_log_softmax(node: Node) -> Kernel:
    """(x - top) - log(sum(exp(x - top))), with the largest element of the row as top."""
    axes = node.attrs["axes"]

    def log_softmax(x: Array, out: Array) -> None:
        if x.size:
            np.subtract(x, _largest(x, axes), out)
            np.subtract(out, np.log(_sum(np.exp(out), axes, keepdims=True)), out)

    return log_softmax


def _weighted(x: Array, weights: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """weights * exp(x - top), and top, the largest element of the row whose weight is not 0."""
    counted: Array = np.where(weights != 0, x, x.dtype.type(-np.inf))
    top = _largest(counted, axes)
    return weights * np.exp(counted - top), top


def make_weighted_logsumexp(node: Node) -> Kernel:
    """log(sum(weights * exp(x - top))) + top."""
    axes = node.attrs["axes"]

    def weighted_logsumexp(x: Array, weights: Array, out: Array) -> None:
        terms, top = _weighted(x, weights, axes)
        total = np.log(terms.sum(axes, keepdims=True)) + top
        np.copyto(out, total.reshape(out.shape))

    return weighted_logsumexp


def make_weighted_softmax(node: Node) -> Kernel:
    """weights * exp(x - top) / sum(weights * exp(x - top))."""
    axes = node.attrs["axes"]

    def weighted_softmax(x: Array, weights: Array, out: Array) -> None:
        if out.size:
            terms, _ = _weighted(x, weights, axes)
            np.divide(terms, terms.sum(axes, keepdims=True), out)

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

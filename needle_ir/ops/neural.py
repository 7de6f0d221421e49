"""Composites of neural networks: layers, normalizations, the softmax loss."""

import numpy as np

from needle_ir.ir import Node, ShapeError
from needle_ir.ops.build import as_constant
from needle_ir.ops.composite import composite
from needle_ir.ops.elementwise import cast, equal, sqrt, where
from needle_ir.ops.exponentials import log_softmax
from needle_ir.ops.linalg import matmul
from needle_ir.ops.reduction import mean, sum, var
from needle_ir.ops.shape import expand_dims, sum_to
from needle_ir.ops.updates import moving_average


@composite()
def linear(x: Node, weight: Node, bias: Node) -> Node:
    """x @ weight + bias: (…, n) and (n, m) give (…, m)."""
    product: Node = matmul(x, weight)
    return product + bias


def _center(x: Node, axis: int) -> Node:
    return x - mean(x, axis, keepdims=True)


def _scale(x: Node, axis: int, eps: float) -> Node:
    """The reciprocal of the deviation of x along `axis`."""
    return 1.0 / sqrt(var(x, axis, keepdims=True) + eps)


def _standardize(x: Node, axis: int, eps: float) -> tuple[Node, Node]:
    """x with mean 0 and variance 1 along `axis`, and the reciprocal of its deviation."""
    scale = _scale(x, axis, eps)
    return _center(x, axis) * scale, scale


def _norm_vjp(
    ct: Node, x: Node, weight: Node, bias: Node, axis: int, eps: float
) -> tuple[Node, ...]:
    """The derivative of weight * standardize(x) + bias, as in Ioffe and Szegedy 2015, section 3."""
    normal, scale = _standardize(x, axis, eps)
    ct_normal = ct * weight
    inner = (
        ct_normal
        - mean(ct_normal, axis, keepdims=True)
        - normal * mean(ct_normal * normal, axis, keepdims=True)
    )
    cts = (inner * scale, sum_to(ct * normal, weight.shape), sum_to(ct, bias.shape))
    return _cast_to(cts, (x, weight, bias))


def _cast_to(cts: tuple[Node, ...], operands: tuple[Node, ...]) -> tuple[Node, ...]:
    """Cotangents in the dtypes of their operands, which may differ from each other."""
    pairs = zip(cts, operands, strict=True)
    return tuple([ct if ct.dtype == x.dtype else cast(ct, x.dtype) for ct, x in pairs])


def _batch_norm_vjp(
    ct: Node, out: Node, x: Node, weight: Node, bias: Node, *, eps: float
) -> tuple[Node, ...]:
    # Here the two means are the gradients of bias and weight divided by the batch size: one
    # reduction each serves both.
    centered, scale = _center(x, 0), _scale(x, 0, eps)
    ct_weight, ct_bias = sum(ct * centered, 0) * sum_to(scale, weight.shape), sum(ct, 0)
    count = x.shape[0]
    inner = ct - ct_bias / count - centered * (scale * (ct_weight / count))
    return _cast_to((inner * (weight * scale), ct_weight, ct_bias), (x, weight, bias))


@composite(vjp=_batch_norm_vjp)
def batch_norm(x: Node, weight: Node, bias: Node, *, eps: float) -> Node:
    """Batch normalization of (n, d) over its rows, in training (Ioffe and Szegedy 2015).

    The variance divides by n. `weight` and `bias` have the shape (d,).
    """
    _require_features("batch_norm", x, weight, bias)
    return _center(x, 0) * (_scale(x, 0, eps) * weight) + bias


@composite()
def running_mean(average: Node, x: Node, *, beta: float) -> Node:
    """beta * average + (1 - beta) * the mean of x, (n, d), over its rows; `average` is (d,)."""
    return moving_average(average, sum_to(mean(x, 0, keepdims=True), x.shape[1:]), beta=beta)


@composite()
def running_variance(average: Node, x: Node, *, beta: float) -> Node:
    """beta * average + (1 - beta) * the variance of x, (n, d), over its rows.

    The variance divides by n. `average` is (d,).
    """
    return moving_average(average, sum_to(var(x, 0, keepdims=True), x.shape[1:]), beta=beta)


@composite()
def batch_norm_inference(
    x: Node, weight: Node, bias: Node, running_mean: Node, running_var: Node, *, eps: float
) -> Node:
    """Batch normalization of (n, d) by running statistics of the shape (d,)."""
    _require_features("batch_norm", x, weight, bias)
    return (x - running_mean) / sqrt(running_var + eps) * weight + bias


def _layer_norm_vjp(
    ct: Node, out: Node, x: Node, weight: Node, bias: Node, *, eps: float
) -> tuple[Node, ...]:
    return _norm_vjp(ct, x, weight, bias, -1, eps)


@composite(vjp=_layer_norm_vjp)
def layer_norm(x: Node, weight: Node, bias: Node, *, eps: float) -> Node:
    """Layer normalization over the last axis (Ba, Kiros and Hinton 2016)."""
    if x.shape[-1:] != weight.shape or weight.shape != bias.shape:
        raise ShapeError(
            f"layer_norm over {x.shape[-1:]} features needs weight and bias of that shape, "
            f"not {weight.shape} and {bias.shape}"
        )
    return _standardize(x, -1, eps)[0] * weight + bias


@composite()
def dropout(x: Node, keep: Node, *, p: float) -> Node:
    """x where the boolean `keep` holds, 0 elsewhere, divided by 1 - p (Srivastava et al. 2014)."""
    return x * (cast(keep, x.dtype) / (1.0 - p))


@composite()
def one_hot(labels: Node, *, classes: int) -> Node:
    """Labels (…) as rows (…, classes) of float32 with a 1 at the label and 0 elsewhere."""
    return cast(_is_label(labels, classes), np.float32)


def _is_label(labels: Node, classes: int) -> Node:
    """Booleans (…, classes): whether the class is the label."""
    return equal(expand_dims(labels, (len(labels.shape),)), as_constant(np.arange(classes)))


@composite()
def softmax_loss(logits: Node, labels: Node) -> Node:
    """The mean over rows of -log_softmax(logits)[label]; logits (n, k), labels (n,)."""
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1]:
        raise ShapeError(
            "softmax_loss takes logits of shape (n, k) and labels of shape (n,), "
            f"not {logits.shape} and {labels.shape}"
        )
    # A product with 0 and 1 would be NaN where a logit beside the label is -inf: a masked class.
    picked = where(_is_label(labels, logits.shape[1]), log_softmax(logits, 1), 0)
    return -mean(sum(picked, 1))


def _require_features(name: str, x: Node, weight: Node, bias: Node) -> None:
    if len(x.shape) != 2 or x.shape[1:] != weight.shape or weight.shape != bias.shape:
        raise ShapeError(
            f"{name} takes x of shape (n, {weight.shape[0] if weight.shape else 'd'}), "
            f"weight and bias of one shape (d,), not {x.shape}, {weight.shape} and {bias.shape}"
        )

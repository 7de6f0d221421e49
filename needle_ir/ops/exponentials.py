"""Ops that are right where their definition by `exp` and `log` overflows, cancels or gives NaN.

Over axes: logsumexp, softmax, log_softmax, and two of them with weights. Elementwise: sigmoid,
softplus, logaddexp, log1mexp.
Their derivatives are made of each other, so that they are right to every order.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from needle_ir.ir import Node, Op, Promotion, ShapeError, TensorType, Trait
from needle_ir.ops.build import apply
from needle_ir.ops.elementwise import equal, exp, not_equal, where
from needle_ir.ops.reduction import Axes, kept_type, normalize_reduction, sum
from needle_ir.ops.shape import broadcast_shapes, broadcast_to, expand_dims, normalize_axes, sum_to

# Over axes ----------------------------------------------------------------------------------------


def _logsumexp_type(x: TensorType, *, axes: Axes, keepdims: bool) -> TensorType:
    if prod([x.shape[axis] for axis in axes]) == 0:
        raise ShapeError("there is no logsumexp of no elements")
    return kept_type(x, axes=axes, keepdims=keepdims)


def _logsumexp_vjp(ct: Node, out: Node, x: Node, *, axes: Axes, keepdims: bool) -> tuple[Node]:
    # The derivative is the softmax. For a row of all -inf that would be NaN; it counts as 0. The
    # row is taken out before and not after, so that no derivative of this one is NaN either.
    if not keepdims:
        ct, out = expand_dims(ct, axes), expand_dims(out, axes)
    live = not_equal(out, -np.inf)
    return (where(live, ct, 0) * softmax(where(live, x, 0), axes),)


def _softmax_attrs(x: TensorType, *, axes: int | Sequence[int] | None) -> dict[str, Axes]:
    return {"axes": normalize_axes(axes, x.ndim)}


def _same_type(x: TensorType, **attrs: Any) -> TensorType:
    return x


def _softmax_vjp(ct: Node, out: Node, x: Node, *, axes: Axes) -> tuple[Node]:
    return (out * (ct - sum(ct * out, axes, keepdims=True)),)


def _log_softmax_vjp(ct: Node, out: Node, x: Node, *, axes: Axes) -> tuple[Node]:
    # Where x is -inf its softmax is 0, also in a row of all -inf, where `out` is NaN.
    probabilities = exp(where(equal(x, -np.inf), -np.inf, out))
    return (ct - probabilities * sum(ct, axes, keepdims=True),)


LOGSUMEXP = Op(
    name="logsumexp",
    infer=_logsumexp_type,
    normalize=normalize_reduction,
    traits=frozenset({Trait.REDUCTION}),
    promotion=Promotion.FLOAT,
    vjp=_logsumexp_vjp,
)
SOFTMAX = Op(
    name="softmax",
    infer=_same_type,
    normalize=_softmax_attrs,
    traits=frozenset({Trait.ROWWISE}),
    promotion=Promotion.FLOAT,
    vjp=_softmax_vjp,
)
LOG_SOFTMAX = Op(
    name="log_softmax",
    infer=_same_type,
    normalize=_softmax_attrs,
    traits=frozenset({Trait.ROWWISE}),
    promotion=Promotion.FLOAT,
    vjp=_log_softmax_vjp,
)


def logsumexp(x: Any, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over `axes`, computed with the largest element subtracted first.

    All -inf gives -inf with the gradient 0; a +inf gives +inf; NaN gives NaN.
    """
    return apply(LOGSUMEXP, x, axes=axes, keepdims=keepdims)


def softmax(x: Any, axes: int | Sequence[int] | None = -1) -> Any:
    """exp(x) / sum(exp(x)) over `axes`, the last one by default, over all where None.

    A row of all -inf gives NaN, as 0 / 0 does; so does a +inf, at its own place.
    """
    return apply(SOFTMAX, x, axes=axes)


def log_softmax(x: Any, axes: int | Sequence[int] | None = -1) -> Any:
    """log(softmax(x)) over `axes`, the last one by default, over all where None.

    A row of all -inf gives NaN, with the softmax counted as 0 in the gradient.
    """
    return apply(LOG_SOFTMAX, x, axes=axes)


# With weights of any sign: sum(weights * exp(x)) in the place of sum(exp(x)) ----------------------


def _both(x: TensorType, weights: TensorType) -> TensorType:
    return TensorType(broadcast_shapes(x.shape, weights.shape), x.dtype)


def _weighted_logsumexp_vjp(
    ct: Node, out: Node, x: Node, weights: Node, *, axes: Axes, keepdims: bool
) -> tuple[Node, Node]:
    if not keepdims:
        ct, out = expand_dims(ct, axes), expand_dims(out, axes)
    live = not_equal(out, -np.inf)
    shares = weighted_softmax(where(live, x, 0), where(live, weights, 1), axes)
    ct_weights = broadcast_to(ct * exp(x - out), shares.shape)
    return sum_to(where(live, ct, 0) * shares, x.shape), sum_to(ct_weights, weights.shape)


def _weighted_softmax_vjp(
    ct: Node, out: Node, x: Node, weights: Node, *, axes: Axes
) -> tuple[Node, Node]:
    inner = ct - sum(ct * out, axes, keepdims=True)
    ct_weights = inner * exp(x - weighted_logsumexp(x, weights, axes, True))
    return sum_to(out * inner, x.shape), sum_to(ct_weights, weights.shape)


WEIGHTED_LOGSUMEXP = Op(
    name="weighted_logsumexp",
    infer=lambda x, weights, **attrs: _logsumexp_type(_both(x, weights), **attrs),
    normalize=lambda x, weights, **attrs: normalize_reduction(_both(x, weights), **attrs),
    traits=frozenset({Trait.ROWWISE}),
    promotion=Promotion.FLOAT,
    vjp=_weighted_logsumexp_vjp,
)
WEIGHTED_SOFTMAX = Op(
    name="weighted_softmax",
    infer=lambda x, weights, **attrs: _both(x, weights),
    normalize=lambda x, weights, **attrs: _softmax_attrs(_both(x, weights), **attrs),
    traits=frozenset({Trait.ROWWISE}),
    promotion=Promotion.FLOAT,
    vjp=_weighted_softmax_vjp,
)


def weighted_logsumexp(
    x: Any, weights: Any, axes: int | Sequence[int] | None = None, keepdims: bool = False
) -> Any:
    """log(sum(weights * exp(x))) over `axes`, as scipy.special.logsumexp(x, b=weights).

    Where a weight is 0, x does not count, whatever it is. No weights but 0 give -inf, with the
    gradient 0 for x; a negative sum gives NaN.
    """
    return apply(WEIGHTED_LOGSUMEXP, x, weights, axes=axes, keepdims=keepdims)


def weighted_softmax(x: Any, weights: Any, axes: int | Sequence[int] | None = -1) -> Any:
    """weights * exp(x) / sum(weights * exp(x)) over `axes`. Where a weight is 0, so is it."""
    return apply(WEIGHTED_SOFTMAX, x, weights, axes=axes)


# Elementwise --------------------------------------------------------------------------------------


def _unary(name: str, vjp: Callable[[Node, Node, Node], Node]) -> Op:
    return Op(
        name=name,
        infer=_same_type,
        traits=frozenset({Trait.ELEMENTWISE}),
        promotion=Promotion.FLOAT,
        vjp=lambda ct, out, x: (vjp(ct, out, x),),
    )


def _logaddexp_type(a: TensorType, b: TensorType) -> TensorType:
    return TensorType(broadcast_shapes(a.shape, b.shape), a.dtype)


def _logaddexp_vjp(ct: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    # As in logsumexp: where both are -inf, the derivative counts as 0.
    live = not_equal(out, -np.inf)
    ct, difference = where(live, ct, 0), where(live, a, 0) - where(live, b, 0)
    return sum_to(ct * sigmoid(difference), a.shape), sum_to(ct * sigmoid(-difference), b.shape)


# 1 - sigmoid(x) would cancel where sigmoid(x) is almost 1.
SIGMOID = _unary("sigmoid", lambda ct, out, x: ct * (out * sigmoid(-x)))
SOFTPLUS = _unary("softplus", lambda ct, out, x: ct * sigmoid(x))
LOG1MEXP = _unary("log1mexp", lambda ct, out, x: -ct * exp(x - out))
LOGADDEXP = Op(
    name="logaddexp",
    infer=_logaddexp_type,
    traits=frozenset({Trait.ELEMENTWISE, Trait.COMMUTATIVE}),
    promotion=Promotion.FLOAT,
    vjp=_logaddexp_vjp,
)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), the logistic function."""
    return apply(SIGMOID, x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return apply(SOFTPLUS, x)


def logaddexp(a: Any, b: Any) -> Any:
    """log(exp(a) + exp(b)). Where both are -inf it is -inf with the gradient 0."""
    return apply(LOGADDEXP, a, b)


def log1mexp(x: Any) -> Any:
    """log(1 - exp(x)), for x up to 0: NaN above. As in Mächler 2012, "Accurately computing
    log(1 - exp(-|a|))".
    """
    return apply(LOG1MEXP, x)

"""Reductions: sum, max, min; mean and var, which are made of them."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from needle_ir.ir import Node, Op, ShapeError, TensorType, Trait, capture_origin
from needle_ir.ops.build import apply
from needle_ir.ops.elementwise import cast, equal, greater, less, logical_not
from needle_ir.ops.shape import broadcast_to, expand_dims, normalize_axes

Axes = tuple[int, ...]


def normalize_reduction(
    x: TensorType, *, axes: int | Sequence[int] | None, keepdims: bool
) -> dict[str, Any]:
    """The attributes of a reduction in normal form."""
    return {"axes": normalize_axes(axes, x.ndim), "keepdims": bool(keepdims)}


def kept_type(x: TensorType, *, axes: Axes, keepdims: bool) -> TensorType:
    """x's type with the axes `axes` folded away, or kept with the length 1."""
    if keepdims:
        shape = tuple([1 if i in axes else dim for i, dim in enumerate(x.shape)])
    else:
        shape = tuple([dim for i, dim in enumerate(x.shape) if i not in axes])
    return TensorType(shape, x.dtype)


def _sum_type(x: TensorType, *, axes: Axes, keepdims: bool) -> TensorType:
    # As NumPy: small integers and bools are summed as the platform's integer.
    dtype = np.result_type(x.dtype, np.uint64 if x.dtype.kind == "u" else np.int64)
    result = kept_type(x, axes=axes, keepdims=keepdims)
    return result if x.dtype.kind == "f" else TensorType(result.shape, dtype)


def _extremum_type(x: TensorType, *, axes: Axes, keepdims: bool) -> TensorType:
    if prod([x.shape[axis] for axis in axes]) == 0:
        raise ShapeError("there is no largest or smallest of no elements")
    return kept_type(x, axes=axes, keepdims=keepdims)


def _kept(x: Node, axes: Axes, keepdims: bool) -> Node:
    return x if keepdims else expand_dims(x, axes)


def _sum_vjp(ct: Node, out: Node, x: Node, *, axes: Axes, keepdims: bool) -> tuple[Node]:
    return (broadcast_to(_kept(ct, axes, keepdims), x.shape),)


def _extremum_vjp(ct: Node, out: Node, x: Node, *, axes: Axes, keepdims: bool) -> tuple[Node]:
    hit = cast(equal(x, _kept(out, axes, keepdims)), x.dtype)
    return (_kept(ct, axes, keepdims) * hit / sum(hit, axes, keepdims=True),)


def _reduction(
    name: str,
    infer: Callable[..., TensorType],
    vjp: Callable[..., tuple[Node]],
    selects: Callable[..., tuple[Node]] | None = None,
) -> Op:
    return Op(
        name=name,
        infer=infer,
        normalize=normalize_reduction,
        traits=frozenset({Trait.REDUCTION}),
        vjp=vjp,
        selects=selects,
    )


def _is_largest(out: Node, x: Node, *, axes: Axes, keepdims: bool) -> tuple[Node]:
    return (logical_not(less(x, _kept(out, axes, keepdims))),)


def _is_smallest(out: Node, x: Node, *, axes: Axes, keepdims: bool) -> tuple[Node]:
    return (logical_not(greater(x, _kept(out, axes, keepdims))),)


SUM = _reduction("sum", _sum_type, _sum_vjp)
MAX = _reduction("max", _extremum_type, _extremum_vjp, _is_largest)
MIN = _reduction("min", _extremum_type, _extremum_vjp, _is_smallest)


def sum(x: Any, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """The sum over `axes`, over all axes where None."""
    return apply(SUM, x, axes=axes, keepdims=keepdims)


def max(x: Any, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """The largest element over `axes`; NaN where one is NaN. Ties share the gradient equally."""
    return apply(MAX, x, axes=axes, keepdims=keepdims)


def min(x: Any, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """The smallest element over `axes`; NaN where one is NaN. Ties share the gradient equally."""
    return apply(MIN, x, axes=axes, keepdims=keepdims)


def mean(x: Any, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """The arithmetic mean over `axes`, over all axes where None."""
    count = _count("mean", x, axes)
    return sum(x, axes, keepdims) / count


def var(x: Any, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Any:
    """The variance over `axes`, over all axes where None. It divides by the number of elements."""
    count = _count("var", x, axes)
    centered = x - sum(x, axes, keepdims=True) / count
    return sum(centered * centered, axes, keepdims) / count


def _count(op: str, x: Any, axes: int | Sequence[int] | None) -> int:
    """How many elements are folded into one. Raises ShapeError for axes that are not there."""
    try:
        return prod([x.shape[axis] for axis in normalize_axes(axes, len(x.shape))])
    except ShapeError as error:
        reason = f"{op} of shape {tuple(x.shape)}: {error.reason}"
        raise ShapeError(reason, capture_origin()) from None

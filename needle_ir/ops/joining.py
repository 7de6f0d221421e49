"""Arrays put together: concatenate."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from needle_ir.ir import DTypeError, Node, Op, Promotion, ShapeError, TensorType, capture_origin
from needle_ir.ops.build import apply
from needle_ir.ops.indexing import slice
from needle_ir.ops.shape import normalize_axes, reshape


def _normalize_axis(axis: int, ndim: int) -> int:
    if not isinstance(axis, int | np.integer):
        raise ShapeError(f"the axis is one integer, not {axis!r}")
    return normalize_axes(axis, ndim)[0]


def _concatenate_attrs(*xs: TensorType, axis: int) -> dict[str, int]:
    return {"axis": _normalize_axis(axis, xs[0].ndim)}


def _concatenate_type(*xs: TensorType, axis: int) -> TensorType:
    first = xs[0].shape
    for x in xs[1:]:
        if x.ndim != len(first) or any(x.shape[i] != first[i] for i in range(x.ndim) if i != axis):
            raise ShapeError(f"shapes {first} and {x.shape} differ beside axis {axis}")
    total = sum(x.shape[axis] for x in xs)
    return TensorType((*first[:axis], total, *first[axis + 1 :]), xs[0].dtype)


def _concatenate_vjp(ct: Node, out: Node, *xs: Node, axis: int) -> tuple[Node, ...]:
    parts = []
    start = 0
    for x in xs:
        starts = [0] * len(x.shape)
        starts[axis] = start
        parts.append(slice(ct, starts, x.shape))
        start += x.shape[axis]
    return tuple(parts)


CONCATENATE = Op(
    name="concatenate",
    infer=_concatenate_type,
    normalize=_concatenate_attrs,
    promotion=Promotion.COMMON,
    vjp=_concatenate_vjp,
)


def concatenate(xs: Iterable[Any], axis: int = 0) -> Any:
    """The tensors one after the other along an axis that they all have."""
    tensors = tuple(xs)
    if not tensors:
        raise ShapeError("concatenate needs one tensor at least")
    return apply(CONCATENATE, *tensors, axis=axis)


def stack(xs: Iterable[Any], axis: int = 0) -> Any:
    """The tensors, all of one shape, one after the other along a new axis."""
    tensors = tuple(xs)
    for x in tensors:
        if not hasattr(x, "shape"):
            raise DTypeError(f"stack: an operand of type {type(x).__name__} is no tensor or array")
    shapes = {tuple(x.shape) for x in tensors}
    if len(shapes) != 1:
        raise ShapeError(f"stack needs tensors of one shape, not {sorted(shapes)}")
    shape = next(iter(shapes))
    try:
        at = _normalize_axis(axis, len(shape) + 1)
    except ShapeError as error:
        raise ShapeError(f"stack: {error.reason}", capture_origin()) from None
    longer = (*shape[:at], 1, *shape[at:])
    parts = [
        x.reshape(longer) if isinstance(x, np.ndarray) else reshape(x, longer) for x in tensors
    ]
    return concatenate(parts, at)

"""Ops that move elements and compute nothing: reshape, transpose, broadcast_to."""

from collections.abc import Sequence
from math import prod
from operator import index
from typing import Any

import numpy as np

from needle_ir.ir import Node, Op, ShapeError, TensorType, Trait
from needle_ir.ops.build import apply

VIEW = frozenset({Trait.VIEW})


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `shapes` broadcast to as in NumPy. Raises ShapeError where they do not."""
    result = shapes[0]
    for shape in shapes[1:]:
        if shape != result:
            result = _broadcast_two(result, shape)
    return result


def _broadcast_two(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    short, long = sorted((a, b), key=len)
    lead = len(long) - len(short)
    dims = list(long)
    for i, dim in enumerate(short, start=lead):
        if dims[i] == 1:
            dims[i] = dim
        elif dim not in (1, dims[i]):
            raise ShapeError(
                f"shapes {a} and {b} do not broadcast: aligned at the right, "
                f"{dims[i]} and {dim} differ and neither is 1"
            )
    return tuple(dims)


def normalize_axes(axes: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Axes in ascending order, counted from 0; None means all. Raises ShapeError for bad ones."""
    if axes is None:
        return tuple(range(ndim))
    given = integers((axes,) if isinstance(axes, int | np.integer) else axes)
    for axis in given:
        if not -ndim <= axis < ndim:
            raise ShapeError(f"axis {axis} is out of range for {ndim} axes")
    result = sorted(axis % ndim for axis in given)
    if len(set(result)) != len(result):
        raise ShapeError(f"axes {given} name an axis twice")
    return tuple(result)


def as_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` as a tuple of Python's ints. Raises ShapeError for lengths below 0 or not whole."""
    dims = integers(shape)
    if any(dim < 0 for dim in dims):
        raise ShapeError(f"shape {dims} has a length below 0")
    return dims


def integers(values: Sequence[int]) -> tuple[int, ...]:
    """`values` as plain ints. Raises ShapeError for anything that is no integer."""
    try:
        return tuple([int(index(value)) for value in values])
    except TypeError:
        raise ShapeError(f"integers are needed, not {values!r}") from None


# reshape -----------------------------------------------------------------------------------------


def _reshape_attrs(x: TensorType, *, shape: Sequence[int]) -> dict[str, Any]:
    dims = integers(shape)
    if dims.count(-1) == 1 and all(dim >= 0 for dim in dims if dim != -1):
        known = prod(dim for dim in dims if dim != -1)
        if known == 0 or x.size % known:
            raise ShapeError(f"{x.size} elements do not fill the shape {dims}")
        dims = tuple(x.size // known if dim == -1 else dim for dim in dims)
    if any(dim < 0 for dim in dims) or prod(dims) != x.size:
        raise ShapeError(f"{x.size} elements do not fill the shape {dims}")
    return {"shape": dims}


def _reshape_type(x: TensorType, *, shape: tuple[int, ...]) -> TensorType:
    return TensorType(shape, x.dtype)


def _reshape_vjp(ct: Node, out: Node, x: Node, *, shape: tuple[int, ...]) -> tuple[Node]:
    return (reshape(ct, x.shape),)


RESHAPE = Op(
    name="reshape",
    infer=_reshape_type,
    normalize=_reshape_attrs,
    traits=VIEW | {Trait.DENSE},
    vjp=_reshape_vjp,
)


def reshape(x: Any, shape: Sequence[int]) -> Any:
    """x with another shape and the same elements in row-major order. One -1 is worked out."""
    return apply(RESHAPE, x, shape=shape)


# transpose ---------------------------------------------------------------------------------------


def _transpose_attrs(x: TensorType, *, permutation: Sequence[int] | None) -> dict[str, Any]:
    if permutation is None:
        permutation = range(x.ndim - 1, -1, -1)
    axes = integers(permutation)
    result = tuple(axis % x.ndim if -x.ndim <= axis < x.ndim else axis for axis in axes)
    if sorted(result) != list(range(x.ndim)):
        raise ShapeError(f"{axes} is no permutation of the {x.ndim} axes")
    return {"permutation": result}


def _transpose_type(x: TensorType, *, permutation: tuple[int, ...]) -> TensorType:
    return TensorType(tuple([x.shape[axis] for axis in permutation]), x.dtype)


def _transpose_vjp(ct: Node, out: Node, x: Node, *, permutation: tuple[int, ...]) -> tuple[Node]:
    inverse = sorted(range(len(permutation)), key=permutation.__getitem__)
    return (permute(ct, inverse),)


TRANSPOSE = Op(
    name="transpose",
    infer=_transpose_type,
    normalize=_transpose_attrs,
    traits=VIEW,
    vjp=_transpose_vjp,
)


def permute(x: Any, permutation: Sequence[int] | None = None) -> Any:
    """x with its axes in the order `permutation`; None reverses them. As numpy.transpose."""
    return apply(TRANSPOSE, x, permutation=permutation)


# broadcast_to ------------------------------------------------------------------------------------


def _broadcast_attrs(x: TensorType, *, shape: Sequence[int]) -> dict[str, Any]:
    return {"shape": as_shape(shape)}


def _broadcast_type(x: TensorType, *, shape: tuple[int, ...]) -> TensorType:
    if broadcast_shapes(x.shape, shape) != shape:
        raise ShapeError(f"shape {x.shape} does not broadcast to {shape}")
    return TensorType(shape, x.dtype)


def _broadcast_vjp(ct: Node, out: Node, x: Node, *, shape: tuple[int, ...]) -> tuple[Node]:
    return (sum_to(ct, x.shape),)


BROADCAST_TO = Op(
    name="broadcast_to",
    infer=_broadcast_type,
    normalize=_broadcast_attrs,
    traits=VIEW,
    vjp=_broadcast_vjp,
)


def broadcast_to(x: Any, shape: Sequence[int]) -> Any:
    """x repeated along its axes of length 1, and new leading ones, to `shape`."""
    return apply(BROADCAST_TO, x, shape=shape)


def sum_to(x: Node, shape: tuple[int, ...]) -> Node:
    """The transpose of broadcasting `shape` to x's shape: x summed over the repeated axes."""
    from needle_ir.ops.reduction import sum

    if x.shape == shape:
        return x
    lead = len(x.shape) - len(shape)
    stretched = [lead + i for i, dim in enumerate(shape) if dim == 1 and x.shape[lead + i] != 1]
    if stretched and not lead:
        result: Node = sum(x, stretched, keepdims=True)
        return result
    # An axis of length 1 has nothing to add up: the reshape takes it off.
    axes = (*[i for i in range(lead) if x.shape[i] != 1], *stretched)
    summed = sum(x, axes) if axes else x
    return summed if summed.shape == shape else reshape(summed, shape)


def expand_dims(x: Node, axes: tuple[int, ...]) -> Node:
    """x with an axis of length 1 put in at each of the result's positions `axes`."""
    dims = list(x.shape)
    for axis in axes:
        dims.insert(axis, 1)
    return reshape(x, dims)

"""Ops that read and write parts of an array: slice, gather, and the transpose of each."""

from collections.abc import Sequence
from typing import Any

from needle_ir.ir import DTypeError, Node, Op, ShapeError, TensorType, Trait
from needle_ir.ops.build import apply
from needle_ir.ops.shape import broadcast_shapes, integers

Ints = tuple[int, ...]

# slice and its transpose -------------------------------------------------------------------------


def _check_bounds(shape: Ints, starts: Ints, lengths: Ints, steps: Ints) -> None:
    if not len(starts) == len(lengths) == len(steps) == len(shape):
        raise ShapeError(f"{len(shape)} axes need as many starts, lengths and steps")
    for axis, (start, length, step) in enumerate(zip(starts, lengths, steps, strict=True)):
        last = start + (length - 1) * step
        if step == 0 or length < 0:
            raise ShapeError(f"length {length} in steps of {step} is no slice")
        if length and not (0 <= start < shape[axis] and 0 <= last < shape[axis]):
            raise ShapeError(f"elements {start} … {last} of an axis of length {shape[axis]}")


def _integer_attrs(*operands: TensorType, **attrs: Sequence[int]) -> dict[str, Ints]:
    return {name: integers(values) for name, values in attrs.items()}


def _slice_type(x: TensorType, *, starts: Ints, lengths: Ints, steps: Ints) -> TensorType:
    _check_bounds(x.shape, starts, lengths, steps)
    return TensorType(lengths, x.dtype)


def _slice_vjp(
    ct: Node, out: Node, x: Node, *, starts: Ints, lengths: Ints, steps: Ints
) -> tuple[Node]:
    return (apply(UNSLICE, ct, shape=x.shape, starts=starts, steps=steps),)


def _unslice_type(x: TensorType, *, shape: Ints, starts: Ints, steps: Ints) -> TensorType:
    _check_bounds(shape, starts, x.shape, steps)
    return TensorType(shape, x.dtype)


def _unslice_vjp(
    ct: Node, out: Node, x: Node, *, shape: Ints, starts: Ints, steps: Ints
) -> tuple[Node]:
    return (slice(ct, starts, x.shape, steps),)


SLICE = Op(
    name="slice",
    infer=_slice_type,
    normalize=_integer_attrs,
    traits=frozenset({Trait.VIEW}),
    vjp=_slice_vjp,
)
UNSLICE = Op(name="unslice", infer=_unslice_type, normalize=_integer_attrs, vjp=_unslice_vjp)


def slice(
    x: Any, starts: Sequence[int], lengths: Sequence[int], steps: Sequence[int] | None = None
) -> Any:
    """Per axis, `lengths` elements of x from `starts` on, in `steps`, which may be negative."""
    strides = (1,) * len(starts) if steps is None else steps
    return apply(SLICE, x, starts=starts, lengths=lengths, steps=strides)


def unslice(x: Any, shape: Sequence[int], starts: Sequence[int], steps: Sequence[int]) -> Any:
    """Zeros of `shape`, with x where a slice with these starts and steps reads."""
    return apply(UNSLICE, x, shape=shape, starts=starts, steps=steps)


# gather and its transpose ------------------------------------------------------------------------


def _index_shape(indices: tuple[TensorType, ...]) -> Ints:
    for index in indices:
        if index.dtype.kind not in "iu":
            raise DTypeError(f"indices of {index.dtype}; they must be integers")
    return broadcast_shapes(*[index.shape for index in indices])


def _gather_type(x: TensorType, *indices: TensorType) -> TensorType:
    if not 1 <= len(indices) <= x.ndim:
        raise ShapeError(f"{len(indices)} index arrays for {x.ndim} axes")
    return TensorType(_index_shape(indices) + x.shape[len(indices) :], x.dtype)


def _gather_vjp(ct: Node, out: Node, x: Node, *indices: Node) -> tuple[Node | None, ...]:
    return (scatter_add(ct, *indices, shape=x.shape), *[None] * len(indices))


def _scatter_type(x: TensorType, *indices: TensorType, shape: Ints) -> TensorType:
    expected = _gather_type(TensorType(shape, x.dtype), *indices)
    if x != expected:
        raise ShapeError(f"{x} is scattered where gathering gives {expected}")
    return TensorType(shape, x.dtype)


def _scatter_vjp(
    ct: Node, out: Node, x: Node, *indices: Node, shape: Ints
) -> tuple[Node | None, ...]:
    return (gather(ct, *indices), *[None] * len(indices))


GATHER = Op(name="gather", infer=_gather_type, vjp=_gather_vjp)
SCATTER_ADD = Op(
    name="scatter_add", infer=_scatter_type, normalize=_integer_attrs, vjp=_scatter_vjp
)


def gather(x: Any, *indices: Any) -> Any:
    """x[indices]: one integer array for each leading axis, broadcast together.

    Negative indices count from the end. An index out of range raises IndexError when it runs.
    """
    return apply(GATHER, x, *indices)


def scatter_add(x: Any, *indices: Any, shape: Sequence[int]) -> Any:
    """Zeros of `shape`, with x added at `indices`; what falls on one place is summed."""
    return apply(SCATTER_ADD, x, *indices, shape=shape)

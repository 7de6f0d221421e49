"""`tensor[key]` with NumPy's meaning, recorded as slice, gather and reshape."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np

from needle_ir import ops
from needle_ir.ops.shape import broadcast_shapes
from needle_ir.tensor import Tensor


@dataclass(frozen=True)
class _NewAxis:
    """None in a key: an axis of length 1."""


@dataclass(frozen=True)
class _Range:
    """A slice of an axis."""

    start: int
    length: int
    step: int


@dataclass(frozen=True, eq=False)
class _Picks:
    """An array of integers in the place of an axis."""

    index: Any  # a Tensor or an array


_Item = _NewAxis | _Range | _Picks | int


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key] as numpy.ndarray has it: integers, slices, None, Ellipsis, integer and boolean arrays.

    A boolean array is read now, because it decides the shape. Raises IndexError for a key with too
    many axes, an integer out of range, a mask of another shape, or an unknown kind of index.
    """
    items = _parse(x.shape, key if isinstance(key, tuple) else (key,))
    if any(isinstance(item, _Picks) for item in items):
        # Beside an array an integer is an array of one.
        items = [_Picks(np.asarray(item)) if isinstance(item, int) else item for item in items]
    sliced = _slice(x, items)
    if not any(isinstance(item, _Picks) for item in items):
        return _reshaped(sliced, _basic_shape(items))
    return _gather(sliced, items)


def _slice(x: Tensor, items: list[_Item]) -> Tensor:
    """x with every range taken, integers as ranges of one, arrays as whole axes."""
    ranges: list[_Range] = []
    for item in items:
        if isinstance(item, _Range):
            ranges.append(item)
        elif isinstance(item, int):
            ranges.append(_Range(item, 1, 1))
        elif isinstance(item, _Picks):
            ranges.append(_Range(0, x.shape[len(ranges)], 1))
    if all(r == _Range(0, length, 1) for r, length in zip(ranges, x.shape, strict=True)):
        return x
    starts, lengths, steps = zip(*[(r.start, r.length, r.step) for r in ranges], strict=True)
    return ops.slice(x, starts, lengths, steps)


def _basic_shape(items: Sequence[_Item]) -> tuple[int, ...]:
    kept = [item for item in items if not isinstance(item, int)]
    return tuple(item.length if isinstance(item, _Range) else 1 for item in kept)


def _gather(x: Tensor, items: list[_Item]) -> Tensor:
    """The arrays' axes go first and are gathered. The gathered axes then take the place of the
    arrays where these stand side by side in the key, and stay in front where they do not.
    """
    axes = [item for item in items if not isinstance(item, _NewAxis)]
    picked = [axis for axis, item in enumerate(axes) if isinstance(item, _Picks)]
    others = [axis for axis, item in enumerate(axes) if not isinstance(item, _Picks)]
    indices = [item.index for item in items if isinstance(item, _Picks)]
    gathered = ops.gather(_permuted(x, [*picked, *others]), *indices)
    picked_shape = broadcast_shapes(*[index.shape for index in indices])

    positions = [i for i, item in enumerate(items) if isinstance(item, _Picks)]
    side_by_side = positions[-1] - positions[0] == len(positions) - 1
    before = items[: positions[0]] if side_by_side else []
    after = [item for item in items[len(before) :] if not isinstance(item, _Picks)]
    leading = sum(isinstance(item, _Range) for item in before)
    n = len(picked_shape)
    order = [*range(n, n + leading), *range(n), *range(n + leading, gathered.ndim)]
    shape = (*_basic_shape(before), *picked_shape, *_basic_shape(after))
    return _reshaped(_permuted(gathered, order), shape)


def _permuted(x: Tensor, order: list[int]) -> Tensor:
    return x if order == list(range(x.ndim)) else ops.permute(x, order)


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if shape == x.shape else ops.reshape(x, shape)


def _parse(shape: tuple[int, ...], key: tuple[Any, ...]) -> list[_Item]:
    """The key as one item per axis, and one per new axis."""
    wanted = sum(_axes_of(part) for part in key)
    if wanted > len(shape):
        raise IndexError(f"{wanted} indices for a tensor with {len(shape)} axes, shape {shape}")
    if sum(part is Ellipsis for part in key) > 1:
        raise IndexError("an index can have one ellipsis (...) only")
    rest = [slice(None)] * (len(shape) - wanted)
    if not any(part is Ellipsis for part in key):
        key = (*key, Ellipsis)
    items: list[_Item] = []
    axis = 0
    for part in key:
        for single in rest if part is Ellipsis else [part]:
            parsed = _parse_part(shape, axis, single)
            items += parsed
            axis += _axes_of(single)
    return items


def _axes_of(part: Any) -> int:
    """How many axes a part of a key stands for."""
    if part is None or isinstance(part, EllipsisType):
        return 0
    if isinstance(part, bool | np.bool_):
        raise IndexError("True and False are no index; use a boolean array")
    if isinstance(part, Tensor | np.ndarray | list) and _as_index(part).dtype == np.bool_:
        return _as_index(part).ndim
    return 1


def _parse_part(shape: tuple[int, ...], axis: int, part: Any) -> list[_Item]:
    if part is None:
        return [_NewAxis()]
    if isinstance(part, slice):
        start, stop, step = part.indices(shape[axis])
        return [_Range(start, len(range(start, stop, step)), step)]
    if isinstance(part, int | np.integer):
        if not -shape[axis] <= part < shape[axis]:
            raise IndexError(
                f"index {part} is out of range for axis {axis} of length {shape[axis]}"
            )
        return [int(part) % shape[axis]]
    if not isinstance(part, Tensor | np.ndarray | list):
        raise IndexError(
            f"an index of type {type(part).__name__}; use integers, slices, None, ... or arrays"
        )
    index = _as_index(part)
    if index.dtype != np.bool_:
        _check_range(index, axis, shape[axis])
        return [_Picks(index)]
    if index.shape != shape[axis : axis + index.ndim]:
        raise IndexError(f"a mask of shape {index.shape} for axes of {shape[axis:]}")
    mask = index.numpy() if isinstance(index, Tensor) else index
    return [_Picks(picks) for picks in mask.nonzero()]


def _as_index(part: Any) -> Any:
    index = part if isinstance(part, Tensor) else np.asarray(part)
    if isinstance(part, list) and not part:
        index = index.astype(np.int64)
    if index.dtype.kind not in "iub":
        raise IndexError(f"an index of dtype {index.dtype}; it must be integer or boolean")
    return index


def _check_range(index: Any, axis: int, length: int) -> None:
    """Refuse an index whose value is known and out of range now, where it was written."""
    values = index.node.value if isinstance(index, Tensor) else index
    if values is not None and values.size and not -length <= values.min() <= values.max() < length:
        raise IndexError(
            f"indices {values.min()} … {values.max()} are out of range for axis {axis} of "
            f"length {length}"
        )

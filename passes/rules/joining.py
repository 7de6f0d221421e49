"""Rules about concatenate and pack, and about taking parts of them."""

from math import prod

from needle_ir.ir import Node
from needle_ir.ops import concatenate, pack, reshape, slice, unpack
from needle_ir.ops.indexing import SLICE
from needle_ir.ops.joining import CONCATENATE
from needle_ir.ops.packing import UNPACK
from needle_ir.ops.shape import RESHAPE
from needle_ir.passes.rule import Rule

Ints = tuple[int, ...]


def _without_empty(*xs: Node, axis: int) -> Node | None:
    kept = [x for x in xs if x.shape[axis]]
    if len(kept) == len(xs) or not kept:
        return None
    result: Node = concatenate(kept, axis)
    return result


def _flat(*xs: Node, axis: int) -> Node | None:
    parts: list[Node] = []
    for x in xs:
        joined = x.op is CONCATENATE and x.attrs["axis"] == axis
        parts += x.inputs if joined else [x]
    if len(parts) == len(xs):
        return None
    result: Node = concatenate(parts, axis)
    return result


def _neighbours_joined(*xs: Node, axis: int) -> Node | None:
    """Slices of one array that follow each other, as one slice."""
    parts: list[Node] = []
    for x in xs:
        longer = _as_one_slice(parts[-1], x, axis) if parts else None
        if longer is None:
            parts.append(x)
        else:
            parts[-1] = longer
    if len(parts) == len(xs):
        return None
    result: Node = concatenate(parts, axis)
    return result


def _as_one_slice(x: Node, y: Node, axis: int) -> Node | None:
    if x.op is not SLICE or y.op is not SLICE or x.inputs != y.inputs:
        return None
    starts, lengths, steps = (list(x.attrs[name]) for name in ("starts", "lengths", "steps"))
    after = list(starts)
    after[axis] += lengths[axis] * steps[axis]
    if [*y.attrs["starts"]] != after or [*y.attrs["steps"]] != steps:
        return None
    lengths[axis] += y.shape[axis]
    result: Node = slice(x.inputs[0], starts, lengths, steps)
    return result


def _slice_of_part(axis: int, starts: Ints, lengths: Ints, steps: Ints, *xs: Node) -> Node | None:
    """The slice of the one part that it lies in, None where it lies in several."""
    ends = (starts[axis], starts[axis] + (lengths[axis] - 1) * steps[axis])
    offset = 0
    for x in xs:
        if lengths[axis] == 0 or (offset <= min(ends) and max(ends) < offset + x.shape[axis]):
            at = list(starts)
            at[axis] = starts[axis] - offset if lengths[axis] else 0
            result: Node = slice(x, at, lengths, steps)
            return result
        offset += x.shape[axis]
    return None


def _without_reshapes(*xs: Node) -> Node | None:
    """The order of the elements is all that counts."""
    flat = [x.inputs[0] if x.op is RESHAPE else x for x in xs]
    if flat == [*xs]:
        return None
    result: Node = pack(*flat)
    return result


def _neighbours_unpacked(*xs: Node) -> Node | None:
    """Parts of one array that follow each other, as one part."""
    parts: list[Node] = []
    for x in xs:
        before = parts[-1] if parts else x
        start = before.attrs["start"] if before.op is UNPACK else 0
        follows = (
            before is not x
            and x.op is before.op is UNPACK
            and x.inputs == before.inputs
            and x.attrs["start"] == start + before.type.size
        )
        if follows:
            parts[-1] = unpack(x.inputs[0], start, [before.type.size + x.type.size])
        else:
            parts.append(x)
    if len(parts) == len(xs):
        return None
    result: Node = pack(*parts)
    return result


def _packed_part(start: int, shape: Ints, *xs: Node) -> Node | None:
    """What lies in one of the packed arrays is that array, or is unpacked from it."""
    size, offset = prod(shape), 0
    for x in xs:
        end = offset + x.type.size
        if offset <= start < start + size <= end:
            whole = size == x.type.size
            result: Node = reshape(x, shape) if whole else unpack(x, start - offset, shape)
            return result
        offset = end
    return None


EXACT = (
    Rule("concatenate-one", lambda x, axis: concatenate([x], axis), lambda x: x),
    Rule("concatenate-empty", lambda *xs, axis: concatenate(xs, axis), _without_empty),
    Rule("concatenate-concatenate", lambda *xs, axis: concatenate(xs, axis), _flat),
    Rule("concatenate-slices", lambda *xs, axis: concatenate(xs, axis), _neighbours_joined),
    Rule(
        "slice-concatenate",
        lambda axis, starts, lengths, steps, *xs: slice(
            concatenate(xs, axis), starts, lengths, steps
        ),
        _slice_of_part,
    ),
    Rule("pack-one", lambda x: pack(x), lambda x: reshape(x, (x.type.size,))),
    Rule("pack-reshape", lambda *xs: pack(*xs), _without_reshapes),
    Rule("pack-unpacks", lambda *xs: pack(*xs), _neighbours_unpacked),
    Rule(
        "unpack-all",
        lambda x, s, t: unpack(x, s, t),
        lambda x, t: reshape(x, t),
        lambda x, t: x.type.size == prod(t),
    ),
    Rule(
        "unpack-reshape",
        lambda x, s, t, u: unpack(reshape(x, s), t, u),
        lambda x, t, u: unpack(x, t, u),
    ),
    Rule(
        "reshape-unpack",
        lambda x, s, t, u: reshape(unpack(x, s, t), u),
        lambda x, s, u: unpack(x, s, u),
    ),
    Rule(
        "unpack-unpack",
        lambda x, s, t, u, v: unpack(unpack(x, s, t), u, v),
        lambda x, s, u, v: unpack(x, s + u, v),
    ),
    Rule(
        "unpack-pack",
        lambda start, shape, *xs: unpack(pack(*xs), start, shape),
        _packed_part,
    ),
)

FAST_MATH: tuple[Rule, ...] = ()

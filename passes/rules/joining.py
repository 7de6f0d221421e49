"""Rules about concatenate, and slices of it."""

from needle_ir.ir import Node
from needle_ir.ops import concatenate, slice
from needle_ir.ops.indexing import SLICE
from needle_ir.ops.joining import CONCATENATE
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


EXACT = (
    Rule("concatenate-one", lambda x, axis: concatenate([x], axis), lambda x: x),
    Rule("concatenate-empty", lambda *xs, axis: concatenate(xs, axis), _without_empty),
    Rule("concatenate-concatenate", lambda *xs, axis: concatenate(xs, axis), _flat),
    Rule("concatenate-slices", lambda *xs, axis: concatenate(xs, axis), _neighbours_joined),
    Rule(
        "slice-concatenate",
        lambda axis, a, n, s, *xs: slice(concatenate(xs, axis), a, n, s),
        lambda axis, a, n, s, *xs: _slice_of_part(axis, a, n, s, *xs),
    ),
)

FAST_MATH: tuple[Rule, ...] = ()

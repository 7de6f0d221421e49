"""Many tensors as one: pack puts them one after the other in one row, unpack looks at one again."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import Any

from needle_ir.ir import (
    Node,
    Op,
    Place,
    Plan,
    Promotion,
    ShapeError,
    TensorType,
    Trait,
    capture_origin,
    input_node,
)
from needle_ir.ops.build import apply, as_constant
from needle_ir.ops.shape import as_shape, broadcast_to, integers

Ints = tuple[int, ...]


def _pack_type(*xs: TensorType) -> TensorType:
    if not xs:
        raise ShapeError("pack needs one tensor at least")
    return TensorType((sum([x.size for x in xs]),), xs[0].dtype)


def _pack_vjp(ct: Node, out: Node, *xs: Node) -> tuple[Node, ...]:
    return tuple(unpack_all(ct, [x.shape for x in xs]))


def _unpack_attrs(x: TensorType, *, start: int, shape: Sequence[int]) -> dict[str, Any]:
    return {"start": integers([start])[0], "shape": as_shape(shape)}


def _unpack_type(x: TensorType, *, start: int, shape: Ints) -> TensorType:
    if not 0 <= start <= x.size - prod(shape):
        raise ShapeError(f"{prod(shape)} elements from {start} on of an array of {x.size}")
    return TensorType(shape, x.dtype)


def _unpack_vjp(ct: Node, out: Node, x: Node, *, start: int, shape: Ints) -> tuple[Node]:
    before, after = [
        broadcast_to(as_constant(0, x.dtype), (n,))
        for n in (start, x.type.size - start - prod(shape))
    ]
    return (unpack(pack(before, ct, after), 0, x.shape),)


PACK = Op(name="pack", infer=_pack_type, promotion=Promotion.COMMON, vjp=_pack_vjp)
UNPACK = Op(
    name="unpack",
    infer=_unpack_type,
    normalize=_unpack_attrs,
    traits=frozenset({Trait.VIEW, Trait.DENSE}),
    vjp=_unpack_vjp,
)


def pack(*xs: Any) -> Any:
    """The elements of all of `xs`, each in row-major order, one after the other: (n,)."""
    return apply(PACK, *xs)


def unpack(x: Any, start: int, shape: Sequence[int]) -> Any:
    """The elements of x in row-major order from `start` on, as an array of `shape`."""
    return apply(UNPACK, x, start=start, shape=shape)


def unpack_all(flat: Node, shapes: Sequence[Ints]) -> list[Node]:
    """The tensors of these shapes that were packed into `flat`, one `unpack` for each."""
    origin = capture_origin()
    return [
        Node(part.op, (flat,), part.attrs, part.type, origin)
        for part in _parts(flat.type, tuple(shapes))
    ]


@lru_cache(maxsize=256)
def _parts(flat: TensorType, shapes: tuple[Ints, ...]) -> tuple[Node, ...]:
    """What `unpack_all` makes, once for all: every step of an optimizer asks for the same."""
    starts = accumulate(map(prod, shapes), initial=0)
    return tuple(
        [unpack(input_node(flat), s, shape) for s, shape in zip(starts, shapes, strict=False)]
    )


def allocated_parts(plan: Plan) -> dict[int, dict[int, tuple[TensorType, int]]]:
    """For each allocated slot the slots that are parts of its array, with the bytes at which they
    start: what is computed in its place in it, and what is unpacked from it.
    """
    parts: dict[int, dict[int, tuple[TensorType, int]]] = {}
    for step in plan.steps:
        slot = plan.slots[step.output]
        if slot.place is Place.OUTPUT and slot.inside is not None:
            assert slot.offset is not None
            parts.setdefault(slot.inside, {})[step.output] = (slot.node.type, slot.offset)
        elif slot.place is Place.VIEW and step.node.op is UNPACK:
            whole = step.inputs[0]
            if plan.slots[whole].place is Place.OUTPUT and plan.slots[whole].inside is None:
                start = step.node.attrs["start"] * step.node.dtype.itemsize
                parts.setdefault(whole, {})[step.output] = (slot.node.type, start)
    return parts

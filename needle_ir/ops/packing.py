"""Composites that put many tensors into one flat one, and take them out again."""

from collections.abc import Sequence
from functools import lru_cache
from math import prod

from needle_ir.ir import Node, TensorType, capture_origin, input_node
from needle_ir.ops.composite import composite
from needle_ir.ops.indexing import slice
from needle_ir.ops.joining import concatenate
from needle_ir.ops.shape import reshape


@composite()
def pack(*tensors: Node) -> Node:
    """The elements of all tensors, one tensor after the other: (n,)."""
    result: Node = concatenate([reshape(x, (-1,)) for x in tensors])
    return result


@composite()
def unpack(flat: Node, *, start: int, shape: tuple[int, ...]) -> Node:
    """The tensor of `shape` whose elements begin at `start` in a packed one."""
    result: Node = reshape(slice(flat, (start,), (prod(shape),)), shape)
    return result


def unpack_all(flat: Node, shapes: Sequence[tuple[int, ...]]) -> list[Node]:
    """The tensors of these shapes that were packed into `flat`, one `unpack` for each."""
    origin = capture_origin()
    return [
        Node(part.op, (flat,), part.attrs, part.type, origin)
        for part in _parts(flat.type, tuple(shapes))
    ]


@lru_cache(maxsize=256)
def _parts(flat: TensorType, shapes: tuple[tuple[int, ...], ...]) -> tuple[Node, ...]:
    """What `unpack_all` makes, once for all: every step of an optimizer asks for the same."""
    parts: list[Node] = []
    start = 0
    for shape in shapes:
        parts.append(unpack(input_node(flat), start=start, shape=shape))
        start += prod(shape)
    return tuple(parts)

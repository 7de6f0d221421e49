"""Composites that put many tensors into one flat one, and take them out again."""

from needle_ir.ir import Node
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
    size = 1
    for length in shape:
        size *= length
    result: Node = reshape(slice(flat, (start,), (size,)), shape)
    return result

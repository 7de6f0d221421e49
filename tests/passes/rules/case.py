"""What a case of a rule is, and short ways to write the expressions in it.

`x` and `y` are inputs of one type with two axes. `dtypes` says of which dtypes they may be: floats
(f), integers (i), booleans (b).
"""

from collections.abc import Callable
from typing import NamedTuple

from needle_ir import ops
from needle_ir.ir import Node


class Case(NamedTuple):
    """An expression that a rule rewrites, and the text of what simplify makes of it: for [2,3] of
    the first of the dtypes, which is f32, i32 or bool.
    """

    rule: str
    dtypes: str
    before: Callable[[Node, Node], Node]
    after: str

    def __repr__(self) -> str:
        return self.rule


class Kept(NamedTuple):
    """An expression, or several in one graph, that a rule leaves as it is, and why."""

    rule: str
    why: str
    dtypes: str
    outputs: Callable[[Node, Node], Node | tuple[Node, ...]]

    def __repr__(self) -> str:
        return f"{self.rule}: {self.why}"


def batch(x: Node) -> Node:
    result: Node = ops.reshape(x, (1, *x.shape))
    return result


def blocks(x: Node) -> Node:
    result: Node = ops.reshape(x, (*x.shape, 1))
    return result


def stacked(x: Node, count: int = 4) -> Node:
    """x repeated along a new first axis."""
    result: Node = ops.broadcast_to(x, (count, *x.shape))
    return result


def half(x: Node) -> Node:
    """The first half of the rows."""
    result: Node = ops.slice(x, (0, 0), (x.shape[0] // 2, x.shape[1]))
    return result


def other_half(x: Node) -> Node:
    start = x.shape[0] // 2
    result: Node = ops.slice(x, (start, 0), (x.shape[0] - start, x.shape[1]))
    return result


def reverse(x: Node) -> Node:
    """The rows from the last one to the first one."""
    result: Node = ops.slice(x, (max(x.shape[0] - 1, 0), 0), x.shape, (-1, 1))
    return result


def thirds(x: Node) -> list[Node]:
    """The elements in three parts of one size; x has a multiple of three of them."""
    n = x.type.size // 3
    return [ops.unpack(x, i * n, (n,)) for i in range(3)]


def upper(x: Node) -> Node:
    """The first half of the rows, and an axis in front."""
    result: Node = ops.slice(batch(x), (0, 0, 0), (1, x.shape[0] // 2, x.shape[1]))
    return result


def nested(c: Node, x: Node, y: Node) -> tuple[Node, Node]:
    """The same choice twice, on either side."""
    return ops.where(c, ops.where(c, x, y), y), ops.where(c, x, ops.where(c, x, y))


def also(inner: Node, outer: Callable[[Node], Node]) -> tuple[Node, Node]:
    """An expression, and one of its operands: a use outside of the pattern."""
    return outer(inner), inner

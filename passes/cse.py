"""Common-subexpression elimination."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from needle_ir.ir import Application, Graph, Node, Trait, announce, watched


@dataclass(frozen=True)
class CSE:
    """Merges nodes with the same op, attributes and operands; the first one stays.

    The operands of a commutative op may stand in either order. Random draws and effects are never
    merged; nor are markers, since two variables of one value are two things to differentiate by.
    """

    name = "cse"

    def run(self, graph: Graph) -> Graph:
        """The graph with each expression computed once."""
        known: dict[Hashable, Node] = {}

        def merge(node: Node, inputs: tuple[Node, ...]) -> Node:
            node = node.with_inputs(inputs)
            if not may_be_merged(node):
                return node
            first = known.setdefault(expression(node), node)
            return first if first is node or is_allowed(node, first) else node

        return graph.rebuild(merge)


def may_be_merged(node: Node) -> bool:
    """Whether a node stands for the value of its expression, and for nothing beside that."""
    return _NEVER.isdisjoint(node.op.traits)


def expression(node: Node) -> Hashable:
    """The same for nodes that compute the same of the same operands."""
    operands: Sequence[Node] = node.inputs
    if node.op.has(Trait.COMMUTATIVE):
        operands = sorted(operands, key=id)
    return (node.op, node.attrs, *operands)


def is_allowed(node: Node, first: Node) -> bool:
    """Whether who looks on lets `first` take the place of `node`, which is the same expression."""
    return not watched() or announce(Application("cse", node, first, matched=(node,), new=()))


_NEVER = frozenset({Trait.RANDOM, Trait.EFFECT, Trait.MARKER})

"""Common-subexpression elimination."""

from collections.abc import Hashable
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
            if node.op.traits & _NEVER:
                return node
            operands = [id(operand) for operand in inputs]
            if node.op.has(Trait.COMMUTATIVE):
                operands.sort()
            first = known.setdefault((node.op, node.attrs.key, *operands), node)
            if first is not node and watched():
                same = Application("cse", node, first, matched=(node,), new=())
                return first if announce(same) else node
            return first

        return graph.rebuild(merge)


_NEVER = frozenset({Trait.RANDOM, Trait.EFFECT, Trait.MARKER})

"""Constant folding."""

from collections.abc import Callable
from dataclasses import dataclass, field

from needle_ir.ir import CONSTANT, Array, Graph, Node, Trait, constant_node

# Computes a node from its operands' arrays. The runtime has one; passes do not import it.
Evaluate = Callable[[Node, list[Array]], Array]


@dataclass(frozen=True)
class Fold:
    """Computes at compile time what has only constants as operands.

    Nothing larger than `max_bytes` is folded, no random draw, no effect, no marker, and no
    broadcast: it costs nothing as a view, and its bytes as a constant.
    """

    evaluate: Evaluate = field(repr=False)
    max_bytes: int = 65536
    name = "fold"

    def run(self, graph: Graph) -> Graph:
        """The graph with constant subexpressions replaced by their values."""
        return graph.rebuild(self._fold)

    def _fold(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        node = node.with_inputs(inputs)
        if not self._foldable(node):
            return node
        value = self.evaluate(node, [operand.attrs["value"] for operand in inputs])
        return constant_node(value, node.origin)

    def _foldable(self, node: Node) -> bool:
        if not node.inputs or any(operand.op is not CONSTANT for operand in node.inputs):
            return False
        if node.op.decompose is not None or node.op.traits & _NEVER:
            return False
        grows = node.type.nbytes > sum(operand.type.nbytes for operand in node.inputs)
        if node.op.has(Trait.VIEW) and grows:
            return False
        return node.type.nbytes <= self.max_bytes


_NEVER = frozenset({Trait.RANDOM, Trait.EFFECT, Trait.MARKER})

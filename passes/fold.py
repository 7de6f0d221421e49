"""Constant folding."""

from collections.abc import Callable
from dataclasses import dataclass, field

from needle_ir.ir import (
    CONSTANT,
    Application,
    Array,
    Graph,
    Node,
    TensorType,
    Trait,
    announce,
    constant_node,
    inherit_origin,
    topological,
    watched,
)
from needle_ir.ops import broadcast_to
from needle_ir.ops.shape import BROADCAST_TO, RESHAPE, broadcast_shapes

# Computes a node from its operands' arrays. The runtime has one; passes do not import it.
Evaluate = Callable[[Node, list[Array]], Array]


@dataclass(frozen=True)
class Fold:
    """Computes at compile time what has only constants as operands.

    Nothing larger than `max_bytes` is folded, no random draw, no effect, no marker, and no
    broadcast: it costs nothing as a view, and its bytes as a constant. An elementwise op over
    broadcasts of constants becomes the broadcast of a constant.
    """

    evaluate: Evaluate = field(repr=False)
    max_bytes: int = 65536
    name = "fold"

    def run(self, graph: Graph) -> Graph:
        """The graph with constant subexpressions replaced by their values."""
        return graph.rebuild(self._fold)

    def _fold(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        node = node.with_inputs(inputs)
        folded = self._folded(node)
        if folded is None or not watched():
            return node if folded is None else folded
        made = Application("fold", node, folded, (node,), tuple(topological([folded])))
        return folded if announce(made) else node

    def _folded(self, node: Node) -> Node | None:
        """The constant that `node` is, broadcast where it was; None where it is not folded."""
        small = _before_broadcasts(node)
        if not self._foldable(small):
            return None
        try:
            value = self.evaluate(small, [operand.attrs["value"] for operand in small.inputs])
        except (ArithmeticError, LookupError, ValueError):
            # Not with these numbers: an integer to a negative power, an index out of range. It is
            # an error when the program runs, and none where nothing needs the node.
            return None
        if value.size == node.type.size:
            return constant_node(value.reshape(node.shape), node.origin)
        with inherit_origin(node.origin):
            result: Node = broadcast_to(constant_node(value, node.origin), node.shape)
        return result

    def _foldable(self, node: Node) -> bool:
        if not node.inputs or any(operand.op is not CONSTANT for operand in node.inputs):
            return False
        if node.op.decompose is not None or node.op.traits & _NEVER:
            return False
        if node.op is BROADCAST_TO and node.type.size != node.inputs[0].type.size:
            return False
        return node.type.nbytes <= self.max_bytes


def _before_broadcasts(node: Node) -> Node:
    """An elementwise node over its operands as they are before they are broadcast."""
    if not node.op.has(Trait.ELEMENTWISE):
        return node
    inputs = tuple(map(_before_broadcast, node.inputs))
    if inputs == node.inputs:
        return node
    shape = broadcast_shapes(*[operand.shape for operand in inputs])
    return Node(node.op, inputs, node.attrs, TensorType(shape, node.dtype), node.origin)


def _before_broadcast(node: Node) -> Node:
    # VJPs emit reshapes that change nothing: they stand in no one's way.
    while node.op is BROADCAST_TO or (node.op is RESHAPE and node.type == node.inputs[0].type):
        node = node.inputs[0]
    return node


_NEVER = frozenset({Trait.RANDOM, Trait.EFFECT, Trait.MARKER})

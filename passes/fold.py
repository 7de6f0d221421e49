"""Constant folding."""

from collections.abc import Callable
from dataclasses import dataclass, field

from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Array,
    Graph,
    Node,
    Op,
    TensorType,
    Trait,
    constant_node,
)
from needle_ir.ops import broadcast_to
from needle_ir.ops.shape import BROADCAST_TO, RESHAPE, broadcast_shapes
from needle_ir.passes.pattern import BoundOp, OpKind
from needle_ir.passes.rewrite import Rule, rewrite

# Computes a node from its operands' arrays. The runtime has one; passes do not import it.
Evaluate = Callable[[Node, list[Array]], Array]


MAX_BYTES = 65536


@dataclass(frozen=True)
class Fold:
    """Computes at compile time what has only constants as operands.

    Nothing larger than `max_bytes` is folded, no random draw, no effect, no marker, and no
    broadcast: it costs nothing as a view, and its bytes as a constant. An elementwise op over
    broadcasts of constants becomes the broadcast of a constant.
    """

    evaluate: Evaluate = field(repr=False)
    max_bytes: int = MAX_BYTES
    name = "fold"

    def run(self, graph: Graph) -> Graph:
        """The graph with constant subexpressions replaced by their values."""
        return rewrite(graph, [fold_rule(self.evaluate, self.max_bytes)])


def fold_rule(evaluate: Evaluate, max_bytes: int = MAX_BYTES) -> Rule:
    """Folding as a rewrite rule."""

    def folded(f: BoundOp, *xs: Node) -> Node | None:
        node: Node = f(*xs)
        small = _before_broadcasts(node)
        if not _foldable(small, max_bytes):
            return None
        try:
            value = evaluate(small, [x.attrs["value"] for x in small.inputs])
        except (ArithmeticError, LookupError, ValueError):
            # Not with these numbers: an integer to a negative power, an index out of range. It is
            # an error when the program runs, and none where nothing needs the node.
            return None
        if value.size == node.type.size:
            return constant_node(value.reshape(node.shape), node.origin)
        result: Node = broadcast_to(constant_node(value, node.origin), node.shape)
        return result

    return Rule("fold", lambda f=_COMPUTED, *xs: f(*xs), folded, _are_constant)


def _is_computed(op: Op) -> bool:
    return op not in (INPUT, CONSTANT) and op.decompose is None and not op.traits & _NEVER


def _are_constant(*xs: Node) -> bool:
    for x in xs:
        if _before_broadcast(x).op is not CONSTANT:
            return False
    return bool(xs)


def _foldable(node: Node, max_bytes: int) -> bool:
    if any(operand.op is not CONSTANT for operand in node.inputs):
        return False
    if node.op is BROADCAST_TO and node.type.size != node.inputs[0].type.size:
        return False
    return node.type.nbytes <= max_bytes


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
_COMPUTED = OpKind("computed", _is_computed)

"""What a graph costs: floating-point operations and bytes moved, from traits and types alone.

The counts are those of a machine that runs node by node, with every result in memory of its own:

- A contraction does 2·m·n·k operations: m·n results, each a sum of k products.
- An elementwise op does one per element of its result, whatever the function is.
- A reduction does one per element of its operand, a rowwise op one per element of the largest
  among its operands and its result.
- Everything else moves elements and computes nothing.
- A node reads each of its operands once and writes its result. An operand that is a view is read
  as far as the memory reaches that it looks at: a scalar that was broadcast is one element.
- Inputs, constants, views and markers cost nothing by themselves.
- A node that stands for a graph (a composite, a fused cluster) does what is done inside, and moves
  what goes in and comes out: the values in between stay in registers or in the cache.
"""

from functools import lru_cache
from math import isqrt, prod
from typing import NamedTuple

from needle_ir.ir.attrs import Attrs
from needle_ir.ir.graph import Graph
from needle_ir.ir.node import CONSTANT, INPUT, Node, Op, Trait, input_node
from needle_ir.ir.origin import inherit_origin
from needle_ir.ir.types import TensorType


class Cost(NamedTuple):
    """Floating-point operations, and bytes read and written."""

    flops: int
    bytes_moved: int

    @property
    def intensity(self) -> float:
        """Operations a byte, 0 where no byte is moved: what the roofline model asks for."""
        return self.flops / self.bytes_moved if self.bytes_moved else 0.0


def graph_cost(graph: Graph) -> Cost:
    """What all nodes of `graph` cost together."""
    costs = node_costs(graph).values()
    return Cost(sum(cost.flops for cost in costs), sum(cost.bytes_moved for cost in costs))


def node_costs(graph: Graph) -> dict[Node, Cost]:
    """What each node of `graph` costs."""
    costs: dict[Node, Cost] = {}
    reach: dict[Node, int] = {}  # the bytes that a reader of the node reads at most
    for node in graph.nodes:
        reach[node] = node.type.nbytes
        if node.op.has(Trait.VIEW):
            reach[node] = min(reach[node], reach[node.inputs[0]])
        if node.op in (INPUT, CONSTANT) or node.op.has(Trait.VIEW) or node.op.has(Trait.MARKER):
            costs[node] = _FREE
        else:
            read = sum(reach[operand] for operand in dict.fromkeys(node.inputs))
            costs[node] = Cost(_flops(node), read + node.type.nbytes)
    return costs


_FREE = Cost(0, 0)


def _flops(node: Node) -> int:
    inside = [value for value in node.attrs.values() if isinstance(value, Graph)]
    if inside:
        return sum(graph_cost(graph).flops for graph in inside)
    if node.op.decompose is not None:
        return _composite_flops(node.op, tuple([x.type for x in node.inputs]), node.attrs)
    if node.op.has(Trait.CONTRACTION):
        a, b = node.inputs[0].type, node.inputs[1].type
        return 2 * node.type.size * _shared_length(a, b, node.type)
    if node.op.has(Trait.ELEMENTWISE):
        return node.type.size
    if node.op.has(Trait.REDUCTION):
        return node.inputs[0].type.size
    if node.op.has(Trait.ROWWISE):
        return max(x.type.size for x in (node, *node.inputs))
    return 0


@lru_cache(maxsize=1024)
def _composite_flops(op: Op, types: tuple[TensorType, ...], attrs: Attrs) -> int:
    assert op.decompose is not None
    inputs = [input_node(type) for type in types]
    with inherit_origin(None):
        result = op.decompose(*inputs, **attrs)
    return graph_cost(Graph(inputs, [result])).flops


def _shared_length(a: TensorType, b: TensorType, out: TensorType) -> int:
    """The length k of the axis that a product (m, k) by (k, n) sums over.

    It follows from the three sizes, mk · kn / mn = k², whichever way the operands lie. A vector is
    a matrix with m or n = 1. The axes before the last two are a batch.
    """
    batch = max(a.ndim, b.ndim, 2) - 2
    if not out.size:
        return 0
    return isqrt(_matrix_size(a) * _matrix_size(b) // prod(out.shape[batch:]))


def _matrix_size(type: TensorType) -> int:
    return prod(type.shape[-2:])

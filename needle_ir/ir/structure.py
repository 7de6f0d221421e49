"""Structural identity: when are two graphs the same program?"""

from collections.abc import Hashable

from needle_ir.ir.graph import Graph
from needle_ir.ir.node import INPUT, Node


def structural_key(graph: Graph) -> Hashable:
    """A key that two graphs share exactly when they are the same program.

    Inputs count by position and type. Names, origins and known values do not count; constants
    count by their bits.
    """
    index: dict[Node, int] = {}
    rows: list[Hashable] = []
    for node in graph.nodes:
        index[node] = len(index)
        rows.append(node_key(node, index))
    outputs = tuple(index[node] for node in graph.outputs)
    effects = tuple(index[node] for node in graph.effects)
    return (tuple(rows), outputs, effects)


def node_key(node: Node, index: dict[Node, int]) -> Hashable:
    """What one node contributes to a structural key; `index` numbers the nodes before it."""
    if node.op is INPUT:
        return node.type
    return (node.op, node.attrs, *[index[operand] for operand in node.inputs])


def structurally_equal(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same program."""
    return structural_key(a) == structural_key(b)

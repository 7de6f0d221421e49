"""The interpreter: a graph run node by node, every result in memory of its own.

It is the reference that plans are compared with.
"""

from collections.abc import Sequence

from needle_ir.ir import CONSTANT, Array, Graph, Node
from needle_ir.runtime.kernels import evaluate


def interpret(graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of `graph` for `arrays`, one for each of its inputs."""
    values: dict[Node, Array] = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.nodes[len(graph.inputs) :]:
        if node.op is CONSTANT:
            values[node] = node.attrs["value"]
        else:
            values[node] = evaluate(node, [values[operand] for operand in node.inputs])
    return tuple(values[node] for node in graph.outputs)

"""Fusion: elementwise nodes that feed each other become one node."""

from dataclasses import dataclass

from needle_ir.ir import (
    CONSTANT,
    Graph,
    Node,
    TensorType,
    Trait,
    inherit_origin,
    input_node,
)
from needle_ir.ops import build
from needle_ir.ops.cluster import FUSED


@dataclass(frozen=True)
class Fuse:
    """Groups elementwise nodes of one shape into clusters, each of which becomes one `fused` node.

    A cluster has one result: a node joins the cluster of its readers when they are all in one, so
    no value leaves a cluster half-way and none comes back into it. The body is a graph named after
    its ops. At most `max_ops` ops are in a cluster. Results of less than `min_bytes` stay as they
    are: a call costs more than their numbers.
    """

    max_ops: int = 32
    min_bytes: int = 4096
    name = "fuse"

    def run(self, graph: Graph) -> Graph:
        """The graph with its clusters in one node each."""
        members = self._clusters(graph)
        if not members:
            return graph
        inner = {node for nodes in members.values() for node in nodes[:-1]}

        def visit(node: Node, inputs: tuple[Node, ...]) -> Node:
            new[node] = (
                _fused(members[node], new)
                if node in members
                else node
                if node in inner
                else node.with_inputs(inputs)
            )
            return new[node]

        new: dict[Node, Node] = {node: node for node in graph.inputs}
        return graph.rebuild(visit)

    def _clusters(self, graph: Graph) -> dict[Node, list[Node]]:
        """The clusters of two nodes or more by their result, operands before users."""
        kept = {*graph.outputs, *graph.effects, *graph.unused}
        result_of: dict[Node, Node] = {}
        members: dict[Node, list[Node]] = {}
        for node in reversed(graph.nodes):
            if not self._fusible(node):
                continue
            results = {result_of.get(user) for user in graph.users[node]}
            result = results.pop() if len(results) == 1 and node not in kept else None
            if result is None or node.shape != result.shape or len(members[result]) == self.max_ops:
                result = node
            result_of[node] = result
            members.setdefault(result, []).append(node)
        return {result: nodes[::-1] for result, nodes in members.items() if len(nodes) > 1}

    def _fusible(self, node: Node) -> bool:
        return (
            node.op.has(Trait.ELEMENTWISE)
            and node.op.decompose is None
            and node.type.nbytes >= self.min_bytes
        )


def _fused(nodes: list[Node], new: dict[Node, Node]) -> Node:
    """The node that computes a cluster over the new operands."""
    body: dict[Node, Node] = {}
    operands: list[Node] = []
    inputs: list[Node] = []
    for node in nodes:
        for x in node.inputs:
            if x in body:
                continue
            if x.op is CONSTANT and x.shape == ():
                body[x] = x
            else:
                operands.append(new[x])
                body[x] = input_node(TensorType(x.shape, x.dtype))
                inputs.append(body[x])
        body[node] = node.with_inputs(tuple([body[x] for x in node.inputs]))
    result = nodes[-1]
    name = "_".join([node.op.name for node in nodes])
    with inherit_origin(result.origin):
        return build(FUSED, operands, {"body": Graph(inputs, [body[result]], name=name)})

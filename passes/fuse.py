"""Fusion: elementwise nodes that feed each other become one node."""

from dataclasses import dataclass
from itertools import accumulate

from needle_ir.ir import (
    CONSTANT,
    Graph,
    Node,
    TensorType,
    Trait,
    inherit_origin,
    input_node,
    topological,
)
from needle_ir.ops import build
from needle_ir.ops.cluster import FUSED
from needle_ir.ops.packing import PACK, UNPACK


@dataclass(frozen=True)
class Fuse:
    """Groups elementwise nodes of one shape into clusters, each of which becomes one `fused` node.

    A cluster has one result: a node joins the cluster of its readers when they are all in one, so
    no value leaves a cluster half-way and none comes back into it. The body is a graph named after
    its ops. At most `max_ops` ops are in a cluster. Results of less than `min_bytes` stay as they
    are: a call costs more than their numbers.

    Outputs of the graph that are computed from each other, such as the moments of an optimizer and
    its parameters, become one cluster whose result packs them: then each is read and written once,
    and what is computed on the way to them needs no memory.
    """

    max_ops: int = 32
    min_bytes: int = 4096
    name = "fuse"

    def run(self, graph: Graph) -> Graph:
        """The graph with its clusters in one node each."""
        last = _last(graph)
        graph = _with_updates(graph, self._updates(graph, last), last)
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

    def _updates(self, graph: Graph, last: dict[Node, None]) -> list[list[Node]]:
        """The clusters of several results, operands before users.

        Nothing that is computed elsewhere reads a result or an intermediate value of one. So no
        value leaves it and comes back, and it may run when all of its operands are there.
        """
        outputs, kept = set(graph.outputs), {*graph.effects, *graph.unused}
        kind: dict[Node, TensorType] = {}  # that of the results, for what only they read
        leaving: dict[Node, bool] = {}
        for node in reversed(graph.nodes):
            if not self._fusible(node) or node in kept:
                continue
            users = [x for x in graph.users[node] if x not in last]
            leaving[node] = node in outputs or len(users) < len(graph.users[node])
            kinds = {kind.get(x) for x in users} or {node.type}
            (only,) = kinds if len(kinds) == 1 else (None,)
            if only is None or node.shape != only.shape:
                continue
            if (node.type == only) if leaving[node] else users:
                kind[node] = only
        found = []
        for nodes in _connected(graph, kind):
            results = sum(leaving[node] for node in nodes)
            if results > 1 and len(nodes) <= self.max_ops:
                found.append(nodes)
        return found

    def _fusible(self, node: Node) -> bool:
        return (
            node.op.has(Trait.ELEMENTWISE)
            and node.op.decompose is None
            and node.type.nbytes >= self.min_bytes
        )


def _last(graph: Graph) -> dict[Node, None]:
    """The nodes of which nothing is computed, and that only arrange what they read: views, and
    packs of which there are such views, as a cluster of several results has when it is opened.
    """
    views = {x: None for x in graph.nodes if x.op is UNPACK and not graph.users[x]}
    packs = [x for x in graph.nodes if x.op is PACK and all(y in views for y in graph.users[x])]
    return views | dict.fromkeys(packs)


def _connected(graph: Graph, kind: dict[Node, TensorType]) -> list[list[Node]]:
    """The nodes of one kind that read each other, directly or by way of more of them, each group in
    the graph's order.
    """
    parent = {node: node for node in kind}

    def root(node: Node) -> Node:
        while parent[node] is not node:
            parent[node] = node = parent[parent[node]]
        return node

    for node in kind:
        for x in node.inputs:
            if kind.get(x) is kind[node]:
                parent[root(x)] = root(node)
    groups: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if node in kind:
            groups.setdefault(root(node), []).append(node)
    return [*groups.values()]


def _with_updates(graph: Graph, clusters: list[list[Node]], last: dict[Node, None]) -> Graph:
    """The graph with each of these clusters in one node, of which its results are unpacked."""
    if not clusters:
        return graph
    ends = {nodes[-1]: nodes for nodes in clusters}
    inner = {node for nodes in clusters for node in nodes}
    late: dict[Node, None] = {}  # what only arranges results comes when all of them are there
    for node in graph.nodes:
        if node in last and any(x in inner or x in late for x in node.inputs):
            late[node] = None
    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes[len(graph.inputs) :]:
        if node in ends:
            new.update(_unpacked(graph, ends[node], new, last))
        elif node not in inner and node not in late:
            new[node] = node.with_inputs(tuple([new[x] for x in node.inputs]))
    for node in late:
        inputs = tuple([new[x] for x in node.inputs])
        new[node] = _part(node, inputs) or _whole(node, inputs) or node.with_inputs(inputs)
    return graph.with_roots(new.__getitem__)


def _unpacked(
    graph: Graph, nodes: list[Node], new: dict[Node, Node], last: dict[Node, None]
) -> dict[Node, Node]:
    """The results of a cluster by the nodes they stand for, unpacked from the node that runs it."""
    outputs = set(graph.outputs)
    results = [x for x in nodes if x in outputs or any(y in last for y in graph.users[x])]
    outside = {x for node in nodes for x in node.inputs}.difference(nodes)
    # In the order in which the results need them: that is the same once more when it was opened.
    packed = _fused(topological(results, done=outside), new, results)
    parts: dict[Node, Node] = {}
    for i, node in enumerate(results):
        with inherit_origin(node.origin):
            start = i * node.type.size
            parts[node] = build(UNPACK, [packed], {"start": start, "shape": node.shape})
    return parts


def _part(node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """The view of a view, as a view of the packed array."""
    (x,) = inputs if len(inputs) == 1 else (None,)
    if node.op is not UNPACK or x is None or x.op is not UNPACK:
        return None
    start = x.attrs["start"] + node.attrs["start"]
    with inherit_origin(node.origin):
        return build(UNPACK, [x.inputs[0]], {"start": start, "shape": node.shape})


def _whole(node: Node, parts: tuple[Node, ...]) -> Node | None:
    """The packed array that a pack would put together again from all of its parts, in order."""
    if node.op is not PACK or any(x.op is not UNPACK for x in parts):
        return None
    packed = parts[0].inputs[0]
    starts = accumulate((x.type.size for x in parts), initial=0)
    in_place = all(
        x.inputs[0] is packed and x.attrs["start"] == start
        for x, start in zip(parts, starts, strict=False)
    )
    return packed if in_place and packed.type == node.type else None


def _fused(nodes: list[Node], new: dict[Node, Node], results: list[Node] | None = None) -> Node:
    """The node that computes a cluster over the new operands: its last node, or what it packs."""
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
    name = "_".join([node.op.name for node in nodes])
    with inherit_origin(nodes[-1].origin):
        output = build(PACK, [body[x] for x in results], {}) if results else body[nodes[-1]]
        return build(FUSED, operands, {"body": Graph(inputs, [output], name=name)})

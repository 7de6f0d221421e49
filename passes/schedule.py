"""Scheduling: the order in which a graph's nodes run."""

from heapq import heapify, heappop, heappush

from needle_ir.ir import CONSTANT, INPUT, Graph, Node, Trait


def schedule(graph: Graph) -> tuple[Node, ...]:
    """The nodes that compute something, in an order that keeps few bytes alive.

    Two orders are tried, the graph's own (depth first from the outputs) and a greedy one, and the
    one with the lower peak is taken. Effects keep their order.
    """
    depth_first = tuple(node for node in graph.nodes if node.op not in (INPUT, CONSTANT))
    greedy = _greedy_order(graph, depth_first)
    return min(depth_first, greedy, key=lambda order: peak_bytes(graph, order))


def peak_bytes(graph: Graph, order: tuple[Node, ...]) -> int:
    """The most bytes of results that are alive at one time under `order`.

    What leaves the graph stays alive to the end. Views have no bytes of their own.
    """
    remaining = _reader_counts(graph)
    alive = peak = 0
    for node in order:
        alive += _own_bytes(node)
        peak = max(peak, alive)
        alive -= _freed_by(node, remaining)
        for operand in set(node.inputs):
            remaining[operand] -= 1
    return peak


def _reader_counts(graph: Graph) -> dict[Node, int]:
    """How many nodes read each node. What leaves the graph is read once more than it can be."""
    counts = {node: len(readers) for node, readers in graph.users.items()}
    for node in graph.outputs:
        counts[node] += 1
    return counts


def _own_bytes(node: Node) -> int:
    if node.op in (INPUT, CONSTANT) or node.op.has(Trait.VIEW):
        return 0
    return node.type.nbytes


def _freed_by(node: Node, remaining: dict[Node, int]) -> int:
    """The bytes that nobody needs once `node` has run."""
    return sum(_own_bytes(x) for x in set(node.inputs) if remaining[x] == 1)


def _greedy_order(graph: Graph, depth_first: tuple[Node, ...]) -> tuple[Node, ...]:
    """A list schedule: of the nodes that could run next, the one that frees most.

    At a tie the graph's own order decides. What a node frees is judged when it becomes ready.
    """
    position = {node: i for i, node in enumerate(depth_first)}
    remaining = _reader_counts(graph)
    # An effect also waits for the effect before it.
    after_effect = dict(zip(graph.effects, graph.effects[1:], strict=False))
    waits = {node: len({x for x in node.inputs if x in position}) for node in depth_first}
    for later in after_effect.values():
        waits[later] += 1

    def entry(node: Node) -> tuple[int, int]:
        return (_own_bytes(node) - _freed_by(node, remaining), position[node])

    ready = [entry(node) for node in depth_first if waits[node] == 0]
    heapify(ready)
    order: list[Node] = []
    while ready:
        node = depth_first[heappop(ready)[1]]
        order.append(node)
        for operand in set(node.inputs):
            remaining[operand] -= 1
        followers = list(graph.users[node])
        if node in after_effect:
            followers.append(after_effect[node])
        for follower in followers:
            waits[follower] -= 1
            if waits[follower] == 0:
                heappush(ready, entry(follower))
    return tuple(order)

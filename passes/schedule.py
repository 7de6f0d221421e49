"""Scheduling: the order in which a graph's nodes run."""

from heapq import heapify, heappop, heappush
from itertools import chain

from needle_ir.ir import CONSTANT, INPUT, Graph, Node, Trait


def schedule(graph: Graph) -> tuple[Node, ...]:
    """The nodes that compute something, in an order that keeps few bytes alive.

    Two orders are tried, the graph's own (depth first from the outputs, and what is computed from
    a draw alone right after it) and a greedy one; where something is computed twice, to save
    memory, also these with every node as late as its memory allows. The one with the lowest peak is
    taken, the first of equal ones. Effects keep their order.
    """
    depth_first = _draws_read_at_once(graph)
    reads, counts = _reads(graph)
    greedy = _greedy_order(graph, depth_first, reads, {**counts})
    orders = [depth_first, greedy]
    if _computes_twice(depth_first):
        orders += [_late_order(graph, order, reads) for order in orders]
    return min(orders, key=lambda order: _peak(order, reads, {**counts}))


def _draws_read_at_once(graph: Graph) -> tuple[Node, ...]:
    """The graph's own order, with the only reader of a draw right after it where it reads nothing
    else. So the memory of a mask that becomes numbers is free for the next mask.
    """
    effects = set(graph.effects)
    reader: dict[Node, Node] = {}
    for draw in graph.effects:
        node, *others = graph.users[draw] or [draw]
        if draw.inputs or others or node in effects or node.shape != draw.shape:
            continue
        if all(x is draw or x.op is CONSTANT for x in node.inputs):
            reader[draw] = node
    moved = set(reader.values())
    order: list[Node] = []
    for node in graph.nodes:
        if node.op not in (INPUT, CONSTANT) and node not in moved:
            order.append(node)
            if node in reader:
                order.append(reader[node])
    return tuple(order)


def peak_bytes(graph: Graph, order: tuple[Node, ...]) -> int:
    """The most bytes of results that are alive at one time under `order`.

    What leaves the graph stays alive to the end. Views have no bytes of their own, and keep the
    bytes alive that they look at.
    """
    return _peak(order, *_reads(graph))


def _peak(order: tuple[Node, ...], reads: dict[Node, set[Node]], remaining: dict[Node, int]) -> int:
    alive = peak = 0
    for node in order:
        peak = max(peak, alive + _own_bytes(node))
        alive += _growth(node, reads[node], remaining)
        for memory in reads[node]:
            remaining[memory] -= 1
    return peak


def _reads(graph: Graph) -> tuple[dict[Node, set[Node]], dict[Node, int]]:
    """For every node, the nodes whose memory it reads, directly or through views; and how often
    each is read. What leaves the graph is read once more than it can be.
    """
    owner: dict[Node, Node] = {}
    for node in graph.nodes:
        owner[node] = owner[node.inputs[0]] if node.op.has(Trait.VIEW) else node
    reads = {node: {owner[operand] for operand in node.inputs} for node in graph.nodes}
    counts = dict.fromkeys(graph.nodes, 0)
    for memory in [*chain.from_iterable(reads.values()), *[owner[x] for x in graph.outputs]]:
        counts[memory] += 1
    return reads, counts


def _own_bytes(node: Node) -> int:
    if node.op in (INPUT, CONSTANT) or node.op.has(Trait.VIEW):
        return 0
    return node.type.nbytes


def _growth(node: Node, reads: set[Node], remaining: dict[Node, int]) -> int:
    """How many bytes more are alive once `node`, which `reads` these, has run."""
    made = _own_bytes(node) if remaining[node] else 0
    return made - sum(_own_bytes(memory) for memory in reads if remaining[memory] == 1)


def _greedy_order(
    graph: Graph,
    depth_first: tuple[Node, ...],
    reads: dict[Node, set[Node]],
    remaining: dict[Node, int],
) -> tuple[Node, ...]:
    """A list schedule: of the nodes that could run next, the one that frees most.

    At a tie the graph's own order decides. What a node frees is judged when it becomes ready.
    """
    position = {node: i for i, node in enumerate(depth_first)}
    # An effect also waits for the effect before it.
    after_effect = dict(zip(graph.effects, graph.effects[1:], strict=False))
    waits = {node: len({x for x in node.inputs if x in position}) for node in depth_first}
    for later in after_effect.values():
        waits[later] += 1

    def entry(node: Node) -> tuple[int, int]:
        return (_growth(node, reads[node], remaining), position[node])

    ready = [entry(node) for node in depth_first if waits[node] == 0]
    heapify(ready)
    order: list[Node] = []
    while ready:
        node = depth_first[heappop(ready)[1]]
        order.append(node)
        for memory in reads[node]:
            remaining[memory] -= 1
        followers = list(graph.users[node])
        if node in after_effect:
            followers.append(after_effect[node])
        for follower in followers:
            waits[follower] -= 1
            if waits[follower] == 0:
                heappush(ready, entry(follower))
    return tuple(order)


def _computes_twice(nodes: tuple[Node, ...]) -> bool:
    """Whether two nodes have the same op, attributes and operands. After CSE none do."""
    seen = set()
    for node in nodes:
        if node.inputs:
            key = (node.op, node.attrs.key, *map(id, node.inputs))
            if key in seen:
                return True
            seen.add(key)
    return False


def _late_order(
    graph: Graph, order: tuple[Node, ...], reads: dict[Node, set[Node]]
) -> tuple[Node, ...]:
    """The order with every node moved down to its first reader, where what it makes is at least as
    big as the operands that would have to wait for it. So a value that is computed again, from what
    is there anyway, is computed when it is needed and not before.
    """
    stays = {*graph.outputs, *graph.effects}
    unplaced = {node: len(graph.users[node]) for node in order}
    is_read: set[Node] = set()  # the memories that a placed node reads
    placed: dict[Node, None] = {}  # from the end
    for anchor in reversed(order):
        stack = [anchor]
        while stack:
            node = stack.pop()
            if node in placed or node not in unplaced:
                continue
            if node is not anchor:
                waiting = sum(_own_bytes(x) for x in reads[node] if x not in is_read)
                if unplaced[node] or node in stays or _own_bytes(node) < waiting:
                    continue
            placed[node] = None
            is_read |= reads[node]
            for operand in dict.fromkeys(node.inputs):
                if operand in unplaced:
                    unplaced[operand] -= 1
                    stack.append(operand)
    return tuple(reversed(placed))

"""Scheduling: the order in which a graph's nodes run."""

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise

from needle_ir.ir import CONSTANT, INPUT, Graph, Node, Trait


def schedule(graph: Graph) -> tuple[Node, ...]:
    """The nodes that compute something, in an order that keeps few bytes alive.

    Two orders are tried, the graph's own (depth first from the outputs) and a greedy one; where
    something is computed twice, to save memory, also these with every node as late as its memory
    allows. The one with the lowest peak is taken, the first of equal ones. Effects keep their
    order.
    """
    numbered = _Numbered(graph)
    depth_first = [i for i, node in enumerate(graph.nodes) if node.op not in (INPUT, CONSTANT)]
    orders = [depth_first, _greedy_order(numbered, depth_first)]
    if _computes_twice(graph):
        orders += [_late_order(numbered, order) for order in orders]
    best = min(orders, key=numbered.peak)
    return tuple([graph.nodes[i] for i in best])


def peak_bytes(graph: Graph, order: tuple[Node, ...]) -> int:
    """The most bytes of results that are alive at one time under `order`.

    What leaves the graph stays alive to the end. Views have no bytes of their own, and keep the
    bytes alive that they look at.
    """
    numbered = _Numbered(graph)
    return numbered.peak([numbered.number[node] for node in order])


class _Numbered:
    """A graph's nodes as their positions in it, and by these what a schedule asks for.

    `inputs` and `users` have each node once. `reads` are the nodes whose memory a node reads,
    directly or through views, and `counts` how many nodes read it: one more where it leaves the
    graph. `own` are the bytes of a result, 0 for views and for what is there before.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.number = {node: i for i, node in enumerate(graph.nodes)}
        self.inputs: list[tuple[int, ...]] = []
        self.users: list[list[int]] = [[] for _ in graph.nodes]
        self.reads: list[tuple[int, ...]] = []
        self.own: list[int] = []
        owner: list[int] = []  # of the memory that a node's array lies in
        for i, node in enumerate(graph.nodes):
            inputs = _distinct([self.number[x] for x in node.inputs])
            is_view = node.op.has(Trait.VIEW)
            owner.append(owner[inputs[0]] if is_view else i)
            for x in inputs:
                self.users[x].append(i)
            self.inputs.append(inputs)
            self.reads.append(_distinct([owner[x] for x in inputs]))
            has_none = is_view or node.op in (INPUT, CONSTANT)
            self.own.append(0 if has_none else node.type.nbytes)
        leaving = [owner[self.number[x]] for x in graph.outputs]
        self.counts = [0] * len(owner)
        for memory in chain(chain.from_iterable(self.reads), leaving):
            self.counts[memory] += 1

    def peak(self, order: Iterable[int]) -> int:
        """The most bytes that are alive at one time."""
        own, remaining = self.own, self.counts.copy()
        alive = peak = 0
        for i in order:
            peak = max(peak, alive + own[i])
            alive += self.growth(i, remaining)
            for memory in self.reads[i]:
                remaining[memory] -= 1
        return peak

    def growth(self, i: int, remaining: list[int]) -> int:
        """How many bytes more are alive once a node has run, with these reads still to come."""
        grown = self.own[i] if remaining[i] else 0
        for memory in self.reads[i]:
            if remaining[memory] == 1:
                grown -= self.own[memory]
        return grown


def _distinct(numbers: list[int]) -> tuple[int, ...]:
    return tuple(numbers if len(numbers) < 2 else dict.fromkeys(numbers))


def _greedy_order(numbered: _Numbered, depth_first: Sequence[int]) -> list[int]:
    """A list schedule: of the nodes that could run next, the one that frees most.

    At a tie the graph's own order decides. What a node frees is judged when it becomes ready.
    """
    # An effect also waits for the effect before it.
    effects = [numbered.number[node] for node in numbered.graph.effects]
    after_effect = dict(pairwise(effects))
    waits = [0] * len(numbered.users)
    for i in depth_first:
        for user in numbered.users[i]:
            waits[user] += 1
    for later in after_effect.values():
        waits[later] += 1
    remaining = numbered.counts.copy()
    ready = [(numbered.growth(i, remaining), i) for i in depth_first if waits[i] == 0]
    heapify(ready)
    order: list[int] = []
    while ready:
        _, i = heappop(ready)
        order.append(i)
        for memory in numbered.reads[i]:
            remaining[memory] -= 1
        followers = numbered.users[i]
        if i in after_effect:
            followers = [*followers, after_effect[i]]
        for follower in followers:
            waits[follower] -= 1
            if waits[follower] == 0:
                heappush(ready, (numbered.growth(follower, remaining), follower))
    return order


def _computes_twice(graph: Graph) -> bool:
    """Whether two nodes have the same op, attributes and operands. After CSE none do."""
    seen = set()
    for node in graph.nodes:
        if node.inputs:
            key = (node.op, node.attrs, *map(id, node.inputs))
            if key in seen:
                return True
            seen.add(key)
    return False


def _late_order(numbered: _Numbered, order: Sequence[int]) -> list[int]:
    """The order with every node moved down to its first reader, where what it makes is at least as
    big as the operands that would have to wait for it. So a value that is computed again, from what
    is there anyway, is computed when it is needed and not before.
    """
    graph, own = numbered.graph, numbered.own
    stays = {numbered.number[node] for node in (*graph.outputs, *graph.effects)}
    unplaced = {i: len(numbered.users[i]) for i in order}
    is_read: set[int] = set()  # the memories that a placed node reads
    placed: dict[int, None] = {}  # from the end
    for anchor in reversed(order):
        stack = [anchor]
        while stack:
            i = stack.pop()
            if i in placed or i not in unplaced:
                continue
            if i != anchor:
                waiting = sum(own[x] for x in numbered.reads[i] if x not in is_read)
                if unplaced[i] or i in stays or own[i] < waiting:
                    continue
            placed[i] = None
            is_read.update(numbered.reads[i])
            for operand in numbered.inputs[i]:
                if operand in unplaced:
                    unplaced[operand] -= 1
                    stack.append(operand)
    return [*reversed(placed)]

"""Rematerialization: less memory for more computation, under a budget in bytes.

What the forward pass computes and the backward pass reads again is alive in between, and all of it
at the turn. A value can be dropped after its last early use and computed once more before its first
late one (Chen et al. 2016, "Training deep nets with sublinear memory cost"). Which values, is
chosen greedily: the most bytes for each floating-point operation first, the operations counted down
to values that are still alive then, as in Checkmate (Jain et al. 2020), without its solver.
"""

import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import accumulate, islice

from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Application,
    Cost,
    Graph,
    Node,
    Trait,
    announce,
    node_costs,
    watched,
)
from needle_ir.passes.schedule import schedule

# A value is computed from at most so many that are computed again as well.
MAX_CHAIN = 64
# Two computations of one value that are at most so many steps apart are made one.
NEARBY = 32
# In one round, this share of the peak is to be dropped at most: then the next peak is looked at.
# Where that does not help, half as much is tried, down to the smallest share.
SHARE = 0.5
SMALLEST_SHARE = 1 / 32
# Each round schedules the graph anew: there are at most so many, and the bigger the graph is, the
# fewer, down to so few.
MAX_ROUNDS, MIN_ROUNDS, NODES_IN_ALL = 64, 6, 40_000
# The rounds are greedy, and where they get to depends on how far they want to go. Where so many end
# above the budget, the others begin again with a part of it to aim at.
ROUNDS_PER_AIM = 16
AIMS = (1.0, 0.75, 0.5, 0.0)


class BudgetWarning(UserWarning):
    """The memory of a plan stays above what it was to be kept below."""


@dataclass(frozen=True)
class Remat:
    """Computes values twice where that brings the planned peak down to `budget` bytes.

    The peak is that of `peak_bytes`: results that are alive at one time, what the caller gets
    included, the inputs not. The numbers stay the same to the last bit. Random draws and effects
    are never computed again. It stands at the end of a pipeline: a `cse` behind it would take the
    second computations away, and `fuse` changes what is alive. Where the peak stays above the
    budget, it gives the best that it found and a BudgetWarning.
    """

    budget: int
    name = "remat"

    def __post_init__(self) -> None:
        if isinstance(self.budget, bool) or not isinstance(self.budget, int) or self.budget < 0:
            raise ValueError(f"remat{{budget={self.budget}}}: the budget is a number of bytes")

    def run(self, graph: Graph) -> Graph:
        """The graph with second computations, or the graph itself where its peak is low enough."""
        for node in graph.nodes:
            if node.op.has(Trait.MARKER):
                raise ValueError(f"remat stands after autodiff: there is a {node.op.name} node")
        before = best = _Lifetimes(graph)
        refused: set[Node] = set()
        rounds = iter(range(max(MIN_ROUNDS, min(MAX_ROUNDS, NODES_IN_ALL // _size(graph)))))
        for aim in AIMS:
            if best.peak <= self.budget:
                return best.graph
            some = islice(rounds, ROUNDS_PER_AIM)
            found = _search(before, self.budget, int(self.budget * aim), some, refused)
            best = min(best, found, key=lambda x: x.peak)
        if best.peak > self.budget:
            warnings.warn(
                f"remat: the planned peak of {graph.name} is {best.peak:,} bytes (without remat "
                f"{before.peak:,}), above the budget of {self.budget:,}: no way was found to bring "
                "it further down by computing values again",
                BudgetWarning,
                stacklevel=2,
            )
        return best.graph


class _Lifetimes:
    """When each value of a scheduled graph is made and read, and the bytes alive at each step.

    Values are counted by the node that owns their memory: a view has its operand's.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.order = schedule(graph)
        self.step = {node: i for i, node in enumerate(self.order)}
        self.owner: dict[Node, Node] = {}
        for node in graph.nodes:
            view = node.op.has(Trait.VIEW)
            self.owner[node] = self.owner[node.inputs[0]] if view else node
        self.reads: dict[Node, list[int]] = {node: [] for node in self.order}
        for i, node in enumerate(self.order):
            for memory in dict.fromkeys([self.owner[x] for x in node.inputs]):
                if memory in self.reads:
                    self.reads[memory].append(i)
        self.kept = {self.owner[x] for x in graph.outputs}
        self.end = {
            node: len(self.order)
            if node in self.kept
            else (reads[-1] if reads else self.step[node])
            for node, reads in self.reads.items()
        }
        change = [0] * (len(self.order) + 2)
        for node, end in self.end.items():
            change[self.step[node]] += nbytes(node)
            change[end + 1] -= nbytes(node)
        self.alive = [*accumulate(change)][: len(self.order)]
        self.peak = max(self.alive, default=0)

    def first_read_after(self, node: Node, step: int) -> int:
        """The step that reads the value next. There has to be one."""
        return next(i for i in self.reads[node] if i > step)


def nbytes(node: Node) -> int:
    """The bytes that a value takes of its own."""
    return 0 if node.op in (INPUT, CONSTANT) or node.op.has(Trait.VIEW) else node.type.nbytes


def _may_repeat(node: Node) -> bool:
    return node.op not in (INPUT, CONSTANT) and node.op.traits.isdisjoint(_ONCE)


_ONCE = frozenset({Trait.RANDOM, Trait.EFFECT, Trait.MARKER})


def _size(graph: Graph) -> int:
    return max(1, len(graph.nodes))


def _search(
    start: _Lifetimes, budget: int, aim: int, rounds: Iterable[int], refused: set[Node]
) -> _Lifetimes:
    """The first graph within the budget, or the one with the lowest peak that the rounds come to.

    They aim lower, at `aim`, less what is alive while something is computed again.
    """
    lifetimes, share = start, SHARE
    aim -= 2 * max([nbytes(node) for node in start.order], default=0)
    for _ in rounds:
        better = _round(lifetimes, max(aim, int(lifetimes.peak * (1 - share))), refused)
        if better is not None:
            lifetimes, share = better, SHARE
        elif share > SMALLEST_SHARE:
            share /= 2
        else:
            break
        if lifetimes.peak <= budget:
            break
    return lifetimes


def _round(lifetimes: _Lifetimes, goal: int, refused: set[Node]) -> _Lifetimes | None:
    """The graph with the memory at its peak brought down to `goal`, as far as that goes; None where
    the peak as a whole is no lower then.
    """
    at = max(range(len(lifetimes.alive)), key=lifetimes.alive.__getitem__)
    dropped = _choose(lifetimes, at, goal, refused)
    while dropped:
        for shared in (True, False):
            copies, graph = _recomputed(lifetimes, at, dropped, shared)
            better = _with_less_work(_Lifetimes(graph))
            if better.peak < lifetimes.peak:
                break
        else:
            return None
        refusals = _refusals(dropped, copies)
        if not refusals:
            return better
        refused |= refusals
        dropped = [node for node in dropped if node not in refused]
    return None


def _with_less_work(apart: _Lifetimes) -> _Lifetimes:
    """The same with copies merged, where that takes no more memory."""
    merged = _merged(apart)
    if merged is apart.graph:
        return apart
    return min(_Lifetimes(merged), apart, key=lambda x: x.peak)


def _refusals(dropped: list[Node], copies: dict[Node, Node]) -> set[Node]:
    """What somebody who looks on does not want to be computed again."""
    if not watched():
        return set()
    return {
        node
        for node in dropped
        if not announce(Application("remat", node, copies[node], (node,), (copies[node],)))
    }


def _choose(lifetimes: _Lifetimes, at: int, goal: int, refused: Collection[Node]) -> list[Node]:
    """The values to drop over the step `at`, the best first."""
    costs = node_costs(lifetimes.graph)
    dropped: dict[Node, None] = {}

    def price(node: Node) -> float | None:
        """The operations to pay for each byte."""
        flops = _chain_flops(lifetimes, node, at, dropped, costs)
        return None if flops is None else (1 + flops) / nbytes(node)

    heap: list[tuple[float, int, Node]] = []
    for node, reads in lifetimes.reads.items():
        made, end = lifetimes.step[node], lifetimes.end[node]
        idle = made < at < end and at not in reads and nbytes(node)
        if not idle or not _may_repeat(node) or node in lifetimes.kept or node in refused:
            continue
        first = price(node)
        if first is not None:
            heap.append((first, made, node))
    heapify(heap)
    excess = lifetimes.alive[at] - goal
    while heap and excess > 0:
        before, made, node = heap[0]
        # What was dropped since may have made it dearer.
        now = price(node)
        if now is None or now > before:
            if now is None:
                heappop(heap)
            else:
                heapreplace(heap, (now, made, node))
            continue
        heappop(heap)
        dropped[node] = None
        excess -= nbytes(node)
    return list(dropped)


def _chain_flops(
    lifetimes: _Lifetimes,
    node: Node,
    at: int,
    dropped: Collection[Node],
    costs: dict[Node, Cost],
) -> int | None:
    """The operations that computing a value again takes, down to what is still there when it is
    needed; None where that can not be.
    """
    needed = lifetimes.first_read_after(node, at)
    chain = {node}
    stack = [node]
    flops = 0
    while stack:
        x = stack.pop()
        flops += costs[x].flops
        for operand in x.inputs:
            memory = lifetimes.owner[operand]
            if memory.op in (INPUT, CONSTANT) or memory in chain:
                continue
            if memory not in dropped and lifetimes.end[memory] >= needed:
                continue
            if not _may_repeat(memory) or len(chain) == MAX_CHAIN:
                return None
            chain.add(memory)
            stack.append(memory)
    return flops


def _recomputed(
    lifetimes: _Lifetimes, at: int, dropped: list[Node], shared: bool
) -> tuple[dict[Node, Node], Graph]:
    """The copy of each value that is dropped, and the graph in which the steps after `at` read it.

    What several of them are computed from is either computed again once for all, and alive from
    the first to the last, or for each of them.
    """
    owner, gone = lifetimes.owner, set(dropped)
    for node in dropped:
        needed = lifetimes.first_read_after(node, at)
        stack = [node]
        while stack:
            for operand in stack.pop().inputs:
                memory = owner[operand]
                if memory.op in (INPUT, CONSTANT) or memory in gone:
                    continue
                if lifetimes.end[memory] < needed:
                    gone.add(memory)
                    stack.append(memory)

    new: dict[Node, Node] = {}
    for_all: dict[Node, Node] = {}
    copies: dict[Node, dict[Node, Node]] = {node: for_all if shared else {} for node in dropped}

    def copy(node: Node) -> Node:
        """The late one of a value, made of late ones."""
        made = copies[owner[node]]
        stack = [node]
        while stack:
            x = stack[-1]
            waiting = [y for y in x.inputs if owner[y] in gone and y not in made]
            if x in made or not waiting:
                stack.pop()
                if x not in made:
                    inputs = tuple([made.get(y, new.get(y, y)) for y in x.inputs])
                    made[x] = Node(x.op, inputs, x.attrs, x.type, x.origin)
            else:
                stack += waiting
        return made[node]

    for i, node in enumerate(lifetimes.order):
        inputs = [copy(x) if i > at and owner[x] in copies else new.get(x, x) for x in node.inputs]
        new[node] = node.with_inputs(tuple(inputs))
    graph = lifetimes.graph.with_roots(lambda x: new.get(x, x))
    return {node: made[node] for node, made in copies.items()}, graph


def _merged(lifetimes: _Lifetimes) -> Graph:
    """The graph with copies made one that are a few steps apart."""
    new: dict[Node, Node] = {}
    last: dict[object, tuple[Node, int]] = {}
    for i, node in enumerate(lifetimes.order):
        now = node.with_inputs(tuple([new.get(x, x) for x in node.inputs]))
        if _may_repeat(node):
            key = (now.op, now.attrs.key, *map(id, now.inputs))
            end = lifetimes.end.get(lifetimes.owner[node], i)
            first, until = last.get(key, (now, i))
            if i - until <= NEARBY:
                now, end = first, max(end, until)
            last[key] = (now, end)
        new[node] = now
    return lifetimes.graph.with_roots(lambda x: new.get(x, x))

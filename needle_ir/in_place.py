"""Optimizer steps without `jit`, computed in the place of the arrays that they read.

A step reads parameters and moments and replaces them. Where nobody else holds these, which
reference counts tell, the new ones are written over them, and the parameters keep their leaves.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter, is_
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from needle_ir.compiler import Program
from needle_ir.ir import Array, Node, refill
from needle_ir.leaves import Leaves
from needle_ir.plan_cache import Found
from needle_ir.recording import updates

if TYPE_CHECKING:
    from needle_ir.runtime import Leases

_value = attrgetter("value")
# What getrefcount says of an object that one list holds.
_IN_A_LIST = next(map(getrefcount, [object()]))


@dataclass
class Replaced:
    """A packed leaf that a step reads, and the node that takes its place. For parameters also their
    leaves, and the nodes by which the step reads them one by one.

    With them, how many hold the leaf, and each of these nodes, besides what was recorded.
    """

    old: Node
    new: Node
    owners: int
    leaves: Leaves | None = None
    parts: Sequence[Node] = ()
    part_owners: int = 0

    @property
    def nodes(self) -> list[Node]:
        """All leaves that lie where `new` goes."""
        return [self.old, *self.parts]


@dataclass
class _Run:
    """A run, to be followed by one that replaces its results.

    `which` are the positions of what it replaced among what it was to replace; `inputs` and
    `outputs` those of the leaves among the inputs of the program, and of what replaced them among
    the outputs; these are `results`.
    """

    program: Program
    which: list[int]
    inputs: list[int]
    outputs: list[int]
    results: list[Array]
    leases: "Leases"  # None for memory in which no result lies
    counts: list[list[int]] | None = None  # the reference counts in there while claimed
    # Those of the leaves, and what they follow from: how often each is used, and by whom held.
    node_counts: list[int] | None = None
    follows_from: tuple[Any, ...] = ()


class InPlace:
    """The runs of one optimizer's steps.

    `expect` says before each what it replaces. A run is computed where the results of the last one
    lie if it is one of the same program, reads these very results, and nobody else holds one of
    them, a view of one, or one of the leaves. Meanwhile the leaves have no values, so that nobody
    can begin to.
    """

    def __init__(self) -> None:
        self._replaced: Sequence[Replaced] = ()
        self._last: _Run | None = None
        self._nodes: list[Node] = []  # without their arrays, which are
        self._claimed: list[Array] = []

    def __reduce__(self) -> tuple[type["InPlace"], tuple[()]]:
        return InPlace, ()  # a copy of an optimizer has arrays of its own

    def expect(self, replaced: Sequence[Replaced]) -> None:
        """Note what the next step replaces."""
        self._replaced = replaced

    def pairs(self, leaves: Sequence[Node], outputs: Sequence[Node]) -> list[tuple[int, int]]:
        """By position, each of the leaves that may lie where an output goes, and this output."""
        inputs, places = _positions(leaves), _positions(outputs)
        return [
            (inputs[node], places[x.new])
            for x in self._replaced
            for node in x.nodes
            if node in inputs
        ]

    def run(
        self, found: Found, outputs: Sequence[Node], arrays: Sequence[Array]
    ) -> tuple[Array, ...]:
        """The arrays of `outputs`. Those of the leaves that were found are in the list `arrays`,
        which nobody else has.
        """
        with ExitStack() as locks:
            for x in self._replaced:
                if x.leaves is not None:
                    locks.enter_context(x.leaves.lock)
            try:
                leases = self._claim(found, outputs, arrays)
                results, lent = found.program.replace(arrays, leases)
            finally:
                self._restore()
        last = self._last
        if last is not None and leases and lent:
            last.results = [results[i] for i in last.outputs]
        else:
            self._last = self._remember(found, outputs, results, lent)
        self._replaced = ()
        return results

    def _claim(self, found: Found, outputs: Sequence[Node], arrays: Sequence[Array]) -> "Leases":
        """The memory to compute in, nothing where somebody else may read it. If there is some, the
        leaves in there have no values until `_restore`.
        """
        last = self._last
        if last is None or found.uses is None or found.program is not last.program:
            return ()
        replaced = self._replaced_by(last)
        nodes = _nodes(replaced)
        if not (
            [*map(found.leaves.__getitem__, last.inputs)] == nodes
            and all(map(is_, map(arrays.__getitem__, last.inputs), last.results))
            and all(
                outputs[i] is self._replaced[k].new
                for i, k in zip(last.outputs, last.which, strict=True)
            )
        ):
            return ()
        self._nodes, self._claimed = nodes, [*map(_value, nodes)]
        updates.begin()
        refill(nodes, repeat(None))
        if last.counts is None:
            held = [*self._claimed, *last.results, *[arrays[i] for i in last.inputs]]
            last.counts = [[] if x is None else x.counts_in(held) for x in last.leases]
            del held
        parts = self._claimed[len(last.which) :]
        pairs = zip(last.leases, last.counts, strict=True)
        if (
            all(lease is None or lease.has(counts) for lease, counts in pairs)
            and [*map(getrefcount, nodes)] == _node_counts(last, replaced, found.uses)
            and {*map(getrefcount, parts)} <= {_IN_A_LIST + 2}  # claimed, and in `arrays`
        ):
            return last.leases
        self._restore()
        return ()

    def _replaced_by(self, run: _Run) -> list[Replaced]:
        """What was to be replaced, as far as a run replaced it."""
        return [self._replaced[i] for i in run.which if i < len(self._replaced)]

    def _restore(self) -> None:
        """Give the leaves that are claimed their arrays back."""
        if self._claimed:
            refill(self._nodes, self._claimed)
            self._nodes, self._claimed = [], []
            updates.end()

    def _remember(
        self,
        found: Found,
        outputs: Sequence[Node],
        results: Sequence[Array],
        leases: "Leases",
    ) -> _Run | None:
        """This run, if the next one may be computed where its results lie."""
        if not leases:
            return None
        plan = found.program.plan
        inputs, places = _positions(found.leaves), _positions(outputs)
        donated = {pair for donation in plan.donations for pair in donation.replaced}
        which = [
            k
            for k, x in enumerate(self._replaced)
            if all(
                node in inputs
                and (plan.inputs[inputs[node]], plan.outputs[places[x.new]]) in donated
                for node in x.nodes
            )
        ]
        new = [places[self._replaced[k].new] for k in which]
        own = [results[i] for i in new]
        around = [
            lease if lease is not None and any(x is y for x in lease.arrays for y in own) else None
            for lease in leases
        ]
        if not any(around):
            return None
        run = _Run(found.program, which, [], new, own, around)
        run.inputs = [inputs[node] for node in _nodes(self._replaced_by(run))]
        return run


def _nodes(replaced: Sequence[Replaced]) -> list[Node]:
    """The leaves to compute in the place of, the packed ones first."""
    return [*[x.old for x in replaced], *chain.from_iterable([x.parts for x in replaced])]


def _node_counts(run: _Run, replaced: Sequence[Replaced], uses: Sequence[int]) -> list[int]:
    """What the reference counts of `_nodes` are where nobody else holds one."""
    owners = [(x.owners, x.part_owners, len(x.parts)) for x in replaced]
    if run.node_counts is None or run.follows_from != (uses, owners):
        of_each = [n for n, _, _ in owners]
        for _, n, count in owners:
            of_each += [n] * count
        # Besides its owners `replaced` holds each, the leaves that were found, and a list.
        pairs = zip(of_each, run.inputs, strict=True)
        run.node_counts = [_IN_A_LIST + 2 + n + uses[i] for n, i in pairs]
        run.follows_from = uses, owners
    return run.node_counts


def _positions(nodes: Sequence[Node]) -> dict[Node, int]:
    return {node: i for i, node in enumerate(nodes)}

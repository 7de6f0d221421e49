"""What a pass changed: the nodes it added, the nodes it removed, the nodes it touched."""

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from needle_ir.ir import Graph, Node


class Mark(Enum):
    """What became of a node. The value is the word in a legend."""

    ADDED = "added"
    REMOVED = "removed"
    TOUCHED = "touched"


@dataclass(frozen=True)
class Change:
    """A graph before and after a pass.

    A pass makes a node anew whenever something above it changed. So nodes of both graphs are taken
    for the same where op, attributes, type and origin are: first those that read the same nodes,
    then those that outputs lead to along the same operands, then in topological order.

    Who knows better gives `known`: the nodes of `before` that are still there, each with what it
    is in `after`.
    """

    before: Graph
    after: Graph
    known: Mapping[Node, Node] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def kept(self) -> dict[Node, Node]:
        """The nodes of `before` that are still there, each with what it is in `after`."""
        return _kept(self.before, self.after) if self.known is None else dict(self.known)

    @cached_property
    def added(self) -> frozenset[Node]:
        """The nodes of `after` that `before` does not have."""
        return frozenset(self.after.nodes).difference(self.kept.values())

    @cached_property
    def removed(self) -> frozenset[Node]:
        """The nodes of `before` that `after` does not have."""
        return frozenset(self.before.nodes).difference(self.kept)

    @cached_property
    def touched(self) -> frozenset[Node]:
        """The nodes of `after` that read something else than they did in `before`."""
        return frozenset(
            new
            for old, new in self.kept.items()
            if old is not new and tuple([self.kept.get(x) for x in old.inputs]) != new.inputs
        )

    @cached_property
    def marks(self) -> dict[Node, Mark]:
        """The mark of every node of both graphs that has one."""
        groups = (self.added, self.removed, self.touched)
        return {node: mark for mark, nodes in zip(Mark, groups, strict=True) for node in nodes}

    def __str__(self) -> str:
        counts = (self.added, self.removed, self.touched)
        return ", ".join(f"{len(x)} {m.value}" for m, x in zip(Mark, counts, strict=True) if x) or (
            "nothing changed"
        )


def op_counts(nodes: frozenset[Node]) -> str:
    """The ops of `nodes` by name, each with how often: `2 add, exp`."""
    counts = Counter(node.op.name for node in nodes)
    return ", ".join(f"{n} {name}" if n > 1 else name for name, n in sorted(counts.items()))


def _kept(before: Graph, after: Graph) -> dict[Node, Node]:
    now = frozenset(after.nodes)
    match = _Match({node: node for node in before.nodes if node in now})
    for old, new in zip(before.inputs, after.inputs, strict=False):
        match.add(old, new)
    match.from_above(before, after)
    for group in ("outputs", "effects", "unused"):
        match.from_below(list(zip(getattr(before, group), getattr(after, group), strict=False)))
    match.in_order(before, after)
    return match.new


class _Match:
    """Which nodes of two graphs are the same, while it is found out."""

    def __init__(self, same: dict[Node, Node]):
        self.new = same
        self.old = dict(same)
        self._keys: dict[Node, Hashable] = {}

    def add(self, old: Node, new: Node) -> bool:
        """Match two nodes, if they are alike and have no match yet."""
        if old in self.new or new in self.old or self.key(old) != self.key(new):
            return False
        self.new[old], self.old[new] = new, old
        return True

    def key(self, node: Node) -> Hashable:
        """What two nodes must share: op, attributes, type and origin."""
        if node not in self._keys:
            self._keys[node] = _key(node)
        return self._keys[node]

    def from_above(self, before: Graph, after: Graph) -> None:
        """Match nodes that read matched nodes, as they did before."""
        readers: dict[Hashable, deque[Node]] = defaultdict(deque)
        for node in before.nodes:
            if node not in self.new:
                readers[self.key(node), node.inputs].append(node)
        for node in after.nodes:
            if node not in self.old:
                operands = tuple([self.old.get(x) for x in node.inputs])
                found = readers.get((self.key(node), operands))
                if found:
                    self.add(found.popleft(), node)

    def from_below(self, pairs: list[tuple[Node, Node]]) -> None:
        """Match pairs of nodes, and what they read at the same position."""
        while pairs:
            old, new = pairs.pop()
            if self.add(old, new) or self.new.get(old) is new:
                news = new.inputs if old is not new else ()
                pairs += [
                    (x, y)
                    for x, y in zip(old.inputs, news, strict=False)
                    if x not in self.new and y not in self.old
                ]

    def in_order(self, before: Graph, after: Graph) -> None:
        """Match what is left and alike in topological order."""
        alike: dict[Hashable, deque[Node]] = defaultdict(deque)
        for node in before.nodes:
            if node not in self.new:
                alike[self.key(node)].append(node)
        for node in after.nodes:
            if node not in self.old and alike.get(self.key(node)):
                self.add(alike[self.key(node)].popleft(), node)


def _key(node: Node) -> Hashable:
    origin = node.origin
    place = None if origin is None else (id(origin.code), *origin[1:])
    return (node.op, node.attrs, node.type, place)

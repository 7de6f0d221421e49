"""What a pass changed: the nodes it added, the nodes it removed, the nodes it touched."""

from collections import Counter, defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass
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

    A pass makes a node anew whenever something above it changed. So a node of `after` is known
    again in `before` by its op, attributes, type and origin: best where its operands are known
    again too, and else in topological order.
    """

    before: Graph
    after: Graph

    @cached_property
    def kept(self) -> dict[Node, Node]:
        """The nodes of `before` that are still there, each with what it is in `after`."""
        return _kept(self.before, self.after)

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
    kept = {node: node for node in before.nodes if node in now}
    was = dict(kept)
    for old, new in zip(before.inputs, after.inputs, strict=False):
        if old not in kept and new not in was and old.type == new.type:
            kept[old], was[new] = new, old
    exact: dict[Hashable, deque[Node]] = defaultdict(deque)
    alike: dict[Hashable, deque[Node]] = defaultdict(deque)
    for node in before.nodes:
        if node not in kept:
            exact[_key(node), node.inputs].append(node)
            alike[_key(node)].append(node)
    for node in after.nodes:
        if node in was:
            continue
        key = _key(node)
        operands = tuple([was.get(x) for x in node.inputs])
        match = _first(exact[key, operands], kept) or _first(alike[key], kept)
        if match is not None:
            kept[match], was[node] = node, match
    return kept


def _first(nodes: deque[Node], taken: dict[Node, Node]) -> Node | None:
    while nodes:
        node = nodes.popleft()
        if node not in taken:
            return node
    return None


def _key(node: Node) -> Hashable:
    origin = node.origin
    place = None if origin is None else (id(origin.code), *origin[1:])
    return (node.op, node.attrs.key, node.type, place)

"""What a pass changed: the nodes that came and the nodes that went."""

from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from needle_ir.ir import Graph, Node


@dataclass(frozen=True)
class Changes:
    """The nodes of the second graph that are `new`, and those of the first that are `gone`."""

    new: frozenset[Node]
    gone: frozenset[Node]

    def __str__(self) -> str:
        return f"{len(self.gone)} gone, {len(self.new)} new"


def changes(before: Graph, after: Graph) -> Changes:
    """What came and what went from `before` to `after`.

    A pass makes a node anew whenever something above it changed. Such a node is neither new nor
    gone: it is known by its op, attributes, type and origin, in topological order.
    """
    old, now = set(before.nodes), set(after.nodes)
    unmatched: dict[Hashable, deque[Node]] = defaultdict(deque)
    for node in before.nodes:
        if node not in now:
            unmatched[_key(node)].append(node)
    new: list[Node] = []
    for node in after.nodes:
        if node not in old:
            same = unmatched.get(_key(node))
            if same:
                same.popleft()
            else:
                new.append(node)
    return Changes(frozenset(new), frozenset(n for same in unmatched.values() for n in same))


def _key(node: Node) -> Hashable:
    origin = node.origin
    place = None if origin is None else (id(origin.code), *origin[1:])
    return (node.op, node.attrs.key, node.type, place)

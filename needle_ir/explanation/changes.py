"""What a pass changed, line by line, put together by the rewrite that did it."""

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import Enum

from needle_ir.explanation.naming import Names, Transition, literal
from needle_ir.ir import INPUT, Graph, Node, Origin, statement


class Kind(Enum):
    """What a line of a diff says; the value is the sign in front of it."""

    REMOVED = "-"
    REPLACED = "→"
    ADDED = "+"
    SAME = " "


@dataclass(frozen=True)
class Line:
    """One line of a diff: a node before or after the pass, or what stands for one now."""

    kind: Kind
    name: str
    text: str
    node: Node

    @property
    def origin(self) -> Origin | None:
        """Where the user wrote it."""
        return self.node.origin


@dataclass(frozen=True)
class Hunk:
    """Lines that belong together, and the rules that made the change, with how often.

    Without rules the pass did not say what it did: then these are the lines of one place in the
    user's program.
    """

    rules: Counter[str]
    lines: tuple[Line, ...]

    @property
    def origins(self) -> list[Origin]:
        """The places in the user's program, each once."""
        found = dict.fromkeys(line.origin for line in self.lines)
        return [origin for origin in found if origin is not None]


class Change:
    """What became of the lines of one graph in the next one.

    A line is a node with an op. Inputs have none, nor have scalar constants: these are written
    where they are read.
    """

    def __init__(self, before: Graph, after: Graph, transition: Transition):
        self._before, self._after, self._transition = before, after, transition
        self._old = _listed(before, transition.before)
        self._new = _listed(after, transition.after)
        self._names_now = set(transition.after.values())
        same = {
            name
            for name in self._old.keys() & self._new.keys()
            if self._meaning_before(self._old[name]) == self._meaning_after(self._new[name])
        }
        self._gone = self._old.keys() - same
        self._came = self._new.keys() - same

    def hunks(self) -> tuple[Hunk, ...]:
        """The lines that went and came, by the rewrite that changed them."""
        groups: dict[Hashable, list[Line]] = {}
        old_groups = self._groups(self._before, self._transition.before, self._gone)
        new_groups = self._groups(self._after, self._transition.after, self._came)
        for name, node in self._old.items():
            if name in self._gone:
                groups.setdefault(old_groups[name], []).extend(self._minus(name, node))
        for name, node in self._new.items():
            if name in self._came:
                groups.setdefault(new_groups[name], []).append(self._plus(name, node))
        rules = self._transition.rules
        return tuple(
            Hunk(rules[key] if isinstance(key, str) else Counter(), tuple(lines))
            for key, lines in groups.items()
        )

    def whole(self) -> list[Line]:
        """All lines of the graph after the pass; in front of each, what went before it."""
        in_front: dict[str, list[Line]] = {}
        waiting: list[Line] = []
        for name, node in self._old.items():
            if name in self._gone:
                waiting += self._minus(name, node)
            if name in self._new:
                in_front[name], waiting = waiting, []
        lines: list[Line] = []
        for name, node in self._new.items():
            lines += in_front.get(name, ())
            lines.append(self._plus(name, node))
        return [*lines, *waiting]

    def _meaning_before(self, node: Node) -> Hashable:
        """What a line says, with the names that its operands have after the pass."""
        names = [self._transition.now(self._transition.before[x]) for x in node.inputs]
        return (node.op, node.attrs.key, node.type, tuple(names))

    def _meaning_after(self, node: Node) -> Hashable:
        names = [self._transition.after[x] for x in node.inputs]
        return (node.op, node.attrs.key, node.type, tuple(names))

    def _minus(self, name: str, node: Node) -> Iterator[Line]:
        yield Line(Kind.REMOVED, name, statement(node, self._transition.before), node)
        now = self._transition.now(name)
        if now != name and now in self._names_now:
            yield Line(Kind.REPLACED, name, f"{name} is {now}", node)

    def _plus(self, name: str, node: Node) -> Line:
        kind = Kind.ADDED if name in self._came else Kind.SAME
        return Line(kind, name, statement(node, self._transition.after), node)

    def _groups(self, graph: Graph, names: Names, changed: set[str]) -> dict[str, Hashable]:
        """The rewrite that changed each of the lines `changed`.

        Where no rewrite says so of a line, it is the one that changed a line which reads it; where
        none did, it is the place in the user's program.
        """
        groups: dict[str, Hashable] = {}
        for node in reversed(graph.nodes):
            name = names[node]
            if name not in changed:
                continue
            group = self._transition.group(name)
            readers = [groups.get(names[user]) for user in graph.users[node]]
            from_readers = next((x for x in readers if isinstance(x, str)), None)
            groups[name] = group or from_readers or _place(node)
        return groups


def _listed(graph: Graph, names: Names) -> dict[str, Node]:
    """The nodes that have a line, by name."""
    return {names[x]: x for x in graph.nodes if x.op is not INPUT and literal(x) is None}


def _place(node: Node) -> Hashable:
    origin = node.origin
    if origin is None:
        return ("place",)
    return ("place", origin.filename, origin.line, origin.module, origin.phase)

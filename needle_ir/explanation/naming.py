"""Names that stay with values from pass to pass.

The text form numbers the nodes of each graph anew, so one rewrite changes most of its lines. Here a
value keeps its name for as long as any graph has it: a node that was made anew over other operands
keeps its name, and what replaces a node takes its name over. So two graphs differ in the lines that
a pass has changed, and in no others.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from needle_ir.ir import CONSTANT, Application, Graph, Node, print_attr, value_names

Names = dict[Node, str]
# Of many values that look alike, so many are looked at to find the one that is meant.
_LOOKED_AT = 16


@dataclass(frozen=True)
class Transition:
    """What became of the values of one graph in the next one.

    `before` and `after` name the nodes of the two graphs. `alias` says for the name of a value that
    is gone which value stands for it. `groups` puts together, by a common name, the values that
    rewrites connect: what was rewritten with what was made of it. `rules` are those of a group.
    `matched` names, for a value that a pattern matched, the group of the rewrite.
    """

    before: Names
    after: Names
    alias: dict[str, str]
    groups: dict[str, str]
    rules: dict[str, Counter[str]]
    matched: dict[str, str]

    def now(self, name: str) -> str:
        """The name of the value that stands for this one after the pass."""
        return _last(name, self.alias)

    def group(self, name: str) -> str | None:
        """The group of a value that a rewrite made, replaced or matched; None for another one."""
        group = _last(name, self.groups)
        if group not in self.rules and name in self.matched:
            group = _last(self.matched[name], self.groups)
        return group if group in self.rules else None


class Namer:
    """Gives the names of a graph, and follows them through passes."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self.names = {x: literal(x) or name for x, name in value_names(graph).items()}
        self._fresh = (f"%{i}" for i in count(len(graph.nodes) - len(graph.inputs)))

    def follow(self, graph: Graph, applications: Sequence[Application]) -> Transition:
        """Go on to `graph`, which a pass made of the graph named last by `applications`."""
        follower = _Follower(self._graph, self.names, self._fresh, graph)
        transition = follower.follow(applications)
        self._graph, self.names = graph, transition.after
        return transition


class _Follower:
    """The way of the names through one pass.

    A pass shows the nodes that it rewrites as they are by then: over the operands that were put in
    the place of the recorded ones. Such a node is known by its op, attributes, type and origin, and
    by the names of its operands.
    """

    def __init__(self, before: Graph, names: Names, fresh: Iterator[str], after: Graph):
        self._graph = before
        self._after_graph = after
        self._before = names
        self._fresh = fresh
        self._names = dict(names)
        self._alias: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        self._rules: dict[str, Counter[str]] = {}
        self._matched: dict[str, str] = {}
        self._node: dict[str, Node] = {}  # the latest node of each name
        self._readers: dict[str, dict[str, None]] = {}  # each once, however often it was defined
        self._index: dict[Hashable, dict[str, None]] = {}
        self._after: Names = {}
        self._taken: set[str] = set()
        self._met: set[str] = set()  # the names of what was met made anew
        for node, name in names.items():
            self._define(name, node)
        self._gone: dict[Hashable, dict[str, None]] = {}  # what is gone, by how it looks
        still = set(after.nodes)
        for node, name in names.items():
            if node not in still and literal(node) is None:
                self._gone.setdefault(_looks(node), {})[name] = None

    def follow(self, applications: Sequence[Application]) -> Transition:
        """Name the nodes of the graph after the pass."""
        for application in applications:
            self._apply(application)
        return Transition(
            before=self._before,
            after=self._name_all(self._after_graph),
            alias=self._alias,
            groups=self._groups,
            rules=self._rules,
            matched=self._matched,
        )

    # The rewrites that were announced ---------------------------------------------------------

    def _apply(self, application: Application) -> None:
        name = self._name_of(application.before) or next(self._fresh)
        self._names[application.before] = name
        group = _last(name, self._groups)
        self._rules.setdefault(group, Counter())[application.rule] += 1
        for node in application.matched:
            matched = self._name_of(node)
            if matched is not None and matched != name:
                self._matched.setdefault(matched, name)
        if application.after is application.before:
            return
        is_new = application.after in application.new
        standing = self._name_of(application.after, guess=not is_new)
        for node in application.new:
            if node is not application.after and node not in self._names:
                self._names[node] = literal(node) or next(self._fresh)
                self._groups[self._names[node]] = group
                self._define(self._names[node], node)
        if standing is None:
            self._names[application.after] = name
            self._define(name, application.after)
        elif standing != name and _last(standing, self._alias) != name:
            self._alias[name] = standing
            for reader in self._readers.pop(name, ()):
                self._define(reader, self._node[reader])

    def _define(self, name: str, node: Node) -> None:
        """Let `node` be what `name` stands for, over the operands that are there now."""
        self._node[name] = node
        if not node.inputs and literal(node) is not None:
            return
        for operand in dict.fromkeys(node.inputs):
            self._readers.setdefault(self._operand(operand), {})[name] = None
        self._index.setdefault(self._key(node), {})[name] = None

    def _operand(self, node: Node) -> str:
        return _last(self._names[node], self._alias)

    def _key(self, node: Node) -> Hashable:
        return (*_looks(node), tuple([self._operand(x) for x in node.inputs]))

    def _name_of(self, node: Node, guess: bool = True) -> str | None:
        """The name of a node of the graph, or of one that was made anew on the way.

        None where there is none; without `guess`, also where only the looks of the node tell.
        """
        stack = [node]
        while stack:
            top = stack[-1]
            unnamed = [x for x in top.inputs if x not in self._names]
            if top in self._names:
                stack.pop()
            elif unnamed:
                stack += unnamed
            else:
                stack.pop()
                name = literal(top) or self._made_anew(top, guess or top is not node)
                if name is None and top is not node:
                    name = next(self._fresh)
                    self._define(name, top)
                if name is not None:
                    self._names[top] = name
        return self._names.get(node)

    def _made_anew(self, node: Node, guess: bool) -> str | None:
        """The name of the value that `node` is, over operands that stand for other ones now.

        Where a pass did not tell what it put in the place of an operand, it is the first value of
        the same looks that is gone.
        """
        names = self._index.get(self._key(node), {})
        found = next((name for name in names if self._is_stale(self._node[name])), None)
        if found is not None:
            del names[found]
        if found is None and guess:
            found = self._alike(node, [self._operand(x) for x in node.inputs])
        if found is not None:
            self._met.add(found)
            self._node[found] = node
        return found

    def _is_stale(self, node: Node) -> bool:
        """Whether something else was put in the place of an operand."""
        names = [self._names[x] for x in node.inputs]
        return any(
            name in self._alias or self._node.get(name, x) is not x
            for name, x in zip(names, node.inputs, strict=True)
        )

    # The graph that came out ------------------------------------------------------------------

    def _name_all(self, graph: Graph) -> Names:
        """A name for each node of `graph`. No two values share one."""
        for node in graph.nodes:
            text = literal(node)
            if text is not None:
                self._after[node] = text
            elif node in self._names and self._node.get(self._names[node]) is node:
                self._give(node, self._names[node])
        self._name_by_operands(graph)
        for node in graph.nodes:
            if node in self._names:
                self._give(node, self._names[node])
        self._name_by_users(graph)
        self._name_by_operands(graph)
        self._name_by_looks(graph)
        self._name_by_operands(graph)
        for node in graph.nodes:
            if node not in self._after:
                self._give(node, next(self._fresh))
        return self._after

    def _give(self, node: Node, name: str) -> None:
        """Let `node` have `name`, where it has none and the name is free."""
        if node not in self._after and name not in self._taken and name not in self._alias:
            self._after[node] = name
            self._taken.add(name)

    def _name_by_operands(self, graph: Graph) -> None:
        """Name what was made anew over operands that have names."""
        for node in graph.nodes:
            if node not in self._after and all(x in self._after for x in node.inputs):
                operands = tuple([self._after[x] for x in node.inputs])
                for name in self._index.get((*_looks(node), operands), ()):
                    self._give(node, name)

    def _name_by_users(self, graph: Graph) -> None:
        """Name what took the place of an operand, seen from what reads it."""
        for old_roots, roots in (
            (self._graph.outputs, graph.outputs),
            (self._graph.effects, graph.effects),
        ):
            if len(old_roots) == len(roots):
                for old, node in zip(old_roots, roots, strict=True):
                    self._give(node, _last(self._before[old], self._alias))
        for node in reversed(graph.nodes):
            reader = self._node.get(self._after.get(node, ""))
            if reader is None or reader is node or len(reader.inputs) != len(node.inputs):
                continue
            if reader.op is node.op:
                for old, operand in zip(reader.inputs, node.inputs, strict=True):
                    if old.type == operand.type:
                        self._give(operand, _last(self._names[old], self._alias))

    def _name_by_looks(self, graph: Graph) -> None:
        """Name what has the op, attributes, type and origin of something that is gone."""
        for node in graph.nodes:
            if node not in self._after:
                operands = [self._after[x] for x in node.inputs if x in self._after]
                name = self._alike(node, operands)
                if name is not None:
                    self._give(node, name)

    def _alike(self, node: Node, operands: Sequence[str]) -> str | None:
        """Of what is gone and looks like `node`, the value that has most operands of it."""
        names = self._gone.get(_looks(node), {})
        best, shared = None, 0 if node.inputs else -1
        for name in [*islice(names, _LOOKED_AT)]:
            if name in self._alias or name in self._met or name in self._taken:
                del names[name]
                continue
            old = {self._operand(x) for x in self._node[name].inputs}
            if len(old.intersection(operands)) > shared:
                best, shared = name, len(old.intersection(operands))
        if best is not None:
            del names[best]
        return best


def literal(node: Node) -> str | None:
    """The text of a scalar constant: it is written where it is read."""
    if node.op is CONSTANT and not node.type.shape:
        return print_attr(node.attrs["value"])
    return None


def _looks(node: Node) -> tuple[Hashable, ...]:
    origin = node.origin
    place = None if origin is None else (id(origin.code), *origin[1:])
    return (node.op, node.attrs.key, node.type, place)


def _last(name: str, following: dict[str, str]) -> str:
    while name in following:
        name = following[name]
    return name

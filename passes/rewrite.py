"""The driver that applies rewrite rules, and passes that are made of rules alone."""

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, repeat

from needle_ir.ir import INPUT, Graph, Node
from needle_ir.passes.application import Candidates, Descent, descend, is_applied, unknown
from needle_ir.passes.cse import expression, is_allowed, may_be_merged
from needle_ir.passes.pattern import Pattern, scalar_value
from needle_ir.passes.rule import Rule
from needle_ir.passes.walk import walk

__all__ = ["Pattern", "Rule", "RulePass", "rewrite", "scalar_value"]


@dataclass(frozen=True, init=False, repr=False)
class RulePass:
    """A pass that is a name and a list of rules."""

    name: str = field(repr=False)
    rules: tuple[Rule, ...] = field(repr=False)

    def __init__(self, name: str, rules: Iterable[Rule]):
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "rules", tuple(rules))

    def run(self, graph: Graph) -> Graph:
        """The graph with the rules applied until none applies any more."""
        return rewrite(graph, self.rules)

    def __repr__(self) -> str:
        return f"RulePass({self.name!r}, {[*self.rules]})"


def rewrite(
    graph: Graph, rules: Iterable[Rule], limit: int | None = None, *, merge: bool = False
) -> Graph:
    """`graph` with `rules` applied, operands before users, until none applies any more.

    Of several rules that apply to a node the first one does. A node is looked at again only where
    one of its operands changed, or where a rule failed because of a use that is gone. Where no
    rule applies, the result is `graph` itself.

    With `merge`, what the rules make the same expression as another node is merged with it, as cse
    does: else a rule that asks for one node twice, or for a node that is read once, would apply
    only after the next cse. What was the same before the rules may stay as it is.

    Raises RuntimeError, naming the rules, where a rule applies to what another one made, a third
    one to what that one made, and so on for more than `limit` times: then some undo each other.
    By default the limit is 1,000 and twice the number of nodes.
    """
    if limit is None:
        limit = 1000 + 2 * len(graph.nodes)
    rules = tuple(rules)
    if not merge and not any(rule.asks_who_reads for rule in rules):
        return walk(graph, rules, limit)
    return _Driver(graph, rules, limit, merge).run()


class _Driver:
    """The worklist, and the graph as it is while it is rewritten.

    `users` has a key for every node that is alive, and under it what reads the node: the graph's
    own tuple until it changes, then a dictionary. Nodes are immutable: where one is replaced, its
    users read the old one until they are visited, and `replaced` says what stands for it.
    """

    def __init__(self, graph: Graph, rules: tuple[Rule, ...], limit: int, merge: bool):
        self.graph = graph
        self.candidates = Candidates(rules)
        self.limit = limit
        self.merge = merge
        # The first node of each expression. It keeps the operands that are its key.
        self.known: dict[Hashable, Node] = {}
        self.replaced: dict[Node, Node] = {}
        self.roots = {*graph.outputs, *graph.effects, *graph.unused}
        self.users: dict[Node, tuple[Node, ...] | dict[Node, None]] = {**graph.users}
        for node in graph.nodes if merge else ():
            if may_be_merged(node):
                self.known.setdefault(expression(node), node)
        # When a node's turn is: that of the original node that it goes back to, and among what was
        # made in its place, the latest first, operands before users.
        self.turn = dict(zip(graph.nodes, zip(count(), repeat(0), repeat(0)), strict=False))
        self.descent: dict[Node, Descent] = {}
        # The roots of the patterns that failed because a node was shared, by that node.
        self.failed: dict[Node, dict[Node, None]] = {}
        self.visited: Node | None = None
        self.numbers = count()
        # What was queued since: few at a time, so that its cost does not grow with the graph.
        self.todo: list[tuple[tuple[int, int, int], int, Node]] = []
        # With the original nodes that were not visited yet.
        self.queued: set[Node] = set(graph.nodes)

    def run(self) -> Graph:
        """Visit nodes until none is left to visit."""
        for i, node in enumerate(self.graph.nodes):
            self._visit_queued((i, 0, 0))
            self._visit(node)
        self._visit_queued((len(self.graph.nodes), 0, 0))
        return self.graph.with_roots(self._now)

    def _visit_queued(self, end: tuple[int, int, int]) -> None:
        """Visit what was queued and has its turn before `end`."""
        while self.todo and self.todo[0][0] < end:
            self._visit(heappop(self.todo)[-1])

    def _visit(self, node: Node) -> None:
        """Apply the first rule that applies to a node, once its operands are the present ones."""
        self.queued.discard(node)
        if node not in self.users:
            return
        node, before = self._over_present_operands(node), node
        if self.merge and (node is not before or node in self.descent) and self._merged(node):
            return
        self.visited = node
        for rule in self.candidates.of(node):
            found = rule.find(node, self._is_shared)
            if found is not None and self._apply(rule, node, *found):
                return

    def _apply(self, rule: Rule, node: Node, after: Node, matched: tuple[Node, ...]) -> bool:
        """Put `after` in the place of `node`. False where somebody refuses that."""
        new = unknown(after, self.users)
        if not is_applied(rule, node, after, matched, new):
            return False
        descent = descend(rule, node, self.descent.get(node), self.limit)
        position = self.turn[node][0]
        for x in new:
            self._adopt(x, (position, -descent.length, next(self.numbers)))
            self.descent[x] = descent
            has_rules = self.candidates.of_op(x.op)
            if self.merge or has_rules or not self.replaced.keys().isdisjoint(x.inputs):
                self._queue(x)
        self._replace(node, after)
        return True

    def _adopt(self, node: Node, turn: tuple[int, int, int]) -> None:
        """Let a new node live."""
        self.replaced.pop(node, None)
        self.turn[node] = turn
        self.users[node] = {}
        for operand in node.inputs:
            self._readers(self._now(operand))[node] = None

    def _readers(self, node: Node) -> dict[Node, None]:
        """What reads a node, to be changed."""
        readers = self.users[node]
        if isinstance(readers, tuple):
            readers = self.users[node] = dict.fromkeys(readers)
        return readers

    def _replace(self, old: Node, new: Node) -> None:
        """Let the readers of one node read another one, and forget the first."""
        readers = self.users[old]
        self.users[old] = {}
        self._readers(new).update(dict.fromkeys(readers))
        self._stand_in(old, new, readers)
        self._bury(old)

    def _stand_in(self, old: Node, new: Node, readers: Iterable[Node]) -> None:
        self.replaced[old] = new
        for reader in readers:
            self._queue(reader)
        if old in self.roots:
            self.roots.remove(old)
            self.roots.add(new)

    def _bury(self, node: Node) -> None:
        """Forget a node that nothing reads, and what only it read."""
        dead = [node]
        while dead:
            node = dead.pop()
            del self.users[node]
            for operand in dict.fromkeys(map(self._now, node.inputs)):
                readers = self._readers(operand)
                readers.pop(node, None)
                if not readers and operand not in self.roots and operand.op is not INPUT:
                    dead.append(operand)
                self._try_again(operand)

    def _try_again(self, shared: Node) -> None:
        """Queue the patterns that failed because this node had one reader more."""
        for root in self.failed.pop(shared, ()):
            if root in self.users:
                self._queue(root)

    def _over_present_operands(self, node: Node) -> Node:
        """The node; where some of its operands were replaced, a new one in its place."""
        if self.replaced.keys().isdisjoint(node.inputs):
            return node
        new = node.with_inputs(tuple(map(self._now, node.inputs)))
        self.turn[new] = self.turn[node]
        if node in self.descent:
            self.descent[new] = self.descent[node]
        readers = self.users[new] = self.users.pop(node)
        self._stand_in(node, new, readers)
        for operand in dict.fromkeys(new.inputs):
            readers = self._readers(operand)
            readers.pop(node, None)
            readers[new] = None
            self._try_again(operand)
        return new

    def _merged(self, node: Node) -> bool:
        """Put the node that is the same expression in the place of `node`, where there is one."""
        if not may_be_merged(node):
            return False
        key = expression(node)
        first = self.known.setdefault(key, node)
        if first not in self.users:
            first = self.known[key] = node
        if first is node or not is_allowed(node, first):
            return False
        # The longer of the two descents counts: rules that undo each other are found here as well.
        descents = [self.descent[x] for x in (first, node) if x in self.descent]
        if descents:
            self.descent[first] = max(descents, key=lambda x: x.length)
        self._replace(node, first)
        return True

    def _now(self, node: Node) -> Node:
        """What stands for a node at present."""
        if node not in self.replaced:
            return node
        last = node
        while last in self.replaced:
            last = self.replaced[last]
        while node is not last:
            self.replaced[node], node = last, self.replaced[node]
        return last

    def _queue(self, node: Node) -> None:
        if node not in self.queued:
            self.queued.add(node)
            heappush(self.todo, (self.turn[node], next(self.numbers), node))

    def _is_shared(self, node: Node, beside: Collection[Node]) -> bool:
        # What waits to be visited may still read a node that is gone: nobody else reads that one.
        users = self.users.get(node, ())
        if node in self.roots or any(user not in beside for user in users):
            assert self.visited is not None
            self.failed.setdefault(node, {})[self.visited] = None
            return True
        return False

"""One walk over a graph, for rules that do not ask who reads a node."""

from collections.abc import Collection, Iterable

from needle_ir.ir import Graph, Node
from needle_ir.passes.application import Candidates, Descent, descend, is_applied, unknown
from needle_ir.passes.rule import Rule


def walk(graph: Graph, rules: Iterable[Rule], limit: int) -> Graph:
    """`graph` with `rules` applied, operands before users, until none applies any more.

    A node is visited once, when nothing changes any more in what it needs; what a rule makes of it
    is visited after it. Where no rule applies, the result is `graph` itself.
    """
    return _Walk(graph, rules, limit).run()


class _Walk:
    """`done` has what stands for a node, for those visited and for what stands for them."""

    def __init__(self, graph: Graph, rules: Iterable[Rule], limit: int):
        self._graph = graph
        self._candidates = Candidates(rules)
        self._limit = limit
        self._known = set(graph.nodes)  # what is not new
        self._done: dict[Node, Node] = {}
        self._after: dict[Node, Node] = {}  # what a rule put in the place of a node
        self._descent: dict[Node, Descent] = {}

    def run(self) -> Graph:
        """Visit all nodes, if any rule may apply at all."""
        if not any(map(self._candidates.of_op, {node.op for node in self._graph.nodes})):
            return self._graph
        for node in self._graph.nodes:
            self._visit(node)
        return self._graph.with_roots(self._done.__getitem__)

    def _visit(self, root: Node) -> None:
        """Find what stands for a node, and before that for what it needs."""
        done, after = self._done, self._after
        stack = [root]
        while stack:
            node = stack[-1]
            needs = (after[node],) if node in after else node.inputs
            waiting = [x for x in needs if x not in done]
            if waiting:
                stack += reversed(waiting)
                continue
            if node in after:
                done[node] = done[after[node]]
            elif node not in done:
                present = node.with_inputs(tuple([done[x] for x in node.inputs]))
                found = self._apply(present, self._descent.get(node))
                if found is not None:
                    after[node] = found
                    continue
                done[node] = done[present] = present
                self._known.add(present)
            stack.pop()

    def _apply(self, node: Node, parent: Descent | None) -> Node | None:
        """What the first rule that applies puts in the place of a node."""
        for rule in self._candidates.of(node):
            found = rule.find(node, _nobody_asks)
            if found is None:
                continue
            after, matched = found
            new = unknown(after, self._known)
            if is_applied(rule, node, after, matched, new):
                descent = descend(rule, node, parent, self._limit)
                self._descent.update(dict.fromkeys(new, descent))
                return after
        return None


def _nobody_asks(node: Node, beside: Collection[Node]) -> bool:
    raise AssertionError("a rule that asks who reads a node is not for a walk")

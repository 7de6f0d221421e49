"""What the two ways to apply rules share: which rules to try, who may refuse, where it ends."""

from collections.abc import Container, Iterable
from dataclasses import dataclass

from needle_ir.ir import CONSTANT, Application, Node, Op, announce, watched
from needle_ir.passes.pattern import facts
from needle_ir.passes.rule import Rule


class Candidates:
    """The rules, by the nodes that they may fit."""

    def __init__(self, rules: Iterable[Rule]):
        self._rules = tuple(rules)
        self._by_op: dict[Op, list[Rule]] = {}
        self._by_facts: dict[tuple[Op | Node, ...], list[Rule]] = {}

    def of_op(self, op: Op) -> list[Rule]:
        """The rules that nodes of this op may fit."""
        rules = self._by_op.get(op)
        if rules is None:
            rules = self._by_op[op] = [rule for rule in self._rules if rule.begins_with(op)]
        return rules

    def of(self, node: Node) -> list[Rule]:
        """The rules that this node may fit, by what can be told of it at a glance."""
        by_op = self.of_op(node.op)
        if not by_op:
            return by_op
        glance = (node.op, *[x if x.op is CONSTANT else x.op for x in node.inputs])
        rules = self._by_facts.get(glance)
        if rules is None:
            known = facts(node)
            rules = self._by_facts[glance] = [rule for rule in by_op if rule.needs <= known]
        return rules


@dataclass(frozen=True, slots=True)
class Descent:
    """The rule that made a node, and the descent of the node that it was made from."""

    rule: str
    parent: "Descent | None"
    length: int


def descend(rule: Rule, node: Node, parent: Descent | None, limit: int) -> Descent:
    """The descent of what `rule` makes of `node`, whose own is `parent`.

    Raises RuntimeError, naming the rules, where it is longer than `limit`.
    """
    descent = Descent(rule.name, parent, 1 if parent is None else parent.length + 1)
    if descent.length <= limit:
        return descent
    names: set[str] = set()
    step: Descent | None = descent
    while step is not None and step.length > limit - 100:
        names.add(step.rule)
        step = step.parent
    where = "" if node.origin is None else f" (at {node.origin})"
    raise RuntimeError(
        f"rules undo each other: {', '.join(sorted(names))} still apply after "
        f"{limit:,} applications, each to what the one before made{where}"
    )


def is_applied(
    rule: Rule, node: Node, after: Node, matched: tuple[Node, ...], new: tuple[Node, ...]
) -> bool:
    """Whether who looks on lets `after`, with these new nodes, take the place of `node`.

    Raises ValueError where it reads the node itself.
    """
    if any(node in x.inputs for x in new):
        raise ValueError(f"rule {rule.name}: the replacement reads the node that it replaces")
    return not watched() or announce(Application(rule.name, node, after, matched, new))


def unknown(root: Node, known: Container[Node]) -> tuple[Node, ...]:
    """The nodes that `root` needs and that are not `known`, operands first."""
    found: dict[Node, None] = {}
    stack = [root]
    while stack:
        node = stack[-1]
        waiting = [x for x in node.inputs if x not in known and x not in found]
        if node in known or node in found or not waiting:
            stack.pop()
            if node not in known:
                found[node] = None
        else:
            stack += reversed(waiting)
    return tuple(found)

"""Rewrite rules: patterns written as ordinary expressions, and the driver that applies them."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from needle_ir.ir import (
    CONSTANT,
    Application,
    Graph,
    Node,
    Op,
    Operators,
    Trait,
    announce,
    inherit_origin,
)

Bindings = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Pattern(Operators):
    """A node in a pattern: an op over patterns, or a wildcard, which has a name and no op.

    As an operand a wildcard stands for any node, as an attribute for any value. A wildcard that
    occurs twice stands for the same node both times.
    """

    op: Op | None
    inputs: tuple[Any, ...] = ()
    attrs: Mapping[str, Any] | None = None
    name: str = ""

    def __apply_op__(
        self, op: Op, operands: tuple[Any, ...], attrs: Mapping[str, Any]
    ) -> "Pattern":
        return Pattern(op, operands, attrs)


class Rule:
    """`pattern` may be replaced by `replacement`, where `condition` holds.

    All three are functions with the same parameter names. `pattern` is called once, with
    wildcards, and what it returns is matched: a Python number in it matches a scalar constant of
    that value. `replacement` and `condition` are called with what the wildcards matched. A
    replacement of another type than what it replaces is no replacement: the rule does not apply.
    """

    def __init__(
        self,
        name: str,
        pattern: Callable[..., Any],
        replacement: Callable[..., Any],
        condition: Callable[..., bool] | None = None,
    ):
        self.name = name
        names = list(inspect.signature(pattern).parameters)
        self.pattern: Pattern = pattern(*[Pattern(None, name=n) for n in names])
        self._replacement = replacement
        self._condition = condition
        if self.pattern.op is None:
            raise ValueError(f"rule {name}: the pattern is a wildcard, which matches everything")

    def apply(self, node: Node) -> Node | None:
        """What to put in the place of `node`, None where the rule does not apply."""
        for bindings in _matches([(self.pattern, node)], {}):
            if self._condition is not None and not self._condition(**bindings):
                continue
            with inherit_origin(node.origin):
                result: Node = self._replacement(**bindings)
            if result.type == node.type:
                return result
        return None

    def __repr__(self) -> str:
        return f"<rule {self.name}>"


def rewrite(graph: Graph, rules: Iterable[Rule], max_sweeps: int = 100) -> Graph:
    """`graph` with `rules` applied, operands before users, until none applies any more.

    Raises RuntimeError, naming the rules that still apply, after `max_sweeps` sweeps: then some
    rules undo each other.
    """
    by_op: dict[Op, list[Rule]] = {}
    for rule in rules:
        assert rule.pattern.op is not None
        by_op.setdefault(rule.pattern.op, []).append(rule)

    fired: list[str] = []

    def visit(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = node.with_inputs(inputs)
        for rule in by_op.get(node.op, ()):
            result = rule.apply(node)
            if result is None or result is node or not _announced(rule.name, node, result):
                continue
            fired.append(rule.name)
            return result
        return node

    for _ in range(max_sweeps):
        fired.clear()
        graph = graph.rebuild(visit)
        if not fired:
            return graph
    raise RuntimeError(f"rules undo each other: {', '.join(sorted(set(fired)))} still apply")


def _announced(rule: str, before: Node, after: Node) -> bool:
    return announce(Application(rule, before, after, (before,), (after,)))


def scalar_value(node: Node) -> Any:
    """The value of a constant with one element, as a Python scalar; None for any other node."""
    if node.op is CONSTANT and node.type.size == 1:
        return node.attrs["value"].item()
    return None


def _matches(todo: list[tuple[Any, Node]], bindings: Bindings) -> Iterator[Bindings]:
    """What the wildcards stand for, in each way that every pattern in `todo` matches its node."""
    while todo:
        (pattern, node), *todo = todo
        if not isinstance(pattern, Pattern):
            if not _is_number(node, pattern):
                return
        elif pattern.op is None:
            if bindings.setdefault(pattern.name, node) is not node:
                return
        elif (
            node.op is not pattern.op
            or len(node.inputs) != len(pattern.inputs)
            or not _match_attrs(pattern.attrs or {}, node, bindings)
        ):
            return
        elif node.op.has(Trait.COMMUTATIVE):
            # The rest decides which order it is: `(x + y) - x` matches (a + b) - b.
            for operands in (node.inputs, node.inputs[::-1]):
                pairs = zip(pattern.inputs, operands, strict=True)
                yield from _matches([*pairs, *todo], dict(bindings))
            return
        else:
            todo = [*zip(pattern.inputs, node.inputs, strict=True), *todo]
    yield bindings


def _is_number(node: Node, number: float) -> bool:
    # 0 matches +0.0 only: -0.0 behaves otherwise in sums and quotients.
    value = scalar_value(node)
    return value is not None and value == number and str(value)[0] == str(number)[0]


def _match_attrs(patterns: Mapping[str, Any], node: Node, bindings: Bindings) -> bool:
    for name, wanted in patterns.items():
        value = node.attrs[name]
        if isinstance(wanted, Pattern):
            if bindings.setdefault(wanted.name, value) != value:
                return False
        elif wanted != value:
            return False
    return True

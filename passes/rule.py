"""Rewrite rules: a pattern, a replacement, a condition, written as ordinary functions."""

import inspect
from collections.abc import Callable, Collection
from typing import Any

from needle_ir.ir import CONSTANT, Node, Op, inherit_origin
from needle_ir.passes.pattern import (
    Bindings,
    Kind,
    OpKind,
    OpWildcard,
    Pattern,
    matches,
    names,
    needed_facts,
)

# Whether anything beside these nodes reads a node.
IsShared = Callable[[Node, Collection[Node]], bool]


class Rule:
    """`pattern` may be replaced by `replacement`, where `condition` holds.

    All three are functions. `pattern` is called once, with wildcards, and what it returns is
    matched. A Python number in it matches a constant with one element of that value. The default
    of a parameter says which nodes the wildcard stands for (a `Kind`), or that it stands for an op
    (an `OpKind`); a parameter `*xs` stands for all the operands that are left.

    `replacement` and `condition` have the same parameters, or those of them that they need, and
    are called with what was matched. The rule does not apply where the replacement is None, has
    another type than what it replaces, or is the same node once more.

    With `single_use` the rule applies only where nothing outside of the pattern reads a node
    inside it. Such a node stays when the pattern goes, and the replacement is work on top of it.

    Raises ValueError for a pattern that is a wildcard, for a parameter that does not occur in the
    pattern, and for one of `replacement` or `condition` that is not the pattern's.
    """

    def __init__(
        self,
        name: str,
        pattern: Callable[..., Any],
        replacement: Callable[..., Any],
        condition: Callable[..., bool] | None = None,
        *,
        single_use: bool = False,
    ):
        self.name = name
        self.pattern = _traced(name, pattern)
        self.single_use = single_use
        wildcards = names(self.pattern)
        self._unshared = [n for n, kind in wildcards.items() if kind is not None and kind.unshared]
        self._replacement = _taking_bindings(name, replacement, wildcards)
        self._condition = condition and _taking_bindings(name, condition, wildcards)
        self.needs = needed_facts(self.pattern)

    def begins_with(self, op: Op) -> bool:
        """Whether the root of the pattern may be a node of `op`."""
        root = self.pattern.op
        return root.test(op) if isinstance(root, OpKind) else root is op

    def apply(self, node: Node) -> Node | None:
        """What to put in the place of `node`, None where the rule does not apply.

        Nothing outside of the pattern counts as reading what is inside.
        """
        found = self.find(node, lambda node, beside: False)
        return None if found is None else found[0]

    def find(self, node: Node, is_shared: IsShared) -> tuple[Node, tuple[Node, ...]] | None:
        """What to put in the place of `node`, and the nodes that the pattern stood for, `node`
        first; None where the rule does not apply.
        """
        for bindings, nodes in matches(self.pattern, node):
            if self._condition is not None and not self._condition(bindings):
                continue
            unshared = [bindings[name] for name in self._unshared]
            if self.single_use:
                unshared += [x for x in nodes[1:] if x.op is not CONSTANT]
            if any(is_shared(x, nodes) for x in unshared):
                continue
            with inherit_origin(node.origin):
                result: Node | None = self._replacement(bindings)
            if result is not None and result.type == node.type and not _same(result, node):
                return result, nodes
        return None

    def __repr__(self) -> str:
        return f"<rule {self.name}>"


def _traced(rule: str, function: Callable[..., Any]) -> Pattern:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        wildcard = _wildcard(rule, parameter)
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = wildcard
        else:
            positional.append(wildcard)
    pattern = function(*positional, **named)
    if not isinstance(pattern, Pattern) or pattern.op is None:
        raise ValueError(f"rule {rule}: the pattern is a wildcard, which matches everything")
    missing = {x.name for x in (*positional, *named.values())} - names(pattern).keys()
    if missing:
        raise ValueError(f"rule {rule}: {', '.join(sorted(missing))} is not in the pattern")
    return pattern


def _wildcard(rule: str, parameter: inspect.Parameter) -> Pattern | OpWildcard:
    kind = None if parameter.default is parameter.empty else parameter.default
    if parameter.kind is parameter.VAR_KEYWORD:
        raise ValueError(f"rule {rule}: **{parameter.name} stands for nothing; name attributes")
    if isinstance(kind, OpKind):
        return OpWildcard(parameter.name, kind)
    if kind is not None and not isinstance(kind, Kind):
        raise ValueError(
            f"rule {rule}: {parameter.name}={kind!r}; the default of a wildcard is "
            "a kind, such as floating or constant"
        )
    rest = parameter.kind is parameter.VAR_POSITIONAL
    return Pattern(None, name=parameter.name, kind=kind, rest=rest)


def _taking_bindings(
    rule: str, function: Callable[..., Any], wildcards: dict[str, Kind | None]
) -> Callable[[Bindings], Any]:
    """`function`, called with those of the bindings that it has parameters for."""
    parameters = inspect.signature(function).parameters.values()
    unknown = [x.name for x in parameters if x.name not in wildcards]
    if unknown:
        raise ValueError(f"rule {rule}: {', '.join(unknown)} is no wildcard of the pattern")
    before = [x.name for x in parameters if x.kind is x.POSITIONAL_OR_KEYWORD]
    rest = [x.name for x in parameters if x.kind is x.VAR_POSITIONAL]
    named = [x.name for x in parameters if x.kind is x.KEYWORD_ONLY]

    def call(bindings: Bindings) -> Any:
        positional = [bindings[name] for name in before]
        for name in rest:
            positional += bindings[name]
        return function(*positional, **{name: bindings[name] for name in named})

    return call


def _same(a: Node, b: Node) -> bool:
    """Whether two nodes are the same op on the same operands."""
    return a is b or (a.op is b.op and a.inputs == b.inputs and a.attrs == b.attrs)

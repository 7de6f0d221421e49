"""Rewrite rules: a pattern, a replacement, a condition, written as ordinary functions."""

from collections.abc import Callable, Collection
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import FunctionType
from typing import Any, NamedTuple

from needle_ir.ir import CONSTANT, Node, Op, inherit_origin
from needle_ir.passes.pattern import (
    Bindings,
    Kind,
    OpKind,
    Pattern,
    matcher,
    names,
    needed_facts,
    op_wildcard,
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
        self._matches = matcher(self.pattern)
        self.single_use = single_use
        wildcards = names(self.pattern)
        self._single = [n for n, kind in wildcards.items() if kind is not None and kind.unshared]
        self.asks_who_reads = single_use or bool(self._single)
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
        if not self.begins_with(node.op):
            return None
        found = self.find(node, lambda node, beside: False)
        return None if found is None else found[0]

    def find(self, node: Node, is_shared: IsShared) -> tuple[Node, tuple[Node, ...]] | None:
        """What to put in the place of `node`, and the nodes that the pattern stood for, `node`
        first; None where the rule does not apply. The pattern has to begin with the node's op.
        """
        for bindings, nodes in self._matches(node):
            if self._condition is not None and not self._condition(bindings):
                continue
            if any(is_shared(x, nodes) for x in self._unshared(bindings, nodes)):
                continue
            with inherit_origin(node.origin):
                result: Node | None = self._replacement(bindings)
            if result is not None and result.type == node.type and not _same(result, node):
                return result, nodes
        return None

    def _unshared(self, bindings: Bindings, nodes: tuple[Node, ...]) -> list[Node]:
        """The nodes that nothing outside of the pattern may read."""
        inside = [x for x in nodes[1:] if x.op is not CONSTANT] if self.single_use else []
        return [*inside, *[bindings[name] for name in self._single]]

    def __repr__(self) -> str:
        return f"<rule {self.name}>"


class _Parameters(NamedTuple):
    """The parameters of a function. `inspect` tells more, in ten times the time."""

    positional: tuple[str, ...]
    rest: str | None
    named: tuple[str, ...]
    defaults: dict[str, Any]

    @property
    def all(self) -> tuple[str, ...]:
        rest = () if self.rest is None else (self.rest,)
        return (*self.positional, *rest, *self.named)


def _parameters(rule: str, function: Callable[..., Any]) -> _Parameters:
    if not isinstance(function, FunctionType):
        raise TypeError(f"rule {rule}: {function!r} is no function; write a def or a lambda")
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    beyond = code.co_varnames[count:]
    rest = beyond[0] if code.co_flags & CO_VARARGS else None
    if code.co_flags & CO_VARKEYWORDS:
        name = beyond[rest is not None]
        raise ValueError(f"rule {rule}: **{name} stands for nothing; name the attributes")
    positional = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    with_default = positional[len(positional) - len(defaults) :]
    return _Parameters(
        positional,
        rest,
        code.co_varnames[code.co_argcount : count],
        {**dict(zip(with_default, defaults, strict=True)), **(function.__kwdefaults__ or {})},
    )


def _traced(rule: str, function: Callable[..., Any]) -> Pattern:
    parameters = _parameters(rule, function)
    wildcards = {name: _wildcard(rule, name, parameters) for name in parameters.all}
    named = {name: wildcards[name] for name in parameters.named}
    positional = [x for name, x in wildcards.items() if name not in named]
    pattern = function(*positional, **named)
    if not isinstance(pattern, Pattern) or pattern.op is None:
        raise ValueError(f"rule {rule}: the pattern is a wildcard, which matches everything")
    missing = wildcards.keys() - names(pattern).keys()
    if missing:
        raise ValueError(f"rule {rule}: {', '.join(sorted(missing))} is not in the pattern")
    return pattern


def _wildcard(rule: str, name: str, parameters: _Parameters) -> Any:
    kind = parameters.defaults.get(name)
    if isinstance(kind, OpKind):
        return op_wildcard(name, kind)
    if kind is not None and not isinstance(kind, Kind):
        raise ValueError(
            f"rule {rule}: {name}={kind!r}; the default of a wildcard is a kind, such as floating "
            "or constant"
        )
    return Pattern(None, name=name, kind=kind, rest=name == parameters.rest)


def _taking_bindings(
    rule: str, function: Callable[..., Any], wildcards: dict[str, Kind | None]
) -> Callable[[Bindings], Any]:
    """`function`, called with those of the bindings that it has parameters for."""
    parameters = _parameters(rule, function)
    before, rest, named, _ = parameters
    unknown = [name for name in parameters.all if name not in wildcards]
    if unknown:
        raise ValueError(f"rule {rule}: {', '.join(unknown)} is no wildcard of the pattern")

    def call(bindings: Bindings) -> Any:
        positional = [bindings[name] for name in before]
        if rest is not None:
            positional += bindings[rest]
        if not named:
            return function(*positional)
        return function(*positional, **{name: bindings[name] for name in named})

    return call


def _same(a: Node, b: Node) -> bool:
    """Whether two nodes are the same op on the same operands."""
    return a is b or (a.op is b.op and a.inputs == b.inputs and a.attrs == b.attrs)

"""Patterns: ordinary expressions, traced once, with wildcards for what they leave open."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Self

from needle_ir.ir import CONSTANT, Attrs, Node, Op, Operators, Trait, as_dtype, is_floating
from needle_ir.ops import apply

Bindings = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Kind:
    """Which nodes a wildcard stands for: the default of a parameter, `lambda x=floating: …`.

    `a & b` are the nodes of both kinds, `a | b` those of either, `~a` all the others. `unshared`
    asks for a node that nothing outside of the pattern reads; the graph decides that, not `test`.
    `op` is the op that all nodes of the kind have, where there is one: it saves tests.
    """

    name: str
    test: Callable[[Node], bool]
    unshared: bool = False
    op: Op | None = None

    def __and__(self, other: "Kind") -> "Kind":
        return Kind(
            f"{self.name} & {other.name}",
            lambda node: self.test(node) and other.test(node),
            self.unshared or other.unshared,
            self.op or other.op,
        )

    def __or__(self, other: "Kind") -> "Kind":
        self._refuse_unshared("|", other)
        return Kind(
            f"({self.name} | {other.name})", lambda node: self.test(node) or other.test(node)
        )

    def __invert__(self) -> "Kind":
        self._refuse_unshared("~")
        return Kind(f"~{self.name}", lambda node: not self.test(node))

    def _refuse_unshared(self, operator: str, *others: "Kind") -> None:
        for kind in (self, *others):
            if kind.unshared:
                raise TypeError(f"{kind.name} can be joined with & only, not with {operator}")


floating = Kind("floating", lambda node: is_floating(node.dtype))
integer = Kind("integer", lambda node: node.dtype.kind in "iu")
boolean = Kind("boolean", lambda node: node.dtype.kind == "b")
constant = Kind("constant", lambda node: node.op is CONSTANT, op=CONSTANT)
scalar_constant = Kind(
    "scalar_constant", lambda node: node.op is CONSTANT and node.type.size == 1, op=CONSTANT
)
single_use = Kind("single_use", lambda node: True, unshared=True)


def of_dtype(dtype: Any) -> Kind:
    """The nodes of one dtype."""
    wanted = as_dtype(dtype)
    return Kind(f"of_dtype({wanted})", lambda node: node.dtype == wanted)


def of_rank(rank: int) -> Kind:
    """The nodes with `rank` axes."""
    return Kind(f"of_rank({rank})", lambda node: len(node.shape) == rank)


@dataclass(frozen=True, eq=False)
class OpKind:
    """Which ops a wildcard for an op stands for: `lambda x, f=elementwise: f(x)`."""

    name: str
    test: Callable[[Op], bool]


any_op = OpKind("any_op", lambda op: True)
elementwise = OpKind("elementwise", lambda op: op.has(Trait.ELEMENTWISE))
reduction = OpKind("reduction", lambda op: op.has(Trait.REDUCTION))


def one_of(*ops: Op) -> OpKind:
    """The ops that are given."""
    return OpKind(f"one_of({', '.join(op.name for op in ops)})", frozenset(ops).__contains__)


class BoundOp(NamedTuple):
    """The op that a wildcard matched, with the attributes it had there. Calling it applies it."""

    op: Op
    attrs: Attrs

    def __call__(self, *operands: Any, **attrs: Any) -> Any:
        """The op on other operands. Attributes stay as they are but for those that are given."""
        return apply(self.op, *operands, **{**self.attrs, **attrs})


@dataclass(frozen=True, eq=False)
class Pattern(Operators):
    """A node in a pattern: an op over patterns, or a wildcard, which has a name and no op.

    As an operand a wildcard stands for any node of its kind, or with `rest` for all the operands
    that are left; as an attribute for any value. A wildcard that occurs twice stands for the same
    node, or an equal attribute, both times.
    """

    op: Op | OpKind | None
    inputs: tuple[Any, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    kind: Kind | None = None
    rest: bool = False
    fixed: int = field(init=False)  # how many of the inputs stand for one operand each

    def __post_init__(self) -> None:
        has_rest = bool(self.inputs) and _is_rest(self.inputs[-1])
        object.__setattr__(self, "fixed", len(self.inputs) - has_rest)

    def __apply_op__(
        self, op: Op, operands: tuple[Any, ...], attrs: Mapping[str, Any]
    ) -> "Pattern":
        # Attributes that a pattern does not name have their defaults.
        named = map(_attribute, attrs.items())
        return Pattern(op, tuple(map(_operand, operands)), {**op.defaults, **dict(named)})

    def __iter__(self) -> Iterator[Self]:
        raise TypeError(f"the wildcard {self.name} can not be unpacked; write *{self.name}")


def op_wildcard(name: str, kind: OpKind) -> Callable[..., Pattern]:
    """A wildcard for an op, while the pattern is traced: called, it gives a node with that op."""
    return lambda *operands: Pattern(kind, tuple(map(_operand, operands)), name=name)


def _operand(operand: Any) -> Any:
    if isinstance(operand, Pattern) or type(operand) in (bool, int, float):
        return operand
    raise TypeError(
        f"an operand of type {type(operand).__name__} in a pattern, which has wildcards, ops over "
        "them and Python's numbers"
    )


def _attribute(attribute: tuple[str, Any]) -> tuple[str, Any]:
    name, value = attribute
    if isinstance(value, Pattern) and (value.kind is not None or value.rest):
        raise TypeError(f"the wildcard {value.name} has a kind, and is the attribute {name}")
    if isinstance(value, list | tuple):
        if any(isinstance(part, Pattern) for part in value):
            raise TypeError(f"a wildcard is the whole attribute {name}, not a part of it")
        value = tuple(value)
    return name, value


def facts(node: Node) -> set[Hashable]:
    """What can be told of a node's operands at a glance: their ops, and the numbers among them."""
    found: set[Hashable] = set()
    for operand in node.inputs:
        found.add(operand.op)
        if operand.op is CONSTANT and operand.type.size == 1:
            found.add(_number(operand.attrs["value"].item()))
    return found


def needed_facts(pattern: Pattern) -> frozenset[Hashable]:
    """The facts without which no node fits: most nodes are told apart by these alone."""
    return frozenset(fact for fact in map(_needed_fact, pattern.inputs) if fact is not None)


def _needed_fact(operand: Any) -> Hashable:
    if not isinstance(operand, Pattern):
        return _number(operand)
    if operand.op is None:
        return None if operand.kind is None else operand.kind.op
    return operand.op if isinstance(operand.op, Op) else None


def _number(value: float) -> Hashable:
    # By its first character too: -0.0 is not 0.0, which behaves otherwise in sums and quotients,
    # and True is not 1.
    return (value, str(value)[0])


def names(pattern: Pattern) -> dict[str, Kind | None]:
    """The wildcards of a pattern, with their kinds."""
    found: dict[str, Kind | None] = {}
    todo: list[Any] = [pattern]
    while todo:
        part = todo.pop()
        if isinstance(part, Pattern):
            if part.name:
                found[part.name] = part.kind
            todo += [*part.inputs, *part.attrs.values()]
    return found


# One way in which a pattern fits: what the wildcards stand for, and the nodes that the pattern's
# ops and numbers stand for, the root first.
Match = tuple[Bindings, tuple[Node, ...]]


def matcher(pattern: Pattern) -> Callable[[Node], Iterable[Match]]:
    """`matches` for this pattern, on nodes of the op that it begins with."""
    if not isinstance(pattern.op, OpKind) or [*map(_is_rest, pattern.inputs)] != [True]:
        return partial(matches, pattern)
    f, xs = pattern.name, pattern.inputs[0].name

    def match(node: Node) -> Iterable[Match]:
        return (({f: BoundOp(node.op, node.attrs), xs: node.inputs}, (node,)),)

    return match


# A list of (pattern, node) that are still to be compared, as pairs of head and tail: two ways to go
# on can share a tail.
_Todo = tuple[tuple[Any, Node], Any] | None


def matches(pattern: Pattern, node: Node) -> Iterator[Match]:
    """The ways in which `pattern` fits `node`. Operands of a commutative op may change places."""
    ways: list[tuple[_Todo, Bindings, Any]] = [(((pattern, node), None), {}, None)]
    while ways:
        todo, bindings, matched = ways.pop()
        while todo is not None:
            (wanted, found), todo = todo
            if not isinstance(wanted, Pattern):
                if not _is_number(found, wanted):
                    break
                matched = (found, matched)
            elif wanted.op is None:
                if wanted.kind is not None and not wanted.kind.test(found):
                    break
                bound = bindings.setdefault(wanted.name, found)
                if bound is not found and not _is_same_constant(bound, found):
                    break
            else:
                if not _fits(wanted, found, bindings):
                    break
                matched = (found, matched)
                if _may_swap(wanted, found):
                    # What comes later decides the order: `(x + y) - x` matches (a + b) - b.
                    swapped = _with_operands(wanted, found.inputs[::-1], todo)
                    ways.append((swapped, dict(bindings), matched))
                todo = _with_operands(wanted, found.inputs, todo)
        else:
            yield bindings, _in_order(matched)


def _is_rest(operand: Any) -> bool:
    return isinstance(operand, Pattern) and operand.rest


def scalar_value(node: Node) -> Any:
    """The value of a constant with one element, as a Python scalar; None for any other node."""
    if node.op is CONSTANT and node.type.size == 1:
        return node.attrs["value"].item()
    return None


def _is_same_constant(a: Node, b: Node) -> bool:
    return a.op is CONSTANT and b.op is CONSTANT and a.attrs == b.attrs


def _fits(wanted: Pattern, found: Node, bindings: Bindings) -> bool:
    """Whether the op, the number of operands and the attributes are those of the pattern."""
    if isinstance(wanted.op, OpKind):
        bound = BoundOp(found.op, found.attrs)
        if not wanted.op.test(found.op) or bindings.setdefault(wanted.name, bound) != bound:
            return False
    elif found.op is not wanted.op or not _match_attrs(wanted, found, bindings):
        return False
    if wanted.fixed < len(wanted.inputs):
        if len(found.inputs) < wanted.fixed:
            return False
        rest = found.inputs[wanted.fixed :]
        return bool(bindings.setdefault(wanted.inputs[-1].name, rest) == rest)
    return len(found.inputs) == len(wanted.inputs)


def _match_attrs(wanted: Pattern, found: Node, bindings: Bindings) -> bool:
    for name, value in wanted.attrs.items():
        try:
            actual = found.attrs[name]
        except KeyError:
            actual = found.op.defaults[name]
        if not isinstance(value, Pattern):
            if value != actual:
                return False
        elif bindings.setdefault(value.name, actual) != actual:
            return False
    return True


def _may_swap(wanted: Pattern, found: Node) -> bool:
    return (
        found.op.has(Trait.COMMUTATIVE)
        and len(wanted.inputs) == 2
        and found.inputs[0] is not found.inputs[1]
    )


def _with_operands(wanted: Pattern, operands: tuple[Node, ...], todo: _Todo) -> _Todo:
    """`todo` with the operands before it, the first one at its head."""
    for i in range(wanted.fixed - 1, -1, -1):
        todo = ((wanted.inputs[i], operands[i]), todo)
    return todo


def _in_order(matched: Any) -> tuple[Node, ...]:
    nodes = []
    while matched is not None:
        node, matched = matched
        nodes.append(node)
    return tuple(dict.fromkeys(reversed(nodes)))


def _is_number(node: Node, number: float) -> bool:
    value = scalar_value(node)
    return value is not None and _number(value) == _number(number)

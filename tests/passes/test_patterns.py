"""Patterns beyond plain wildcards: kinds, shared nodes, operands that are left, ops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Graph, Node, Trait, constant_node
from needle_ir.ops.elementwise import EXP, TANH
from needle_ir.passes import (
    Kind,
    OpKind,
    Rule,
    any_op,
    boolean,
    constant,
    elementwise,
    floating,
    integer,
    of_dtype,
    of_rank,
    one_of,
    reduction,
    rewrite,
    scalar_constant,
    single_use,
)
from tests.passes.graph_text import arg, body

X, Y, Z = arg("x", 2, 3), arg("y", 2, 3), arg("z", 2, 3)
INTS, FLAGS, VECTOR = arg("i", 2, 3, dtype=np.int32), arg("b", 2, 3, dtype=np.bool_), arg("v", 3)
INPUTS = [X, Y, Z, INTS, FLAGS, VECTOR]


def result(rule: Rule, *nodes: Node) -> list[str]:
    return body(rewrite(Graph(INPUTS, nodes), [rule]))


def fires(rule: Rule, *nodes: Node) -> bool:
    graph = Graph(INPUTS, nodes)
    return rewrite(graph, [rule]) is not graph


# Kinds --------------------------------------------------------------------------------------------

ONE, ROW = ops.as_constant(2.0), ops.as_constant(np.arange(3, dtype=np.float32))

KINDS: list[tuple[Kind, list[Node], list[Node]]] = [
    (floating, [X, ONE], [INTS, FLAGS]),
    (integer, [INTS], [X, FLAGS]),
    (boolean, [FLAGS], [X, INTS]),
    (constant, [ONE, ROW], [X]),
    (scalar_constant, [ONE, ops.as_constant(np.ones((1, 1)))], [X, ROW]),
    (of_dtype(np.float32), [X], [INTS, ops.as_constant(np.ones(3))]),
    (of_rank(1), [VECTOR, ROW], [X, ONE]),
    (of_rank(0), [ONE], [X, VECTOR]),
    (floating & of_rank(2), [X], [VECTOR, INTS]),
    (integer | boolean, [INTS, FLAGS], [X]),
    (~floating, [INTS, FLAGS], [X, ONE]),
    (~(floating & of_rank(2)), [VECTOR, INTS], [X]),
]


@pytest.mark.parametrize(("kind", "inside", "outside"), KINDS, ids=[k.name for k, _, _ in KINDS])
def test_a_kind(kind: Kind, inside: list[Node], outside: list[Node]) -> None:
    rule = Rule("r", lambda a=kind: ops.equal(a, a), lambda a: ops.less_equal(a, a))
    assert all(fires(rule, ops.equal(node, node)) for node in inside)
    assert not any(fires(rule, ops.equal(node, node)) for node in outside)


def test_kinds_say_which_operand_of_a_commutative_op_is_which() -> None:
    rule = Rule("r", lambda a, c=constant: a * c, lambda a, c: a - c)
    expected = "%1 = subtract(%x, %0) : f32[2,3]"
    assert result(rule, X * 2)[1] == result(rule, 2 * X)[1] == expected
    assert not fires(rule, X * Y)


def test_a_kind_that_asks_the_graph_joins_with_and_only() -> None:
    assert (single_use & floating).unshared
    for join in (lambda: single_use | floating, lambda: ~single_use, lambda: floating | single_use):
        with pytest.raises(TypeError, match="single_use can be joined with & only"):
            join()


# Uses outside of the pattern ----------------------------------------------------------------------


def test_single_use_of_a_rule_is_about_the_nodes_inside() -> None:
    def rule(single: bool) -> Rule:
        return Rule("r", lambda a: ops.tanh(ops.exp(a)), lambda a: ops.sqrt(a), single_use=single)

    inner = ops.exp(X)
    assert fires(rule(True), ops.tanh(inner))
    assert fires(rule(True), ops.tanh(inner), X + 1)
    assert not fires(rule(True), ops.tanh(inner), inner)  # the graph returns it
    assert not fires(rule(True), ops.tanh(inner), inner + 1)  # something else reads it
    assert fires(rule(False), ops.tanh(inner), inner + 1)


def test_a_node_that_the_pattern_reads_twice_is_in_single_use() -> None:
    rule = Rule("r", lambda a: ops.exp(a) * ops.exp(a), lambda a: ops.exp(a + a), single_use=True)
    inner = ops.exp(X)
    assert fires(rule, inner * inner)
    assert not fires(rule, inner * inner, inner - Y)


def test_constants_do_not_count_as_shared() -> None:
    rule = Rule("r", lambda a: ops.exp(a * 2), lambda a: ops.exp(a), single_use=True)
    two = ops.as_constant(2.0)
    assert fires(rule, ops.exp(X * two), Y * two)


def test_single_use_of_a_wildcard_is_about_what_it_stands_for() -> None:
    rule = Rule("r", lambda a=single_use: ops.tanh(a), lambda a: ops.sqrt(a))
    inner = ops.exp(X)
    assert fires(rule, ops.tanh(inner))
    assert not fires(rule, ops.tanh(inner), inner)
    assert not fires(rule, ops.tanh(inner), inner + 1)
    assert fires(rule, ops.tanh(X))  # an input, read once
    assert not fires(rule, ops.tanh(X), X + 1)


def test_a_rule_alone_sees_no_other_use() -> None:
    rule = Rule("r", lambda a: ops.tanh(ops.exp(a)), lambda a: a, single_use=True)
    assert rule.apply(ops.tanh(ops.exp(X))) is X


def test_a_rule_is_tried_again_when_the_other_use_is_gone() -> None:
    rules = [
        Rule("first", lambda a: ops.tanh(ops.exp(a)), lambda a: ops.sqrt(a), single_use=True),
        Rule("second", lambda a: ops.log1p(ops.exp(a)), lambda a: a),
    ]
    inner = ops.exp(X)
    # The other use is visited later, and goes.
    after = rewrite(Graph([X], [ops.tanh(inner), ops.log1p(inner)]), rules)
    assert body(after) == ["%0 = sqrt(%x) : f32[2,3]", "return %0, %x"]
    assert rewrite(after, rules) is after


def test_a_chain_of_uses_that_go() -> None:
    rules = [
        Rule("first", lambda a: ops.exp(ops.exp(a)), lambda a: ops.exp(a), single_use=True),
        Rule("second", lambda a: ops.log1p(a), lambda a: ops.stop_gradient(X)),
    ]
    chain = [X]
    for _ in range(20):
        chain.append(ops.exp(chain[-1]))
    others = [ops.log1p(node) for node in reversed(chain[1:-1])]
    after = rewrite(Graph([X], [chain[-1], *others]), rules)
    assert after.count("exp") == 1
    assert rewrite(after, rules) is after


# Operands that are left ---------------------------------------------------------------------------


def test_a_star_stands_for_the_operands_that_are_left() -> None:
    rule = Rule(
        "r",
        lambda *xs, axis: ops.concatenate(xs, axis),
        lambda *xs, axis: ops.concatenate(xs[::-1], axis) if xs[0] is X else None,
    )
    assert result(rule, ops.concatenate([X, Y, Z], 1)) == [
        "%0 = concatenate(%z, %y, %x) {axis=1} : f32[2,9]",
        "return %0",
    ]
    assert not fires(rule, ops.concatenate([Y, X], 1))


def test_a_star_after_other_operands() -> None:
    rule = Rule(
        "r",
        lambda first, *rest, axis: ops.concatenate([ops.exp(first), *rest], axis),
        lambda first, *rest, axis: ops.concatenate([first, *rest], axis),
    )
    assert result(rule, ops.concatenate([ops.exp(X), Y], 0))[0] == (
        "%0 = concatenate(%x, %y) {axis=0} : f32[4,3]"
    )
    assert fires(rule, ops.concatenate([ops.exp(X)], 0))
    assert not fires(rule, ops.concatenate([X, ops.exp(Y)], 0))


def test_a_star_that_occurs_twice_is_the_same_operands() -> None:
    rule = Rule(
        "r",
        lambda *xs: ops.apply(ADD_ALL, *xs) - ops.apply(ADD_ALL, *xs),
        lambda *xs: xs[0] * 0,
    )
    assert fires(rule, ops.apply(ADD_ALL, X, Y) - ops.apply(ADD_ALL, X, Y))
    assert not fires(rule, ops.apply(ADD_ALL, X, Y) - ops.apply(ADD_ALL, Y, X))


@ops.composite()
def add_all(*xs: Node) -> Node:
    total: Node = xs[0]
    for x in xs[1:]:
        total = total + x
    return total


ADD_ALL = add_all.op


def test_constants_of_the_same_bits_are_the_same() -> None:
    rule = Rule("r", lambda c, a: ops.where(c, a, a), lambda a: a)

    def row(*numbers: float) -> Node:
        return constant_node(np.array([numbers], np.float32))

    both = ops.where(ops.max(X) > 0, row(0, 1, 2), row(0, 1, 2))
    assert fires(rule, both)
    assert not fires(rule, ops.where(ops.max(X) > 0, row(0, 1, 2), row(-0.0, 1, 2)))


# Ops ----------------------------------------------------------------------------------------------


def test_a_wildcard_for_an_op() -> None:
    rule = Rule("r", lambda a, f=elementwise: f(-a), lambda a, f: f(a))
    for function in (ops.exp, ops.abs, ops.relu):
        assert body(rewrite(Graph([X], [function(-X)]), [rule])) == body(Graph([X], [function(X)]))
    assert not fires(rule, ops.sum(-X))
    assert not fires(rule, -X + Y)  # two operands


def test_an_op_keeps_its_attributes_but_for_those_that_are_given() -> None:
    rule = Rule("r", lambda a, f=reduction: f(-a), lambda a, f: f(a, keepdims=True))
    assert result(rule, ops.max(-X, 1, True)) == [
        "%0 = max(%x) {axes=[1], keepdims=true} : f32[2,1]",
        "return %0",
    ]
    assert not fires(rule, ops.max(-X, 1))  # another type


def test_what_an_op_stood_for_can_be_asked() -> None:
    rule = Rule(
        "r",
        lambda a, f=reduction: f(a),
        lambda a, f: ops.max(a, **f.attrs),
        lambda f: f.op.name == "min" and f.attrs["axes"] == (1,),
    )
    assert fires(rule, ops.min(X, 1))
    assert not fires(rule, ops.min(X, 0))
    assert not fires(rule, ops.sum(X, 1))


def test_a_wildcard_for_an_op_that_occurs_twice_is_one_op_with_the_same_attributes() -> None:
    rule = Rule("r", lambda a, b, f=reduction: f(a) - f(b), lambda a, b, f: f(a - b))
    assert fires(rule, ops.sum(X, 1) - ops.sum(Y, 1))
    assert not fires(rule, ops.sum(X, 1) - ops.max(Y, 1))
    square = ops.permute(X) @ Y
    assert not fires(rule, ops.sum(square, 1) - ops.sum(square, 0))


def test_kinds_of_ops() -> None:
    two = one_of(EXP, TANH)
    commutative = OpKind("commutative", lambda op: op.has(Trait.COMMUTATIVE))
    for kind, inside, outside in [
        (any_op, [EXP, ADD_ALL], []),
        (two, [EXP, TANH], [ADD_ALL]),
        (commutative, [(X + Y).op], [(X - Y).op, EXP]),
    ]:
        assert all(kind.test(op) for op in inside)
        assert not any(kind.test(op) for op in outside)


def test_any_op_on_any_operands() -> None:
    seen: list[str] = []
    rule = Rule("r", lambda f=any_op, *xs: f(*xs), lambda f, *xs: seen.append(f.op.name))
    rewrite(Graph([X], [ops.sum(X * Y + 2)]), [rule])
    assert sorted(seen) == ["add", "constant", "input", "input", "multiply", "sum"]


def test_a_commutative_op_under_a_wildcard_matches_in_either_order() -> None:
    rule = Rule("r", lambda a, b, f=elementwise: f(ops.exp(a), b), lambda a, b, f: f(a, b))
    assert fires(rule, ops.exp(X) + Y)
    assert fires(rule, Y + ops.exp(X))
    assert fires(rule, ops.exp(X) - Y)
    assert not fires(rule, Y - ops.exp(X))


# Attributes with defaults -------------------------------------------------------------------------


def test_an_attribute_that_a_pattern_does_not_name_has_its_default() -> None:
    rule = Rule(
        "r", lambda a, b: a @ b, lambda a, b: ops.matmul(ops.permute(a), b, transpose_a=True)
    )
    square = ops.permute(X) @ X
    assert fires(rule, square)
    assert not fires(rule, ops.matmul(X, X, transpose_a=True))
    flags = Rule(
        "r",
        lambda a, b, s, t: ops.matmul(a, b, transpose_a=s, transpose_b=t),
        lambda a, b: a @ ops.permute(b),
        lambda s, t: (s, t) == (False, True),
    )
    assert fires(flags, ops.matmul(X, X, transpose_b=True))
    assert not fires(flags, ops.matmul(X, X, transpose_a=True))


# Several ways to match ----------------------------------------------------------------------------


def test_many_commutative_ops_are_searched_without_recursion() -> None:
    def chain(node: Any) -> Any:
        for _ in range(3000):
            node = ops.exp(node) + 1
        return node

    rule = Rule("r", chain, lambda node: node)
    assert rule.apply(chain(X)) is X


# Refused where it is written ----------------------------------------------------------------------


REFUSED: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "a wildcard alone": (lambda a: a, lambda a: a, "the pattern is a wildcard"),
    "a parameter not in the pattern": (lambda a, b: -a, lambda a: a, "rule r: b is not in the"),
    "another name in the replacement": (
        lambda a: -a,
        lambda b: b,
        "rule r: b is no wildcard of the pattern",
    ),
    "a default that is no kind": (lambda a=1: -a, lambda a: a, "a=1; the default of a wildcard"),
    "double-starred": (lambda a, **k: -a, lambda a: a, r"\*\*k stands for nothing"),
}


@pytest.mark.parametrize(("pattern", "replacement", "message"), REFUSED.values(), ids=list(REFUSED))
def test_refused(
    pattern: Callable[..., Any], replacement: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Rule("r", pattern, replacement)


NO_PATTERNS: dict[str, tuple[Callable[..., Any], str]] = {
    "an array": (lambda a: a + np.ones(3), "an operand of type ndarray in a pattern"),
    "a node": (lambda a: a + X, "an operand of type Node in a pattern"),
    "a wildcard with a kind as an attribute": (
        lambda a, s=floating: ops.reshape(a, s),
        "the wildcard s has a kind, and is the attribute shape",
    ),
    "a part of an attribute": (
        lambda a, s: ops.reshape(a, (s, 1)),
        "a wildcard is the whole attribute shape",
    ),
    "a wildcard taken apart": (
        lambda a, s: ops.concatenate([*s, a]),
        r"the wildcard s can not be unpacked; write \*s",
    ),
}


@pytest.mark.parametrize(("pattern", "message"), NO_PATTERNS.values(), ids=list(NO_PATTERNS))
def test_no_pattern(pattern: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Rule("r", pattern, lambda a: a)


def test_a_condition_that_names_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="rule r: c is no wildcard"):
        Rule("r", lambda a: -a, lambda a: a, lambda c: True)

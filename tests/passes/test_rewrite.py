"""The rewrite driver: what patterns match, what is replaced, and when it stops."""

import pytest

from needle_ir import ops
from needle_ir.ir import Graph, Node, Op
from needle_ir.passes import Rule, rewrite
from needle_ir.runtime import interpret
from tests.passes.graph_text import arg, body

X, Y, Z = arg("x", 2, 3), arg("y", 2, 3), arg("z", 2, 3)


def result(rule: Rule, node: Node) -> list[str]:
    """The text after `rule`, of a graph that returns `node`."""
    return body(rewrite(Graph([X, Y, Z], [node]), [rule]))


def fires(rule: Rule, node: Node) -> bool:
    graph = Graph([X, Y, Z], [node])
    return rewrite(graph, [rule]) is not graph


# Matching -----------------------------------------------------------------------------------------


def test_a_wildcard_stands_for_any_node() -> None:
    rule = Rule("r", lambda a: ops.exp(a), lambda a: a)
    assert result(rule, ops.exp(X * Y)) == ["%0 = multiply(%x, %y) : f32[2,3]", "return %0"]
    assert result(rule, ops.exp(X)) == ["return %x"]


def test_the_op_has_to_be_the_same() -> None:
    rule = Rule("r", lambda a: ops.exp(a), lambda a: a)
    assert not fires(rule, ops.expm1(X))
    assert not fires(rule, ops.tanh(X))


def test_a_commutative_op_matches_in_either_order() -> None:
    rule = Rule("r", lambda a, b: ops.exp(a) + b, lambda a, b: a * b)
    expected = ["%0 = multiply(%x, %y) : f32[2,3]", "return %0"]
    assert result(rule, ops.exp(X) + Y) == expected
    assert result(rule, Y + ops.exp(X)) == expected


def test_other_ops_match_in_their_order_only() -> None:
    rule = Rule("r", lambda a, b: ops.exp(a) - b, lambda a, b: a)
    assert fires(rule, ops.exp(X) - Y)
    assert not fires(rule, Y - ops.exp(X))


def test_commutative_ops_inside_of_each_other() -> None:
    rule = Rule("r", lambda a, b, c: ops.exp(a) * b + ops.tanh(c), lambda a, b, c: a - b - c)
    expected = ["%0 = subtract(%x, %y) : f32[2,3]", "%1 = subtract(%0, %z) : f32[2,3]", "return %1"]
    for product in (ops.exp(X) * Y, Y * ops.exp(X)):
        assert result(rule, product + ops.tanh(Z)) == expected
        assert result(rule, ops.tanh(Z) + product) == expected


def test_a_wildcard_that_occurs_twice_is_one_node() -> None:
    rule = Rule("r", lambda a, b: a * b - a, lambda a, b: b)
    assert result(rule, X * Y - X) == ["return %y"]
    assert not fires(rule, X * Y - Z)
    # Equal nodes are not the same node.
    assert not fires(rule, ops.exp(X) * Y - ops.exp(X))


def test_a_later_operand_decides_the_order_of_an_earlier_one() -> None:
    rule = Rule("r", lambda a, b: a * b - a, lambda a, b: b)
    assert result(rule, Y * X - X) == ["return %y"]
    both = Rule("r", lambda a, b, c: (a + b) / (b * c), lambda a, b, c: a - c)
    expected = ["%0 = subtract(%x, %z) : f32[2,3]", "return %0"]
    for total in (X + Y, Y + X):
        for product in (Y * Z, Z * Y):
            assert result(both, total / product) == expected


def test_the_condition_decides_the_order_too() -> None:
    rule = Rule("r", lambda a, b: ops.exp(a) + ops.exp(b), lambda a, b: b, lambda a, b: a is X)
    assert result(rule, ops.exp(X) + ops.exp(Y)) == ["return %y"]
    assert result(rule, ops.exp(Y) + ops.exp(X)) == ["return %y"]
    assert not fires(rule, ops.exp(Y) + ops.exp(Z))


def test_the_type_of_the_replacement_decides_the_order_too() -> None:
    rule = Rule("r", lambda a, b: a * b, lambda a, b: a - 1.0)
    row = ops.as_constant(2.0)
    for product in (X * row, row * X):
        assert result(rule, product)[-2] == "%1 = subtract(%x, %0) : f32[2,3]"


def test_a_number_matches_a_constant_with_one_element() -> None:
    rule = Rule("r", lambda a: a - 2, lambda a: a)
    assert fires(rule, X - 2)
    assert fires(rule, X - ops.as_constant([[2.0]], X.dtype))
    assert not fires(rule, X - 3)
    assert not fires(rule, X - ops.as_constant([2.0, 2.0, 2.0], X.dtype))
    assert not fires(rule, X - Y)
    assert not fires(rule, X - -2)


@pytest.mark.parametrize(("number", "other"), [(0.0, -0.0), (-0.0, 0.0)])
def test_zeros_have_a_sign(number: float, other: float) -> None:
    rule = Rule("r", lambda a: a * number, lambda a: a)
    assert fires(rule, X * number)
    assert not fires(rule, X * other)


def test_true_is_not_one() -> None:
    rule = Rule("r", lambda a: ops.equal(a, 1), lambda a: ops.not_equal(a, 1))
    flags = ops.greater(X, Y)
    assert not fires(rule, ops.equal(flags, True))


def test_an_attribute_wildcard_stands_for_any_value() -> None:
    rule = Rule("r", lambda a, s, k: ops.sum(ops.exp(a), s, k), lambda a, s, k: ops.max(a, s, k))
    assert result(rule, ops.sum(ops.exp(X), 1, True)) == [
        "%0 = max(%x) {axes=[1], keepdims=true} : f32[2,1]",
        "return %0",
    ]


def test_an_attribute_is_compared_by_value() -> None:
    rule = Rule("r", lambda a, k: ops.sum(a, (1,), k), lambda a, k: ops.max(a, (1,), k))
    square = ops.permute(X) @ X
    assert fires(rule, ops.sum(square, -1))
    assert not fires(rule, ops.sum(square, 0))
    assert not fires(rule, ops.sum(square))


def test_an_attribute_wildcard_that_occurs_twice_is_one_value() -> None:
    rule = Rule("r", lambda a, b, k: ops.sum(a, k) * ops.sum(b, k), lambda a, b, k: ops.sum(a, k))
    assert fires(rule, ops.sum(X, 1) * ops.sum(Y, 1))
    square = ops.reshape(X, (3, 2)) @ X
    assert not fires(rule, ops.sum(square, 1) * ops.sum(square, 0))


def test_the_condition_is_asked_with_what_was_matched() -> None:
    seen: list[tuple[Node, int]] = []

    def condition(a: Node, s: int) -> bool:
        seen.append((a, s))
        return s == (1,)

    rule = Rule("r", lambda a, s: ops.sum(a, s, True), lambda a, s: ops.max(a, s, True), condition)
    assert fires(rule, ops.sum(X, 1, True))
    assert not fires(rule, ops.sum(X, 0, True))
    assert seen == [(X, (1,)), (X, (0,))]


def test_a_pattern_that_is_a_wildcard_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rule all: the pattern is a wildcard"):
        Rule("all", lambda a: a, lambda a: ops.exp(a))


# Replacing ----------------------------------------------------------------------------------------


def test_a_replacement_of_another_type_is_not_applied() -> None:
    shape = Rule("r", lambda a: ops.exp(a), lambda a: ops.sum(a))
    dtype = Rule("r", lambda a: ops.exp(a), lambda a: ops.cast(a, "float64"))
    assert not fires(shape, ops.exp(X))
    assert not fires(dtype, ops.exp(X))


def test_the_next_rule_is_tried_where_the_first_does_not_apply() -> None:
    first = Rule("first", lambda a: ops.exp(a), lambda a: ops.sum(a))
    second = Rule("second", lambda a: ops.exp(a), lambda a: ops.tanh(a))
    graph = rewrite(Graph([X], [ops.exp(X)]), [first, second])
    assert graph.count("tanh") == 1


def test_the_first_of_two_rules_that_apply() -> None:
    rules = [
        Rule("first", lambda a: ops.exp(a), lambda a: ops.tanh(a)),
        Rule("second", lambda a: ops.exp(a), lambda a: ops.sqrt(a)),
    ]
    assert rewrite(Graph([X], [ops.exp(X)]), rules).count("tanh") == 1


def test_rules_are_applied_until_none_applies() -> None:
    rule = Rule("r", lambda a: ops.exp(ops.tanh(a)), lambda a: ops.tanh(ops.exp(a)))
    node = X
    for _ in range(5):
        node = ops.tanh(node)
    for _ in range(5):
        node = ops.exp(node)
    after = rewrite(Graph([X], [node]), [rule])
    assert [node.op.name for node in after.nodes[1:]] == ["exp"] * 5 + ["tanh"] * 5


def test_effects_and_unused_nodes_are_rewritten_in_their_places() -> None:
    rule = Rule("r", lambda a: -ops.negative(a), lambda a: a)
    draw = ops.random_uniform((2, 3), 0.0, 1.0, "float32")
    graph = Graph([X], [X], effects=[draw], unused=[-ops.negative(draw)])
    after = rewrite(graph, [rule])
    assert (after.effects, after.unused) == ((draw,), (draw,))


def test_a_replacement_has_the_origin_of_what_it_replaces() -> None:
    rule = Rule("r", lambda a: ops.exp(a), lambda a: ops.tanh(a))
    node = ops.exp(X)
    (after,) = rewrite(Graph([X], [node]), [rule]).outputs
    assert after is not node
    assert after.origin == node.origin


def test_an_identity_does_not_fire() -> None:
    # The replacement is the node itself: nothing changes, and the driver stops.
    node = ops.exp(X)
    rule = Rule("r", lambda a: ops.exp(a), lambda a: node)
    graph = Graph([X], [node])
    assert rewrite(graph, [rule]) is graph


def test_rules_that_undo_each_other_raise_and_are_named() -> None:
    rules = [
        Rule("there", lambda a: ops.exp(a), lambda a: ops.tanh(a)),
        Rule("and-back", lambda a: ops.tanh(a), lambda a: ops.exp(a)),
        Rule("bystander", lambda a: ops.sqrt(a), lambda a: ops.log(a)),
    ]
    with pytest.raises(RuntimeError, match="rules undo each other: there still apply"):
        rewrite(Graph([X], [ops.sqrt(ops.exp(X))]), rules, max_sweeps=9)
    with pytest.raises(RuntimeError, match="and-back, there still apply"):
        rewrite(Graph([X], [ops.exp(X) + ops.tanh(X)]), rules)


def test_a_rule_that_grows_what_it_matches_raises() -> None:
    rule = Rule("grow", lambda a: ops.exp(a), lambda a: ops.tanh(ops.exp(a)))
    with pytest.raises(RuntimeError, match="grow still apply"):
        rewrite(Graph([X], [ops.exp(X)]), [rule], max_sweeps=5)


def test_a_rule_of_an_op_of_the_user() -> None:
    cube = Op(name="cube", infer=lambda x: x)
    rule = Rule("r", lambda a: ops.apply(cube, a), lambda a: a * a * a)
    assert result(rule, ops.build(cube, [X], {})) == [
        "%0 = multiply(%x, %x) : f32[2,3]",
        "%1 = multiply(%0, %x) : f32[2,3]",
        "return %1",
    ]


def test_numbers_stay_the_same() -> None:
    rule = Rule("r", lambda a, b, c: a * b + a * c, lambda a, b, c: a * (b + c))
    graph = Graph([X, Y, Z], [Y * X + X * Z])
    after = rewrite(graph, [rule])
    assert after.count("multiply") == 1
    arrays = [ops.as_constant([[1.0, 2.0, 3.0]] * 2, X.dtype).attrs["value"]] * 3
    (before_value,), (after_value,) = interpret(graph, arrays), interpret(after, arrays)
    assert before_value.tolist() == after_value.tolist()

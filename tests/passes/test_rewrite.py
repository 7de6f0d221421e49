"""The rewrite driver: what patterns match, what is replaced, and when it stops."""

from typing import Any

import pytest

import needle_ir as ndl
from needle_ir import ops
from needle_ir.ir import Application, Graph, Node, Op, watch_rewrites
from needle_ir.passes import (
    BoundOp,
    Rule,
    RulePass,
    any_op,
    floating,
    rewrite,
    scalar_constant,
    scalar_value,
)
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


def test_a_replacement_that_is_equal_does_not_fire() -> None:
    rule = Rule("r", lambda a, s, k: ops.sum(a, s, k), lambda a, s, k: ops.sum(a, s, k))
    assert not fires(rule, ops.sum(X, 1))


def test_no_replacement() -> None:
    rule = Rule("r", lambda a: ops.exp(a), lambda a: None)
    assert not fires(rule, ops.exp(X))


def test_a_replacement_that_reads_what_it_replaces_is_refused() -> None:
    node = ops.exp(X)
    rule = Rule("wrap", lambda a: ops.exp(a), lambda a: ops.tanh(node))
    with pytest.raises(ValueError, match="rule wrap: the replacement reads the node that it repl"):
        rewrite(Graph([X], [node]), [rule])


# Merging ------------------------------------------------------------------------------------------

NOT_NEGATIVE = Rule("not-negative", lambda a: -ops.negative(a), lambda a: a)


def test_what_rules_make_equal_is_merged_on_request() -> None:
    graph = Graph([X, Y], [X * Y, Y * -ops.negative(X), ops.exp(X * Y)])
    assert rewrite(graph, [NOT_NEGATIVE]).count("multiply") == 3
    # Of the two products that were there before, one stays for what only one of them reads.
    assert body(rewrite(graph, [NOT_NEGATIVE], merge=True)) == [
        "%0 = multiply(%x, %y) : f32[2,3]",
        "%1 = multiply(%x, %y) : f32[2,3]",
        "%2 = exp(%1) : f32[2,3]",
        "return %0, %0, %2",
    ]


def test_what_is_merged_lets_a_rule_apply() -> None:
    itself = Rule("itself", lambda a: a / a, lambda a: ops.sqrt(a))
    alone = Rule("alone", lambda a: ops.log(ops.exp(a)), lambda a: a, single_use=True)
    graph = Graph([X], [ops.exp(X) / ops.exp(-ops.negative(X))])
    assert rewrite(graph, [NOT_NEGATIVE, itself]).count("sqrt") == 0
    assert rewrite(graph, [NOT_NEGATIVE, itself], merge=True).count("sqrt") == 1
    inner = ops.exp(X)
    graph = Graph([X], [ops.log(inner), ops.log(-ops.negative(inner))])
    assert rewrite(graph, [NOT_NEGATIVE, alone]).count("log") == 2
    assert body(rewrite(graph, [NOT_NEGATIVE, alone], merge=True)) == ["return %x, %x"]


def test_random_draws_and_variables_are_not_merged() -> None:
    graph = Graph([X], [ops.variable(-ops.negative(X)), ops.variable(X)])
    assert rewrite(graph, [NOT_NEGATIVE], merge=True).count("variable") == 2
    noise = Rule("noise", lambda a: ops.exp(a), lambda a: ops.random_uniform((2, 3), 0, 1, a.dtype))
    graph = Graph([X, Y], [ops.exp(X), ops.exp(Y)])
    assert rewrite(graph, [noise], merge=True).count("random_uniform") == 2


def test_a_merge_is_announced_as_by_cse_and_may_be_refused() -> None:
    graph = Graph([X], [ops.exp(X), ops.exp(-ops.negative(X))])
    seen: list[Application] = []
    with watch_rewrites(lambda application: bool(seen.append(application)) or True):
        assert rewrite(graph, [NOT_NEGATIVE], merge=True).count("exp") == 1
    assert [application.rule for application in seen] == ["not-negative", "cse"]
    assert seen[1].after is graph.outputs[0]
    assert seen[1].new == ()
    with watch_rewrites(lambda application: application.rule != "cse"):
        assert rewrite(graph, [NOT_NEGATIVE], merge=True).count("exp") == 2


# A limit ------------------------------------------------------------------------------------------


def test_rules_that_undo_each_other_raise_and_are_named() -> None:
    rules = [
        Rule("there", lambda a: ops.exp(a), lambda a: ops.tanh(a)),
        Rule("and-back", lambda a: ops.tanh(a), lambda a: ops.exp(a)),
        Rule("bystander", lambda a: ops.sqrt(a), lambda a: ops.log(a)),
    ]
    for graph in (
        Graph([X], [ops.sqrt(ops.exp(X))]),
        Graph([X], [ops.exp(X) + ops.tanh(X)]),
    ):
        for merge in (False, True):
            with pytest.raises(RuntimeError, match="rules undo each other: and-back, there still"):
                rewrite(graph, rules, merge=merge)
    message = r"still apply after 9 applications, .*\(at test_rewrite.py:\d+ in test_rules_that"
    with pytest.raises(RuntimeError, match=message):
        rewrite(Graph([X], [ops.exp(X)]), rules, limit=9)


@pytest.mark.parametrize(
    "grow",
    [
        lambda a: ops.tanh(ops.exp(a)),
        lambda a: ops.exp(ops.tanh(a)),
        lambda a: ops.exp(a) * ops.exp(-a),  # in every step twice as many as before
    ],
)
def test_a_rule_that_grows_what_it_matches_raises(grow: Any) -> None:
    with pytest.raises(RuntimeError, match="grow still apply"):
        rewrite(Graph([X], [ops.exp(X)]), [Rule("grow", lambda a: ops.exp(a), grow)])


def test_a_replacement_with_many_nodes_is_no_chase() -> None:
    def many(a: Node) -> Node:
        for _ in range(3000):
            a = -ops.relu(a)
        return a

    rules = [
        Rule("many", lambda a: ops.exp(a), many),
        Rule("each", lambda a: -ops.relu(a), lambda a: ops.tanh(a)),
    ]
    assert rewrite(Graph([X], [ops.exp(X)]), rules).count("tanh") == 3000


def test_a_long_way_through_the_graph_is_no_chase() -> None:
    # Down to the operands: each application moves the negative past one exp.
    sink = Rule("sink", lambda a: -ops.exp(a), lambda a: ops.exp(-a))
    node = X
    for _ in range(3000):
        node = ops.exp(node)
    after = rewrite(Graph([X], [-node]), [sink])
    assert [node.op.name for node in after.nodes[1:3]] == ["negative", "exp"]


# Announcing ---------------------------------------------------------------------------------------


def applications(graph: Graph, rules: list[Rule], refused: Any = ()) -> list[Application]:
    seen: list[Application] = []

    def watch(application: Application) -> bool:
        seen.append(application)
        return application.rule not in refused

    with watch_rewrites(watch):
        rewrite(graph, rules)
    return seen


def test_an_application_tells_what_was_matched_and_what_is_new() -> None:
    rule = Rule(
        "r", lambda a, b: ops.exp(a) * 2 - b, lambda a, b: ops.tanh(a) + ops.sqrt(ops.tanh(b))
    )
    e, two = ops.exp(X), ops.as_constant(2.0)
    product = e * two
    (seen,) = applications(Graph([X, Y], [product - Y]), [rule])
    assert seen.rule == "r"
    assert seen.before.op.name == "subtract"
    assert seen.matched == (seen.before, product, e, two)
    assert [node.op.name for node in seen.new] == ["tanh", "tanh", "sqrt", "add"]
    assert seen.new[-1] is seen.after


def test_what_was_there_before_is_not_new() -> None:
    inner = ops.tanh(X)
    rule = Rule("r", lambda a: ops.exp(a), lambda a: inner * a)
    (seen,) = applications(Graph([X], [ops.exp(X), inner]), [rule])
    assert seen.new == (seen.after,)
    (seen,) = applications(Graph([X], [ops.exp(X)]), [rule])
    assert seen.new == (inner, seen.after)
    (seen,) = applications(Graph([X], [-X]), [Rule("r", lambda a: -a, lambda a: a)])
    assert (seen.after, seen.new) == (X, ())


def test_a_refused_application_is_not_made_and_the_next_rule_is_tried() -> None:
    rules = [
        Rule("first", lambda a: ops.exp(a), lambda a: ops.tanh(a)),
        Rule("second", lambda a: ops.exp(a), lambda a: ops.sqrt(a)),
    ]
    graph = Graph([X], [ops.exp(X)])
    assert [x.rule for x in applications(graph, rules)] == ["first"]
    assert [x.rule for x in applications(graph, rules, {"first"})] == ["first", "second"]
    with watch_rewrites(lambda application: False):
        assert rewrite(graph, rules) is graph
    with watch_rewrites(lambda application: application.rule == "second"):
        assert rewrite(graph, rules).count("sqrt") == 1


def test_no_application_in_what_nothing_needs_any_more() -> None:
    # The branch goes with its `where` before anything in it is looked at again.
    rules = [
        Rule("drop", lambda c, a: ops.where(c, a, a), lambda a: a),
        Rule("make", lambda a: ops.sqrt(a), lambda a: ops.where(ops.tanh(a) > 0, a, a)),
        Rule("late", lambda a: ops.tanh(a), lambda a: ops.exp(a)),
    ]
    seen = applications(Graph([X], [ops.sqrt(X)]), rules)
    after = rewrite(Graph([X], [ops.sqrt(X)]), rules)
    assert after.outputs == (X,)
    assert [x.rule for x in seen] in (["make", "drop"], ["make", "late", "drop"])


# Every node once ----------------------------------------------------------------------------------


def visits(graph: Graph, rules: list[Rule]) -> tuple[int, Graph]:
    """How many nodes were visited, counted by a rule that matches every node and does nothing."""
    count = 0

    def visit(f: BoundOp, *xs: Node) -> None:
        nonlocal count
        count += 1

    after = rewrite(graph, [*rules, Rule("count", lambda f=any_op, *xs: f(*xs), visit)])
    return count, after


NEGATIVES = [Rule("double-negative", lambda a: -ops.negative(a), lambda a: a)]
EXP_TO_TANH = [Rule("r", lambda a: ops.exp(a), lambda a: ops.tanh(a))]


def chain(step: Any, length: int) -> Graph:
    node = X
    for _ in range(length):
        node = step(node)
    return Graph([X], [node])


def wide(first: Any, each: Any, width: int) -> Graph:
    shared = first(X)
    return Graph([X], [ops.concatenate([each(shared) for _ in range(width)])])


@pytest.mark.parametrize(
    ("graph", "rules", "per_node"),
    [
        (chain(ops.sqrt, 4_000), NEGATIVES, 1.0),  # nothing to do
        (chain(lambda a: a + 1, 4_000), EXP_TO_TANH, 1.0),
        (chain(ops.negative, 4_000), NEGATIVES, 1.0),  # everything goes
        (chain(ops.exp, 4_000), EXP_TO_TANH, 1.1),  # everything is replaced
        (wide(ops.exp, ops.negative, 4_000), EXP_TO_TANH, 1.1),  # all users of one node
        (wide(ops.sqrt, ops.exp, 4_000), EXP_TO_TANH, 2.1),  # all operands of one node
        (wide(ops.negative, lambda a: -ops.sqrt(ops.negative(a)), 1_400), NEGATIVES, 1.1),
    ],
    ids=["idle", "idle-binary", "shrinking", "replaced", "users", "operands", "mixed"],
)
def test_visits_are_linear(graph: Graph, rules: list[Rule], per_node: float) -> None:
    count, after = visits(graph, rules)
    made = len(set(after.nodes) - set(graph.nodes))
    assert count <= per_node * len(graph.nodes) + made + 10


# It never applies; since it asks who reads a node, the graph is not rewritten in one walk.
ASKS = Rule("asks", lambda a: ops.sign(ops.sign(a)), lambda a: a, lambda: False, single_use=True)
MIXED = [
    *NEGATIVES,
    Rule("open", lambda a: ops.tanh(a), lambda a: ops.sqrt(a) - ops.negative(ops.negative(a))),
    Rule("shorter", lambda a: ops.sqrt(a), lambda a: a * 2.0),
    Rule("gone", lambda a, b: ops.exp(a) - ops.exp(b), lambda a, b: a - b),
]


@pytest.mark.parametrize("rules", [NEGATIVES, EXP_TO_TANH, MIXED], ids=["shrink", "same", "mixed"])
@pytest.mark.parametrize("allowed", [None, 0, 1, 5])
def test_one_walk_does_what_the_worklist_does(rules: list[Rule], allowed: int | None) -> None:
    def twice(node: Node) -> Any:
        return ops.negative(ops.negative(node))

    node = twice(ops.tanh(X)) - ops.tanh(Y)
    for _ in range(3):
        node = ops.exp(twice(ops.sqrt(node))) - ops.exp(ops.tanh(-node))
    graph = Graph([X, Y], [node, ops.tanh(X)], unused=[twice(ops.sqrt(Y))])

    def run(rules: list[Rule]) -> tuple[list[str], list[tuple[str, str, int, int]]]:
        seen: list[tuple[str, str, int, int]] = []

        def watcher(x: Application) -> bool:
            seen.append((x.rule, x.before.op.name, len(x.matched), len(x.new)))
            return allowed is None or len(seen) <= allowed

        with watch_rewrites(watcher):
            return body(rewrite(graph, rules)), seen

    walked, listed = run(rules), run([*rules, ASKS])
    assert walked == listed
    assert walked[1]


def test_only_the_users_of_what_changed_are_visited_again() -> None:
    # A use that goes at the end of a long graph lets a rule apply at its beginning.
    rules = [
        Rule("first", lambda a: ops.tanh(ops.exp(a)), lambda a: ops.sqrt(a), single_use=True),
        Rule("last", lambda a, b: ops.where(a, b, b), lambda b: b),
    ]
    inner = ops.exp(X)
    beside = chain(ops.sqrt, 2_000).outputs[0]
    graph = Graph([X, Y], [ops.tanh(inner), beside, ops.where(inner > 0, Y, Y)])
    count, after = visits(graph, rules)
    assert after.count("exp") == 0
    assert count <= len(graph.nodes) + 3


# Passes of rules ----------------------------------------------------------------------------------


def test_a_pass_in_ten_lines() -> None:
    halve = RulePass(
        "halve",
        [
            Rule("two-of-one", lambda x: x + x, lambda x: x * 2),
            Rule(
                "halves",
                lambda x=floating, c=scalar_constant: x / c,
                lambda x: x * 0.5,
                lambda c: scalar_value(c) == 2,
            ),
        ],
    )
    compiled = ndl.compile(
        lambda x: (x + x) / 2, ndl.Tensor([1.0, 3.0]), pipeline=["lower, fold", halve, "cse, dce"]
    )
    assert [node.op.name for node in compiled.graph.nodes] == [
        *("input", "constant", "multiply", "constant", "multiply"),
    ]
    assert compiled(ndl.Tensor([1.0, 3.0])).numpy().tolist() == [1, 3]
    assert [stage.name for stage in compiled.stages][3] == "halve"
    assert repr(halve) == "RulePass('halve', [<rule two-of-one>, <rule halves>])"


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

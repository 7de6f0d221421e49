"""Simplify, rule by rule: what is rewritten, and what must stay as it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Graph, Node, verify, watch_rewrites
from needle_ir.passes import Rule, Simplify, rewrite
from needle_ir.passes.rules import EXACT, FAST_MATH
from tests.passes.graph_text import arg, assert_text, body
from tests.passes.rules.case import Case, Kept
from tests.passes.simplify_cases import EXACT_CASES, FAST_MATH_CASES, KEPT
from tests.passes.training_step import optimized, training_step

DTYPES = {"f": np.float32, "i": np.int32, "b": np.bool_}
RULES = {rule.name: rule for rule in EXACT + FAST_MATH}


def of_two(expression: Callable[[Node, Node], Any], dtype: Any = np.float32) -> Graph:
    x, y = arg("x", 2, 3, dtype=dtype), arg("y", 2, 3, dtype=dtype)
    outputs = expression(x, y)
    return Graph([x, y], outputs if isinstance(outputs, tuple) else [outputs])


def simplified(graph: Graph, rules: tuple[Rule, ...]) -> tuple[str, set[str]]:
    """The text after `rules`, and the names of those that were applied."""
    applied = set()
    with watch_rewrites(lambda application: bool(applied.add(application.rule)) or True):
        result = rewrite(graph, rules)
    verify(result)
    return "; ".join(body(result)), applied


def test_every_rule_has_a_name_of_its_own() -> None:
    assert len(RULES) == len(EXACT) + len(FAST_MATH)


def test_every_rule_has_a_case_and_something_that_it_leaves() -> None:
    assert {rule.name for rule in EXACT} == {case.rule for case in EXACT_CASES}
    assert {rule.name for rule in FAST_MATH} == {case.rule for case in FAST_MATH_CASES}
    assert RULES.keys() == {case.rule for case in KEPT}


def rules_of(case: Case) -> tuple[Rule, ...]:
    return EXACT if RULES[case.rule] in EXACT else EXACT + FAST_MATH


@pytest.mark.parametrize("case", EXACT_CASES + FAST_MATH_CASES, ids=repr)
def test_a_rule_rewrites_its_case(case: Case) -> None:
    for dtype in case.dtypes:
        after, applied = simplified(of_two(case.before, DTYPES[dtype]), rules_of(case))
        assert case.rule in applied
        if dtype == case.dtypes[0]:
            assert after == case.after


# The rules that a row spares, one step for two.
SPARED = {
    "divide-by-one": "divide-by-power-of-two",
    "divide-by-minus-one": "divide-by-power-of-two",
    "transpose-nothing": "transpose-ones",
    "broadcast-nothing": "broadcast-ones",
}


@pytest.mark.parametrize("case", EXACT_CASES + FAST_MATH_CASES, ids=repr)
def test_without_its_rule_a_case_ends_otherwise(case: Case) -> None:
    without = {case.rule, SPARED.get(case.rule)}
    others = tuple(rule for rule in rules_of(case) if rule.name not in without)
    assert simplified(of_two(case.before, DTYPES[case.dtypes[0]]), others)[0] != case.after


@pytest.mark.parametrize("case", EXACT_CASES, ids=repr)
def test_exact_rules_are_applied_with_fast_math_too(case: Case) -> None:
    graph = of_two(case.before, DTYPES[case.dtypes[0]])
    assert len(Simplify(fast_math=True).run(graph).nodes) <= len(Simplify().run(graph).nodes)


@pytest.mark.parametrize("case", FAST_MATH_CASES, ids=repr)
def test_fast_math_rules_are_applied_with_fast_math_only(case: Case) -> None:
    for dtype in case.dtypes:
        graph = of_two(case.before, DTYPES[dtype])
        assert "; ".join(body(Simplify().run(graph))) != case.after
        assert "; ".join(body(Simplify(fast_math=True).run(graph))) == case.after


@pytest.mark.parametrize("kept", KEPT, ids=repr)
def test_a_rule_leaves_what_it_does_not_mean(kept: Kept) -> None:
    for dtype in kept.dtypes:
        graph = of_two(kept.outputs, DTYPES[dtype])
        assert rewrite(graph, [RULES[kept.rule]]) is graph


UNTOUCHED = {
    "times two": lambda x, y: x * 2,
    "one divided": lambda x, y: 1 / x,
    "subtracted from zero": lambda x, y: 0 - x,
    "plus zero": lambda x, y: x + 0,
    "minus negative zero": lambda x, y: x - -0.0,
    "times zero": lambda x, y: x * 0,
    "minus itself": lambda x, y: x - x,
    "divided by itself": lambda x, y: x / x,
    "another order of a sum": lambda x, y: (x + y) - y,
    "a power of two": lambda x, y: 2**x,
    "reciprocal": lambda x, y: x**-1,
    "the negative of a sum": lambda x, y: -(x + y),
    "the negative of a difference": lambda x, y: -(x - y),
    "equal to itself": lambda x, y: ops.equal(x, x),
    "the negation of less": lambda x, y: ops.logical_not(x < y),
    "the largest of the largest": lambda x, y: ops.max(ops.max(x, 0), 0),
    "a sum of sums": lambda x, y: ops.sum(ops.sum(x, 0), 0),
    "a sum over no axes": lambda x, y: ops.sum(x, ()),
    "a sum of what is repeated": lambda x, y: ops.sum(ops.broadcast_to(x, (2, 2, 3)), 0),
    "a function of what is repeated": lambda x, y: ops.exp(ops.broadcast_to(x, (2, 2, 3))),
    "the log of exp": lambda x, y: ops.log(ops.exp(x)),
}


@pytest.mark.parametrize("expression", UNTOUCHED.values(), ids=list(UNTOUCHED))
def test_what_is_not_exact_stays(expression: Callable[[Node, Node], Node]) -> None:
    graph = of_two(expression)
    assert Simplify().run(graph) is graph


# Rules together -----------------------------------------------------------------------------------


def test_an_integer_divided_by_one_stays_a_float() -> None:
    x = arg("x", 3, dtype=np.int32)
    assert_text(
        Simplify().run(Graph([x], [x / 1])),
        """
        graph @graph(%x: i32[3]) -> f64[3] {
          %0 = cast(%x) {dtype=f64} : f64[3]
          return %0
        }
        """,
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.float16, np.float64])
def test_identities_of_other_dtypes(dtype: Any) -> None:
    graph = of_two(lambda x, y: -ops.negative(x * 1 - 0), dtype)
    assert body(Simplify().run(graph)) == ["return %x"]


def test_what_is_read_elsewhere_too_stays() -> None:
    x = arg("x", 3)
    inner = -x
    assert_text(
        Simplify().run(Graph([x], [-inner, inner])),
        """
        graph @graph(%x: f32[3]) -> (f32[3], f32[3]) {
          %0 = negative(%x) : f32[3]
          return %x, %0
        }
        """,
    )


def test_rules_meet_what_other_rules_made() -> None:
    x, y = arg("x", 3), arg("y", 3)
    graph = Graph([x, y], [(x * 1 + -ops.negative(-y)) ** 1])
    assert_text(
        Simplify().run(graph),
        """
        graph @graph(%x: f32[3], %y: f32[3]) -> f32[3] {
          %0 = subtract(%x, %y) : f32[3]
          return %0
        }
        """,
    )


def test_a_use_that_goes_lets_a_rule_apply_that_failed_because_of_it() -> None:
    x = arg("x", 2, 3)
    scaled = x * 3
    graph = Graph([x], [-scaled, ops.where(ops.as_constant(True), x, scaled)])
    assert_text(
        Simplify().run(graph),
        """
        graph @graph(%x: f32[2,3]) -> (f32[2,3], f32[2,3]) {
          %0 = constant {value=-3.0} : f32[]
          %1 = multiply(%x, %0) : f32[2,3]
          return %1, %x
        }
        """,
    )


def test_with_cse_a_condition_that_was_written_twice_is_one() -> None:
    x, y = arg("x", 3), arg("y", 3)
    graph = Graph([x, y], [ops.where(x > 0, ops.where(x * 1 > 0, x, y), y)])
    assert Simplify().run(graph).count("where") == 2
    assert body(Simplify(cse=True).run(graph)) == [
        "%0 = constant {value=0.0} : f32[]",
        "%1 = greater(%x, %0) : bool[3]",
        "%2 = where(%1, %x, %y) : f32[3]",
        "return %2",
    ]


def test_with_stabilize_a_sign_goes_into_its_reader() -> None:
    x, y = arg("x", 3), arg("y", 3)
    graph = Graph([x, y], [y + (1 - ops.exp(x) * 1)])
    assert Simplify().run(graph).count("expm1") == 0
    assert body(Simplify(stabilize=True).run(graph)) == [
        "%0 = expm1(%x) : f32[3]",
        "%1 = subtract(%y, %0) : f32[3]",
        "return %1",
    ]


def test_two_transposes_that_undo_each_other_go() -> None:
    assert body(Simplify().run(of_two(lambda x, y: ops.permute(ops.permute(x))))) == ["return %x"]


def test_a_variable_is_not_looked_through() -> None:
    x = arg("x", 3)
    graph = Graph([x], [-ops.variable(-x)])
    assert Simplify(fast_math=True).run(graph) is graph


def test_a_reshape_of_a_repeated_constant_is_a_constant_beside_a_tensor() -> None:
    # The derivative of a mean.
    x = arg("x", 4, 3)
    ct = ops.reshape(ops.broadcast_to(ops.as_constant(np.array([0.25], np.float32)), (4,)), (4, 1))
    assert_text(
        Simplify().run(Graph([x], [ops.where(x > 0, ct, 0)])),
        """
        graph @graph(%x: f32[4,3]) -> f32[4,3] {
          %0 = constant {value=0.0} : f32[]
          %1 = greater(%x, %0) : bool[4,3]
          %2 = constant {value=0.25} : f32[]
          %3 = where(%1, %2, %0) : f32[4,3]
          return %3
        }
        """,
    )


def test_no_transpose_stays_beside_the_products_of_a_training_step() -> None:
    graph, _ = training_step()
    result = optimized(graph)
    assert result.count("matmul") == 8
    assert result.count("transpose") == 0


# Broadcasts before elementwise ops ----------------------------------------------------------------


def test_an_elementwise_op_broadcasts_by_itself() -> None:
    x, y = arg("x", 3), arg("y", 2, 3)
    assert_text(
        Simplify().run(Graph([x, y], [ops.broadcast_to(x, (2, 3)) * y])),
        """
        graph @graph(%x: f32[3], %y: f32[2,3]) -> f32[2,3] {
          %0 = multiply(%x, %y) : f32[2,3]
          return %0
        }
        """,
    )


def test_what_is_repeated_is_computed_once() -> None:
    x, y = arg("x", 3), arg("y", 3)
    product = ops.broadcast_to(x, (2, 3)) * ops.broadcast_to(y, (2, 3))
    assert_text(
        Simplify().run(Graph([x, y], [product])),
        """
        graph @graph(%x: f32[3], %y: f32[3]) -> f32[2,3] {
          %0 = multiply(%x, %y) : f32[3]
          %1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]
          return %1
        }
        """,
    )


def test_one_broadcast_of_two_stays_to_give_the_shape_to_a_power() -> None:
    x, y = arg("x", 3), arg("y", 3)
    power = ops.broadcast_to(x, (2, 3)) ** ops.broadcast_to(y, (2, 3))
    assert_text(
        Simplify().run(Graph([x, y], [power])),
        """
        graph @graph(%x: f32[3], %y: f32[3]) -> f32[2,3] {
          %0 = broadcast_to(%y) {shape=[2, 3]} : f32[2,3]
          %1 = power(%x, %0) : f32[2,3]
          return %1
        }
        """,
    )


def test_two_broadcasts_go_where_together_they_give_the_shape() -> None:
    x, y = arg("x", 2, 1), arg("y", 1, 3)
    graph = Graph([x, y], [ops.broadcast_to(x, (2, 3)) - ops.broadcast_to(y, (2, 3))])
    assert_text(
        Simplify().run(graph),
        """
        graph @graph(%x: f32[2,1], %y: f32[1,3]) -> f32[2,3] {
          %0 = subtract(%x, %y) : f32[2,3]
          return %0
        }
        """,
    )


def test_a_broadcast_of_a_broadcast_goes() -> None:
    x, y = arg("x", 3), arg("y", 4, 2, 3)
    graph = Graph([x, y], [y - ops.broadcast_to(ops.broadcast_to(x, (2, 3)), (4, 2, 3))])
    assert_text(
        Simplify().run(graph),
        """
        graph @graph(%x: f32[3], %y: f32[4,2,3]) -> f32[4,2,3] {
          %0 = subtract(%y, %x) : f32[4,2,3]
          return %0
        }
        """,
    )


def test_a_broadcast_goes_that_a_rule_brought_to_an_elementwise_op() -> None:
    x, y = arg("x", 3), arg("y", 2, 3)
    assert_text(
        Simplify().run(Graph([x, y], [y + -ops.broadcast_to(x, (2, 3))])),
        """
        graph @graph(%x: f32[3], %y: f32[2,3]) -> f32[2,3] {
          %0 = subtract(%y, %x) : f32[2,3]
          return %0
        }
        """,
    )


def test_the_branches_of_where_broadcast() -> None:
    c, x, y = arg("c", 2, 3, dtype=np.bool_), arg("x", 3), arg("y")
    graph = Graph([c, x, y], [ops.where(c, ops.broadcast_to(x, (2, 3)), y)])
    assert_text(
        Simplify().run(graph),
        """
        graph @graph(%c: bool[2,3], %x: f32[3], %y: f32[]) -> f32[2,3] {
          %0 = where(%c, %x, %y) : f32[2,3]
          return %0
        }
        """,
    )

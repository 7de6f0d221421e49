"""Simplify, rule by rule: what is rewritten, and what must stay as it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Graph, Node
from needle_ir.passes import Simplify
from needle_ir.passes.rewrite import rewrite
from needle_ir.passes.simplify import EXACT, FAST_MATH
from tests.passes.graph_text import arg, assert_text, body
from tests.passes.simplify_cases import EXACT_CASES, FAST_MATH_CASES, Case

Expression = Callable[[Node, Node], Node]


def of_two(expression: Expression, dtype: Any = np.float32) -> Graph:
    x, y = arg("x", 2, 3, dtype=dtype), arg("y", 2, 3, dtype=dtype)
    return Graph([x, y], [expression(x, y)])


def test_every_rule_has_a_case() -> None:
    assert {rule.name for rule in EXACT} == {case.rule for case in EXACT_CASES}
    assert {rule.name for rule in FAST_MATH} == {case.rule for case in FAST_MATH_CASES}


@pytest.mark.parametrize("case", EXACT_CASES + FAST_MATH_CASES, ids=repr)
def test_a_rule_alone(case: Case) -> None:
    (rule,) = [rule for rule in EXACT + FAST_MATH if rule.name == case.rule]
    graph = of_two(case.before)
    assert body(graph) != case.after
    assert body(rewrite(graph, [rule])) == case.after


@pytest.mark.parametrize("case", EXACT_CASES, ids=repr)
def test_exact_rules_fire_with_and_without_fast_math(case: Case) -> None:
    assert body(Simplify().run(of_two(case.before))) == case.after
    assert body(Simplify(fast_math=True).run(of_two(case.before))) == case.after


@pytest.mark.parametrize("case", FAST_MATH_CASES, ids=repr)
def test_fast_math_rules_fire_with_fast_math_only(case: Case) -> None:
    graph = of_two(case.before)
    assert Simplify().run(graph) is graph
    assert body(Simplify(fast_math=True).run(graph)) == case.after


# x * 0.0 is on the list too, in FAST_MATH_CASES.
NOT_EXACT = {
    "minus negative zero": lambda x, y: x - -0.0,
    "times minus one": lambda x, y: x * -1,
    "times two": lambda x, y: x * 2,
    "one divided": lambda x, y: 1 / x,
    "subtracted from zero": lambda x, y: 0 - x,
    "a power of two": lambda x, y: 2**x,
    "cube": lambda x, y: x**3,
    "reciprocal": lambda x, y: x**-1,
    "square by an exponent with axes": lambda x, y: x ** np.full((1, 1), 2, np.float32),
    "square by exponents": lambda x, y: x ** np.full(3, 2, np.float32),
    "ones that add an axis": lambda x, y: x * np.ones((1, 1, 1), np.float32),
    "ones that repeat": lambda x, y: x * np.ones((4, 1, 1), np.float32),
    "division by ones that repeat": lambda x, y: x / np.ones((4, 1, 1), np.float32),
    "zeros that repeat": lambda x, y: x - np.zeros((4, 1, 1), np.float32),
    "exponents that repeat": lambda x, y: x ** np.ones((4, 1, 1), np.float32),
    "something between two negatives": lambda x, y: -ops.relu(-x),
    "something between two relus": lambda x, y: ops.relu(-ops.relu(x)),
    "the negative of a sum": lambda x, y: -(x + y),
    "a transpose that moves axes": lambda x, y: ops.permute(x, (1, 0)),
    "a reshape": lambda x, y: ops.reshape(x, (3, 2)),
    "a reshape of a transpose": lambda x, y: ops.reshape(ops.permute(x), (2, 3)),
    "a transpose of a reshape": lambda x, y: ops.permute(ops.reshape(x, (3, 2))),
    "a broadcast that repeats": lambda x, y: ops.broadcast_to(x, (4, 2, 3)),
    "a broadcast that adds an axis": lambda x, y: ops.broadcast_to(x, (1, 2, 3)),
    "another dtype": lambda x, y: ops.cast(x, np.float64),
    "through a narrower dtype": lambda x, y: ops.cast(ops.cast(x, np.float16), np.float32),
    "a sum over an axis": lambda x, y: ops.sum(x, 1, True),
}

NOT_FAST_MATH = {
    "plus negative zero": lambda x, y: x + -0.0,
    "times negative zero": lambda x, y: x * -0.0,
    "minus another node": lambda x, y: x - y,
    "divided by another node": lambda x, y: x / y,
    "the same sum in another node": lambda x, y: (x + y) - (x + y),
    "plus zeros that repeat": lambda x, y: x + np.zeros((4, 1, 1), np.float32),
    "times zeros that repeat": lambda x, y: x * np.zeros((4, 1, 1), np.float32),
    "plus one": lambda x, y: x + 1,
}


@pytest.mark.parametrize("expression", NOT_EXACT.values(), ids=list(NOT_EXACT))
def test_what_no_rule_matches_stays(expression: Expression) -> None:
    graph = of_two(expression)
    assert Simplify().run(graph) is graph
    assert Simplify(fast_math=True).run(graph) is graph


@pytest.mark.parametrize("expression", NOT_FAST_MATH.values(), ids=list(NOT_FAST_MATH))
def test_what_no_fast_math_rule_matches_stays(expression: Expression) -> None:
    graph = of_two(expression)
    assert Simplify(fast_math=True).run(graph) is graph


def test_a_replacement_of_another_dtype_is_refused() -> None:
    # A sum of booleans is an integer, also over no axes.
    x = arg("x", 3, dtype=np.bool_)
    graph = Graph([x], [ops.sum(x, ())])
    assert Simplify(fast_math=True).run(graph) is graph


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
    assert body(Simplify().run(of_two(lambda x, y: -ops.negative(x * 1 - 0), dtype))) == [
        "return %x"
    ]


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


def test_two_transposes_that_undo_each_other_go() -> None:
    assert body(Simplify().run(of_two(lambda x, y: ops.permute(ops.permute(x))))) == ["return %x"]


def test_a_variable_is_not_looked_through() -> None:
    x = arg("x", 3)
    graph = Graph([x], [-ops.variable(-x)])
    assert Simplify(fast_math=True).run(graph) is graph


# Broadcasts before elementwise ops ---------------------------------------------------------------


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


def test_one_broadcast_of_two_stays_to_give_the_shape() -> None:
    x, y = arg("x", 3), arg("y", 3)
    assert_text(
        Simplify().run(Graph([x, y], [ops.broadcast_to(x, (2, 3)) * ops.broadcast_to(y, (2, 3))])),
        """
        graph @graph(%x: f32[3], %y: f32[3]) -> f32[2,3] {
          %0 = broadcast_to(%y) {shape=[2, 3]} : f32[2,3]
          %1 = multiply(%x, %0) : f32[2,3]
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


KEPT_BROADCASTS = {
    "one operand": lambda x, y: ops.exp(ops.broadcast_to(x, (4, 2, 3))),
    "the other operand is smaller": lambda x, y: ops.broadcast_to(x, (4, 2, 3)) + y,
    "a reduction": lambda x, y: ops.sum(ops.broadcast_to(x, (4, 2, 3)), 0),
    "a matrix product": lambda x, y: ops.broadcast_to(x, (4, 2, 3)) @ ops.reshape(y, (3, 2)),
}


@pytest.mark.parametrize("expression", KEPT_BROADCASTS.values(), ids=list(KEPT_BROADCASTS))
def test_a_broadcast_stays(expression: Expression) -> None:
    graph = of_two(expression)
    assert Simplify().run(graph) is graph

"""CSE: what is the same and what only looks so."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Application, Graph, Node, constant_node, watch_rewrites
from needle_ir.passes import CSE, Autodiff
from needle_ir.runtime import interpret
from tests.passes.graph_text import arg, assert_text

Pair = Callable[[Node, Node], tuple[Node, Node]]


def of_two(expression: Pair, dtype: Any = np.float32) -> Graph:
    x, y = arg("x", 2, 2, dtype=dtype), arg("y", 2, 2, dtype=dtype)
    return Graph([x, y], expression(x, y))


def test_equal_expressions_are_computed_once() -> None:
    graph = of_two(lambda x, y: (ops.exp(x * y) + 1.0, ops.exp(x * y) - 1.0))
    assert graph.count("exp") == 2
    assert_text(
        CSE().run(graph),
        """
        graph @graph(%x: f32[2,2], %y: f32[2,2]) -> (f32[2,2], f32[2,2]) {
          %0 = multiply(%x, %y) : f32[2,2]
          %1 = exp(%0) : f32[2,2]
          %2 = constant {value=1.0} : f32[]
          %3 = add(%1, %2) : f32[2,2]
          %4 = subtract(%1, %2) : f32[2,2]
          return %3, %4
        }
        """,
    )


def test_the_first_of_equal_nodes_stays() -> None:
    graph = of_two(lambda x, y: (ops.exp(x), ops.exp(x)))
    first, second = graph.outputs
    assert CSE().run(graph).outputs == (first, first)
    assert graph.outputs == (first, second)


SAME: dict[str, Pair] = {
    "sum": lambda x, y: (x + y, y + x),
    "product": lambda x, y: (x * y, y * x),
    "maximum": lambda x, y: (ops.maximum(x, y), ops.maximum(y, x)),
    "minimum": lambda x, y: (ops.minimum(x, y), ops.minimum(y, x)),
    "equal": lambda x, y: (ops.equal(x, y), ops.equal(y, x)),
    "not equal": lambda x, y: (ops.not_equal(x, y), ops.not_equal(y, x)),
    "axes counted from either end": lambda x, y: (ops.sum(x, -1), ops.sum(x, 1)),
    "constants": lambda x, y: (
        constant_node(np.arange(3)),
        constant_node(np.arange(3)),
    ),
    "a reshape with -1": lambda x, y: (ops.reshape(x, (-1,)), ops.reshape(x, (4,))),
}


@pytest.mark.parametrize("expression", SAME.values(), ids=list(SAME))
def test_merged(expression: Pair) -> None:
    first, second = CSE().run(of_two(expression)).outputs
    assert first is second


def bits(value: float, dtype: Any = np.float32) -> Node:
    return constant_node(np.array(value, dtype))


DIFFERENT: dict[str, Pair] = {
    "difference": lambda x, y: (x - y, y - x),
    "quotient": lambda x, y: (x / y, y / x),
    "less": lambda x, y: (ops.less(x, y), ops.less(y, x)),
    "matrix product": lambda x, y: (x @ y, y @ x),
    "where": lambda x, y: (ops.where(x > y, x, y), ops.where(x > y, y, x)),
    "ops": lambda x, y: (ops.maximum(x, y), ops.minimum(x, y)),
    "axes": lambda x, y: (ops.sum(x, 0), ops.sum(x, 1)),
    "keepdims": lambda x, y: (ops.sum(x, 0), ops.sum(x, 0, True)),
    "dtypes": lambda x, y: (ops.cast(x, np.float16), ops.cast(x, np.float64)),
    "0.0 and -0.0": lambda x, y: (bits(0.0), bits(-0.0)),
    "1 and 1.0": lambda x, y: (bits(1, np.int32), bits(1, np.float32)),
    "1 and True": lambda x, y: (bits(1, np.uint8), bits(1, np.bool_)),
    "widths": lambda x, y: (bits(0, np.int32), bits(0, np.int64)),
    "shapes": lambda x, y: (constant_node(np.zeros(1)), constant_node(np.zeros((1, 1)))),
    "permutations": lambda x, y: (ops.permute(x, (0, 1)), ops.permute(x, (1, 0))),
}


@pytest.mark.parametrize("expression", DIFFERENT.values(), ids=list(DIFFERENT))
def test_not_merged(expression: Pair) -> None:
    first, second = CSE().run(of_two(expression)).outputs
    assert first is not second


def test_two_inputs_of_one_type_are_two() -> None:
    graph = of_two(lambda x, y: (ops.exp(x), ops.exp(y)))
    assert CSE().run(graph) is graph


def test_random_draws_stay_two() -> None:
    draws = [ops.random_uniform((2,), 0.0, 1.0, np.float32) for _ in range(2)]
    graph = Graph([], [draws[0] + draws[1]], effects=draws)
    assert CSE().run(graph) is graph


def test_two_variables_of_one_value_stay_two() -> None:
    x = arg("x", 3)
    a, b = ops.variable(x), ops.variable(x)
    graph = Graph([x], [ops.grad(ops.sum(a * b), a), ops.grad(ops.sum(a * b), b)])
    (da, db) = interpret(Autodiff().run(CSE().run(graph)), [np.array([1, 2, 3], np.float32)])
    assert da.tolist() == db.tolist() == [1, 2, 3]


def test_merging_reaches_through_users() -> None:
    graph = of_two(lambda x, y: ((x + y) @ (y + x), (y + x) @ (x + y)))
    first, second = CSE().run(graph).outputs
    assert first is second
    assert len(CSE().run(graph).nodes) == 4


def test_every_merge_is_announced() -> None:
    graph = of_two(lambda x, y: (ops.exp(x + y), ops.exp(y + x)))
    seen: list[Application] = []
    with watch_rewrites(lambda application: bool(seen.append(application)) or True):
        (first, second) = CSE().run(graph).outputs
    assert first is second
    assert [(a.rule, a.before.op.name) for a in seen] == [("cse", "add"), ("cse", "exp")]
    assert seen[1].after is first
    assert [(a.matched, a.new) for a in seen] == [((a.before,), ()) for a in seen]


def test_what_may_not_be_merged_stays_two() -> None:
    graph = of_two(lambda x, y: (ops.exp(x + y), ops.exp(y + x)))
    with watch_rewrites(lambda application: False):
        assert CSE().run(graph) is graph
    with watch_rewrites(lambda application: application.before.op.name == "add"):
        first, second = CSE().run(graph).outputs
    assert first is not second
    assert first.inputs == second.inputs

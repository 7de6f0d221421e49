"""Fold: constant subexpressions computed, and what is never folded."""

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import CONSTANT, Application, Graph, Node, watch_rewrites
from needle_ir.passes import Fold
from needle_ir.runtime import evaluate, interpret
from tests.passes.graph_text import arg, assert_text, text

FOLD = Fold(evaluate)


def constant(*shape: int) -> Node:
    return ops.as_constant(np.arange(float(np.prod(shape)), dtype=np.float32).reshape(shape))


def test_a_chain_of_constants_becomes_one() -> None:
    x = arg("x", 3)
    two = ops.as_constant(2.0)
    graph = Graph([x], [x * (ops.exp(two - 2.0) + two)])
    assert_text(
        graph,
        """
        graph @graph(%x: f32[3]) -> f32[3] {
          %0 = constant {value=2.0} : f32[]
          %1 = subtract(%0, %0) : f32[]
          %2 = exp(%1) : f32[]
          %3 = add(%2, %0) : f32[]
          %4 = multiply(%x, %3) : f32[3]
          return %4
        }
        """,
    )
    assert_text(
        FOLD.run(graph),
        """
        graph @graph(%x: f32[3]) -> f32[3] {
          %0 = constant {value=3.0} : f32[]
          %1 = multiply(%x, %0) : f32[3]
          return %1
        }
        """,
    )


def test_reductions_views_and_casts_fold() -> None:
    c = ops.cast(ops.permute(ops.sum(constant(2, 3), 0, True)), np.float64)
    assert_text(
        FOLD.run(Graph([], [c])),
        """
        graph @graph() -> f64[3,1] {
          %0 = constant {value=[[3.0], [5.0], [7.0]]} : f64[3,1]
          return %0
        }
        """,
    )


def test_what_is_folded_is_computed_as_at_run_time() -> None:
    c = constant(2, 3)
    graph = Graph([], [ops.logsumexp(c, 1) / 0.0, ops.log(c - c), c @ ops.permute(c)])
    folded = FOLD.run(graph)
    assert all(node.op is CONSTANT for node in folded.outputs)
    for expected, actual in zip(interpret(graph, []), interpret(folded, []), strict=True):
        np.testing.assert_array_equal(actual, expected, strict=True)


def test_an_operand_that_is_not_constant_is_not_folded() -> None:
    x = arg("x", 3)
    graph = Graph([x], [x * constant(3) + constant(3)])
    assert FOLD.run(graph) is graph


def test_a_constant_alone_is_left() -> None:
    graph = Graph([], [constant(3)])
    assert FOLD.run(graph) is graph


def test_a_broadcast_is_not_materialised() -> None:
    one = ops.broadcast_to(ops.as_constant(1.0), (2, 3))
    for node in (one, ops.sum(one), ops.permute(one), ops.reshape(one, (6,)), one @ constant(3)):
        graph = Graph([], [node])
        assert FOLD.run(graph) is graph


def test_an_elementwise_op_over_broadcasts_is_the_broadcast_of_a_constant() -> None:
    one = ops.broadcast_to(ops.as_constant(1.0), (2, 3))
    assert_text(
        FOLD.run(
            Graph([], [-(one + ops.broadcast_to(ops.broadcast_to(one, (1, 2, 3)), (4, 2, 3)))])
        ),
        """
        graph @graph() -> f32[4,2,3] {
          %0 = constant {value=-2.0} : f32[]
          %1 = broadcast_to(%0) {shape=[4, 2, 3]} : f32[4,2,3]
          return %1
        }
        """,
    )
    assert_text(
        FOLD.run(Graph([], [one * constant(3)])),
        """
        graph @graph() -> f32[2,3] {
          %0 = constant {value=[0.0, 1.0, 2.0]} : f32[3]
          %1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]
          return %1
        }
        """,
    )
    assert_text(
        FOLD.run(Graph([], [ops.broadcast_to(ops.as_constant(2.0), (1, 3)) * constant(3)])),
        """
        graph @graph() -> f32[1,3] {
          %0 = constant {value=[[0.0, 2.0, 4.0]]} : f32[1,3]
          return %0
        }
        """,
    )
    assert_text(
        FOLD.run(Graph([], [one * constant(2, 3)])),
        """
        graph @graph() -> f32[2,3] {
          %0 = constant {value=[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]} : f32[2,3]
          return %0
        }
        """,
    )


def test_a_broadcast_of_what_is_not_constant_stays() -> None:
    x = arg("x")
    graph = Graph([x], [ops.exp(ops.broadcast_to(x, (2, 3))) * constant(3)])
    assert FOLD.run(graph) is graph


def test_a_broadcast_that_repeats_nothing_is_folded() -> None:
    folded = FOLD.run(Graph([], [ops.broadcast_to(constant(3), (1, 3))]))
    assert folded.count("broadcast_to") == 0


def test_the_cap_on_bytes() -> None:
    c = constant(4)
    grown = ops.reshape(c, (4, 1)) + c
    graph = Graph([], [grown])
    folded = Fold(evaluate, max_bytes=63).run(graph)
    assert_text(
        folded,
        """
        graph @graph() -> f32[4,4] {
          %0 = constant {value=[[0.0], [1.0], [2.0], [3.0]]} : f32[4,1]
          %1 = constant {value=[0.0, 1.0, 2.0, 3.0]} : f32[4]
          %2 = add(%0, %1) : f32[4,4]
          return %2
        }
        """,
    )
    assert Fold(evaluate, max_bytes=64).run(graph).outputs[0].op is CONSTANT
    large = Graph([], [constant(128, 128) + 1.0, constant(128, 129) + 1.0])
    assert [node.op is CONSTANT for node in FOLD.run(large).outputs] == [True, False]


def test_random_draws_are_not_folded() -> None:
    draw = ops.random_uniform((2,), 0.0, 1.0, np.float32)
    graph = Graph([], [draw * 2.0], effects=[draw])
    assert FOLD.run(graph) is graph


def test_markers_are_not_folded() -> None:
    c = constant(2)
    outputs = [ops.variable(c), ops.stop_gradient(c), ops.known(c, c), ops.grad(ops.sum(c), c)]
    folded = FOLD.run(Graph([], outputs))
    assert [node.op.name for node in folded.outputs] == [
        "variable",
        "stop_gradient",
        "known",
        "grad",
    ]


def test_a_composite_is_not_folded_before_it_is_opened() -> None:
    c = constant(3)
    graph = Graph([], [ops.one_hot(ops.as_constant(np.arange(2)), classes=3), ops.exp(c)])
    folded = FOLD.run(graph)
    assert [node.op.name for node in folded.outputs] == ["one_hot", "constant"]


def test_the_graph_before_is_as_it_was() -> None:
    graph = Graph([], [ops.exp(constant(2))])
    before = text(graph)
    assert FOLD.run(graph) is not graph
    assert text(graph) == before


def test_empty_arrays_fold() -> None:
    folded = FOLD.run(Graph([], [ops.sum(constant(0, 2), 0) + 1.0]))
    assert_text(
        folded,
        """
        graph @graph() -> f32[2] {
          %0 = constant {value=[1.0, 1.0]} : f32[2]
          return %0
        }
        """,
    )


def test_every_folding_is_announced() -> None:
    x = arg("x", 3)
    total = ops.exp(ops.as_constant(0.0)) + 1.0
    graph = Graph([x], [x * total, -ops.broadcast_to(ops.as_constant(1.0), (2, 3))])
    seen: list[Application] = []
    with watch_rewrites(lambda application: bool(seen.append(application)) or True):
        folded = FOLD.run(graph)
    assert [(a.rule, a.before.op.name) for a in seen] == [
        ("fold", "exp"),
        ("fold", "add"),
        ("fold", "negative"),
    ]
    assert [a.matched for a in seen] == [(a.before,) for a in seen]
    assert [[node.op.name for node in a.new] for a in seen] == [
        ["constant"],
        ["constant"],
        ["constant", "broadcast_to"],
    ]
    assert seen[-1].after is folded.outputs[1]


def test_what_may_not_be_folded_stays() -> None:
    graph = Graph([], [ops.exp(ops.as_constant(0.0)) + 1.0])
    with watch_rewrites(lambda application: False):
        assert FOLD.run(graph) is graph
    with watch_rewrites(lambda application: application.before.op.name == "exp"):
        assert [node.op.name for node in FOLD.run(graph).nodes] == ["constant", "constant", "add"]


def test_what_can_not_be_computed_is_left_for_the_run() -> None:
    two, rows = ops.as_constant(2), constant(2, 3)
    power = two ** ops.as_constant(-1)
    gathered = ops.gather(rows, ops.as_constant(np.array([5])))
    for node in (power, gathered):
        graph = Graph([], [rows], unused=[node])
        assert FOLD.run(graph) is graph
    with pytest.raises(ValueError, match="negative integer powers"):
        interpret(FOLD.run(Graph([], [power])), [])

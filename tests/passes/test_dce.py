"""DCE: what nobody needs goes, what has an effect stays."""

import numpy as np

from needle_ir import ops
from needle_ir.ir import Application, Graph, watch_rewrites
from needle_ir.passes import DCE
from tests.passes.graph_text import arg, assert_text, text


def test_unused_nodes_go_with_all_that_only_they_read() -> None:
    x, y = arg("x", 3), arg("y", 3)
    shared = ops.exp(x)
    graph = Graph([x, y], [shared + 1.0], unused=[ops.log(shared * y), ops.tanh(y)])
    assert_text(
        graph,
        """
        graph @graph(%x: f32[3], %y: f32[3]) -> f32[3] {
          %0 = exp(%x) : f32[3]
          %1 = constant {value=1.0} : f32[]
          %2 = add(%0, %1) : f32[3]
          %3 = multiply(%0, %y) : f32[3]
          %4 = log(%3) : f32[3]
          %5 = tanh(%y) : f32[3]
          unused %4, %5
          return %2
        }
        """,
    )
    assert_text(
        DCE().run(graph),
        """
        graph @graph(%x: f32[3], %y: f32[3]) -> f32[3] {
          %0 = exp(%x) : f32[3]
          %1 = constant {value=1.0} : f32[]
          %2 = add(%0, %1) : f32[3]
          return %2
        }
        """,
    )


def test_an_effect_stays_though_nobody_reads_it() -> None:
    draw = ops.random_uniform((2,), 0.0, 1.0, np.float32)
    x = arg("x", 2)
    graph = Graph([x], [x], effects=[draw], unused=[draw * x], name="step")
    assert_text(
        DCE().run(graph),
        """
        graph @step(%x: f32[2]) -> f32[2] {
          %0 = random_uniform() {dtype=f32, high=1.0, low=0.0, shape=[2]} : f32[2]
          effects %0
          return %x
        }
        """,
    )


def test_unused_inputs_stay() -> None:
    x, y = arg("x", 3), arg("y", 3)
    assert DCE().run(Graph([x, y], [x], unused=[ops.exp(y)])).inputs == (x, y)


def test_an_output_that_is_listed_as_unused_too_stays() -> None:
    x = arg("x", 3)
    y = ops.exp(x)
    assert text(DCE().run(Graph([x], [y], unused=[y]))) == text(Graph([x], [y]))


def test_nothing_is_dead() -> None:
    x = arg("x", 3)
    graph = Graph([x], [ops.exp(x)])
    assert DCE().run(graph) is graph


def test_every_removal_is_announced_with_all_that_goes() -> None:
    x = arg("x", 3)
    y, shared = ops.exp(x), ops.tanh(x)
    first, second = ops.log(ops.sqrt(shared)), ops.relu(shared) * y
    graph = Graph([x], [y], unused=[first, second, y])
    seen: list[Application] = []
    with watch_rewrites(lambda application: bool(seen.append(application)) or True):
        after = DCE().run(graph)
    assert after.unused == ()
    assert [(a.rule, a.before, a.after, a.new) for a in seen] == [
        ("dce", first, first, ()),
        ("dce", second, second, ()),
    ]
    assert [[node.op.name for node in a.matched] for a in seen] == [
        ["log", "sqrt", "tanh"],
        ["multiply", "relu"],
    ]


def test_what_may_not_be_dropped_stays() -> None:
    x = arg("x", 3)
    first, second = ops.exp(x), ops.log(x)
    graph = Graph([x], [x], unused=[first, second])
    with watch_rewrites(lambda application: False):
        assert DCE().run(graph) is graph
    with watch_rewrites(lambda application: application.before is first):
        assert DCE().run(graph).unused == (second,)

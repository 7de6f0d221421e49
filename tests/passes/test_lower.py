"""Lower: composites opened, in place, and as deep as they go."""

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    Application,
    Graph,
    Node,
    OpError,
    structurally_equal,
    verify,
    watch_rewrites,
)
from needle_ir.passes import Lower
from tests.passes.graph_text import arg, assert_text


@ops.composite()
def double(x: Node) -> Node:
    return x * 2.0


@ops.composite()
def quadruple(x: Node) -> Node:
    return double(double(x))


@ops.composite()
def normalized_twice(x: Node, weight: Node) -> Node:
    return double(ops.layer_norm(x, weight, weight, eps=0.5))


@ops.composite()
def scaled(x: Node, *, by: float) -> Node:
    return x * by


@ops.composite()
def same(x: Node) -> Node:
    return x


def test_linear() -> None:
    x, w, b = arg("x", 4, 3), arg("w", 3, 2), arg("b", 2)
    graph = Graph([x, w, b], [ops.relu(ops.linear(x, w, b))])
    assert_text(
        graph,
        """
        graph @graph(%x: f32[4,3], %w: f32[3,2], %b: f32[2]) -> f32[4,2] {
          %0 = linear(%x, %w, %b) : f32[4,2]
          %1 = relu(%0) : f32[4,2]
          return %1
        }
        """,
    )
    assert_text(
        Lower().run(graph),
        """
        graph @graph(%x: f32[4,3], %w: f32[3,2], %b: f32[2]) -> f32[4,2] {
          %0 = matmul(%x, %w) : f32[4,2]
          %1 = add(%0, %b) : f32[4,2]
          %2 = relu(%1) : f32[4,2]
          return %2
        }
        """,
    )


def test_attributes_reach_the_decomposition() -> None:
    x = arg("x", 3)
    assert_text(
        Lower().run(Graph([x], [scaled(x, by=0.25)])),
        """
        graph @graph(%x: f32[3]) -> f32[3] {
          %0 = constant {value=0.25} : f32[]
          %1 = multiply(%x, %0) : f32[3]
          return %1
        }
        """,
    )


def test_composites_inside_of_composites() -> None:
    x = arg("x", 3)
    assert_text(
        Lower().run(Graph([x], [quadruple(x)])),
        """
        graph @graph(%x: f32[3]) -> f32[3] {
          %0 = constant {value=2.0} : f32[]
          %1 = multiply(%x, %0) : f32[3]
          %2 = multiply(%1, %0) : f32[3]
          return %2
        }
        """,
    )


def test_no_composite_is_left_of_a_loss() -> None:
    logits, labels = arg("z", 2, 3), arg("labels", 2, dtype=np.int64)
    graph = Graph([logits, labels], [ops.softmax_loss(logits, labels)])
    assert [node.op.name for node in graph.nodes if node.op.decompose] == ["softmax_loss"]
    assert not any(node.op.decompose for node in Lower().run(graph).nodes)


def test_keep_vjp_leaves_what_has_a_derivative_of_its_own() -> None:
    x, w, b = arg("x", 4, 3), arg("w", 3), arg("b", 3)
    graph = Graph([x, w, b], [double(ops.batch_norm(x, w, b, eps=0.5))])
    assert_text(
        Lower(keep_vjp=True).run(graph),
        """
        graph @graph(%x: f32[4,3], %w: f32[3], %b: f32[3]) -> f32[4,3] {
          %0 = batch_norm(%x, %w, %b) {eps=0.5} : f32[4,3]
          %1 = constant {value=2.0} : f32[]
          %2 = multiply(%0, %1) : f32[4,3]
          return %2
        }
        """,
    )
    assert Lower().run(graph).count("batch_norm") == 0


def test_keep_vjp_leaves_it_inside_of_another_composite_too() -> None:
    x, w = arg("x", 2, 3), arg("w", 3)
    graph = Graph([x, w], [normalized_twice(x, w)])
    assert_text(
        Lower(keep_vjp=True).run(graph),
        """
        graph @graph(%x: f32[2,3], %w: f32[3]) -> f32[2,3] {
          %0 = layer_norm(%x, %w, %w) {eps=0.5} : f32[2,3]
          %1 = constant {value=2.0} : f32[]
          %2 = multiply(%0, %1) : f32[2,3]
          return %2
        }
        """,
    )


def test_lowering_in_two_steps_is_lowering_at_once() -> None:
    x, w = arg("x", 2, 3), arg("w", 3)
    graph = Graph([x, w], [normalized_twice(x, w)])
    stepwise = Lower().run(Lower(keep_vjp=True).run(graph))
    assert structurally_equal(stepwise, Lower().run(graph))


def test_a_composite_that_is_its_operand() -> None:
    x = arg("x", 3)
    assert_text(
        Lower().run(Graph([x], [same(x)])),
        """
        graph @graph(%x: f32[3]) -> f32[3] {
          return %x
        }
        """,
    )


def test_a_node_that_is_read_twice_is_opened_once() -> None:
    x = arg("x", 3)
    y = double(x)
    assert Lower().run(Graph([x], [y + y, y])).count("multiply") == 1


def test_unused_composites_are_opened_and_stay_unused() -> None:
    x = arg("x", 3)
    lowered = Lower().run(Graph([x], [x], unused=[double(x)]))
    assert lowered.count("double") == 0
    assert [node.op.name for node in lowered.unused] == ["multiply"]


def test_effects_stay_effects_in_their_order() -> None:
    first = ops.random_uniform((3,), 0.0, 1.0, np.float32)
    second = ops.random_normal((3,), 0.0, 1.0, np.float32)
    graph = Graph([], [double(second) + first], effects=[first, second])
    lowered = Lower().run(graph)
    verify(lowered)
    assert lowered.effects == (first, second)


def test_origin_and_module_stay_those_of_the_composite() -> None:
    x = arg("x", 3)
    y = quadruple(x)
    for node in Lower().run(Graph([x], [y])).nodes:
        assert node.op.name != "multiply" or node.origin == y.origin


@pytest.mark.parametrize("keep_vjp", [False, True])
def test_nothing_to_open(keep_vjp: bool) -> None:
    x = arg("x", 3)
    graph = Graph([x], [ops.exp(x) * 2.0])
    assert Lower(keep_vjp).run(graph) is graph


# Announcing ---------------------------------------------------------------------------------------


def test_every_opening_is_announced() -> None:
    x = arg("x", 3)
    graph = Graph([x], [quadruple(x)])
    seen: list[Application] = []
    with watch_rewrites(lambda application: bool(seen.append(application)) or True):
        lowered = Lower().run(graph)
    assert [a.before.op.name for a in seen] == ["quadruple", "double", "double"]
    assert {a.rule for a in seen} == {"lower"}
    assert [a.matched for a in seen] == [(a.before,) for a in seen]
    assert [node.op.name for node in seen[0].new] == ["double", "double"]
    assert seen[-1].after is lowered.outputs[0]


def test_a_composite_that_may_not_be_opened_stays() -> None:
    x = arg("x", 3)
    graph = Graph([x], [double(scaled(x, by=3.0))])
    with watch_rewrites(lambda application: False):
        assert Lower().run(graph) is graph
    with watch_rewrites(lambda application: application.before.op.name == "double"):
        lowered = Lower().run(graph)
    assert [node.op.name for node in lowered.nodes] == ["input", "scaled", "constant", "multiply"]


# Effects ------------------------------------------------------------------------------------------


@ops.composite()
def noisy(x: Node) -> Node:
    return x + ops.random_uniform(x.shape, 0.0, 1.0, x.dtype)


@ops.composite()
def noisy_twice(x: Node) -> Node:
    return noisy(x) * 2.0


@pytest.mark.parametrize("composite", [noisy, noisy_twice])
def test_a_composite_with_an_effect_inside_is_refused_where_it_is_recorded(
    composite: ops.Composite,
) -> None:
    message = (
        r"random_uniform inside, .* pass the draw as an operand \(at test_lower.py:\d+ in test_a"
    )
    with pytest.raises(OpError, match=message):
        composite(arg("x", 3))

"""Horizontal fusion: which updates become one, and which must not."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Graph, Node, structurally_equal, verify
from needle_ir.passes import DEFAULT_PIPELINE, Horizontal, make_plan
from needle_ir.runtime import Executor, interpret
from tests.passes.arena_checker import problems
from tests.passes.graph_text import arg, assert_text
from tests.passes.training_step import optimized, training_step

SHAPES = [(2, 3), (3,), (1, 2), (4,)]
UNFUSED = DEFAULT_PIPELINE.partition(", horizontal")[0]


def sgd(shapes: Sequence[tuple[int, ...]] = SHAPES) -> Graph:
    lr = arg("lr")
    params = [arg(f"p{i}", *shape) for i, shape in enumerate(shapes)]
    grads = [arg(f"g{i}", *shape) for i, shape in enumerate(shapes)]
    return Graph([lr, *params, *grads], [p - lr * g for p, g in zip(params, grads, strict=True)])


def test_updates_become_one() -> None:
    graph = Horizontal().run(sgd([(2, 3), (3,), (3,), (3,)]))
    types = "f32[2,3], %{0}1: f32[3], %{0}2: f32[3], %{0}3: f32[3]"
    params, grads = (f"%{x}0: {types.format(x)}" for x in "pg")
    assert_text(
        graph,
        f"""
        graph @graph(%lr: f32[], {params}, {grads}) -> (f32[2,3], f32[3], f32[3], f32[3]) {{
          %0 = pack(%p0, %p1, %p2, %p3) : f32[15]
          %1 = pack(%g0, %g1, %g2, %g3) : f32[15]
          %2 = multiply(%lr, %1) : f32[15]
          %3 = subtract(%0, %2) : f32[15]
          %4 = unpack(%3) {{shape=[2, 3], start=0}} : f32[2,3]
          %5 = unpack(%3) {{shape=[3], start=6}} : f32[3]
          %6 = unpack(%3) {{shape=[3], start=9}} : f32[3]
          %7 = unpack(%3) {{shape=[3], start=12}} : f32[3]
          return %4, %5, %6, %7
        }}
        """,
    )
    verify(graph)
    assert Horizontal().run(graph) is graph


def test_the_same_bits() -> None:
    graph = sgd()
    arrays = [np.random.default_rng(0).standard_normal(x.shape).astype("f4") for x in graph.inputs]
    for a, b in zip(
        interpret(Horizontal().run(graph), arrays), interpret(graph, arrays), strict=True
    ):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def test_outputs_and_other_readers_half_way_up() -> None:
    """A moment is an output and goes into the update; the third one is also summed."""
    x = [arg(f"x{i}", 5) for i in range(5)]
    moments = [ops.exp(a) for a in x]
    updates = [ops.tanh(m) * 2.0 for m in moments]
    graph = Graph(x, [*updates, *moments, ops.sum(moments[2])])
    fused = Horizontal().run(graph)
    verify(fused)
    assert [fused.count(name) for name in ("exp", "tanh", "multiply", "pack")] == [1, 1, 1, 1]
    arrays = [np.full(5, i, np.float32) for i in range(5)]
    for a, b in zip(interpret(fused, arrays), interpret(graph, arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_reshape_below_a_lane_is_packed_without_it() -> None:
    x = [arg(f"x{i}", 6) for i in range(4)]
    fused = Horizontal().run(Graph(x, [ops.exp(-ops.reshape(a, (2, 3))) for a in x]))
    assert fused.count("reshape") == 0
    assert fused.count("pack") == 1


LEFT_ALONE: dict[str, Callable[[list[Node]], list[Node]]] = {
    "three lanes": lambda x: [ops.exp(a) * 2.0 for a in x[:3]],
    "one op only": lambda x: [ops.exp(a) for a in x],
    "other ops": lambda x: [
        f(a) * 2.0 for f, a in zip((ops.exp, ops.tanh, ops.relu, ops.sqrt), x, strict=True)
    ],
    "other scalars": lambda x: [ops.exp(a) * float(i) for i, a in enumerate(x)],
    "scalars only": lambda x: [ops.exp(ops.sum(a)) * 2.0 for a in x],
    "broadcasts": lambda x: [ops.exp(ops.sum(a, 0, keepdims=True) * a) for a in x],
    "one needs another": lambda x: _chain(x),
    "no outputs": lambda x: [ops.sum(ops.exp(a) * 2.0) for a in x],
}


def _chain(x: list[Node]) -> list[Node]:
    results = [ops.exp(x[0]) * 2.0]
    for a in x[1:]:
        results.append(ops.exp(a + ops.sum(results[-1])) * 2.0)
    return results


@pytest.mark.parametrize("expression", LEFT_ALONE.values(), ids=list(LEFT_ALONE))
def test_left_alone(expression: Callable[[list[Node]], list[Node]]) -> None:
    x = [arg(f"x{i}", 2, 3) for i in range(4)]
    graph = Graph(x, expression(x))
    assert Horizontal().run(graph) is graph


def test_large_lanes_stay_alone() -> None:
    graph = sgd([(200, 200), *SHAPES])
    fused = Horizontal().run(graph)
    assert [x.type.size for x in fused.nodes if x.op.name == "pack"] == [15, 15]
    assert fused.count("subtract") == 2
    assert Horizontal(max_bytes=200_000).run(graph).count("subtract") == 1
    assert Horizontal(min_lanes=5).run(graph) is graph


def test_lanes_of_another_dtype_are_another_column() -> None:
    x = [arg(f"x{i}", 3, dtype=np.float64 if i % 2 else np.float32) for i in range(8)]
    fused = Horizontal().run(Graph(x, [ops.exp(a) * 2.0 for a in x]))
    verify(fused)
    assert fused.count("exp") == 2


def test_a_training_step() -> None:
    graph, arrays = training_step()
    before = optimized(graph, UNFUSED)
    after = Horizontal().run(before)
    verify(after)
    assert before.count("sqrt") - after.count("sqrt") == 7
    assert structurally_equal(after, Horizontal().run(after))
    for a, b in zip(interpret(after, arrays), interpret(before, arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_packing_costs_no_copy_of_what_is_computed() -> None:
    """Each gradient is computed in its place; the new parameters share one allocation."""
    graph = optimized(training_step()[0], f"{UNFUSED}, horizontal")
    plan = make_plan(graph)
    assert problems(plan) == []
    packs = [step for step in plan.steps if step.node.op.name == "pack"]
    computed = [all(x.op.name != "input" for x in step.node.inputs) for step in packs]
    assert sorted(computed) == [False, False, False, True]
    assert [all(plan.in_place(step)) for step in packs] == computed
    source = Executor(plan).source
    assert len(plan.handed_back) == source.count(" = packing") == 3
    assert source.count("empty(") == 1  # the loss
    assert source.count(" = new") == 3  # one array for eight updates each


def test_thousands_of_lanes() -> None:
    graph = sgd([(2,)] * 2000)
    fused = Horizontal().run(graph)
    assert fused.count("subtract") == 1
    assert problems(make_plan(fused)) == []

"""Rematerialization: the same numbers in less memory, the peak worked out independently."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle_ir as ndl
from needle_ir import Tensor, nn, ops, optim
from needle_ir.compiler import read_pipeline
from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Application,
    Graph,
    Node,
    Plan,
    TensorType,
    Trait,
    graph_cost,
    input_node,
    verify,
    watch_rewrites,
)
from needle_ir.passes import (
    DEFAULT_PIPELINE,
    BudgetWarning,
    Remat,
    Verify,
    make_plan,
    parse_pipeline,
    pass_table,
    peak_bytes,
    run_pipeline,
    schedule,
)
from needle_ir.runtime import Executor, evaluate, interpret
from tests.passes.arena_checker import problems
from tests.passes.random_graphs import Sample, samples

Array = np.ndarray[Any, Any]


def arg(*shape: int, dtype: Any = np.float32) -> Node:
    return input_node(TensorType(shape, np.dtype(dtype)))


def compiled(graph: Graph, pipeline: str = DEFAULT_PIPELINE) -> Graph:
    return run_pipeline(graph, read_pipeline(pipeline), [Verify()])


def mlp(depth: int, batch: int = 64, width: int = 16) -> Graph:
    """A deep perceptron, its loss and the gradients of its weights, compiled."""
    x, *weights = arg(batch, width), *[arg(width, width) for _ in range(depth)]
    h = x
    for w in weights:
        h = ops.tanh(h @ w)
    loss = ops.sum(h * h)
    return compiled(Graph([x, *weights], [loss, *[ops.grad(loss, w) for w in weights]]))


def resnet_step(blocks: int = 12, batch: int = 256, drop: bool = True) -> Graph:
    """A whole training step of an MLPResNet, its dropout drawn inside of the step."""
    layers: list[Any] = [nn.Linear(16, 32), nn.ReLU()]
    for _ in range(blocks):
        inner = [nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU()]
        inner += [nn.Dropout(0.1)] if drop else []
        layers += [nn.Residual(nn.Sequential(*inner, nn.Linear(16, 32), nn.BatchNorm1d(32)))]
        layers += [nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(32, 10))
    optimizer = optim.Adam(model.parameters())
    x = Tensor(np.random.default_rng(0).standard_normal((batch, 16), np.float32))
    labels = Tensor(np.arange(batch) % 10)

    def step() -> Tensor:
        optimizer.reset_grad()
        loss = nn.SoftmaxLoss()(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return compiled(ndl.trace(step))


def peak(plan: Plan) -> int:
    """The most bytes of results that are alive at a step, found by asking for each of them when it
    is written and last read, through views.
    """
    nodes = [step.node for step in plan.steps]
    memory: dict[Node, Node] = {}
    for node in plan.graph.nodes:
        memory[node] = memory[node.inputs[0]] if node.op.has(Trait.VIEW) else node
    written = {node: i for i, node in enumerate(nodes) if memory[node] is node}
    last = dict(written)
    for i, node in enumerate(nodes):
        for x in node.inputs:
            if memory[x] in written:
                last[memory[x]] = i
    for node in plan.graph.outputs:
        if memory[node] in written:
            last[memory[node]] = len(nodes)
    alive = [0] * len(nodes)
    for node, start in written.items():
        for i in range(start, min(last[node] + 1, len(nodes))):
            alive[i] += node.type.nbytes
    return max(alive, default=0)


def numbers_for(graph: Graph) -> list[Array]:
    random = np.random.default_rng(0)
    return [
        np.asarray(random.uniform(0.1, 0.5, x.shape)).astype(x.dtype)
        if x.dtype.kind == "f"
        else np.zeros(x.shape, x.dtype)
        for x in graph.inputs
    ]


def run(graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    np.random.seed(0)
    return interpret(graph, arrays)


def assert_same_bits(actual: Sequence[Array], expected: Sequence[Array]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


PROGRAMS = {
    "mlp": lambda: mlp(24),
    "resnet": resnet_step,
    "resnet, no draws": lambda: resnet_step(drop=False),
}
REACHED = [("mlp", 0.8), ("mlp", 0.5), ("mlp", 0.4), ("resnet", 0.8), ("resnet", 0.6)]


@pytest.mark.parametrize(("program", "share"), [*REACHED, ("resnet, no draws", 0.6)])
def test_a_budget_that_can_be_reached(program: str, share: float) -> None:
    graph = PROGRAMS[program]()
    before = peak(make_plan(graph))
    budget = int(before * share)
    remat = Remat(budget).run(graph)
    verify(remat)
    plan = make_plan(remat)
    assert peak(plan) <= budget < before
    assert problems(plan) == []
    # Computing everything twice is the most that one more forward pass can take.
    assert 1 < graph_cost(remat).flops / graph_cost(graph).flops < 2
    arrays = numbers_for(graph)
    expected = run(graph, arrays)
    assert_same_bits(run(remat, arrays), expected)
    np.random.seed(0)
    assert_same_bits(Executor(plan)(arrays), expected)


def test_more_memory_takes_less_work() -> None:
    graph = mlp(32)
    before = peak(make_plan(graph))
    flops = [graph_cost(Remat(int(before * share)).run(graph)).flops for share in (0.9, 0.6, 0.4)]
    assert graph_cost(graph).flops < flops[0] < flops[1] < flops[2]


def test_the_arena_shrinks_with_the_peak() -> None:
    graph = mlp(32)
    before = make_plan(graph)
    after = make_plan(Remat(peak(before) // 2).run(graph))
    assert after.arena_bytes < 0.55 * before.arena_bytes


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_budget_above_the_peak_changes_nothing(program: str) -> None:
    graph = PROGRAMS[program]()
    assert Remat(peak(make_plan(graph))).run(graph) is graph


def test_it_is_idempotent() -> None:
    graph = mlp(24)
    once = Remat(peak(make_plan(graph)) // 2)
    first = once.run(graph)
    assert once.run(first) is first


def test_a_budget_out_of_reach_is_said_and_the_best_is_kept() -> None:
    graph = mlp(16)
    before = peak(make_plan(graph))
    with pytest.warns(BudgetWarning, match=rf"without remat {before:,}\), above the budget of 10"):
        remat = Remat(10).run(graph)
    assert peak(make_plan(remat)) < 0.6 * before
    arrays = numbers_for(graph)
    assert_same_bits(run(remat, arrays), run(graph, arrays))


def test_draws_and_effects_are_never_computed_again() -> None:
    graph = resnet_step()
    once = [node for node in graph.nodes if node.op.traits & {Trait.RANDOM, Trait.EFFECT}]
    remat = Remat(int(peak(make_plan(graph)) * 0.6)).run(graph)
    assert len(once) == 12
    assert len(remat.nodes) > len(graph.nodes)
    for kind in {node.op.name for node in once}:
        assert remat.count(kind) == graph.count(kind)
    assert [x.op for x in remat.effects] == [x.op for x in graph.effects]


def test_a_draw_that_is_all_there_is_stays() -> None:
    x = arg(4096)
    draw = ops.random_uniform((4096,), 0.0, 1.0, np.float32)
    big = [ops.exp(x * float(i)) for i in range(2, 6)]
    late = draw
    for y in big:
        late = late + y * y
    graph = Graph([x], [late], effects=[draw])
    with pytest.warns(BudgetWarning):
        remat = Remat(4096).run(graph)
    assert remat.count("random_uniform") == 1


@settings(max_examples=80, derandomize=True, deadline=None)
@given(samples(), st.sampled_from([0.3, 0.6, 0.9]))
def test_any_graph(sample: Sample, share: float) -> None:
    graph = compiled(sample.graph)
    before = peak(make_plan(graph))
    remat_pass = Remat(int(before * share))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        remat = remat_pass.run(graph)
    verify(remat)
    plan = make_plan(remat)
    assert problems(plan) == []
    after = peak(plan)
    assert after <= before
    assert (after <= remat_pass.budget) == (not caught)
    with np.errstate(all="ignore"):
        assert_same_bits(run(remat, sample.arrays), run(graph, sample.arrays))


def test_ten_thousand_nodes() -> None:
    graph = mlp(1700, batch=32, width=4)
    assert len(graph.nodes) > 10_000
    before = peak_of_schedule(graph)
    remat = Remat(before // 2).run(graph)
    assert peak_of_schedule(remat) <= before // 2


def peak_of_schedule(graph: Graph) -> int:
    return peak_bytes(graph, schedule(graph))


# As a pass ----------------------------------------------------------------------------------------


def test_in_a_pipeline() -> None:
    w = list(np.random.default_rng(0).standard_normal((20, 16, 16)) * 0.3)

    def loss(weights: Any, x: Any) -> Any:
        for weight in weights:
            x = ndl.tanh(x @ weight)
        return (x * x).sum()

    function, x = ndl.grad(loss), np.ones((64, 16))
    plain = ndl.compile(function, w, x)
    budget = peak(plain.plan) * 3 // 4
    pipeline = f"{DEFAULT_PIPELINE}, remat{{budget={budget}}}"
    smaller = ndl.compile(function, w, x, pipeline=pipeline)
    assert peak(smaller.plan) <= budget
    expected = [g.numpy() for g in plain(w, x)]
    assert_same_bits([g.numpy() for g in smaller(w, x)], expected)
    assert_same_bits([g.numpy() for g in ndl.jit(function, pipeline=pipeline)(w, x)], expected)
    stages = {stage.name: stage for stage in smaller.stages}
    assert graph_cost(stages["remat"].graph).flops > graph_cost(stages["fuse"].graph).flops


@pytest.mark.parametrize(
    "text", ["remat", "remat{budget=true}", "remat{budget=-1}", "remat{size=3}"]
)
def test_a_pipeline_without_a_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"budget|size"):
        parse_pipeline(text, pass_table(evaluate))


def test_before_autodiff_it_is_refused() -> None:
    x = arg(3)
    with pytest.raises(ValueError, match="remat stands after autodiff: there is a grad node"):
        Remat(1).run(Graph([x], [ops.grad(ops.sum(x * x), x)]))


def test_who_looks_on_sees_each_value_and_may_refuse() -> None:
    graph = mlp(16)
    budget = peak(make_plan(graph)) * 3 // 4
    seen: list[Application] = []

    def watch(application: Application) -> bool:
        seen.append(application)
        return True

    with watch_rewrites(watch):
        remat = Remat(budget).run(graph)
    assert {x.rule for x in seen} == {"remat"}
    assert all(x.before.op is x.after.op and x.before is not x.after for x in seen)
    assert len(remat.nodes) > len(graph.nodes)
    with watch_rewrites(lambda application: False), pytest.warns(BudgetWarning):
        assert Remat(budget).run(graph) is graph


def test_inputs_and_constants_are_not_counted() -> None:
    x = arg(1000)
    graph = Graph([x], [x])
    assert {node.op for node in graph.nodes} <= {INPUT, CONSTANT}
    assert Remat(0).run(graph) is graph

"""What must hold of the passes on any graph, tried on graphs that hypothesis draws.

Numbers are compared with the same graph after autodiff and lower alone, run node by node. They
agree up to 3e-4 of the largest element where float32 occurs, to 1e-10 in float64.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir import ops
from needle_ir.compiler import read_pipeline
from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Application,
    Graph,
    Node,
    Pass,
    Trait,
    structural_key,
    topological,
    watch_rewrites,
)
from needle_ir.ops.table import PRIMITIVES
from needle_ir.passes import (
    DEFAULT_PIPELINE,
    Fuse,
    Horizontal,
    Lower,
    Simplify,
    Verify,
    make_plan,
    run_pipeline,
)
from needle_ir.runtime import Executor, evaluate, interpret, tiles
from tests.passes.arena_checker import problems
from tests.passes.graph_text import arg, text
from tests.passes.random_graphs import Sample, assert_close, samples, tolerance
from tests.passes.training_step import training_step

Array = np.ndarray[Any, Any]
PLAIN = "autodiff, lower"

moderately = settings(max_examples=150, derandomize=True, deadline=None)


def results(run: Callable[[Sequence[Array]], tuple[Array, ...]], sample: Sample) -> Any:
    """One run. Random draws come from NumPy's generator, which is put back to its start."""
    np.random.seed(0)
    return run(sample.arrays)


def second_run(graph: Graph, sample: Sample) -> Any:
    """What a plan gives when other numbers from the run before are in its arena."""
    executor = Executor(make_plan(graph))
    executor([-array for array in sample.arrays])
    return results(executor, sample)


def passed(graph: Graph, pipeline: str | Sequence[Pass] | None = None) -> Graph:
    return run_pipeline(graph, read_pipeline(pipeline), [Verify()])


@moderately
@given(samples())
def test_optimized_graphs_and_plans_give_the_same_numbers(sample: Sample) -> None:
    plain, optimized = passed(sample.graph, PLAIN), passed(sample.graph)
    expected = results(lambda arrays: interpret(plain, arrays), sample)
    rtol = tolerance(plain)
    assert_close(results(lambda arrays: interpret(optimized, arrays), sample), expected, rtol)
    assert_close(second_run(optimized, sample), expected, rtol)


@moderately
@given(samples(), st.sampled_from([8, 24, 1 << 17]))
def test_fusion_changes_no_bit(sample: Sample, tile_bytes: int) -> None:
    """Not even where clusters run tile by tile, whatever is left for the last one."""
    before = passed(sample.graph, DEFAULT_PIPELINE.partition(", horizontal")[0])
    passes: list[Pass] = [Horizontal(min_lanes=2), Fuse(min_bytes=0)]
    after = run_pipeline(before, passes, [Verify()])
    expected = results(lambda arrays: interpret(before, arrays), sample)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE_BYTES", tile_bytes)
        found = results(lambda arrays: interpret(after, arrays), sample)
        again = second_run(after, sample)
        wrapped = Executor(make_plan(after), lambda node, kernel: kernel)
        profiled = results(wrapped, sample)
    for run in (found, again, profiled):
        for a, b in zip(run, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert problems(make_plan(after)) == []


@moderately
@given(samples())
def test_an_unoptimized_plan_gives_the_same_numbers(sample: Sample) -> None:
    plain = passed(sample.graph, PLAIN)
    expected = results(lambda arrays: interpret(plain, arrays), sample)
    assert_close(second_run(plain, sample), expected, tolerance(plain))


JOINTLY = "simplify{stabilize=true, cse=true}"
# Autodiff leaves more to do where nothing was simplified before it.
SHORT = f"autodiff, lower, fold, cse, {JOINTLY}"
SHORT_AND_FAST = "autodiff, lower, cse, simplify{fast_math=true, stabilize=true, cse=true}"


@pytest.mark.parametrize("pipeline", [DEFAULT_PIPELINE, SHORT, SHORT_AND_FAST])
@moderately
@given(samples())
def test_a_second_run_of_the_pipeline_changes_nothing(pipeline: str, sample: Sample) -> None:
    once = passed(sample.graph, pipeline)
    assert_unchanged_by(once, pipeline)
    if pipeline != DEFAULT_PIPELINE:
        assert_unchanged_by(once, "simplify, stabilize, cse")


def assert_unchanged_by(graph: Graph, pipeline: str) -> None:
    after = passed(graph, pipeline)
    assert text(after) == text(graph)
    assert structural_key(after) == structural_key(graph)


def _negative_that_a_product_takes() -> Graph:
    x = arg("x", 3)
    return Graph([x], [ops.grad(ops.sum(x * 3 - ops.exp(x * 3)), x)])


def _negative_that_a_sum_takes() -> Graph:
    x = arg("x", 1)
    return Graph([x], [ops.grad(ops.sum(x + ops.log_softmax(x, ())), x)])


def _conditions_that_become_equal() -> Graph:
    x, y = arg("x", 3), arg("y", 3)
    same = ops.known(ops.relu(y), x)
    selected = ops.where(same >= x, same, x)
    ct = ops.broadcast_to(ops.as_constant(0.5, x.dtype), (3,))
    return Graph([x, y], [ops.grad(ops.where(selected >= same, selected, same), x, ct)])


def _readers_of_a_sum_that_become_equal() -> Graph:
    x = arg("x", 2, 3)
    total = ops.sum(x, 1, True)
    again = ops.variable(ops.reshape(total, (1, 2)))
    return Graph([x], [ops.reshape(total, (2,)), ops.reshape(again, (2,))])


# What one pass leaves for another one before it, where they run one after the other.
ONE_BY_ONE = DEFAULT_PIPELINE.replace(JOINTLY, "simplify, stabilize, cse")


@pytest.mark.parametrize(
    "make",
    [
        _negative_that_a_product_takes,
        _negative_that_a_sum_takes,
        _conditions_that_become_equal,
        _readers_of_a_sum_that_become_equal,
    ],
)
def test_simplify_stabilize_and_cse_need_each_other(make: Callable[[], Graph]) -> None:
    assert_unchanged_by(passed(make()), DEFAULT_PIPELINE)
    left = passed(make(), ONE_BY_ONE)
    assert text(passed(left, ONE_BY_ONE)) != text(left)


@moderately
@given(samples())
def test_inputs_outputs_and_effects_keep_their_places(sample: Sample) -> None:
    before, after = sample.graph, passed(sample.graph)
    assert after.inputs == before.inputs
    assert [node.type for node in after.outputs] == [node.type for node in before.outputs]
    assert [node.attrs for node in after.effects] == [node.attrs for node in before.effects]
    assert not after.unused
    assert not any(node.op.decompose or node.op.has(Trait.MARKER) for node in after.nodes)
    # Stable ops may have longer derivatives than what they stand for.
    plain = passed(before, f"lower{{keep_vjp=true}}, stabilize, {PLAIN}, dce")
    # A view computes nothing; simplify makes one more where less is computed before it.
    assert len(computed(after)) <= len(computed(plain))


def computed(graph: Graph) -> list[Node]:
    given = (INPUT, CONSTANT)
    return [x for x in graph.nodes if x.op not in given and not x.op.has(Trait.VIEW)]


def assert_same_bits(actual: Array, expected: Array) -> None:
    """All NaN count as the same."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind == "f":
        assert (np.isnan(actual) == np.isnan(expected)).all()
        actual, expected = (np.where(np.isnan(x), 0, x) for x in (actual, expected))
    assert actual.tobytes() == expected.tobytes()


HARD = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-38, -1e38, 3.0, 1e-45]


@settings(max_examples=200, derandomize=True, deadline=None)
@given(samples(gradients=False), st.booleans())
def test_simplify_keeps_every_bit(sample: Sample, hard: bool) -> None:
    plain = passed(sample.graph, PLAIN)
    if hard and not any(map(_makes_an_integer, plain.nodes)):
        numbers = np.random.default_rng(0)
        sample.arrays = [numbers.choice(HARD, a.shape).astype(a.dtype) for a in sample.arrays]
    before = results(lambda arrays: interpret(plain, arrays), sample)
    after = results(lambda arrays: interpret(passed(plain, "simplify"), arrays), sample)
    for expected, actual, certain in zip(before, after, sample.certain, strict=True):
        if certain:
            assert_same_bits(actual, expected)


def _makes_an_integer(node: Node) -> bool:
    # Of a NaN or an infinity it may be any.
    return node.op.name == "cast" and node.dtype.kind == "i" and node.inputs[0].dtype.kind == "f"


@settings(max_examples=60, derandomize=True, deadline=None)
@given(samples(), st.integers(0, 60))
def test_after_any_number_of_rewrites_the_numbers_are_the_same(sample: Sample, fuel: int) -> None:
    """What is refused is left out, and nothing else is: the first rewrites are the same ones."""
    passes = [x for x in read_pipeline(None) if x.name not in ("horizontal", "fuse")]
    graph = run_pipeline(sample.graph, passes[: [x.name for x in passes].index("autodiff") + 1])
    later: list[Pass] = [Lower(), *passes[-3:]]
    everything, some = _Fuel(10**6), _Fuel(fuel)
    lowered = run_pipeline(graph, later[:1])
    run_pipeline(lowered, later[1:], [everything])
    result = run_pipeline(lowered, later[1:], [Verify(), some])
    assert some.rules == everything.rules[: len(some.rules)]
    assert len(some.rules) == min(fuel, len(everything.rules))
    expected = results(lambda arrays: interpret(lowered, arrays), sample)
    actual = results(lambda arrays: interpret(result, arrays), sample)
    assert_close(actual, expected, tolerance(lowered))


class _Fuel:
    """Allows so many rewrites."""

    def __init__(self, fuel: int):
        self.fuel = fuel
        self.rules: list[str] = []

    def start(self, graph: Graph) -> None:
        pass

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        pass

    def rewrite(self, pass_: Pass, application: Application) -> bool:
        if len(self.rules) == self.fuel:
            return False
        self.rules.append(application.rule)
        return True


@settings(max_examples=60, derandomize=True, deadline=None)
@given(samples())
def test_nothing_changes_where_every_rewrite_is_refused(sample: Sample) -> None:
    for pipeline in ("lower", "fold, simplify{fast_math=true}, cse, stabilize, dce"):
        graph = sample.graph if pipeline == "lower" else passed(sample.graph, PLAIN)
        result = run_pipeline(graph, read_pipeline(pipeline), [_Fuel(0)])
        # Nothing goes where dce takes a node off the list that an output needs as well.
        assert without_list(text(result)) == without_list(text(graph))


def without_list(text: str) -> str:
    return re.sub(r"\n  unused .*", "", text)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(samples())
def test_applications_tell_of_all_that_is_new(sample: Sample) -> None:
    """A node after the pass is an old one, one that an application made, or one of these over
    other operands.
    """
    graph = passed(sample.graph, PLAIN)
    made: set[Node] = set()

    def watch(application: Application) -> bool:
        assert application.matched[0] is application.before
        made.update(application.new)
        return True

    with watch_rewrites(watch):
        after = Simplify(fast_math=True, evaluate=evaluate).run(graph)
    known = {_without_operands(node) for node in (*graph.nodes, *made)}
    assert {_without_operands(node) for node in after.nodes} <= known


def _without_operands(node: Node) -> Any:
    return (node.op, node.attrs.key, node.type, node.origin)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(samples(), st.booleans(), st.booleans(), st.booleans())
def test_a_pass_leaves_nothing_for_itself(
    sample: Sample, fast_math: bool, stabilize: bool, cse: bool
) -> None:
    graph = passed(sample.graph, PLAIN)
    simplify = Simplify(fast_math, evaluate, stabilize, cse)
    for pass_ in [simplify, *read_pipeline("fold, cse, dce")]:
        once = pass_.run(graph)
        assert pass_.run(once) is once


@moderately
@given(samples(gradients=False))
def test_fast_math_agrees_on_finite_numbers(sample: Sample) -> None:
    plain = passed(sample.graph, PLAIN)
    fast = passed(sample.graph, [*read_pipeline(PLAIN), Simplify(True)])
    expected = results(lambda arrays: interpret(plain, arrays), sample)
    actual = results(lambda arrays: interpret(fast, arrays), sample)
    assert_close(actual, expected, tolerance(plain))


@pytest.mark.parametrize(
    "pipeline",
    [
        "lower, autodiff, dce",
        "autodiff, lower, simplify, cse",
        "stabilize, autodiff, lower, fold",
        "cse, simplify, fold, lower, autodiff, lower",
        "dce, cse, autodiff, cse, lower, cse, simplify{fast_math=true}, cse",
    ],
)
@settings(max_examples=40, derandomize=True, deadline=None)
@given(samples())
def test_passes_work_in_any_order(pipeline: str, sample: Sample) -> None:
    plain, other = passed(sample.graph, PLAIN), passed(sample.graph, pipeline)
    expected = results(lambda arrays: interpret(plain, arrays), sample)
    actual = results(lambda arrays: interpret(other, arrays), sample)
    assert_close(actual, expected, tolerance(plain))


def test_a_training_step_gives_the_same_numbers() -> None:
    graph, arrays = training_step()
    plain, optimized = passed(graph, PLAIN), passed(graph)
    expected = interpret(plain, arrays)
    assert_close(Executor(make_plan(optimized))(arrays), expected, 1e-5)
    assert structural_key(passed(optimized)) == structural_key(optimized)
    assert len(optimized.nodes) < len(plain.nodes) - 40


# Fused nodes are made by the passes alone; test_horizontal has the updates of optimizers.
REACHED = {
    *(PRIMITIVES.keys() - {"fused"}),
    *("linear", "batch_norm", "layer_norm", "softmax_loss"),
    *("float32", "float64", "int8", "int32", "int64", "bool"),
    *("an empty array", "a scalar", "a broadcast", "an effect", "a node read twice"),
    "a second derivative",
}


def test_the_samples_reach_what_they_should() -> None:
    # Else the properties above would hold of too little.
    seen: set[str] = set()

    @settings(max_examples=500, derandomize=True, deadline=None)
    @given(samples())
    def look(sample: Sample) -> None:
        if sample.graph.effects:
            seen.add("an effect")
        for node in sample.graph.nodes:
            seen.update((node.op.name, node.dtype.name))
            if 0 in node.shape:
                seen.add("an empty array")
            if not node.shape and node.inputs:
                seen.add("a scalar")
            if node.op.has(Trait.ELEMENTWISE) and len({x.shape for x in node.inputs}) > 1:
                seen.add("a broadcast")
            if len(sample.graph.users[node]) > 1:
                seen.add("a node read twice")
            if node.op.name == "grad" and "grad" in [x.op.name for x in _below(node)]:
                seen.add("a second derivative")

    look()
    assert seen >= REACHED, REACHED - seen


def _below(request: Node) -> list[Node]:
    return topological([request.inputs[0]])

"""`bisect`: a wrong rule is found, by name, wherever it is planted; a right pipeline is let be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle_ir as ndl
from needle_ir import ops
from needle_ir.compiler import read_pipeline
from needle_ir.ir import Graph, Node, Pass, TensorType
from needle_ir.passes import DEFAULT_PIPELINE, Lower, Rule, RulePass, run_pipeline
from needle_ir.runtime import interpret
from tests.passes.graph_text import arg
from tests.passes.random_graphs import Sample, make_sample, samples, tolerance
from tests.passes.training_step import training_step

PLAIN = "autodiff, lower"


def is_square(x: Node, a: Any) -> bool:
    return len(x.shape) == 2 and x.shape[0] == x.shape[1] and len(a) == 1


# Each is wrong for almost all numbers.
PLANTED = {
    "swaps-operands": Rule("swaps-operands", lambda x, y: x / y, lambda x, y: x * y),
    "drops-a-term": Rule("drops-a-term", lambda x, y: x + y, lambda x: x),
    "wrong-constant": Rule("wrong-constant", lambda x: x * 0.5, lambda x: x * 0.75),
    "wrong-function": Rule("wrong-function", lambda x: ops.exp(x), lambda x: ops.expm1(x)),
    "wrong-axis": Rule(
        "wrong-axis",
        lambda x, a, k: ops.sum(x, a, k),
        lambda x, a, k: ops.sum(ops.permute(x), a, k),
        lambda x, a: is_square(x, a) and x.op.name != "transpose",
    ),
    "wrong-reduction": Rule(
        "wrong-reduction",
        lambda x, a, k: ops.sum(x, a, k),
        lambda x, a, k: ops.max(x, a, k),
        lambda x: x.type.size > 0,
    ),
    "loses-the-sign": Rule("loses-the-sign", lambda x, y: x - y, lambda x, y: x + y),
}


def planted(rule: str, place: int) -> list[str | Pass]:
    """The default pipeline with a pass of one wrong rule before the pass of this number."""
    passes: list[str | Pass] = [*read_pipeline(None)]
    return [*passes[:place], RulePass("planted", [PLANTED[rule]]), *passes[place:]]


def results(graph: Graph, pipeline: Any, arrays: Any) -> Any:
    np.random.seed(0)
    return interpret(run_pipeline(graph, read_pipeline(pipeline)), arrays)


def differ_clearly(graph: Graph, found: Any, expected: Any, times: int = 100) -> bool:
    """By more than so many times what rounding may do, in the outputs that are finite."""
    rtol = times * tolerance(run_pipeline(graph, read_pipeline(PLAIN)))
    for a, b in zip(found, expected, strict=True):
        scale = max(1.0, float(np.max(np.abs(b), initial=0)))
        if np.isfinite(a).all() and np.isfinite(b).all() and (np.abs(a - b) > rtol * scale).any():
            return True
    return False


large_samples = st.builds(make_sample, st.integers(0, 2**32 - 1), st.integers(8, 14), st.booleans())


@settings(max_examples=150, derandomize=True, deadline=None)
@given(large_samples, st.sampled_from(sorted(PLANTED)), st.integers(0, 13))
def test_a_planted_rule_is_found_by_name(sample: Sample, rule: str, place: int) -> None:
    pipeline = planted(rule, place)
    found = ndl.bisect(sample.graph, sample.arrays, pipeline)
    if found.found:
        assert (found.verdict, found.rule, found.pass_name) == ("rewrite", rule, "planted")
        assert found.pass_number == place + 1
        assert rule in str(found)
        return
    plain = results(sample.graph, PLAIN, sample.arrays)
    assert not differ_clearly(sample.graph, results(sample.graph, pipeline, sample.arrays), plain)


@pytest.mark.parametrize("rule", sorted(PLANTED.keys() - {"wrong-axis"}))
def test_each_planted_rule_is_found_in_some_graphs(rule: str) -> None:
    # Else the property above would hold of too little. Sums of squares, over one axis, are rare.
    places: set[int] = set()
    for seed in range(400):
        sample = make_sample(seed, 14, gradients=True)
        found = ndl.bisect(sample.graph, sample.arrays, planted(rule, seed % 14))
        if found.found:
            assert (found.rule, found.pass_number) == (rule, seed % 14 + 1)
            places.add(seed % 14)
        if len(places) == 3:
            return
    raise AssertionError(f"{rule} was found at the places {places} only")


@settings(max_examples=100, derandomize=True, deadline=None)
@given(samples())
def test_nothing_is_found_in_the_default_pipeline(sample: Sample) -> None:
    found = ndl.bisect(sample.graph, sample.arrays)
    assert found.verdict in ("same", "rounding"), found


@pytest.mark.parametrize("place", range(14))
@pytest.mark.parametrize("rule", ["drops-a-term", "swaps-operands", "wrong-axis"])
def test_in_a_training_step(rule: str, place: int) -> None:
    graph, arrays = training_step(batch=20)
    pipeline = planted(rule, place)
    wrong = differ_clearly(
        graph, results(graph, pipeline, arrays), results(graph, PLAIN, arrays), times=1
    )
    found = ndl.bisect(graph, arrays, pipeline)
    assert found.found >= wrong
    if found.found:
        assert (found.rule, found.pass_number) == (rule, place + 1)
    if rule == "drops-a-term":
        assert found.found


# What is reported ---------------------------------------------------------------------------------


def loss_graph() -> Graph:
    x, y = arg("x", 3), arg("y", 3)
    return Graph([x, y], [ops.sum(x * 0.5 + (x * 0.5 - y) * 2.0)], name="loss")


def test_the_one_rewrite_of_many_is_named_with_its_values() -> None:
    """The rule is right for x and wrong for y: only its second application is at fault."""
    x, y = arg("x", 2), arg("y", 2)
    graph = Graph([x, y], [ops.relu(x) + 1.0, ops.relu(y)], name="f")
    rule = Rule("relu-of-positive", lambda x: ops.relu(x), lambda x: x)
    arrays = [np.array([1, 2], np.float32), np.array([-3, 4], np.float32)]
    found = ndl.bisect(graph, arrays, [RulePass("mine", [rule]), "cse"])
    assert (found.rule, found.number, found.of) == ("relu-of-positive", 2, 2)
    assert found.application is not None
    assert found.application.before is graph.outputs[1]
    assert found.local is not None
    assert (found.local.index, found.local.expected, found.local.found) == ((0,), 0.0, -3.0)
    (difference,) = found.differences
    assert (difference.name, difference.count, difference.size) == ("output 1", 1, 2)
    lines = str(found).splitlines()
    assert lines[0] == (
        "the rewrite relu-of-positive of pass 1, mine, changes the numbers (number 2 of 2)"
    )
    assert lines[1].startswith("    test_bisection.py:")
    assert "graph = Graph([x, y], [ops.relu(x) + 1.0, ops.relu(y)], name=" in lines[1]
    assert lines[2:5] == [
        "    - %0 = relu(%y) : f32[2]",
        "    → %y stands for %0",
        "    the value: 1 of 2 elements differs, most at [0]: 0.0 before, -3.0 now",
    ]


def test_what_is_new_is_shown() -> None:
    graph = loss_graph()
    arrays = [np.array([1, 2, 3], np.float32)] * 2
    rule = Rule("half-is-two", lambda x: x * 0.5, lambda x: ops.maximum(x * 4.0, x))
    found = ndl.bisect(graph, arrays, [RulePass("mine", [rule])])
    assert (found.rule, found.number) == ("half-is-two", 1)
    signs = [line.split()[0] for line in str(found).splitlines()[1:] if line[4] in "+-→"]
    assert signs == ["-", "-", "+", "+", "+", "→"]


def test_no_difference_is_said_plainly() -> None:
    found = ndl.bisect(loss_graph(), pipeline="cse, dce")
    assert (found.verdict, found.found) == ("same", False)
    assert str(found) == "no difference: the same bits after every pass and as a plan"


def test_rounding_is_said_to_be_rounding() -> None:
    x = arg("x", 100)
    graph = Graph([x], [(x * 0.1) * 0.3])
    found = ndl.bisect(graph, pipeline="simplify{fast_math=true}")
    assert (found.verdict, found.found) == ("rounding", False)
    assert str(found).startswith("no difference but rounding")
    assert "output 0: only rounding, most at [" in str(found)


def test_a_small_wrong_output_is_no_rounding() -> None:
    """Tolerances follow what rounding does to each output, not the largest number around."""
    x = arg("x", 4)
    small = 2.0**-20
    graph = Graph([x], [ops.sum(x), ops.tanh(x) * small])
    rule = Rule("wrong", lambda x: x * small, lambda x: x * (small * 1.01))
    arrays = [np.linspace(-2, 3, 4, dtype=np.float32) * 100]
    assert ndl.bisect(graph, arrays, [RulePass("mine", [rule])]).rule == "wrong"


def test_nan_in_the_same_place_is_the_same() -> None:
    x = arg("x", 3)
    graph = Graph([x], [ops.log(x) * 0.5])
    arrays = [np.array([-1, 0, np.inf], np.float32)]
    assert ndl.bisect(graph, arrays).verdict == "same"
    found = ndl.bisect(graph, arrays, planted("wrong-constant", 0))
    assert not found.found  # three quarters of nan and of inf are these
    rule = Rule("hides-nan", lambda x: ops.log(x), lambda x: x)
    found = ndl.bisect(graph, arrays, [RulePass("mine", [rule])])
    assert found.rule == "hides-nan"
    assert (found.differences[0].count, str(found.differences[0].expected)) == (2, "nan")


# What is at fault without a rewrite ---------------------------------------------------------------


@dataclass(frozen=True)
class Silent:
    """Changes the graph, and announces nothing."""

    name = "silent"

    def run(self, graph: Graph) -> Graph:
        return Graph(graph.inputs, [x * 2.0 for x in graph.outputs], graph.effects)


def test_a_pass_that_announces_nothing() -> None:
    found = ndl.bisect(loss_graph(), pipeline=["cse", Silent(), "cse"])
    assert (found.verdict, found.pass_name, found.pass_number) == ("pass", "silent", 2)
    assert str(found).startswith("pass 2, silent, changes the numbers by itself")


@dataclass(frozen=True)
class NeedsItsRewrites:
    """Fails where a rewrite of it is refused, and makes a wrong graph where none is."""

    name = "needy"

    def run(self, graph: Graph) -> Graph:
        lowered = Lower().run(graph)
        if any(node.op.decompose for node in lowered.nodes):
            raise LookupError("a composite is left")
        return Silent().run(lowered)


def test_a_pass_that_needs_its_rewrites() -> None:
    x = arg("x", 2, 3)
    graph = Graph([x], [ops.linear(x, np.ones((3, 2)), np.zeros(2))])
    found = ndl.bisect(graph, pipeline=["cse", NeedsItsRewrites()])
    assert (found.verdict, found.pass_name, found.error) == ("pass", "needy", None)
    assert found.differences[0].count == 4
    assert found.note == "its rewrites can not be left out: it fails without them"


@dataclass(frozen=True)
class Raises:
    """Fails where it meets an op."""

    op: str
    name = "raises"

    def run(self, graph: Graph) -> Graph:
        if graph.count(self.op):
            raise LookupError(f"no {self.op} please")
        return graph


def test_a_pass_that_raises() -> None:
    found = ndl.bisect(loss_graph(), pipeline=["cse", Raises("sum")])
    assert (found.verdict, found.pass_name) == ("pass", "raises")
    assert isinstance(found.error, LookupError)
    assert "LookupError: no sum please" in str(found)
    assert "raised in run, " in str(found)


def test_a_rewrite_after_which_running_fails() -> None:
    def broken(x: Node) -> Node:
        index = ops.as_constant(np.array([9]))
        return ops.reshape(ops.gather(ops.reshape(x, (-1,)), index), ()) * x

    rule = Rule("reads-too-far", lambda x: ops.tanh(x), broken)
    x = arg("x", 3)
    graph = Graph([x], [ops.tanh(x * 0.5) + ops.tanh(x)])
    found = ndl.bisect(graph, pipeline=["cse", RulePass("mine", [rule]), "fold"])
    assert (found.verdict, found.rule, found.number) == ("rewrite", "reads-too-far", 1)
    assert isinstance(found.error, IndexError)
    assert "makes what follows fail (number 1 of 2)" in str(found)


def test_a_graph_that_the_verifier_refuses() -> None:
    class Breaks:
        name = "breaks"

        def run(self, graph: Graph) -> Graph:
            (y,) = graph.outputs
            wrong = Node(y.op, y.inputs, y.attrs, TensorType((7,), y.dtype))
            return Graph(graph.inputs, [wrong])

    found = ndl.bisect(loss_graph(), pipeline=["cse", Breaks()])
    assert (found.verdict, found.pass_name) == ("pass", "breaks")
    assert type(found.error).__name__ == "VerificationError"


def test_a_kernel_that_is_wrong_in_the_plan_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node by node run copies the right kernel: the plan's is exchanged."""
    from needle_ir import bisection

    class Wrong(bisection.Executor):
        def __call__(self, arrays: Any) -> Any:
            has_max = any(x.op.name == "maximum" for x in self.plan.graph.nodes)
            return tuple(x + has_max for x in super().__call__(arrays))

    monkeypatch.setattr(bisection, "Executor", Wrong)
    graph = loss_graph()
    assert ndl.bisect(graph).verdict == "same"
    rule = Rule("twice-is-max", lambda x: x * 2.0, lambda x: ops.maximum(x + x, x + x))
    found = ndl.bisect(graph, pipeline=[RulePass("mine", [rule]), "cse"])
    assert (found.verdict, found.rule) == ("rewrite", "twice-is-max")
    assert "the plan or a kernel is at fault" in str(found)
    x = arg("x", 3)
    found = ndl.bisect(Graph([x], [ops.maximum(x, 0.0)]), pipeline="cse")
    assert found.verdict == "plan"
    assert "the plan of the graph without the pipeline does so too" in str(found)


# Inputs -------------------------------------------------------------------------------------------


def test_inputs_may_be_tensors() -> None:
    x = ndl.Tensor([1.0, 2.0, 3.0])
    assert ndl.bisect(loss_graph(), [x, x]).verdict in ("same", "rounding")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([np.zeros(3)], "@loss has 2 inputs, 1 were given"),
        ([np.zeros(3), np.zeros(4)], r"the input %y is f32\[3\], and float64\[4\] was given"),
        ([np.zeros(3), np.zeros(3, complex)], r"%y is f32\[3\], and complex128\[3\] was given"),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ndl.bisect(loss_graph(), inputs)


def test_a_graph_that_fails_anyway() -> None:
    x = arg("x", 3)
    graph = Graph([x], [ops.gather(x, ops.as_constant(np.array([5])))], name="g")
    with pytest.raises(RuntimeError, match="@g fails without the pipeline: OperandIndexError"):
        ndl.bisect(graph)


def test_the_streams_of_random_numbers_go_on_as_before() -> None:
    draw = ops.random_normal((3,), 0.0, 1.0, "float32")
    graph = Graph([], [draw * 2.0], [draw])
    np.random.seed(7)
    expected = np.random.rand(2)
    np.random.seed(7)
    assert ndl.bisect(graph).verdict == "same"
    np.testing.assert_array_equal(np.random.rand(2), expected)


def test_the_default_pipeline_is_the_default() -> None:
    assert len(read_pipeline(DEFAULT_PIPELINE)) == 13  # the places that are planted above

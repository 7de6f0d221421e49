"""Stabilize: what becomes logsumexp, in which layouts, and what does not."""

from collections.abc import Callable, Iterator
from itertools import chain, combinations, product
from math import prod
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.compiler import read_pipeline
from needle_ir.ir import Graph, Node, OpError, structurally_equal, verify, watch_rewrites
from needle_ir.passes import Stabilize, run_pipeline
from needle_ir.passes.logarithms import LOGARITHMS
from needle_ir.passes.stabilize import RULES
from needle_ir.runtime import interpret
from tests.passes.graph_text import arg, assert_text, body
from tests.passes.logarithm_cases import EXPONENTIAL_CASES
from tests.passes.stabilize_cases import CASES, Case
from tests.passes.stabilize_negatives import NEGATIVES, Negative

Axes = tuple[int, ...]


def test_log_sum_exp() -> None:
    x = arg("x", 2, 3)
    graph = Graph([x], [ops.log(ops.sum(ops.exp(x), 1, True))])
    assert_text(
        graph,
        """
        graph @graph(%x: f32[2,3]) -> f32[2,1] {
          %0 = exp(%x) : f32[2,3]
          %1 = sum(%0) {axes=[1], keepdims=true} : f32[2,1]
          %2 = log(%1) : f32[2,1]
          return %2
        }
        """,
    )
    assert_text(
        Stabilize().run(graph),
        """
        graph @graph(%x: f32[2,3]) -> f32[2,1] {
          %0 = logsumexp(%x) {axes=[1], keepdims=true} : f32[2,1]
          return %0
        }
        """,
    )


def test_shifted_by_the_maximum() -> None:
    x = arg("x", 2, 3)
    top = ops.max(x, 1, True)
    graph = Graph([x], [ops.log(ops.sum(ops.exp(x - top), 1)) + ops.reshape(top, (2,))])
    assert_text(
        graph,
        """
        graph @graph(%x: f32[2,3]) -> f32[2] {
          %0 = max(%x) {axes=[1], keepdims=true} : f32[2,1]
          %1 = subtract(%x, %0) : f32[2,3]
          %2 = exp(%1) : f32[2,3]
          %3 = sum(%2) {axes=[1], keepdims=false} : f32[2]
          %4 = log(%3) : f32[2]
          %5 = reshape(%0) {shape=[2]} : f32[2]
          %6 = add(%4, %5) : f32[2]
          return %6
        }
        """,
    )
    assert_text(
        Stabilize().run(graph),
        """
        graph @graph(%x: f32[2,3]) -> f32[2] {
          %0 = logsumexp(%x) {axes=[1], keepdims=false} : f32[2]
          return %0
        }
        """,
    )


@pytest.mark.parametrize("axes", [(), (0,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_log_sum_exp_over_any_axes(axes: Axes, keepdims: bool, dtype: Any) -> None:
    x = arg("x", 2, 3, 4, dtype=dtype)
    graph = Graph([x], [ops.log(ops.sum(ops.exp(x), axes, keepdims))])
    expected = Graph([x], [ops.logsumexp(x, axes, keepdims)])
    assert structurally_equal(Stabilize().run(graph), expected)


def test_what_is_read_elsewhere_too_stays() -> None:
    x = arg("x", 3)
    exponentials = ops.exp(x)
    total = ops.sum(exponentials)
    assert_text(
        Stabilize().run(Graph([x], [ops.log(total), exponentials * total])),
        """
        graph @graph(%x: f32[3]) -> (f32[], f32[3]) {
          %0 = logsumexp(%x) {axes=[0], keepdims=false} : f32[]
          %1 = exp(%x) : f32[3]
          %2 = sum(%1) {axes=[0], keepdims=false} : f32[]
          %3 = multiply(%1, %2) : f32[3]
          return %0, %3
        }
        """,
    )


def test_a_shift_inside_of_a_shift() -> None:
    x, s, t = arg("x", 2, 3), arg("s", 2, 1), arg("t", 2, 1)
    inner = ops.logsumexp((x - s) - t, 1, True) + t
    assert_text(
        Stabilize().run(Graph([x, s, t], [inner + s])),
        """
        graph @graph(%x: f32[2,3], %s: f32[2,1], %t: f32[2,1]) -> f32[2,1] {
          %0 = logsumexp(%x) {axes=[1], keepdims=true} : f32[2,1]
          return %0
        }
        """,
    )


def test_the_shift_is_found_on_either_side_of_the_sum() -> None:
    # Both operands look like logsumexp(x - shift); only one way round is the shift the same.
    x, y = arg("x", 2, 3), arg("y", 2, 3)
    s = ops.logsumexp(y - ops.max(y, 1, True), 1, True)
    for shifted in (s + ops.logsumexp(x - s, 1, True), ops.logsumexp(x - s, 1, True) + s):
        (result,) = Stabilize().run(Graph([x, y], [shifted])).outputs
        assert result.op.name == "logsumexp"
        assert result.inputs == (x,)


# Every rule ---------------------------------------------------------------------------------------


def stabilized(expression: Node) -> tuple[list[str], list[str]]:
    """The lines of the graph of x and y after the pass, and the rules that were applied."""
    applied: list[str] = []
    with watch_rewrites(lambda application: applied.append(application.rule) is None):
        graph = Stabilize().run(Graph([X, Y], [expression]))
    verify(graph)
    return body(graph), applied


X, Y = arg("x", 2, 3), arg("y", 2, 3)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_rule(case: Case) -> None:
    lines, applied = stabilized(case.before(X, Y))
    assert lines == case.after
    assert case.rule in applied


@pytest.mark.parametrize("negative", NEGATIVES, ids=repr)
def test_rule_does_not_apply(negative: Negative) -> None:
    assert negative.rule not in stabilized(negative.expression(X, Y))[1]


def test_every_rule_has_both_cases() -> None:
    names = {rule.name for rule in RULES}
    assert len(names) == len(RULES)
    assert {case.rule for case in CASES} == names
    assert {negative.rule for negative in NEGATIVES} == names


@pytest.mark.parametrize("op", EXPONENTIAL_CASES)
def test_the_logarithm_of_each_op(op: str) -> None:
    expression, expected = EXPONENTIAL_CASES[op]
    assert stabilized(ops.log(expression(X, Y)))[0] == expected


def test_every_op_has_a_logarithm() -> None:
    assert {op.name for op in LOGARITHMS} <= {*EXPONENTIAL_CASES, "stop_gradient"}


def test_the_logarithm_of_what_is_detached() -> None:
    value = ops.log(ops.stop_gradient(ops.exp(X)))
    lines, _ = stabilized(ops.grad(value * Y, Y))
    assert lines[:2] == [
        "%0 = stop_gradient(%x) : f32[2,3]",
        "%1 = multiply(%0, %y) : f32[2,3]",
    ]


def test_a_rule_without_exponentials_is_skipped_in_a_graph_without_them() -> None:
    graph = Graph([X, Y], [X - ops.logsumexp(X, 1, True), Y / X * Y])
    assert Stabilize().run(graph).count("log_softmax") == 1


def test_stop_gradients_go_where_nothing_is_differentiated() -> None:
    value = ops.exp(ops.stop_gradient(X)) / ops.sum(ops.exp(ops.stop_gradient(X)), 1, True)
    assert stabilized(value)[0] == ["%0 = softmax(%x) {axes=[1]} : f32[2,3]", "return %0"]


def test_of_the_same_operand_one_stop_gradient_stays() -> None:
    first, second = ops.stop_gradient(X), ops.stop_gradient(X)
    graph = Stabilize().run(Graph([X, Y], [ops.grad(first * second * Y, Y)]))
    assert graph.count("stop_gradient") == 1


def test_what_is_differentiated_by_stays_apart() -> None:
    first, second = ops.stop_gradient(X), ops.stop_gradient(X)
    loss = first * second * second
    graph = Stabilize().run(Graph([X, Y], [ops.grad(loss, first), ops.grad(loss, second)]))
    assert graph.count("stop_gradient") == 2


def test_a_variable_goes_where_nothing_is_differentiated_by_it() -> None:
    assert stabilized(ops.log(ops.variable(ops.exp(X))))[0] == ["return %x"]
    kept = ops.variable(ops.exp(X))
    graph = Graph([X, Y], [ops.grad(ops.log(kept), kept)])
    assert Stabilize().run(graph) is graph


def test_a_derivative_that_cancels_is_found_after_autodiff() -> None:
    x = arg("x", 3)
    graph = run_pipeline(
        Graph([x], [ops.grad(ops.sum(x - ops.exp(x)), x)]), read_pipeline(None), []
    )
    at = np.array([1e-9, -3e-6, 0.5], np.float32)
    (slope,) = interpret(graph, [at])
    # 1 - exp(x) is 0 in float32 at the first of these.
    np.testing.assert_allclose(slope, -np.expm1(at.astype(float)), rtol=1e-6)


@pytest.mark.parametrize("terms", [60, 1000])
def test_long_sums(terms: int) -> None:
    """A sum of 60 is worked out; one of 1000 is not looked through, and takes no time."""
    x = arg("x", terms)
    parts = [ops.exp(ops.slice(x, (i,), (1,))) for i in range(terms)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    graph = Stabilize().run(Graph([x], [ops.log(total)]))
    assert graph.count("exp") == (0 if terms == 60 else terms)


def test_squares_of_squares_take_linear_time() -> None:
    p = ops.exp(X)
    for _ in range(60):
        p = p * p
    graph = Stabilize().run(Graph([X, Y], [ops.log(p)]))
    assert (graph.count("add"), graph.count("exp")) == (60, 0)


# Every layout of a shift and of what is added back: the rule applies exactly where it is true. ----


def shapes_below(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All shapes that broadcast to `shape`."""
    for ndim in range(len(shape) + 1):
        yield from product(*[{1, dim} for dim in shape[len(shape) - ndim :]])


def layouts(shape: tuple[int, ...]) -> Iterator[tuple[Axes, bool, Node, Node, Node]]:
    """axes, keepdims, x, shift, and the shift reshaped in every way that can be added back."""
    x = arg("x", *shape, dtype=np.float64)
    subsets = chain.from_iterable(combinations(range(len(shape)), n) for n in range(1, 4))
    for axes, keepdims, below in product(subsets, [False, True], shapes_below(shape)):
        shift = arg("shift", *below, dtype=np.float64)
        for back in {below, *shapes_below(shape)}:
            if prod(back) == prod(below):
                yield axes, keepdims, x, shift, ops.reshape(shift, back) if back != below else shift


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 1, 2), (1, 2, 2), (2, 2)])
def test_a_shift_is_taken_out_exactly_where_that_is_true(shape: tuple[int, ...]) -> None:
    numbers = np.random.default_rng(0)
    taken_out = kept = 0
    for axes, keepdims, x, shift, back in layouts(shape):
        before = ops.logsumexp(x - shift, axes, keepdims) + back
        wanted = ops.logsumexp(x, axes, keepdims)
        arrays = [numbers.standard_normal(node.shape) for node in (x, shift)]
        shifted, plain = interpret(Graph([x, shift], [before, wanted]), arrays)
        is_true = shifted.shape == plain.shape and np.allclose(shifted, plain)
        (after,) = Stabilize().run(Graph([x, shift], [before])).outputs
        assert (after.inputs == (x,)) == is_true, (axes, keepdims, shift.shape, back.shape)
        taken_out += is_true
        kept += not is_true
    assert taken_out > 9
    assert kept > 10


# What is no shift --------------------------------------------------------------------------------

Expression = Callable[[Node, Node], Node]

NO_SHIFT: dict[str, Expression] = {
    "another node": lambda x, y: ops.logsumexp(x - ops.max(x, 1, True), 1, True) + ops.max(y),
    "another node of that type": lambda x, y: (
        ops.logsumexp(x - ops.max(x, 1, True), 1, True) + ops.max(y, 1, True)
    ),
    "another reduction": lambda x, y: (
        ops.logsumexp(x - ops.max(x, 1, True), 1, True) + ops.min(x, 1, True)
    ),
    "the maximum over another axis": lambda x, y: (
        ops.logsumexp(x - ops.max(x, 1), 0) + ops.max(x, 0)
    ),
    "not constant along the axis": lambda x, y: (
        ops.logsumexp(x - ops.max(x, 0, True), 1) + ops.max(x, 0)
    ),
    "constant along one axis of two": lambda x, y: (
        ops.logsumexp(x - ops.max(x, 1, True), (0, 1)) + ops.max(x)
    ),
    "one operand is the shift itself": lambda x, y: (
        ops.logsumexp(x - y, 1, True) + ops.logsumexp(y, 1, True)
    ),
    "subtracted again": lambda x, y: (
        ops.logsumexp(x - ops.max(x, 1, True), 1, True) - ops.max(x, 1, True)
    ),
    "added before": lambda x, y: (
        ops.logsumexp(x + ops.max(x, 1, True), 1, True) + ops.max(x, 1, True)
    ),
    "the other way round": lambda x, y: (
        ops.logsumexp(ops.max(x, 1, True) - x, 1, True) + ops.max(x, 1, True)
    ),
    "sums that broadcast": lambda x, y: (
        ops.logsumexp(x - ops.max(x, 1, True), 1) + ops.max(x, 1, True)
    ),
    "a transposed shift": lambda x, y: (
        ops.logsumexp(x - ops.permute(ops.max(x, 1, True)), 0) + ops.max(x, 1)
    ),
}


@pytest.mark.parametrize(
    "expression",
    NO_SHIFT.values(),
    ids=NO_SHIFT,
)
def test_what_is_no_shift_stays(expression: Expression) -> None:
    x, y = arg("x", 3, 3), arg("y", 3, 3)
    graph = Graph([x, y], [expression(x, y)])
    assert Stabilize().run(graph) is graph


def test_a_shift_that_makes_x_larger_stays() -> None:
    x, s = arg("x", 1, 3), arg("s", 4, 1)
    graph = Graph([x, s], [ops.logsumexp(x - s, 1, True) + s])
    assert Stabilize().run(graph) is graph


def test_a_shift_that_is_not_differentiated_the_same_stays() -> None:
    x = arg("x", 3, 3)
    top = ops.max(x, 1, True)
    y = ops.logsumexp(x - ops.stop_gradient(top), 1, True) + top
    graph = Graph([x], [ops.grad(ops.sum(y), x)])
    assert Stabilize().run(graph) is graph


@pytest.mark.parametrize("keepdims", [False, True])
def test_the_log_of_an_empty_sum_stays(keepdims: bool) -> None:
    # logsumexp over no elements is refused by its type rule.
    x = arg("x", 2, 0)
    with pytest.raises(OpError):
        ops.logsumexp(x, 1, keepdims)
    graph = Graph([x], [ops.log(ops.sum(ops.exp(x), 1, keepdims))])
    assert Stabilize().run(graph) is graph


def test_an_empty_axis_beside_the_summed_one() -> None:
    x = arg("x", 0, 3)
    graph = Graph([x], [ops.log(ops.sum(ops.exp(x), 1))])
    assert structurally_equal(Stabilize().run(graph), Graph([x], [ops.logsumexp(x, 1)]))

"""What counts as the same numbers: rounding does, anything else does not."""

from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.agreement import Reference, compare, run_nodes, runnable
from needle_ir.ir import Graph, Node
from needle_ir.runtime import interpret
from tests.passes.graph_text import arg
from tests.passes.training_step import training_step

F32 = np.finfo(np.float32).eps


def reference(function: Any, x: Any) -> Reference:
    x = np.asarray(x)
    node = arg("x", *x.shape, dtype=x.dtype)
    return Reference(Graph([node], [function(node)]), [x])


def wrong(function: Any, x: Any, found: Any) -> bool:
    expected = reference(function, x)
    found = np.asarray(found, expected.outputs[0].dtype)
    return any(difference.count for difference in expected.differences([found]))


def test_a_few_roundings_are_rounding() -> None:
    x = np.linspace(0.5, 2, 50, dtype=np.float32)
    exact = np.log(np.exp(x.astype(np.float64)) + 1)
    assert not wrong(lambda x: ops.log(ops.exp(x) + 1.0), x, exact)
    assert wrong(lambda x: ops.log(ops.exp(x) + 1.0), x, exact * (1 + 1000 * F32))


def test_an_output_that_cancels_may_be_off_by_more() -> None:
    """(x + 1000) - 1000 loses ten bits: another order of the sums may lose others."""
    x = np.linspace(0.5, 2, 50, dtype=np.float32)
    assert not wrong(lambda x: (x + 1000.0) - 1000.0, x, x)
    assert wrong(lambda x: x + 0.0, x, x + np.float32(1e-4))


def test_an_output_that_is_small_is_not_measured_by_a_large_one() -> None:
    x = arg("x", 3)
    graph = Graph([x], [x * 1e3, x * 1e-6])
    found = Reference(graph, [np.ones(3, np.float32)])
    large, small = found.outputs
    assert found.differences([large, small]) == []
    (difference,) = found.differences([large, small * np.float32(1.001)])
    assert (difference.name, difference.count) == ("output 1", 3)


def test_the_order_of_a_sum_is_rounding() -> None:
    numbers = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(numbers)
        assert not wrong(lambda x: ops.sum(x), numbers, shuffled.sum())
    assert wrong(lambda x: ops.sum(x), numbers, numbers[1:].sum())


def test_integers_and_booleans_are_the_same_or_not() -> None:
    assert wrong(lambda x: x * 2, np.arange(3), [0, 2, 5])
    assert wrong(lambda x: x > 1, np.arange(3), [False, False, False])


@pytest.mark.parametrize(
    ("expected", "found", "count", "index"),
    [
        ([1.0, np.nan], [1.0, np.nan], None, None),
        ([np.inf, -np.inf], [np.inf, -np.inf], None, None),
        ([0.0], [-0.0], None, None),
        ([1.0, np.nan, 3.0], [1.0, 2.0, 4.0], 2, (1,)),
        ([1.0, 2.0], [1.0, np.inf], 1, (1,)),
        ([np.inf], [-np.inf], 1, (0,)),
        ([[1.0, 2.0]], [[1.0, 2.5]], 1, (0, 1)),
        ([1.0, 2.0], [1.25, 2.0], 0, (0,)),
        ([], [], None, None),
    ],
)
def test_differences(expected: Any, found: Any, count: Any, index: Any) -> None:
    difference = compare("y", np.array(expected), np.array(found), tolerance=0.3)
    if count is None:
        assert difference is None
    else:
        assert difference is not None
        assert (difference.count, difference.index) == (count, index)


def test_another_type_is_a_difference() -> None:
    difference = compare("y", np.zeros(2, np.float32), np.zeros(2), tolerance=1.0)
    assert str(difference) == (
        "y: 2 of 2 elements differ, most: float32[2] before, float64[2] now (tolerance 1.0e+00)"
    )


def test_node_by_node_is_what_the_interpreter_gives() -> None:
    graph, arrays = training_step()
    plain = runnable(graph)
    for a, b in zip(run_nodes(plain, arrays, 0), interpret(plain, arrays), strict=True):
        np.testing.assert_array_equal(a, b)


def test_moved_runs_move_floats_alone_and_by_little() -> None:
    x, n = arg("x", 100), arg("n", 100, dtype=np.int64)
    graph = Graph([x, n], [x * 1.0, n + n, ops.reshape(x, (10, 10))])
    arrays = [np.ones(100, np.float32), np.arange(100)]
    product, total, view = run_nodes(graph, arrays, 0, moved_by=1e-3)
    assert 0 < np.abs(product - 1).max() <= 2.1e-3
    np.testing.assert_array_equal(total, 2 * np.arange(100))
    assert 0 < np.abs(view - 1).max() <= 1.01e-3  # the input's, and none of its own


def test_draws_are_those_of_the_seed() -> None:
    draw: Node = ops.random_uniform((5,), 0.0, 1.0, "float64")
    graph = Graph([], [draw], [draw])
    np.testing.assert_array_equal(run_nodes(graph, [], 3)[0], np.random.RandomState(3).rand(5))

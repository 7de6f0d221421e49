"""Derivatives where finite differences say nothing: kinks, infinities, and by definition."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Graph, Node, TensorType, input_node
from needle_ir.passes import (
    DEFAULT_PIPELINE,
    Autodiff,
    Lower,
    Pass,
    Verify,
    parse_pipeline,
    pass_table,
    run_pipeline,
)
from needle_ir.runtime import evaluate, interpret

INF, NAN = np.inf, np.nan
DEFAULT = parse_pipeline(DEFAULT_PIPELINE, pass_table(evaluate))
AUTODIFF_ALONE: list[Pass] = [Autodiff(), Lower()]

Array = np.ndarray[Any, Any]
Result = tuple[Array, ...]


@pytest.fixture(params=[DEFAULT, AUTODIFF_ALONE], ids=["default", "autodiff"])
def run(request: pytest.FixtureRequest) -> Callable[..., Result]:
    """Runs a function of nodes on arrays, compiled by all passes or by autodiff alone."""

    def call(function: Callable[..., Node | Sequence[Node]], *values: Any) -> Result:
        arrays = [np.asarray(x, None if isinstance(x, np.ndarray) else np.float64) for x in values]
        leaves = [input_node(TensorType(x.shape, x.dtype)) for x in arrays]
        result = function(*leaves)
        graph = Graph(leaves, [result] if isinstance(result, Node) else result)
        return interpret(run_pipeline(graph, request.param, [Verify()]), arrays)

    return call


def gradient(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The derivative of sum(function(x))."""
    return lambda x: ops.grad(function(x), x)


# Log-sum-exp --------------------------------------------------------------------------------------


def logsumexp_rows(x: Any) -> Any:
    return ops.logsumexp(x, 1)


def test_logsumexp_of_minus_infinities(run: Callable[..., Result]) -> None:
    """A softmax over nothing: the value is -inf, and every derivative is 0."""
    first = gradient(logsumexp_rows)
    x = [[-INF, -INF, -INF], [0.0, -INF, 0.0]]
    value, slope, curvature = run(lambda x: [logsumexp_rows(x), first(x), gradient(first)(x)], x)
    np.testing.assert_allclose(value, [-INF, np.log(2)], rtol=1e-15)
    np.testing.assert_allclose(slope, [[0, 0, 0], [0.5, 0, 0.5]], rtol=1e-15)
    np.testing.assert_allclose(curvature, np.zeros((2, 3)), atol=1e-15)


def test_second_derivative_of_logsumexp_of_minus_infinities(run: Callable[..., Result]) -> None:
    def weighted(x: Any) -> Any:
        return ops.sum(gradient(logsumexp_rows)(x) * np.array([1.0, 2.0, 5.0]))

    (hessian,) = run(gradient(weighted), [[-INF, -INF, -INF], [0.0, -INF, 0.0]])
    # The softmax p = (1/2, 0, 1/2) has the derivative p * (w - p.w), with p.w = 3.
    np.testing.assert_allclose(hessian, [[0, 0, 0], [-1, 0, 1]], atol=1e-15)


def test_logsumexp_far_from_zero(run: Callable[..., Result]) -> None:
    x = [[1000.0, 999.0], [-1000.0, -999.0], [1e308, -1e308]]
    value, slope = run(lambda x: [logsumexp_rows(x), gradient(logsumexp_rows)(x)], x)
    e = np.exp(-1)
    np.testing.assert_allclose(value, [1000 + np.log1p(e), -999 + np.log1p(e), 1e308], rtol=1e-15)
    p = 1 / (1 + e)
    np.testing.assert_allclose(slope, [[p, e * p], [e * p, p], [1, 0]], rtol=1e-12)


def test_logsumexp_of_infinity_and_nan_is_as_defined(run: Callable[..., Result]) -> None:
    x = [[INF, 0.0], [NAN, 0.0], [INF, -INF]]
    value, slope = run(lambda x: [logsumexp_rows(x), gradient(logsumexp_rows)(x)], x)
    np.testing.assert_array_equal(value, [INF, NAN, INF])
    # exp(x) / sum(exp(x)): inf / inf beside 0 / inf.
    np.testing.assert_array_equal(slope, [[NAN, 0], [NAN, NAN], [NAN, 0]])


def test_softmax_loss_with_masked_classes(run: Callable[..., Result]) -> None:
    """A class is masked by a logit of -inf. What is left is a loss over the others."""
    labels = np.array([0, 2])
    logits = [[1.0, -INF, 1.0], [-INF, -INF, 7.0]]

    def loss(x: Any) -> Any:
        return ops.softmax_loss(x, labels)

    value, slope = run(lambda x: [loss(x), gradient(loss)(x)], logits)
    np.testing.assert_allclose(value, np.log(2) / 2, rtol=1e-15)
    np.testing.assert_allclose(slope, [[-0.25, 0, 0.25], [0, 0, 0]], atol=1e-15)


def test_softmax_loss_far_from_zero(run: Callable[..., Result]) -> None:
    def loss(x: Any) -> Any:
        return ops.softmax_loss(x, np.array([1, 1]))

    value, slope = run(lambda x: [loss(x), gradient(loss)(x)], [[1e4, -1e4], [-1e4, 1e4]])
    np.testing.assert_array_equal(value, 1e4)
    np.testing.assert_array_equal(slope, [[0.5, -0.5], [0, 0]])


# Kinks and jumps ----------------------------------------------------------------------------------


def test_relu_has_the_slope_0_at_0(run: Callable[..., Result]) -> None:
    (slope,) = run(gradient(ops.relu), [-1.0, -0.0, 0.0, 1.0, NAN, INF, -INF])
    np.testing.assert_array_equal(slope, [0, 0, 0, 1, 0, 1, 0])


def test_abs_has_the_slope_0_at_0(run: Callable[..., Result]) -> None:
    (slope,) = run(gradient(ops.abs), [-2.0, -0.0, 0.0, 3.0])
    np.testing.assert_array_equal(slope, [-1, 0, 0, 1])


def test_sign_has_the_slope_0(run: Callable[..., Result]) -> None:
    (slope,) = run(gradient(ops.sign), [-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(slope, [0, 0, 0])


@pytest.mark.parametrize(
    ("function", "of_a", "of_b"),
    [(ops.maximum, [0, 0.5, 1], [1, 0.5, 0]), (ops.minimum, [1, 0.5, 0], [0, 0.5, 1])],
)
def test_both_sides_of_a_tie_get_half(
    run: Callable[..., Result], function: Any, of_a: list[float], of_b: list[float]
) -> None:
    def slopes(a: Any, b: Any) -> list[Any]:
        return [ops.grad(function(a, b), a), ops.grad(function(a, b), b)]

    a, b = run(slopes, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(a, of_a)
    np.testing.assert_array_equal(b, of_b)


@pytest.mark.parametrize("function", [ops.max, ops.min])
def test_equal_extremes_share(run: Callable[..., Result], function: Any) -> None:
    extreme = 3.0 if function is ops.max else -3.0
    x = [[extreme, 0.0, extreme], [extreme, extreme, extreme], [0.0, extreme, 0.0]]
    (slope,) = run(gradient(lambda x: function(x, 1)), x)
    np.testing.assert_array_equal(slope, [[0.5, 0, 0.5], [1 / 3] * 3, [0, 1, 0]])


def test_a_cast_to_int_stops_the_gradient(run: Callable[..., Result]) -> None:
    (slope,) = run(gradient(lambda x: ops.cast(ops.cast(x, "int32"), "float64") * x), [1.5, -2.5])
    np.testing.assert_array_equal(slope, [1, -2])


# where --------------------------------------------------------------------------------------------


def test_no_nan_leaks_through_where(run: Callable[..., Result]) -> None:
    """The classical guard: the logarithm never sees what it can not take."""
    first = gradient(lambda x: ops.log(ops.where(x > 0, x, 1)))
    slope, curvature = run(lambda x: [first(x), gradient(first)(x)], [-1.0, 0.0, 2.0, NAN, -INF])
    np.testing.assert_array_equal(slope, [0, 0, 0.5, 0, 0])
    np.testing.assert_array_equal(curvature, [0, 0, -0.25, 0, 0])


def test_where_gives_nothing_to_the_branch_not_taken(run: Callable[..., Result]) -> None:
    """Whatever the cotangent is: a product with 0 would be NaN."""

    def slopes(condition: Any, ct: Any, a: Any, b: Any) -> list[Any]:
        y = ops.where(condition, a, b)
        return [ops.grad(y, x, ct) for x in (a, b)]

    condition = np.array([True, False, False, True])
    ct = [INF, -INF, NAN, 5.0]
    a, b = run(slopes, condition, ct, [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])
    np.testing.assert_array_equal(a, [INF, 0, 0, 5])
    np.testing.assert_array_equal(b, [0, -INF, NAN, 0])


# power --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exponent", "slopes", "curvatures"),
    [
        (0, [0, 0, 0], [0, 0, 0]),
        (1, [1, 1, 1], [0, 0, 0]),
        (2, [-4, 0, 6], [2, 2, 2]),
        (3, [12, 0, 27], [-12, 0, 18]),
    ],
)
def test_whole_powers_have_derivatives_everywhere(
    run: Callable[..., Result], exponent: int, slopes: list[float], curvatures: list[float]
) -> None:
    first = gradient(lambda x: x**exponent)
    slope, curvature = run(lambda x: [first(x), gradient(first)(x)], [-2.0, 0.0, 3.0])
    np.testing.assert_allclose(slope, slopes, rtol=1e-15)
    np.testing.assert_allclose(curvature, curvatures, rtol=1e-15)


def test_slopes_of_a_variable_power(run: Callable[..., Result]) -> None:
    def slopes(a: Any, b: Any) -> list[Any]:
        return [ops.grad(a**b, a), ops.grad(a**b, b)]

    a, b = run(slopes, [0.0, 0.0, 3.0, 0.0], [0.0, 2.0, 0.0, 1.0])
    np.testing.assert_array_equal(a, [0, 0, 0, 1])
    np.testing.assert_allclose(b, [0, 0, np.log(3), 0], rtol=1e-15)


def test_mixed_derivative_of_a_power_at_the_exponent_0(run: Callable[..., Result]) -> None:
    """d/da d/db a**b = a**(b - 1) * (1 + b * log(a)), in either order: 1/a at b = 0."""

    def mixed(a: Any, b: Any) -> list[Any]:
        return [ops.grad(ops.grad(a**b, a), b), ops.grad(ops.grad(a**b, b), a)]

    for result in run(mixed, [0.5, 4.0, 2.0], [0.0, 0.0, 1.0]):
        np.testing.assert_allclose(result, [2, 0.25, 1 + np.log(2)], rtol=1e-15)


# Markers ------------------------------------------------------------------------------------------


def test_stop_gradient(run: Callable[..., Result]) -> None:
    value, slope = run(
        lambda x: [ops.stop_gradient(x * x) * x, ops.grad(ops.stop_gradient(x * x) * x, x)],
        [3.0, -2.0],
    )
    np.testing.assert_array_equal(value, [27, -8])
    np.testing.assert_array_equal(slope, [9, 4])


def test_a_known_value_is_read_and_its_expression_differentiated(
    run: Callable[..., Result],
) -> None:
    def both(x: Any, value: Any) -> list[Any]:
        y = ops.known(x * x, value)
        return [y, ops.grad(y * x, x), ops.grad(y, value)]

    value, slope, none = run(both, [3.0], [9.5])
    np.testing.assert_array_equal(value, [9.5])
    np.testing.assert_array_equal(slope, [9.5 + 2 * 3 * 3])
    np.testing.assert_array_equal(none, [0])


def test_a_derivative_by_a_variable_goes_no_further(run: Callable[..., Result]) -> None:
    def slopes(x: Any) -> list[Any]:
        y = ops.variable(x * x)
        return [ops.grad(y * y, y), ops.grad(y * y, x)]

    by_variable, by_leaf = run(slopes, [3.0])
    np.testing.assert_array_equal(by_variable, [18])
    np.testing.assert_array_equal(by_leaf, [108])


def test_a_cotangent_weighs_the_outputs(run: Callable[..., Result]) -> None:
    (slope,) = run(lambda x, ct: ops.grad(x * x, x, ct), [1.0, 2.0, 3.0], [1.0, 0.0, -10.0])
    np.testing.assert_array_equal(slope, [2, 0, -60])


def test_the_derivative_by_what_is_not_read_is_zero(run: Callable[..., Result]) -> None:
    (slope,) = run(lambda x, other: ops.grad(x * x, other), [1.0], np.ones((2, 3), np.float32))
    assert slope.dtype == np.float32
    np.testing.assert_array_equal(slope, np.zeros((2, 3)))


# Mixed dtypes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x, weight, bias: ops.batch_norm(x, weight, bias, eps=1e-5),
        lambda x, weight, bias: ops.layer_norm(x, weight, bias, eps=1e-5),
        lambda x, weight, bias: x * weight + bias,
    ],
    ids=["batch_norm", "layer_norm", "arithmetic"],
)
def test_a_gradient_has_the_dtype_of_its_operand(run: Callable[..., Result], function: Any) -> None:
    x = np.array([[1, 2, 4], [3, 1, 0]], np.float32)
    weight, bias = np.array([1, 2, 3], np.float64), np.array([0, 1, 0], np.float16)
    slopes = run(lambda *xs: [ops.grad(function(*xs), x) for x in xs], x, weight, bias)
    assert [g.dtype for g in slopes] == [np.float32, np.float64, np.float16]
    np.testing.assert_array_equal(slopes[2], [2, 2, 2])

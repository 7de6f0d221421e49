"""Every way to write a stable function, through the default pipeline, against longdouble.

Values, first and second derivatives, at numbers of size 1, 1000 and 10,000. Derivatives of the
references are taken by central differences.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.compiler import compile_graph
from needle_ir.ir import Graph
from tests.passes.graph_text import arg
from tests.passes.stable_programs import FAMILIES, Program

Array = np.ndarray[Any, Any]
LONG = np.longdouble

POINTS = {
    "near 0": np.array([[0.5, -1.25, 2.0], [0.25, 0.75, -0.5]]),
    "1000": np.array([[1000.0, 999.0, 998.5], [-999.0, -1000.0, -998.5]]),
    "mixed": np.array([[1000.0, -1000.0, 0.5], [12.0, 988.0, 990.0]]),
    "1e4": np.array([[1e4, -1e4, 9998.0], [-1e4, -9999.0, 1e4]]),
}
UNSTABLE = "lower, fold, simplify, cse, autodiff, lower, fold, simplify, cse, dce"
PROGRAMS = [(family, program) for family in FAMILIES for program in FAMILIES[family].programs]


def weights(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).choice([-1.0, 0.5, 0.75, 2.0], shape)


def compiled(
    program: Program, dtype: Any, pipeline: str | None = None
) -> Callable[[Array], tuple[Array, ...]]:
    """The value, the gradient of its weighted sum, and the gradient of that one's."""
    x = arg("x", 2, 3, dtype=dtype)
    value = program(x)
    loss = ops.sum(value * ops.as_constant(weights(value.shape, 0), x.dtype))
    first = ops.grad(loss, x)
    inner = ops.sum(first * ops.as_constant(weights(x.shape, 1), x.dtype))
    run = compile_graph(Graph([x], [value, first, ops.grad(inner, x)]), pipeline)
    return lambda array: run([array.astype(dtype)])


@cache
def point(family: str, name: str, dtype: Any) -> Array:
    """Where a family has values in float32."""
    _, _, largest, near, _ = FAMILIES[family]
    clipped: Array = np.minimum(np.clip(POINTS[name], -near, near), largest).astype(dtype)
    return clipped


@cache
def expected(family: str, name: str, dtype: Any) -> tuple[Array, ...]:
    """The same in longdouble, the derivatives by central differences."""
    reference = FAMILIES[family].reference
    x = point(family, name, dtype).astype(LONG)
    value = np.asarray(reference(x))
    outer, inner = weights(value.shape, 0), weights(x.shape, 1)

    def along(function: Callable[[Array], Any], x: Array, direction: Array) -> Any:
        """The derivative in a direction, to the fourth order of the step."""
        step = LONG(1e-3)
        one, two = (
            function(x + n * step * direction) - function(x - n * step * direction) for n in (1, 2)
        )
        return (8 * one - two) / (12 * step)

    def gradient(x: Array) -> Array:
        units = np.eye(x.size).reshape(x.size, *x.shape)
        slopes = [along(lambda x: np.sum(outer * reference(x)), x, unit) for unit in units]
        return np.array(slopes, LONG).reshape(x.shape)

    return value, gradient(x), along(gradient, x, inner)


# For the value, the first and the second derivative, of the largest element.
TOLERANCES = {
    np.float16: (4e-3, 8e-3, 1.6e-2),
    np.float32: (2e-6, 2e-6, 2e-6),
    np.float64: (1e-14, 1e-9, 3e-8),
}
# The numbers of these are too large for float16, or lie too close.
NOT_IN_FLOAT16 = {
    *("divergence", "expm1", "deviation", "gaussian", "a product"),
    *("log of a difference", "log of an interval"),
}
CASES = [
    (family, program, dtype)
    for family, program in PROGRAMS
    for dtype in TOLERANCES
    if dtype is not np.float16 or family not in NOT_IN_FLOAT16
]


@pytest.mark.parametrize(("family", "program", "dtype"), CASES)
def test_program(family: str, program: str, dtype: Any) -> None:
    run = compiled(FAMILIES[family].programs[program], dtype)
    for name in POINTS:
        assert wrong_at(name, run, family, program, dtype) == []


def wrong_at(
    name: str, run: Callable[[Array], tuple[Array, ...]], family: str, program: str, dtype: Any
) -> list[str]:
    """Which of value, first and second derivative are not right at a point, with both numbers."""
    x = point(family, name, dtype)
    rounding = 0.0
    if program in FAMILIES[family].rounded:
        rounding = float(np.finfo(dtype).eps * np.max(np.abs(x)))
    wrong = []
    pairs = zip(run(x), expected(family, name, dtype), TOLERANCES[dtype], strict=True)
    for order, (actual, right, tolerance) in enumerate(pairs):
        right = right.astype(np.float64)
        atol = tolerance * max(1, float(np.max(np.abs(right)))) + rounding
        if not np.allclose(actual, right, rtol=0, atol=atol):
            wrong.append(f"order {order} at {name}: {actual}, expected {right}")
    return wrong


# As they are written, these are right at every point: shifted by hand, not cancelling there, or
# chosen by a `where`, from whose other branch autodiff lets no NaN out.
RIGHT_AS_WRITTEN = {
    ("log_softmax", "shifted"),
    ("softmax", "shifted"),
    ("softmax", "shifted and detached"),
    ("weighted mean", "shifted"),
    ("weighted mean by matmul", "shifted"),
    ("cross-entropy", "softmax_loss"),
    ("cross-entropy", "shifted by hand"),
    ("sigmoid", "by where"),
    ("1 - sigmoid", "of the op"),
    ("softplus", "by relu"),
    ("softplus", "by maximum"),
    ("logaddexp", "shifted"),
    ("logaddexp", "by the difference"),
    ("binary cross-entropy", "stable by hand"),
    *[(family, name) for family in ("expm1", "log1p") for name in FAMILIES[family].programs],
    *[("log(1 - exp)", name) for name in FAMILIES["log(1 - exp)"].programs],
}


@pytest.mark.parametrize(
    ("family", "program"), [pair for pair in PROGRAMS if pair not in RIGHT_AS_WRITTEN]
)
def test_without_the_pass_a_program_is_wrong_somewhere(family: str, program: str) -> None:
    run = compiled(FAMILIES[family].programs[program], np.float32, UNSTABLE)
    assert any(wrong_at(name, run, family, program, np.float32) for name in POINTS)


# Small numbers: what cancels. Relative to each element --------------------------------------------

SLOPES: dict[str, Callable[[Array], Array]] = {
    "expm1": np.exp,
    "log1p": lambda x: np.sign(x) / (1 + np.abs(x)),
    "tanh": lambda x: 1 / np.cosh(x) ** 2,
    "log(1 - exp)": lambda x: np.sign(x) / np.expm1(np.abs(x)),
    "inverse of softplus": lambda x: np.sign(x) / -np.expm1(-np.abs(x)),
}


@pytest.mark.parametrize(("family", "program"), [pair for pair in PROGRAMS if pair[0] in SLOPES])
def test_small_numbers(family: str, program: str) -> None:
    x = np.array([[1e-12, -1e-12, 1e-8], [-1e-5, 3e-4, 0.02]], np.float32)
    value, slope, _ = compiled(FAMILIES[family].programs[program], np.float32)(x)
    long = x.astype(LONG)
    right = FAMILIES[family].reference(long)
    np.testing.assert_allclose(value, right.astype(float), rtol=5e-7)
    slopes = SLOPES[family](long) * weights(x.shape, 0)
    np.testing.assert_allclose(slope, slopes.astype(float), rtol=2e-6)


# Infinities and NaN -------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan
# Values and slopes at -inf, inf and NaN.
LIMITS: dict[str, tuple[list[float], list[float]]] = {
    "sigmoid": ([0, 1, NAN], [0, 0, NAN]),
    "1 - sigmoid": ([1, 0, NAN], [0, 0, NAN]),
    "log-sigmoid": ([-INF, 0, NAN], [1, 0, NAN]),
    "log(1 - sigmoid)": ([0, -INF, NAN], [0, -1, NAN]),
    "softplus": ([0, INF, NAN], [0, 1, NAN]),
    "log cosh": ([INF, INF, NAN], [-1, 1, NAN]),
    "tanh": ([-1, 1, NAN], [0, 0, NAN]),
    "hyperbolic secant": ([0, 0, NAN], [0, 0, NAN]),
    "logistic density": ([0, 0, NAN], [0, 0, NAN]),
    "expm1": ([-1, INF, NAN], [0, INF, NAN]),
    "log1p": ([INF, INF, NAN], [0, 0, NAN]),
    "inverse of softplus": ([INF, INF, NAN], [-1, 1, NAN]),
    "log(1 + tanh)": ([-INF, np.float32(np.log(2)), NAN], [2, 0, NAN]),
    "log(1 - tanh^2)": ([-INF, -INF, NAN], [2, -2, NAN]),
    "log of a survival": ([-INF, -INF, NAN], [1, -1, NAN]),
    "log(1 - exp)": ([0, 0, NAN], [0, 0, NAN]),
    "deviation": ([0, INF, NAN], [0, INF, NAN]),
}
# As they are written, they have an x * 0 in them, or another way to NaN.
NOT_AT_INFINITY = {
    ("sigmoid", "of two"),
    ("softplus", "logaddexp"),
    ("logistic density", "quotient"),
}


@pytest.mark.parametrize(
    ("family", "program"),
    [pair for pair in PROGRAMS if pair[0] in LIMITS and pair not in NOT_AT_INFINITY],
)
def test_limits(family: str, program: str) -> None:
    x = np.array([[-INF, INF, NAN]] * 2, np.float32)
    value, slope, _ = compiled(FAMILIES[family].programs[program], np.float32)(x)
    values, slopes = LIMITS[family]
    np.testing.assert_array_equal(value, [values] * 2)
    np.testing.assert_array_equal(slope, np.array([slopes] * 2) * weights(x.shape, 0))


# Rows of x, their values, and the gradient of a row's sum of values.
ROWS: dict[str, list[tuple[list[float], Any, list[float]]]] = {
    "logsumexp": [
        ([-INF, -INF, -INF], -INF, [0, 0, 0]),
        ([-INF, 3, -INF], 3, [0, 1, 0]),
        ([INF, 3, -INF], INF, [NAN, 0, 0]),
        ([NAN, 3, -INF], NAN, [NAN, NAN, NAN]),
        ([NAN, INF, 0], NAN, [NAN, NAN, NAN]),
    ],
    "log_softmax": [
        ([-INF, -INF, -INF], [NAN, NAN, NAN], [1, 1, 1]),
        ([-INF, 3, -INF], [-INF, 0, -INF], [1, -2, 1]),
        ([INF, 3, -INF], [NAN, -INF, -INF], [NAN, 1, 1]),
        ([NAN, 3, 4], [NAN, NAN, NAN], [NAN, NAN, NAN]),
    ],
    "softmax": [
        ([-INF, -INF, -INF], [NAN, NAN, NAN], [NAN, NAN, NAN]),
        ([-INF, 3, -INF], [0, 1, 0], [0, 0, 0]),
        ([INF, 3, -INF], [NAN, 0, 0], [NAN, NAN, NAN]),
        ([NAN, 3, 4], [NAN, NAN, NAN], [NAN, NAN, NAN]),
    ],
}
# Other ways to NaN: a difference of two infinities, or a softmax of what has a NaN in it.
OTHERWISE = {"by softplus", "a sum of sums", "twice", "normalized again"}


@pytest.mark.parametrize(
    ("family", "program"),
    [pair for pair in PROGRAMS if pair[0] in ROWS and pair[1] not in OTHERWISE],
)
def test_rows_with_infinities_and_nan(family: str, program: str) -> None:
    x = arg("x", 2, 3)
    y = FAMILIES[family].programs[program](x)
    run = compile_graph(Graph([x], [y, ops.grad(ops.sum(y), x)]))
    for row, value, slope in ROWS[family]:
        results = run([np.array([row, [1, 2, 3]], np.float32)])
        np.testing.assert_array_equal(results[0][0], np.float32(value))
        np.testing.assert_array_equal(results[1][0], np.float32(slope))
        assert all(np.isfinite(result[1]).all() for result in results)

"""The kernels of the log-sum-exp and the logistic family, against longdouble and hard limits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir.ir import TensorType, input_node
from needle_ir.ops import PRIMITIVES, build
from needle_ir.runtime import evaluate, make_kernel

Array = np.ndarray[Any, Any]
FLOATS = [np.float16, np.float32, np.float64]
INF, NAN = np.inf, np.nan
LONG = np.longdouble


def run(op: str, *arrays: Array, **attrs: Any) -> Array:
    leaves = [input_node(TensorType(x.shape, x.dtype)) for x in arrays]
    return evaluate(build(PRIMITIVES[op], leaves, attrs), list(arrays))


# The definitions in longdouble, written so that they neither overflow nor cancel.


def sigmoid(x: Any) -> Any:
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def log1mexp(x: Any) -> Any:
    with np.errstate(divide="ignore"):
        return np.where(x > -0.7, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def numbers(dtype: Any) -> Array:
    """Numbers of every size that the dtype has, of both signs, zeros and subnormals included."""
    info = np.finfo(dtype)
    sizes = np.geomspace(float(info.tiny), min(1e4, float(info.max)), 400)
    near = np.linspace(0, 2 * np.log(float(info.max)), 1000)
    positive = np.concatenate([sizes, near, [float(info.smallest_subnormal)]])
    return np.concatenate([positive, -positive]).astype(dtype)


def assert_few_ulps(actual: Array, expected: Any, ulps: float) -> None:
    """Within `ulps` units of the last place, also among subnormals."""
    assert actual.dtype in FLOATS
    info = np.finfo(actual.dtype)
    with np.errstate(all="ignore"):
        unit = np.maximum(np.abs(expected) * info.eps, info.smallest_subnormal)
        wrong = np.abs(actual - expected) > ulps * unit
    assert not wrong.any(), (actual[wrong][:5], expected[wrong][:5])


ELEMENTWISE: dict[str, tuple[Callable[[Any], Any], float]] = {
    "sigmoid": (sigmoid, 3),
    "softplus": (softplus, 3),
    "log1mexp": (log1mexp, 3),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise(op: str, dtype: Any) -> None:
    reference, ulps = ELEMENTWISE[op]
    x = numbers(dtype)
    if op == "log1mexp":
        x = x[x < 0]
    assert_few_ulps(run(op, x), reference(x.astype(LONG)), ulps)


@pytest.mark.parametrize("dtype", FLOATS)
def test_logaddexp(dtype: Any) -> None:
    a = np.array([0, 1, -1, 5, 1e4, -1e4, 3e-5], dtype)
    a, b = (np.ascontiguousarray(x) for x in np.meshgrid(a, a))
    la, lb = a.astype(LONG), b.astype(LONG)
    expected = np.maximum(la, lb) + np.log1p(np.exp(-np.abs(la - lb)))
    assert_few_ulps(run("logaddexp", a, b), expected, 2)


LIMITS: dict[str, list[tuple[tuple[float, ...], float]]] = {
    "sigmoid": [((-INF,), 0), ((INF,), 1), ((-1e4,), 0), ((1e4,), 1), ((NAN,), NAN),
                ((-0.0,), 0.5)],
    "softplus": [((-INF,), 0), ((INF,), INF), ((-1e4,), 0), ((1e4,), 1e4), ((NAN,), NAN)],
    "log1mexp": [((-INF,), 0), ((-1e4,), 0), ((-0.0,), -INF), ((0.0,), -INF), ((1.0,), NAN),
                 ((INF,), NAN), ((NAN,), NAN)],
    "logaddexp": [((-INF, -INF), -INF), ((-INF, 3), 3), ((INF, -INF), INF), ((INF, INF), INF),
                  ((NAN, -INF), NAN), ((INF, NAN), NAN), ((1e4, -1e4), 1e4)],
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", LIMITS)
def test_limits(op: str, dtype: Any) -> None:
    for operands, expected in LIMITS[op]:
        scalars = [np.array(x, dtype) for x in operands]
        np.testing.assert_array_equal(run(op, *scalars), dtype(expected), f"{op}{operands}")
        rows = [np.array([x, 0], dtype) for x in operands]
        np.testing.assert_array_equal(run(op, *rows)[0], dtype(expected), f"{op}{operands}")


def test_the_result_may_be_the_operand() -> None:
    """What the kernel of an elementwise op is allowed to be given."""
    x = numbers(np.float32)
    for op in ELEMENTWISE:
        expected = run(op, x)
        node = build(PRIMITIVES[op], [input_node(TensorType(x.shape, x.dtype))], {})
        same = x.copy()
        with np.errstate(all="ignore"):
            make_kernel(node)(same, same)
        np.testing.assert_array_equal(same, expected)


# Over axes ----------------------------------------------------------------------------------------

SOFTMAX_ROWS = [
    ([1000.0, 999.0], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]),
    ([-1e4, -1e4, -1e4, -1e4], [0.25] * 4),
    ([1e4, -1e4], [1, 0]),
    ([-INF, 0.0, 0.0], [0, 0.5, 0.5]),
    ([7.0], [1]),
    ([-INF, -INF], [NAN, NAN]),
    ([INF, 0.0], [NAN, 0]),
    ([INF, -INF, INF], [NAN, 0, NAN]),
    ([NAN, 0.0], [NAN, NAN]),
]


@pytest.mark.parametrize(("row", "expected"), SOFTMAX_ROWS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_and_log_softmax(row: list[float], expected: list[float], dtype: Any) -> None:
    x = np.array(row, dtype)
    eps = np.finfo(dtype).eps
    probabilities = run("softmax", x, axes=0)
    np.testing.assert_allclose(probabilities, expected, rtol=2 * eps)
    logs = run("log_softmax", x, axes=0)
    assert (logs.dtype, logs.shape) == (x.dtype, x.shape)
    with np.errstate(all="ignore"):
        # exp of -2e4 is 0: there the logarithm says more than the probability.
        wanted = np.where(np.equal(expected, 0) & np.isfinite(row), x - x.max(), np.log(expected))
    np.testing.assert_allclose(logs, wanted, rtol=2 * eps)


def test_a_row_does_not_see_the_others() -> None:
    x = np.array([[NAN, 1.0], [-INF, -INF], [INF, 0.0], [1e308, 1e308], [3.0, 3.0]])
    expected = [[NAN, NAN], [NAN, NAN], [NAN, 0], [0.5, 0.5], [0.5, 0.5]]
    np.testing.assert_array_equal(run("softmax", x, axes=1), expected)
    np.testing.assert_array_equal(run("softmax", x.T.copy(), axes=0), np.transpose(expected))
    logs = [[NAN, NAN], [NAN, NAN], [NAN, -INF], [-np.log(2)] * 2, [-np.log(2)] * 2]
    np.testing.assert_array_equal(run("log_softmax", x, axes=1), logs)


WEIGHTED_ROWS = [
    # x, weights, the weighted logsumexp, the weighted softmax
    ([1000.0, 999.0], [0.0, 2.0], 999 + np.log(2), [0, 1]),
    ([1e4, -1e4, -1e4], [0.0, 1.0, 1.0], -1e4 + np.log(2), [0, 0.5, 0.5]),
    ([0.0, np.log(4)], [5.0, -1.0], 0, [5, -4]),
    ([INF, 3.0], [0.0, 1.0], 3, [0, 1]),
    ([0.0, 0.0], [-1.0, -1.0], NAN, [0.5, 0.5]),
    ([5.0, 6.0], [0.0, 0.0], -INF, [NAN, NAN]),
    ([-INF, -INF], [1.0, 1.0], -INF, [NAN, NAN]),
    ([INF, 0.0], [1.0, 1.0], INF, [NAN, 0]),
    ([NAN, 0.0], [0.0, 1.0], 0, [0, 1]),
    ([NAN, 0.0], [1.0, 1.0], NAN, [NAN, NAN]),
]


@pytest.mark.parametrize(("x", "weights", "total", "shares"), WEIGHTED_ROWS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_weighted(
    x: list[float], weights: list[float], total: float, shares: list[float], dtype: Any
) -> None:
    arrays = np.array(x, dtype), np.array(weights, dtype)
    eps = np.finfo(dtype).eps
    result = run("weighted_logsumexp", *arrays, axes=0, keepdims=False)
    np.testing.assert_allclose(result, total, rtol=2 * eps, atol=8 * eps)
    np.testing.assert_allclose(
        run("weighted_softmax", *arrays, axes=0), shares, rtol=8 * eps, atol=eps
    )


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 2)])
@pytest.mark.parametrize("axes", [None, -1, ()])
def test_no_elements(op: str, shape: tuple[int, ...], axes: Any) -> None:
    assert run(op, np.empty(shape), axes=axes).shape == shape


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_over_no_axes_and_without_axes(op: str) -> None:
    expected = 1.0 if op == "softmax" else 0.0
    for shape, axes in [((2, 3), ()), ((), None), ((), ())]:
        result = run(op, np.full(shape, 5.0), axes=axes)
        np.testing.assert_array_equal(result, np.full(shape, expected))

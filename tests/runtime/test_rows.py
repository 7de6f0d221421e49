"""Reductions of a matrix along its rows and columns, whatever way they are computed."""

from typing import Any

import numpy as np
import pytest

from needle_ir.ir import TensorType, input_node
from needle_ir.ops import PRIMITIVES, build
from needle_ir.runtime import evaluate

Array = np.ndarray[Any, Any]
SHAPES = [(0, 3), (1, 1), (1, 10), (7, 1), (100, 10), (100, 32), (100, 33), (9, 256), (9, 257),
          (600, 500)]  # fmt: skip
DTYPES = [np.float16, np.float32, np.float64, np.int32]


def run(op: str, *arrays: Array, **attrs: Any) -> Array:
    leaves = [input_node(TensorType(x.shape, x.dtype)) for x in arrays]
    return evaluate(build(PRIMITIVES[op], leaves, attrs), list(arrays))


def numbers(shape: tuple[int, ...], dtype: Any) -> Array:
    return (np.random.default_rng(0).standard_normal(shape) * 8).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("keepdims", [True, False])
def test_as_numpy(shape: Any, dtype: Any, axes: Any, keepdims: bool) -> None:
    x = numbers(shape, dtype)
    how = {"axes": axes, "keepdims": keepdims}
    rtol = {np.float16: 1e-2, np.float32: 1e-5}.get(dtype, 1e-12)
    expected = x.sum(axes, dtype, keepdims=keepdims)
    size = float(np.abs(x.astype(np.float64)).sum()) / max(1, expected.size)
    np.testing.assert_allclose(run("sum", x, **how), expected, rtol=rtol, atol=rtol * size)
    if x.size:
        np.testing.assert_array_equal(run("max", x, **how), x.max(axes, keepdims=keepdims))
        np.testing.assert_array_equal(run("min", x, **how), x.min(axes, keepdims=keepdims))


@pytest.mark.parametrize("op", ["sum", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes_stay_in_their_row(op: str, dtype: Any) -> None:
    inf, nan = np.inf, np.nan
    rows = [[1, 2, 3], [inf, 1, 2], [-inf, 1, 2], [inf, -inf, 0], [nan, 1, 2], [-0.0, -0.0, -0.0]]
    x = np.array(rows * 20, dtype)
    found = run(op, x, axes=(1,), keepdims=False)
    with np.errstate(invalid="ignore"):
        expected = getattr(x, op)(1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("op", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_exponentials_of_rows(op: str, shape: Any) -> None:
    x = numbers(shape, np.float64) * 100
    attrs = {"keepdims": True} if op == "logsumexp" else {}
    found = run(op, x, axes=(1,), **attrs)
    top = x.max(1, keepdims=True)
    total = np.exp(x - top).sum(1, keepdims=True)
    log_softmax = (x - top) - np.log(total)
    expected = {
        "logsumexp": np.log(total) + top,
        "softmax": np.exp(log_softmax),
        "log_softmax": log_softmax,
    }[op]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("shapes", [((5, 1), (5, 3)), ((5, 3), (1, 3)), ((1, 40), (5, 40))])
def test_weights_of_another_shape(shapes: Any) -> None:
    x, weights = (numbers(shape, np.float64) for shape in shapes)
    weights = np.abs(weights) + 0.5
    terms = weights * np.exp(x)
    total = terms.sum(1, keepdims=True)
    found = run("weighted_logsumexp", x, weights, axes=(1,), keepdims=True)
    np.testing.assert_allclose(found, np.log(total), rtol=1e-12)
    found = run("weighted_softmax", x, weights, axes=(1,))
    np.testing.assert_allclose(found, terms / total, rtol=1e-12)

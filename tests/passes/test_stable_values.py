"""Log-sum-exp through the default pipeline: right where the definition overflows, and so are its
first and second derivatives. The reference is computed in float64.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.compiler import compile_graph
from needle_ir.ir import Graph, Node
from tests.passes.graph_text import arg

Axes = tuple[int, ...]
Array = np.ndarray[Any, Any]
Form = Callable[[Node, Axes], Node]

UNSTABLE = "lower, fold, simplify, cse, autodiff, lower, fold, simplify, cse, dce"


def _shifted(x: Node, top: Node, axes: Axes) -> Node:
    return ops.log(ops.sum(ops.exp(x - top), axes))


def _kept(x: Node, axes: Axes) -> tuple[int, ...]:
    return tuple(1 if i in axes else dim for i, dim in enumerate(x.shape))


def _left(x: Node, axes: Axes) -> tuple[int, ...]:
    return tuple(dim for i, dim in enumerate(x.shape) if i not in axes)


def _naive_keepdims(x: Node, axes: Axes) -> Node:
    return ops.reshape(ops.log(ops.sum(ops.exp(x), axes, True)), _left(x, axes))


def _all_keepdims(x: Node, axes: Axes) -> Node:
    top = ops.max(x, axes, True)
    return ops.reshape(ops.log(ops.sum(ops.exp(x - top), axes, True)) + top, _left(x, axes))


def _reshaped_down(x: Node, axes: Axes) -> Node:
    top = ops.max(x, axes, True)
    return _shifted(x, top, axes) + ops.reshape(top, _left(x, axes))


def _reshaped_up(x: Node, axes: Axes) -> Node:
    top = ops.max(x, axes)
    return _shifted(x, ops.reshape(top, _kept(x, axes)), axes) + top


def _broadcast(x: Node, axes: Axes) -> Node:
    top = ops.max(x, axes)
    shift = ops.broadcast_to(ops.reshape(top, _kept(x, axes)), x.shape)
    return _shifted(x, shift, axes) + ops.broadcast_to(top, _left(x, axes))


def _subtracted_negative(x: Node, axes: Axes) -> Node:
    return _shifted(x, ops.max(x, axes, True), axes) - (-ops.max(x, axes))


def _detached(x: Node, axes: Axes) -> Node:
    top = ops.stop_gradient(ops.max(x, axes, True))
    return _shifted(x, top, axes) + ops.reshape(top, _left(x, axes))


def _one_axis_more(x: Node, axes: Axes) -> Node:
    # Simplify takes this axis off x where the largest element, which has it too, is subtracted.
    rows, over = ops.reshape(x, (1, *x.shape)), tuple(axis + 1 for axis in axes)
    top = ops.max(rows, over, True)
    total = ops.sum(ops.exp(rows - top), over, True)
    return ops.reshape(ops.log(total) + top, _left(x, axes))


FORMS: dict[str, Form] = {
    "naive": lambda x, axes: ops.log(ops.sum(ops.exp(x), axes)),
    "naive, keepdims": _naive_keepdims,
    "logsumexp": lambda x, axes: ops.logsumexp(x, axes),
    "max, keepdims": _all_keepdims,
    "max reshaped down": _reshaped_down,
    "max reshaped up": _reshaped_up,
    "two maxima": lambda x, axes: _shifted(x, ops.max(x, axes, True), axes) + ops.max(x, axes),
    "max first": lambda x, axes: ops.max(x, axes) + _shifted(x, ops.max(x, axes, True), axes),
    "max broadcast": _broadcast,
    "max subtracted negative": _subtracted_negative,
    "max detached": _detached,
    "an axis in front": _one_axis_more,
    "a number": lambda x, axes: _shifted(x, ops.as_constant(3.0), axes) + 3.0,
}

WHERE: list[tuple[tuple[int, ...], Axes]] = [
    ((2,), (0,)),
    ((3, 4), (1,)),
    ((3, 4), (0,)),
    ((3, 4), (0, 1)),
    ((2, 3, 4), (1,)),
    ((2, 3, 4), (0, 2)),
]


def reference(x: Array, c: Array, axes: Axes) -> list[Array]:
    """The value, the gradient of its sum, and the gradient of that gradient's product with c."""
    x, c = x.astype(np.float64), c.astype(np.float64)
    top = x.max(axes, keepdims=True)
    value = np.log(np.exp(x - top).sum(axes, keepdims=True)) + top
    softmax = np.exp(x - value)
    second = softmax * (c - (c * softmax).sum(axes, keepdims=True))
    return [value.squeeze(axes), softmax, second]


def twice_differentiated(form: Form, shape: tuple[int, ...], axes: Axes) -> Graph:
    x, c = arg("x", *shape), arg("c", *shape)
    value = form(x, axes)
    first = ops.grad(ops.sum(value), x)
    return Graph([x, c], [value, first, ops.grad(ops.sum(first * c), x)])


@pytest.mark.parametrize(("shape", "axes"), WHERE)
@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize("top", [1000, -1000, 0])
def test_value_and_derivatives(form: Form, shape: tuple[int, ...], axes: Axes, top: float) -> None:
    # The first row is [1000, 999, ...].
    x = (top - np.arange(np.prod(shape)) % 7).reshape(shape).astype(np.float32)
    c = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    results = compile_graph(twice_differentiated(form, shape, axes))([x, c])
    for actual, expected in zip(results, reference(x, c, axes), strict=True):
        # A value near 1000 has an error of 6e-5 in float32; that much a softmax may be off.
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=3e-4)


def test_the_naive_form_overflows_without_the_pass() -> None:
    graph = twice_differentiated(FORMS["naive"], (2,), (0,))
    x = np.array([1000, 999], np.float32)
    for result in compile_graph(graph, UNSTABLE)([x, x]):
        assert not np.isfinite(result).all()


def test_numbers_of_the_course() -> None:
    # log(e^1000 + e^999) = 1000 + log(1 + 1/e).
    x = arg("x", 2)
    y = ops.log(ops.sum(ops.exp(x)))
    value, gradient = compile_graph(Graph([x], [y, ops.grad(y, x)]))(
        [np.array([1000, 999], np.float32)]
    )
    np.testing.assert_allclose(value, 1000.31326, rtol=1e-7)
    np.testing.assert_allclose(gradient, [0.7310586, 0.2689414], rtol=1e-4)


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_infinities_and_nan(form: Form) -> None:
    inf, nan = np.inf, np.nan
    rows = [[-inf, -inf], [-inf, 3], [inf, 3], [inf, -inf], [nan, 3], [nan, inf], [-inf, nan]]
    x = arg("x", len(rows), 2)
    y = form(x, (1,))
    value, gradient = compile_graph(Graph([x], [y, ops.grad(ops.sum(y), x)]))(
        [np.array(rows, np.float32)]
    )
    np.testing.assert_array_equal(value, [-inf, 3, inf, inf, nan, nan, nan])
    np.testing.assert_array_equal(gradient[:2], [[0, 0], [0, 1]])


def cross_entropy(logits: Node, hot: Node) -> Node:
    """As it is written by hand: the naive log-sum-exp, minus the logit of the label."""
    picked = ops.sum(logits * hot, 1)
    return ops.mean(ops.log(ops.sum(ops.exp(logits), 1)) - picked)


@pytest.mark.parametrize("pipeline", [None, UNSTABLE])
def test_cross_entropy_after_a_layer(pipeline: str | None) -> None:
    numbers = np.random.default_rng(0)
    arrays = [
        numbers.standard_normal((4, 5)).astype(np.float32),
        (numbers.standard_normal((5, 3)) * 300).astype(np.float32),
        np.eye(3, dtype=np.float32)[[0, 2, 1, 1]],
    ]
    x, w, hot = (arg(name, *a.shape) for name, a in zip("xwh", arrays, strict=True))
    logits = ops.relu(x @ w)
    loss = cross_entropy(logits, hot)
    results = compile_graph(Graph([x, w, hot], [loss, ops.grad(loss, w)]), pipeline)(arrays)

    x64, w64, hot64 = (a.astype(np.float64) for a in arrays)
    z = np.maximum(x64 @ w64, 0)
    assert z.max() > 300
    value, softmax, _ = reference(z, z, (1,))
    expected = np.mean(value - (z * hot64).sum(1))
    gradient = x64.T @ ((softmax - hot64) / 4 * (z > 0))
    if pipeline is None:
        np.testing.assert_allclose(results[0], expected, rtol=1e-5)
        np.testing.assert_allclose(results[1], gradient, rtol=1e-4, atol=1e-4)
    else:
        assert not np.isfinite(results[0])


def test_log_sum_exp_of_what_is_computed_twice_differentiated() -> None:
    numbers = np.random.default_rng(1)
    a = numbers.standard_normal((3, 4)).astype(np.float32)
    x = arg("x", 3, 4)
    y = ops.sum(ops.log(ops.sum(ops.exp(500.0 * x * x), 1)))
    first = ops.grad(y, x)
    graph = Graph([x], [y, first, ops.grad(ops.sum(first), x)])
    value, gradient, second = compile_graph(graph)([a])

    x64 = a.astype(np.float64)
    z = 500 * x64 * x64
    lse, softmax, _ = reference(z, z, (1,))
    inner = 1000 * x64
    expected = softmax * (inner * inner - inner * (inner * softmax).sum(1, keepdims=True))
    expected += 1000 * softmax
    np.testing.assert_allclose(value, lse.sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, softmax * inner, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(second, expected, rtol=5e-3, atol=5e-3 * np.abs(expected).max())

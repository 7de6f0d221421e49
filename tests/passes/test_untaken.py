"""`where` gives exactly 0 to the branch that it did not take, whatever was computed there.

Expected values are products of derivatives by hand, in NumPy, with 0 where nothing is taken.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle_ir as ndl
from needle_ir import Tensor, ops
from needle_ir.ir import Graph, Node, TensorType, input_node
from needle_ir.ops import COMPOSITES, PRIMITIVES
from needle_ir.passes import Autodiff, Lower
from tests.ops.samples import Array, Sample
from tests.ops.test_ops import DIFFERENTIABLE, wrt

INF, NAN = np.inf, np.nan
OPS = PRIMITIVES | COMPOSITES
EXTREMES = [0.0, -1.0, 1e308, INF, -INF, NAN]


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


# Modes: every derivative of a function of arrays, each by a way of its own ------------------------


def recorded(fn: Callable[..., Any], xs: list[Array]) -> Any:
    return fn(*[Tensor(x) for x in xs])


def jitted(fn: Callable[..., Any], xs: list[Array]) -> Any:
    return ndl.jit(fn)(*[Tensor(x) for x in xs])


def autodiff_alone(fn: Callable[..., Any], xs: list[Array]) -> Any:
    return ndl.compile(fn, *map(Tensor, xs), pipeline="autodiff, lower")(*map(Tensor, xs))


MODES = {"recorded": recorded, "jit": jitted, "autodiff alone": autodiff_alone}
MODE = pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))


def derivatives(fn: Callable[..., Any], count: int) -> Callable[..., list[Any]]:
    """The gradient of sum(fn), the Hessian by ones, and the slope and curvature along ones."""
    numbers = tuple(range(count))

    def total(*xs: Any) -> Any:
        return ops.sum(fn(*xs))

    def slope(*xs: Any) -> Any:
        return ndl.jvp(total, xs, [np.ones(x.shape) for x in xs])[1]

    def all_of_them(*xs: Any) -> list[Any]:
        gradient = ndl.grad(total, numbers)
        product = ndl.grad(lambda *xs: sum(g.sum() for g in gradient(*xs)), numbers)
        curvature = ndl.jvp(slope, xs, [np.ones(x.shape) for x in xs])[1]
        return [*gradient(*xs), *product(*xs), slope(*xs), curvature]

    return all_of_them


# Every op behind a branch that is taken nowhere ---------------------------------------------------


def applied(sample: Sample) -> Callable[..., Any]:
    chosen = wrt(sample)

    def function(*xs: Any) -> Any:
        operands: list[Any] = list(sample.operands)
        for i, x in zip(chosen, xs, strict=True):
            operands[i] = x
        return ops.apply(OPS[sample.op], *operands, **sample.attrs)

    return function


FIRST_OF_EACH = list({(x.op, *x.attrs, len(wrt(x))): x for x in reversed(DIFFERENTIABLE)}.values())


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("sample", FIRST_OF_EACH, ids=str)
def test_an_untaken_op_has_no_derivative(sample: Sample, extreme: float) -> None:
    xs = [np.full(sample.operands[i].shape, extreme) for i in wrt(sample)]

    def untaken(*xs: Any) -> Any:
        y = applied(sample)(*xs)
        return ops.where(never, y, 0.0)

    shape = applied(sample)(*map(Tensor, xs)).shape
    never = Tensor(np.zeros(shape, bool))
    for found in recorded(derivatives(untaken, len(xs)), xs):
        np.testing.assert_array_equal(found.numpy(), 0)


# Chains of elementwise ops, taken here and there --------------------------------------------------

# An op, its derivative and its second derivative.
CHAIN: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "log": (ndl.log, np.log, lambda x: 1 / x, lambda x: -1 / x**2),
    "log1p": (ndl.log1p, np.log1p, lambda x: 1 / (1 + x), lambda x: -1 / (1 + x) ** 2),
    "sqrt": (ndl.sqrt, np.sqrt, lambda x: 0.5 / np.sqrt(x), lambda x: -0.25 / np.sqrt(x) ** 3),
    "exp": (ndl.exp, np.exp, np.exp, np.exp),
    "reciprocal": (lambda x: 1 / x, lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3),
    "cube": (lambda x: x**3, lambda x: x**3, lambda x: 3 * x**2, lambda x: 6 * x),
    "power": (
        lambda x: x**-1.5,
        lambda x: x**-1.5,
        lambda x: -1.5 * x**-2.5,
        lambda x: 3.75 * x**-3.5,
    ),
    "tanh": (
        ndl.tanh,
        np.tanh,
        lambda x: 1 - np.tanh(x) ** 2,
        lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2),
    ),
    "shift": (lambda x: x - 1, lambda x: x - 1, np.ones_like, np.zeros_like),
    "double": (lambda x: x * 2, lambda x: x * 2, lambda x: 2 + 0 * x, lambda x: 0 * x),
}
POINTS = np.array([0.0, 1.0, -1.0, 0.5, 2.0, 3.5, -2.5, 710.0, -710.0, INF, -INF, NAN])


def composed(names: list[str], x: Array) -> tuple[Array, Array, Array]:
    """The value, the first and the second derivative of a chain, by the chain rule."""
    value, first, second = x, np.ones_like(x), np.zeros_like(x)
    for name in names:
        _, f, slope, curve = CHAIN[name]
        first, second = slope(value) * first, curve(value) * first**2 + slope(value) * second
        value = f(value)
    return value, first, second


def check_chain(names: list[str], x: Array, mode: Callable[..., Any]) -> None:
    value, first, second = composed(names, x)
    taken = np.isfinite(value) & np.isfinite(first) & np.isfinite(second)
    taken &= (np.abs(value) < 1e6) & (np.abs(first) < 1e6) & (np.abs(second) < 1e6)

    def function(x: Any, condition: Any) -> Any:
        y = x
        for name in names:
            y = CHAIN[name][0](y)
        return ops.where(condition, y, 0.0)

    def all_of_them(x: Any, condition: Any) -> list[Any]:
        return derivatives(lambda x: function(x, condition), 1)(x)

    gradient, product, slope, curvature = [np.asarray(y) for y in mode(all_of_them, [x, taken])]
    first, second = np.where(taken, first, 0), np.where(taken, second, 0)
    np.testing.assert_allclose(gradient, first, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(product, second, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(slope, first.sum(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(curvature, second.sum(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(gradient[~taken], 0)
    np.testing.assert_array_equal(product[~taken], 0)


@MODE
@pytest.mark.parametrize("name", CHAIN)
def test_each_op_at_the_extremes(name: str, mode: Callable[..., Any]) -> None:
    check_chain([name], POINTS, mode)


# The exponents of several powers in a row are constants that differ from chain to chain.
@pytest.mark.filterwarnings("ignore::needle_ir.RecompileWarning")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(CHAIN)), min_size=2, max_size=4))
def test_chains_at_the_extremes(names: list[str]) -> None:
    with np.errstate(all="ignore"):
        check_chain(names, POINTS, recorded)


def test_step_by_step_with_values_read_half_way() -> None:
    x = Tensor(np.array([0.0, 4.0, -1.0]))
    root = ndl.sqrt(x)
    assert root.numpy()[1] == 2
    logarithm = ndl.log(root)
    assert np.isnan(logarithm.numpy()[2])
    y = ops.where(x > 0, logarithm, 0.0)
    assert y.numpy().tolist() == [0, np.log(2), 0]
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), [0, 0.125, 0])
    x.grad.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, -1 / 32, 0])


# Other shapes of a branch -------------------------------------------------------------------------

ROW = np.array([[False], [True]])  # of two rows the second is taken
SECOND = np.array([1.0, 2.0, 4.0])


def two_rows(bad: float) -> Array:
    return np.array([[bad] * 3, SECOND])


def softmax_row(x: Array) -> Array:
    e: Array = np.exp(x - x.max())
    return e / e.sum()


# A function of two rows, and its gradient in the row that is taken.
BRANCHES: dict[str, tuple[Callable[[Any], Any], Array]] = {
    "sum of logs": (lambda x: ops.where(ROW[:, 0], ndl.log(x).sum(1), 0.0), 1 / SECOND),
    "sum of logs, axis kept": (
        lambda x: ops.where(ROW, ndl.log(x).sum(1, keepdims=True), 0.0),
        1 / SECOND,
    ),
    "broadcast condition": (lambda x: ops.where(ROW, 1 / x, 0.0), -1 / SECOND**2),
    "the other branch": (lambda x: ops.where(~ROW, 0.0, ndl.log(x)), 1 / SECOND),
    "nested": (
        lambda x: ops.where(ROW, ops.where(x > 1.5, ndl.log(x), x * 0.5), 0.0),
        np.array([0.5, 0.5, 0.25]),
    ),
    "nested the other way": (
        lambda x: ops.where(x == x, ops.where(ROW, ndl.log(x), 0.0), 0.0),
        1 / SECOND,
    ),
    "reshaped and transposed": (
        lambda x: ops.where(ROW.T, ops.permute(ndl.log(x).reshape(2, 3)), 0.0),
        1 / SECOND,
    ),
    "sliced and joined": (
        lambda x: ops.where(ROW, ndl.concatenate([ndl.log(x)[:, 1:], ndl.log(x)[:, :1]], 1), 0.0),
        1 / SECOND,
    ),
    "gathered": (
        lambda x: ops.where(ROW[:, 0], ndl.log(x)[np.array([0, 1]), np.array([0, 1])], 0.0),
        np.array([0, 0.5, 0]),
    ),
    "logsumexp": (lambda x: ops.where(ROW[:, 0], ndl.logsumexp(x, 1), 0.0), softmax_row(SECOND)),
    "log_softmax": (
        lambda x: ops.where(ROW, ndl.log_softmax(x), 0.0)[:, 0],
        np.array([1, 0, 0]) - softmax_row(SECOND),
    ),
    "softmax": (
        lambda x: ops.where(ROW, ndl.softmax(x), 0.0)[:, 0],
        softmax_row(SECOND)[0] * (np.array([1, 0, 0]) - softmax_row(SECOND)),
    ),
    "largest": (lambda x: ops.where(ROW[:, 0], ndl.log(x).max(1), 0.0), np.array([0, 0, 0.25])),
    "product": (
        lambda x: ops.where(ROW, x @ np.array([[1.0], [10.0], [100.0]]), 0.0),
        np.array([1, 10, 100]),
    ),
    "product of vectors": (
        lambda x: ops.where(ROW[:, 0], x @ np.array([1.0, 10.0, 100.0]), 0.0),
        np.array([1, 10, 100]),
    ),
    "product with itself": (
        lambda x: ops.where(np.array([[False, False], [False, True]]), x @ ops.permute(x), 0.0),
        2 * SECOND,
    ),
    "a product of logs": (
        lambda x: ops.where(ROW, ndl.log(x) @ np.ones((3, 2)), 0.0),
        2 / SECOND,
    ),
    "layer_norm": (
        lambda x: ops.where(ROW, ops.layer_norm(x, np.ones(3), np.ones(3), eps=0.0), 0.0)[:, 0],
        # (x - m) / d has the derivative (1 - 1/n - n0 * normal / n) / d, at element 0.
        (lambda d, z: (np.array([1, 0, 0]) - 1 / 3 - z[0] * z / 3) / d)(
            SECOND.std(), (SECOND - SECOND.mean()) / SECOND.std()
        ),
    ),
    "on both sides": (
        lambda x: ops.where(ROW, ndl.log(x), 0.0) + ops.where(ROW, x, 0.0) * 3,
        1 / SECOND + 3,
    ),
    "two conditions about one value": (
        lambda x: (lambda y: ops.where(ROW, y, 0.0) + ops.where(x > 1.5, y, 0.0))(ndl.log(x)),
        np.array([1, 2, 2]) / SECOND,
    ),
}


@MODE
@pytest.mark.parametrize("bad", [0.0, NAN, -INF, -1.0])
@pytest.mark.parametrize(("function", "row"), BRANCHES.values(), ids=list(BRANCHES))
def test_rows_taken_and_not(
    function: Callable[[Any], Any], row: Array, bad: float, mode: Callable[..., Any]
) -> None:
    x = two_rows(bad)
    gradient, product, slope, _ = mode(derivatives(function, 1), [x])
    np.testing.assert_array_equal(gradient.numpy()[0], 0)
    np.testing.assert_allclose(gradient.numpy()[1], row, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(product.numpy()[0], 0)
    np.testing.assert_allclose(slope.item(), row.sum(), rtol=1e-12, atol=1e-15)
    assert np.isfinite(product.numpy()).all()


@pytest.mark.parametrize("bad", [0.0, NAN, -INF])
def test_columns_of_a_batch_norm(bad: float) -> None:
    x = np.array([[bad, 1.0], [bad, 2.0], [0.0, 4.0]])
    taken = np.array([False, True])

    def function(x: Any) -> Any:
        y = ops.batch_norm(ndl.log(x), np.ones(2), np.ones(2), eps=1e-3)
        return ops.where(taken, y, 0.0)[0].sum()

    gradient = ndl.grad(function)(x).numpy()
    np.testing.assert_array_equal(gradient[:, 0], 0)
    logs = np.log(x[:, 1])
    d, z = np.sqrt(logs.var() + 1e-3), logs - logs.mean()
    expected = ((np.array([1, 0, 0]) - 1 / 3) / d - z[0] * z / 3 / d**3) / x[:, 1]
    np.testing.assert_allclose(gradient[:, 1], expected, rtol=1e-10)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_rows_of_a_product_that_are_not_finite(bad: float) -> None:
    """The condition is asked of the result, element by element."""
    x, w = np.array([[bad, 1.0], [2.0, 3.0]]), np.array([[1.0, -1.0], [1.0, 2.0]])

    def function(x: Any, w: Any) -> Any:
        z = x @ w
        return ops.where(ops.abs(z) < 1e300, z, 0.0).sum()

    by_x, by_w = ndl.grad(function, (0, 1))(x, w)
    np.testing.assert_array_equal(by_x.numpy(), [[0, 0], [0, 3]])
    np.testing.assert_array_equal(by_w.numpy(), [[2, 2], [3, 3]])


def test_a_scalar_condition_over_a_whole_network() -> None:
    w = np.array([[NAN, 1.0], [0.0, INF]])

    def loss(w: Any, ok: Any) -> Any:
        h = ops.layer_norm(np.ones((3, 2)) @ w, np.ones(2), np.ones(2), eps=1e-5)
        error = ops.softmax_loss(ndl.relu(h) @ w, np.array([0, 1, 0]))
        return ops.where(ok, error, 0.0)

    np.testing.assert_array_equal(ndl.grad(loss)(w, Tensor(False)).numpy(), 0)
    assert np.isnan(ndl.grad(loss)(w, Tensor(True)).numpy()).any()


def test_a_broadcast_operand_behind_a_branch() -> None:
    """The sum over what was broadcast comes after the cut."""

    def function(s: Any, x: Any) -> Any:
        return ops.where(np.array([True, False, False]), x / s, 0.0).sum()

    s, x = np.array([2.0]), np.array([6.0, INF, NAN])
    by_s, by_x = ndl.grad(function, (0, 1))(s, x)
    np.testing.assert_array_equal(by_s.numpy(), [-1.5])
    np.testing.assert_array_equal(by_x.numpy(), [0.5, 0, 0])


# relu, maximum and minimum choose as well ---------------------------------------------------------


@MODE
def test_relu_of_what_has_no_derivative(mode: Callable[..., Any]) -> None:
    x = np.array([0.0, 4.0])
    gradient, product, slope, _ = mode(derivatives(lambda x: ndl.relu(ndl.log(x)), 1), [x])
    np.testing.assert_array_equal(gradient.numpy(), [0, 0.25])
    np.testing.assert_allclose(product.numpy(), [0, -1 / 16])
    assert slope.item() == 0.25


@MODE
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: ndl.maximum(ndl.log(x), -1.0), [0, 0.25]),
        (lambda x: ndl.maximum(-1.0, ndl.log(x)), [0, 0.25]),
        (lambda x: ndl.minimum(-ndl.log(x), 9.0), [0, -0.25]),
        (lambda x: ndl.minimum(1 / x, x * 0.5), [0.5, -1 / 16]),
        (lambda x: ndl.log(x).max(), [0, 0.25]),
        (lambda x: (-ndl.log(x)).min(), [0, -0.25]),
    ],
)
def test_what_was_not_the_largest_or_smallest(
    function: Any, expected: Any, mode: Callable[..., Any]
) -> None:
    gradient = mode(lambda x: ndl.grad(lambda x: function(x).sum())(x), [np.array([0.0, 4.0])])
    np.testing.assert_allclose(gradient.numpy(), expected)


# What is true stays -------------------------------------------------------------------------------


@MODE
@pytest.mark.parametrize(
    ("function", "point", "expected"),
    [
        (lambda x: ops.where(x == x, ndl.log(x), 0.0), 0.0, INF),
        (lambda x: ops.where(x >= 0, ndl.sqrt(x), 0.0), 0.0, INF),
        (lambda x: ops.where(x != 0, ndl.log(x), 0.0), NAN, NAN),
        (lambda x: ops.where(x != 0, ndl.tanh(x) * x, 0.0), NAN, NAN),
        (lambda x: ops.where(x < 0, 0.0, ndl.exp(x)), 1000.0, INF),
        (lambda x: ops.where(x == 0, ndl.log(x) * 0.0, 0.0), 0.0, NAN),
        (lambda x: ops.where(x > 0, ndl.log(x), 0.0) + ndl.sqrt(x), 0.0, INF),
        (lambda x: ndl.relu(ndl.log(x)), NAN, NAN),
    ],
)
def test_a_true_infinity_or_nan_stays(
    function: Any, point: float, expected: float, mode: Callable[..., Any]
) -> None:
    gradient = mode(lambda x: ndl.grad(lambda x: function(x).sum())(x), [np.array([point])])
    np.testing.assert_array_equal(gradient.numpy(), [expected])


# What it costs ------------------------------------------------------------------------------------


def arg(*shape: int, dtype: Any = np.float32) -> Node:
    return input_node(TensorType(shape, np.dtype(dtype)))


def count_after(y: Node, xs: list[Node], others: list[Node], name: str) -> int:
    graph = Graph([*xs, *others], [y, *[ops.grad(y, x) for x in xs]])
    return Lower().run(Autodiff().run(graph)).count(name)


def test_a_training_step_has_no_cut() -> None:
    """Each relu has its own `where`, the loss three (its value, its VJP, that of log_softmax)."""
    x, keep, labels = arg(8, 6), arg(8, 6, dtype=bool), arg(8, dtype=np.int64)
    scale, shift = arg(6), arg(6)
    weights = [arg(6, 6) for _ in range(3)]
    h = x
    for i, w in enumerate(weights):
        norm = ops.batch_norm if i % 2 else ops.layer_norm
        h = h + ops.dropout(ops.relu(norm(h @ w, scale, shift, eps=1e-5)), keep, p=0.5)
    loss = ops.softmax_loss(ops.relu(h) @ weights[0], labels)
    xs = [*weights, scale, shift]
    others = [x, keep, labels]
    assert count_after(loss, xs, others, "where") == 3 + 1 + 3
    for name in ("not_equal", "logical_not", "less_equal"):
        assert count_after(loss, xs, others, name) == 0


def test_a_chain_that_only_moves_numbers_needs_no_cut() -> None:
    x, c = arg(2, 3), arg(3, 2, dtype=bool)
    y = ops.sum(ops.where(c, ops.permute(-(x + 1.0) * 3.0 / 2.0), 0.0))
    # The where, and that of its VJP.
    assert count_after(y, [x], [c], "where") == 2


def test_the_cut_is_one_where_for_each_op_that_may_leak() -> None:
    x, c = arg(3), arg(3, dtype=bool)
    y = ops.sum(ops.where(c, ops.log(ops.sqrt(x)) + x, 0.0))
    assert count_after(y, [x], [c], "where") == 2 + 2


def test_a_long_chain_behind_a_branch() -> None:
    x, c = arg(2), arg(2, dtype=bool)
    node = x
    for _ in range(20_000):
        node = ops.sqrt(node + 1.0)
    y = ops.sum(ops.where(c, node, 0.0))
    # The forward one, its VJP, and a cut for each root.
    assert count_after(y, [x], [c], "where") == 2 + 20_000

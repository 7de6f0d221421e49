"""Kernels on extreme inputs, against NumPy's own functions and values worked out by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Node, TensorType, input_node
from needle_ir.ops import PRIMITIVES, build
from needle_ir.runtime import (
    KERNELS,
    VIEWS,
    MissingKernelError,
    evaluate,
    make_kernel,
    products,
)

Array = np.ndarray[Any, Any]
FLOATS = [np.float16, np.float32, np.float64]
INF, NAN = math.inf, math.nan
EXTREMES = [0.0, -0.0, 1.0, -1.0, 0.5, 1e4, -1e4, INF, -INF, NAN, 6e-8, 1e-3]

UNARY = {
    "negative": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "logical_not": np.logical_not,
    "relu": lambda x: np.where(np.isnan(x) | (x > 0), x, np.zeros_like(x)),
}
BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.true_divide,
    "power": np.power,
    "maximum": lambda a, b: np.where(np.isnan(a) | (a >= b), a, b),
    "minimum": lambda a, b: np.where(np.isnan(a) | (a <= b), a, b),
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
}
REDUCTIONS = {"sum": np.sum, "max": np.max, "min": np.min}
# Of equal operands, which zero a kernel gives is not defined: NumPy's own choice varies.
ANY_ZERO = {"relu", "maximum", "minimum", "max", "min"}


def leaf(array: Array) -> Node:
    return input_node(TensorType(array.shape, array.dtype))


def node_for(op: str, *arrays: Array, **attrs: Any) -> Node:
    return build(PRIMITIVES[op], [leaf(x) for x in arrays], attrs)


def run(op: str, *arrays: Array, **attrs: Any) -> Array:
    return evaluate(node_for(op, *arrays, **attrs), list(arrays))


def run_into(out: Array, node: Node, *arrays: Array) -> None:
    with np.errstate(all="ignore"):
        make_kernel(node)(*arrays, out)


def assert_same(actual: Array, expected: Any, signs: bool = True) -> None:
    """The same dtype, shape, numbers, NaN and infinities, and signs of zeros."""
    expected = np.asarray(expected)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(actual, expected)
    if signs and actual.dtype.kind == "f":
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual[numbers]), np.signbit(expected[numbers]))


# Extreme inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("dtype", FLOATS)
def test_unary(op: str, dtype: Any) -> None:
    x = np.array(EXTREMES, dtype)
    with np.errstate(all="ignore"):
        expected = UNARY[op](x)
    assert_same(run(op, x), expected, signs=op not in ANY_ZERO)


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("dtype", FLOATS)
def test_binary(op: str, dtype: Any) -> None:
    """Each extreme with each."""
    a, b = (np.ascontiguousarray(x) for x in np.meshgrid(*[np.array(EXTREMES, dtype)] * 2))
    with np.errstate(all="ignore"):
        expected = BINARY[op](a, b)
    assert_same(run(op, a, b), expected, signs=op not in ANY_ZERO)


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_reductions(op: str, dtype: Any) -> None:
    """Each extreme in one row with each."""
    x = np.stack(np.meshgrid(*[np.array(EXTREMES, dtype)] * 2), axis=-1)
    for axes in [-1, (0,), (0, 2), None, ()]:
        for keepdims in [False, True]:
            axis = tuple(axes) if isinstance(axes, tuple) else axes
            with np.errstate(all="ignore"):
                expected = np.asarray(REDUCTIONS[op](x, axis=axis, keepdims=keepdims))
            actual = run(op, x, axes=axes, keepdims=keepdims)
            assert_same(actual, expected, signs=op not in ANY_ZERO)


def test_no_kernel_is_left_out() -> None:
    elsewhere = {"where", "cast", "matmul", *DRAWS, *VIEWS}
    elsewhere |= {"unslice", "gather", "scatter_add", "concatenate", "pack", "fused"}
    # In test_exponentials.py:
    elsewhere |= {"logsumexp", "softmax", "log_softmax", "weighted_logsumexp", "weighted_softmax"}
    elsewhere |= {"sigmoid", "softplus", "logaddexp", "log1mexp"}
    assert {*UNARY, *BINARY, *REDUCTIONS, *elsewhere} == KERNELS.keys()


ROWS = [
    ([-INF, -INF], -INF),
    ([-INF], -INF),
    ([INF, 0.0], INF),
    ([INF, -INF], INF),
    ([INF, INF], INF),
    ([NAN, 0.0], NAN),
    ([NAN, INF], NAN),
    ([NAN, -INF], NAN),
    ([-INF, 3.0], 3.0),
    ([1000.0, 999.0], 1000 + math.log1p(math.exp(-1))),
    ([-1000.0, -999.0], -999 + math.log1p(math.exp(-1))),
    ([1e4, -1e4], 1e4),
    ([-1e4, -1e4, -1e4], -1e4 + math.log(3)),
    ([0.0], 0.0),
    ([0.0, -0.0], math.log(2)),
    ([-100.0, 0.0], math.exp(-100)),
]


@pytest.mark.parametrize(("row", "expected"), ROWS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_logsumexp(row: list[float], expected: float, dtype: Any) -> None:
    x = np.array(row, dtype)
    result = run("logsumexp", x, axes=None, keepdims=False)
    assert (result.shape, result.dtype) == ((), np.dtype(dtype))
    np.testing.assert_allclose(float(result), expected, rtol=np.finfo(dtype).eps, atol=1e-43)


@pytest.mark.parametrize("axes", [0, (), None])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_of_one_row_does_not_see_the_others(axes: Any, keepdims: bool) -> None:
    x = np.array([[NAN, 1.0, -INF, 1e308], [INF, 2.0, -INF, 1e308]])
    result = run("logsumexp", x, axes=axes, keepdims=keepdims)
    if axes == ():
        expected = x
    elif axes is None:
        expected = np.full((1, 1) if keepdims else (), NAN)
    else:
        expected = np.array([NAN, 2 + math.log1p(math.exp(-1)), -INF, 1e308])
        expected = expected[None, :] if keepdims else expected
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-15)


def test_logsumexp_of_a_scalar() -> None:
    for value in [3.0, -INF, INF, NAN]:
        np.testing.assert_array_equal(
            run("logsumexp", np.array(value), axes=(), keepdims=True), value
        )


# where --------------------------------------------------------------------------------------------


def bits(array: Array) -> Array:
    return array.view(f"u{array.dtype.itemsize}")


@pytest.mark.parametrize("dtype", [*FLOATS, np.bool_, np.int8, np.uint16, np.int64])
@pytest.mark.parametrize("zeros", ["constant", "negative constant", "operand", None])
def test_where_gives_the_very_bits(dtype: Any, zeros: str | None) -> None:
    """NaN with its payload, infinities, signed zeros; also beside a constant of zeros."""
    if np.dtype(dtype).kind == "f":
        a = np.array([*EXTREMES, -NAN, np.nextafter(np.zeros(1, dtype), dtype(1))[0]], dtype)
        bits(a)[-2] |= 5
    else:
        a = np.array([0, 1, 1, 0, 100, 127, 1], dtype)
    b = np.roll(a, 3)
    if zeros is not None:
        b[...] = -0.0 if zeros == "negative constant" and b.dtype.kind == "f" else 0
    for condition in [np.arange(len(a)) % 2 == 0, np.zeros(len(a), bool), np.ones(len(a), bool)]:
        second = leaf(b) if zeros in ("operand", None) else ops.as_constant(b)
        node = ops.where(leaf(condition), leaf(a), second)
        result = evaluate(node, [condition, a, b])
        expected = [y if c else z for c, y, z in zip(condition, bits(a), bits(b), strict=True)]
        np.testing.assert_array_equal(bits(result), expected)


@pytest.mark.parametrize(
    ("condition", "a", "b"),
    [((2, 3), (3,), ()), ((3,), (2, 1), (1, 3)), ((), (2, 3), (2, 1)), ((2, 1), (), (3,))],
)
@pytest.mark.parametrize("zero", [True, False])
def test_where_broadcasts(condition: Any, a: Any, b: Any, zero: bool) -> None:
    choose = np.arange(math.prod(condition)).reshape(condition) % 2 == 0
    x = 1.0 + np.arange(math.prod(a)).reshape(a)
    y = np.zeros(b) if zero else 10.0 + np.arange(math.prod(b)).reshape(b)
    node = ops.where(leaf(choose), leaf(x), ops.as_constant(y) if zero else leaf(y))
    np.testing.assert_array_equal(evaluate(node, [choose, x, y]), np.where(choose, x, y))


@pytest.mark.parametrize(
    "alias", ["a", "b", "both", "condition", "condition and a", "condition and b", "all"]
)
def test_where_may_be_given_any_operand_as_its_result(alias: str) -> None:
    """All combinations of three bools, so that the condition can be the result too."""
    values = np.array([[c, a, b] for c in (0, 1) for a in (0, 1) for b in (0, 1)], bool)
    condition, a, b = (np.ascontiguousarray(column) for column in values.T)
    if alias in ("both", "all"):
        b = a
    if alias in ("condition and a", "all"):
        a = condition
    if alias in ("condition and b", "all"):
        b = condition
    expected = [y if c else z for c, y, z in zip(condition, a, b, strict=True)]
    out = {"a": a, "b": b, "both": a}.get(alias, condition)
    run_into(out, ops.where(leaf(condition), leaf(a), leaf(b)), condition, a, b)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("alias", ["a", "condition", "condition and a"])
def test_where_beside_zeros_may_be_given_any_operand_as_its_result(alias: str) -> None:
    condition, a = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    if alias == "condition and a":
        a = condition
    zero = np.zeros((), bool)
    expected = [y if c else False for c, y in zip(condition, a, strict=True)]
    out = a if alias == "a" else condition
    run_into(out, ops.where(leaf(condition), leaf(a), ops.as_constant(zero)), condition, a, zero)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("alias", ["a", "b", "both"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_where_in_place_of_floats(alias: str, dtype: Any) -> None:
    condition = np.arange(len(EXTREMES)) % 2 == 0
    a = np.array(EXTREMES, dtype)
    b = a if alias == "both" else a[::-1].copy()
    expected = np.where(condition, a, b)
    out = b if alias == "b" else a
    run_into(out, ops.where(leaf(condition), leaf(a), leaf(b)), condition, a, b)
    assert_same(out, expected)


# In place -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [*UNARY, *BINARY])
@pytest.mark.parametrize("position", [0, 1])
def test_an_elementwise_kernel_may_be_given_an_operand_as_its_result(
    op: str, position: int
) -> None:
    """Bool operands for what gives bools, so that operand and result are of one type."""
    count = 1 if op in UNARY else 2
    operands = [np.array(EXTREMES), np.roll(EXTREMES, 5)][:count]
    if node_for(op, *operands).dtype == np.bool_:
        operands = [np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)][:count]
    node = node_for(op, *operands)
    expected = evaluate(node, [x.copy() for x in operands])
    out = operands[min(position, count - 1)]
    run_into(out, node, *operands)
    assert_same(out, expected)
    twice = [out] * count
    expected = evaluate(node, [x.copy() for x in twice])
    run_into(out, node, *twice)
    assert_same(out, expected)


# cast, matmul, views, draws -----------------------------------------------------------------------


@pytest.mark.parametrize("target", ["bool", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("source", FLOATS)
def test_cast_of_numbers_that_fit(source: Any, target: str) -> None:
    x = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.75, 1e4], source)
    by_hand = {
        "bool": [False, False, True, True, True, True, True],
        "int64": [0, 0, 1, -1, 0, -2, 10000],
    }.get(target, x.tolist())
    assert_same(run("cast", x, dtype=target), np.array(by_hand, target))


@pytest.mark.parametrize("target", FLOATS)
def test_cast_of_extremes_to_floats(target: Any) -> None:
    x = np.array([INF, -INF, NAN, 1e300, -1e300, 1e-300])
    huge, tiny = (1e300, 1e-300) if target is np.float64 else (INF, 0.0)
    assert_same(run("cast", x, dtype=target), np.array([INF, -INF, NAN, huge, -huge, tiny], target))


def test_cast_of_nan_to_bool_and_of_wide_to_narrow_integers() -> None:
    assert run("cast", np.array([NAN, INF]), dtype=bool).tolist() == [True, True]
    assert run("cast", np.array([257, -1, 128]), dtype="int8").tolist() == [1, -1, -128]


def test_matmul_of_extremes() -> None:
    a = np.array([[INF, 1.0], [NAN, 0.0], [1e4, -1e4]])
    b = np.array([[1.0, 0.0], [2.0, -INF]])
    expected = [[INF, NAN], [NAN, NAN], [-1e4, INF]]
    np.testing.assert_array_equal(run("matmul", a, b), expected)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("inner", [40, 1])
def test_matmul_of_transposed_operands_is_the_product_of_views(
    transpose_a: bool, transpose_b: bool, batch: tuple[int, ...], inner: int
) -> None:
    numbers = np.random.default_rng(0)
    a = numbers.standard_normal((*batch, *((inner, 30) if transpose_a else (30, inner))))
    b = numbers.standard_normal((*batch, *((20, inner) if transpose_b else (inner, 20))))
    left = np.swapaxes(a, -1, -2) if transpose_a else a
    right = np.swapaxes(b, -1, -2) if transpose_b else b
    result = run("matmul", a, b, transpose_a=transpose_a, transpose_b=transpose_b)
    np.testing.assert_array_equal(result, left @ right, strict=True)


@pytest.mark.parametrize(
    ("shape", "dtype", "core", "is_copied"),
    [
        ((100, 50, 100), np.float32, "SkylakeX", True),
        ((32, 1000, 31), np.float32, "SkylakeX", True),
        ((31, 9, 9), np.float32, "SkylakeX", False),
        ((200, 100, 100), np.float32, "SkylakeX", False),
        ((100, 50, 100), np.float64, "SkylakeX", False),
        ((100, 50, 100), np.float32, "Haswell", False),
        ((100, 50, 100), np.float32, "", False),
    ],
)
def test_the_right_operand_of_a_small_product(
    shape: tuple[int, int, int],
    dtype: type,
    core: str,
    is_copied: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "core_name", lambda: core)
    rows, inner, columns = shape
    a, b = (np.random.default_rng(0).random((n, inner)).astype(dtype) for n in (rows, columns))
    node = node_for("matmul", a, b, transpose_b=True)
    assert (make_kernel(node) is products._copied_right) == is_copied
    np.testing.assert_allclose(evaluate(node, [a, b]), a @ b.T, rtol=1e-5)


def test_matmul_over_nothing_is_zero() -> None:
    np.testing.assert_array_equal(run("matmul", np.ones((2, 0)), np.ones((0, 3))), np.zeros((2, 3)))
    np.testing.assert_array_equal(run("sum", np.ones((2, 0)), axes=1, keepdims=False), [0, 0])


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_moves_no_data_and_its_kernel_copies(name: str) -> None:
    x = np.arange(6.0).reshape(1, 6)
    attrs = {
        "reshape": {"shape": (3, 2)},
        "transpose": {"permutation": (1, 0)},
        "broadcast_to": {"shape": (2, 6)},
        "unpack": {"start": 1, "shape": (2, 2)},
        "slice": {"starts": (0, 4), "lengths": (1, 3), "steps": (1, -2)},
    }[name]
    node = node_for(name, x, **attrs)
    look = VIEWS[name](node)(x)
    assert np.shares_memory(look, x)
    copy = evaluate(node, [x])
    assert not np.shares_memory(copy, x)
    assert_same(copy, look)


def test_a_slice_of_an_array_without_axes_is_a_view() -> None:
    x = np.array(1.0)
    node = node_for("slice", x, starts=(), lengths=(), steps=())
    assert np.shares_memory(VIEWS["slice"](node)(x), x)


DRAWS: dict[str, tuple[dict[str, Any], Callable[[np.random.RandomState], Any]]] = {
    "random_uniform": (
        {"low": 2.0, "high": 5.0, "dtype": "float32"},
        lambda generator: (generator.rand(3, 4) * 3.0 + 2.0).astype(np.float32),
    ),
    "random_normal": (
        {"mean": 2.0, "std": 5.0, "dtype": "float32"},
        lambda generator: (generator.randn(3, 4) * 5.0 + 2.0).astype(np.float32),
    ),
    "random_bernoulli": ({"p": 0.7}, lambda generator: generator.rand(3, 4) <= 0.7),
}


@pytest.mark.parametrize("op", DRAWS)
def test_draws_follow_numpys_global_generator(op: str) -> None:
    attrs, expected = DRAWS[op]
    state = np.random.get_state()
    try:
        np.random.seed(11)
        first, second = run(op, shape=(3, 4), **attrs), run(op, shape=(3, 4), **attrs)
        generator = np.random.RandomState(11)
        for actual in (first, second):
            assert_same(actual, expected(generator))
    finally:
        np.random.set_state(state)


# What has no kernel -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            ops.linear(*[leaf(np.ones((2, 2)))] * 3),
            "linear (f64[2,2]): open it with the lower pass",
        ),
        (ops.variable(leaf(np.ones(3))), "variable (f64[3]): expand it with the autodiff pass"),
        (ops.grad(*[leaf(np.ones(3))] * 2), "grad (f64[3]): expand it with the autodiff pass"),
    ],
)
def test_a_missing_kernel_says_what_to_do(node: Node, message: str) -> None:
    with pytest.raises(MissingKernelError) as caught:
        evaluate(node, [])
    assert str(caught.value) == f"no kernel for {message} first"


def test_a_backend_without_a_row() -> None:
    table = {name: make for name, make in KERNELS.items() if name != "exp"}
    node = ops.exp(leaf(np.ones(2)))
    with pytest.raises(MissingKernelError, match=r"no kernel for exp \(f64\[2\]\): add its row"):
        make_kernel(node, table)
    out = np.empty(2)
    make_kernel(node, {"exp": lambda node: lambda x, out: np.copyto(out, 7)})(np.ones(2), out)
    assert out.tolist() == [7, 7]


def test_a_missing_kernel_is_a_lookup_error() -> None:
    assert issubclass(MissingKernelError, LookupError)

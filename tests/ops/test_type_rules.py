"""Shapes and dtypes: what each op refuses and in which words, and what dtype it gives."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    DTypeError,
    OperandValueError,
    OpError,
    ShapeError,
    TensorType,
    as_dtype,
    input_node,
)
from needle_ir.ops import PRIMITIVES, build, composite
from needle_ir.ops.shape import broadcast_shapes, normalize_axes

FLOATS = [np.float16, np.float32, np.float64]
SIGNED = [np.int8, np.int16, np.int32, np.int64]
UNSIGNED = [np.uint8, np.uint16, np.uint32, np.uint64]
DTYPES = [np.dtype(x) for x in [np.bool_, *SIGNED, *UNSIGNED, *FLOATS]]

FUNCTIONS = ["exp", "log", "log1p", "expm1", "sqrt", "tanh"]
UNARY = ["negative", "abs", "sign", "logical_not", *FUNCTIONS]
COMPARISONS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
ARITHMETIC = ["add", "subtract", "multiply", "maximum", "minimum"]
BINARY = [*ARITHMETIC, "divide", "power", *COMPARISONS]


def leaf(*shape: int, dtype: Any = np.float32) -> Any:
    return input_node(TensorType(shape, np.dtype(dtype)))


# What is refused ----------------------------------------------------------------------------------

x23, x3, x4, scalar = leaf(2, 3), leaf(3), leaf(4), leaf()
ints, bools = leaf(2, 3, dtype=np.int32), leaf(2, 3, dtype=np.bool_)

BAD_SHAPES = [
    (lambda: x23 + x4, "add(f32[2,3], f32[4])", "3 and 4 differ and neither is 1"),
    (lambda: ops.where(bools, x4, x23), "where(bool[2,3], f32[4], f32[2,3])", "3 and 4 differ"),
    (lambda: x23 < leaf(3, 3), "less(f32[2,3], f32[3,3])", "(2, 3) and (3, 3) do not broadcast"),
    (lambda: x23 @ x4, "matmul(f32[2,3], f32[4])", "inner dimensions 3 and 4 differ"),
    (lambda: x23 @ x23, "matmul(f32[2,3], f32[2,3])", "inner dimensions 3 and 2 differ"),
    (lambda: scalar @ x3, "matmul(f32[], f32[3])", "multiply with * instead"),
    (lambda: leaf(2, 4, 3) @ leaf(3, 3, 4), "matmul(f32[2,4,3], f32[3,3,4])", "do not broadcast"),
    (lambda: ops.sum(x23, 2), "sum(f32[2,3])", "axis 2 is out of range for 2 axes"),
    (lambda: ops.max(x23, (0, -3)), "max(f32[2,3])", "axis -3 is out of range for 2 axes"),
    (lambda: ops.min(x23, (0, -2)), "min(f32[2,3])", "axes (0, -2) name an axis twice"),
    (lambda: ops.sum(x23, 1.0), "sum(f32[2,3])", "integers are needed, not 1.0"),
    (lambda: ops.sum(x23, (0, "a")), "sum(f32[2,3])", "integers are needed, not (0, 'a')"),
    (lambda: ops.max(leaf(2, 0), 1), "max(f32[2,0])", "no largest or smallest of no elements"),
    (lambda: ops.logsumexp(leaf(0)), "logsumexp(f32[0])", "no logsumexp of no elements"),
    (lambda: ops.reshape(x23, (4, 2)), "reshape(f32[2,3])", "6 elements do not fill the shape"),
    (lambda: ops.reshape(x23, (4, -1)), "reshape(f32[2,3])", "do not fill the shape (4, -1)"),
    (lambda: ops.reshape(x23, (-1, -1)), "reshape(f32[2,3])", "do not fill the shape (-1, -1)"),
    (lambda: ops.reshape(x23, (-2, -3)), "reshape(f32[2,3])", "do not fill the shape (-2, -3)"),
    (lambda: ops.reshape(leaf(0), (0, -1)), "reshape(f32[0])", "do not fill the shape (0, -1)"),
    (lambda: ops.reshape(x23, (3.0, 2)), "reshape(f32[2,3])", "integers are needed, not (3.0, 2)"),
    (lambda: ops.permute(x23, (0, 0)), "transpose(f32[2,3])", "(0, 0) is no permutation"),
    (lambda: ops.permute(x23, (0, 2)), "transpose(f32[2,3])", "(0, 2) is no permutation"),
    (lambda: ops.permute(x23, (0,)), "transpose(f32[2,3])", "no permutation of the 2 axes"),
    (lambda: ops.broadcast_to(x23, (3,)), "broadcast_to(f32[2,3])", "does not broadcast to (3,)"),
    (lambda: ops.broadcast_to(x23, (2, 4)), "broadcast_to(f32[2,3])", "(2, 3) and (2, 4) do not"),
    (lambda: ops.broadcast_to(x3, (-1, 3)), "broadcast_to(f32[3])", "a length below 0"),
    (lambda: ops.broadcast_to(leaf(1), (-1,)), "broadcast_to(f32[1])", "a length below 0"),
    (
        lambda: ops.random_uniform((-1,), 0, 1, "float32"),
        "random_uniform()",
        "shape (-1,) has a length below 0",
    ),
    (
        lambda: ops.random_bernoulli((-1,), 0.5),
        "random_bernoulli()",
        "shape (-1,) has a length below 0",
    ),
    (lambda: ops.grad(x3, x23, x4), "grad(f32[3], f32[2,3], f32[4])", "cotangent has shape (4,)"),
    (lambda: ops.known(x3, x4), "known(f32[3], f32[4])", "the value is f32[4], the expression"),
    (
        lambda: ops.batch_norm(x23, x4, x4, eps=1e-5),
        "batch_norm(f32[2,3], f32[4], f32[4])",
        "weight and bias of one shape (d,), not (2, 3), (4,) and (4,)",
    ),
    (
        lambda: ops.layer_norm(x23, x4, x4, eps=1e-5),
        "layer_norm(f32[2,3], f32[4], f32[4])",
        "layer_norm over (3,) features",
    ),
    (
        lambda: ops.softmax_loss(x23, leaf(3, dtype=np.int64)),
        "softmax_loss(f32[2,3], i64[3])",
        "labels of shape (n,), not (2, 3) and (3,)",
    ),
    (lambda: ops.linear(x23, leaf(4, 2), leaf(2)), "linear(f32[2,3], f32[4,2], f32[2])", "3 and 4"),
]

BAD_DTYPES = [
    (lambda: ops.where(ints, x23, x23), "where(i32[2,3], f32[2,3], f32[2,3])", "astype(bool)"),
    (lambda: -bools, "negative(bool[2,3])", "cast them to a number with astype"),
    (lambda: ops.sign(bools), "sign(bool[2,3])", "cast them to a number with astype"),
    (lambda: bools - bools, "subtract(bool[2,3], bool[2,3])", "cast them to a number"),
    (lambda: bools**True, "power(bool[2,3], bool[])", "cast them to a number with astype"),
    (lambda: x23 + "1", "add(f32[2,3], '1')", "type str is not a number"),
    (lambda: x23 * None, "multiply(f32[2,3], NoneType)", "type NoneType is not a number"),
    (lambda: 1j / x23, "divide(1j, f32[2,3])", "type complex is not a number"),
    (lambda: x23 @ np.array(["a"]), "matmul(f32[2,3], ndarray)", "type ndarray is not a number"),
    (lambda: ops.cast(x23, "complex64"), "cast(f32[2,3])", "dtype complex64 is not supported"),
    (lambda: ops.cast(x23, "S4"), "cast(f32[2,3])", "not supported; the dtypes are bool, int8"),
    (lambda: ops.cast(x23, "nonsense"), "cast(f32[2,3])", "'nonsense' is not a dtype"),
    (lambda: ops.random_normal((2,), 0, 1, "int32"), "random_normal()", "float dtype, not int32"),
    (lambda: ops.grad(ints, x23), "grad(i32[2,3], f32[2,3])", "int32 can not be differentiated"),
    (lambda: ops.grad(x23, ints), "grad(f32[2,3], i32[2,3])", "int32 can not be differentiated by"),
    (
        lambda: ops.grad(x3, x23, leaf(3, dtype=np.float64)),
        "grad(f32[3], f32[2,3], f64[3])",
        "the cotangent is float64, the output float32",
    ),
    (lambda: ops.add(1, 2.0), "add(int, float)", "one operand at least must be a tensor"),
]


def check_message(error: OpError, call: str, reason: str) -> None:
    message = str(error)
    assert message.startswith(f"{call}: ")
    assert reason in message


@pytest.mark.parametrize(
    ("expression", "call", "reason"), BAD_SHAPES, ids=[row[1] for row in BAD_SHAPES]
)
def test_a_shape_error_says_what_is_wrong(
    expression: Callable[[], Any], call: str, reason: str
) -> None:
    with pytest.raises(ShapeError) as caught:
        expression()
    check_message(caught.value, call, reason)
    assert re.search(r"\(at test_type_rules\.py:\d+ in <lambda>\)$", str(caught.value))


@pytest.mark.parametrize(
    ("expression", "call", "reason"), BAD_DTYPES, ids=[row[1] for row in BAD_DTYPES]
)
def test_a_dtype_error_says_what_is_wrong(
    expression: Callable[[], Any], call: str, reason: str
) -> None:
    with pytest.raises(DTypeError) as caught:
        expression()
    check_message(caught.value, call, reason)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_probability_lies_between_0_and_1(p: float) -> None:
    with pytest.raises(OperandValueError) as caught:
        ops.random_bernoulli((2,), p)
    check_message(caught.value, "random_bernoulli()", f"p is {p}; it must lie in [0, 1]")


def test_an_error_names_the_line_of_the_user() -> None:
    def forward(x: Any) -> Any:
        hidden = x * 2
        return hidden @ x

    with pytest.raises(ShapeError) as caught:
        forward(x23)
    line = forward.__code__.co_firstlineno + 2
    assert str(caught.value).endswith(f"(at test_type_rules.py:{line} in forward)")


def test_an_error_inside_a_composite_names_both() -> None:
    @composite()
    def squeeze(x: Any) -> Any:
        return ops.reshape(x, (4,))

    with pytest.raises(ShapeError) as caught:
        squeeze(x23)
    check_message(caught.value, "squeeze(f32[2,3])", "reshape(f32[2,3]): 6 elements")
    line = test_an_error_inside_a_composite_names_both.__code__.co_firstlineno + 6
    assert f"(at test_type_rules.py:{line} in test_an_error_inside" in str(caught.value)


def test_errors_are_also_of_pythons_own_kinds() -> None:
    with pytest.raises(ValueError, match="differ"):
        x23 + x4
    with pytest.raises(TypeError, match="not a number"):
        x23 + "1"


# What is allowed ----------------------------------------------------------------------------------


def test_integers_of_numpy_are_as_good_as_pythons() -> None:
    """The attributes are the same, so the nodes are structurally equal and print alike."""
    one, two, three = np.int64(1), np.uint8(2), np.int32(3)
    pairs = [
        (ops.sum(x23, one), ops.sum(x23, 1)),
        (ops.sum(x23, (one, 0)), ops.sum(x23, (0, 1))),
        (ops.reshape(x23, (three, two)), ops.reshape(x23, (3, 2))),
        (ops.reshape(x23, [three, -1]), ops.reshape(x23, (3, 2))),
        (ops.permute(x23, np.array([1, 0])), ops.permute(x23)),
        (ops.broadcast_to(x3, (two, three)), ops.broadcast_to(x3, (2, 3))),
    ]
    for a, b in pairs:
        assert a.attrs == b.attrs
        assert {type(n) for v in a.attrs.values() if isinstance(v, tuple) for n in v} == {int}


@pytest.mark.parametrize(
    ("axes", "expected"),
    [(None, (0, 1, 2)), (-1, (2,)), ((2, 0), (0, 2)), ((), ()), ([-3, 1], (0, 1))],
)
def test_axes_are_sorted_and_counted_from_0(axes: Any, expected: tuple[int, ...]) -> None:
    assert normalize_axes(axes, 3) == expected


SHAPES = [(), (1,), (3,), (0,), (2, 1), (2, 3), (1, 3), (2, 0), (4, 2, 3), (4, 1, 1), (5, 3)]


@pytest.mark.parametrize("a", SHAPES)
def test_shapes_broadcast_as_in_numpy(a: tuple[int, ...]) -> None:
    for b in SHAPES:
        try:
            expected = np.broadcast_shapes(a, b)
        except ValueError:
            with pytest.raises(ShapeError, match="do not broadcast"):
                broadcast_shapes(a, b)
        else:
            assert broadcast_shapes(a, b) == expected


# The dtype of the result --------------------------------------------------------------------------


def numpy_result(function: Callable[..., Any], *operands: Any) -> np.dtype[Any] | None:
    """The dtype that NumPy's own function gives; None where it refuses the operands."""
    with np.errstate(all="ignore"):
        try:
            return np.dtype(np.asarray(function(*operands)).dtype)
        except (TypeError, OverflowError, ValueError):
            return None


def our_result(name: str, *operands: Any) -> np.dtype[Any] | None:
    """The dtype that our op gives for leaves in the place of arrays."""
    inputs = [leaf(*x.shape, dtype=x.dtype) if isinstance(x, np.ndarray) else x for x in operands]
    try:
        return np.dtype(build(PRIMITIVES[name], inputs, {}).dtype)
    except DTypeError:
        return None


def assert_as_numpy(name: str, *operands: Any) -> None:
    ours, numpys = our_result(name, *operands), numpy_result(getattr(np, name), *operands)
    assert ours == numpys, f"{name} of {operands}: {ours}, NumPy {numpys}"


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_node(name: str, dtype: Any) -> None:
    assert_as_numpy(name, np.ones(2, dtype))


@pytest.mark.parametrize("name", [*BINARY, "matmul"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_nodes(name: str, dtype: Any) -> None:
    for other in DTYPES:
        if name == "power" and dtype == other == np.bool_:
            continue  # NumPy computes bool ** bool as int8; we refuse it, as it refuses bool - bool
        assert_as_numpy(name, np.ones(2, dtype), np.ones(2, other))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_node_and_a_scalar(name: str, dtype: Any) -> None:
    """Python's scalars follow the node's dtype where its kind allows; NumPy's have their own."""
    array = np.ones(2, dtype)
    for scalar in [True, 1, 100, 2.5, *[dtype.type(1) for dtype in DTYPES]]:
        if name == "power" and dtype == np.bool_ and np.asarray(scalar).dtype == np.bool_:
            continue
        assert_as_numpy(name, array, scalar)
        assert_as_numpy(name, scalar, array)


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize(
    ("dtype", "scalar"),
    [(np.int8, 128), (np.int8, -129), (np.uint8, -1), (np.uint8, 256), (np.int64, 2**63)],
)
def test_a_python_int_that_does_not_fit_is_refused(name: str, dtype: Any, scalar: int) -> None:
    assert_as_numpy(name, np.ones(2, dtype), scalar)
    short = TensorType((2,), np.dtype(dtype))
    message = re.escape(f"{name}({short}, {scalar}): {scalar} does not fit the other operand")
    with pytest.raises(DTypeError, match=message):
        build(PRIMITIVES[name], [input_node(short), scalar], {})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_branches_of_where(dtype: Any) -> None:
    condition = np.array([True, False])
    for other in [True, 1, 2.5, *[np.ones(2, d) for d in DTYPES], *[d.type(1) for d in DTYPES]]:
        assert_as_numpy("where", condition, np.ones(2, dtype), other)
        assert_as_numpy("where", condition, other, np.ones(2, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reductions(dtype: Any) -> None:
    array = np.ones((2, 3), dtype)
    node = leaf(2, 3, dtype=dtype)
    assert ops.sum(node, 1).dtype == array.sum(1).dtype
    assert ops.max(node, 1).dtype == array.max(1).dtype
    assert ops.min(node, 1).dtype == array.min(1).dtype
    assert ops.mean(node, 1).dtype == array.mean(1).dtype
    assert ops.logsumexp(node, 1).dtype == np.log(np.exp(array).max(1)).dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_moves_elements_keeps_the_dtype(dtype: Any) -> None:
    node = leaf(2, 3, dtype=dtype)
    moved = [ops.reshape(node, (6,)), ops.permute(node), ops.broadcast_to(node, (2, 2, 3))]
    assert {x.dtype for x in [*moved, ops.relu(node)]} == {np.dtype(dtype)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_can_be_named_in_many_ways(dtype: Any) -> None:
    ways = [dtype, dtype.name, dtype.type, dtype.str, dtype.newbyteorder("S")]
    assert {as_dtype(way) for way in ways} == {dtype}
    assert {as_dtype(way).byteorder for way in ways} <= {"=", "|"}


@pytest.mark.parametrize("dtype", ["complex64", "O", "U3", "datetime64[s]", "V8"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(DTypeError, match="is not supported; the dtypes are bool, int8, int16"):
        as_dtype(dtype)


def test_a_python_float_alone_is_float32() -> None:
    assert ops.as_constant(1.5).dtype == np.float32
    assert ops.as_constant(1).dtype == np.int64
    assert ops.as_constant(np.float64(1.5)).dtype == np.float64


def test_flags_of_a_product_that_are_off_are_not_written() -> None:
    a, b = leaf(2, 3), leaf(3, 4)
    assert dict(ops.matmul(a, b, transpose_a=False).attrs) == {}
    assert dict(ops.matmul(a, a, transpose_b=True).attrs) == {"transpose_b": True}
    assert ops.matmul(a, a, transpose_a=1).attrs == ops.matmul(a, a, transpose_a=True).attrs


@pytest.mark.parametrize(
    ("a", "b", "flags", "message"),
    [
        ((2, 3), (3, 4), {"transpose_a": True}, r"inner dimensions 2 and 3 differ: .*\(3, 2\)"),
        ((3,), (3, 4), {"transpose_a": True}, r"transpose_a needs an operand with 2 axes or more"),
        ((2, 3), (3,), {"transpose_b": True}, r"transpose_b needs .*, not \(3,\)"),
    ],
)
def test_flags_of_a_product_that_do_not_fit(
    a: tuple[int, ...], b: tuple[int, ...], flags: dict[str, bool], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        ops.matmul(leaf(*a), leaf(*b), **flags)

"""The tensor as a user meets it: made, calculated with, read, and refused where it does not fit."""

import copy
import itertools
import operator
import pickle

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import DTypeError, ShapeError, Tensor
from needle_ir.tensor import AllEqual, AnyUnequal

DTYPES = ("bool", "uint8", "int8", "int32", "int64", "float16", "float32", "float64")
FLOATS = ("float16", "float32", "float64")


def arrays(*dtypes, seed=0):
    """Small positive arrays of shape (2, 3)."""
    rng = np.random.RandomState(seed)
    return [rng.randint(1, 4, (2, 3)).astype(dtype) for dtype in dtypes]


def same(tensor, expected):
    """Equal in kind, dtype, shape and every value; `expected` is what NumPy gives."""
    assert type(tensor) in (Tensor, AllEqual, AnyUnequal)
    expected = np.asarray(expected)
    assert tensor.shape == expected.shape
    assert tensor.dtype == expected.dtype
    np.testing.assert_array_equal(tensor.numpy(), expected)
    return True


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_keeps_its_dtype_and_is_copied(dtype):
    array = np.ones((2, 3), dtype)
    tensor = Tensor(array)
    array[:] = 0
    assert same(tensor, np.ones((2, 3), dtype))


@pytest.mark.parametrize(
    ("numbers", "shape"),
    [(3, ()), (2.5, ()), ([1, 2], (2,)), ([[1.5], [2]], (2, 1)), ((1, 2, 3), (3,)), ([], (0,))],
)
def test_python_numbers_become_float32(numbers, shape):
    tensor = Tensor(numbers)
    assert tensor.shape == shape
    assert same(tensor, np.array(numbers, np.float32))


def test_python_bools_stay_bools():
    assert same(Tensor([True, False]), np.array([True, False]))


def test_numpy_scalars_keep_their_dtype():
    assert same(Tensor(np.float64(2)), np.float64(2))
    assert same(Tensor(np.int8(2)), np.int8(2))


@pytest.mark.parametrize("dtype", ["int32", np.float64, bool])
def test_a_dtype_that_is_named_wins(dtype):
    assert same(Tensor([0, 1, 2], dtype=dtype), np.array([0, 1, 2], dtype))
    assert same(Tensor(np.ones(2, np.float32), dtype=dtype), np.ones(2, dtype))


def test_strides_and_byte_order_do_not_matter():
    array = np.arange(12, dtype=">f4").reshape(3, 4).T[::2]
    tensor = Tensor(array)
    assert tensor.dtype.isnative
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_a_tensor_from_a_tensor_is_a_leaf_of_its_own():
    first = Tensor([1.0, 2.0])
    second = Tensor(first * 3)
    assert second.is_leaf
    first.data = Tensor([0.0, 0.0])
    assert same(second, np.array([3, 6], np.float32))


@pytest.mark.parametrize("data", ["text", None, {1: 2}, [1j], [object()], np.array(["a"]), 2**70])
def test_what_is_not_numeric_is_refused(data):
    with pytest.raises(DTypeError, match=r"numbers or booleans, not|the dtypes are bool, int8"):
        Tensor(data)


def test_uneven_lists_are_refused():
    with pytest.raises(ShapeError, match="nested lists"):
        Tensor([[1, 2], [3]])


def test_a_device_is_a_device():
    assert Tensor([1.0], device=ndl.cpu()).device == ndl.cpu() == ndl.default_device()
    with pytest.raises(TypeError, match=r"'gpu' is not a device.*cpu\(\)"):
        Tensor([1.0], device="gpu")


def test_only_floats_require_a_gradient():
    assert Tensor([1.0]).requires_grad
    assert not Tensor([1.0], requires_grad=False).requires_grad
    assert not Tensor(np.array([1, 2])).requires_grad
    assert not Tensor([True]).requires_grad


def test_requires_grad_can_be_set_later():
    x = Tensor([1.0, 2.0], requires_grad=False)
    x.requires_grad = True
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 4])

    result = Tensor([1.0, 2.0], requires_grad=False) * 3
    result.requires_grad = True
    assert result.is_leaf
    (result * result).sum().backward()
    np.testing.assert_array_equal(result.grad.numpy(), [6, 12])

    x.requires_grad = False
    with pytest.raises(ValueError, match="depends on no leaf"):
        (x * x).sum().backward()
    with pytest.raises(DTypeError, match="int64 has no derivative"):
        Tensor(np.array([1])).requires_grad = True
    with pytest.raises(ValueError, match=r"detach\(\)"):
        (result * 2).requires_grad = False


def test_what_it_is_like():
    tensor = Tensor(np.zeros((2, 3, 4), np.float64)) * 1
    assert (tensor.shape, tensor.ndim, tensor.size, len(tensor)) == ((2, 3, 4), 3, 24, 2)
    assert tensor.dtype == np.float64
    assert tensor.T.shape == (4, 3, 2)


ARITHMETIC = (operator.add, operator.sub, operator.mul, operator.truediv)
COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


@pytest.mark.parametrize("op", [*ARITHMETIC, *COMPARISONS])
@pytest.mark.parametrize(
    ("left", "right"),
    [pair for pair in itertools.product(DTYPES, DTYPES) if pair != ("bool", "bool")],
)
def test_two_dtypes_meet_as_in_numpy(op, left, right):
    a, b = arrays(left, right)
    expected = op(a, b)
    assert same(op(Tensor(a), Tensor(b)), expected)
    assert same(op(a, Tensor(b)), expected)
    assert same(op(Tensor(a), b), expected)


@pytest.mark.parametrize("op", [*ARITHMETIC, *COMPARISONS])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scalar", [2, 0.5, np.float64(0.5), np.float32(0.5), np.int8(2)])
def test_scalars_stand_on_either_side(op, dtype, scalar):
    (a,) = arrays(dtype)
    assert same(op(Tensor(a), scalar), op(a, scalar))
    assert same(op(scalar, Tensor(a)), op(scalar, a))


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers(dtype):
    a, b = arrays(dtype, dtype)
    assert same(Tensor(a) ** 2, a**2)
    assert same(Tensor(a) ** Tensor(b), a**b)
    assert same(2 ** Tensor(a), 2**a)
    assert same(a ** Tensor(b), a**b)
    assert same(Tensor(np.array([2, 3])) ** 2, np.array([4, 9]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_signs(dtype):
    a = np.array([-1.5, 0.0, 2.0], dtype)
    assert same(-Tensor(a), -a)
    assert same(abs(Tensor(a)), abs(a))


def test_matrix_products():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    for product in (Tensor(a) @ Tensor(b), a @ Tensor(b), Tensor(a) @ b, Tensor(a).matmul(b)):
        assert same(product, a @ b)
    assert same(Tensor(a) @ b[:, 0], a @ b[:, 0])
    assert same(a[0] @ Tensor(b), a[0] @ b)


def test_shapes_broadcast_as_in_numpy():
    a, b = np.arange(4.0).reshape(4, 1), np.arange(3.0)
    assert same(Tensor(a) + Tensor(b), a + b)
    assert same(a - Tensor(b), a - b)


def test_lists_stand_beside_tensors():
    expected = np.array([2, 4], np.float32)
    assert same(operator.add(Tensor([1.0, 2.0]), [1, 2]), expected)
    assert same(operator.add([1, 2], Tensor([1.0, 2.0])), expected)


def test_an_array_beside_a_tensor_is_copied():
    array = np.array([1.0, 2.0])
    total = Tensor([1.0, 1.0]) + array
    array[:] = 100
    np.testing.assert_array_equal(total.numpy(), [2, 3])


def test_an_augmented_assignment_makes_a_new_tensor():
    x = first = Tensor([1.0, 2.0])
    x += 1
    x *= 2
    np.testing.assert_array_equal(first.numpy(), [1, 2])
    np.testing.assert_array_equal(x.numpy(), [4, 6])


def test_a_number_that_does_not_fit_is_refused():
    with pytest.raises(DTypeError, match=r"add.*300 does not fit"):
        Tensor(np.array([1], np.uint8)) + 300


@pytest.mark.parametrize("name", ["sum", "mean", "var", "max", "min"])
@pytest.mark.parametrize("axes", [None, 0, -1, (0, 2), (-1, -2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(name, axes, keepdims):
    # Small whole numbers and 24, 8, 4 or 3 of them: sums are exact in any order.
    array = np.random.RandomState(1).randint(-9, 9, (2, 4, 3)).astype(np.float64)
    expected = getattr(array, name)(axis=axes, keepdims=keepdims)
    result = getattr(Tensor(array), name)(axes, keepdims)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-15)


def test_a_list_of_axes_is_taken_too():
    assert Tensor(np.ones((2, 3, 4))).sum([0, 1]).shape == (4,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_of_a_reduction(dtype):
    (array,) = arrays(dtype)
    assert same(Tensor(array).sum(), array.sum())
    assert same(Tensor(array).max(0), array.max(0))
    assert Tensor(array).mean().dtype == (dtype if dtype in FLOATS else np.float64)


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "abs"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions(name, dtype):
    array = np.array([0.25, 1.0, 2.0], dtype)
    expected = getattr(np, name)(array)
    result = getattr(Tensor(array), name)()
    assert result.dtype == dtype
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


def test_reshape():
    array = np.arange(24.0)
    tensor = Tensor(array)
    assert same(tensor.reshape(4, 6), array.reshape(4, 6))
    assert same(tensor.reshape((2, 3, 4)), array.reshape(2, 3, 4))
    assert same(tensor.reshape([2, -1]), array.reshape(2, 12))
    assert same(tensor.reshape(-1), array)


def test_broadcast_to():
    array = np.arange(3.0).reshape(3, 1)
    assert same(Tensor(array).broadcast_to(2, 3, 4), np.broadcast_to(array, (2, 3, 4)))
    assert same(Tensor(array).broadcast_to((3, 4)), np.broadcast_to(array, (3, 4)))


@pytest.mark.parametrize(
    ("axes", "permutation"),
    [
        (None, (0, 2, 1)),
        ((0, 1), (1, 0, 2)),
        ((0, -1), (2, 1, 0)),
        ((1, 1), (0, 1, 2)),
        ((2, 0, 1), (2, 0, 1)),
        ([-1, 0, 1], (2, 0, 1)),
    ],
)
def test_transpose(axes, permutation):
    array = np.arange(24.0).reshape(2, 3, 4)
    assert same(Tensor(array).transpose(axes), array.transpose(permutation))


def test_t_reverses_all_axes():
    array = np.arange(24.0).reshape(2, 3, 4)
    assert same(Tensor(array).T, array.T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_astype(dtype):
    array = np.array([0.0, 1.7, -2.3, 100.0])
    if dtype == "uint8":
        array = abs(array)
    assert same(Tensor(array).astype(dtype), array.astype(dtype))


def test_one_element_is_a_python_number():
    assert type(Tensor(2.5).item()) is float
    assert type(Tensor(np.array([3])).item()) is int
    assert type(Tensor(np.array([[True]])).item()) is bool
    assert float(Tensor([[2.5]])) == 2.5
    assert int(Tensor(2.5)) == 2
    assert bool(Tensor([0.5])) is True
    assert bool(Tensor(0.0)) is False


@pytest.mark.parametrize("read", [Tensor.item, float, int, bool])
@pytest.mark.parametrize("shape", [(2,), (1, 3), (0,)])
def test_more_or_fewer_elements_are_no_number(read, shape):
    with pytest.raises(ValueError, match=r"item\(\) of a tensor with \d elements"):
        read(Tensor(np.zeros(shape)))


def test_a_scalar_has_no_length():
    with pytest.raises(TypeError, match="rank 0"):
        len(Tensor(1.0))


def test_repr_shows_values_and_dtype():
    assert repr(Tensor([1.0, 2.5]) * 2) == "Tensor([2., 5.], dtype=float32)"
    expected = "Tensor([[1, 2],\n        [3, 4]], dtype=int64)"
    assert str(Tensor(np.array([[1, 2], [3, 4]]))) == expected


def test_comparing_gives_tensors_and_hashing_goes_by_identity():
    a, b = Tensor([1.0, 2.0]), Tensor([1.0, 3.0])
    assert same(a == b, np.array([True, False]))
    assert same(a != b, np.array([False, True]))
    assert len({a, b, a}) == 2


def test_numpy_reads_a_tensor():
    tensor = Tensor([1.0, 2.0]) * 2
    array = np.asarray(tensor)
    assert type(array) is np.ndarray
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [2, 4])
    assert np.asarray(tensor, dtype=np.float64).dtype == np.float64
    assert np.array(tensor).tolist() == [2, 4]
    np.testing.assert_array_equal(np.stack([tensor, tensor]), [[2, 4], [2, 4]])
    with pytest.raises(ValueError, match="copy=False"):
        np.asarray(tensor, copy=False)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 1, lambda x: x.reshape(2, 1)])
@pytest.mark.parametrize("read", [Tensor.numpy, np.asarray, lambda x: np.asarray(x, np.float32)])
def test_what_is_read_is_the_readers_own(make, read):
    leaf = Tensor([1.0, 2.0])
    tensor = make(leaf)
    array = read(tensor)
    array[:] = 100
    np.testing.assert_array_equal(tensor.numpy().ravel(), [1, 2])
    np.testing.assert_array_equal(leaf.numpy(), [1, 2])
    np.testing.assert_array_equal((tensor + 1).numpy().ravel(), [2, 3])


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 1])
def test_cached_data_is_read_only(make):
    tensor = make(Tensor([1.0, 2.0]))
    np.testing.assert_array_equal(tensor.cached_data, [1, 2])
    with pytest.raises(ValueError, match="read-only"):
        tensor.cached_data[0] = 100


@pytest.mark.parametrize(
    "clone",
    [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_is_a_leaf_with_data_of_its_own(clone):
    x = ndl.nn.Parameter([1.0, 2.0])
    for original, requires_grad in ((x, True), (x.detach(), False)):
        twin = clone(original)
        assert type(twin) is type(original)
        assert twin.requires_grad is requires_grad
        assert twin.is_leaf
        np.testing.assert_array_equal(twin.numpy(), [1, 2])
    twin = clone(x)
    x.data = Tensor([5.0, 5.0])
    (twin * twin).sum().backward()
    np.testing.assert_array_equal(twin.grad.numpy(), [2, 4])
    assert x.grad is None


A23, A4 = np.zeros((2, 3), np.float32), np.zeros(4, np.float32)

MISTAKES = [
    (ShapeError, "add(f32[2,3], f32[4])", lambda: Tensor(A23) + Tensor(A4)),
    (ShapeError, "matmul(f32[2,3], f32[2,3])", lambda: Tensor(A23) @ Tensor(A23)),
    (ShapeError, "reshape(f32[2,3])", lambda: Tensor(A23).reshape(4, 2)),
    (ShapeError, "broadcast_to(f32[2,3])", lambda: Tensor(A23).broadcast_to(2, 4)),
    (ShapeError, "sum(f32[2,3])", lambda: Tensor(A23).sum(2)),
    (ShapeError, "max(f32[2,3])", lambda: Tensor(A23).max((0, 0))),
    (ShapeError, "transpose(f32[2,3])", lambda: Tensor(A23).transpose((0, 5))),
    (ShapeError, "transpose(f32[2,3])", lambda: Tensor(A23).transpose((0, 1, 2))),
    (ShapeError, "transpose(f32[4])", lambda: Tensor(A4).transpose()),
    (ShapeError, "softmax_loss(f32[2,3], f32[4])", lambda: ndl.nn.SoftmaxLoss()(A23 + T0, A4)),
    (ShapeError, "linear(f32[4], f32[3,2], f32[1,2])", lambda: ndl.nn.Linear(3, 2)(Tensor(A4))),
    (DTypeError, "add(f32[4], '1')", lambda: Tensor(A4) + "1"),
    (DTypeError, "multiply(NoneType, f32[4])", lambda: None * Tensor(A4)),
    (DTypeError, "subtract(bool[1], bool[1])", lambda: Tensor([True]) - Tensor([True])),
    (DTypeError, "cast(f32[4])", lambda: Tensor(A4).astype("complex64")),
    (DTypeError, "add", lambda: Tensor(A4) + np.array(["a"])),
    (ShapeError, "multiply", lambda: Tensor(A4) * [[1], [2, 3]]),
    (ShapeError, "transpose(f32[2,3])", lambda: Tensor(A23).transpose((0.5, 0))),
    (DTypeError, "where(f32[4], f32[4], f32[4])", lambda: ndl.where(Tensor(A4), Tensor(A4), A4)),
]
T0 = Tensor(0.0)


@pytest.mark.parametrize(("kind", "call", "mistake"), MISTAKES)
def test_an_error_names_the_op_the_types_and_the_users_line(kind, call, mistake):
    with pytest.raises(kind) as caught:
        mistake()
    message = str(caught.value)
    assert message.startswith(f"{call}: ")
    assert isinstance(caught.value, ValueError if kind is ShapeError else TypeError)
    line = mistake.__code__.co_firstlineno
    assert message.endswith(f"(at test_tensor.py:{line} in <lambda>)")


def mistaken(a, b):
    c = a * 2
    return c * b


def test_the_error_is_raised_where_the_mistake_is_written():
    with pytest.raises(ShapeError) as caught:
        mistaken(Tensor(A23), Tensor(A4))
    assert caught.value.origin.line == mistaken.__code__.co_firstlineno + 2
    assert caught.value.origin.filename == __file__


@pytest.mark.parametrize(
    ("assign", "kind", "message"),
    [
        (lambda x: setattr(x, "data", np.zeros(2)), DTypeError, "astype"),
        (lambda x: setattr(x, "grad", np.zeros(2)), DTypeError, "a Tensor or None"),
        (lambda x: setattr(x, "grad", Tensor([1.0])), ShapeError, r"\(1,\).*\(2,\)"),
    ],
)
def test_a_wrong_assignment_changes_nothing(assign, kind, message):
    x = Tensor([1.0, 2.0])
    with pytest.raises(kind, match=message):
        assign(x)
    np.testing.assert_array_equal(x.numpy(), [1, 2])
    assert x.grad is None

"""concatenate and stack against NumPy."""

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor

RNG = np.random.RandomState(0)
UNEVEN = {
    0: [(1, 3, 2), (4, 3, 2), (2, 3, 2)],
    1: [(2, 1, 3), (2, 4, 3)],
    2: [(2, 3, 1), (2, 3, 5)],
}


def arrays_of(shapes, dtype=np.float64):
    return [np.asarray(RNG.randn(*shape), dtype) for shape in shapes]


def same(result, expected):
    assert isinstance(result, Tensor)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("axis", UNEVEN)
def test_concatenate(axis, negative):
    arrays = arrays_of(UNEVEN[axis])
    at = axis - 3 if negative else axis
    result = ndl.concatenate([Tensor(a) for a in arrays], axis=at)
    same(result, np.concatenate(arrays, axis))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0)])
def test_stack_along_every_axis(shape):
    arrays = arrays_of([shape] * 3)
    for axis in range(-len(shape) - 1, len(shape) + 1):
        same(ndl.stack([Tensor(a) for a in arrays], axis), np.stack(arrays, axis))


def test_the_first_axis_is_the_default():
    a, b = arrays_of([(2, 3), (2, 3)])
    same(ndl.concatenate((Tensor(a), Tensor(b))), np.concatenate((a, b)))
    same(ndl.stack((Tensor(a), Tensor(b))), np.stack((a, b)))


def test_one_tensor():
    (a,) = arrays_of([(2, 3)])
    same(ndl.concatenate([Tensor(a)], 1), a)
    same(ndl.stack([Tensor(a)], 1), a[:, None])


def test_empty_parts():
    arrays = arrays_of([(0, 3), (2, 3), (0, 3)])
    same(ndl.concatenate([Tensor(a) for a in arrays]), np.concatenate(arrays))
    same(ndl.concatenate([Tensor(arrays[0])] * 2), np.zeros((0, 3)))


def test_any_iterable_of_tensors():
    (a,) = arrays_of([(2, 3)])
    same(ndl.concatenate(Tensor(a) for _ in range(2)), np.concatenate([a, a]))
    same(ndl.stack(Tensor(a) for _ in range(2)), np.stack([a, a]))
    # The rows of a tensor, as NumPy takes the rows of an array.
    same(ndl.concatenate(Tensor(a)), np.concatenate(a))
    same(ndl.stack(Tensor(a), axis=1), np.stack(a, axis=1))


def test_arrays_beside_tensors():
    a, b = arrays_of([(2, 3), (2, 3)])
    same(ndl.concatenate([a, Tensor(b)]), np.concatenate([a, b]))
    same(ndl.stack([a, Tensor(b)], 1), np.stack([a, b], 1))


@pytest.mark.parametrize("join", ["concatenate", "stack"])
@pytest.mark.parametrize(
    "dtypes",
    [
        ("float32", "float64"),
        ("float32", "float32"),
        ("int32", "float32"),
        ("int8", "uint8"),
        ("bool", "int64"),
        ("bool", "bool"),
        ("float16", "float32", "int8"),
    ],
)
def test_dtypes_meet_as_in_numpy(join, dtypes):
    arrays = [np.array([[0, 1, 3]]).astype(dtype) for dtype in dtypes]
    expected = getattr(np, join)(arrays)
    same(getattr(ndl, join)([Tensor(a) for a in arrays]), expected)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_gradient_of_concatenate(axis):
    arrays = arrays_of(UNEVEN[axis % 3])
    tensors = [Tensor(a) for a in arrays]
    result = ndl.concatenate(tensors, axis)
    ct = RNG.randn(*result.shape)
    result.backward(Tensor(ct))
    # Linear, and each element is read once: the cotangent falls apart again.
    cuts = np.cumsum([a.shape[axis] for a in arrays])[:-1]
    for tensor, expected in zip(tensors, np.split(ct, cuts, axis), strict=True):
        np.testing.assert_array_equal(tensor.grad.numpy(), expected)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_gradient_of_stack(axis):
    tensors = [Tensor(a) for a in arrays_of([(2, 4)] * 3)]
    result = ndl.stack(tensors, axis)
    ct = RNG.randn(*result.shape)
    result.backward(Tensor(ct))
    for i, tensor in enumerate(tensors):
        np.testing.assert_array_equal(tensor.grad.numpy(), ct.take(i, axis))


def test_gradient_where_a_tensor_comes_twice():
    a, b = arrays_of([(2, 3), (1, 3)])
    x, y = Tensor(a), Tensor(b)
    joined = ndl.concatenate([x, y, x])
    (joined * joined * np.arange(5.0)[:, None]).sum().backward()
    weights = np.arange(5.0)[:, None]
    np.testing.assert_allclose(x.grad.numpy(), 2 * a * (weights[:2] + weights[3:]))
    np.testing.assert_allclose(y.grad.numpy(), 2 * b * weights[2:3])


def test_gradients_come_back_in_the_dtype_of_their_tensor():
    x, y = Tensor(np.ones(2, np.float32)), Tensor(np.ones(2))
    (ndl.concatenate([x, y]) * np.arange(4.0)).sum().backward()
    assert x.grad.dtype == np.float32
    assert y.grad.dtype == np.float64
    np.testing.assert_array_equal(x.grad.numpy(), [0, 1])
    np.testing.assert_array_equal(y.grad.numpy(), [2, 3])


def test_second_derivative():
    a, b = arrays_of([(2,), (3,)])

    def cubes(x):
        return (ndl.concatenate([x, Tensor(b)]) ** 3).sum()

    slope = ndl.grad(lambda x: (ndl.grad(cubes)(x) * np.array([1.0, 10.0])).sum())(Tensor(a))
    np.testing.assert_allclose(slope.numpy(), 6 * a * [1, 10])


def test_in_a_jitted_function():
    a, b = arrays_of([(2, 3), (2, 3)])
    joined = ndl.jit(lambda x, y: (ndl.concatenate([x, y], -1), ndl.stack([y, x], 1)))
    for _ in range(2):
        results = joined(Tensor(a), Tensor(b))
        same(results[0], np.concatenate([a, b], -1))
        same(results[1], np.stack([b, a], 1))
        a, b = b + 1, a


X = Tensor(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ndl.concatenate([]), ndl.ShapeError, "concatenate needs one tensor at least"),
        (lambda: ndl.concatenate([X, X], 2), ndl.ShapeError, r"concatenate\(f64\[2,3\], .*axis 2"),
        (lambda: ndl.concatenate([X, X], -3), ndl.ShapeError, "axis -3 is out of range"),
        (lambda: ndl.concatenate([X, X], None), ndl.ShapeError, "one integer, not None"),
        (lambda: ndl.concatenate([X, X], (0, 1)), ndl.ShapeError, "one integer, not"),
        (lambda: ndl.concatenate([X, X], 1.0), ndl.ShapeError, "one integer, not 1.0"),
        (lambda: ndl.concatenate([X, X[:1]], 1), ndl.ShapeError, r"\(2, 3\) and \(1, 3\) differ"),
        (lambda: ndl.concatenate([X, X[0]]), ndl.ShapeError, r"\(2, 3\) and \(3,\) differ"),
        (lambda: ndl.concatenate([X, 1.0]), ndl.ShapeError, r"\(2, 3\) and \(\) differ"),
        (lambda: ndl.concatenate([X[0, 0]]), ndl.ShapeError, "out of range for 0 axes"),
        (lambda: ndl.concatenate([X, None]), ndl.DTypeError, "NoneType is not a number"),
        (lambda: ndl.concatenate([[1], [2]]), ndl.DTypeError, "must be a tensor"),
        (lambda: ndl.concatenate(5), TypeError, "not iterable"),
        (lambda: ndl.stack([]), ndl.ShapeError, "stack needs tensors of one shape"),
        (lambda: ndl.stack([X, X[0]]), ndl.ShapeError, r"one shape, not \[\(2, 3\), \(3,\)\]"),
        (lambda: ndl.stack([X, X], 3), ndl.ShapeError, "stack: axis 3 .*test_joining.py"),
        (lambda: ndl.stack([X, X], -4), ndl.ShapeError, "stack: axis -4"),
        (lambda: ndl.stack([X, X], None), ndl.ShapeError, "stack: the axis is one integer"),
        (lambda: ndl.stack([X, [1.0]]), ndl.DTypeError, "stack: an operand of type list"),
        (lambda: ndl.stack([1.0, 2.0]), ndl.DTypeError, "stack: an operand of type float"),
        (lambda: ndl.stack([np.ones(2)]), ndl.DTypeError, "must be a tensor"),
        (lambda: ndl.stack(5), TypeError, "not iterable"),
    ],
)
def test_mistakes(call, kind, message):
    with pytest.raises(kind, match=message):
        call()

"""The ops under needle's names, as its programs call them, against plain NumPy."""

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, ops

RNG = np.random.RandomState(0)
X, Y = RNG.randn(3, 4), RNG.randn(3, 4)
POSITIVE = RNG.rand(3, 4) + 0.5
AWAY_FROM_ZERO = X + np.sign(X)
CUBE = RNG.randn(2, 3, 4)


def lse(x, axes=None):
    top = x.max(axes, keepdims=True)
    return (np.log(np.exp(x - top).sum(axes, keepdims=True)) + top).squeeze(axes)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def swapped(axes):
    return lambda x: np.swapaxes(x, *axes)


# (the class and its attributes, the function with the same, the arrays, NumPy)
CASES = {
    "add": (ops.EWiseAdd(), ops.add, (X, Y), np.add),
    "add_scalar": (ops.AddScalar(2), lambda x: ops.add_scalar(x, 2), (X,), lambda x: x + 2),
    "multiply": (ops.EWiseMul(), ops.multiply, (X, Y), np.multiply),
    "mul_scalar": (ops.MulScalar(-3), lambda x: ops.mul_scalar(x, -3), (X,), lambda x: x * -3),
    "power": (ops.EWisePow(), ops.power, (POSITIVE, Y), np.power),
    "power_scalar": (ops.PowerScalar(3), lambda x: ops.power_scalar(x, 3), (X,), lambda x: x**3),
    "power_scalar, a fraction": (
        ops.PowerScalar(scalar=0.5),
        lambda x: ops.power_scalar(x, scalar=0.5),
        (POSITIVE,),
        np.sqrt,
    ),
    "divide": (ops.EWiseDiv(), ops.divide, (X, AWAY_FROM_ZERO), np.divide),
    "divide_scalar": (ops.DivScalar(4), lambda x: ops.divide_scalar(x, 4), (X,), lambda x: x / 4),
    "transpose, the last two": (ops.Transpose(), ops.transpose, (CUBE,), swapped((1, 2))),
    "transpose, None": (
        ops.Transpose(None),
        lambda x: ops.transpose(x, None),
        (CUBE,),
        swapped((1, 2)),
    ),
    "transpose, a pair": (
        ops.Transpose((0, 2)),
        lambda x: ops.transpose(x, (0, 2)),
        (CUBE,),
        swapped((0, 2)),
    ),
    "transpose, a pair from the end": (
        ops.Transpose(axes=(-3, -1)),
        lambda x: ops.transpose(x, axes=[-3, -1]),
        (CUBE,),
        swapped((0, 2)),
    ),
    # For a matrix a pair is a pair, not the permutation that leaves it as it is.
    "transpose, a matrix": (
        ops.Transpose((0, 1)),
        lambda x: ops.transpose(x, (0, 1)),
        (X,),
        np.transpose,
    ),
    "transpose, all axes": (
        ops.Transpose((2, 0, 1)),
        lambda x: ops.transpose(x, (2, 0, 1)),
        (CUBE,),
        lambda x: np.transpose(x, (2, 0, 1)),
    ),
    "reshape": (
        ops.Reshape((2, 6)),
        lambda x: ops.reshape(x, (2, 6)),
        (X,),
        lambda x: x.reshape(2, 6),
    ),
    "broadcast_to": (
        ops.BroadcastTo((2, 3, 4)),
        lambda x: ops.broadcast_to(x, (2, 3, 4)),
        (X[:, :1],),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
    ),
    "summation": (ops.Summation(), ops.summation, (CUBE,), np.sum),
    "summation, a tuple": (
        ops.Summation((0, -1)),
        lambda x: ops.summation(x, (0, -1)),
        (CUBE,),
        lambda x: x.sum((0, 2)),
    ),
    "summation, one axis": (
        ops.Summation(axes=1),
        lambda x: ops.summation(x, axes=1),
        (CUBE,),
        lambda x: x.sum(1),
    ),
    "matmul": (ops.MatMul(), ops.matmul, (X, Y.T), np.matmul),
    "matmul, batched": (ops.MatMul(), ops.matmul, (CUBE, RNG.randn(2, 4, 5)), np.matmul),
    "matmul, one side batched": (ops.MatMul(), ops.matmul, (CUBE, RNG.randn(4, 5)), np.matmul),
    "matmul, batches that broadcast": (
        ops.MatMul(),
        ops.matmul,
        (RNG.randn(2, 1, 3, 4), RNG.randn(3, 4, 2)),
        np.matmul,
    ),
    "negate": (ops.Negate(), ops.negate, (X,), np.negative),
    "log": (ops.Log(), ops.log, (POSITIVE,), np.log),
    "exp": (ops.Exp(), ops.exp, (X,), np.exp),
    "relu": (ops.ReLU(), ops.relu, (AWAY_FROM_ZERO,), lambda x: np.maximum(x, 0)),
    "logsumexp": (ops.LogSumExp(), ops.logsumexp, (X,), lse),
    "logsumexp, one axis": (
        ops.LogSumExp((1,)),
        lambda x: ops.logsumexp(x, (1,)),
        (X,),
        lambda x: lse(x, 1),
    ),
    "logsumexp, two axes": (
        ops.LogSumExp(axes=(0, 2)),
        lambda x: ops.logsumexp(x, axes=(0, 2)),
        (CUBE,),
        lambda x: lse(x, (0, 2)),
    ),
    "logsoftmax": (ops.LogSoftmax(), ops.logsoftmax, (X,), log_softmax),
    "fused_add_scalars, first": (
        lambda x: ops.FusedAddScalars(2, 5)(x)[0],
        lambda x: ops.fused_add_scalars(x, 2, 5)[0],
        (X,),
        lambda x: x + 2,
    ),
    "fused_add_scalars, second": (
        lambda x: ops.FusedAddScalars(c0=2, c1=5)(x)[1],
        lambda x: ops.fused_add_scalars(x, c0=2, c1=5)[1],
        (X,),
        lambda x: x + 5,
    ),
    "tuple_get_item": (
        lambda x, y: ops.TupleGetItem(1)(ops.MakeTensorTuple()(x, y)),
        lambda x, y: ops.tuple_get_item(ops.make_tuple(x, y), 1),
        (X, Y),
        lambda x, y: y + 0 * x,
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def differences(function, arrays, position, ct):
    """The derivative of sum(function * ct) by one of the arrays, by central differences."""
    result = np.zeros(arrays[position].shape)
    for at in np.ndindex(result.shape):
        ends = []
        for change in (1e-6, -1e-6):
            moved = [array.copy() for array in arrays]
            moved[position][at] += change
            ends.append((function(*moved) * ct).sum())
        result[at] = (ends[0] - ends[1]) / 2e-6
    return result


@pytest.mark.parametrize("form", [0, 1], ids=["class", "function"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value(case, form, dtype):
    arrays, expected = [array.astype(dtype) for array in case[2]], case[3](*case[2])
    result = case[form](*[Tensor(array) for array in arrays])
    assert isinstance(result, Tensor)
    assert result.shape == expected.shape
    assert result.dtype == dtype
    tolerance = 2e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(result.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", [0, 1], ids=["class", "function"])
def test_gradient(case, form):
    _, _, arrays, reference = case
    tensors = [Tensor(array) for array in arrays]
    result = case[form](*tensors)
    ct = np.asarray(np.random.RandomState(1).randn(*result.shape))
    result.backward(Tensor(ct))
    for position, tensor in enumerate(tensors):
        expected = differences(reference, arrays, position, ct)
        gradient = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


def test_the_derivative_of_relu_at_zero_is_zero():
    x = Tensor([-1.0, 0.0, 2.0])
    ops.ReLU()(x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 1])


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_logsumexp_and_logsoftmax_of_large_numbers(shift):
    x = X + shift
    np.testing.assert_allclose(ops.LogSumExp((1,))(Tensor(x)).numpy(), lse(X, 1) + shift)
    y = Tensor(x)
    ops.logsoftmax(y)[:, 0].backward()
    expected = np.eye(4)[0] - np.exp(log_softmax(X))
    np.testing.assert_allclose(y.grad.numpy(), expected, rtol=1e-9, atol=1e-11)


def test_a_class_is_an_op_that_can_be_used_again():
    op = ops.LogSumExp((1,))
    for x in (X, X + 1):
        np.testing.assert_allclose(op(Tensor(x)).numpy(), lse(x, 1))


def test_tuples():
    x, y = Tensor(X), Tensor(Y)
    for made in (ops.make_tuple(x, y), ops.MakeTensorTuple()(x, y)):
        assert isinstance(made, tuple)
        assert made[0] is x
        assert made[1] is y
        assert ops.tuple_get_item(made, 1) is y
        assert ops.TupleGetItem(0)(made) is x
    assert ops.make_tuple() == ()


def test_an_op_shows_its_attributes():
    assert repr(ops.LogSumExp((1,))) == "LogSumExp((1,))"
    assert repr(ops.Reshape(shape=(2, 6))) == "Reshape(shape=(2, 6))"
    assert repr(ops.FusedAddScalars(2, c1=5)) == "FusedAddScalars(2, c1=5)"
    assert repr(ops.EWiseAdd()) == "EWiseAdd()"


def test_the_classes_are_tensor_ops_with_a_docstring():
    names = [
        "EWiseAdd",
        "AddScalar",
        "EWiseMul",
        "MulScalar",
        "EWisePow",
        "PowerScalar",
        "EWiseDiv",
        "DivScalar",
        "Transpose",
        "Reshape",
        "BroadcastTo",
        "Summation",
        "MatMul",
        "Negate",
        "Log",
        "Exp",
        "ReLU",
        "LogSumExp",
        "LogSoftmax",
        "MakeTensorTuple",
        "TupleGetItem",
        "FusedAddScalars",
    ]
    for name in names:
        op = getattr(ops, name)
        assert op.__name__ == name
        assert issubclass(op, ops.TensorOp)
        assert op.__doc__


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: ops.transpose(x, 1), ndl.ShapeError, "integers are needed, not 1 "),
        (lambda x: ops.transpose(x, (0.0, 1.0)), ndl.ShapeError, "integers are needed"),
        (lambda x: ops.transpose(x, (0, 2)), ndl.ShapeError, "no permutation of the 2 axes"),
        (lambda x: ops.transpose(x[0]), ndl.ShapeError, "no permutation of the 1 axes"),
        (lambda x: ops.Transpose((0, 1, 2))(x), ndl.ShapeError, "no permutation of the 2 axes"),
        (lambda x: ops.Reshape((5, 2))(x), ndl.ShapeError, "12 elements do not fill"),
        (lambda x: ops.BroadcastTo((3, 5))(x), ndl.ShapeError, r"broadcast_to\(f64\[3,4\]\)"),
        (lambda x: ops.Summation((2,))(x), ndl.ShapeError, "axis 2 is out of range"),
        (lambda x: ops.LogSumExp((0, 0))(x), ndl.ShapeError, "name an axis twice"),
        (lambda x: ops.MatMul()(x, x), ndl.ShapeError, r"matmul\(f64\[3,4\], f64\[3,4\]\)"),
        (lambda x: ops.EWiseAdd()(x, x[:, :2]), ndl.ShapeError, "do not broadcast"),
        (lambda x: ops.AddScalar("2")(x), ndl.DTypeError, "type str is not a number"),
        (lambda x: ops.add_scalar(None, 2), ndl.DTypeError, "must be a tensor"),
        (lambda x: ops.TupleGetItem(2)((x, x)), IndexError, "out of range"),
        (lambda x: ops.LogSumExp(axis=1)(x), TypeError, "axis"),
    ],
)
def test_mistakes(call, kind, message):
    with pytest.raises(kind, match=message):
        call(Tensor(X))

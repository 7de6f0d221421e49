"""Bad input for each public function of the library: one clear error each, where it enters.

A row is what a user writes, the error's type, and words of its message that name what is wrong.
"""

import re

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import data, init, nn, ops, optim

T = ndl.Tensor
a = T(np.ones((2, 3), np.float32))
v = T(np.ones(3, np.float32))
i = T(np.arange(3))
labels = T(np.array([0, 1]))


def row(write, error, words):
    return pytest.param(write, error, words, id=f"{words[:50]}")


TENSOR = [
    row(lambda: T("abc"), ndl.DTypeError, "holds numbers or booleans, not 'abc'"),
    row(lambda: T(None), ndl.DTypeError, "holds numbers or booleans, not None"),
    row(lambda: T([1, "b"]), ndl.DTypeError, "holds numbers or booleans, not [1, 'b']"),
    row(lambda: T([[1, 2], [3]]), ndl.ShapeError, "the nested lists are no array"),
    row(lambda: T(np.array([1j])), ndl.DTypeError, "complex128 is not supported"),
    row(lambda: T([1.0], dtype="banana"), ndl.DTypeError, "'banana' is not a dtype"),
    row(lambda: T([1.0], device="gpu"), TypeError, "'gpu' is not a device"),
    row(lambda: a + "x", ndl.DTypeError, "add(f32[2,3], 'x')"),
    row(lambda: None * a, ndl.DTypeError, "multiply(NoneType, f32[2,3])"),
    row(lambda: a + T(np.ones(4)), ndl.ShapeError, "shapes (2, 3) and (4,) do not broadcast"),
    row(lambda: a @ a, ndl.ShapeError, "the inner dimensions 3 and 2 differ"),
    row(lambda: a @ 2, ndl.ShapeError, "multiply with * instead"),
    row(lambda: a.sum(5), ndl.ShapeError, "sum(f32[2,3]): axis 5 is out of range"),
    row(lambda: a.sum((0, 0)), ndl.ShapeError, "axes (0, 0) name an axis twice"),
    row(lambda: a.sum("x"), ndl.ShapeError, "integers are needed, not 'x'"),
    row(lambda: a.mean(7), ndl.ShapeError, "mean of shape (2, 3): axis 7 is out of range"),
    row(lambda: a.var(-4), ndl.ShapeError, "var of shape (2, 3): axis -4 is out of range"),
    row(lambda: a.max(3), ndl.ShapeError, "max(f32[2,3]): axis 3 is out of range"),
    row(lambda: a.min((0, 5)), ndl.ShapeError, "min(f32[2,3]): axis 5 is out of range"),
    row(lambda: a.reshape(5), ndl.ShapeError, "6 elements do not fill the shape (5,)"),
    row(lambda: a.reshape(-1, -1), ndl.ShapeError, "do not fill the shape (-1, -1)"),
    row(lambda: a.broadcast_to((4, 4)), ndl.ShapeError, "(2, 3) and (4, 4) do not broadcast"),
    row(lambda: a.transpose((0, 5)), ndl.ShapeError, "(0, 5) is no permutation of the 2 axes"),
    row(lambda: v.transpose(), ndl.ShapeError, "no permutation of the 1 axes"),
    row(lambda: a.astype("banana"), ndl.DTypeError, "cast(f32[2,3]): 'banana' is not a dtype"),
    row(lambda: a[5], IndexError, "index 5 is out of range for axis 0 of length 2"),
    row(lambda: a[0, 0, 0], IndexError, "3 indices for a tensor with 2 axes"),
    row(lambda: a["x"], IndexError, "an index of type str"),
    row(lambda: len(T(1.0)), TypeError, "a tensor of rank 0 has no length"),
    row(lambda: a.item(), ValueError, "item() of a tensor with 6 elements, shape (2, 3)"),
    row(lambda: a.backward("x"), ndl.DTypeError, "not 'x'"),
    row(lambda: a.backward(v), ndl.ShapeError, "out_grad has shape (3,), the tensor (2, 3)"),
    row(lambda: i.backward(), ValueError, "tensor of int64; derivatives need a float dtype"),
    row(lambda: a.detach().backward(), ValueError, "depends on no leaf with requires_grad=True"),
    row(lambda: setattr(T([1.0]), "grad", 3), ndl.DTypeError, "a gradient is a Tensor or None"),
    row(lambda: setattr(T([1.0]), "grad", v), ndl.ShapeError, "a gradient of shape (3,)"),
    row(lambda: setattr(T([1.0]), "data", i), ndl.DTypeError, "convert it with astype('float32')"),
    row(lambda: ndl.where("x", a, a), ndl.DTypeError, "where('x', f32[2,3], f32[2,3])"),
    row(lambda: ndl.concatenate([]), ndl.ShapeError, "needs one tensor at least"),
    row(lambda: ndl.concatenate([a, v]), ndl.ShapeError, "shapes (2, 3) and (3,) differ"),
    row(lambda: ndl.concatenate([a, a], 5), ndl.ShapeError, "axis 5 is out of range"),
    row(lambda: ndl.stack([a, v]), ndl.ShapeError, "stack needs tensors of one shape"),
    row(lambda: ndl.stack([a, a], 9), ndl.ShapeError, "axis 9 is out of range"),
]

OPS = [
    row(lambda: ops.AddScalar("x")(a), ndl.DTypeError, "add(f32[2,3], 'x')"),
    row(lambda: ops.EWiseAdd()(a, "x"), ndl.DTypeError, "an operand of type str"),
    row(lambda: ops.PowerScalar("x")(a), ndl.DTypeError, "power(f32[2,3], 'x')"),
    row(lambda: ops.Transpose((0, 7))(a), ndl.ShapeError, "(0, 7) is no permutation"),
    row(lambda: ops.Reshape((7,))(a), ndl.ShapeError, "6 elements do not fill the shape (7,)"),
    row(lambda: ops.BroadcastTo((7,))(a), ndl.ShapeError, "(2, 3) and (7,) do not broadcast"),
    row(lambda: ops.Summation((9,))(a), ndl.ShapeError, "sum(f32[2,3]): axis 9 is out of range"),
    row(lambda: ops.MatMul()(a, a), ndl.ShapeError, "inner dimensions 3 and 2 differ"),
    row(lambda: ops.LogSumExp((9,))(a), ndl.ShapeError, "logsumexp(f32[2,3]): axis 9"),
    row(lambda: ops.ReLU()("x"), ndl.DTypeError, "relu(str)"),
    row(lambda: ops.Negate()(T([True])), ndl.DTypeError, "does not define it for bools"),
    row(lambda: ops.fused_add_scalars(a, "x", 1), ndl.DTypeError, "an operand of type str"),
]

INIT = [
    row(lambda: init.rand("x"), TypeError, "rand: the length 'x' of an axis is no integer"),
    row(lambda: init.rand(2.5), TypeError, "rand: the length 2.5 of an axis is no integer"),
    row(lambda: init.rand((2, 3)), TypeError, "write the lengths of the axes as rand(2, 3)"),
    row(lambda: init.rand(-1), ndl.ShapeError, "rand: shape (-1,) has a length below 0"),
    row(lambda: init.rand(2, low="x"), TypeError, "low is 'x'; it must be a number"),
    row(lambda: init.rand(2, device="gpu"), TypeError, "'gpu' is not a device"),
    row(lambda: init.randn(2, std=-1), ValueError, "std is -1; it must not be negative"),
    row(lambda: init.randn(2, mean="x"), TypeError, "mean is 'x'; it must be a number"),
    row(lambda: init.randb(2, p=2), ValueError, "p is 2; it must lie in [0, 1]"),
    row(lambda: init.randb(2, p="x"), TypeError, "p is 'x'; it must be a number"),
    row(lambda: init.constant(2, c="x"), TypeError, "c is 'x'; it must be a number"),
    row(lambda: init.ones(2, dtype="banana"), ndl.DTypeError, "'banana' is not a dtype"),
    row(lambda: init.zeros(-1), ndl.ShapeError, "shape (-1,) has a length below 0"),
    row(lambda: init.one_hot(2, i), ValueError, "labels lie in 0 … 2, but there are 2 classes"),
    row(lambda: init.one_hot(-1, i), ValueError, "n is -1; it must be at least 1"),
    row(lambda: init.one_hot("x", i), TypeError, "n is 'x'; it must be an integer"),
    row(lambda: init.one_hot(3, T([0.5])), ValueError, "labels are whole numbers"),
    row(lambda: init.one_hot(3, "x"), TypeError, "labels are numbers"),
    row(lambda: init.zeros_like(3), TypeError, "zeros_like takes a Tensor, not int"),
    row(lambda: init.ones_like(None), TypeError, "ones_like takes a Tensor, not NoneType"),
    row(lambda: init.xavier_uniform(0, 3), ValueError, "fan_in is 0; it must be at least 1"),
    row(lambda: init.xavier_normal(2, 3, gain="x"), TypeError, "gain is 'x'"),
    row(lambda: init.kaiming_uniform(3, 2.5), TypeError, "fan_out is 2.5; it must be an integer"),
    row(lambda: init.kaiming_normal(3, 3, "tanh"), ValueError, "nonlinearity 'tanh'"),
    row(lambda: ndl.manual_seed("x"), TypeError, "seed is 'x'; it must be an integer"),
]

NN = [
    row(lambda: nn.Parameter([True]), ndl.DTypeError, "a parameter of bool has no gradient"),
    row(lambda: nn.Linear("x", 3), TypeError, "in_features is 'x'; it must be an integer"),
    row(lambda: nn.Linear(3, 0), ValueError, "out_features is 0; it must be at least 1"),
    row(lambda: nn.Linear(3, 3, dtype="int32"), ndl.DTypeError, "a parameter of int32"),
    row(lambda: nn.Linear(4, 3)(a), ndl.ShapeError, "the inner dimensions 3 and 4 differ"),
    row(lambda: nn.Linear(3, 3)("x"), ndl.DTypeError, "linear('x', f32[3,3], f32[1,3])"),
    row(lambda: nn.Flatten()("x"), TypeError, "Flatten takes a Tensor, not str"),
    row(lambda: nn.Flatten()(T(1.0)), ndl.ShapeError, "a tensor of rank 0 has none"),
    row(lambda: nn.ReLU()("x"), ndl.DTypeError, "relu(str)"),
    row(lambda: nn.Sequential(3), TypeError, "Sequential takes a Module, not int"),
    row(lambda: nn.Sequential([nn.ReLU()]), TypeError, "write Sequential(*modules)"),
    row(lambda: nn.Sequential(nn.ReLU), TypeError, "not its class: write ReLU(...)"),
    row(lambda: nn.Residual(3), TypeError, "Residual takes a Module, not int"),
    row(lambda: nn.SoftmaxLoss()("x", labels), TypeError, "SoftmaxLoss takes a Tensor, not str"),
    row(lambda: nn.SoftmaxLoss()(a, T([0, 5])), ValueError, "but there are 3 classes"),
    row(lambda: nn.SoftmaxLoss()(a, T([0, -1])), ValueError, "labels lie in -1"),
    row(lambda: nn.SoftmaxLoss()(a, T([0.5, 1])), ValueError, "labels are whole numbers"),
    row(lambda: nn.SoftmaxLoss()(a, i), ndl.ShapeError, "not (2, 3) and (3,)"),
    row(lambda: nn.BatchNorm1d(0), ValueError, "dim is 0; it must be at least 1"),
    row(lambda: nn.BatchNorm1d(3, eps=-1), ValueError, "eps is -1; it must not be negative"),
    row(lambda: nn.BatchNorm1d(3, momentum=2), ValueError, "momentum is 2"),
    row(lambda: nn.BatchNorm1d(4)(a), ndl.ShapeError, "batch_norm takes x of shape (n, 4)"),
    row(lambda: nn.BatchNorm1d(3)(v), ndl.ShapeError, "batch_norm takes x of shape (n, 3)"),
    row(lambda: nn.BatchNorm1d(3)("x"), TypeError, "BatchNorm1d takes a Tensor, not str"),
    row(lambda: nn.BatchNorm1d(3)(a[:0]), ndl.ShapeError, "a batch without rows has no mean"),
    row(lambda: nn.LayerNorm1d(-2), ValueError, "dim is -2; it must be at least 1"),
    row(lambda: nn.LayerNorm1d(4)(a), ndl.ShapeError, "needs weight and bias of that shape"),
    row(lambda: nn.Dropout(2), ValueError, "the dropout probability is 2"),
    row(lambda: nn.Dropout("x"), TypeError, "the dropout probability is 'x'"),
    row(lambda: nn.Dropout(0.5)("x"), TypeError, "Dropout takes a Tensor, not str"),
    row(lambda: nn.Module()(a), TypeError, "Module does not define forward()"),
    row(lambda: nn.ReLU().load_state_dict(3), TypeError, "a state is a mapping"),
    row(lambda: nn.Linear(3, 3).load_state_dict({}), KeyError, "the state lacks"),
]

OPTIM = [
    row(lambda: optim.SGD([]), ValueError, "the optimizer was given no parameters"),
    row(lambda: optim.SGD(a), TypeError, "takes a list of parameters, not Tensor"),
    row(lambda: optim.Adam(nn.Linear(3, 3)), TypeError, "pass module.parameters()"),
    row(lambda: optim.SGD([3]), TypeError, "a parameter is a Tensor, not int"),
    row(lambda: optim.SGD([i]), ndl.DTypeError, "a parameter of int64 has no gradient"),
    row(lambda: optim.SGD([a], lr="x"), TypeError, "lr is 'x'; it must be a number"),
    row(lambda: optim.SGD([a], lr=float("nan")), ValueError, "lr is nan; it must not be negative"),
    row(lambda: optim.Adam([a], beta2=1.0), ValueError, "beta2 is 1.0; it must lie in [0, 1)"),
    row(lambda: optim.SGD([a]).clip_grad_norm("x"), TypeError, "max_norm is 'x'"),
    row(lambda: optim.SGD([a]).clip_grad_norm(1.0), ValueError, "call backward() first"),
]

DATA = [
    row(lambda: data.DataLoader([1, 2]), TypeError, "dataset must be a needle_ir.data.Dataset"),
    row(lambda: data.NDArrayDataset(3), ValueError, "one or more of equal length"),
    row(lambda: data.parse_mnist(None, None), TypeError, "a file is named by its path"),
    row(lambda: data.MNISTDataset(3, 4), TypeError, "a file is named by its path"),
    row(lambda: data.MNISTDataset("none", "none"), FileNotFoundError, "no such file"),
    row(lambda: data.RandomFlipHorizontal()("x"), TypeError, "as a NumPy array, not str"),
    row(lambda: data.RandomCrop()(a), TypeError, "as a NumPy array, not Tensor"),
]


FUNCTIONS = [
    row(lambda: ndl.trace(3), TypeError, "trace takes a function, not int"),
    row(lambda: ndl.jit("x"), TypeError, "jit takes a function, not str"),
    row(lambda: ndl.compile(None), TypeError, "compile takes a function, not NoneType"),
    row(lambda: ndl.compile(abs, a, pipeline="cze"), ValueError, "no pass 'cze'"),
    row(lambda: ndl.grad(3), TypeError, "grad takes a function, not int"),
    row(lambda: ndl.value_and_grad(a), TypeError, "value_and_grad takes a function, not Tensor"),
    row(lambda: ndl.grad(ndl.exp, "x")(a), TypeError, "argnums is 'x'; it must be an integer"),
    row(lambda: ndl.grad(ndl.exp, 3)(a), ValueError, "argnums=3, but there are 1 arguments"),
    row(lambda: ndl.grad(ndl.exp)(a), ndl.ShapeError, "(2, 3)"),
    row(lambda: ndl.grad(lambda x: 3)(a), ndl.DTypeError, "the function returned int"),
    row(lambda: ndl.grad(ndl.ops.sum)(i), ndl.DTypeError, "argument 0 is of int64"),
]


@pytest.mark.parametrize(
    ("write", "error", "words"), [*TENSOR, *OPS, *INIT, *NN, *OPTIM, *DATA, *FUNCTIONS]
)
def test_bad_input_is_refused_where_it_enters(write, error, words):
    with pytest.raises(error, match=re.escape(words)) as caught:
        write()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_an_error_of_an_op_names_the_line():
    with pytest.raises(ndl.ShapeError, match=r"at .*test_bad_input\.py:\d+ in test_an_error"):
        a.mean(7)


def test_what_is_refused_changes_nothing():
    x = T(np.ones((2, 3), np.float32))
    for write in (lambda: setattr(x, "data", i), lambda: setattr(x, "grad", v)):
        with pytest.raises((ndl.DTypeError, ndl.ShapeError)):
            write()
    np.testing.assert_array_equal(x.numpy(), np.ones((2, 3), np.float32))
    assert x.grad is None

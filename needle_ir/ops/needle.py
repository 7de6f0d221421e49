"""The ops under needle's own names: a function and a class for each.

An object of a class holds the op's attributes and is called on tensors, as in
`LogSumExp(axes)(x)`; the function does both at once, as in `logsumexp(x, axes)`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from needle_ir.ops.elementwise import add, divide, exp, log, multiply, negative, power, relu
from needle_ir.ops.exponentials import log_softmax, logsumexp
from needle_ir.ops.linalg import matmul
from needle_ir.ops.reduction import sum
from needle_ir.ops.shape import broadcast_to, permute, reshape

Axes = int | Sequence[int] | None


def add_scalar(a: Any, scalar: float) -> Any:
    """a + scalar."""
    return add(a, scalar)


def mul_scalar(a: Any, scalar: float) -> Any:
    """a * scalar."""
    return multiply(a, scalar)


def power_scalar(a: Any, scalar: float) -> Any:
    """a to the power of scalar."""
    return power(a, scalar)


def divide_scalar(a: Any, scalar: float) -> Any:
    """a / scalar."""
    return divide(a, scalar)


def negate(a: Any) -> Any:
    """-a."""
    return negative(a)


def summation(a: Any, axes: Axes = None) -> Any:
    """The sum over `axes`, over all axes where None."""
    return sum(a, axes)


def transpose(a: Any, axes: Sequence[int] | None = None) -> Any:
    """a with two axes swapped: the two in `axes`, the last two where None.

    With a permutation of all axes, the axes in that order.
    """
    ndim = len(a.shape)
    pair: Any = (-2, -1) if axes is None else axes
    if not (isinstance(pair, Sequence) and len(pair) == 2 and all(_within(i, ndim) for i in pair)):
        return permute(a, pair)
    order = list(range(ndim))
    i, j = pair
    order[i], order[j] = order[j], order[i]
    return permute(a, order)


def _within(axis: Any, ndim: int) -> bool:
    return isinstance(axis, int | np.integer) and bool(-ndim <= axis < ndim)


def logsoftmax(a: Any) -> Any:
    """The logarithm of softmax over the last axis."""
    return log_softmax(a, -1)


def make_tuple(*tensors: Any) -> tuple[Any, ...]:
    """The tensors as one tuple."""
    return tensors


def tuple_get_item(value: Sequence[Any], index: int) -> Any:
    """The tensor at position `index` of a tuple."""
    return value[index]


def fused_add_scalars(a: Any, c0: float, c1: float) -> tuple[Any, Any]:
    """(a + c0, a + c1)."""
    return a + c0, a + c1


class TensorOp:
    """An op of needle with its attributes. Calling it on tensors records it."""

    function: Callable[..., Any]

    def __init__(self, *attributes: Any, **named: Any):
        self._attributes = attributes
        self._named = named

    def __call__(self, *tensors: Any) -> Any:
        """The op on `tensors`."""
        return type(self).function(*tensors, *self._attributes, **self._named)

    def __repr__(self) -> str:
        shown = [*map(repr, self._attributes), *(f"{k}={v!r}" for k, v in self._named.items())]
        return f"{type(self).__name__}({', '.join(shown)})"


def _op(name: str, function: Callable[..., Any]) -> type[TensorOp]:
    members = {"function": staticmethod(function), "__doc__": function.__doc__}
    return type(name, (TensorOp,), {**members, "__module__": __name__})


EWiseAdd = _op("EWiseAdd", add)
AddScalar = _op("AddScalar", add_scalar)
EWiseMul = _op("EWiseMul", multiply)
MulScalar = _op("MulScalar", mul_scalar)
EWisePow = _op("EWisePow", power)
PowerScalar = _op("PowerScalar", power_scalar)
EWiseDiv = _op("EWiseDiv", divide)
DivScalar = _op("DivScalar", divide_scalar)
Transpose = _op("Transpose", transpose)
Reshape = _op("Reshape", reshape)
BroadcastTo = _op("BroadcastTo", broadcast_to)
Summation = _op("Summation", summation)
MatMul = _op("MatMul", matmul)
Negate = _op("Negate", negate)
Log = _op("Log", log)
Exp = _op("Exp", exp)
ReLU = _op("ReLU", relu)
LogSumExp = _op("LogSumExp", logsumexp)
LogSoftmax = _op("LogSoftmax", logsoftmax)
MakeTensorTuple = _op("MakeTensorTuple", make_tuple)
TupleGetItem = _op("TupleGetItem", tuple_get_item)
FusedAddScalars = _op("FusedAddScalars", fused_add_scalars)

"""The layers of the hand-written NumPy step: forward and backward into arrays made beforehand."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.problem import Array


class FlatArrays:
    """Named arrays that lie one behind the other in the memory of one, `flat`."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        ends = np.cumsum([0, *[math.prod(shape) for shape in shapes.values()]])
        self.flat: Array = np.zeros(ends[-1], np.float32)
        self._arrays = {
            name: self.flat[start:end].reshape(shape)
            for (name, shape), (start, end) in zip(shapes.items(), pairwise(ends), strict=True)
        }

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]


@dataclass(frozen=True)
class Linear:
    """x @ weight + bias, and the arrays that its gradients are written to."""

    weight: Array
    bias: Array
    weight_grad: Array
    bias_grad: Array

    def forward(self, x: Array, out: Array) -> None:
        """Write x @ weight + bias to `out`."""
        np.matmul(x, self.weight, out=out)
        np.add(out, self.bias, out=out)

    def backward(self, x: Array, ct: Array, ct_x: Array | None) -> None:
        """Write the gradients of weight and bias; that of `x` to `ct_x`, unless None."""
        np.matmul(x.T, ct, out=self.weight_grad)
        np.add.reduce(ct, 0, out=self.bias_grad)
        if ct_x is not None:
            np.matmul(ct, self.weight.T, out=ct_x)


@dataclass(frozen=True)
class Norm:
    """Batch normalization over rows, its gradients, and what backward needs from forward.

    `mean` and `var` are the batch's; the moving averages of all layers are moved at once.
    """

    weight: Array
    bias: Array
    weight_grad: Array
    bias_grad: Array
    mean: Array
    var: Array
    scale: Array  # one over the deviation
    normal: Array  # the standardized input
    row: Array
    eps: float

    def forward(self, x: Array, out: Array) -> None:
        """Write the normalized rows of `x` to `out`."""
        count = np.float32(1 / len(x))
        np.add.reduce(x, 0, out=self.mean)
        np.multiply(self.mean, count, out=self.mean)
        np.subtract(x, self.mean, out=self.normal)
        np.multiply(self.normal, self.normal, out=out)
        np.add.reduce(out, 0, out=self.var)
        np.multiply(self.var, count, out=self.var)
        np.add(self.var, self.eps, out=self.scale)
        np.sqrt(self.scale, out=self.scale)
        np.divide(1, self.scale, out=self.scale)
        np.multiply(self.normal, self.scale, out=self.normal)
        np.multiply(self.normal, self.weight, out=out)
        np.add(out, self.bias, out=out)

    def backward(self, ct: Array, scratch: Array) -> None:
        """Write the gradients, and turn `ct` into the one of the input, in place."""
        count = np.float32(1 / len(ct))
        np.multiply(ct, self.normal, out=scratch)
        np.add.reduce(scratch, 0, out=self.weight_grad)
        np.add.reduce(ct, 0, out=self.bias_grad)
        np.multiply(self.weight_grad, count, out=self.row)
        np.multiply(self.normal, self.row, out=scratch)
        np.subtract(ct, scratch, out=ct)
        np.multiply(self.bias_grad, count, out=self.row)
        np.subtract(ct, self.row, out=ct)
        np.multiply(self.weight, self.scale, out=self.row)
        np.multiply(ct, self.row, out=ct)

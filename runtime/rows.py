"""Reductions of a matrix: sums as products with ones, largest elements of short rows.

NumPy reduces the last axis row by row, and the scores of a classifier are rows of ten elements.
"""

from collections.abc import Callable

import numpy as np

from needle_ir.ir import Array, TensorType

# Up to here ones times a matrix gives the same bits whatever the number of threads: BLAS uses one.
# It takes a third to two thirds of the time of add.reduce over columns, and its sums are closer.
_BLAS_SUM_ELEMENTS = 1 << 18
# Along rows it takes a third of the time for rows of 10, an eighth for many of them; beyond this
# length the sums of add.reduce, which are pairwise, are closer.
_BLAS_SUM_ROW = 256
# Up to here the largest elements of rows are found sooner in a transposed copy: 3 to 10 times for
# rows of 10.
_SHORT_ROW = 32

_max, _add = np.maximum.reduce, np.add.reduce


def is_blas_sum(x: TensorType, axes: tuple[int, ...]) -> bool:
    """Whether a contiguous array of this type is summed over `axes` by a product with ones."""
    if len(x.shape) != 2 or x.size > _BLAS_SUM_ELEMENTS or x.dtype.char not in "fd":
        return False
    return (axes == (0,) and x.shape[1] > 1) or (axes == (1,) and 0 < x.shape[1] <= _BLAS_SUM_ROW)


def are_short_rows(shape: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether `axes` of an array of this shape are rows of a matrix, and short ones."""
    return axes == (1,) and len(shape) == 2 and 0 < shape[1] <= _SHORT_ROW


# A reduction of an array along some axes, which stay as axes of length 1.
Reduce = Callable[[Array], Array]


def largest_of(x: TensorType, axes: tuple[int, ...]) -> Reduce:
    """What gives the largest elements of arrays of this type along `axes`."""
    if are_short_rows(x.shape, axes):
        return lambda array: _max(array.T.copy(), 0)[:, None]
    return lambda array: _max(array, axes, keepdims=True)


def total_of(x: TensorType, axes: tuple[int, ...]) -> Reduce:
    """What gives the sums of contiguous arrays of this type along `axes`."""
    if axes == (1,) and is_blas_sum(x, axes):
        ones = np.ones((x.shape[1], 1), x.dtype)
        return lambda array: np.matmul(array, ones)
    return lambda array: _add(array, axes, keepdims=True)

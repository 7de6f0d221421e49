"""Matrix products, which threads share in blocks where they are large."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from needle_ir.ir import Array, Node
from needle_ir.runtime.blas import core_name
from needle_ir.runtime.inline import Kernel
from needle_ir.runtime.pool import pool

# Multiplications from which on threads share a product. It takes one thread about half a
# millisecond, waking another one about a tenth of that.
_SHARED_PRODUCTS = 1 << 25

# A block has as many rows or columns at least. BLAS copies all of the other operand for each block:
# two blocks of 500 rows take up to 1.05 times as long as one of 1,000, four of 250 rows 1.1.
_BLOCK_ROWS = 256

_MOST_BLOCKS = 64

# OpenBLAS calls a product small up to so many multiplications. With fewer rows a copy takes longer
# than it gains.
_SMALL_PRODUCTS = 10**6
_COPY_ROWS = 32

Key = slice | tuple[slice, ...]
_ALL = slice(None)
# What to take of both operands and of the result.
Block = tuple[Key, Key, Key]


def make_matmul(node: Node) -> Kernel:
    """A product. With `ndl.set_num_threads` large ones are computed block by block, in the same
    blocks for any number of threads, each by one call of BLAS: so the bits are the same as well.
    """
    transposes = "transpose_a" in node.attrs, "transpose_b" in node.attrs
    a, b = node.inputs
    if len(a.shape) == len(b.shape) == 2 and a.shape[0 if transposes[0] else 1] == 1:
        return _outer_product
    product = _copied_right if _gains_by_a_copy(node) else _PRODUCTS[transposes]
    blocks = _blocks(node)
    if len(blocks) < 2:
        return product

    def shared_product(a: Array, b: Array, out: Array) -> None:
        if pool.size is None:
            product(a, b, out)
        else:
            a = a.swapaxes(-1, -2) if transposes[0] else a
            b = b.swapaxes(-1, -2) if transposes[1] else b
            pool.share(_multiply, blocks, _no_memory, a, b, out)

    return shared_product


# NumPy hands a swapped view to BLAS as a flag: NumPy copies nothing.
def _right(a: Array, b: Array, out: Array) -> None:
    np.matmul(a, b.swapaxes(-1, -2), out)


def _copied_right(a: Array, b: Array, out: Array) -> None:
    np.matmul(a, b.T.copy(), out)


def _left(a: Array, b: Array, out: Array) -> None:
    np.matmul(a.swapaxes(-1, -2), b, out)


def _both(a: Array, b: Array, out: Array) -> None:
    np.matmul(a.swapaxes(-1, -2), b.swapaxes(-1, -2), out)


_PRODUCTS: dict[tuple[bool, bool], Kernel] = {
    (False, False): np.matmul,
    (False, True): _right,
    (True, False): _left,
    (True, True): _both,
}


def _gains_by_a_copy(node: Node) -> bool:
    """Whether a transposed right operand is copied. OpenBLAS has kernels of their own for small
    products. With those for AVX-512 the copy and the product take 0.87 to 0.95 of the time of a
    product with that flag, with those for Haswell 1.08 to 1.19 (`benchmarks/transposed.py`).
    """
    a, b = node.inputs
    return (
        {*node.attrs} == {"transpose_b"}
        and len(a.shape) == len(b.shape) == 2
        and node.dtype == np.float32
        and a.shape[0] >= _COPY_ROWS
        and node.type.size * a.shape[1] <= _SMALL_PRODUCTS
        and core_name() == "SkylakeX"
    )


def _outer_product(a: Array, b: Array, out: Array) -> None:
    """The product of a column and a row, transposed or not. BLAS takes three times as long."""
    np.multiply(a.reshape(-1, 1), b.reshape(1, -1), out)


def _multiply(mine: Iterator[Block], memory: None, a: Array, b: Array, out: Array) -> None:
    for of_a, of_b, of_out in mine:
        np.matmul(a[of_a], b[of_b], out[of_out])


def _no_memory(thread: int) -> None:
    return None


def _blocks(node: Node) -> list[Block]:
    """The blocks of a large product: rows of the result, or columns where it has too few rows, or
    some of its matrices where there are several. None where it is small, or its operands have axes
    that differ.
    """
    a, b = node.inputs
    if not len(a.shape) == len(b.shape) == len(node.shape) > 1:
        return []
    if node.type.size * a.shape[-2 if "transpose_a" in node.attrs else -1] < _SHARED_PRODUCTS:
        return []
    if len(node.shape) > 2:
        same = a.shape[0] == b.shape[0]
        return [(part, part, part) for part in _halves(node.shape[0], 1)] if same else []
    rows, columns = node.shape
    if rows >= 2 * _BLOCK_ROWS:
        return [(part, _ALL, part) for part in _halves(rows, _BLOCK_ROWS)]
    return [(_ALL, (_ALL, part), (_ALL, part)) for part in _halves(columns, _BLOCK_ROWS)]


def _halves(length: int, least: int) -> list[slice]:
    """Slices of nearly one length: halves, halves of them and so on, not shorter than `least`."""
    count = 1
    while length // (2 * count) >= least and count < _MOST_BLOCKS:
        count *= 2
    bounds = [length * i // count for i in range(count + 1)]
    return [slice(*ends) for ends in pairwise(bounds)]

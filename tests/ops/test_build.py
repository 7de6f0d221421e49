"""What building a node looks up never mixes numbers that only Python takes for equal."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, ops
from needle_ir.ir import Array, Attrs, DTypeError, Node

# Equal and of one hash, but for their types and the sign of zero.
NUMBERS: list[Any] = [1, 1.0, True, 0, 0.0, -0.0, False]


@ops.composite()
def scaled(x: Node, *, by: Any) -> Node:
    """x * by."""
    return x * by


def bits(array: Array) -> tuple[Any, bytes]:
    return array.dtype, array.tobytes()


@pytest.mark.filterwarnings("ignore::needle_ir.RecompileWarning")
@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64, np.float16, np.float32])
def test_numbers_beside_a_tensor(dtype: Any) -> None:
    x = np.array([1, 0, 1], dtype)
    tensor = Tensor(x, requires_grad=False)
    for order in list(permutations(NUMBERS))[::500]:
        for number in order:
            assert bits((tensor * number).numpy()) == bits(x * number)


@pytest.mark.filterwarnings("ignore::needle_ir.RecompileWarning")
def test_numbers_as_attributes() -> None:
    x = np.array([3, -2], np.int32)
    tensor = Tensor(x, requires_grad=False)
    for order in list(permutations(NUMBERS))[::500]:
        for number in order:
            assert bits(scaled(tensor, by=number).numpy()) == bits(x * number)


def test_attributes_in_tuples() -> None:
    def key(by: Any) -> Attrs:
        node: Node = scaled_by_first(Tensor(np.ones(2, np.int32)).node, by=by)
        return node.attrs

    kinds = [(1,), (1.0,), (True,), (0.0,), (-0.0,)]
    found = [key(by) for by in [*kinds, *kinds[::-1]]]
    assert found == [*found[:5], *found[:5][::-1]]
    assert len(set(found)) == len(kinds)


@ops.composite()
def scaled_by_first(x: Node, *, by: Any) -> Node:
    """x * by[0]."""
    return x * by[0]


def test_attributes_of_any_kind_are_looked_up_or_not() -> None:
    x = Tensor(np.ones(2, np.float32), requires_grad=False)
    for by in (float("nan"), np.float32(2), np.float64("nan"), np.array(3.0), float("inf")):
        for _ in range(2):
            np.testing.assert_array_equal(scaled(x, by=by).numpy(), np.ones(2) * by)


def test_a_number_that_does_not_fit_is_refused_every_time() -> None:
    x = Tensor(np.array([1], np.int8), requires_grad=False)
    for _ in range(2):
        with pytest.raises(DTypeError, match="does not fit"):
            x + 1000
    assert (x + 100).dtype == np.int8


@pytest.mark.parametrize("kind", [np.int32, np.float32, np.float64])
def test_operands_of_one_dtype_are_promoted_as_by_numpy(kind: Any) -> None:
    a, b = np.array([1, 2], kind), np.array([4, 8], kind)
    x, y = Tensor(a, requires_grad=False), Tensor(b, requires_grad=False)
    for found, expected in [
        (x + y, a + b),
        (x / y, a / b),
        (ndl.maximum(x, y), np.maximum(a, b)),
        (ops.where(x < y, x, y), np.where(a < b, a, b)),
    ]:
        assert bits(found.numpy()) == bits(expected)
    assert ndl.exp(x).dtype == np.exp(a).dtype

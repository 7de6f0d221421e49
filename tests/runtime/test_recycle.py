"""Memory of results that is used again: only when nobody can see it any more."""

import gc
import weakref

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Graph, TensorType
from needle_ir.passes import make_plan
from needle_ir.runtime import Executor
from needle_ir.runtime.recycle import RECYCLED_BYTES, Recycler
from tests.passes.graph_text import arg

SIZE = RECYCLED_BYTES // 4


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.bool_, np.int64])
def test_an_array_is_as_any_other(dtype: type) -> None:
    array = Recycler(TensorType((3, 4), np.dtype(dtype)))()
    assert (array.shape, array.dtype) == ((3, 4), np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert address(array) % 64 == 0


def test_memory_comes_back_when_the_array_dies() -> None:
    new = Recycler(TensorType((5,), np.dtype(np.float32)))
    array = new()
    where = address(array)
    assert address(new()) != where
    del array
    assert where in {address(array) for array in [new(), new()]}


@pytest.mark.parametrize(
    "look",
    [
        lambda a: a[2:],
        lambda a: a.reshape(5, 2).T,
        memoryview,
        lambda a: np.frombuffer(a, np.uint8),
        lambda a: np.ndarray((3,), np.float32, a, 4),
        lambda a: np.from_dlpack(a),
    ],
)
def test_not_while_something_looks_at_it(look: object) -> None:
    new = Recycler(TensorType((10,), np.dtype(np.float32)))
    array = new()
    where = address(array)
    seen = look(array)  # type: ignore[operator]
    del array
    others = [new() for _ in range(4)]
    assert where not in map(address, others)
    del seen
    assert where in {address(array) for array in [new(), new()]}


def test_only_a_few_are_kept() -> None:
    new = Recycler(TensorType((10,), np.dtype(np.float32)))
    arrays = [new() for _ in range(20)]
    del arrays
    assert len(new._free) == 2


def test_results_that_are_held_keep_their_numbers() -> None:
    x = arg("x", SIZE)
    run = Executor(make_plan(Graph([x], [x * 2.0, ops.reshape(x + 1.0, (2, -1))])))
    kept = []
    for i in range(6):
        results = run([np.full(SIZE, i, np.float32)])
        kept += [(i, results[0], results[1][0, ::2])] if i % 2 else []
    for i, doubled, more in kept:
        assert set(doubled) == {2 * i}
        assert set(more) == {i + 1}


def test_a_loop_uses_two_arrays() -> None:
    x = arg("x", SIZE)
    run = Executor(make_plan(Graph([x], [x + 1.0])))
    value = np.zeros(SIZE, np.float32)
    seen = set()
    for _ in range(10):
        (value,) = run([value])
        seen.add(address(value))
    assert value[0] == 10
    assert len(seen) == 2


def test_nothing_that_is_alive_is_kept_alive() -> None:
    x = arg("x", SIZE)
    run = Executor(make_plan(Graph([x], [x + 1.0])))
    (result,) = run([np.zeros(SIZE, np.float32)])
    gone = weakref.ref(result)
    del result
    gc.collect()
    assert gone() is None


def test_results_outlive_their_executor() -> None:
    x = arg("x", SIZE)
    run = Executor(make_plan(Graph([x], [x + 1.0])))
    (result,) = run([np.zeros(SIZE, np.float32)])
    del run
    gc.collect()
    assert set(result) == {1}

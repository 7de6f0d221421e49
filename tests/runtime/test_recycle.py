"""Memory of results that is used again: only when nobody can see it any more."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Array, Graph, TensorType
from needle_ir.passes import make_plan
from needle_ir.runtime import Executor
from needle_ir.runtime.recycle import RECYCLED_BYTES, Recycler
from tests.passes.graph_text import arg

SIZE = RECYCLED_BYTES // 4


def recycler(size: int, dtype: type = np.float32) -> Callable[[], Array]:
    """Makes arrays (size,) without parts."""
    make = Recycler({"a": (TensorType((size,), np.dtype(dtype)), 0)})
    return lambda: make()[0]


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.bool_, np.int64])
def test_an_array_is_as_any_other(dtype: type) -> None:
    (array,) = Recycler({"a": (TensorType((3, 4), np.dtype(dtype)), 0)})()
    assert (array.shape, array.dtype) == ((3, 4), np.dtype(dtype))
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert address(array) % 64 == 0


def test_memory_comes_back_when_the_array_dies() -> None:
    new = recycler(5)
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
    new = recycler(10)
    array = new()
    where = address(array)
    seen = look(array)  # type: ignore[operator]
    del array
    others = [new() for _ in range(4)]
    assert where not in map(address, others)
    del seen
    assert where in {address(array) for array in [new(), new()]}


LAYOUT = {
    "whole": (TensorType((10,), np.dtype(np.float32)), 0),
    "first": (TensorType((2, 3), np.dtype(np.float32)), 0),
    "second": (TensorType((4,), np.dtype(np.float32)), 24),
}


def test_parts_lie_where_the_layout_says() -> None:
    whole, first, second = Recycler(LAYOUT)()
    whole[...] = np.arange(10)
    np.testing.assert_array_equal(first, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(second, [6, 7, 8, 9])


@pytest.mark.parametrize("held", [0, 1, 2])
@pytest.mark.parametrize("look", [lambda a: a, lambda a: a.T, lambda a: a.base])
def test_one_part_holds_all(held: int, look: Callable[[Array], Array]) -> None:
    new = Recycler(LAYOUT)
    seen = look(new()[held])
    where = {address(new()[0]) for _ in range(4)}
    assert len(where) == 1
    assert not np.shares_memory(seen, new()[0])


def test_parts_are_found_by_their_identity() -> None:
    new = Recycler(LAYOUT)
    whole, first, second = new()
    new()
    find = new.finder("whole", ["first", "second"])
    assert find([first, second]) is whole
    assert find([first, second[:]]) is None
    assert find([second, first]) is None
    assert new.finder("first", ["second"])([second]) is first


def test_only_a_few_are_kept() -> None:
    new = recycler(10)
    arrays = [new() for _ in range(20)]
    gone = [weakref.ref(x) for x in arrays]
    del arrays
    gc.collect()
    assert sum(x() is not None for x in gone) == 2


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


def test_nothing_is_alive_after_the_executor() -> None:
    x = arg("x", SIZE)
    run = Executor(make_plan(Graph([x], [x + 1.0])))
    (result,) = run([np.zeros(SIZE, np.float32)])
    gone = weakref.ref(result)
    del result, run
    gc.collect()
    assert gone() is None


def test_results_outlive_their_executor() -> None:
    x = arg("x", SIZE)
    run = Executor(make_plan(Graph([x], [x + 1.0])))
    (result,) = run([np.zeros(SIZE, np.float32)])
    del run
    gc.collect()
    assert set(result) == {1}

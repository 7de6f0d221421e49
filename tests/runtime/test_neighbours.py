"""Packs of arrays that lie side by side: found without a copy, and only where that is exact."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Array, Graph
from needle_ir.passes import make_plan
from needle_ir.runtime import Executor, neighbours
from tests.passes.arena_checker import problems
from tests.passes.graph_text import arg

SHAPES = [(2, 3), (4,), (1, 2)]


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of arrays that each pack had to copy."""
    counted: list[int] = []

    def concatenate(xs: list[Array], axis: None) -> Array:
        counted.append(len(xs))
        return np.concatenate(xs, axis)

    monkeypatch.setattr(neighbours, "np", type("numpy", (), {"concatenate": concatenate}))
    return counted


def step() -> Executor:
    """2 p + 1 for each parameter p, by way of a value in the place of the packed ones."""
    params = [arg(f"p{i}", *shape) for i, shape in enumerate(SHAPES)]
    packed = ops.pack(*params)
    new = ops.tanh(packed) * 0.0 + packed * 2.0 + 1.0
    plan = make_plan(Graph(params, [*ops.unpack_all(new, SHAPES), ops.sum(packed)]))
    assert problems(plan) == []
    return Executor(plan)


def start() -> list[Array]:
    return [np.full(shape, i, np.float32) for i, shape in enumerate(SHAPES)]


def check(results: tuple[Array, ...], given: list[Array]) -> None:
    for result, x in zip(results[:-1], given, strict=True):
        np.testing.assert_array_equal(result, 2 * x + 1)
    assert results[-1] == sum(x.sum() for x in given)


def test_what_comes_back_is_not_copied(copies: list[int]) -> None:
    run = step()
    arrays = start()
    for _ in range(4):
        kept = [x.copy() for x in arrays]
        *new, total = run(arrays)
        check((*new, total), kept)
        check((*new, total), arrays)  # what was given was not written to
        arrays = new
    assert copies == [3]


def test_numbers_written_in_between_are_seen(copies: list[int]) -> None:
    run = step()
    *arrays, _ = run(start())
    arrays[1][...] = 7
    check(run(arrays), arrays)
    assert copies == [3]


OTHERS: dict[str, Callable[[list[Array]], list[Array]]] = {
    "one is a copy": lambda x: [x[0], x[1].copy(), x[2]],
    "one is another view of the same": lambda x: [x[0], x[1][:], x[2]],
    "all are": lambda x: [a.reshape(a.shape) for a in x],
    "of the step before": lambda x: [x[0], np.ones(4, np.float32), x[2]],
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=list(OTHERS))
def test_other_arrays_are_copied(
    change: Callable[[list[Array]], list[Array]], copies: list[int]
) -> None:
    run = step()
    *arrays, _ = run(start())
    arrays = change(arrays)
    check(run(arrays), arrays)
    assert copies == [3, 3]


def test_arrays_of_one_shape_in_another_order(copies: list[int]) -> None:
    params = [arg(f"p{i}", 3) for i in range(3)]
    packed = ops.pack(*params)
    run = Executor(make_plan(Graph(params, ops.unpack_all(packed * 2.0 + packed, [(3,)] * 3))))
    a, b, c = run([np.full(3, i, np.float32) for i in range(3)])
    assert [x[0] for x in run([b, a, c])] == [9, 0, 18]
    assert [x[0] for x in run([a, a, a])] == [0, 0, 0]
    assert copies == [3, 3, 3]


def test_results_that_are_held_keep_their_numbers() -> None:
    run = step()
    arrays = start()
    kept = []
    for _ in range(5):
        *arrays, _ = run(arrays)
        kept.append((arrays, [x.copy() for x in arrays]))
    for held, copied in kept:
        for a, b in zip(held, copied, strict=True):
            np.testing.assert_array_equal(a, b)


def test_memory_is_used_again_and_nothing_else_is_held_alive() -> None:
    run = step()
    arrays = start()
    seen = set()
    for _ in range(6):
        given = [weakref.ref(x) for x in arrays]
        *arrays, _ = run(arrays)
        seen.add(arrays[0].ctypes.data)
    assert len(seen) == 2
    held = [weakref.ref(x) for x in arrays]
    del arrays, run
    gc.collect()
    assert [x() for x in (*given, *held)] == [None] * 6


def test_the_moments_beside_the_parameters() -> None:
    """Parts may be some of an array's neighbours: those of the right types, in their order."""
    flat = arg("u", 12)
    params = [arg(f"p{i}", *shape) for i, shape in enumerate(SHAPES)]
    whole = ops.pack(flat * 2.0, ops.pack(*params) + 1.0)
    outputs = [ops.unpack(whole, 0, (12,)), *ops.unpack_all(ops.unpack(whole, 12, (12,)), SHAPES)]
    outputs[1:] = [ops.unpack(whole, 12 + x.attrs["start"], x.shape) for x in outputs[1:]]
    plan = make_plan(Graph([flat, *params], outputs))
    assert problems(plan) == []
    assert len(plan.handed_back) == 1
    run = Executor(plan)
    u, *arrays = np.ones(12, np.float32), *start()
    for _ in range(3):
        expected = [u * 2, *[x + 1 for x in arrays]]
        results = run([u, *arrays])
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        u, *arrays = results


@pytest.mark.parametrize("between", range(16))
def test_packs_that_come_back_and_others_do_not_share_a_name(between: int) -> None:
    """Whatever the numbers of the one's slot and of the other's step are."""
    params = [arg(f"p{i}", *shape) for i, shape in enumerate(SHAPES)]
    x = arg("x", 5)
    new = ops.pack(*params) * 2.0
    y = x
    for _ in range(between):
        y = ops.tanh(y)
    other = ops.pack(x, y)
    graph = Graph([*params, x], [*ops.unpack_all(new, SHAPES), other])
    arrays = [*start(), np.linspace(-1, 1, 5, dtype=np.float32)]
    *_, found = Executor(make_plan(graph))(arrays)
    expected = arrays[-1]
    for _ in range(between):
        expected = np.tanh(expected)
    np.testing.assert_allclose(found, np.concatenate([arrays[-1], expected]), rtol=1e-6)

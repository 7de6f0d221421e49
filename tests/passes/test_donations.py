"""Outputs in the place of inputs: only where no input is read after its bytes were written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from needle_ir import ops
from needle_ir.ir import CONSTANT, INPUT, Graph, Node
from needle_ir.passes import Fuse, Horizontal, make_plan, run_pipeline
from needle_ir.runtime import Executor, executor, tiles
from tests.passes.graph_text import arg
from tests.passes.random_graphs import Sample, samples
from tests.passes.training_step import optimized, training_step

Array = np.ndarray[Any, Any]
LEAVES = (INPUT, CONSTANT)
Pairs = list[tuple[int, int]]


@pytest.fixture(autouse=True)
def small_arrays_are_recycled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "RECYCLED_BYTES", 1)


def same_types(graph: Graph) -> Pairs:
    """Pairs of an input and an output of its type, each output at most once."""
    free = dict(enumerate(graph.outputs))
    pairs: Pairs = []
    for i, node in enumerate(graph.inputs):
        k = next((k for k, output in free.items() if output.type == node.type), None)
        if k is not None:
            del free[k]
            pairs.append((i, k))
    return pairs


def steps(
    graph: Graph, arrays: Sequence[Array], pairs: Pairs, in_place: bool, count: int = 4
) -> tuple[list[list[Array]], int]:
    """Copies of the outputs of several runs, each of which gets back what the one before gave; and
    how often an output took an input's memory.
    """
    run = Executor(make_plan(graph, pairs))
    arrays, leases = [*arrays], ()
    found, shared = [], 0
    for _ in range(count):
        np.random.seed(0)
        outputs, latest = run.replace(arrays, leases)
        # As a caller has to: it would share it with whoever passed it in.
        given = zip(graph.outputs, outputs, strict=True)
        outputs = tuple([x.copy() if node.op in LEAVES else x for node, x in given])
        shared += sum(outputs[k] is arrays[i] for i, k in pairs)
        for i, k in pairs:
            arrays[i] = outputs[k]
        found.append([output.copy() for output in outputs])
        leases = latest if in_place else ()
    return found, shared


def assert_same_bits(graph: Graph, arrays: Sequence[Array], pairs: Pairs) -> int:
    apart, none = steps(graph, arrays, pairs, in_place=False)
    together, shared = steps(graph, arrays, pairs, in_place=True)
    assert none == 0
    for expected, outputs in zip(apart, together, strict=True):
        for a, b in zip(outputs, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    return shared


def update(p: Node, g: Node) -> Node:
    result: Node = p - 0.5 * ops.sqrt(g * g + p * p)
    return result


X, Y = arg("x", 4, 3), arg("y", 4, 3)
SQUARE, ROW, WIDE = arg("s", 4, 4), arg("r", 3), arg("w", 4, 3, dtype=np.float64)
PACKED = ops.pack(X, Y)
TAKEN = ops.unpack_all(PACKED * 0.5 + PACKED, [(4, 3), (4, 3)])
TURNED = ops.unpack_all(ops.pack(Y, X) * 0.5 + PACKED, [(4, 3), (4, 3)])

# What a graph is given, what it returns, what takes the place of what, and which pairs are safe.
CASES: dict[str, tuple[list[Node], list[Node], Pairs, Pairs]] = {
    "element by element": ([X], [X * 2.0], [(0, 0)], [(0, 0)]),
    "a cluster": ([X, Y], [update(X, Y)], [(0, 0)], [(0, 0)]),
    "either operand": ([X, Y], [update(X, Y)], [(1, 0)], [(1, 0)]),
    "one after the other": (
        [X, Y],
        [update(X, Y), update(Y, X) * 3.0],
        [(0, 0), (1, 1)],
        [(1, 1)],
    ),
    "nobody reads it": ([X, Y], [SQUARE @ Y], [(0, 0)], [(0, 0)]),
    "read before": ([X], [ops.sum(X, 0, keepdims=True) * ROW + Y], [(0, 0)], [(0, 0)]),
    "a product": ([SQUARE], [SQUARE @ SQUARE], [(0, 0)], []),
    "a softmax": ([X], [ops.softmax(X, 1)], [(0, 0)], []),
    "turned": ([SQUARE], [ops.permute(SQUARE) + 1.0], [(0, 0)], []),
    "read through a view as well": ([SQUARE], [SQUARE + ops.permute(SQUARE)], [(0, 0)], []),
    "along an axis": ([ROW, X], [ROW + X], [(0, 0)], []),
    "of another type": ([WIDE, X], [WIDE * 2.0, X * 2.0], [(0, 1), (1, 0)], []),
    "returned as it was": ([X], [X * 2.0, X], [(0, 0)], []),
    "changed places": ([X, Y], [Y, X * 2.0], [(0, 0), (1, 1)], []),
    "read by a later step": (
        [X, SQUARE],
        [X * 2.0, SQUARE @ (SQUARE @ (SQUARE @ X))],
        [(0, 0)],
        [],
    ),
    "packed": ([X, Y], TAKEN, [(0, 0), (1, 1)], [(0, 0), (1, 1)]),
    "packed the other way round": ([X, Y], TURNED, [(0, 0), (1, 1)], [(0, 0), (1, 1)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_which_are_safe(case: tuple[list[Node], list[Node], Pairs, Pairs]) -> None:
    inputs, outputs, pairs, safe = case
    graph = Graph([*inputs, *[x for x in (ROW, SQUARE, Y) if x not in inputs]], outputs)
    graph = run_pipeline(graph, [Fuse(min_bytes=0)])
    plan = make_plan(graph, pairs)
    found = {pair for donation in plan.donations for pair in donation.replaced}
    assert found <= {(plan.inputs[i], plan.outputs[k]) for i, k in pairs}
    assert found == {(plan.inputs[i], plan.outputs[k]) for i, k in safe}
    random = np.random.default_rng(0)
    arrays = [random.random(x.shape).astype(x.dtype) for x in graph.inputs]
    shared = assert_same_bits(graph, arrays, pairs)
    assert (shared > 0) == (len(safe) > 0)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(samples())
def test_any_graph(sample: Sample) -> None:
    graph = optimized(sample.graph)
    assert_same_bits(graph, sample.arrays, same_types(graph))


@pytest.mark.parametrize("tile_bytes", [8, 24, 1 << 17])
@pytest.mark.parametrize("passes", [[], [Horizontal(min_lanes=2), Fuse(min_bytes=0)]])
def test_a_training_step(
    tile_bytes: int, passes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE_BYTES", tile_bytes)
    graph, arrays = training_step()
    graph = run_pipeline(optimized(graph, "autodiff, lower"), passes)
    assert assert_same_bits(graph, arrays, same_types(graph)) > 0


def test_the_last_result_of_a_cluster_is_no_scratch_memory_while_an_operand_lies_there() -> None:
    """The second result is computed last, and reads what lies in its place at the end."""
    u, p, g = (arg(name, 24) for name in "upg")
    new = u * 0.9 + g * 0.1
    outputs = ops.unpack_all(ops.pack(new, p - new / (ops.sqrt(g * g) + 1.0)), [(24,), (24,)])
    graph = run_pipeline(Graph([u, p, g], outputs), [Fuse(min_bytes=0)])
    arrays = [np.random.default_rng(1).random(24, np.float32) for _ in range(3)]
    pairs = [(0, 0), (1, 1)]
    assert graph.count("fused") == 1
    assert len(make_plan(graph, pairs).donations[0].replaced) == 2
    assert assert_same_bits(graph, arrays, pairs) == 6


def parts_of(packed: Array) -> list[Array]:
    return [packed, packed[:12].reshape(4, 3), packed[12:].reshape(4, 3)]


@pytest.mark.parametrize("read_late", [False, True])
def test_parts_of_what_is_replaced(read_late: bool) -> None:
    """As an optimizer keeps its parameters: one packed array, and views of its parts."""
    packed = arg("p", 24)
    new = packed - 0.5 * ops.pack(SQUARE @ X, SQUARE @ Y)
    outputs = [new, ops.sum(ops.exp(-new)) * X] if read_late else [new]
    graph = run_pipeline(Graph([packed, X, Y, SQUARE], outputs), [Fuse(min_bytes=0)])
    run = Executor(make_plan(graph, [(0, 0), (1, 0), (2, 0)]))
    replaced = [pair for donation in run.plan.donations for pair in donation.replaced]
    assert len(replaced) == (0 if read_late else 3)
    random, leases = np.random.default_rng(0), ()
    values, square = random.random(24, np.float32), random.random((4, 4), np.float32)
    for step in range(4):
        expected = run([*parts_of(values.copy()), square])[0].copy()
        before = values
        results, latest = run.replace([*parts_of(values), square], leases)
        values, leases = results[0], () if read_late else latest
        assert (values is before) == (step > 0 and not read_late)
        np.testing.assert_array_equal(values, expected)


def test_a_part_is_smaller_and_of_the_same_dtype() -> None:
    for old, new in ((arg("w", 4), X), (X, arg("w", 4, 3, dtype=np.float64)), (X, ROW)):
        graph = Graph([old, new], [new * 2.0])
        donations = make_plan(graph, [(0, 0)]).donations
        assert bool(donations) == (old.type.size < new.type.size)


def test_the_plan_tells() -> None:
    x, y = arg("x", 4, 3), arg("y", 4, 3)
    graph = Graph([x, y], [x * 2.0, y + 1.0])
    assert str(make_plan(graph, [(0, 0)])).endswith(
        "in the place of 1 inputs, where nobody else holds them: 48 bytes"
    )
    assert "in the place of" not in str(make_plan(graph))


def test_an_error_on_the_way_lends_nothing_to_the_next_run() -> None:
    x, i = arg("x", 4, 3), arg("i", 4, dtype=np.int64)
    graph = Graph([x, i], [ops.gather(x, i, 0) * 1.0, x * 2.0])
    run = Executor(make_plan(graph, [(0, 1)]))
    array, index = np.ones((4, 3), np.float32), np.arange(4)
    outputs, leases = run.replace([array, index], ())
    with pytest.raises(IndexError):
        run.replace([outputs[1], index + 9], leases)
    again = run([array, index])
    assert all(a is not b for a in again for b in outputs)
    np.testing.assert_array_equal(again[1], array * 2)


def test_temporaries_of_flat_tiles_that_are_larger_than_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The operand that is overwritten is read last, so that no temporary can lie there before."""
    monkeypatch.setattr(tiles, "TILE_BYTES", 1 << 12)
    shape = (40, 300)  # 900 elements in rows, 1,024 where flat
    w, y = arg("w", *shape), arg("y", *shape)
    new = ops.exp(w) / (y + 1.0) - w * ops.tanh(y)
    graph = run_pipeline(Graph([w, y], [new]), [Fuse(min_bytes=0)])
    arrays = [np.random.default_rng(i).random(shape, np.float32) for i in range(2)]
    assert assert_same_bits(graph, arrays, [(0, 0)]) == 3

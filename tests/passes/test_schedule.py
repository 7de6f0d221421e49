"""Scheduling: a topological order, effects in program order, few bytes alive."""

import numpy as np
import pytest
from hypothesis import given, settings

from needle_ir import ops
from needle_ir.ir import CONSTANT, INPUT, Graph, Node, Trait
from needle_ir.passes import peak_bytes, schedule
from tests.passes.graph_text import arg
from tests.passes.random_graphs import Sample, samples
from tests.passes.training_step import optimized, training_step

Order = tuple[Node, ...]


def depth_first(graph: Graph) -> Order:
    return tuple(node for node in graph.nodes if node.op not in (INPUT, CONSTANT))


def peak_by_hand(graph: Graph, order: Order) -> int:
    """The same as `peak_bytes`, the slow way: who needs whom at each step, found by search."""

    def reads(node: Node, memory: Node) -> bool:
        return any(x is memory or (is_view(x) and reads(x, memory)) for x in node.inputs)

    def is_view(node: Node) -> bool:
        return node.op.has(Trait.VIEW)

    def leaves(memory: Node) -> bool:
        return any(x is memory or (is_view(x) and reads(x, memory)) for x in graph.outputs)

    def alive(memory: Node, step: int) -> bool:
        if is_view(memory) or order.index(memory) > step:
            return False
        return (
            leaves(memory)
            or memory is order[step]
            or any(reads(node, memory) for node in order[step:])
        )

    steps = range(len(order))
    return max((sum(n.type.nbytes for n in order if alive(n, s)) for s in steps), default=0)


def assert_valid(graph: Graph, order: Order) -> None:
    assert sorted(map(id, order)) == sorted(map(id, depth_first(graph)))
    position = {node: i for i, node in enumerate(order)}
    for node in order:
        assert all(position.get(operand, -1) < position[node] for operand in node.inputs)
    assert tuple(node for node in order if node.op.has(Trait.EFFECT)) == graph.effects


@settings(max_examples=120, derandomize=True, deadline=None)
@given(samples())
def test_any_graph(sample: Sample) -> None:
    for pipeline in ("autodiff, lower", None):
        graph = optimized(sample.graph, pipeline)
        order = schedule(graph)
        assert_valid(graph, order)
        peak = peak_by_hand(graph, order)
        assert peak_bytes(graph, order) == peak
        assert peak <= peak_by_hand(graph, depth_first(graph))


def test_a_training_step() -> None:
    graph = optimized(training_step()[0])
    order = schedule(graph)
    assert_valid(graph, order)
    assert peak_bytes(graph, order) <= peak_bytes(graph, depth_first(graph))


def test_it_is_the_same_every_time() -> None:
    graph = optimized(training_step()[0])
    assert schedule(graph) == schedule(graph)


def test_better_than_depth_first() -> None:
    # Depth first would keep `big` while it computes `other`, only to reduce it again at the end.
    x = arg("x", 100)
    big = ops.exp(x)
    other = ops.tanh(x * ops.sum(big))
    graph = Graph([x], [ops.sum(other), ops.max(big)])
    assert peak_bytes(graph, depth_first(graph)) == 4 * 3 * 100
    assert peak_bytes(graph, schedule(graph)) == 4 * (2 * 100 + 1)


@pytest.mark.parametrize("large_first", [False, True])
def test_effects_keep_their_order_though_another_frees_more(large_first: bool) -> None:
    sizes = [(1000,), (1,)] if large_first else [(1,), (1000,)]
    draws = [ops.random_uniform(size, 0.0, 1.0, np.float32) for size in sizes]
    graph = Graph([], [ops.sum(draw) for draw in draws[::-1]], effects=draws)
    order = schedule(graph)
    assert_valid(graph, order)


def test_an_effect_that_reads_the_one_before() -> None:
    first, second, third = (ops.random_normal((2,), 0.0, 1.0, np.float32) for _ in range(3))
    graph = Graph([], [third, first + second], effects=[first, second, third])
    assert_valid(graph, schedule(graph))


def test_nothing_to_compute() -> None:
    x = arg("x", 3)
    assert schedule(Graph([x], [x])) == ()
    assert peak_bytes(Graph([x], [x]), ()) == 0


# peak_bytes on orders whose peak is plain to see --------------------------------------------------


def test_a_chain_holds_two_values() -> None:
    x = arg("x", 10)
    graph = Graph([x], [ops.exp(ops.tanh(ops.exp(x)))])
    assert peak_bytes(graph, depth_first(graph)) == 2 * 40


def test_what_leaves_the_graph_stays() -> None:
    x = arg("x", 10)
    a = ops.exp(x)
    b = ops.exp(a)
    graph = Graph([x], [a, b, ops.exp(b)])
    assert peak_bytes(graph, depth_first(graph)) == 3 * 40


def test_a_view_keeps_what_it_looks_at() -> None:
    x = arg("x", 2, 5)
    a = ops.exp(x)
    view = ops.permute(ops.reshape(a, (5, 2)))
    b = ops.tanh(x)
    total = ops.sum(view)
    graph = Graph([x], [total, b])
    # a is needed until its view is summed, when b is there already.
    assert peak_bytes(graph, (a, *view.inputs, view, b, total)) == 40 + 40 + 4
    assert peak_bytes(graph, (a, *view.inputs, view, total, b)) == 40 + 4


def test_what_nobody_reads_goes_at_once() -> None:
    x = arg("x", 10)
    graph = Graph([x], [ops.sum(x)], unused=[ops.exp(x), ops.tanh(x)])
    assert peak_bytes(graph, depth_first(graph)) == 40 + 4


def test_inputs_and_constants_do_not_count() -> None:
    x = arg("x", 100)
    graph = Graph([x], [ops.sum(x), ops.sum(ops.as_constant(np.ones(100)))])
    assert peak_bytes(graph, depth_first(graph)) == 4 + 8

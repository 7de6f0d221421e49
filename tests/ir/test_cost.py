"""Operations and bytes: the convention of ir/cost.py, against numbers worked out by hand."""

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    Attrs,
    Cost,
    Graph,
    Node,
    Op,
    TensorType,
    Trait,
    graph_cost,
    input_node,
    node_costs,
)
from needle_ir.ops import COMPOSITES, PRIMITIVES
from needle_ir.passes import Lower
from tests.passes.training_step import training_step


def arg(name, *shape, dtype=np.float32):
    return input_node(TensorType(shape, np.dtype(dtype)), name)


def cost_of(node):
    """What the node by itself costs."""
    inputs = [x for x in _all(node) if x.op.name == "input"]
    return node_costs(Graph(inputs, [node]))[node]


def _all(node):
    return Graph([], [node]).nodes


@pytest.mark.parametrize("k", [0, 1, 7])
@pytest.mark.parametrize(
    ("a", "b", "results"),
    [
        ((5, "k"), ("k", 3), 15),
        (("k",), ("k", 3), 3),
        ((5, "k"), ("k",), 5),
        (("k",), ("k",), 1),
        ((4, 5, "k"), ("k", 3), 60),
        ((2, 1, 5, "k"), (4, "k", 3), 120),
        ((4, 5, "k"), ("k",), 20),
        (("k",), (4, "k", 3), 12),
        ((0, "k"), ("k", 3), 0),
    ],
)
def test_a_product_does_two_operations_per_result_and_summand(a, b, results, k):
    shapes = [tuple(k if dim == "k" else dim for dim in shape) for shape in (a, b)]
    product = ops.matmul(arg("a", *shapes[0]), arg("b", *shapes[1]))
    moved = 4 * (np.prod(shapes[0]) + np.prod(shapes[1]) + results)
    assert cost_of(product) == (2 * results * k, moved)


def test_an_elementwise_op_does_one_per_element_and_reads_an_operand_once():
    x, row = arg("x", 6, 4), arg("row", 4)
    assert cost_of(ops.exp(x)) == (24, 2 * 96)
    assert cost_of(x * row) == (24, 96 + 16 + 96)
    assert cost_of(x * x) == (24, 2 * 96)
    assert cost_of(ops.cast(x, np.float64)) == (24, 96 + 192)
    assert cost_of(ops.where(x > row, x, 0.0)) == (24, 24 + 96 + 4 + 96)


def test_a_reduction_does_one_per_element_of_its_operand():
    x = arg("x", 6, 4, dtype=np.float64)
    assert cost_of(ops.sum(x, 1)) == (24, 192 + 48)
    assert cost_of(ops.logsumexp(x)) == (24, 192 + 8)


def test_moving_elements_is_no_operation():
    x, index = arg("x", 6, 4), arg("i", 3, dtype=np.int64)
    assert cost_of(ops.gather(x, index)) == (0, 96 + 24 + 48)
    assert cost_of(ops.concatenate([x, x])) == (0, 96 + 192)
    assert cost_of(ops.random_uniform((3,), 0.0, 1.0, np.float32)) == (0, 12)


def test_views_are_free_and_what_reads_them_reads_what_they_look_at():
    x, scalar = arg("x", 6, 4), arg("s")
    for view in (
        ops.reshape(x, (24,)),
        ops.permute(x),
        ops.broadcast_to(scalar, (6, 4)),
        ops.slice(x, (0, 0), (2, 2)),
    ):
        assert cost_of(view) == (0, 0)
    assert cost_of(ops.exp(ops.broadcast_to(scalar, (6, 4)))) == (24, 4 + 96)
    assert cost_of(ops.exp(ops.slice(x, (0, 0), (2, 2)))) == (4, 16 + 16)
    stretched = ops.broadcast_to(ops.reshape(scalar, (1, 1)), (100, 100))
    part = ops.slice(stretched, (0, 0), (10, 10))
    assert cost_of(ops.exp(part)) == (100, 4 + 400)


def test_a_composite_does_what_is_inside_and_moves_what_goes_in_and_out():
    x, w, b = arg("x", 5, 4), arg("w", 4, 3), arg("b", 3)
    assert cost_of(ops.linear(x, w, b)) == (2 * 5 * 4 * 3 + 15, 4 * (20 + 12 + 3 + 15))

    # 1 / (1 + exp(-x)), x times it: five elementwise ops in a composite in a composite.
    @ops.composite()
    def sigmoid(x):
        return 1.0 / (ops.exp(-x) + 1.0)

    @ops.composite()
    def silu(x):
        return x * sigmoid(x)

    assert cost_of(silu(x)) == (5 * 20, 2 * 80)


def test_a_node_that_holds_a_graph_does_what_is_inside():
    inner = arg("p", 5, 4)
    body = Graph([inner], [ops.exp(inner) * 2.0 + inner])
    x = arg("x", 5, 4)
    fused = Op(name="fused", infer=lambda x, body: x, traits=frozenset({Trait.ELEMENTWISE}))
    node = Node(fused, (x,), Attrs({"body": body}), x.type)
    assert cost_of(node) == (3 * 20, 2 * 80)


def test_a_request_costs_nothing_until_it_is_expanded():
    x = arg("x", 5)
    loss = ops.sum(x * x)
    assert cost_of(ops.grad(loss, x)) == (0, 0)
    assert cost_of(ops.stop_gradient(x)) == (0, 0)


def test_a_graph_costs_what_its_nodes_cost():
    x, w = arg("x", 8, 8), arg("w", 8, 8)
    product = x @ w
    graph = Graph([x, w], [ops.sum(product)], unused=[ops.exp(x)])
    assert graph_cost(graph) == (1024 + 64 + 64, 4 * (3 * 64 + 65 + 2 * 64))
    assert graph_cost(Graph([x], [x])) == (0, 0)
    assert Cost(6, 3).intensity == 2
    assert Cost(0, 0).intensity == 0


def test_every_op_has_traits_that_say_what_it_does():
    """An op that computes and declares none of these would be counted as free."""
    computes = {Trait.ELEMENTWISE, Trait.CONTRACTION, Trait.REDUCTION, Trait.ROWWISE}
    moves = {"constant", "gather", "input", "scatter_add", "concatenate", "unslice", "pack"}
    for name, op in {**PRIMITIVES, **COMPOSITES}.items():
        known = op.decompose is not None or op.traits & {*computes, *_MOVES}
        assert known or name in moves, f"{name}: what does it cost?"


_MOVES = (Trait.VIEW, Trait.MARKER, Trait.RANDOM)


def test_opening_the_composites_keeps_the_operations_and_moves_more():
    graph, _ = training_step()
    opened = Lower().run(graph)
    assert len(opened.nodes) > 2 * len(graph.nodes)
    assert graph_cost(opened).flops == graph_cost(graph).flops
    assert graph_cost(opened).bytes_moved > graph_cost(graph).bytes_moved


def test_a_long_chain_takes_linear_time():
    x = arg("x", 2)
    node = x
    for _ in range(25_000):
        node = ops.reshape(ops.exp(node), (1, 2))
        node = ops.reshape(node, (2,))
    assert graph_cost(Graph([x], [node])) == (50_000, 25_000 * 16)

"""Graphs: the order of their nodes, rebuilding, and that depth does not matter."""

import gc
import sys
import weakref
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir import ops
from needle_ir.ir import (
    NO_ATTRS,
    Graph,
    Node,
    Origin,
    TensorType,
    capture_origin,
    input_node,
    scope,
    structural_key,
    topological,
    verify,
)

F32 = np.dtype(np.float32)
DEEP = 100_000


def leaf(*shape: int, name: str | None = None) -> Node:
    return input_node(TensorType(shape, F32), name)


# Order --------------------------------------------------------------------------------------------


def test_inputs_come_first_then_operands_before_users() -> None:
    x, y, unused = leaf(2), leaf(2), leaf(3)
    a = ops.exp(x)
    b = y + a
    c = b * a
    assert Graph([y, unused, x], [c]).nodes == (y, unused, x, a, b, c)


def test_effects_run_before_what_the_outputs_need_and_unused_nodes_last() -> None:
    x = leaf(2)
    first = ops.random_uniform((2,), 0, 1, "float32")
    second = ops.random_uniform((2,), 0, 1, "float32")
    output, unused = x + second, ops.exp(x)
    graph = Graph([x], [output], [first, second], [unused])
    assert graph.nodes == (x, first, second, output, unused)


@st.composite
def dags(draw: st.DrawFn) -> tuple[list[Node], list[Node]]:
    """All nodes of a random graph in the order in which they were made, and some roots."""
    nodes = [leaf() for _ in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(0, 15))):
        operand = st.sampled_from(nodes)
        nodes.append(ops.add(draw(operand), draw(operand)))
    return nodes, draw(st.lists(st.sampled_from(nodes), max_size=4))


@settings(max_examples=150, derandomize=True, deadline=None)
@given(dags())
def test_topological_order(dag: tuple[list[Node], list[Node]]) -> None:
    nodes, roots = dag
    order = topological(roots)
    needed = set(roots)
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.inputs)
    assert set(order) == needed
    assert len(order) == len(needed)
    position = {node: i for i, node in enumerate(order)}
    assert all(position[x] < position[node] for node in order for x in node.inputs)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(dags())
def test_users(dag: tuple[list[Node], list[Node]]) -> None:
    nodes, roots = dag
    graph = Graph([node for node in nodes if not node.inputs], roots)
    expected = {node: [u for u in graph.nodes if node in u.inputs] for node in graph.nodes}
    assert {node: list(readers) for node, readers in graph.users.items()} == expected


def test_what_is_done_is_not_visited_again() -> None:
    x = leaf()
    a = ops.exp(x)
    b = ops.exp(a)
    assert topological([b, a], done=[a]) == [b]
    assert topological([b, a]) == [x, a, b]


def test_count_and_repr() -> None:
    x = leaf(2)
    graph = Graph([x], [ops.exp(ops.exp(x)) + x], name="loss")
    assert (graph.count("exp"), graph.count("add"), graph.count("log")) == (2, 1, 0)
    assert repr(graph) == "<Graph loss: 4 nodes, 1 outputs>"


# Rebuilding ---------------------------------------------------------------------------------------


def keep(node: Node, inputs: tuple[Node, ...]) -> Node:
    return node.with_inputs(inputs)


def test_a_rebuild_that_changes_nothing_gives_the_graph_itself() -> None:
    x = leaf(2)
    draw = ops.random_uniform((2,), 0, 1, "float32")
    graph = Graph([x], [ops.exp(x), x], [draw], [ops.log(x)])
    assert graph.rebuild(keep) is graph
    assert graph.with_roots(lambda node: node) is graph


def test_a_rebuild_replaces_a_node_for_all_of_its_users() -> None:
    x = leaf(2)
    a = ops.exp(x)
    graph = Graph([x], [a + a, ops.log(x)], unused=[ops.tanh(a)], name="f")

    def exp_to_sqrt(node: Node, inputs: tuple[Node, ...]) -> Node:
        return ops.sqrt(*inputs) if node.op.name == "exp" else node.with_inputs(inputs)

    new = graph.rebuild(exp_to_sqrt)
    assert [node.op.name for node in new.nodes] == ["input", "sqrt", "add", "log", "tanh"]
    total = new.outputs[0]
    assert total.inputs[0] is total.inputs[1] is new.unused[0].inputs[0]
    assert new.outputs[1] is graph.outputs[1]
    assert (new.name, new.inputs) == ("f", (x,))
    assert graph.outputs[0].inputs == (a, a)


def test_a_rebuild_visits_operands_first_and_no_inputs() -> None:
    x, y = leaf(2), leaf(2)
    a = ops.exp(x)
    b = a * y
    seen: list[Node] = []

    def visit(node: Node, inputs: tuple[Node, ...]) -> Node:
        seen.append(node)
        return node.with_inputs(inputs)

    Graph([x, y], [b, a]).rebuild(visit)
    assert seen == [a, b]


@pytest.mark.parametrize("roots", ["outputs", "effects", "unused"])
def test_with_roots_exchanges_every_kind_of_root(roots: str) -> None:
    x = leaf(2)
    old, new = ops.exp(x), ops.log(x)
    graph = Graph([x], **({"outputs": []} | {roots: [old]}))
    assert getattr(graph.with_roots({old: new}.__getitem__), roots) == (new,)


# NetworkX -----------------------------------------------------------------------------------------


def test_to_networkx() -> None:
    import networkx

    x, y = leaf(2, 3, name="x"), leaf(3, name="y")
    with scope("blocks.1"):
        a = ops.sum(x * y, 1)
    b = a - a
    graph = Graph([x, y], [b, x], name="loss")
    result = graph.to_networkx()
    assert isinstance(result, networkx.MultiDiGraph)
    assert result.graph == {"name": "loss", "inputs": [0, 1], "outputs": [4, 0]}
    assert [result.nodes[i]["op"] for i in range(5)] == [
        "input", "input", "multiply", "sum", "subtract",
    ]  # fmt: skip
    assert result.nodes[3] == {
        "node": a,
        "op": "sum",
        "attrs": {"axes": (1,), "keepdims": False},
        "shape": (2,),
        "dtype": F32,
        "module": "blocks.1",
    }
    assert result.nodes[4]["module"] == result.nodes[0]["module"] == ""
    edges = [(0, 2, 0), (1, 2, 1), (2, 3, 0), (3, 4, 0), (3, 4, 1)]
    assert sorted(result.edges(keys=True)) == edges
    assert networkx.is_directed_acyclic_graph(result)


# Depth --------------------------------------------------------------------------------------------


@pytest.fixture
def chain() -> Iterator[list[Node]]:
    """The ends of a chain of DEEP nodes, in a list that holds the only references."""
    assert sys.getrecursionlimit() < DEEP // 10
    x = input_node(TensorType((), F32), "x")
    exp, origin = ops.PRIMITIVES["exp"], capture_origin()
    y = x
    for _ in range(DEEP):
        y = Node(exp, (y,), NO_ATTRS, x.type, origin)
    return [x, y]


def same_order(nodes: Sequence[Node]) -> bool:
    return all(b.inputs == (a,) for a, b in pairwise(nodes))


def test_a_deep_graph_is_ordered_verified_and_keyed(chain: list[Node]) -> None:
    graph = Graph([chain[0]], [chain[1]])
    assert len(graph.nodes) == DEEP + 1
    assert same_order(graph.nodes)
    assert len(graph.users[chain[0]]) == 1
    verify(graph)
    hash(structural_key(graph))


def test_a_deep_graph_is_printed(chain: list[Node]) -> None:
    lines = str(Graph([chain[0]], [chain[1]])).splitlines()
    assert len(lines) == DEEP + 3
    origin = chain[1].origin
    assert isinstance(origin, Origin)
    assert lines[1].split() == f"%0 = exp(%x) : f32[]  # {origin}".split()
    assert lines[-3].split() == f"%{DEEP - 1} = exp(%{DEEP - 2}) : f32[]  # {origin}".split()


def test_a_deep_graph_is_rebuilt(chain: list[Node]) -> None:
    graph = Graph([chain[0]], [chain[1]])
    assert graph.rebuild(keep) is graph
    copy = graph.rebuild(lambda node, inputs: Node(node.op, inputs, node.attrs, node.type))
    assert same_order(copy.nodes)
    assert len(copy.nodes) == DEEP + 1
    assert copy.nodes[1] is not graph.nodes[1]


def test_a_deep_graph_is_destroyed(chain: list[Node]) -> None:
    graph = Graph([chain[0]], [chain[1]])
    witnesses = [weakref.ref(graph.nodes[i]) for i in (0, 1, DEEP // 2, DEEP)]
    graph.users  # noqa: B018 - the cache holds references too
    chain.clear()
    del graph
    gc.collect()
    assert [witness() for witness in witnesses] == [None] * 4

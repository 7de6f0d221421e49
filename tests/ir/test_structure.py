"""Structural keys: which graphs are the same program."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    Attrs,
    Graph,
    Node,
    TensorType,
    constant_node,
    input_node,
    scope,
    structural_key,
    structurally_equal,
)

Build = Callable[..., Any]


def leaf(*shape: int, dtype: Any = np.float32, name: str | None = None) -> Node:
    return input_node(TensorType(shape, np.dtype(dtype)), name)


def graph_of(function: Build, *leaves: Node) -> Graph:
    result = function(*leaves)
    return Graph(leaves, result if isinstance(result, list) else [result])


def two_inputs(function: Build) -> Graph:
    return graph_of(function, leaf(2, 2), leaf(2, 2))


EQUAL: list[tuple[Build, Build]] = [
    (lambda x, y: x + y, lambda a, b: a + b),
    (lambda x, y: ops.sum(x, None), lambda x, y: ops.sum(x, (1, 0))),
    (lambda x, y: ops.sum(x, -1), lambda x, y: ops.sum(x, [1], False)),
    (lambda x, y: x * 2, lambda x, y: x * np.float32(2)),
    (lambda x, y: ops.reshape(x, (4,)), lambda x, y: ops.reshape(x, (-1,))),
    (lambda x, y: [x, x], lambda x, y: [x, x]),
    (lambda x, y: x + constant_node(np.ones(2)), lambda x, y: x + constant_node(np.ones(2))),
    (lambda x, y: ops.linear(x, y, x), lambda x, y: ops.linear(x, y, x)),
]

DIFFERENT: list[tuple[Build, Build]] = [
    (lambda x, y: x + y, lambda x, y: y + x),
    (lambda x, y: x + x, lambda x, y: x + y),
    (lambda x, y: x + y, lambda x, y: x - y),
    (lambda x, y: ops.exp(x) + ops.exp(x), lambda x, y: (lambda e: e + e)(ops.exp(x))),
    (lambda x, y: x * 0.0, lambda x, y: x * -0.0),
    (lambda x, y: x * 2, lambda x, y: x * 3),
    (lambda x, y: ops.sum(x, 0), lambda x, y: ops.sum(x, 1)),
    (lambda x, y: ops.sum(x, 0), lambda x, y: ops.sum(x, 0, True)),
    (lambda x, y: ops.max(x, 0), lambda x, y: ops.min(x, 0)),
    (lambda x, y: [x, y], lambda x, y: [y, x]),
    (lambda x, y: [x], lambda x, y: [x, x]),
    (lambda x, y: ops.cast(x, "float64"), lambda x, y: ops.cast(x, "int64")),
    (lambda x, y: ops.linear(x, y, x), lambda x, y: x @ y + x),
    (lambda x, y: x + np.ones(2, np.float32), lambda x, y: x + np.ones((1, 2), np.float32)),
    (lambda x, y: x + np.float32(1), lambda x, y: x + ops.cast(np_one(), "float32")),
]


def np_one() -> Node:
    return constant_node(np.array(1, np.int64))


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_the_same_program(a: Build, b: Build) -> None:
    first, second = two_inputs(a), two_inputs(b)
    assert structural_key(first) == structural_key(second)
    assert hash(structural_key(first)) == hash(structural_key(second))
    assert structurally_equal(first, second)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_another_program(a: Build, b: Build) -> None:
    assert not structurally_equal(two_inputs(a), two_inputs(b))


def test_names_origins_modules_and_values_do_not_count() -> None:
    plain = graph_of(lambda x: ops.exp(x), leaf(2))
    with scope("block.1", "backward"):
        x = leaf(2, name="weight")
        other = Graph([x], [ops.exp(x)], name="other")
    x.realize(np.ones(2, np.float32))
    assert structurally_equal(plain, other)


@pytest.mark.parametrize("other", [leaf(3), leaf(2, 1), leaf(2, dtype=np.float64), leaf()])
def test_types_of_inputs_count(other: Node) -> None:
    assert not structurally_equal(graph_of(ops.exp, leaf(2)), graph_of(ops.exp, other))


def test_inputs_count_by_position() -> None:
    x, y = leaf(2), leaf(2)
    assert structurally_equal(Graph([x, y], [ops.exp(x)]), Graph([y, x], [ops.exp(y)]))
    assert not structurally_equal(Graph([x, y], [ops.exp(x)]), Graph([y, x], [ops.exp(x)]))
    assert not structurally_equal(Graph([x], [ops.exp(x)]), Graph([x, y], [ops.exp(x)]))


def test_effects_and_their_order_count() -> None:
    def draws(*order: int) -> Graph:
        nodes = [ops.random_uniform((2,), 0, high, "float32") for high in (1, 2)]
        return Graph([], [nodes[0] + nodes[1]], [nodes[i] for i in order])

    assert structurally_equal(draws(0, 1), draws(0, 1))
    assert not structurally_equal(draws(0, 1), draws(1, 0))
    assert not structurally_equal(draws(0, 1), draws(0))


def test_unused_nodes_count() -> None:
    x = leaf(2)
    assert not structurally_equal(
        Graph([x], [ops.exp(x)]), Graph([x], [ops.exp(x)], unused=[ops.log(x)])
    )


def test_two_ops_of_one_name_are_different() -> None:
    @ops.composite(name="shift")
    def up(x: Any) -> Any:
        return x + 1

    @ops.composite(name="shift")
    def down(x: Any) -> Any:
        return x - 1

    assert not structurally_equal(graph_of(up, leaf(2)), graph_of(down, leaf(2)))


def test_attributes_count_by_their_bits() -> None:
    def with_eps(eps: Any) -> Graph:
        x = leaf(2)
        return Graph([x], [Node(ops.linear.op, (x,), Attrs({"eps": eps}), x.type)])

    assert structurally_equal(with_eps(0.1), with_eps(0.1))
    assert structurally_equal(with_eps(float("nan")), with_eps(float("nan")))
    assert not structurally_equal(with_eps(0.0), with_eps(-0.0))
    assert not structurally_equal(with_eps(1), with_eps(True))
    assert not structurally_equal(with_eps(1), with_eps(1.0))

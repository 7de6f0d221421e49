"""Autodiff: requests expanded, markers taken off, derivatives to third order."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Graph, Node, Op, Trait, VerificationError, print_graph, verify
from needle_ir.passes import DCE, Autodiff, Lower, NotDifferentiableError
from needle_ir.runtime import interpret
from tests.passes.graph_text import arg, assert_text

Array = np.ndarray[Any, Any]
F64 = np.float64


def run(graph: Graph, *arrays: Any) -> list[Array]:
    """The outputs after this pass and no other."""
    expanded = Autodiff().run(graph)
    verify(expanded)
    assert not any(node.op.has(Trait.MARKER) for node in expanded.nodes)
    operands = [np.asarray(a, node.dtype) for a, node in zip(arrays, graph.inputs, strict=True)]
    return list(interpret(Lower().run(expanded), operands))


# Text ---------------------------------------------------------------------------------------------


def test_a_request_before_and_the_derivative_after() -> None:
    x = arg("x", 3)
    graph = Graph([x], [ops.grad(ops.sum(ops.exp(x)), x)])
    assert_text(
        graph,
        """
        graph @graph(%x: f32[3]) -> f32[3] {
          %0 = exp(%x) : f32[3]
          %1 = sum(%0) {axes=[0], keepdims=false} : f32[]
          %2 = grad(%1, %x) : f32[3]
          return %2
        }
        """,
    )
    assert_text(
        Autodiff().run(graph),
        """
        graph @graph(%x: f32[3]) -> f32[3] {
          %0 = constant {value=1.0} : f32[]
          %1 = reshape(%0) {shape=[1]} : f32[1]
          %2 = broadcast_to(%1) {shape=[3]} : f32[3]
          %3 = exp(%x) : f32[3]
          %4 = multiply(%2, %3) : f32[3]
          return %4
        }
        """,
    )


def test_a_node_that_is_read_twice_adds_up_what_it_gets() -> None:
    x = arg("x")
    graph = Graph([x], [ops.grad(ops.tanh(x) * ops.exp(x), x)])
    assert_text(
        Autodiff().run(graph),
        """
        graph @graph(%x: f32[]) -> f32[] {
          %0 = constant {value=1.0} : f32[]
          %1 = tanh(%x) : f32[]
          %2 = multiply(%0, %1) : f32[]
          %3 = exp(%x) : f32[]
          %4 = multiply(%2, %3) : f32[]
          %5 = multiply(%0, %3) : f32[]
          %6 = multiply(%1, %1) : f32[]
          %7 = subtract(%0, %6) : f32[]
          %8 = multiply(%5, %7) : f32[]
          %9 = add(%4, %8) : f32[]
          return %9
        }
        """,
    )


def test_markers_go_though_there_is_no_request() -> None:
    x, y = arg("x", 3), arg("y", 3)
    graph = Graph([x, y], [ops.stop_gradient(ops.variable(ops.exp(x))), ops.known(x * 2.0, y)])
    assert_text(
        Autodiff().run(graph),
        """
        graph @graph(%x: f32[3], %y: f32[3]) -> (f32[3], f32[3]) {
          %0 = exp(%x) : f32[3]
          return %0, %y
        }
        """,
    )


def test_a_graph_without_requests_and_markers_stays() -> None:
    x = arg("x", 3)
    graph = Graph([x], [ops.exp(x)])
    assert Autodiff().run(graph) is graph


def test_a_request_that_is_unused_is_expanded_and_stays_unused() -> None:
    x = arg("x", 3)
    graph = Autodiff().run(Graph([x], [x], unused=[ops.grad(ops.sum(x * x), x)]))
    assert graph.count("grad") == 0
    assert graph.count("multiply") == 2
    assert len(DCE().run(graph).nodes) == 1


def test_new_nodes_come_from_the_line_they_are_derived_from() -> None:
    x = arg("x", 3)
    y = ops.exp(x)
    graph = Autodiff().run(Graph([x], [ops.grad(y, x)]))
    (product,) = [node for node in graph.nodes if node.op.name == "multiply"]
    assert y.origin is not None
    assert product.origin == y.origin._replace(phase="backward")
    assert f"# {y.origin}" in print_graph(graph)


# One sweep for all requests about one output ------------------------------------------------------


def chain(weights: list[Node], x: Node) -> Node:
    for weight in weights:
        x = ops.tanh(x * weight)
    return x


def test_requests_about_one_output_share_a_sweep() -> None:
    x, *weights = (arg(f"x{i}") for i in range(6))

    def products(wanted: list[Node]) -> int:
        y = chain(weights, x)
        graph = Graph([x, *weights], [y, *[ops.grad(y, w) for w in wanted]])
        return Autodiff().run(graph).count("multiply")

    # 5 forward; backward 2 for each tanh, and 2 for each x * w, one of them to go on.
    assert products([]) == 5
    assert products(weights[:1]) == 5 + 5 * 2 + 5
    assert products(weights) == products(weights[:1]) + 4


def test_equal_requests_get_one_answer() -> None:
    x = arg("x", 3)
    y = ops.exp(x) * x
    first, second = Autodiff().run(Graph([x], [ops.grad(y, x), ops.grad(y, x)])).outputs
    assert first is second


def test_requests_with_different_cotangents_are_different_questions() -> None:
    x, a, b = (arg(name, 2, dtype=F64) for name in "xab")
    y = x * x
    graph = Graph([x, a, b], [ops.grad(y, x, a), ops.grad(y, x, b), ops.grad(y, x)])
    first, second, third = run(graph, [1, 2], [10, 100], [3, 4])
    np.testing.assert_array_equal(first, [20, 400])
    np.testing.assert_array_equal(second, [6, 16])
    np.testing.assert_array_equal(third, [2, 4])


def test_a_request_by_a_leaf_that_comes_later_in_the_program() -> None:
    # The first request is about y by x, the second about the same y by what is made of it.
    x = arg("x", 2, dtype=F64)
    y = x * x
    later = ops.exp(ops.grad(y, x))
    by_x, by_later = run(Graph([x], [ops.grad(y, x) + later, ops.grad(y, later)]), [1, 2])
    np.testing.assert_allclose(by_x, [2 + np.exp(2), 4 + np.exp(4)])
    np.testing.assert_array_equal(by_later, [0, 0])


# Values -------------------------------------------------------------------------------------------


def tanh_derivatives(x: Array) -> list[Array]:
    t = np.tanh(x)
    s = 1 - t * t
    return [t, s, -2 * t * s, s * (6 * t * t - 2)]


CLOSED_FORMS: dict[str, tuple[Callable[[Node], Node], Callable[[Array], list[Array]]]] = {
    "polynomial": (
        lambda x: 2.0 * x * x * x - x * x + 3.0 * x,
        lambda x: [2 * x**3 - x**2 + 3 * x, 6 * x**2 - 2 * x + 3, 12 * x - 2, 12 + 0 * x],
    ),
    "power": (
        lambda x: ops.power(x, 3),
        lambda x: [x**3, 3 * x**2, 6 * x, 6 + 0 * x],
    ),
    "exp": (lambda x: ops.exp(2.0 * x), lambda x: [2**n * np.exp(2 * x) for n in range(4)]),
    "tanh": (ops.tanh, tanh_derivatives),
    "reciprocal": (
        lambda x: 1.0 / x,
        lambda x: [1 / x, -1 / x**2, 2 / x**3, -6 / x**4],
    ),
    "log": (
        lambda x: ops.log(x * x),
        lambda x: [np.log(x * x), 2 / x, -2 / x**2, 4 / x**3],
    ),
}


@pytest.mark.parametrize(("function", "closed"), CLOSED_FORMS.values(), ids=list(CLOSED_FORMS))
def test_nested_requests_to_third_order(
    function: Callable[[Node], Node], closed: Callable[[Array], list[Array]]
) -> None:
    x = arg("x", 4, dtype=F64)
    orders = [function(x)]
    for _ in range(3):
        orders.append(ops.grad(ops.sum(orders[-1]), x))
    numbers = np.array([0.5, -1.25, 2.0, -0.125])
    for actual, expected in zip(run(Graph([x], orders), numbers), closed(numbers), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_mixed_derivatives_commute() -> None:
    x, y = arg("x", dtype=F64), arg("y", dtype=F64)
    f = ops.tanh(x * x * y) * y
    by_xy = ops.grad(ops.grad(f, x), y)
    by_yx = ops.grad(ops.grad(f, y), x)
    first, second = run(Graph([x, y], [by_xy, by_yx]), 0.5, 1.5)
    np.testing.assert_allclose(first, second, rtol=1e-14)
    assert first != 0


def test_the_cotangent_is_an_operand() -> None:
    x, ct = arg("x", 2, 2, dtype=F64), arg("ct", 2, 2, dtype=F64)
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
    given = np.array([[1.0, 10.0], [100.0, 1000.0]])
    (by_x,) = run(Graph([x, ct], [ops.grad(x @ x, x, ct)]), matrix, given)
    np.testing.assert_allclose(by_x, given @ matrix.T + matrix.T @ given)


def test_the_cotangent_can_be_differentiated_by() -> None:
    # d/dct of sum(ct * J) is the Jacobian-vector product with ones.
    x, ct = arg("x", 3, dtype=F64), arg("ct", 3, dtype=F64)
    pulled = ops.grad(ops.exp(x), x, ct)
    numbers = np.array([0.0, 1.0, 2.0])
    (pushed,) = run(Graph([x, ct], [ops.grad(pulled, ct)]), numbers, numbers)
    np.testing.assert_allclose(pushed, np.exp(numbers))


def test_by_a_node_that_the_output_does_not_depend_on() -> None:
    x, y = arg("x", 2, 3), arg("y", 4)
    graph = Graph([x, y], [ops.grad(ops.exp(y), x)])
    assert_text(
        Autodiff().run(graph),
        """
        graph @graph(%x: f32[2,3], %y: f32[4]) -> f32[2,3] {
          %0 = constant {value=0.0} : f32[]
          %1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]
          return %1
        }
        """,
    )


def test_by_a_node_that_only_an_integer_depends_on() -> None:
    x = arg("x", 3, dtype=F64)
    y = ops.cast(ops.cast(x, np.int64), F64) + ops.cast(x > 1.0, F64)
    (by_x,) = run(Graph([x], [ops.grad(y, x)]), [1, 2, 3])
    np.testing.assert_array_equal(by_x, [0, 0, 0])


def test_an_output_by_itself_is_the_cotangent() -> None:
    x, ct = arg("x", 2, dtype=F64), arg("ct", 2, dtype=F64)
    ones, given = run(Graph([x, ct], [ops.grad(x, x), ops.grad(x, x, ct)]), [5, 6], [7, 8])
    assert (ones.tolist(), given.tolist()) == ([1, 1], [7, 8])


def test_by_an_intermediate_value() -> None:
    x = arg("x", dtype=F64)
    h = x * x
    y = h * x
    by_h, by_x = run(Graph([x], [ops.grad(y, h), ops.grad(y, x)]), 3)
    # y = h * x with h held fixed, and y = x**3.
    assert (by_h, by_x) == (3, 27)


def test_by_an_intermediate_value_and_what_it_is_made_of_in_one_sweep() -> None:
    x = arg("x", dtype=F64)
    h = ops.exp(x)
    by_x, by_h = run(Graph([x], [ops.grad(h * h, x), ops.grad(h * h, h)]), 1)
    np.testing.assert_allclose([by_x, by_h], [2 * np.exp(2), 2 * np.e])


# Markers ------------------------------------------------------------------------------------------


def test_stop_gradient_is_a_constant() -> None:
    x = arg("x", dtype=F64)
    y = x * ops.stop_gradient(x * x)
    value, by_x = run(Graph([x], [y, ops.grad(y, x)]), 3)
    assert (value, by_x) == (27, 9)


def test_stop_gradient_holds_in_higher_orders() -> None:
    x = arg("x", dtype=F64)
    first = ops.grad(x * x * x, x)
    (second,) = run(Graph([x], [ops.grad(x * ops.stop_gradient(first), x)]), 2)
    assert second == 12


def test_a_variable_is_one_of_its_own() -> None:
    x = arg("x", dtype=F64)
    a, b = ops.variable(x), ops.variable(x)
    y = a * a * b
    graph = Graph([x], [y, ops.grad(y, a), ops.grad(y, b), ops.grad(y, x)])
    assert [float(value) for value in run(graph, 2)] == [8, 8, 4, 12]


def test_known_is_differentiated_as_the_expression_and_read_as_the_value() -> None:
    x, value = arg("x", dtype=F64), arg("value", dtype=F64)
    square = ops.known(x * x, value)
    y = ops.exp(square)
    read, by_x, by_value = run(Graph([x, value], [y, ops.grad(y, x), ops.grad(y, value)]), 3, 0.5)
    # The value need not be 9: the run reads 0.5, and the derivative of the expression is 2 * 3.
    np.testing.assert_allclose([read, by_x, by_value], [np.exp(0.5), np.exp(0.5) * 6, 0])


def test_known_saves_the_forward_computation() -> None:
    x, value = arg("x", 3), arg("value", 3)
    y = ops.exp(ops.known(ops.tanh(x) + 1.0, value))
    assert Autodiff().run(Graph([x, value], [y])).count("tanh") == 0


# What can not be differentiated, and what is refused ----------------------------------------------

FLOOR = Op(name="floor", infer=lambda x: x)


def test_the_error_names_the_op_and_the_line() -> None:
    x = arg("x", 3)
    y = ops.build(FLOOR, [x], {})
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    graph = Graph([x], [ops.grad(ops.sum(y), x)])
    with pytest.raises(NotDifferentiableError) as caught:
        Autodiff().run(graph)
    assert "floor has no derivative" in str(caught.value)
    assert "stop_gradient" in str(caught.value)
    assert f"test_autodiff.py:{line} in test_the_error_names_the_op_and_the_line" in str(
        caught.value
    )


def test_an_op_without_derivative_that_is_not_on_the_way() -> None:
    x, z = arg("x", 3), arg("z", 3)
    y = x * ops.build(FLOOR, [z], {}) + ops.stop_gradient(ops.build(FLOOR, [x], {}))
    expanded = Autodiff().run(Graph([x, z], [ops.grad(ops.sum(y), x)]))
    assert expanded.count("floor") == 1


@pytest.mark.parametrize("wrong", [lambda ct: ops.sum(ct), lambda ct: ops.cast(ct, F64)])
def test_a_vjp_that_gives_another_type_is_refused(wrong: Callable[[Node], Node]) -> None:
    op = Op(name="bent", infer=lambda x: x, vjp=lambda ct, out, x: (wrong(ct),))
    x = arg("x", 3)
    with pytest.raises(VerificationError, match=r"the VJP of bent gave f.* for f32\[3\]"):
        Autodiff().run(Graph([x], [ops.grad(ops.build(op, [x], {}), x)]))


def test_a_marker_that_autodiff_does_not_know_is_refused() -> None:
    op = Op(name="remark", infer=lambda x: x, traits=frozenset({Trait.MARKER}))
    x = arg("x", 3)
    with pytest.raises(VerificationError, match="does not know the marker remark"):
        Autodiff().run(Graph([x], [ops.build(op, [x], {})]))


# Composites, with no pass before this one ---------------------------------------------------------


def composite_loss(opened: bool) -> tuple[Graph, list[Array]]:
    """A layer of each kind; the normalization opened or as a composite with its own VJP."""
    numbers = np.random.default_rng(0)
    shapes = {"x": (4, 3), "w": (3, 5), "b": (5,), "scale": (5,), "shift": (5,)}
    x, w, b, scale, shift = (arg(name, *shape, dtype=F64) for name, shape in shapes.items())
    labels = arg("labels", 4, dtype=np.int64)
    hidden = ops.layer_norm(ops.linear(x, w, b), scale, shift, eps=0.1)
    if opened:
        centered = (x @ w + b) - ops.mean(x @ w + b, 1, True)
        variance = ops.mean(centered * centered, 1, True)
        hidden = centered / ops.sqrt(variance + 0.1) * scale + shift
    loss = ops.softmax_loss(hidden, labels)
    inputs = [x, w, b, scale, shift, labels]
    first = [ops.grad(loss, node) for node in inputs[:5]]
    second = ops.grad(ops.sum(first[1] * first[1]), w)
    arrays = [numbers.standard_normal(shape) for shape in shapes.values()]
    return Graph(inputs, [loss, *first, second]), [*arrays, np.array([0, 2, 1, 2])]


def test_composites_need_no_lowering_before() -> None:
    composed, arrays = composite_loss(opened=False)
    opened, _ = composite_loss(opened=True)
    assert composed.count("layer_norm") == 1
    for actual, expected in zip(run(composed, *arrays), run(opened, *arrays), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


@ops.composite()
def doubled_exp(x: Node) -> Node:
    return 2.0 * ops.exp(x)


@ops.composite(vjp=lambda ct, out, x: (ct * doubled_exp(x),))
def doubled_exp_by_hand(x: Node) -> Node:
    return 2.0 * ops.exp(x)


def test_a_vjp_that_emits_composites_can_be_differentiated_again() -> None:
    x = arg("x", 3, dtype=F64)
    orders = [doubled_exp_by_hand(x)]
    for _ in range(3):
        orders.append(ops.grad(ops.sum(orders[-1]), x))
    for order in run(Graph([x], orders), [0, 1, -1]):
        np.testing.assert_allclose(order, 2 * np.exp([0, 1, -1]))


def test_a_derivative_by_hand_is_used() -> None:
    @ops.composite(vjp=lambda ct, out, x: (7.0 * ct,))
    def seven(x: Node) -> Node:
        return ops.exp(x)

    x = arg("x", 2, dtype=F64)
    value, by_x = run(Graph([x], [seven(x), ops.grad(seven(x), x)]), [0, 0])
    assert (value.tolist(), by_x.tolist()) == ([1, 1], [7, 7])

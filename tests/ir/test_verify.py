"""The verifier, on graphs that are broken on purpose: nodes are made by hand, past the builder."""

from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    CONSTANT,
    NO_ATTRS,
    Attrs,
    Graph,
    Node,
    TensorType,
    VerificationError,
    constant_node,
    input_node,
    verify,
)

P = ops.PRIMITIVES


def type_of(*shape: int, dtype: Any = np.float32) -> TensorType:
    return TensorType(shape, np.dtype(dtype))


def leaf(*shape: int, dtype: Any = np.float32, name: str | None = None) -> Node:
    return input_node(type_of(*shape, dtype=dtype), name)


def node(op: str, inputs: tuple[Node, ...], result: TensorType, **attrs: Any) -> Node:
    return Node(P[op], inputs, Attrs(attrs), result)


def test_a_right_graph_passes() -> None:
    x, y = leaf(2, 3, name="x"), leaf(3, dtype=np.float64)
    draw = ops.random_normal((2, 3), 0, 1, "float32")
    out = ops.where(x > draw, ops.layer_norm(x, y, y, eps=1e-5), ops.sum(x, 1, True) / 3)
    verify(Graph([x, y], [out, x], [draw], [ops.exp(out)]))
    verify(Graph([x, y], [ops.grad(ops.sum(out), x)], [draw]))
    verify(Graph([], []))


x = leaf(2, 3, name="x")
wide = leaf(2, 3, dtype=np.float64, name="wide")
ints = leaf(2, 3, dtype=np.int32, name="ints")
flags = leaf(2, 3, dtype=np.bool_, name="flags")
matrix = type_of(2, 3)
writable = Node(CONSTANT, (), Attrs({"value": np.zeros(2, np.float32)}), type_of(2))
mistyped = Node(CONSTANT, (), constant_node(np.zeros(3)).attrs, type_of(3))

# What a graph with this one node as its output is refused for.
BROKEN = {
    "type: dtype": (
        node("exp", (x,), type_of(2, 3, dtype=np.float64)),
        "`%0 = exp(%x) : f64[2,3]` should have the type f32[2,3]",
    ),
    "type: shape": (
        node("sum", (x,), type_of(2, 1), axes=(1,), keepdims=False),
        "`%0 = sum(%x) {axes=[1], keepdims=false} : f32[2,1]` should have the type f32[2]",
    ),
    "type rule": (
        node("reshape", (x,), type_of(4), shape=(4,)),
        "`%0 = reshape(%x) {shape=[4]} : f32[4]` does not fit its type rule: 6 elements",
    ),
    "type rule of operands": (
        node("matmul", (x, x), type_of(2, 2)),
        "`%0 = matmul(%x, %x) : f32[2,2]` does not fit its type rule: the inner dimensions",
    ),
    "too few operands": (
        node("add", (x,), matrix),
        "`%0 = add(%x) : f32[2,3]` does not fit its type rule: ",
    ),
    "too many operands": (
        node("exp", (x, x), matrix),
        "`%0 = exp(%x, %x) : f32[2,3]` does not fit its type rule: ",
    ),
    "missing attribute": (
        node("max", (x,), type_of(2), axes=(1,)),
        "`%0 = max(%x) {axes=[1]} : f32[2]` does not fit its type rule: ",
    ),
    "foreign attribute": (
        node("exp", (x,), matrix, axes=(1,)),
        "`%0 = exp(%x) {axes=[1]} : f32[2,3]` does not fit its type rule: ",
    ),
    "attribute out of range": (
        node("max", (x,), type_of(2), axes=(5,), keepdims=False),
        "`%0 = max(%x) {axes=[5], keepdims=false} : f32[2]` does not fit its type rule: axis 5",
    ),
    "normal form: negative axis": (
        node("sum", (x,), type_of(2), axes=(-1,), keepdims=False),
        "has attributes not in normal form: {'axes': (1,), 'keepdims': False}",
    ),
    "normal form: order": (
        node("sum", (x,), type_of(), axes=(1, 0), keepdims=False),
        "has attributes not in normal form: {'axes': (0, 1), 'keepdims': False}",
    ),
    "normal form: 0 for False": (
        node("sum", (x,), type_of(2), axes=(1,), keepdims=0),
        "`%0 = sum(%x) {axes=[1], keepdims=0} : f32[2]` has attributes not in normal form",
    ),
    "normal form: None": (
        node("transpose", (x,), type_of(3, 2), permutation=None),
        "has attributes not in normal form: {'permutation': (1, 0)}",
    ),
    "promotion: two dtypes": (
        node("add", (wide, x), type_of(2, 3, dtype=np.float64)),
        "`%0 = add(%wide, %x) : f64[2,3]` has operands that were not promoted",
    ),
    "promotion: integers of a float function": (
        node("exp", (ints,), type_of(2, 3, dtype=np.int32)),
        "`%0 = exp(%ints) : i32[2,3]` has operands that were not promoted: i32[2,3]",
    ),
    "promotion: integers divided": (
        node("divide", (ints, ints), type_of(2, 3, dtype=np.int32)),
        "`%0 = divide(%ints, %ints) : i32[2,3]` has operands that were not promoted",
    ),
    "promotion: branches": (
        node("where", (flags, x, wide), matrix),
        "`%0 = where(%flags, %x, %wide) : f32[2,3]` has operands that were not promoted",
    ),
    "dtype of a condition": (
        node("where", (ints, x, x), matrix),
        "`%0 = where(%ints, %x, %x) : f32[2,3]` does not fit its type rule: the condition is int32",
    ),
    "writable constant": (
        writable,
        "`%0 = constant {value=[0.0, 0.0]} : f32[2]` is a constant whose array can be written to",
    ),
    "constant of another type": (
        mistyped,
        "`%0 = constant {value=[0.0, 0.0, 0.0]} : f32[3]` is a constant of float64[3]",
    ),
    "unlisted input": (
        ops.exp(leaf(2)),
        "`%0 = input() : f32[2]` is an input node that the graph does not list",
    ),
    "unlisted effect": (
        ops.random_uniform((2,), 0, 1, "float32"),
        "shape=[2]} : f32[2]` has an effect and is not listed, or is listed and has none",
    ),
    "composite": (
        Node(ops.linear.op, (x, x, x), NO_ATTRS, matrix),
        "`%0 = linear(%x, %x, %x) : f32[2,3]` does not fit its type rule: matmul(f32[2,3]",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("role", ["output", "operand", "unused"])
def test_a_broken_node_is_named(case: str, role: str) -> None:
    broken, message = BROKEN[case]
    outputs = [broken] if role == "output" else [ops.tanh(broken)] if role == "operand" else []
    graph = Graph(
        [x, wide, ints, flags], outputs, unused=[broken] if role == "unused" else [], name="f"
    )
    with pytest.raises(VerificationError) as caught:
        verify(graph)
    assert str(caught.value).startswith("@f: `%")
    assert message in str(caught.value)


def test_the_first_broken_node_is_named() -> None:
    first = node("exp", (x,), type_of(7))
    second = node("tanh", (first,), type_of(9))
    with pytest.raises(VerificationError, match=r"`%0 = exp\(%x\) : f32\[7\]` should have"):
        verify(Graph([x], [second]))


def test_an_input_listed_twice() -> None:
    with pytest.raises(VerificationError, match="@f: an input is listed twice"):
        verify(Graph([x, wide, x], [x], name="f"))


@pytest.mark.parametrize("reached", [True, False])
def test_an_input_that_is_no_input_node(reached: bool) -> None:
    """Its operands may be out of the graph, and so without a name."""
    computed = ops.exp(x)
    graph = Graph([computed], [ops.exp(x)] if reached else [], name="f")
    name = "%0" if reached else "%?"
    with pytest.raises(VerificationError) as caught:
        verify(graph)
    assert str(caught.value) == (
        f"@f: `%in0 = exp({name}) : f32[2,3]` is listed as an input but is not an input node"
    )


def test_an_effect_listed_twice() -> None:
    draw = ops.random_uniform((2,), 0, 1, "float32")
    with pytest.raises(VerificationError, match="@f: an effect is listed twice"):
        verify(Graph([], [], [draw, draw], name="f"))


def test_an_effect_that_is_none() -> None:
    with pytest.raises(VerificationError, match=r"`%0 = exp\(%x\) .* is listed and has none"):
        verify(Graph([x], [], [ops.exp(x)]))


def test_the_cause_is_the_error_of_the_type_rule() -> None:
    with pytest.raises(VerificationError) as caught:
        verify(Graph([x], [BROKEN["type rule"][0]]))
    assert type(caught.value.__cause__).__name__ == "ShapeError"

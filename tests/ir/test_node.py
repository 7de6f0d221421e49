"""Nodes: frozen, compared by identity, with constants of their own."""

from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    CONSTANT,
    INPUT,
    NO_ATTRS,
    DTypeError,
    Node,
    TensorType,
    constant_node,
    input_node,
)

F32 = np.dtype(np.float32)


def leaf(*shape: int, name: str | None = None) -> Node:
    return input_node(TensorType(shape, F32), name)


@pytest.mark.parametrize("field", ["op", "inputs", "attrs", "type", "origin", "value"])
def test_a_node_is_frozen(field: str) -> None:
    node = ops.exp(leaf(2))
    before = getattr(node, field)
    with pytest.raises(AttributeError, match=f"frozen: {field} can not be set"):
        setattr(node, field, None)
    with pytest.raises(AttributeError, match=f"frozen: {field} can not be deleted"):
        delattr(node, field)
    assert getattr(node, field) is before


def test_a_node_has_no_other_fields() -> None:
    node = leaf(2)
    with pytest.raises(AttributeError):
        node.color = "red"  # type: ignore[attr-defined]
    assert not hasattr(node, "__dict__")


def test_nodes_are_compared_by_identity() -> None:
    x = leaf(2)
    a, b = ops.exp(x), ops.exp(x)
    assert a == a
    assert a != b
    assert len({a, b, a}) == 2


def test_an_op_is_compared_by_identity() -> None:
    assert len({ops.PRIMITIVES["exp"], ops.PRIMITIVES["log"], ops.PRIMITIVES["exp"]}) == 2
    assert repr(ops.PRIMITIVES["exp"]) == "<op exp>"


def test_repr_shows_the_op_and_the_types() -> None:
    assert repr(ops.sum(leaf(2, 3), 1)) == "<sum(f32[2,3]) : f32[2]>"
    assert repr(leaf(2) @ leaf(2)) == "<matmul(f32[2], f32[2]) : f32[]>"


def test_shape_and_dtype_are_those_of_the_type() -> None:
    node = ops.sum(leaf(2, 3), 1, keepdims=True)
    assert (node.shape, node.dtype) == ((2, 1), F32) == (node.type.shape, node.type.dtype)


# Types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "ndim", "size", "nbytes", "text"),
    [
        ((), 0, 1, 4, "f32[]"),
        ((3,), 1, 3, 12, "f32[3]"),
        ((2, 3, 4), 3, 24, 96, "f32[2,3,4]"),
        ((2, 0), 2, 0, 0, "f32[2,0]"),
    ],
)
def test_what_a_type_knows(
    shape: tuple[int, ...], ndim: int, size: int, nbytes: int, text: str
) -> None:
    type_ = TensorType(shape, F32)
    assert (type_.ndim, type_.size, type_.nbytes, str(type_)) == (ndim, size, nbytes, text)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("bool", "bool"),
        ("int8", "i8"),
        ("int16", "i16"),
        ("int32", "i32"),
        ("int64", "i64"),
        ("uint8", "u8"),
        ("uint16", "u16"),
        ("uint32", "u32"),
        ("uint64", "u64"),
        ("float16", "f16"),
        ("float32", "f32"),
        ("float64", "f64"),
    ],
)
def test_short_names_of_dtypes(dtype: str, name: str) -> None:
    assert str(TensorType((7,), np.dtype(dtype))) == f"{name}[7]"


def test_types_are_equal_where_shape_and_dtype_are() -> None:
    assert TensorType((2,), F32) == TensorType((2,), np.dtype("<f4"))
    assert TensorType((2,), F32) != TensorType((2,), np.dtype(np.float64))
    assert TensorType((2,), F32) != TensorType((2, 1), F32)
    assert len({TensorType((2,), F32), TensorType((2,), np.dtype("f"))}) == 1


# Leaves -------------------------------------------------------------------------------------------


def test_an_input_may_have_a_name() -> None:
    assert dict(leaf(2, name="x").attrs) == {"name": "x"}
    assert leaf(2).attrs == NO_ATTRS
    assert leaf(2).op is INPUT


def test_a_constant_keeps_its_own_copy() -> None:
    data = np.array([1.0, 2.0])
    node = constant_node(data)
    data[0] = 7
    np.testing.assert_array_equal(node.attrs["value"], [1, 2])
    assert node.op is CONSTANT
    assert node.type == TensorType((2,), np.dtype(np.float64))


def test_a_constant_can_not_be_written_to() -> None:
    value = constant_node(np.zeros(3)).attrs["value"]
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 1


def test_a_constant_is_contiguous_and_of_native_byte_order() -> None:
    value = constant_node(np.arange(6, dtype=">i4").reshape(2, 3).T).attrs["value"]
    assert value.flags.c_contiguous
    assert value.dtype.isnative
    np.testing.assert_array_equal(value, [[0, 3], [1, 4], [2, 5]])


@pytest.mark.parametrize("dtype", ["complex128", "object", "U2"])
def test_a_constant_of_another_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(DTypeError, match="is not supported"):
        constant_node(np.zeros(2, dtype))


# What happens to a node ---------------------------------------------------------------------------


def test_with_inputs() -> None:
    x, y = leaf(2), leaf(2)
    node = ops.sum(x, 0)
    assert node.with_inputs((x,)) is node
    moved = node.with_inputs((y,))
    assert moved.inputs == (y,)
    assert (moved.op, moved.attrs, moved.type) == (node.op, node.attrs, node.type)
    assert moved.origin is node.origin
    with pytest.raises(ValueError, match="2 inputs for <sum"):
        node.with_inputs((x, y))


def test_a_computed_node_may_become_a_leaf() -> None:
    """Then what it was computed from can go."""
    node = ops.exp(leaf(2))
    value = np.ones(2, np.float32)
    node.realize(value)
    assert node.value is value
    assert node.op is not INPUT
    node.forget("y")
    assert (node.op, node.inputs, dict(node.attrs)) == (INPUT, (), {"name": "y"})
    assert node.value is value
    assert node.type == TensorType((2,), F32)

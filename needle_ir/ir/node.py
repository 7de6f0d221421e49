"""Ops and nodes: the two things a graph is made of."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np

from needle_ir.ir.attrs import NO_ATTRS, Attrs
from needle_ir.ir.operators import Operators
from needle_ir.ir.origin import Origin
from needle_ir.ir.types import TensorType, as_dtype

Array = np.ndarray[Any, Any]


class Trait(Enum):
    """What passes may know of an op without knowing the op."""

    ELEMENTWISE = "elementwise"  # out[i] depends on the operands at i, after broadcasting
    REDUCTION = "reduction"  # folds axes of its one operand away
    ROWWISE = "rowwise"  # computes over axes, and the result may keep them: a softmax
    CONTRACTION = "contraction"  # multiplies and sums over a shared axis
    COMMUTATIVE = "commutative"  # the two operands may change places
    VIEW = "view"  # the result is another look at the first operand's buffer
    DENSE = "dense"  # a view that needs its operand contiguous, and stays so
    RANDOM = "random"  # two equal nodes give different values
    EFFECT = "effect"  # runs once, in program order, whether its result is used or not
    MARKER = "marker"  # has a meaning for autodiff only, and no kernel: autodiff removes it

    # Enum's own is a Python function, and passes ask for traits millions of times.
    __hash__ = object.__hash__


class Promotion(Enum):
    """How the dtypes of an op's operands are made one before its type rule sees them."""

    NONE = "none"  # each operand keeps its dtype
    COMMON = "common"  # all become numpy.result_type of all
    FLOAT = "float"  # as COMMON, and integers become the least float that holds them, as numpy.exp
    COMPARISON = "comparison"  # as COMMON, but integers that no integer dtype holds stay apart
    QUOTIENT = "quotient"  # as COMMON, and integers become float64, as in numpy.true_divide
    BRANCHES = "branches"  # as COMMON for all but the first, which is a condition


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """What a node does. Compared by identity.

    `infer(*types, **attrs)` is the type rule: it returns the result's type or raises ShapeError
    or DTypeError. `normalize(*types, **attrs)` returns the attributes in their one written form
    (axes sorted and counted from 0). `vjp(ct, out, *inputs, **attrs)` emits the cotangent of each
    input, None where there is none; an op without one is not differentiable. An op that chooses
    among its inputs has `selects(out, *inputs, **attrs)`: it emits for each input where the result
    depends on it, a boolean, None for everywhere; a NaN counts as chosen. A composite has
    `decompose(*inputs, **attrs)`, which is its definition. The normal form leaves an attribute out
    that has its value in `defaults`.
    """

    name: str
    infer: Callable[..., TensorType]
    traits: frozenset[Trait] = frozenset()
    promotion: Promotion = Promotion.NONE
    normalize: Callable[..., Mapping[str, Any]] | None = None
    vjp: Callable[..., "tuple[Node | None, ...]"] | None = None
    selects: Callable[..., "tuple[Node | None, ...]"] | None = None
    decompose: "Callable[..., Node] | None" = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def has(self, trait: Trait) -> bool:
        """Whether the op declares `trait`."""
        return trait in self.traits

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class _Fields(Operators):
    """The fields of a node, while they are filled."""

    __slots__ = ("__weakref__", "attrs", "inputs", "op", "origin", "type", "value", "variable")

    op: Op
    inputs: "tuple[Node, ...]"
    attrs: Attrs
    type: TensorType
    origin: Origin | None
    value: Array | None
    variable: Callable[[], Any] | None


# Setters of the slots. object.__setattr__ does the same and takes three times as long.
_new = object.__new__
_set_attrs = vars(_Fields)["attrs"].__set__
_set_inputs = vars(_Fields)["inputs"].__set__
_set_op = vars(_Fields)["op"].__set__
_set_value = vars(_Fields)["value"].__set__
_set_variable = vars(_Fields)["variable"].__set__


class Node(_Fields):
    """One operation and its one result. Frozen, and compared by identity.

    `value` is the array that a node is known to have: a leaf's data, or the result after it was
    computed. `variable` is a weak reference to whoever wants a gradient by this node. Neither is
    part of the structure. `realize`, `forget` and `let_be_variable` are the only changes that a
    node ever sees, and no graph sees them: a graph's nodes have no values and no variables.
    """

    __slots__ = ()

    def __new__(
        cls,
        op: Op,
        inputs: "tuple[Node, ...]",
        attrs: Attrs,
        type: TensorType,
        origin: Origin | None = None,
        value: Array | None = None,
    ) -> "Node":
        """A node. Every recorded op makes one, so it is filled before it is frozen: to set the
        fields of a frozen object takes five times as long.
        """
        fields = _new(_Fields)
        fields.op = op
        fields.inputs = inputs
        fields.attrs = attrs
        fields.type = type
        fields.origin = origin
        fields.value = value
        fields.variable = None
        fields.__class__ = cls
        return fields  # type: ignore[return-value]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a node is frozen: {name} can not be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a node is frozen: {name} can not be deleted")

    def realize(self, value: Array) -> None:
        """Record the array that this node was computed to be."""
        _set_value(self, value)

    def let_be_variable(self, variable: Callable[[], Any]) -> None:
        """Note who wants a gradient by this node."""
        _set_variable(self, variable)

    def forget(self, name: str | None = None) -> None:
        """Make a node whose value is known a leaf, so that what it was computed from can go."""
        _set_op(self, INPUT)
        _set_inputs(self, ())
        _set_attrs(self, _name_attrs(name))

    def with_inputs(self, inputs: "tuple[Node, ...]") -> "Node":
        """This node over other inputs of the same types; the node itself where they are its own."""
        if inputs == self.inputs:  # nodes are compared by identity
            return self
        if len(inputs) != len(self.inputs):
            raise ValueError(f"{len(inputs)} inputs for {self!r}")
        return Node(self.op, inputs, self.attrs, self.type, self.origin)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        return self.type.shape

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The dtype of the result."""
        return self.type.dtype

    def __repr__(self) -> str:
        operands = ", ".join(str(node.type) for node in self.inputs)
        return f"<{self.op.name}({operands}) : {self.type}>"


def _leaf_type(*types: TensorType, **attrs: Any) -> TensorType:
    raise AssertionError("the type of a leaf is given, not inferred")


INPUT = Op(name="input", infer=_leaf_type)
CONSTANT = Op(name="constant", infer=_leaf_type)


@lru_cache(maxsize=4096)
def _name_attrs(name: str | None) -> Attrs:
    return NO_ATTRS if name is None else Attrs({"name": name})


def input_node(
    type: TensorType,
    name: str | None = None,
    origin: Origin | None = None,
    value: Array | None = None,
) -> Node:
    """A leaf whose array is given when the graph runs. `name` is what the text form calls it."""
    return Node(INPUT, (), _name_attrs(name), type, origin, value)


def refill(leaves: Iterable[Node], values: Iterable[Array | None]) -> None:
    """Give each leaf another array, or None. It must be a leaf that nobody reads."""
    deque(map(_set_value, leaves, values), maxlen=0)


def constant_node(value: Array, origin: Origin | None = None) -> Node:
    """A leaf with an array that is part of the program. The node keeps its own copy."""
    copy = np.array(value, dtype=as_dtype(value.dtype), order="C")
    copy.flags.writeable = False
    return Node(CONSTANT, (), Attrs({"value": copy}), TensorType(copy.shape, copy.dtype), origin)

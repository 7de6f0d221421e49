"""How an op becomes a node: operands made nodes, dtypes promoted, types inferred."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isfinite
from operator import attrgetter, is_
from typing import Any
from warnings import warn_explicit

import numpy as np

from needle_ir.ir import (
    NO_ATTRS,
    Array,
    Attrs,
    DType,
    DTypeError,
    Here,
    Node,
    Op,
    OpError,
    Promotion,
    TensorType,
    Trait,
    as_dtype,
    capture_origin,
    constant_node,
)

DEFAULT_DTYPE: DType = np.dtype(np.float32)
_LARGEST_HALF = float(np.finfo(np.float16).max)
_INTEGERS = frozenset(map(np.dtype, "bhilqBHILQ"))
_WIDEST: tuple[DType, ...] = (np.dtype(np.int64), np.dtype(np.uint64))
_WEAK: dict[Any, Any] = {bool: False, int: 0, float: 0.0}
# Python 3.11 runs a function to look up a member of an enum.
_NONE, _COMMON, _BRANCHES = Promotion.NONE, Promotion.COMMON, Promotion.BRANCHES
_COMPARISON = Promotion.COMPARISON
_TOLD_BY_TYPE = {bool, int, str, type(None)}
_type = attrgetter("type")
_new_node = Node.__new__  # to call a class takes longer
_LEAST_FLOATS = {Promotion.FLOAT: np.float16, Promotion.QUOTIENT: np.float64}


# The attributes in normal form and the result's type, by the op, the attributes and the operands'
# types, where no operand had to be converted. Training asks the same in every step.
_inferred: dict[tuple[Any, ...], tuple[Attrs, TensorType]] = {}
_INFERRED_CAPACITY = 4096


def apply(op: Op, *operands: Any, **attrs: Any) -> Any:
    """The result of `op` on `operands`, of the operands' own kind.

    Nodes give a node. An operand of another class takes part by having a method
    `__apply_op__(op, operands, attrs)`, as tensors and patterns do: then the result is what the
    first such operand's method returns. Python scalars and arrays may stand beside either.
    """
    return apply_all(op, operands, attrs)


def apply_all(op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
    """As `apply`, with all operands and attributes at hand."""
    for operand in operands:
        kind = type(operand)
        if kind is Node:  # to ask it for what it does not have takes long
            continue
        record = getattr(kind, "__apply_op__", None)
        if record is not None:
            return record(operand, op, operands, attrs)
    if operands and Node not in map(type, operands):
        kinds = ", ".join(type(operand).__name__ for operand in operands)
        raise DTypeError(f"{op.name}({kinds}): one operand at least must be a tensor")
    return build(op, operands, attrs)


def build(
    op: Op, operands: Sequence[Any], attrs: Mapping[str, Any], here: Here | None = None
) -> Node:
    """A node for `op` over nodes, Python scalars and arrays. `here` is where this thread records;
    who has it at hand saves the look-up.

    Raises ShapeError or DTypeError, with the op, the operand types and the user's line, where the
    type rule refuses them.
    """
    key = attrs if type(attrs) is Attrs else _attrs(attrs) if attrs else NO_ATTRS
    asked: tuple[Any, ...]
    try:
        asked = (op, key, *map(_type, operands))
    except AttributeError:  # one is a scalar or an array
        asked = ()
    found = _inferred.get(asked)
    if found is not None:
        key, result = found
        return _new_node(Node, op, tuple(operands), key, result, capture_origin(here))
    inputs: tuple[Node, ...] = ()
    try:
        inputs = _promote(op, operands)
        found = _infer(op, key, *[node.type for node in inputs])
    except OpError as error:
        shown = ", ".join(_describe(x) for x in inputs or operands)
        raise type(error)(f"{op.name}({shown}): {error.reason}", capture_origin()) from None
    if asked and all(map(is_, inputs, operands)):
        if len(_inferred) >= _INFERRED_CAPACITY:
            _inferred.clear()
        _inferred[asked] = found
    return Node(op, inputs, *found, capture_origin())


def attributes(**attrs: Any) -> Attrs:
    """Attributes to give to `build`, which many nodes have."""
    return _attrs(attrs)


def _attrs(attrs: Mapping[str, Any]) -> Attrs:
    for value in attrs.values():
        # Equality does not tell 0.0 from -0.0, nor the types of what stands in a tuple.
        if type(value) not in _TOLD_BY_TYPE and not (type(value) is float and value):
            return Attrs(attrs)
    return _scalar_attrs(**attrs)


@lru_cache(maxsize=4096, typed=True)
def _scalar_attrs(**attrs: Any) -> Attrs:
    return Attrs(attrs)


@lru_cache(maxsize=4096)
def _infer(op: Op, attrs: Attrs, *types: TensorType) -> tuple[Attrs, TensorType]:
    """The attributes in normal form and the result's type. Training asks the same every step."""
    if op.normalize is not None:
        attrs = Attrs(op.normalize(*types, **attrs))
    return attrs, op.infer(*types, **attrs)


def as_constant(value: Any, dtype: DType | None = None) -> Node:
    """A constant node for a Python scalar, a NumPy scalar or an array.

    A Python float or int without a `dtype` becomes float32 or int64. One that is infinite in the
    dtype gives RuntimeWarning at the user's line, or what np.errstate(over=...) asks for.
    """
    if dtype is None:
        dtype = DEFAULT_DTYPE if type(value) is float else np.asarray(value).dtype
    array = _converted(value, dtype) if type(value) in (int, float) else np.asarray(value, dtype)
    if array.ndim == 0:
        return _scalar_constant(array.dtype, array.tobytes())
    return constant_node(array)


def _converted(value: float, dtype: DType) -> Array:
    """A Python number in a dtype; one that is infinite there is told as np.errstate has it."""
    if -_LARGEST_HALF <= value <= _LARGEST_HALF or dtype.kind != "f" or not isfinite(value):
        return np.asarray(value, dtype)
    with np.errstate(over="ignore"):
        array = np.asarray(value, dtype)
    how = np.geterr()["over"]
    if np.isinf(array) and how != "ignore":
        message = f"overflow encountered in cast: {value!r} is infinite in {dtype}"
        if how == "raise":
            raise FloatingPointError(message)
        origin = capture_origin()
        if origin is not None:
            warn_explicit(message, RuntimeWarning, origin.filename, origin.line)
    return array


@lru_cache(maxsize=1024)
def _scalar_constant(dtype: DType, data: bytes) -> Node:
    return constant_node(np.frombuffer(data, dtype).reshape(()))


def _promote(op: Op, operands: Sequence[Any]) -> tuple[Node, ...]:
    promotion = op.promotion
    if promotion is _NONE:
        return tuple([x if isinstance(x, Node) else _literal(x) for x in operands])
    needs_float = promotion is not _COMMON and promotion is not _COMPARISON
    if promotion is not _BRANCHES and _of_one_dtype(operands, needs_float):
        return tuple(operands)
    if promotion is _COMPARISON and (kept := _kept_apart(operands)) is not None:
        return kept
    first = 1 if promotion is _BRANCHES else 0
    head, rest = operands[:first], operands[first:]
    dtype = _common_dtype(op, rest)
    condition = [x if isinstance(x, Node) else _literal(x) for x in head]
    return (*condition, *[_convert(x, dtype) for x in rest])


def _kept_apart(operands: Sequence[Any]) -> tuple[Node, ...] | None:
    """Integers that are compared as they are, as NumPy does where no integer dtype holds them all:
    as floats they would lose digits. None for operands that have a dtype in common.
    """
    kinds = [_kind(x) for x in operands]
    if not all(kind is int or kind in _INTEGERS for kind in kinds):
        return None
    dtype = np.result_type(*[_WEAK.get(kind, kind) for kind in kinds])
    if dtype.kind != "f" and all(_fits(x, dtype) for x in operands if type(x) is int):
        return None
    return tuple([x if isinstance(x, Node) else _integer_constant(x) for x in operands])


def _fits(number: int, dtype: DType) -> bool:
    info = np.iinfo(dtype)
    return bool(info.min <= number <= info.max)


def _integer_constant(operand: Any) -> Node:
    # What no dtype holds lies beyond all of them, as infinity does.
    if type(operand) is int and not any(_fits(operand, dtype) for dtype in _WIDEST):
        return as_constant(np.inf if operand > 0 else -np.inf)
    return _literal(operand)


def _of_one_dtype(operands: Sequence[Any], a_float: bool) -> bool:
    """Whether all are nodes of one dtype, and that a float one where it has to be."""
    dtype = None
    for operand in operands:
        if not isinstance(operand, Node):
            return False
        if dtype is None:
            dtype = operand.type.dtype
        elif operand.type.dtype is not dtype:
            return False
    return dtype is not None and (not a_float or dtype.kind == "f")


def _common_dtype(op: Op, operands: Sequence[Any]) -> DType:
    return _promoted(tuple([_kind(x) for x in operands]), op.promotion)


def _kind(operand: Any) -> Any:
    """What promotion looks at: a dtype, or the type of a Python scalar."""
    if isinstance(operand, Node):
        return operand.type.dtype
    # NumPy 2 lets Python's own scalars follow the dtype beside them; its own scalars do not.
    return type(operand) if type(operand) in _WEAK else _array(operand).dtype


@lru_cache(maxsize=1024)
def _promoted(kinds: tuple[Any, ...], promotion: Promotion) -> DType:
    """The dtype that operands of these kinds have in common."""
    dtype = np.result_type(*[_WEAK.get(kind, kind) for kind in kinds])
    if dtype.kind != "f" and promotion in _LEAST_FLOATS:
        dtype = np.result_type(dtype, _LEAST_FLOATS[promotion])
    return dtype


def _convert(operand: Any, dtype: DType) -> Node:
    if isinstance(operand, Node):
        return operand if operand.type.dtype == dtype else build(CAST, [operand], {"dtype": dtype})
    try:
        # Equal numbers of one type have equal bits, but for zeros. What may be infinite in the
        # dtype is told each time.
        if type(operand) in _WEAK and operand and -_LARGEST_HALF <= operand <= _LARGEST_HALF:
            return _number(operand, dtype)
        return as_constant(operand if np.isscalar(operand) else _array(operand), dtype)
    except OverflowError as error:
        raise DTypeError(f"{operand!r} does not fit the other operand: {error}") from None


@lru_cache(maxsize=1024, typed=True)
def _number(value: float, dtype: DType) -> Node:
    return as_constant(value, dtype)


def _literal(operand: Any) -> Node:
    return as_constant(operand if type(operand) is float else _array(operand))


def _array(operand: Any) -> "np.ndarray[Any, Any]":
    array = np.asarray(operand)
    if array.dtype.kind not in "bifu":
        raise DTypeError(f"an operand of type {type(operand).__name__} is not a number or an array")
    return array


def _describe(operand: Any) -> str:
    if isinstance(operand, Node):
        return str(operand.type)
    return repr(operand) if np.isscalar(operand) else type(operand).__name__


def _cast_attrs(x: TensorType, *, dtype: Any) -> dict[str, DType]:
    return {"dtype": as_dtype(dtype)}


def _cast_type(x: TensorType, *, dtype: DType) -> TensorType:
    return TensorType(x.shape, dtype)


def _cast_vjp(ct: Node, out: Node, x: Node, *, dtype: DType) -> tuple[Node | None, ...]:
    return (build(CAST, [ct], {"dtype": x.dtype}),)


CAST = Op(
    name="cast",
    infer=_cast_type,
    normalize=_cast_attrs,
    traits=frozenset({Trait.ELEMENTWISE}),
    vjp=_cast_vjp,
)

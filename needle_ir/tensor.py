"""The lazy tensor: a handle on a node."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self
from weakref import ref

import numpy as np

from needle_ir import ops
from needle_ir.device import Device, check_device, cpu
from needle_ir.gradients import Request
from needle_ir.ir import (
    INPUT,
    Array,
    DType,
    DTypeError,
    Node,
    Op,
    Operators,
    OpError,
    ShapeError,
    TensorType,
    as_dtype,
    capture_origin,
    input_node,
    is_floating,
)
from needle_ir.ops.build import DEFAULT_DTYPE, build
from needle_ir.ops.markers import STOP_GRADIENT, cut
from needle_ir.provenance import share
from needle_ir.recording import State, thread, updates

_new = object.__new__


class Tensor(Operators):
    """An array that is computed when it is needed.

    `array` is a NumPy array, which keeps its dtype, or Python numbers, which become float32. The
    data is copied. A tensor of a float dtype with `requires_grad` gets a `.grad` from
    `backward()`. Raises DTypeError for data that is not numeric.
    """

    __slots__ = ("__weakref__", "_grad", "_history_freed", "_requires_grad", "is_leaf", "name",
                 "node")  # fmt: skip

    # NumPy leaves `array + tensor` to the tensor.
    __array_ufunc__ = None

    node: Node
    _grad: "Tensor | Request | None"
    _history_freed: bool
    _requires_grad: bool
    is_leaf: bool
    name: str | None

    def __init__(
        self,
        array: Any,
        *,
        device: Device | None = None,
        dtype: Any = None,
        requires_grad: bool = True,
    ):
        check_device(device)
        self._grad = None
        self._history_freed = False
        self.name = None
        self.is_leaf = True
        data = own_array(array, dtype)
        self._requires_grad = requires_grad and is_floating(data.dtype)
        self._set_leaf(input_node(TensorType(data.shape, data.dtype), value=data))
        if thread.state.trace is not None:
            thread.state.trace.made.add(id(self))

    @classmethod
    def _from_node(cls, node: Node, requires_grad: bool, is_leaf: bool = False) -> "Tensor":
        """The handle on a node that was just recorded."""
        return _handle(thread.state, node, requires_grad, is_leaf)

    @classmethod
    def _from_array(cls, array: Array, requires_grad: bool = False) -> "Tensor":
        """The handle on an array that nobody else holds, without a copy."""
        node = input_node(TensorType(array.shape, array.dtype), value=array)
        tensor = cls._from_node(node, requires_grad, is_leaf=True)
        if requires_grad:
            tensor._set_leaf(node)
        return tensor

    def _assign_array(self, array: Array) -> None:
        """Let this tensor be a new leaf with an array of its type that nobody else holds."""
        node = input_node(self.node.type, self.name, value=array)
        if thread.state.trace is not None:
            self._assign(node)
            return
        self.is_leaf = True
        self._history_freed = False
        self._set_leaf(node)

    def _set_leaf(self, node: Node) -> None:
        # The leaf from before stays a variable for as long as a graph reads it.
        if self._requires_grad:
            node.let_be_variable(ref(self))
        self.node = node

    def _settle(self, free_history: bool) -> None:
        """After the node got its value: let go of what no derivative needs any more."""
        if self.is_leaf or not self._requires_grad:
            node = self.node
            if node.value is not None:  # another thread may have assigned one without
                node.forget(self.name)
        elif free_history:
            self._free_history()
        else:
            thread.state.computed[id(self)] = self

    def _free_history(self) -> None:
        node = self.node
        if not self.is_leaf and node.value is not None:
            self._history_freed = True
            node.forget(self.name)

    def __apply_op__(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> "Tensor":
        """Record `op` over tensors, arrays and Python scalars."""
        now = thread.state
        needs_grad = False
        grad_enabled = now.grad_enabled
        traced = now.trace is not None
        inputs: list[Any] = []
        for operand in operands:
            if isinstance(operand, Tensor):
                node = operand.node
                if traced or (operand.is_leaf and node.inputs):
                    node = operand._read()
                if operand._requires_grad:
                    needs_grad = grad_enabled
                    if not grad_enabled:
                        node = cut(node)
                inputs.append(node)
            elif isinstance(operand, np.ndarray | list | tuple):
                try:
                    data = own_array(operand)
                except OpError as error:
                    raise type(error)(f"{op.name}: {error.reason}", capture_origin()) from None
                inputs.append(input_node(TensorType(data.shape, data.dtype), value=data))
            else:
                inputs.append(operand)
        node = build(op, inputs, attrs, now.here)
        return _handle(now, node, needs_grad and node.type.dtype.kind == "f", False)

    def _read(self) -> Node:
        """The node, for use as an operand. A trace learns that it depends on this tensor."""
        node = self.node
        trace = thread.state.trace
        if trace is not None and id(self) not in trace.made:
            if node.op is INPUT and node.value is None:
                updates.wait(node)
            if node.value is not None:
                return trace.read(self)
        if (
            self.is_leaf
            and node.inputs
            and not self._requires_grad
            and node.op is not STOP_GRADIENT
        ):
            return cut(node)  # derivatives end at a leaf, though it is still to be computed
        return node

    def _assign(self, node: Node, is_own: bool = False) -> None:
        """Let this tensor be a new leaf whose array is that of `node`.

        With `is_own`, no other tensor has the node, and no derivative flows to what it reads.
        """
        now = thread.state
        trace = now.trace
        if trace is not None and id(self) not in trace.made:
            before = (self.node, self.is_leaf, self._history_freed)
            trace.data_writes.setdefault(id(self), (self, before))
        self.is_leaf = True
        self._history_freed = False
        value = node.value
        if value is not None:
            self._set_leaf(input_node(node.type, self.name, value=value))
            return
        self._set_leaf(node if is_own else cut(node))
        if trace is None:
            now.register(self)

    def rename(self, name: str) -> None:
        """Give the tensor the name that graphs show for it as an input."""
        self.name = name
        node = self.node
        if node.op is INPUT and node.value is not None:
            node.forget(name)

    # Data -------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self.node.type.shape

    @property
    def dtype(self) -> DType:
        """The NumPy dtype."""
        return self.node.type.dtype

    @property
    def device(self) -> Device:
        """Where the data lives."""
        return cpu()

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.node.type.size

    @property
    def T(self) -> "Tensor":  # noqa: N802 - NumPy's name
        """The tensor with its axes reversed."""
        return ops.permute(self)

    @property
    def data(self) -> "Tensor":
        """The same values without their history. Assigning to it starts a new leaf."""
        return self.detach()

    @data.setter
    def data(self, value: "Tensor | Array") -> None:
        source = value if isinstance(value, Tensor) else Tensor(value, requires_grad=False)
        if source.dtype != self.dtype:
            raise DTypeError(
                f"data of dtype {source.dtype} is assigned to a tensor of {self.dtype}; "
                f"convert it with astype({str(self.dtype)!r})"
            )
        self._assign(source._read())

    @property
    def requires_grad(self) -> bool:
        """Whether derivatives flow to or through the tensor.

        Set to True it makes the tensor a leaf. Raises DTypeError for a tensor that is not of a
        float dtype, ValueError where a result should stop having a derivative: use `detach()`.
        """
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not is_floating(self.dtype):
            raise DTypeError(f"a tensor of {self.dtype} has no derivative; use a float dtype")
        if self._requires_grad and not value and not self.is_leaf:
            raise ValueError("requires_grad=False for a result: detach() gives it without history")
        if self._requires_grad != bool(value):
            self._requires_grad = bool(value)
            if value:
                self._assign(self._read())

    @property
    def grad(self) -> "Tensor | None":
        """The derivative that the last `backward()` gave this leaf, None before."""
        grad = self._grad
        if isinstance(grad, Request):
            grad = self._grad = grad.of(self)
        trace = thread.state.trace
        if trace is not None and id(self) not in trace.made and id(self) not in trace.grad_writes:
            trace.grad_reads.setdefault(id(self), (self, grad))
        return grad

    @grad.setter
    def grad(self, value: "Tensor | None") -> None:
        if value is not None and not isinstance(value, Tensor):
            raise DTypeError(f"a gradient is a Tensor or None, not {type(value).__name__}")
        if value is not None and value.shape != self.shape:
            raise ShapeError(f"a gradient of shape {value.shape} for a tensor of {self.shape}")
        trace = thread.state.trace
        if trace is not None and id(self) not in trace.made:
            trace.grad_writes.setdefault(id(self), (self, self._grad))
        self._grad = value

    def detach(self) -> "Tensor":
        """The same values as a constant to every derivative."""
        node = self.node
        value = node.value
        if value is not None and thread.state.trace is None:
            tensor = Tensor._from_array(value)
            share(node, tensor.node)
            return tensor
        return Tensor._from_node(cut(self._read()), False, is_leaf=True)

    def realize(self) -> Self:
        """Compute the value now. Returns the tensor."""
        if self.node.value is None:
            from needle_ir.realize import force

            force(self)
        return self

    @property
    def cached_data(self) -> Array:
        """The array itself, computed now if need be. Read-only: tensors may share it.

        Raises TracedValueError in a traced function where the value depends on what it is given.
        """
        if thread.state.trace is not None and id(self) not in thread.state.trace.made:
            from needle_ir.realize import refuse_to_read

            refuse_to_read()
        value = self.node.value
        while value is None:  # between two lines here, another thread may begin to update it
            value = self.realize().node.value
        view = value.view()
        view.flags.writeable = False
        return view

    def numpy(self) -> Array:
        """The values as a NumPy array of the caller's own."""
        return self.cached_data.copy()

    def item(self) -> Any:
        """The one element as a Python number. Raises ValueError where there are more, or none."""
        if self.size != 1:
            raise ValueError(f"item() of a tensor with {self.size} elements, shape {self.shape}")
        return self.cached_data.item()

    def backward(self, out_grad: "Tensor | None" = None) -> None:
        """Set `.grad` on every leaf below that requires it, to the derivative of
        sum(self * out_grad); `out_grad` is ones where None.

        It is recorded, not computed. Raises ValueError where there is nothing to differentiate.
        """
        from needle_ir.autograd import backward

        backward(self, out_grad)

    # Python's protocols -----------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        # For copy and pickle: a leaf with a copy of the data, without history or gradient.
        return _leaf_of, (type(self), self.numpy(), self.requires_grad, self.name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a tensor gives its data as a copy: leave copy=False out")
        return self.numpy() if dtype is None else self.cached_data.astype(dtype)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor of rank 0 has no length")
        return self.shape[0]

    def __getitem__(self, key: Any) -> "Tensor":
        from needle_ir.getitem import getitem

        return getitem(self, key)

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> Any:
        return _comparison(AllEqual, ops.equal, self, other)

    def __ne__(self, other: object) -> Any:
        return _comparison(AnyUnequal, ops.not_equal, self, other)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        values = np.array2string(self.cached_data, separator=", ", prefix="Tensor(")
        return f"Tensor({values}, dtype={self.dtype})"

    # Operations -------------------------------------------------------------------------------

    def matmul(self, other: Any) -> "Tensor":
        """The matrix product self @ other."""
        return ops.matmul(self, other)

    def sum(self, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> "Tensor":
        """The sum over `axes`, over all where None."""
        return ops.sum(self, axes, keepdims)

    def mean(self, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> "Tensor":
        """The arithmetic mean over `axes`, over all where None."""
        return ops.mean(self, axes, keepdims)

    def var(self, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> "Tensor":
        """The variance over `axes`, dividing by the number of elements; over all where None."""
        return ops.var(self, axes, keepdims)

    def max(self, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> "Tensor":
        """The largest element over `axes`, over all where None."""
        return ops.max(self, axes, keepdims)

    def min(self, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> "Tensor":
        """The smallest element over `axes`, over all where None."""
        return ops.min(self, axes, keepdims)

    def reshape(self, *shape: int | Sequence[int]) -> "Tensor":
        """The same elements in another shape; one length may be -1."""
        return ops.reshape(self, _as_shape(shape))

    def broadcast_to(self, *shape: int | Sequence[int]) -> "Tensor":
        """The tensor repeated along its axes of length 1 to `shape`."""
        return ops.broadcast_to(self, _as_shape(shape))

    def transpose(self, axes: Sequence[int] | None = None) -> "Tensor":
        """The tensor with two axes swapped: the two in `axes`, the last two where None.

        With a permutation of all axes, the axes in that order.
        """
        return ops.transpose(self, axes)

    def exp(self) -> "Tensor":
        """e to the power of each element."""
        return ops.exp(self)

    def log(self) -> "Tensor":
        """The natural logarithm of each element."""
        return ops.log(self)

    def sqrt(self) -> "Tensor":
        """The square root of each element."""
        return ops.sqrt(self)

    def tanh(self) -> "Tensor":
        """The hyperbolic tangent of each element."""
        return ops.tanh(self)

    def abs(self) -> "Tensor":
        """The absolute value of each element."""
        return ops.abs(self)

    def astype(self, dtype: Any) -> "Tensor":
        """The elements converted to `dtype`."""
        return ops.cast(self, dtype)


class AllEqual(Tensor):
    """The result of `==`, element by element. As a whole it is true where all elements are.

    So that tensors compare as Python's containers ask them to, in `x in xs` and `(x, y) == (z, w)`.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return bool(self.cached_data.all())


class AnyUnequal(Tensor):
    """The result of `!=`, element by element. As a whole it is true where any element is."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return bool(self.cached_data.any())


def _comparison(kind: type[Tensor], op: Any, x: Tensor, other: object) -> Any:
    if not isinstance(other, Tensor | np.ndarray | np.generic | int | float | list | tuple):
        return NotImplemented  # Python compares by identity then: a tensor is not None
    result = op(x, other)
    result.__class__ = kind
    return result


def _handle(now: State, node: Node, requires_grad: bool, is_leaf: bool) -> Tensor:
    tensor = _new(Tensor)
    tensor._grad = None
    tensor._history_freed = False
    tensor.name = None
    tensor.is_leaf = is_leaf
    tensor._requires_grad = requires_grad
    tensor.node = node
    trace = now.trace
    if trace is None:
        if node.value is None:
            now.register(tensor)
    else:
        trace.made.add(id(tensor))
        if node.value is None:
            trace.recorded.append(node)
    return tensor


def own_array(data: Any, dtype: Any = None) -> Array:
    """A contiguous copy of `data`. Python numbers become float32 where no dtype is given.

    Raises DTypeError for data that is not numeric, ShapeError for nested lists of uneven lengths.
    """
    if isinstance(data, Tensor):
        data = data.cached_data
    is_array = isinstance(data, np.ndarray | np.generic)
    try:
        array = data if is_array else np.asarray(data)
    except ValueError as error:
        raise ShapeError(f"the nested lists are no array: {error}") from None
    if array.dtype.kind in "OSUV":
        raise DTypeError(f"a tensor holds numbers or booleans, not {data!r:.60}")
    if dtype is None:
        is_number = array.dtype.kind in "iuf" and not is_array
        dtype = DEFAULT_DTYPE if is_number else array.dtype
    return np.array(array, dtype=as_dtype(dtype), order="C")


def _leaf_of(kind: type[Tensor], array: Array, requires_grad: bool, name: str | None) -> Tensor:
    tensor = kind(array, requires_grad=requires_grad)
    tensor.name = name
    return tensor


def _as_shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape

"""Tracing: a function run once, on inputs without data, to get its graph."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import repeat
from operator import attrgetter, eq, is_
from typing import TYPE_CHECKING, Any

import numpy as np

from needle_ir.holdings import Holdings, settled
from needle_ir.ir import Array, Graph, Node, TensorType, as_dtype, input_node, topological
from needle_ir.leaves import Leaves
from needle_ir.pytree import LEAF, Tree, flatten, unflatten
from needle_ir.realize import canonicalize, leaf_arrays, sync
from needle_ir.recording import Trace, thread, tracing
from needle_ir.tensor import Tensor

if TYPE_CHECKING:
    from needle_ir.runtime import Leases

_DYNAMIC = (Tensor, np.ndarray)
Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_value, _type, _grad = attrgetter("value"), attrgetter("type"), attrgetter("_grad")
_requires_grad = attrgetter("_requires_grad")


@dataclass(frozen=True)
class Source:
    """A tensor that a recording reads: one from outside, or the gradient that it has by then."""

    tensor: Tensor
    of_grad: bool
    type: TensorType
    requires_grad: bool

    def now(self) -> Tensor | None:
        """The tensor to read at this call."""
        return self.tensor.grad if self.of_grad else self.tensor

    def __str__(self) -> str:
        name = self.tensor.name or "a tensor"
        return f"the gradient of {name}" if self.of_grad else name


# What a recording assigns to: a tensor from outside, or the argument at this place among those
# that are inputs.
Target = Tensor | int


@dataclass(frozen=True)
class Recording:
    """The graph of a function, and where its inputs come from and its outputs go.

    The graph's inputs are the tensors and arrays among the arguments, then `state` (tensors that
    the function read), then host values, then arrays that it captured. Its outputs are the tensors
    among the results, then what it assigned to `.data`, then what it assigned to `.grad`.
    """

    graph: Graph
    result_tree: Tree
    result_leaves: tuple[Any, ...]  # tensors stand here as None
    result_is_tensor: tuple[bool, ...]
    state: tuple[Source, ...]
    without_grad: tuple[Tensor, ...]  # whose `.grad` it found to be None
    host_values: tuple[Callable[[], Array], ...]
    captured: tuple[Array, ...]
    data_writes: tuple[Target, ...]
    grad_writes: tuple[Target, ...]
    grad_resets: tuple[Tensor, ...]  # whose `.grad` it set to None
    guards: tuple[tuple[object, str, object], ...]
    holdings: Holdings

    @cached_property
    def _targets(self) -> tuple[Target, ...]:
        return (*self.data_writes, *self.grad_writes)

    @cached_property
    def _returned_types(self) -> tuple[TensorType, ...]:
        returned = self.graph.outputs[: len(self.graph.outputs) - len(self._targets)]
        return tuple([node.type for node in returned])

    @cached_property
    def _of_arguments(self) -> tuple[int, ...]:
        """Which of the targets are arguments: other tensors in every call."""
        return tuple([i for i, target in enumerate(self._targets) if isinstance(target, int)])

    @cached_property
    def _leaves(self) -> Leaves:
        """Where the results for all other targets go."""
        outputs = self.graph.outputs[len(self.graph.outputs) - len(self._targets) :]
        types = [x.type for i, x in enumerate(outputs) if i not in self._of_arguments]
        tensors, receivers = (
            [target for target in targets if not isinstance(target, int)]
            for targets in (self.data_writes, self.grad_writes)
        )
        return Leaves(tensors, receivers, types, [i for i, _ in self.replaced])

    @cached_property
    def _is_as_it_was(self) -> Callable[[], bool]:
        """Whether `what_changed` is None, without the words; it may be False where it is None."""
        owners, names, values = zip(*self.guards, strict=True) if self.guards else ((),) * 3
        types = [source.type for source in self.state]
        tensors = [source.tensor for source in self.state]
        wanted = [source.requires_grad for source in self.state]
        if self._state_nodes is None:
            return lambda: False
        nodes = self._state_nodes

        def is_as_it_was() -> bool:
            return (
                all(map(eq, map(getattr, owners, names), values))
                and all(map(is_, map(_type, nodes()), types))
                and all(map(is_, map(_requires_grad, tensors), wanted))
                and all(map(is_, map(_grad, self.without_grad), repeat(None)))
                and self.holdings.what_changed() is None
            )

        return is_as_it_was

    @cached_property
    def _state_nodes(self) -> Callable[[], Iterable[Node]] | None:
        """Gives the nodes of `state`, where none of them is that of a gradient."""
        if any(source.of_grad for source in self.state):
            return None
        tensors = [source.tensor for source in self.state]
        return partial(map, attrgetter("node"), tensors)

    def what_changed(self) -> str | None:
        """Why this recording is no longer the function's, in words; None while it is."""
        if self._is_as_it_was():
            return None
        for owner, name, value in self.guards:
            now = getattr(owner, name)
            if now != value:
                return f"{type(owner).__name__}.{name} is {now!r}, was {value!r}"
        changed = self.holdings.what_changed()
        if changed is not None:
            return changed
        for source in self.state:
            tensor = source.now()
            if tensor is None or tensor.node.type != source.type:
                found = "None" if tensor is None else tensor.node.type
                return f"{source} is {found}, was {source.type}"
            if source.tensor.requires_grad != source.requires_grad:
                now, before = source.tensor.requires_grad, source.requires_grad
                return f"requires_grad of {source.tensor.name or 'a tensor'} is {now}, was {before}"
        for tensor in self.without_grad:
            if tensor._grad is not None:
                return f"{Source(tensor, True, tensor.node.type, True)} is there, was None"
        return None

    def gather(self, arguments: Sequence[Array]) -> list[Array]:
        """The arrays to run on: the arguments' and the present ones of everything else."""
        if self._state_nodes is not None:
            states = [*map(_value, self._state_nodes())]
            if not any(map(is_, states, repeat(None))):
                host_values = [read() for read in self.host_values]
                return [*arguments, *states, *host_values, *self.captured]
        tensors = [source.now() for source in self.state]
        if any(tensor is not None and tensor.node.value is None for tensor in tensors):
            sync(free_history=False)
        states = leaf_arrays([tensor.realize().node for tensor in tensors if tensor is not None])
        return [*arguments, *states, *[read() for read in self.host_values], *self.captured]

    @cached_property
    def replaced(self) -> tuple[tuple[int, int], ...]:
        """Which outputs take the place of which inputs: of what it reads, what it assigns to. By
        their positions in the graph.
        """
        given = len(self.graph.inputs) - len(self.state) - len(self.host_values)
        given -= len(self.captured)
        written = [
            *[(id(target), False) for target in self.data_writes],
            *[(id(target), True) for target in self.grad_writes],
        ]
        position = {key: i for i, key in enumerate(written, len(self._returned_types))}
        read = [(id(source.tensor), source.of_grad) for source in self.state]
        return tuple((given + i, position[key]) for i, key in enumerate(read) if key in position)

    @property
    def leaves(self) -> Leaves | None:
        """Where the results go that are assigned, None for a function that assigns none."""
        return self._leaves if self._targets else None

    def scatter(self, arrays: Sequence[Array], arguments: Sequence[Any], leases: "Leases") -> Any:
        """Assign what the function assigned, and return what it returned.

        The arrays to assign lie in the memory of `leases`, or elsewhere.
        """
        returned = map(_result, self._returned_types, arrays)
        leaves = [
            next(returned) if is_tensor else leaf
            for leaf, is_tensor in zip(self.result_leaves, self.result_is_tensor, strict=True)
        ]
        self._assign(arrays[len(self._returned_types) :], arguments, leases)
        for tensor in self.grad_resets:
            tensor.grad = None
        return unflatten(self.result_tree, leaves)

    def _assign(self, arrays: Sequence[Array], arguments: Sequence[Any], leases: "Leases") -> None:
        traced = thread.state.trace is not None
        for i in range(len(arrays)) if traced else self._of_arguments:
            target = self._targets[i]
            tensor = arguments[target] if isinstance(target, int) else target
            if i < len(self.data_writes):
                tensor._assign_array(arrays[i])
            else:
                tensor.grad = Tensor._from_array(arrays[i])
        if not traced:
            given = self._of_arguments
            rest = [x for i, x in enumerate(arrays) if i not in given] if given else arrays
            self._leaves.assign(rest, leases)


def _result(type: TensorType, array: Array) -> Tensor:
    return Tensor._from_node(input_node(type, value=array), False, is_leaf=True)


def record(fn: Callable[..., Any], arguments: Arguments) -> Recording:
    """Run `fn` on inputs without data and keep what it recorded.

    What it assigns to tensors from outside is noted and undone.
    """
    sync(free_history=False)
    leaves, tree = flatten(arguments)
    names = argument_names(fn, arguments)
    with tracing() as trace:
        inputs: list[Node] = []
        stand_ins = []
        arguments_in: list[tuple[int, Tensor]] = []
        for leaf, name in zip(leaves, names, strict=True):
            if is_dynamic(leaf):
                inputs.append(input_node(type_of(leaf), name))
                requires_grad = isinstance(leaf, Tensor) and leaf.requires_grad
                stand_in = Tensor._from_node(inputs[-1], requires_grad, is_leaf=True)
                stand_in._set_leaf(inputs[-1])
                stand_ins.append(stand_in)
                if isinstance(leaf, Tensor):
                    arguments_in.append((len(inputs) - 1, stand_in))
            else:
                stand_ins.append(leaf)
        args, kwargs = unflatten(tree, stand_ins)
        result = fn(*args, **kwargs)
        result_leaves, result_tree = flatten(result)
        returned = [leaf._read() for leaf in result_leaves if isinstance(leaf, Tensor)]
        data_writes: list[tuple[Target, Node]] = [
            *[(tensor, tensor.node) for tensor, _ in trace.data_writes.values()],
            *[(i, x.node) for i, x in arguments_in if x.node is not inputs[i]],
        ]
        grads: list[tuple[Target, Tensor | None]] = [
            *[(tensor, tensor.grad) for tensor, _ in trace.grad_writes.values()],
            *[(i, x.grad) for i, x in arguments_in if x._grad is not None],
        ]
    grad_writes = [(target, grad._read()) for target, grad in grads if grad is not None]
    outputs = [*returned, *[node for _, node in (*data_writes, *grad_writes)]]
    pending = canonicalize(outputs, trace.effects, _unused(trace, outputs, inputs))
    groups = _group_leaves(pending.leaves, inputs, trace)
    owners = {id(grad): x for x, grad in trace.grad_reads.values() if grad is not None}
    graph = pending.graph(
        [*inputs, *groups.state, *groups.host, *groups.captured],
        name=getattr(fn, "__name__", type(fn).__name__),
    )
    return Recording(
        graph=graph,
        result_tree=result_tree,
        result_leaves=tuple(None if isinstance(x, Tensor) else x for x in result_leaves),
        result_is_tensor=tuple(isinstance(x, Tensor) for x in result_leaves),
        state=tuple(_source(trace.reads[node], owners) for node in groups.state),
        without_grad=tuple(x for x, grad in trace.grad_reads.values() if grad is None),
        host_values=tuple(trace.host_values[node] for node in groups.host),
        captured=tuple(leaf_arrays(groups.captured)),
        data_writes=tuple(target for target, _ in data_writes),
        grad_writes=tuple(target for target, _ in grad_writes),
        grad_resets=tuple(x for x, grad in grads if grad is None and isinstance(x, Tensor)),
        guards=tuple(trace.guards.values()),
        holdings=settled(trace.held, trace.met()),
    )


def _source(tensor: Tensor, owners: Mapping[int, Tensor]) -> Source:
    owner = owners.get(id(tensor))
    if owner is not None:
        return Source(owner, True, tensor.node.type, owner.requires_grad)
    return Source(tensor, False, tensor.node.type, tensor.requires_grad)


def is_dynamic(leaf: Any) -> bool:
    """Whether an argument is an input of the graph. Anything else is part of the program."""
    return isinstance(leaf, _DYNAMIC)


def type_of(leaf: Any) -> TensorType:
    """The type of a tensor or an array."""
    if isinstance(leaf, Tensor):
        return leaf.node.type
    return TensorType(leaf.shape, as_dtype(leaf.dtype))


def argument_arrays(leaves: Sequence[Any]) -> list[Array]:
    """The data of the tensors and arrays among the leaves of the arguments."""
    arrays: list[Array] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            value = leaf.node.value
            arrays += leaf_arrays([leaf.realize().node]) if value is None else [value]
        elif is_dynamic(leaf):
            arrays.append(np.ascontiguousarray(leaf, as_dtype(leaf.dtype)).reshape(leaf.shape))
    return arrays


@dataclass(frozen=True)
class _Groups:
    state: list[Node]
    host: list[Node]
    captured: list[Node]


def _group_leaves(leaves: Sequence[Node], inputs: Sequence[Node], trace: Trace) -> _Groups:
    groups = _Groups([], [], [])
    arguments = set(inputs)
    for leaf in leaves:
        if leaf in arguments:
            continue
        if leaf in trace.reads:
            groups.state.append(leaf)
        elif leaf in trace.host_values:
            groups.host.append(leaf)
        else:
            groups.captured.append(leaf)
    return groups


def _unused(trace: Trace, outputs: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
    """What was recorded and nothing needs, without what something else unused reads."""
    needed = set(topological([*outputs, *trace.effects])).union(inputs)
    unused = [node for node in trace.recorded if node not in needed]
    read = {operand for node in unused for operand in node.inputs}
    return [node for node in dict.fromkeys(unused) if node not in read]


def argument_names(fn: Callable[..., Any], arguments: Arguments) -> list[str]:
    """A name for every leaf of the arguments: the parameter's, numbered where it has several."""
    args, kwargs = arguments
    try:
        bound = inspect.signature(fn).bind(*args, **kwargs)
        positional = [*_positional_names(bound)][: len(args)]
    except (TypeError, ValueError):
        positional = [f"arg{i}" for i in range(len(args))]
    names: list[str] = []
    named: list[tuple[str, Any]] = [*zip(positional, args, strict=True), *kwargs.items()]
    for name, value in named:
        leaves, tree = flatten(value)
        names += [name] if tree == LEAF else [f"{name}_{i}" for i in range(len(leaves))]
    return names


def _positional_names(bound: inspect.BoundArguments) -> list[str]:
    names: list[str] = []
    parameters: Mapping[str, inspect.Parameter] = bound.signature.parameters
    for name, value in bound.arguments.items():
        if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{name}_{i}" for i in range(len(value))]
        elif parameters[name].kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            names.append(name)
    return names

"""What recording knows besides the graph: pending tensors, the gradient mode, the running trace.

The state is one object per thread, so that threads record without seeing each other.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary, ref

import numpy as np

from needle_ir.holdings import Held, holdings
from needle_ir.ir import INPUT, Array, DType, Here, Node, TensorType, here, input_node

if TYPE_CHECKING:
    from needle_ir.gradients import Request
    from needle_ir.nn.module import Module
    from needle_ir.tensor import Tensor


# A graph that grows past this many nodes with nothing forcing it is run by itself.
MAX_PENDING_NODES = 10_000

# The node of a tensor, whether it is a leaf, whether its history was freed.
Leaf = tuple[Node, bool, bool]


class Trace:
    """What one run of a function under `trace` or `jit` read, wrote and drew."""

    def __init__(self) -> None:
        self.made: set[int] = set()  # ids of the tensors that were made inside
        self.reads: dict[Node, Tensor] = {}  # leaves of the tensors that were there before
        self.data_writes: dict[int, tuple[Tensor, Leaf]] = {}  # with what was there before
        # With the grad from before, which may be a request for it.
        self.grad_writes: dict[int, tuple[Tensor, Tensor | Request | None]] = {}
        self.grad_reads: dict[int, tuple[Tensor, Tensor | None]] = {}  # with the grad that was read
        self.effects: list[Node] = []
        self.recorded: list[Node] = []
        self.host_values: dict[Node, Callable[[], Array]] = {}
        self.guards: dict[tuple[int, str], tuple[object, str, object]] = {}
        self.holders: dict[int, object] = {}  # the modules that it met
        self.held: list[Held] = []  # what these held then

        self._stand_ins: dict[Node, Node] = {}

    def read(self, tensor: "Tensor") -> Node:
        """The leaf that stands for a tensor from outside. Derivatives end at it."""
        node = tensor.node
        if node.op is not INPUT:
            leaf = input_node(node.type, tensor.name, value=node.value)
            node = self._stand_ins.setdefault(node, leaf)
        self.reads.setdefault(node, tensor)
        return node

    def meet(self, holder: object) -> None:
        """Note what a module holds, before it is used for the first time."""
        if id(holder) not in self.holders:
            self.holders[id(holder)] = holder
            self.held += holdings(holder)

    def met(self) -> set[int]:
        """The ids of what it came by: tensors from outside, and modules."""
        by_id = (self.data_writes, self.grad_writes, self.grad_reads, self.holders)
        return {id(tensor) for tensor in self.reads.values()}.union(*by_id)

    def undo_writes(self) -> None:
        """Put back what every tensor held before the trace."""
        for tensor, before in self.data_writes.values():
            tensor.node, tensor.is_leaf, tensor._history_freed = before
        for tensor, grad in self.grad_writes.values():
            tensor._grad = grad


class State:
    """What one thread has recorded, and how it records."""

    __slots__ = (
        "computed",
        "grad_enabled",
        "here",
        "outermost",
        "pending",
        "recorded",
        "requests",
        "trace",
    )

    def __init__(self) -> None:
        self.grad_enabled = True
        self.here: Here = here()  # where it stands: module path, phase, origin
        self.trace: Trace | None = None
        self.outermost: Module | None = None  # of the modules that are being called
        # Tensors that were recorded since the last sync. Some may be gone or computed by now.
        self.pending: list[ref[Tensor]] = []
        # Tensors that were computed and still have a history, until the next optimizer step.
        self.computed: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
        # What `backward()` asked for, until the next optimizer step.
        self.requests: WeakValueDictionary[int, Request] = WeakValueDictionary()
        self.recorded = 0  # nodes since the last sync

    def register(self, tensor: "Tensor") -> None:
        """Note that `tensor` was recorded."""
        self.pending.append(ref(tensor))
        self.recorded += 1
        if self.recorded > MAX_PENDING_NODES:
            from needle_ir.realize import sync

            sync(free_history=False)

    def requested(self) -> "list[Request]":
        """What `backward()` asked for, and somebody still holds."""
        references = self.requests.valuerefs()
        return [x for reference in references if (x := reference()) is not None]

    def held(self) -> "list[Tensor]":
        """The pending tensors that are still there and not computed yet, in recorded order."""
        # Another thread may have computed it.
        tensors = [
            tensor
            for reference in self.pending
            if (tensor := reference()) is not None and tensor.node.value is None
        ]
        return [*dict(zip(map(id, tensors), tensors, strict=True)).values()]


class _Thread(threading.local):
    # One attribute: an attribute of a thread's own takes several times as long as one of an object.
    def __init__(self) -> None:
        self.state = State()


class _Updates:
    """The threads in which a program writes over the arrays of leaves.

    These leaves have no values meanwhile, so that nobody can begin to read one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._threads: set[int] = set()
        self._waiting = 0

    def begin(self) -> None:
        """From now on leaves that this thread updates have no values."""
        self._threads.add(threading.get_ident())

    def end(self) -> None:
        """They have them again."""
        self._threads.discard(threading.get_ident())
        # Who begins to wait after this line looks first, and finds the values.
        if self._waiting:
            with self._changed:
                self._changed.notify_all()

    def wait(self, leaf: Node) -> None:
        """Wait until a leaf has a value, or no other thread can give it one.

        Raises RuntimeError where this thread itself is about to give it one.
        """
        mine = {threading.get_ident()}
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: leaf.value is not None or self._threads <= mine)
            self._waiting -= 1
            if leaf.value is None and self._threads:
                raise RuntimeError(
                    "a tensor is being updated by the very thread that reads it, as a signal "
                    "handler or a destructor may do: read it after the jitted function returned"
                )


updates = _Updates()
thread = _Thread()


@contextmanager
def no_grad() -> Iterator[None]:
    """Record without gradients: what is made inside is a constant to every derivative."""
    outer = thread.state.grad_enabled
    thread.state.grad_enabled = False
    try:
        yield
    finally:
        thread.state.grad_enabled = outer


@contextmanager
def enable_grad() -> Iterator[None]:
    """Record with gradients again inside of `no_grad`."""
    outer = thread.state.grad_enabled
    thread.state.grad_enabled = True
    try:
        yield
    finally:
        thread.state.grad_enabled = outer


@contextmanager
def tracing() -> Iterator[Trace]:
    """Record into a new trace. What the traced code assigned is put back at the end."""
    outer = thread.state.trace
    thread.state.trace = trace = Trace()
    try:
        yield trace
    finally:
        thread.state.trace = outer
        trace.undo_writes()


def host_scalar(read: Callable[[], float], dtype: DType, name: str) -> Node:
    """A rank-0 input whose value is `read()` at every run, such as a learning rate.

    It is no constant of the program: another value does not compile again.
    """

    def array() -> Array:
        return np.asarray(read(), dtype)

    node = input_node(TensorType((), dtype), name, value=array())
    if thread.state.trace is not None:
        thread.state.trace.host_values[node] = array
    return node


def guarded(owner: object, name: str) -> Any:
    """The attribute `name` of `owner`. A trace that reads it holds only while it stays the same."""
    value = getattr(owner, name)
    if thread.state.trace is not None:
        thread.state.trace.guards[id(owner), name] = (owner, name, value)
    return value

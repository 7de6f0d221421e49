"""The gradients that one `backward()` asked for, recorded when somebody needs them.

`backward()` gives all leaves one common request. Most gradients are read by an optimizer only, all
at once: it records one `gradients` node, whose value is all of them packed, in the order in which
it updates its parameters. Whoever reads `.grad` of one leaf gets a tensor for that leaf: a `grad`
node, or its part of the packed values where these are known. What nobody asked for by the time
everything pending is computed is recorded then.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from needle_ir import ops
from needle_ir.ir import NO_ATTRS, DType, Node, Origin, TensorType, inherit_origin
from needle_ir.ops.build import build
from needle_ir.ops.markers import GRAD
from needle_ir.recording import thread

if TYPE_CHECKING:
    from needle_ir.tensor import Tensor


class _Packed:
    """Gradients in one tensor: of the leaves with these ids and types, one after the other."""

    def __init__(self, whole: "Tensor", ids: list[int], types: list[TensorType]):
        self.whole = whole
        self.ids = ids
        self._types = types

    @cached_property
    def parts(self) -> dict[int, tuple[int, TensorType]]:
        """Where each begins, and its type. Most are never looked at one by one."""
        starts = accumulate([x.size for x in self._types], initial=0)
        return dict(zip(self.ids, zip(starts, self._types, strict=False), strict=True))


class Request:
    """What one `backward()` asked for: the derivative of `y` by the nodes of some leaves.

    It is the `_grad` of each of them until their gradient is asked for.
    """

    __slots__ = ("__weakref__", "_leaves", "_origin", "_packed", "_requires_grad", "_y")

    def __init__(self, y: Node, leaves: dict[int, Node], origin: Origin | None):
        self._y = y
        # By the id of the leaf. What asks for a gradient by it has the leaf in its hands.
        self._leaves = leaves
        self._origin = origin
        self._requires_grad = thread.state.grad_enabled
        self._packed: list[_Packed] = []
        thread.state.requests[id(self)] = self

    def of(self, leaf: "Tensor") -> "Tensor":
        """The gradient of one leaf."""
        now = thread.state
        outer, now.trace = now.trace, None  # a trace that reads it did not make it
        try:
            return self._of(leaf)
        finally:
            now.trace = outer

    def _of(self, leaf: "Tensor") -> "Tensor":
        from needle_ir.tensor import Tensor

        packed = next((x for x in self._packed if id(leaf) in x.parts), None)
        if not self._leaves:
            assert packed is not None
            start, type = packed.parts[id(leaf)]
            node = ops.unpack(packed.whole.node, start, type.shape)
        else:
            x = self._leaves[id(leaf)]
            node = Node(GRAD, (self._y, x), NO_ATTRS, x.type, self._origin)
        tensor = Tensor._from_node(node, self._requires_grad)
        if packed is not None and packed.whole.node.value is not None:
            start, type = packed.parts[id(leaf)]
            node.realize(packed.whole.node.value[start : start + type.size].reshape(type.shape))
            tensor._settle(free_history=packed.whole._history_freed)
        return tensor

    def is_for(self, leaves: "Sequence[Tensor]") -> bool:
        """Whether all of these wait for their gradient."""
        for leaf in leaves:  # noqa: SIM110 - all() would run a generator for every one
            if leaf._grad is not self:
                return False
        return True

    def packed(self, leaves: "Sequence[Tensor]") -> Node | None:
        """The gradients of `leaves` as one packed node, recorded where it is not yet; None where
        they were recorded in another order.
        """
        ids = [*map(id, leaves)]
        for packed in self._packed:
            if ids == packed.ids:
                return packed.whole.node
            if not packed.parts.keys().isdisjoint(ids):
                return None
        return self._pack(ids)

    def record_rest(self) -> None:
        """Record what a leaf still waits for."""
        if sum([len(x.ids) for x in self._packed]) == len(self._leaves):
            return
        packed = set[int]().union(*[x.ids for x in self._packed])
        rest: dict[DType, list[int]] = {}
        for i, node in self._leaves.items():
            if i not in packed:
                leaf = None if node.variable is None else node.variable()
                if leaf is not None and leaf._grad is self:
                    rest.setdefault(node.type.dtype, []).append(i)
        for ids in rest.values():
            self._pack(ids)

    def free(self) -> None:
        """Let go of the history, after all that leaves wait for was recorded and computed."""
        self._leaves = {}
        del self._y

    def _pack(self, ids: list[int]) -> Node:
        from needle_ir.tensor import Tensor

        leaves = self._leaves
        nodes = [leaves[i] for i in ids]
        with inherit_origin(self._origin):
            node = build(ops.gradients.op, (self._y, *nodes), NO_ATTRS)
        whole = Tensor._from_node(node, self._requires_grad)
        self._packed.append(_Packed(whole, ids, [x.type for x in nodes]))
        return node


def requests_for(tensors: "Sequence[Tensor]") -> int | None:
    """How many requests of this thread hold the leaves of all these tensors. None where one holds
    those of some.
    """
    count = 0
    for request in thread.state.requested():
        if request.is_for(tensors):  # and so holds their leaves
            count += 1
            continue
        held = {*map(id, tensors)} & request._leaves.keys()
        if len(held) == len(tensors):
            count += 1
        elif held:
            return None
    return count


def packed_gradients(tensors: "Sequence[Tensor]") -> Node:
    """The gradients of `tensors`, which all have one and are of one dtype, as one packed node."""
    request = tensors[0]._grad
    if isinstance(request, Request) and request.is_for(tensors):
        node = request.packed(tensors)
        if node is not None:
            return node
    result: Node = ops.pack(*[x.grad._read() for x in tensors if x.grad is not None])
    return result

"""Leaves that a compiled function puts its results into, used again when nobody holds them."""

import sys
from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter, is_
from sys import getrefcount
from threading import RLock
from typing import TYPE_CHECKING
from weakref import ref

from needle_ir.ir import Array, Node, TensorType, input_node, refill
from needle_ir.recording import thread, updates
from needle_ir.tensor import Tensor

if TYPE_CHECKING:
    from needle_ir.runtime import Leases

_name, _requires_grad = attrgetter("name"), attrgetter("_requires_grad")
_node, _value, _grad = attrgetter("node"), attrgetter("value"), attrgetter("_grad")
# Without the global interpreter lock another thread may change a count while it is read.
_COUNTS_ARE_EXACT: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


class Leaves:
    """The leaves of some tensors, and of the gradients of some, for each call of a function.

    A training step assigns to about 70 tensors. To make a node for each, and to note whose leaf it
    is, takes a tenth of its time.

    Where nobody but the tensors holds what the call before gave them, which reference counts tell,
    they keep their nodes, and the results are computed in the place of the arrays: `claim` takes
    these off the nodes, so that nobody can begin to hold one, and `assign` puts the results there.

    Otherwise two sets of nodes take turns: a call puts its results into the nodes that the tensors
    do not have, and hands them over. The others lose their values. A node that somebody holds is
    left to him, and a new one takes its place.

    Who calls these methods holds `lock`.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        receivers: Sequence[Tensor],
        types: Sequence[TensorType],
        replaced: Sequence[int] = (),
    ):
        self._tensors = tuple(tensors)
        self._receivers = tuple(receivers)  # of gradients
        self._types = tuple(types)
        self._replaced = tuple(replaced)  # the inputs that are read from the leaves
        self.lock = RLock()
        self._names: list[str | None] = []
        self._flags: list[bool] = []
        self._spare: list[Node] = []
        self._given: list[Node] = []
        self._grads: list[Tensor] = []
        # Reference counts of the nodes in a list of this object, and of those in use.
        self._unheld: list[int] = []
        self._held_once: list[int] = []
        self._grads_held_once: list[int] = []
        # What the arrays of `_given` lie in, and their reference counts while claimed.
        self._leases: Leases = ()
        self._counts: list[list[int]] | None = None
        self._claimed: list[Array] | None = None

    def claim(self, arrays: Sequence[Array]) -> "Leases":
        """What the arrays of the leaves lie in, None in its place where somebody else holds one of
        those in there; nothing at all where somebody holds a leaf.

        If there is something, the leaves have no values until `assign` or `restore`. `arrays` are
        what the program is about to read. Who calls this holds them in this one list.
        """
        if not self._leases or thread.state.trace is not None or not self.are_in_use():
            return ()
        nodes = self._given
        self._claimed = [*map(_value, nodes)]
        updates.begin()
        refill(nodes, repeat(None))
        if self._counts is None:
            held = [*self._claimed, *[arrays[i] for i in self._replaced]]
            found = [[] if x is None else x.counts_in(held) for x in self._leases]
            del held
            self._counts = found
        if self._is_held_once():
            pairs = zip(self._leases, self._counts, strict=True)
            free = tuple([x if x is not None and x.has(counts) else None for x, counts in pairs])
            if any(free):
                return free
        self.restore()
        return ()

    def restore(self) -> None:
        """Give the leaves that are claimed their arrays back."""
        if self._claimed is not None:
            refill(self._given, self._claimed)
            self._claimed = None
            updates.end()

    def assign(self, arrays: Sequence[Array], leases: "Leases" = ()) -> None:
        """Assign arrays of the tensors' types, first to the tensors, then to the gradients. Nobody
        else holds one of these arrays, which lie in the memory of `leases` or elsewhere.
        """
        if self._claimed is not None:
            self._claimed = [*arrays]
            self.restore()
            if leases != self._leases:
                self._leases, self._counts = leases, None
            return
        nodes = self._free_nodes()
        refill(nodes, arrays)
        for tensor, node in zip(self._tensors, nodes, strict=False):
            tensor.node = node
            tensor.is_leaf = True
            tensor._history_freed = False
        rest = nodes[len(self._tensors) :]
        self._grads = [Tensor._from_node(node, False, is_leaf=True) for node in rest]
        self._grads_held_once = [n + 1 for n in map(getrefcount, self._grads)]
        for tensor, grad in zip(self._receivers, self._grads, strict=True):
            tensor._grad = grad
        self._spare, self._given = self._given, nodes
        self._leases, self._counts = leases, None
        self._forget()

    def are_in_use(self) -> bool:
        """Whether the tensors have what the call before gave them, and are called as they were."""
        return (
            [*map(_node, self._tensors)] == self._given[: len(self._tensors)]
            and all(map(is_, map(_grad, self._receivers), self._grads))
            and self._are_described()
        )

    def _are_described(self) -> bool:
        """Whether names and flags of the tensors are those that the nodes were made for."""
        return [*map(_name, self._tensors)] == self._names and [
            *map(_requires_grad, self._tensors)
        ] == self._flags

    def _is_held_once(self) -> bool:
        """Whether each node, and each gradient's tensor, is held by its tensor and nobody else."""
        return (
            _COUNTS_ARE_EXACT
            and [*map(getrefcount, self._given)] == self._held_once
            and [*map(getrefcount, self._grads)] == self._grads_held_once
        )

    def _free_nodes(self) -> list[Node]:
        """The nodes of the other set, which nobody else holds."""
        if not self._spare or not self._are_described():
            self._names = [*map(_name, self._tensors)]
            self._flags = [*map(_requires_grad, self._tensors)]
            self._spare, self._given = self._new_nodes(), self._new_nodes()
            self._unheld = [*map(getrefcount, self._spare)]
            self._held_once = [n + 1 for n in self._unheld]
        return self._spare

    def _forget(self) -> None:
        """Take the values off the nodes that the tensors had before. New ones take the place of
        those that somebody holds.
        """
        held = self._held(self._spare)
        if held:
            new = self._new_nodes()
            self._spare = [new[i] if i in held else node for i, node in enumerate(self._spare)]
        refill(self._spare, repeat(None))

    def _held(self, nodes: list[Node]) -> set[int]:
        """The positions of the nodes that somebody else may hold."""
        if not _COUNTS_ARE_EXACT:
            return set(range(len(nodes)))
        counts = [*map(getrefcount, nodes)]
        if counts == self._unheld:
            return set()
        pairs = zip(counts, self._unheld, strict=True)
        return {i for i, (count, unheld) in enumerate(pairs) if count != unheld}

    def _new_nodes(self) -> list[Node]:
        names = self._names + [None] * (len(self._types) - len(self._names))
        nodes = [input_node(type, name) for type, name in zip(self._types, names, strict=True)]
        for tensor, node in zip(self._tensors, nodes, strict=False):
            if tensor._requires_grad:
                node.let_be_variable(ref(tensor))
        return nodes

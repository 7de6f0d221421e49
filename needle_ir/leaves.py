"""Leaves that a compiled function puts its results into, used again when nobody holds them."""

import sys
from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter
from sys import getrefcount
from threading import Lock
from weakref import ref

from needle_ir.ir import Array, Node, TensorType, input_node, refill
from needle_ir.recording import variables
from needle_ir.tensor import Tensor

_description = attrgetter("name", "_requires_grad")
# Without the global interpreter lock another thread may change a count while it is read.
_COUNTS_ARE_EXACT: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


class Leaves:
    """The leaves of some tensors, and of the gradients of some, for each call of a function.

    A training step assigns to about 70 tensors. To make a node for each, and to note whose leaf it
    is, takes a tenth of its time. So two sets of nodes take turns: a call puts its results into the
    nodes that the tensors do not have, and hands them over. The others lose their values. A node
    that somebody holds, which its reference count tells, is left to him, and a new one takes its
    place. Nobody can begin to hold what only this object refers to.
    """

    def __init__(
        self, tensors: Sequence[Tensor], receivers: Sequence[Tensor], types: Sequence[TensorType]
    ):
        self._tensors = tuple(tensors)
        self._receivers = tuple(receivers)  # of gradients
        self._types = tuple(types)
        self._descriptions: list[tuple[str | None, bool]] | None = None
        self._spare: list[Node] = []
        self._given: list[Node] = []
        self._unheld: list[int] = []
        self._lock = Lock()

    def assign(self, arrays: Sequence[Array]) -> None:
        """Assign arrays of the tensors' types, first to the tensors, then to the gradients. Nobody
        else holds one of these arrays.
        """
        with self._lock:
            nodes = self._free_nodes()
            refill(nodes, arrays)
            for tensor, node in zip(self._tensors, nodes, strict=False):
                tensor.node = node
                tensor.is_leaf = True
                tensor._history_freed = False
            for tensor, node in zip(self._receivers, nodes[len(self._tensors) :], strict=True):
                tensor._grad = Tensor._from_node(node, False, is_leaf=True)
            self._spare, self._given = self._given, nodes
            self._forget()

    def _free_nodes(self) -> list[Node]:
        """The nodes of the other set, those that are held exchanged for new ones."""
        descriptions = [*map(_description, self._tensors)]
        if descriptions != self._descriptions:
            self._descriptions = descriptions
            self._spare, self._given = self._new_nodes(), self._new_nodes()
            self._unheld = [*map(getrefcount, self._spare)]
        held = self._held(self._spare)
        if held:
            new = self._new_nodes()
            return [new[i] if i in held else node for i, node in enumerate(self._spare)]
        return self._spare

    def _forget(self) -> None:
        """Take the values off the nodes that the tensors had before, except for held ones."""
        held = self._held(self._spare)
        nodes = [x for i, x in enumerate(self._spare) if i not in held] if held else self._spare
        refill(nodes, repeat(None))

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
        names = [tensor.name for tensor in self._tensors]
        names += [None] * (len(self._types) - len(names))
        nodes = [input_node(type, name) for type, name in zip(self._types, names, strict=True)]
        for tensor, node in zip(self._tensors, nodes, strict=False):
            if tensor._requires_grad:
                variables[node] = ref(tensor)
        return nodes

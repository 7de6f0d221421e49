"""Memory for results that are allocated in every run, used again when nobody holds them."""

from typing import Any

import numpy as np

from needle_ir.ir import Array, TensorType
from needle_ir.runtime.tiles import scratch

# Larger arrays are given back to the system when they are freed, and every page of a new one costs
# a fault: for the results of a training step up to a third of its time.
RECYCLED_BYTES = 1 << 15

# How many arrays without an owner are kept. A training loop holds one while it computes the next.
_KEPT = 2


class Recycler:
    """Makes arrays of one type. Their memory comes back when the last array that looks at it dies.

    Only memory that nobody can see is kept: an array that is alive belongs to whoever holds it.
    """

    def __init__(self, type: TensorType):
        self._type = type
        self._free: list[Any] = []

    def __call__(self) -> Array:
        """An array with unset contents."""
        try:
            lease = _Lease(self._free, self._free.pop())
        except IndexError:
            memory = scratch(self._type.nbytes).view(self._type.dtype).reshape(self._type.shape)
            lease = _Lease(self._free, (memory, memory.__array_interface__))
        return np.asarray(lease)


class _Lease:
    """What an array has as its base: it dies with the last array over its memory."""

    __slots__ = ("__array_interface__", "_free", "_memory")

    def __init__(self, free: list[Any], memory: tuple[Array, dict[str, Any]]):
        self._free = free
        self._memory = memory
        self.__array_interface__ = memory[1]

    def __del__(self) -> None:
        if len(self._free) < _KEPT:
            self._free.append(self._memory)

"""Memory for results that are allocated in every run, used again when nobody holds them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from operator import is_, itemgetter
from sys import getrefcount

from needle_ir.ir import Array, TensorType
from needle_ir.runtime.tiles import scratch

# Larger arrays are given back to the system when they are freed, and every page of a new one costs
# a fault: for the results of a training step up to a third of its time.
RECYCLED_BYTES = 1 << 15

# How many allocations are remembered. A training loop holds one while it computes the next.
_KEPT = 2

# Without the global interpreter lock another thread may change a count while it is read.
_COUNTS_ARE_EXACT: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

# The arrays over one allocation by name, the first one over all of it: the type of each, and the
# byte at which it starts.
Layout = Mapping[str, tuple[TensorType, int]]


class Recycler:
    """Makes arrays over one piece of memory, and gives them again when nobody else holds one.

    A step that returns 28 parameters makes no array for them, and none is freed. Whether one is in
    use is read from the reference counts. NumPy lets a view of a view refer to the memory itself,
    so the memory and these arrays are all that there is to hold; and nobody can begin to hold what
    only this object refers to, so another thread can not come in between. Two calls at one time
    are not allowed.
    """

    def __init__(self, layout: Layout):
        self.layout = dict(layout)
        self._kept: list[_Lease] = []

    def __call__(self) -> tuple[Array, ...]:
        """The arrays in the order of the layout, with unset contents."""
        for i, lease in enumerate(self._kept):
            if lease.is_unused():
                self._kept.append(self._kept.pop(i))
                return lease.arrays
        self._kept.append(_Lease(self.layout))
        del self._kept[:-_KEPT]
        return self._kept[-1].arrays

    def finder(
        self, wanted: str, names: Sequence[str]
    ) -> Callable[[Sequence[Array]], Array | None]:
        """A function that gives, for arrays that were handed out under these names together, the
        array `wanted` over the same memory. Each must be the very object; for others it gives None.
        """
        places = {name: i for i, name in enumerate(self.layout)}
        pick = itemgetter(*[places[name] for name in names])
        first, place = places[names[0]], places[wanted]

        def find(arrays: Sequence[Array]) -> Array | None:
            for lease in self._kept:
                if lease.arrays[first] is arrays[0]:
                    own = pick(lease.arrays) if len(names) > 1 else arrays
                    return lease.arrays[place] if all(map(is_, own, arrays)) else None
            return None

        return find


class _Lease:
    """Arrays over one piece of memory, and the reference counts that they have while unused."""

    __slots__ = ("_unused", "_watched", "arrays")

    def __init__(self, layout: Layout):
        (whole, _), *_ = layout.values()
        memory = scratch(whole.nbytes)
        self.arrays = tuple(
            [
                memory[start : start + type.nbytes].view(type.dtype).reshape(type.shape)
                for type, start in layout.values()
            ]
        )
        self._watched = [memory.base, self.arrays, *self.arrays]
        del memory
        self._unused = self._counts()

    def is_unused(self) -> bool:
        """Whether nobody has one of the arrays, or a view of one."""
        return _COUNTS_ARE_EXACT and self._counts() == self._unused

    def _counts(self) -> list[int]:
        return [*map(getrefcount, self._watched)]

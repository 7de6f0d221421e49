"""Memory for results that are allocated in every run, used again when nobody holds them."""

import sys
from collections import Counter
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
        self._kept: list[Lease] = []
        self._lent: Lease | None = None

    def lend(self, lease: "Lease | None") -> None:
        """Let the next call give the arrays of this lease, whoever holds them."""
        self._lent = lease

    @property
    def latest(self) -> "Lease":
        """What the last call gave."""
        return self._kept[-1]

    def __call__(self) -> tuple[Array, ...]:
        """The arrays in the order of the layout, with unset contents."""
        if self._lent is not None:
            lease, self._lent = self._lent, None
            if lease is not self._kept[-1]:
                self._kept = [*[x for x in self._kept if x is not lease], lease][-_KEPT:]
            return lease.arrays
        for i, lease in enumerate(self._kept):
            if lease.is_unused():
                self._kept.append(self._kept.pop(i))
                return lease.arrays
        self._kept.append(Lease(self.layout))
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


class Lease:
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

    def counts_in(self, arrays: Sequence[Array]) -> list[int]:
        """What the reference counts are while a list of `arrays`, and nobody else, holds some of
        these arrays, or views of them.
        """
        found = Counter(map(id, arrays))
        watched, memory = [*map(id, self._watched)], self._watched[0]
        views = {id(x) for x in arrays if x.base is memory}
        found[id(memory)] += len(views.difference(watched))
        return [n + found[i] for n, i in zip(self._unused, watched, strict=True)]

    def has(self, counts: list[int]) -> bool:
        """Whether these are the reference counts now."""
        return _COUNTS_ARE_EXACT and self._counts() == counts

    def _counts(self) -> list[int]:
        return [*map(getrefcount, self._watched)]


# Of several recyclers, what each gave: None where that is not known, or must not be used again.
Leases = Sequence[Lease | None]

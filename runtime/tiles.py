"""Fused clusters, tile by tile: arrays that outgrow the cache are worked on in pieces that fit."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from needle_ir.ir import ALIGNMENT, Array, DType, Graph, Node, Trait, aligned
from needle_ir.ops.cluster import cluster_results

# A tile of one array. A cluster reads and writes several, and all of them should fit into the
# second-level cache, of which a core has 256 KiB to 2 MiB.
TILE_BYTES = 1 << 16

# From here on threads share the tiles. For fewer it takes as long to wake a thread.
_SHARED_TILES = 32


@dataclass(frozen=True)
class Tiling:
    """How the arrays of a cluster with a result of `shape` are cut.

    Each tile is a slice along the first axis. Where `flat`, arrays are looked at as having one
    axis: that needs each of them to be contiguous and of the result's shape, or a scalar.
    """

    shape: tuple[int, ...]
    flat: bool
    tiles: tuple[slice, ...]

    @property
    def is_shared(self) -> bool:
        """Whether threads share the tiles, where there are several threads."""
        return len(self.tiles) >= _SHARED_TILES

    def cuts(self, shape: tuple[int, ...]) -> bool:
        """Whether an operand of this shape is cut. If not, each tile reads all of it."""
        return len(shape) == len(self.shape) and shape[:1] == self.shape[:1] != ()

    def cut(self, array: Array) -> list[Array]:
        """The part of an operand or of the result that belongs to each tile."""
        if not self.cuts(array.shape):
            return [array] * len(self.tiles)
        rows = array.reshape(-1) if self.flat else array
        return [rows[tile] for tile in self.tiles]

    def tile_shapes(self) -> list[tuple[int, ...]]:
        """The shape of what is computed for each tile."""
        rest = () if self.flat else self.shape[1:]
        return [(tile.stop - tile.start, *rest) for tile in self.tiles]


def tiling(node: Node, contiguous: Sequence[bool]) -> Tiling | None:
    """How to cut the arrays of a fused node, None where they are small enough as they are.

    `contiguous` says of each operand whether its elements lie in a row.
    """
    shape = cluster_results(node.attrs["body"])[0].shape
    flat = all(
        x.shape == () or (x.shape == shape and in_a_row)
        for x, in_a_row in zip(node.inputs, contiguous, strict=True)
    )
    itemsize = max(x.dtype.itemsize for x in (node, *node.inputs))
    rows, row = (prod(shape), 1) if flat else (shape[0], prod(shape[1:])) if shape else (1, 1)
    step = max(1, TILE_BYTES // max(1, row * itemsize))
    if rows <= step:
        return None
    tiles = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
    return Tiling(shape, flat, tuple(tiles))


@dataclass(frozen=True)
class Temporaries:
    """Which of a few arrays each value of a cluster's body is written to.

    `number` is the array of each node of the body that computes something; it is -1 for the last
    result, -2 for the one before it, and so on. `dtypes` are those of the arrays from 0 on.
    """

    number: dict[Node, int]
    dtypes: tuple[DType, ...]

    def arrays(self, memory: Array, shape: tuple[int, ...]) -> list[Array]:
        """The arrays, of `shape`, in `memory`."""
        found = []
        start = 0
        for dtype in self.dtypes:
            nbytes = prod(shape) * dtype.itemsize
            found.append(memory[start : start + nbytes].view(dtype).reshape(shape))
            start += aligned(nbytes)
        return found

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """The memory they need for arrays of `shape`."""
        return sum(aligned(prod(shape) * dtype.itemsize) for dtype in self.dtypes)


class TileMemory:
    """For each thread and tile the arrays of the temporaries, which threads do not share.

    The first thread writes them to `memory`; others to memory of their own, made when it is asked
    for. Steps that do not run at the same time may have the same list `memory`.
    """

    def __init__(self, places: Temporaries, shapes: Sequence[tuple[int, ...]], memory: list[Array]):
        self._places = places
        self._shapes = shapes
        self._memory = memory
        self._arrays: list[list[list[Array]]] = []

    def __call__(self, thread: int) -> list[list[Array]]:
        """The arrays for each tile."""
        for number in range(len(self._arrays), thread + 1):
            if number == len(self._memory):
                self._memory.append(scratch(self._memory[0].nbytes))
            memory = self._memory[number]
            self._arrays.append([self._places.arrays(memory, shape) for shape in self._shapes])
        return self._arrays[thread]


def temporaries(body: Graph, overwritten: Collection[Node]) -> Temporaries:
    """A value takes over an array whose number was read for the last time.

    The array of the result that is computed last is among them, from the start or, where it may be
    the array of operands `overwritten`, from when these were read for the last time.
    """
    results = cluster_results(body)
    own = {node: i - len(results) for i, node in enumerate(results)}
    computed = [node for node in body.nodes if node.op.has(Trait.ELEMENTWISE)]
    last = [node for node in computed if node in own][-1]
    last_use: dict[Node, Node] = {}
    for node in computed:
        last_use.update(dict.fromkeys(node.inputs, node))
    number: dict[Node, int] = {}
    dtypes: list[DType] = []
    waiting = set(overwritten)
    free: list[int] = [] if waiting else [own[last]]
    for node in computed:
        for x in dict.fromkeys(node.inputs):
            if last_use[x] is not node or x in own:
                continue
            if x in number:
                free.append(number[x])
            elif x in waiting:
                waiting.remove(x)
                free += [] if waiting else [own[last]]
        if node in own:
            number[node] = own[node]
            continue
        fitting = [i for i in free if (last.dtype if i == own[last] else dtypes[i]) == node.dtype]
        if fitting:
            number[node] = fitting[-1]
            free.remove(fitting[-1])
        else:
            number[node] = len(dtypes)
            dtypes.append(node.dtype)
    return Temporaries(number, tuple(dtypes))


def result_arrays(node: Node, out: Array) -> list[Array]:
    """The arrays of the results of a cluster, in the one that holds them all."""
    results = cluster_results(node.attrs["body"])
    if len(results) == 1:
        return [out]
    size = results[0].type.size
    parts = [out[i * size : (i + 1) * size] for i in range(len(results))]
    return [part.reshape(x.shape) for part, x in zip(parts, results, strict=True)]


def scratch(nbytes: int) -> Array:
    """Memory whose address is a multiple of a cache line's length."""
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes]

"""Invisible edges that help `dot` to a picture that is neither wide nor tangled.

`dot` puts a node right above its first reader. So the weights of a layer stand beside the results
of the layer before, the frames of the two overlap in height, and `dot` moves them apart sideways:
a chain of layers becomes a staircase. And parts that no edge connects stand side by side: the
updates of fifty weights become one row of fifty.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from math import ceil, sqrt
from typing import NamedTuple

from needle_ir.viz.scene import Scene
from needle_ir.viz.stack import stack

_MIN_COLUMNS = 3
_BOX_ASPECT = 2.5  # a box with the gap beside it is so much wider than high

Neighbours = dict[str, list[str]]


class _Part(NamedTuple):
    """A part of the picture that no edge connects with another; sizes are in boxes."""

    ids: list[str]
    deepest: str
    height: int
    width: int

    def turn(self) -> tuple[bool, int]:
        """Lone boxes first, then the high parts before the low ones."""
        return (self.height > 1, -self.height)


def invisible_edges(scene: Scene) -> list[tuple[str, str]]:
    """Pairs of ids, the second to stand below the first. With the edges they make no cycle."""
    operands: Neighbours = {i: [] for i in (*scene.stand_ins, *scene.boxes)}
    readers: Neighbours = {i: [] for i in operands}
    for edge in scene.edges:
        operands[edge.head].append(edge.tail)
        readers[edge.tail].append(edge.head)
    depth: dict[str, int] = {}
    for i in operands:
        depth[i] = max((depth[x] + 1 for x in operands[i]), default=0)
    parts = list(_parts(operands, readers, depth))
    part_of = {i: number for number, part in enumerate(parts) for i in part.ids}
    pairs = [*stack(scene, depth, part_of), *_rows(scene, operands, parts)]
    return [(upper, lower) for upper, lower in pairs if upper not in operands[lower]]


def _parts(operands: Neighbours, readers: Neighbours, depth: dict[str, int]) -> Iterator[_Part]:
    seen: set[str] = set()
    for start in operands:
        ids, pending = [], [start]
        while pending:
            i = pending.pop()
            if i not in seen:
                seen.add(i)
                ids.append(i)
                pending += operands[i] + readers[i]
        if ids:
            deepest = max(ids, key=depth.__getitem__)
            width = max(Counter(depth[i] for i in ids).values())
            yield _Part(ids, deepest, depth[deepest] + 1, width)


def _rows(scene: Scene, operands: Neighbours, parts: Iterable[_Part]) -> Iterator[tuple[str, str]]:
    """Put the parts of a phase below each other, in columns of about equal height."""
    phases: dict[str, list[_Part]] = defaultdict(list)
    for part in parts:
        phases[scene.places[part.deepest][0]].append(part)
    for members in phases.values():
        area = sum(part.height for part in members) * len(members)
        count = ceil(sqrt(area / sum(_BOX_ASPECT * part.width for part in members)))
        columns: list[tuple[int, int, str]] = []
        for turn, part in enumerate(sorted(members, key=_Part.turn)):
            height = 0
            if turn >= max(count, _MIN_COLUMNS):
                height, _, above = heappop(columns)
                yield from ((above, i) for i in part.ids if not operands[i])
            heappush(columns, (height + part.height, turn, part.deepest))

"""Parts of a picture that no edge connects, put below each other in columns.

`dot` would put them side by side: the updates of fifty weights become one row of fifty.
"""

from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from math import ceil, sqrt
from typing import NamedTuple

from needle_ir.viz.places import Path, common

_SIDE_BY_SIDE = 3
_BOX_ASPECT = 2.5  # a box with the gap beside it is so much wider than high

Neighbours = Mapping[str, Sequence[str]]


class _Block(NamedTuple):
    """A part, or all that is in a frame. Sizes are in boxes; `deepest` is its lowest id, `tops` are
    the ids with nothing above them.
    """

    deepest: str
    tops: list[str]
    height: int
    width: int


def connected_parts(operands: Neighbours, readers: Neighbours) -> Iterator[list[str]]:
    """The ids that edges connect with each other, for all ids."""
    seen: set[str] = set()
    for start in operands:
        part, pending = [], [start]
        while pending:
            i = pending.pop()
            if i not in seen:
                seen.add(i)
                part.append(i)
                pending += [*operands[i], *readers[i]]
        if part:
            yield part


def columns(
    places: Mapping[str, Path],
    operands: Neighbours,
    depth: Mapping[str, int],
    parts: Iterable[Sequence[str]],
) -> Iterator[tuple[str, str]]:
    """Pairs of ids, the second to stand below the first, that put parts into columns.

    A frame that holds whole parts and nothing else is filled first, then put as one block beside
    its siblings. Where it holds pieces of other parts too, the whole ones stand below the first of
    these. The phases stand side by side, so none needs to be wide where it can be as high as the
    highest. As each pair is of two parts, and blocks keep their order, the pairs make no cycle
    with the edges.
    """
    blocks: dict[Path, list[_Block]] = defaultdict(list)
    shared: dict[Path, str] = {}  # the first piece in each such frame
    for part in parts:
        frame = common(places[i] for i in part) or ("",)
        blocks[frame].append(_block_of(part, operands, depth))
        for i in part:
            for length in range(len(frame) + 1, len(places[i]) + 1):
                path = places[i][:length]
                shared[path] = min(shared.get(path, i), i, key=depth.__getitem__)
    highest = max((block.height for found in blocks.values() for block in found), default=1)
    inside = {path[:length] for path in blocks for length in range(1, len(path))}
    for path in sorted({*blocks, *inside}, key=lambda path: (-len(path), path)):
        found = blocks.pop(path, [])
        if path in shared:
            yield from ((shared[path], i) for block in found for i in block.tops)
        elif found:
            block = yield from _fill(found, highest)
            if len(path) > 1:
                blocks[path[:-1]].append(block)


def _block_of(part: Sequence[str], operands: Neighbours, depth: Mapping[str, int]) -> _Block:
    deepest = max(part, key=depth.__getitem__)
    width = max(Counter(depth[i] for i in part).values())
    return _Block(deepest, [i for i in part if not operands[i]], depth[deepest] + 1, width)


def _fill(blocks: Sequence[_Block], limit: int) -> Generator[tuple[str, str], None, _Block]:
    """Put blocks into columns of about equal height: as few as `limit` allows, and not so many that
    the whole is wider than high. Lone boxes come first, then the high blocks before the low ones.
    """
    total = sum(block.height for block in blocks)
    area = total * len(blocks)
    count = ceil(sqrt(area / sum(_BOX_ASPECT * block.width for block in blocks)))
    if len(blocks) <= _SIDE_BY_SIDE:
        count = len(blocks)
    count = min(count, ceil(total / limit))
    stacks: list[tuple[int, int, list[_Block]]] = []
    for turn, block in enumerate(sorted(blocks, key=lambda x: (x.height > 1, -x.height))):
        height, column = 0, list[_Block]()
        if turn >= count:
            height, _, column = heappop(stacks)
            yield from ((column[-1].deepest, i) for i in block.tops)
        heappush(stacks, (height + block.height, turn, [*column, block]))
    height, _, highest = max(stacks, key=lambda stack: stack[0])
    tops = [i for _, _, column in stacks for i in column[0].tops]
    width = sum(max(block.width for block in column) for _, _, column in stacks)
    return _Block(highest[-1].deepest, tops, height, width)

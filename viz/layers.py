"""One connected part of a picture in layers (Sugiyama, Tagawa and Toda 1981), without Graphviz.

Each block stands below what it reads from. An edge over several layers gets a place in each of
them, so that it runs beside the blocks and not through them. The order in a layer and the places
follow the neighbours' mean.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from needle_ir.viz.layout import without_cycles
from needle_ir.viz.places import Path

GAP, LAYER_GAP = 18.0, 26.0
_WORDS_GAP = 11.0  # for a line of words between two layers
_BEND_WIDTH = 8.0  # what an edge takes up in the layers that it passes
_SWEEPS = 6
_MAX_BENDS = 20  # for each block; with more, long edges run straight

Key = str | Path
"""A block: a box, or a frame with all that is in it."""

Point = tuple[float, float]


class Link(NamedTuple):
    """An arrow, as seen from the frame around both its ends: between two blocks of it.

    `tail` is to stand above `head`, also where the arrow points up. `lines` and `width` are the
    size of its words. Where one of them is None, the
    edge leaves the frame through its lower side, or enters it through its upper one.
    """

    number: int
    tail: Key | None
    head: Key | None
    lines: int
    width: float
    pushes: bool

    @property
    def turn(self) -> int:
        """Whether the edge leaves the frame (-1), stays in it (0) or enters it (1)."""
        return 1 if self.tail is None else -1 if self.head is None else 0


Way = tuple[int, int]
"""An arrow's number, and whether it leaves the frame (-1), stays in it (0) or enters it (1)."""


@dataclass
class Laid:
    """What is laid out: where its blocks and the bends of its edges are in it."""

    width: float
    height: float
    corners: dict[Key, Point] = field(default_factory=dict)
    bends: dict[Way, list[Point]] = field(default_factory=dict)


class _Bend(NamedTuple):
    """The place of an edge in a layer that it passes."""

    way: Way
    row: int


Vertex = Key | _Bend


def in_layers(blocks: Sequence[Key], links: Sequence[Link], sizes: Mapping[Key, Point]) -> Laid:
    """Lay out connected blocks in layers."""
    rank = _ranks(blocks, links)
    rows: list[list[Vertex]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for block in blocks:
        rows[rank[block]].append(block)
    passed = [_passed(link, rank, len(rows)) for link in links]
    has_bends = sum(map(len, passed)) <= _MAX_BENDS * len(blocks)
    chains: dict[Way, list[_Bend]] = {}
    segments: list[tuple[Vertex, Vertex]] = []
    for link, between in zip(links, passed, strict=True):
        way = (link.number, link.turn)
        chains[way] = [_Bend(way, row) for row in between] if has_bends else []
        for bend in chains[way]:
            rows[bend.row].append(bend)
        ends = [block for block in (link.tail, link.head) if block is not None]
        ends.sort(key=rank.__getitem__)
        first = ends[:1] if link.turn <= 0 else []
        last = ends[-1:] if link.turn >= 0 else []
        segments += pairwise([*first, *chains[way], *last])

    # Words stand below the box that the edge leaves: there is to be room for them.
    widths: dict[Vertex, float] = {block: sizes[block][0] for block in blocks}
    for link in links:
        if link.tail is not None:
            widths[link.tail] = max(widths[link.tail], link.width)

    def width(vertex: Vertex) -> float:
        return widths.get(vertex, _BEND_WIDTH)

    centres = _centres(rows, segments, width)
    return _with_heights(rows, centres, chains, rank, links, sizes)


def _passed(link: Link, rank: Mapping[Key, int], count: int) -> range:
    """The layers that an edge passes on its way."""
    rows = sorted(rank[block] for block in (link.tail, link.head) if block is not None)
    if link.tail is None:
        return range(rows[0])
    return range(rows[0] + 1, count if link.head is None else rows[1])


def _with_heights(
    rows: Sequence[Sequence[Vertex]],
    centres: Mapping[Vertex, float],
    chains: Mapping[Way, Sequence[_Bend]],
    rank: Mapping[Key, int],
    links: Sequence[Link],
    sizes: Mapping[Key, Point],
) -> Laid:
    words = [0] * (len(rows) + 1)  # lines of words between a row and the next one
    for link in links:
        if link.tail is not None and link.head is not None:
            upper = min(rank[link.tail], rank[link.head])
            words[upper] = max(words[upper], link.lines)
    blocks = [(block, sizes[block]) for block in rank]
    left = min((centres[block] - size[0] / 2 for block, size in blocks), default=0.0)
    right = max((centres[block] + size[0] / 2 for block, size in blocks), default=0.0)
    result = Laid(right - left, 0.0)
    y = 0.0
    middle: dict[Vertex, float] = {}
    for number, row in enumerate(rows):
        height = max(sizes[v][1] for v in row if not isinstance(v, _Bend))
        for vertex in row:
            middle[vertex] = y + height / 2
            if not isinstance(vertex, _Bend):
                size = sizes[vertex]
                corner = (centres[vertex] - left - size[0] / 2, y + (height - size[1]) / 2)
                result.corners[vertex] = corner
        result.height = y + height
        y += height + LAYER_GAP + _WORDS_GAP * words[number]
    for way, bends in chains.items():
        result.bends[way] = [(centres[bend] - left, middle[bend]) for bend in bends]
        for x, _ in result.bends[way]:
            result.width = max(result.width, x + _BEND_WIDTH)
    return result


def _ranks(blocks: Sequence[Key], links: Sequence[Link]) -> dict[Key, int]:
    """The layer of each block: below all that it reads from, and what reads nothing right above
    its first reader.
    """
    import networkx

    arcs = [
        (k.tail, k.head) for k in links if k.pushes and k.tail is not None and k.head is not None
    ]
    _, kept = without_cycles(blocks, arcs)
    graph = networkx.DiGraph()
    graph.add_nodes_from(blocks)
    graph.add_edges_from(arc for arc, keeps in zip(arcs, kept, strict=True) if keeps)
    rank = {
        block: number
        for number, generation in enumerate(networkx.topological_generations(graph))
        for block in generation
    }
    for block in blocks:
        readers = [rank[reader] for reader in graph.successors(block)]
        if readers and not any(graph.predecessors(block)):
            rank[block] = min(readers) - 1
    return rank


def _centres(
    rows: list[list[Vertex]],
    segments: Sequence[tuple[Vertex, Vertex]],
    width: Callable[[Vertex], float],
) -> dict[Vertex, float]:
    """Order every row, and give every vertex its place: each pulls towards its neighbours."""
    above: dict[Vertex, list[Vertex]] = defaultdict(list)
    below: dict[Vertex, list[Vertex]] = defaultdict(list)
    row_of = {vertex: number for number, row in enumerate(rows) for vertex in row}
    for upper, lower in segments:
        if row_of[upper] != row_of[lower]:
            above[lower].append(upper)
            below[upper].append(lower)
    centres: dict[Vertex, float] = {}
    for row in rows:
        centres |= _packed(row, [0.0] * len(row), width)
    for sweep in range(_SWEEPS):
        neighbours, order = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        for row in order:
            wanted = {
                vertex: _mean([centres[x] for x in neighbours[vertex]], centres[vertex])
                for vertex in row
            }
            if sweep < _SWEEPS - 2:
                row.sort(key=wanted.__getitem__)
            centres |= _packed(row, [wanted[vertex] for vertex in row], width)
    return centres


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _packed(
    row: Sequence[Vertex], wanted: Sequence[float], width: Callable[[Vertex], float]
) -> dict[Vertex, float]:
    """Places in the order of `row`, without overlaps, nearest to `wanted` in the mean square."""
    offsets, offset, before = [], 0.0, 0.0
    for number, vertex in enumerate(row):
        half = width(vertex) / 2
        offset += before + half + GAP if number else 0.0
        offsets.append(offset)
        before = half
    # Isotonic regression by pooling: a pool is [sum of the places wanted, how many vertices].
    pools: list[list[float]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        pools.append([place - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    starts = [total / count for total, count in pools for _ in range(int(count))]
    return {v: start + offset for v, start, offset in zip(row, starts, offsets, strict=True)}

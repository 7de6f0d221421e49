"""A layout without Graphviz: layers, by NetworkX's topological generations.

What is in a frame is laid out first, then the frame is one block beside its siblings. In each
frame the blocks stand in layers, each below what it reads from. An edge over several layers gets a
place in each of them, so that it runs beside the blocks and not through them. The order in a layer
and the places follow the neighbours' mean (Sugiyama, Tagawa and Toda 1981).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from needle_ir.viz.clusters import Cluster, clusters
from needle_ir.viz.drawing import Arrow, Box, Drawing, Line
from needle_ir.viz.layout import without_cycles
from needle_ir.viz.places import Path
from needle_ir.viz.style import EDGE_SIZE

_CHARACTER = 0.56  # the mean width of a character, in type sizes
_LINE = 1.25  # the height of a line, in type sizes
_PADDING = 6.0  # between a box's border and its words
_GAP, _LAYER_GAP, _WORDS_GAP = 18.0, 26.0, 11.0
_MARGIN, _LABEL = 12.0, 18.0  # inside of a frame; the height of its label
_BEND_WIDTH = 8.0  # what an edge takes up in the layers that it passes
_SWEEPS = 6
_MAX_BENDS = 20  # for each block of a frame; with more, long edges run straight
_ASPECT = 1.3
_SHELF = 600.0  # what is less wide stands on one shelf

Key = str | Path
Point = tuple[float, float]


class Area(NamedTuple):
    """A rectangle: its upper left corner and its size, in points."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Placement:
    """Where everything is. `bends` are the points of an edge between its ends, from top to bottom,
    by the number of its arrow.
    """

    boxes: dict[str, Area]
    frames: dict[Path, Area]
    bends: dict[int, list[Point]]
    width: float
    height: float


def place(drawing: Drawing) -> Placement:
    """The places of a drawing's boxes, frames and edges."""
    outermost, *inner = clusters([*(box.place for box in drawing.boxes), *drawing.frames])
    frames = [outermost, *inner]
    known = {frame.path for frame in frames}
    home = {box.id: _framed(box.place, known) for box in drawing.boxes}
    children: dict[Path, list[Key]] = {frame.path: [] for frame in frames}
    for frame in frames:
        children[frame.path] += [child.path for child in frame.children]
    for box in drawing.boxes:
        children[home[box.id]].append(box.id)
    parent = {child.path: frame.path for frame in frames for child in frame.children}
    links = _links([*drawing.arrows, *_row_order(drawing)], home, parent)
    sizes: dict[Key, Point] = {box.id: size_of(box) for box in drawing.boxes}
    layers: dict[Path, _Frame] = {}
    for frame in reversed(frames):
        laid = _lay_out(frame, children[frame.path], links[frame.path], sizes)
        layers[frame.path] = laid
        sizes[frame.path] = (laid.width, laid.height)
    return _absolute(outermost, frames, layers, sizes)


def size_of(box: Box) -> Point:
    """The width and height of a box: what its words take up."""
    width = max((line_width(line) for line in box.lines), default=0.0)
    height = sum(line_height(line) for line in box.lines)
    return (width + 2 * _PADDING, height + (_PADDING if box.look is not None else 0.0))


def line_width(line: Line) -> float:
    """About how wide a line of words is, in points."""
    return sum(_CHARACTER * span.size * len(span.text) for span in line)


def line_height(line: Line) -> float:
    """How high a line of words is, in points."""
    return _LINE * max((span.size for span in line), default=0.0)


class _Link(NamedTuple):
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


_Way = tuple[int, int]
"""An arrow's number, and whether it leaves the frame (-1), stays in it (0) or enters it (1)."""


@dataclass
class _Frame:
    """A frame that is laid out: where its blocks and the bends of its edges are in it."""

    width: float
    height: float
    corners: dict[Key, Point] = field(default_factory=dict)
    bends: dict[_Way, list[Point]] = field(default_factory=dict)


def _framed(path: Path, known: Iterable[Path]) -> Path:
    while path not in known:
        path = path[:-1]
    return path


def _links(
    arrows: Sequence[Arrow], home: Mapping[str, Path], parent: Mapping[Path, Path]
) -> dict[Path, list[_Link]]:
    links: dict[Path, list[_Link]] = defaultdict(list)
    for number, arrow in enumerate(arrows):
        ends = (arrow.head, arrow.tail) if arrow.is_upward else (arrow.tail, arrow.head)
        tails, heads = (_chain(i, home, parent) for i in ends)
        depth = next(d for d, (a, b) in enumerate(zip(tails, heads, strict=False)) if a != b)
        width = max((_CHARACTER * EDGE_SIZE * len(line) for line in arrow.lines), default=0.0)
        words = (len(arrow.lines), width)
        link = _Link(number, tails[depth], heads[depth], *words, arrow.pushes)
        links[_frame(tails[depth - 1])].append(link)
        if arrow.pushes:
            for frame, tail in pairwise(tails[depth:]):
                links[_frame(frame)].append(_Link(number, tail, None, 0, 0.0, False))
            for frame, head in pairwise(heads[depth:]):
                links[_frame(frame)].append(_Link(number, None, head, 0, 0.0, False))
    return links


def _frame(key: Key) -> Path:
    assert isinstance(key, tuple)
    return key


def _row_order(drawing: Drawing) -> list[Arrow]:
    """Arrows that are not drawn, from row to row, between boxes that nothing else puts in order."""
    turn = {box.id: number for number, box in enumerate(drawing.boxes)}
    pushed = {i for a in drawing.arrows if a.pushes and not a.is_level for i in (a.tail, a.head)}
    lanes: dict[str, list[str]] = defaultdict(list)
    places = {box.id: box.place for box in drawing.boxes}
    for row in sorted(drawing.rows, key=lambda row: turn[row[0]]):
        for i in row:
            if i not in pushed:
                lanes[places[i][0]].append(i)
    return [
        Arrow(upper, lower, (), 0, "", False, True, False, False, ())
        for lane in lanes.values()
        for upper, lower in pairwise(lane)
    ]


def _chain(i: str, home: Mapping[str, Path], parent: Mapping[Path, Path]) -> list[Key]:
    """The frames around a box, the outermost first, and the box."""
    chain: list[Key] = [i]
    path = home[i]
    while path in parent:
        chain.append(path)
        path = parent[path]
    return [*chain, path][::-1]


def _lay_out(
    frame: Cluster, blocks: Sequence[Key], links: Sequence[_Link], sizes: Mapping[Key, Point]
) -> _Frame:
    """Lay out what is in a frame. The phases stand side by side, other parts on shelves."""
    phases: list[Key] = [x for x in blocks if isinstance(x, tuple) and len(x) == 1]
    if len(phases) > 1:
        parts = [[phase] for phase in phases]
        rest = [block for block in blocks if block not in phases]
        if rest:
            parts.insert(0, rest)
        shelf_width = float("inf")
    else:
        parts = _parts(blocks, links)
        area = sum((sizes[block][0] + _GAP) * (sizes[block][1] + _LAYER_GAP) for block in blocks)
        shelf_width = max(_ASPECT * sqrt(area), _SHELF)
    result = _Frame(0.0, 0.0)
    x = y = shelf_height = 0.0
    part_of = {block: number for number, part in enumerate(parts) for block in part}
    inside: list[list[_Link]] = [[] for _ in parts]
    for link in links:
        ends = {part_of[block] for block in (link.tail, link.head) if block is not None}
        if len(ends) == 1:
            inside[ends.pop()].append(link)
    for part, links_inside in zip(parts, inside, strict=True):
        laid = _layer(part, links_inside, sizes)
        if x > 0 and x + laid.width > shelf_width:
            x, y, shelf_height = 0.0, y + shelf_height + _LAYER_GAP, 0.0
        _put(laid, result, x, y)
        result.width = max(result.width, x + laid.width)
        result.height = max(result.height, y + laid.height)
        x, shelf_height = x + laid.width + _GAP, max(shelf_height, laid.height)
    if frame.path:
        inner, result = result, _Frame(0.0, 0.0)
        _put(inner, result, _MARGIN, _MARGIN + _LABEL)
        label = _CHARACTER * 11 * len(frame.label)
        result.width = max(inner.width, label) + 2 * _MARGIN
        result.height = inner.height + 2 * _MARGIN + _LABEL
    return result


def _put(inner: _Frame, outer: _Frame, x: float, y: float) -> None:
    for key, (a, b) in inner.corners.items():
        outer.corners[key] = (a + x, b + y)
    for way, points in inner.bends.items():
        outer.bends[way] = [(a + x, b + y) for a, b in points]


def _parts(blocks: Sequence[Key], links: Sequence[_Link]) -> list[list[Key]]:
    """The blocks that edges connect, each part in the order of `blocks`; the largest part first."""
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(blocks)
    graph.add_edges_from((link.tail, link.head) for link in links if not link.turn)
    turn = {block: number for number, block in enumerate(blocks)}
    parts = [sorted(part, key=turn.__getitem__) for part in networkx.connected_components(graph)]
    return sorted(parts, key=lambda part: (-len(part), turn[part[0]]))


class _Bend(NamedTuple):
    """The place of an edge in a layer that it passes."""

    way: _Way
    row: int


Vertex = Key | _Bend


def _layer(blocks: Sequence[Key], links: Sequence[_Link], sizes: Mapping[Key, Point]) -> _Frame:
    """Lay out connected blocks in layers."""
    rank = _ranks(blocks, links)
    rows: list[list[Vertex]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for block in blocks:
        rows[rank[block]].append(block)
    passed = [_passed(link, rank, len(rows)) for link in links]
    has_bends = sum(map(len, passed)) <= _MAX_BENDS * len(blocks)
    chains: dict[_Way, list[_Bend]] = {}
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


def _passed(link: _Link, rank: Mapping[Key, int], count: int) -> range:
    """The layers that an edge passes on its way."""
    rows = sorted(rank[block] for block in (link.tail, link.head) if block is not None)
    if link.tail is None:
        return range(rows[0])
    return range(rows[0] + 1, count if link.head is None else rows[1])


def _with_heights(
    rows: Sequence[Sequence[Vertex]],
    centres: Mapping[Vertex, float],
    chains: Mapping[_Way, Sequence[_Bend]],
    rank: Mapping[Key, int],
    links: Sequence[_Link],
    sizes: Mapping[Key, Point],
) -> _Frame:
    words = [0] * (len(rows) + 1)  # lines of words between a row and the next one
    for link in links:
        if link.tail is not None and link.head is not None:
            upper = min(rank[link.tail], rank[link.head])
            words[upper] = max(words[upper], link.lines)
    blocks = [(block, sizes[block]) for block in rank]
    left = min((centres[block] - size[0] / 2 for block, size in blocks), default=0.0)
    right = max((centres[block] + size[0] / 2 for block, size in blocks), default=0.0)
    result = _Frame(right - left, 0.0)
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
        y += height + _LAYER_GAP + _WORDS_GAP * words[number]
    for way, bends in chains.items():
        result.bends[way] = [(centres[bend] - left, middle[bend]) for bend in bends]
        for x, _ in result.bends[way]:
            result.width = max(result.width, x + _BEND_WIDTH)
    return result


def _ranks(blocks: Sequence[Key], links: Sequence[_Link]) -> dict[Key, int]:
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
        offset += before + half + _GAP if number else 0.0
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


def _absolute(
    outermost: Cluster,
    frames: Sequence[Cluster],
    layers: Mapping[Path, _Frame],
    sizes: Mapping[Key, Point],
) -> Placement:
    """Put the frames into each other."""
    origin: dict[Path, Point] = {outermost.path: (0.0, 0.0)}
    boxes: dict[str, Area] = {}
    stretches: dict[int, list[tuple[int, list[Point]]]] = defaultdict(list)
    areas: dict[Path, Area] = {}
    for frame in frames:
        x, y = origin[frame.path]
        laid = layers[frame.path]
        for key, (a, b) in laid.corners.items():
            area = Area(x + a, y + b, *sizes[key])
            if isinstance(key, tuple):
                origin[key], areas[key] = (area.x, area.y), area
            else:
                boxes[key] = area
        for (number, turn), points in laid.bends.items():
            # From the innermost frame that it leaves to the innermost one that it enters.
            order = turn * (1 + len(frame.path))
            stretches[number].append((order, [(x + a, y + b) for a, b in points]))
    bends = {
        number: [point for _, points in sorted(found) for point in points]
        for number, found in stretches.items()
    }
    return Placement(boxes, areas, bends, *sizes[outermost.path])

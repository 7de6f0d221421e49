"""A layout without Graphviz: what is in a frame first, then the frame as one block beside others.

The phases stand side by side. In every frame, what edges connect stands in layers, and parts that
no edge connects stand on shelves.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from needle_ir.viz.clusters import Cluster, clusters
from needle_ir.viz.drawing import Arrow, Box, Drawing, Line
from needle_ir.viz.layers import GAP, LAYER_GAP, Key, Laid, Link, Point, in_layers
from needle_ir.viz.places import Path
from needle_ir.viz.style import EDGE_SIZE

_CHARACTER = 0.56  # the mean width of a character, in type sizes
_LINE = 1.25  # the height of a line, in type sizes
_PADDING = 6.0  # between a box's border and its words
_MARGIN, _LABEL = 12.0, 18.0  # inside of a frame; the height of its label
_ASPECT = 1.3
_SHELF = 600.0  # what is less wide stands on one shelf


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
    layers: dict[Path, Laid] = {}
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


def _framed(path: Path, known: Iterable[Path]) -> Path:
    while path not in known:
        path = path[:-1]
    return path


def _links(
    arrows: Sequence[Arrow], home: Mapping[str, Path], parent: Mapping[Path, Path]
) -> dict[Path, list[Link]]:
    links: dict[Path, list[Link]] = defaultdict(list)
    for number, arrow in enumerate(arrows):
        ends = (arrow.head, arrow.tail) if arrow.is_upward else (arrow.tail, arrow.head)
        tails, heads = (_chain(i, home, parent) for i in ends)
        depth = next(d for d, (a, b) in enumerate(zip(tails, heads, strict=False)) if a != b)
        width = max((_CHARACTER * EDGE_SIZE * len(line) for line in arrow.lines), default=0.0)
        words = (len(arrow.lines), width)
        link = Link(number, tails[depth], heads[depth], *words, arrow.pushes)
        links[_frame(tails[depth - 1])].append(link)
        if arrow.pushes:
            for frame, tail in pairwise(tails[depth:]):
                links[_frame(frame)].append(Link(number, tail, None, 0, 0.0, False))
            for frame, head in pairwise(heads[depth:]):
                links[_frame(frame)].append(Link(number, None, head, 0, 0.0, False))
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
    frame: Cluster, blocks: Sequence[Key], links: Sequence[Link], sizes: Mapping[Key, Point]
) -> Laid:
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
        area = sum((sizes[block][0] + GAP) * (sizes[block][1] + LAYER_GAP) for block in blocks)
        shelf_width = max(_ASPECT * sqrt(area), _SHELF)
    result = Laid(0.0, 0.0)
    x = y = shelf_height = 0.0
    part_of = {block: number for number, part in enumerate(parts) for block in part}
    inside: list[list[Link]] = [[] for _ in parts]
    for link in links:
        ends = {part_of[block] for block in (link.tail, link.head) if block is not None}
        if len(ends) == 1:
            inside[ends.pop()].append(link)
    for part, links_inside in zip(parts, inside, strict=True):
        laid = in_layers(part, links_inside, sizes)
        if x > 0 and x + laid.width > shelf_width:
            x, y, shelf_height = 0.0, y + shelf_height + LAYER_GAP, 0.0
        _put(laid, result, x, y)
        result.width = max(result.width, x + laid.width)
        result.height = max(result.height, y + laid.height)
        x, shelf_height = x + laid.width + GAP, max(shelf_height, laid.height)
    if frame.path:
        inner, result = result, Laid(0.0, 0.0)
        _put(inner, result, _MARGIN, _MARGIN + _LABEL)
        label = _CHARACTER * 11 * len(frame.label)
        result.width = max(inner.width, label) + 2 * _MARGIN
        result.height = inner.height + 2 * _MARGIN + _LABEL
    return result


def _put(inner: Laid, outer: Laid, x: float, y: float) -> None:
    for key, (a, b) in inner.corners.items():
        outer.corners[key] = (a + x, b + y)
    for way, points in inner.bends.items():
        outer.bends[way] = [(a + x, b + y) for a, b in points]


def _parts(blocks: Sequence[Key], links: Sequence[Link]) -> list[list[Key]]:
    """The blocks that edges connect, each part in the order of `blocks`; the largest part first."""
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(blocks)
    graph.add_edges_from((link.tail, link.head) for link in links if not link.turn)
    turn = {block: number for number, block in enumerate(blocks)}
    parts = [sorted(part, key=turn.__getitem__) for part in networkx.connected_components(graph)]
    return sorted(parts, key=lambda part: (-len(part), turn[part[0]]))


def _absolute(
    outermost: Cluster,
    frames: Sequence[Cluster],
    layers: Mapping[Path, Laid],
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

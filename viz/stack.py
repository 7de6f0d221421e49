"""Frames of the picture that read from each other, put below each other."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import nlargest
from itertools import product

from needle_ir.viz.places import Path

Vertex = Path | str
Level = dict[Vertex, dict[Vertex, None]]

_MAX_LAST = 8


def stack(
    places: dict[str, Path],
    edges: Iterable[tuple[str, str]],
    depth: dict[str, int],
    part_of: dict[str, int],
) -> Iterator[tuple[str, str]]:
    """Pairs of ids: what comes last in a frame, and what comes first in one that reads from it.

    An edge is, seen from the innermost frame around both its ends, an edge between vertices: the
    frames and boxes in that frame. What is on a cycle of such edges is left as it is, with all
    inside it. So the pairs make no cycle with the edges: in the innermost frame around it, it
    would be a cycle of vertices, and neither those nor their insides have pairs.

    `places` has the frame of each id. `depth` is the number of ids above an id, `part_of` the
    connected part that it belongs to; pairs are within a part.
    """
    levels: dict[Path, Level] = defaultdict(lambda: defaultdict(dict))
    members = _members(places)
    # Per id: how long is the path of the innermost frame that has something above it, or below?
    above, below = dict.fromkeys(places, 0), dict.fromkeys(places, 0)
    for tail, head in edges:
        frame = _common(places[tail], places[head])
        levels[frame][_vertex(places, head, frame)][_vertex(places, tail, frame)] = None
        above[head], below[tail] = max(above[head], len(frame)), max(below[tail], len(frame))
    knots = set[Vertex]().union(*map(_knot, levels.values()))

    for frame in sorted(levels, key=len, reverse=True):
        if any(frame[: length + 1] in knots for length in range(len(frame))):
            continue
        inside = len(frame) + 1
        last = {
            upper: nlargest(
                _MAX_LAST, [i for i in members[upper] if below[i] < inside], depth.__getitem__
            )
            for upper in dict.fromkeys(v for uppers in levels[frame].values() for v in uppers)
        }
        for lower, uppers in levels[frame].items():
            # From box to box there is an edge already.
            free = [v for v in uppers if isinstance(v, tuple) or isinstance(lower, tuple)]
            if lower in knots:
                free = [v for v in free if v not in knots]
            ends = nlargest(_MAX_LAST, [i for v in free for i in last[v]], depth.__getitem__)
            starts = [i for i in members[lower] if above[i] < inside] if ends else []
            for upper_id, lower_id in product(ends, starts):
                if part_of[upper_id] == part_of[lower_id]:
                    above[lower_id] = max(above[lower_id], len(frame))
                    below[upper_id] = max(below[upper_id], len(frame))
                    yield upper_id, lower_id


def _members(places: dict[str, Path]) -> dict[Vertex, list[str]]:
    """What is inside every frame, at any depth. A box holds itself."""
    members: dict[Vertex, list[str]] = defaultdict(list)
    for i, path in places.items():
        members[i].append(i)
        for length in range(1, len(path) + 1):
            members[path[:length]].append(i)
    return members


def _vertex(places: dict[str, Path], i: str, frame: Path) -> Vertex:
    """The frame or box right inside `frame` that holds the id `i`."""
    path = places[i]
    return path[: len(frame) + 1] if len(path) > len(frame) else i


def _knot(level: Level) -> set[Vertex]:
    """The vertices that are on cycles, or between them."""
    lowers: Level = defaultdict(dict)
    for lower, uppers in level.items():
        for upper in uppers:
            lowers[upper][lower] = None
    left = set(level) | set(lowers)
    for towards, back in ((level, lowers), (lowers, level)):
        count = {vertex: len(left.intersection(towards.get(vertex, ()))) for vertex in left}
        free = [vertex for vertex, n in count.items() if n == 0]
        while free:
            vertex = free.pop()
            left.discard(vertex)
            for other in back.get(vertex, ()):
                if other in left:
                    count[other] -= 1
                    if count[other] == 0:
                        free.append(other)
    return left


def _common(a: Path, b: Path) -> Path:
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    return min(a, b, key=len) if length is None else a[:length]

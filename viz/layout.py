"""What helps `dot` to a picture that is neither wide nor tangled.

`dot` puts a box right above its first reader. So the weights of a layer stand beside the results
of the layer before, the frames of the two overlap in height, and `dot` moves them apart sideways:
a chain of layers becomes a staircase. And parts that no edge connects stand side by side: the
updates of fifty weights become one row of fifty. Invisible edges mend both.
"""

from collections.abc import Hashable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, TypeVar

from needle_ir.viz.columns import columns, connected_parts
from needle_ir.viz.places import PHASES, Path
from needle_ir.viz.scene import Scene
from needle_ir.viz.stack import stack

V = TypeVar("V", bound=Hashable)

_FORWARD, _BACKWARD = PHASES[:2]


class Layout(NamedTuple):
    """How boxes are to stand. Three lists say it of each edge of the scene: whether it `pushes` one
    end below the other, whether that `is_upward`, its tail, and whether its ends are in one row.

    `pairs` are ids of which the second is to stand below the first, `rows` ids that are to stand
    side by side. With the edges that push they make no cycle.
    """

    pushes: list[bool]
    is_upward: list[bool]
    is_level: list[bool]
    pairs: list[tuple[str, str]]
    rows: list[list[str]]


def layout_of(scene: Scene) -> Layout:
    """The layout of a scene."""
    rows = _phase_rows(scene) if scene.is_mirrored else []
    row_of: dict[str, str] = {box: row[0] for row in rows for box in row}
    ends, is_upward = [], []
    for edge in scene.edges:
        phases = {scene.places[edge.tail][0], scene.places[edge.head][0]}
        upward = scene.is_mirrored and phases == {_BACKWARD}
        is_upward.append(upward)
        upper, lower = (edge.head, edge.tail) if upward else (edge.tail, edge.head)
        pushes = not scene.is_mirrored or len(phases) == 1
        ends.append((upper, lower) if pushes else None)
    told = _told_pairs(scene, row_of)
    ends += told
    vertices = [row_of.get(i, i) for i in (*scene.stand_ins, *scene.boxes)]
    arcs = [None if e is None else (row_of.get(e[0], e[0]), row_of.get(e[1], e[1])) for e in ends]
    order, is_kept = without_cycles(list(dict.fromkeys(vertices)), arcs)
    pairs = [e for e, kept in zip(told, is_kept[len(scene.edges) :], strict=True) if kept]
    if not scene.is_mirrored:
        edges = [e for e, kept in zip(ends, is_kept, strict=True) if e is not None and kept]
        pairs += invisible_edges(scene.places, order, edges)
    is_level = [row_of.get(e.tail, e.tail) == row_of.get(e.head, e.head) for e in scene.edges]
    return Layout(is_kept[: len(scene.edges)], is_upward, is_level, pairs, rows)


def _phase_rows(scene: Scene) -> list[list[str]]:
    """The boxes that collapse the same module in several phases."""
    boxes = {path: box for box, path in scene.groups.items()}
    rows: dict[str, list[str]] = {}
    for path, box in boxes.items():
        if path[0] == _FORWARD:
            continue
        # Under an optimizer, the module's path comes after the optimizer's.
        twins = (boxes.get((_FORWARD, *path[length:])) for length in range(1, len(path)))
        twin = next(filter(None, twins), None)
        if twin is not None:
            row = rows.setdefault(twin, [twin])
            if all(scene.places[other][0] != path[0] for other in row):
                row.append(box)
    phase = {box: PHASES.index(path[0]) for path, box in boxes.items() if path[0] in PHASES}
    return [sorted(row, key=lambda box: phase.get(box, len(PHASES))) for row in rows.values()]


def _told_pairs(scene: Scene, row_of: dict[str, str]) -> list[tuple[str, str]]:
    """For what is read without an edge in its own phase: a box, and the first of its readers; of
    the boxes that one reads so, the last. More pairs would only fill the picture.
    """
    box_of = {i: box for box, members in scene.boxes.items() for i in members}
    turn = {box: number for number, box in enumerate(scene.boxes)}
    turn |= {box: turn[row] for box, row in row_of.items()}
    first: dict[str, str] = {}
    for head, uses in scene.told.items():
        for tail in dict.fromkeys(box_of[use.source] for use in uses if use.source in box_of):
            phase = scene.places[head][0]
            upward = scene.is_mirrored and phase == _BACKWARD
            if tail != head and phase == scene.places[tail][0] and not upward:
                first[tail] = min(first.get(tail, head), head, key=turn.__getitem__)
    last: dict[str, str] = {}
    for tail, head in first.items():
        last[head] = max(last.get(head, tail), tail, key=turn.__getitem__)
    return [(tail, head) for head, tail in last.items()]


def without_cycles(
    vertices: Sequence[V], arcs: Sequence[tuple[V, V] | None]
) -> tuple[list[V], list[bool]]:
    """The vertices in topological order, and for each arc whether it is kept: those that would
    close a cycle are not.
    """
    below: dict[V, list[int]] = {vertex: [] for vertex in vertices}
    for number, arc in enumerate(arcs):
        if arc is not None and arc[0] != arc[1]:
            below[arc[0]].append(number)
    kept = [False] * len(arcs)
    state = dict.fromkeys(vertices, 0)  # 1: it is on the stack; 2: all below it is done
    for start in vertices:
        stack_ = [] if state[start] else [(start, iter(below[start]))]
        state[start] = state[start] or 1
        while stack_:
            vertex, rest = stack_[-1]
            for number in rest:
                arc = arcs[number]
                assert arc is not None
                kept[number] = state[arc[1]] != 1
                if state[arc[1]] == 0:
                    state[arc[1]] = 1
                    stack_.append((arc[1], iter(below[arc[1]])))
                    break
            else:
                stack_.pop()
                state[vertex] = 2
    arcs_kept = [arc for arc, keeps in zip(arcs, kept, strict=True) if arc is not None and keeps]
    return _in_order(vertices, arcs_kept), kept


def _in_order(vertices: Sequence[V], arcs: Sequence[tuple[V, V]]) -> list[V]:
    """The vertices in topological order, as near to the order given as can be."""
    turn = {vertex: number for number, vertex in enumerate(vertices)}
    below: dict[V, list[V]] = {vertex: [] for vertex in vertices}
    waiting = dict.fromkeys(vertices, 0)
    for upper, lower in arcs:
        below[upper].append(lower)
        waiting[lower] += 1
    ready = [turn[vertex] for vertex in vertices if waiting[vertex] == 0]
    order: list[V] = []
    while ready:
        vertex = vertices[heappop(ready)]
        order.append(vertex)
        for lower in below[vertex]:
            waiting[lower] -= 1
            if waiting[lower] == 0:
                heappush(ready, turn[lower])
    return order


def invisible_edges(
    places: dict[str, Path], order: Sequence[str], edges: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Pairs of ids, the second to stand below the first. With the edges they make no cycle.

    `order` has all ids in a topological order of `edges`.
    """
    operands: dict[str, list[str]] = {i: [] for i in order}
    readers: dict[str, list[str]] = {i: [] for i in order}
    for tail, head in edges:
        operands[head].append(tail)
        readers[tail].append(head)
    depth: dict[str, int] = {}
    for i in order:
        depth[i] = max((depth[x] + 1 for x in operands[i]), default=0)
    parts = list(connected_parts(operands, readers))
    part_of = {i: number for number, part in enumerate(parts) for i in part}
    pairs = [*stack(places, edges, depth, part_of), *columns(places, operands, depth, parts)]
    return [(upper, lower) for upper, lower in pairs if upper not in operands[lower]]

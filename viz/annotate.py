"""What a plan and a profile tell of the boxes: lines, fills, edges, the heading, the legend."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from needle_ir.ir import Node, Place, Plan, Slot
from needle_ir.viz.drawing import Arrow, FrameNote, LegendCell, Line, small
from needle_ir.viz.places import Path
from needle_ir.viz.scale import arena_colour, bytes_text, heat_colour, seconds_text
from needle_ir.viz.scene import Scene
from needle_ir.viz.style import REUSE, TEXT
from needle_ir.viz.subject import Subject

_LEGEND_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_FRAME = "#888888"
_MAX_REUSE_EDGES = 60  # boxes; with more of them, what the labels say has to do


@dataclass(frozen=True)
class Annotations:
    """What is said of boxes besides what is in them."""

    by_box: dict[str, list[Line]] = field(default_factory=dict)
    fills: dict[str, str] = field(default_factory=dict)
    edges: list[Arrow] = field(default_factory=list)
    frames: dict[Path, FrameNote] = field(default_factory=dict)
    headings: list[str] = field(default_factory=list)
    cells: list[LegendCell] = field(default_factory=list)

    @staticmethod
    def of(subject: Subject, scene: Scene) -> "Annotations":
        """What there is to say of a subject's boxes."""
        if subject.plan is not None:
            return _of_plan(subject.plan, scene)
        if subject.seconds is not None:
            return _of_times(subject.seconds, subject.elsewhere, scene)
        return Annotations()

    @property
    def replaces_fill(self) -> bool:
        """Whether fills mean something else than kinds of ops."""
        return bool(self.cells)

    def lines(self, box: str) -> list[Line]:
        """The lines at the end of a box's label."""
        return self.by_box.get(box, [])

    def fill(self, box: str) -> str | None:
        """The fill of a box, None where its kind decides."""
        return self.fills.get(box, "#ffffff") if self.replaces_fill else None

    def arrows(self) -> list[Arrow]:
        """Edges that carry no value."""
        return self.edges

    def heading(self) -> list[str]:
        """Lines of the heading."""
        return self.headings

    def legend(self) -> list[LegendCell]:
        """What the fills mean."""
        return self.cells


def _of_times(seconds: Mapping[Node, float], elsewhere: float, scene: Scene) -> Annotations:
    """Boxes, and frames of opened kernels, by their share of the time."""
    result = Annotations()
    total = sum(seconds.values())
    boxes, frames = _nodes_of(scene)
    times = {box: sum(seconds.get(x, 0.0) for x in nodes) for box, nodes in boxes.items()}
    frame_times = {path: seconds.get(node, 0.0) for path, node in frames.items()}
    longest = max((*times.values(), *frame_times.values()), default=0.0)

    def text(time: float) -> str:
        return f"{seconds_text(time)} · {_percent(time / total)}"

    for box, time in times.items():
        if time > 0:
            result.fills[box] = heat_colour(time / longest)
            result.by_box[box] = [small(text(time), TEXT, True)]
    for path, time in frame_times.items():
        if time > 0:
            result.frames[path] = FrameNote(text(time), heat_colour(time / longest))
    others = f"; {seconds_text(elsewhere)} in other graphs" if elsewhere else ""
    result.headings.append(f"{seconds_text(total)} in {len(seconds):,} measured nodes{others}")
    for share in _LEGEND_SHARES:
        colour = heat_colour(share)
        result.cells.append(LegendCell(seconds_text(share * longest), colour, _FRAME))
    return result


def _of_plan(plan: Plan, scene: Scene) -> Annotations:
    """Boxes by where in the arena they write, and what takes over whose bytes."""
    result = Annotations()
    steps = {step.node: number for number, step in enumerate(plan.steps)}
    slots = {slot.node: slot for slot in plan.slots}
    before = held_before(plan)
    boxes, frames = _nodes_of(scene)

    def runs(node: Node) -> bool:
        return node in steps and slots[node].place is not Place.VIEW

    def fill(nodes: Iterable[Node]) -> str | None:
        starts = [
            slots[x].offset or 0 for x in nodes if _whole(plan, slots[x]).place is Place.ARENA
        ]
        return arena_colour(min(starts) / plan.arena_bytes) if starts and plan.arena_bytes else None

    def lines(node: Node) -> list[str]:
        taken = [f"reuses bytes of step {steps[old]}" for old in before.get(node, ())[:1]]
        place = _place_text(slots[node])
        if slots[node].inside is not None:
            place = f"inside of step {steps[_whole(plan, slots[node]).node]}"
        return [f"step {steps[node]} · {place}", *taken]

    box_of: dict[Node, str] = {}
    for box, members in boxes.items():
        nodes = list(filter(runs, members))
        box_of |= dict.fromkeys(nodes, box)
        colour = fill(nodes)
        if colour is not None:
            result.fills[box] = colour
        if len(nodes) == 1:
            result.by_box[box] = [small(line, TEXT) for line in lines(nodes[0])]
        elif nodes:
            numbers = [steps[node] for node in nodes]
            text = f"{len(nodes)} steps, {min(numbers)}‥{max(numbers)}"
            whole = [slots[x] for x in nodes if slots[x].inside is None]
            nbytes = sum(slot.nbytes for slot in whole if slot.place is Place.ARENA)
            result.by_box[box] = [small(f"{text} · writes {bytes_text(nbytes)}", TEXT)]
    for path, node in frames.items():
        if runs(node):
            result.frames[path] = FrameNote(" · ".join(lines(node)), fill([node]))
    if len(scene.boxes) <= _MAX_REUSE_EDGES:
        result.edges.extend(_reuse_edges(before, box_of, scene))
    step, peak = plan.peak
    result.headings.append(
        f"{len(plan.steps)} steps; arena {bytes_text(plan.arena_bytes)}, "
        f"{bytes_text(plan.naive_bytes)} without reuse; "
        f"peak {bytes_text(peak)} alive at step {step}"
    )
    for share in _LEGEND_SHARES if plan.arena_bytes else ():
        text = f"{'arena ' if share == 0 else ''}{bytes_text(round(share * plan.arena_bytes))}"
        result.cells.append(LegendCell(text, arena_colour(share), _FRAME))
    if result.edges:
        result.cells.append(LegendCell("takes over bytes", "#ffffff", REUSE, "dashed"))
    return result


def _nodes_of(scene: Scene) -> tuple[dict[str, list[Node]], dict[Path, Node]]:
    """The nodes of the graph in each box, and those that are opened to a frame, by its path."""
    boxes: dict[str, list[Node]] = {}
    frames: dict[Path, Node] = {}
    for box, members in scene.boxes.items():
        boxes[box] = []
        for i in members:
            unit = scene.unit(i)
            place = scene.places[box]
            if unit.opened and not scene.is_group(box):
                frames[place[: len(place) - len(unit.opened) + 1]] = unit.owner
            elif unit.owner not in boxes[box][-1:]:
                boxes[box].append(unit.owner)
    return boxes, frames


def _reuse_edges(
    before: dict[Node, list[Node]], box_of: dict[Node, str], scene: Scene
) -> list[Arrow]:
    """Dashed edges from what held bytes to what takes them over, within a phase."""
    ends = dict.fromkeys(
        (box_of[old], box_of[node])
        for node, olds in before.items()
        for old in olds
        if old in box_of and node in box_of and box_of[old] != box_of[node]
    )
    return [
        Arrow(tail, head, (), 1.0, REUSE, True, False, False, False, ())
        for tail, head in ends
        if scene.places[tail][0] == scene.places[head][0]
    ]


def held_before(plan: Plan) -> dict[Node, list[Node]]:
    """For what is written to the arena, what held its bytes last, the lowest address first."""
    result: dict[Node, list[Node]] = defaultdict(list)
    # The bytes that were ever held, in rising order and without overlaps: from, to, by whom.
    lows: list[int] = []
    held: list[tuple[int, int, Node]] = []
    slots = [s for s in plan.slots if s.place is Place.ARENA and s.nbytes and s.inside is None]
    for slot in sorted(slots, key=lambda slot: slot.start):
        assert slot.offset is not None
        start, end = slot.offset, slot.offset + slot.nbytes
        first = bisect_right(lows, start) - 1
        first += first < 0 or held[first][1] <= start
        last = bisect_left(lows, end)
        new = [(start, end, slot.node)]
        for low, high, holder in held[first:last]:
            if holder not in result[slot.node]:
                result[slot.node].append(holder)
            if low < start:
                new.insert(0, (low, start, holder))
            if high > end:
                new.append((end, high, holder))
        held[first:last] = new
        lows[first:last] = [low for low, _, _ in new]
    return {node: olds for node, olds in result.items() if olds}


def _whole(plan: Plan, slot: Slot) -> Slot:
    """The slot whose memory a slot lies in: its own, or that of what packs it."""
    while slot.inside is not None:
        slot = plan.slots[slot.inside]
    return slot


def _place_text(slot: Slot) -> str:
    if slot.place is not Place.ARENA:
        return slot.place.value
    assert slot.offset is not None
    return f"arena {slot.offset:,}‥{slot.offset + slot.nbytes:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"

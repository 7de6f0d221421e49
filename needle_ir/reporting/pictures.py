"""The pictures of a report, drawn side by side in a few threads."""

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from needle_ir.explanation import Explanation
from needle_ir.ir import Node
from needle_ir.reporting.measuring import Measured
from needle_ir.reporting.passes import drawn_change, is_changed
from needle_ir.viz import Drawable, Heat, Level
from needle_ir.viz.page import MAX_BOXES, Limits, PagePicture, page_picture


@dataclass(frozen=True)
class Wanted:
    """A picture to draw: of the stop `stop` of the timeline, under `label` among its pictures."""

    stop: int
    label: str
    level: Level
    drawable: Drawable
    names: Mapping[Node, str]

    @property
    def id(self) -> str:
        """The id of its element in the page."""
        return f"picture-{self.stop}-{self.label.lower().replace(' ', '-')}"


@dataclass(frozen=True)
class Drawn:
    """The pictures by id, the list of them for each stop, and what there is to tell."""

    pictures: dict[str, dict[str, Any]]
    by_stop: list[list[dict[str, Any]]]
    notes: tuple[str, ...]


def draw_pictures(explanation: Explanation, measured: Measured | None, timeout: float) -> Drawn:
    """Draw every stage that changed something, and the plan: where in memory its values lie, and
    where its time goes.
    """
    wanted = _wanted(explanation, measured)
    limits = Limits(timeout)

    def draw_one(x: Wanted) -> PagePicture:
        return page_picture(x.drawable, x.level, x.names, limits)

    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, 8))) as pool:
        found = [*pool.map(draw_one, wanted)]
    pictures: dict[str, dict[str, Any]] = {}
    by_stop: list[list[dict[str, Any]]] = [[] for _ in range(len(explanation.stages) + 1)]
    notes: Counter[str] = Counter()
    for x, picture in zip(wanted, found, strict=True):
        is_drawn = picture.svg is not None
        if is_drawn:
            pictures[x.id] = picture.as_data()
            notes.update(picture.notes)
        else:
            notes[f"left out: more than {MAX_BOXES} boxes"] += 1
        id = x.id if is_drawn else None
        by_stop[x.stop].append(
            {"label": x.label, "level": x.level, "id": id, "boxes": picture.boxes}
        )
    told = [f"{n} picture{'s' * (n > 1)} {note}" for note, n in notes.items()]
    return Drawn(pictures, by_stop, tuple(told))


def _wanted(explanation: Explanation, measured: Measured | None) -> list[Wanted]:
    result: list[Wanted] = []
    for stage in explanation.stages:
        if not is_changed(stage):
            continue
        drawable: Drawable = stage.graph
        names = dict(stage.names)
        levels: list[tuple[str, Level]] = [("Modules", "module"), ("Ops", "composite")]
        if stage.transition is not None:
            drawable = drawn_change(stage)
            names = {**stage.transition.before, **names}
        else:
            levels.append(("Primitives", "primitive"))
        result += [Wanted(stage.number, label, level, drawable, names) for label, level in levels]
    last = explanation.stages[-1]
    stop = len(explanation.stages)
    plan = explanation.planning.plan
    result += [
        Wanted(stop, "Modules", "module", plan, last.names),
        Wanted(stop, "Kernels", "kernel", plan, last.names),
    ]
    if measured is not None:
        nodes = set(plan.graph.nodes)
        seconds = {x: s for x, s in measured.node_seconds().items() if x in nodes}
        heat = Heat(plan.graph, seconds)
        result += [
            Wanted(stop, "Time by modules", "module", heat, last.names),
            Wanted(stop, "Time by kernels", "kernel", heat, last.names),
        ]
    return result

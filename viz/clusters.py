"""The frames of a picture: the phases of training, and in them the tree of modules."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from needle_ir.viz.places import UPDATE, Path, phase_order

_LONG = 1 << 30


@dataclass
class Cluster:
    """A frame of the picture, with the frames in it. The path of the outermost one is empty."""

    path: Path
    label: str
    children: list["Cluster"] = field(default_factory=list)

    @property
    def is_phase(self) -> bool:
        """Whether this is the frame of a phase, not of a module."""
        return len(self.path) == 1


def clusters(occupied: Iterable[Path]) -> list[Cluster]:
    """The clusters around all the places `occupied`; the outermost first, each before its children.

    A module that holds nothing but another module is one cluster with it. Siblings are sorted,
    `blocks.2` before `blocks.10`.
    """
    result: dict[Path, Cluster] = {(): Cluster((), "")}
    for path in _framed(set(occupied)):
        depth = next(d for d in range(len(path) - 1, -1, -1) if path[:d] in result)
        result[path] = Cluster(path, _label(path, depth))
        result[path[:depth]].children.append(result[path])
    return list(result.values())


def _framed(occupied: set[Path]) -> list[Path]:
    """The paths that get a frame: phases, modules with nodes and modules with several modules."""
    inside: dict[Path, set[str]] = defaultdict(set)
    for path in occupied:
        for depth, part in enumerate(path):
            inside[path[:depth]].add(part)
    framed = {(phase,) for phase in inside[()]} | occupied
    framed |= {path for path, parts in inside.items() if path and len(parts) > 1}
    return sorted(framed - {("",)}, key=_sort_key)


def _label(path: Path, depth: int) -> str:
    """The parts of a path below its first `depth`; an index goes with the name before it."""
    outermost = 2 if path[0] == UPDATE else 1  # an optimizer is no list
    if depth > outermost and path[depth].split(" ")[0].isdecimal():
        depth -= 1
    return ".".join(path[depth:] if path[0] else path[max(depth, 1) :])


def _sort_key(path: Path) -> tuple[Any, ...]:
    """Phases in the order of training, modules by name with the numbers in them as numbers."""
    words = [re.findall(r"\d+|\D+", part) for part in path[1:]]
    modules = [tuple((len(w) if w.isdecimal() else _LONG, w) for w in parts) for parts in words]
    return (phase_order(path[0]), *modules)

"""Where the nodes of a picture stand: the phases of training, and in them the tree of modules."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from needle_ir.ir import CONSTANT, INPUT, Graph, Node

Path = tuple[str, ...]
"""A place in the picture: the phase, empty where phases are not drawn, and the module's parts."""

LEAVES = (INPUT, CONSTANT)
_LONG = 1 << 30
_PHASES = ("forward", "backward", "update")


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


def places(graph: Graph) -> dict[Node, Path]:
    """The place of every node, in topological order. Phases count where there are several.

    A leaf that was recorded under no module stands with those who read it, the first phase's
    readers if there are several phases: weights stand in the layer that uses them.
    """
    origins = [node.origin for node in graph.nodes if node.op not in LEAVES]
    has_phases = len({origin.phase for origin in origins if origin is not None}) > 1
    result: dict[Node, Path] = {}
    leaves: list[Node] = []
    for node in graph.nodes:
        result[node] = ("",)
        module = node.origin.module if node.origin is not None else ""
        if node.op in LEAVES and not module:
            leaves.append(node)
        elif node.origin is not None:
            phase = node.origin.phase if has_phases else ""
            result[node] = (phase, *(module.split(".") if module else ()))
    for leaf in leaves:
        read_at = [result[user] for user in graph.users[leaf]]
        if read_at:
            first = min((path[0] for path in read_at), key=_phase_order)
            result[leaf] = _common([path for path in read_at if path[0] == first])
    return result


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
    if depth > 1 and path[depth].split(" ")[0].isdecimal():
        depth -= 1
    return ".".join(path[depth:] if path[0] else path[max(depth, 1) :])


def _common(paths: list[Path]) -> Path:
    first, last = min(paths), max(paths)
    depth = next((i for i, part in enumerate(first) if last[i : i + 1] != (part,)), len(first))
    return first[:depth]


def _sort_key(path: Path) -> tuple[Any, ...]:
    """Phases in the order of training, modules by name with the numbers in them as numbers."""
    words = [re.findall(r"\d+|\D+", part) for part in path[1:]]
    modules = [tuple((len(w) if w.isdecimal() else _LONG, w) for w in parts) for parts in words]
    return (_phase_order(path[0]), *modules)


def _phase_order(phase: str) -> tuple[int, str]:
    """The order of training. Phases of other names come last."""
    return (_PHASES.index(phase) if phase in _PHASES else len(_PHASES), phase)

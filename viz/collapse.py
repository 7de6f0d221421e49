"""Which ops share a box: the calls of modules, at the module level or where they are collapsed."""

from collections.abc import Collection, Sequence
from pathlib import Path as FilePath
from typing import NamedTuple

from needle_ir.ir import INPUT
from needle_ir.viz.calls import split_calls
from needle_ir.viz.places import UPDATE, Path, is_state, module_names, places
from needle_ir.viz.subject import Level
from needle_ir.viz.units import LEAVES, Unit

MAX_MODULE_BOXES = 200
_OTHER = "other ops"


class Grouping(NamedTuple):
    """The place of every unit, and the group that shares a box with it, None for a box of its own.

    A group is named by the path that it collapses. `lines` are the groups that are no module but
    what a module records at one line of the user's code. `depth` is how deep the modules are drawn
    where they were too many to draw all; None elsewhere.
    """

    places: list[Path]
    groups: list[Path | None]
    lines: frozenset[Path]
    depth: int | None


def grouping_of(units: Sequence[Unit], level: Level, collapse: Collection[str] | None) -> Grouping:
    """Who shares a box with whom.

    At the module level a box is a call of a module; what a module does besides calling others is a
    box for each line. Modules are cut at the depth at which there are at most MAX_MODULE_BOXES
    boxes. At the other levels `collapse` names the modules that are one box; where it is None,
    these are the modules that a change left alone.
    """
    if level == "module":
        return _modules(units)
    paths = split_calls(units, places(units))
    if collapse is None:
        cut = _unchanged(units, paths)
    else:
        cut = {
            path[:length]
            for path in set(paths)
            for length in range(2, len(path) + 1)
            if any(name in collapse for name in module_names(path[:length]))
        }
    groups = [_shortest_prefix(path, cut) for path in paths]
    return _grouping(units, paths, groups, frozenset(), None)


def _modules(units: Sequence[Unit]) -> Grouping:
    modules = places(units)
    around = {path[:length] for path in set(modules) for length in range(1, len(path))}
    own = [
        unit.node.op not in LEAVES and (len(path) == 1 or path in around)
        for unit, path in zip(units, modules, strict=True)
    ]
    deepest = max(map(len, modules), default=1)
    for part_of in (_line, lambda unit: _OTHER):
        paths = split_calls(
            units,
            [
                (*path, part_of(unit)) if is_own else path
                for unit, path, is_own in zip(units, modules, own, strict=True)
            ],
        )
        above = _parts_above(units, paths)
        for depth in range(deepest, 0, -1):
            groups = [
                path[: 1 + outer + depth] if len(path) > 1 else None
                for path, outer in zip(paths, above, strict=True)
            ]
            if len(set(groups)) <= MAX_MODULE_BOXES:
                break
        if len(set(groups)) <= MAX_MODULE_BOXES:
            break
    lines = frozenset(
        group
        for path, group, is_own in zip(paths, groups, own, strict=True)
        if is_own and group == path
    )
    return _grouping(units, paths, groups, lines, depth if depth < deepest - 1 else None)


def _parts_above(units: Sequence[Unit], paths: Sequence[Path]) -> list[int]:
    """For every unit, how many parts of its path are an optimizer's, above the modules'."""
    optimizers = {
        path[: 1 + unit.owner.origin.module.count(".") + 1]
        for unit, path in zip(units, paths, strict=True)
        if path[0] == UPDATE and unit.owner.origin is not None and unit.owner.origin.module
    }
    found = {
        path: next((n for n in range(len(path), 1, -1) if path[:n] in optimizers), 1) - 1
        for path in set(paths)
    }
    return [found[path] for path in paths]


def _line(unit: Unit) -> str:
    """The user's line that recorded a unit."""
    origin = unit.owner.origin
    return _OTHER if origin is None else f"{FilePath(origin.filename).name}:{origin.line}"


def _unchanged(units: Sequence[Unit], paths: Sequence[Path]) -> set[Path]:
    """The modules in which nothing has a mark."""
    changed = {
        path[:length]
        for unit, path in zip(units, paths, strict=True)
        if unit.mark is not None
        for length in range(1, len(path) + 1)
    }
    inside = {path[:length] for path in set(paths) for length in range(2, len(path) + 1)}
    return inside - changed


def _grouping(
    units: Sequence[Unit],
    paths: list[Path],
    groups: list[Path | None],
    lines: frozenset[Path],
    depth: int | None,
) -> Grouping:
    """Take the inputs out that are not a module's own, and put every box into its frame."""
    result = Grouping([], [], lines, depth)
    for unit, path, group in zip(units, paths, groups, strict=True):
        own = group is not None and (unit.node.op is not INPUT or is_state(unit, path))
        result.groups.append(group if own else None)
        result.places.append(path if group is None else group[:-1])
    return result


def _shortest_prefix(path: Path, among: set[Path]) -> Path | None:
    return next((path[:n] for n in range(2, len(path) + 1) if path[:n] in among), None)

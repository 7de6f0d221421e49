"""Where the ops of a picture stand: in a phase of training, and in it in the tree of modules."""

import re
from collections.abc import Iterable, Sequence

from needle_ir.ir import CONSTANT, INPUT, Trait
from needle_ir.viz.units import LEAVES, Unit

Path = tuple[str, ...]
"""A place in the picture: the phase, empty where phases are not drawn, and the module's parts."""

UPDATE = "update"
PHASES = ("forward", "backward", UPDATE)
_MAX_FOREIGN = 3
_CALL = re.compile(r" \(\d+\)$")


def places(units: Sequence[Unit]) -> list[Path]:
    """The place of every unit. Phases count where there are several.

    A leaf that was recorded under no module, and what was not recorded at all, stands with those
    who read it, the first phase's readers if there are several phases: weights stand in the layer
    that uses them. What updates
    the weights of one module, or of several in one, stands under the optimizer and there under
    that module. What is inside of an opened node stands in a frame of its own.
    """
    origins = [unit.owner.origin for unit in units if unit.node.op not in LEAVES]
    has_phases = len({origin.phase for origin in origins if origin is not None}) > 1
    readers = readers_of(units)
    paths: list[Path] = []
    free: list[int] = []  # what stands with its readers
    for i, unit in enumerate(units):
        origin = unit.owner.origin
        path: Path = ("",)
        if origin is not None:
            phase = origin.phase if has_phases else ""
            path = (phase, *(origin.module.split(".") if origin.module else ()))
        if unit.node.op in LEAVES and not unit.opened:
            if len(path) == 1:
                free.append(i)
            path = path if len(path) > 1 else ("",)
        elif origin is None:
            free.append(i)
        paths.append(path)
    leaves = [i for i in free if not _is_op(units[i])]
    _place_with_readers(free, readers, paths)
    _move_out(units, paths)
    _place_with_readers(leaves, readers, paths)
    _find_owners(units, readers, paths)
    _place_with_readers(leaves, readers, paths)
    return [(*path, *unit.opened) for path, unit in zip(paths, units, strict=True)]


def readers_of(units: Sequence[Unit]) -> list[list[int]]:
    """For every unit those that read it, in order, each once."""
    readers: list[list[int]] = [[] for _ in units]
    for i, unit in enumerate(units):
        for operand in dict.fromkeys(unit.operands):
            readers[operand].append(i)
    return readers


def phase_order(phase: str) -> tuple[int, str]:
    """The order of training. Phases of other names come last."""
    return (PHASES.index(phase) if phase in PHASES else len(PHASES), phase)


def common(paths: Iterable[Path]) -> Path:
    """The longest path that all of `paths` begin with."""
    result: Path | None = None
    for path in paths:
        result = path if result is None else _common(result, path)
    return () if result is None else result


def _common(a: Path, b: Path) -> Path:
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    return min(a, b, key=len) if length is None else a[:length]


def module_names(path: Path) -> tuple[str, ...]:
    """How a module is called: `blocks.0`, under an optimizer as well as outside of it."""
    parts = [_CALL.sub("", part) for part in path[1:]]
    names = (".".join(parts), ".".join(parts[1:]))
    return names if path[0] == UPDATE and len(parts) > 1 else names[:1]


def name_inside(unit: Unit, path: Path) -> str | None:
    """What an input is called in a module around a place, `weight` in `blocks.0.linear1`; None
    where its name is not under one of these modules.
    """
    name = unit.node.attrs.get("name") or ""
    for length in range(len(path), 1, -1):
        for module in module_names(path[:length]):
            if name.startswith(f"{module}."):
                return str(name[len(module) + 1 :])
    return None


def is_state(unit: Unit, path: Path) -> bool:
    """Whether an input is named as a weight of a module around a place, or as what an optimizer
    keeps for one.
    """
    return unit.node.op is INPUT and name_inside(unit, path) is not None


def _place_with_readers(
    free: Sequence[int], readers: Sequence[Sequence[int]], paths: list[Path]
) -> None:
    for i in reversed(free):
        read_at = [paths[reader] for reader in readers[i]]
        if read_at:
            first = min((path[0] for path in read_at), key=phase_order)
            paths[i] = common(path for path in read_at if path[0] == first)


def _move_out(units: Sequence[Unit], paths: list[Path]) -> None:
    """Put what reads from many modules besides its own into the module around all of them, and what
    reads that, up to the views of it. So is what one pass made of the same op of many modules.
    """
    moved: set[int] = set()
    modules = {path for path, unit in zip(paths, units, strict=True) if _is_op(unit)}
    for i, unit in enumerate(units):
        if len(paths[i]) == 1 or not _is_op(unit) or unit.node.op.has(Trait.VIEW):
            continue
        phase = paths[i][0]
        read = {paths[x] for x in unit.operands if _is_op(units[x]) and paths[x][0] == phase}
        for x in unit.operands:
            name = units[x].node.attrs.get("name") if units[x].node.op is INPUT else None
            read |= {(phase, *str(name or "").split(".")[:-1])} & modules
        foreign = [path for path in read if path[: len(paths[i])] != paths[i]]
        if len(foreign) > _MAX_FOREIGN or any(x in moved for x in unit.operands):
            paths[i] = common([paths[i], *read])
            moved.add(i)


def _find_owners(
    units: Sequence[Unit], readers: Sequence[Sequence[int]], paths: list[Path]
) -> None:
    """Put what is in the update phase under the module whose weights or gradients it reads; or
    under the module of those that read it, where they are all of one. A request for a gradient
    goes to the module of the weight.
    """
    updates = [_is_op(unit) and path[0] == UPDATE for unit, path in zip(units, paths, strict=True)]
    owners: dict[int, Path] = {}
    for i, unit in enumerate(units):
        if updates[i]:
            found = [
                owners.get(x, ()) if paths[x][0] == UPDATE else paths[x][1:]
                for x in unit.operands
                if units[x].node.op is not CONSTANT  # equal constants of all modules are one
            ]
        elif unit.node.op.has(Trait.MARKER) and len(paths[i]) == 1:
            found = [paths[x][1:] for x in unit.operands if is_state(units[x], paths[x])]
        else:
            continue
        if any(found):
            owners[i] = common(filter(None, found))
            if not updates[i]:
                paths[i] = (*paths[i], *owners[i])
    for i in reversed(range(len(units))):
        if updates[i] and i not in owners:
            among = {owners.get(x, ()) for x in readers[i]}
            if len(among) == 1:
                owners[i] = among.pop()
    for i, owner in owners.items():
        if updates[i]:
            paths[i] = (*paths[i], *owner)


def _is_op(unit: Unit) -> bool:
    return unit.node.op not in LEAVES

"""Modules that are called more than once have a frame for every call."""

from collections.abc import Sequence

from needle_ir.viz.places import Path
from needle_ir.viz.units import LEAVES, Unit


def split_calls(units: Sequence[Unit], places: Sequence[Path]) -> list[Path]:
    """`places` with the later calls of a module apart: `relu`, `relu (2)`, `relu (3)` …

    A call ends where a path through the graph leaves the module; where it comes back, another one
    begins. One frame around both would also stand around all that lies between them. The backward
    pass comes through the calls in reverse order, and has their numbers.
    """
    paths = list(places)
    operands = [
        [j for j in unit.operands if paths[j][0] == path[0]]
        for unit, path in zip(units, paths, strict=True)
    ]
    is_leaf = [unit.node.op in LEAVES for unit in units]
    for depth in range(1, max(map(len, paths), default=0)):
        frames = [path[: depth + 1] if len(path) > depth else None for path in paths]
        # A leaf is no call: its readers may stand anywhere.
        callers = [None if leaf else frame for leaf, frame in zip(is_leaf, frames, strict=True)]
        split = {
            frame: _calls(members, operands)
            for frame, members in _entered_again(callers, operands).items()
        }
        for frame, calls in split.items():
            last = max(calls.values())
            twin = split.get(("forward", *frame[1:]), {}) if frame[0] == "backward" else {}
            backwards = max(twin.values(), default=-1) == last
            for i, call in calls.items():
                number = last - call if backwards else call
                if number > 0:
                    part = f"{paths[i][depth]} ({number + 1})"
                    paths[i] = (*paths[i][:depth], part, *paths[i][depth + 1 :])
    return paths


def _entered_again(
    frames: Sequence[Path | None], operands: Sequence[Sequence[int]]
) -> dict[Path, list[int]]:
    """The frames that some path leaves and enters again, each with its members."""
    bits = {frame: 1 << k for k, frame in enumerate(dict.fromkeys(filter(None, frames)))}
    inside = [0 if frame is None else bits[frame] for frame in frames]
    left: list[int] = []  # per unit: the frames that some path to it was in and has left
    again = 0
    for i, reads in enumerate(operands):
        before = 0
        for j in reads:
            before |= left[j] | (inside[j] if inside[j] != inside[i] else 0)
        left.append(before)
        again |= before & inside[i]
    members: dict[Path, list[int]] = {frame: [] for frame, bit in bits.items() if bit & again}
    for i, frame in enumerate(frames):
        if frame in members:
            members[frame].append(i)
    return members


def _calls(members: Sequence[int], operands: Sequence[Sequence[int]]) -> dict[int, int]:
    """The number of the call, from 0, that each member of a frame belongs to."""
    inside = set(members)
    calls: dict[int, int] = {}
    for i in range(members[0], members[-1] + 1):
        reads = [calls[j] + (j in inside and i not in inside) for j in operands[i] if j in calls]
        if reads or i in inside:
            calls[i] = max(reads, default=0)
    return {i: calls[i] for i in members}

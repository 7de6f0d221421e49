"""Modules that are called more than once have a frame for every call."""

from collections.abc import Sequence

from needle_ir.ir import Graph, Node
from needle_ir.viz.clusters import LEAVES, Path


def split_calls(graph: Graph, places: dict[Node, Path]) -> dict[Node, Path]:
    """`places` with the later calls of a module apart: `relu`, `relu (2)`, `relu (3)` …

    A call ends where a path through the graph leaves the module; where it comes back, another one
    begins. One frame around both would also stand around all that lies between them.
    """
    nodes = graph.nodes
    index = {node: i for i, node in enumerate(nodes)}
    paths = [places[node] for node in nodes]
    operands = [
        [j for j in map(index.__getitem__, node.inputs) if paths[j][0] == path[0]]
        for node, path in zip(nodes, paths, strict=True)
    ]
    is_leaf = [node.op in LEAVES for node in nodes]
    for depth in range(1, max(map(len, paths), default=0)):
        frames = [path[: depth + 1] if len(path) > depth else None for path in paths]
        # A leaf is no call: its readers may stand anywhere.
        callers = [None if leaf else frame for leaf, frame in zip(is_leaf, frames, strict=True)]
        for members in _entered_again(callers, operands):
            for i, call in _calls(members, operands).items():
                if call > 0:
                    part = f"{paths[i][depth]} ({call + 1})"
                    paths[i] = (*paths[i][:depth], part, *paths[i][depth + 1 :])
    return dict(zip(nodes, paths, strict=True))


def _entered_again(
    frames: Sequence[Path | None], operands: Sequence[Sequence[int]]
) -> list[list[int]]:
    """The frames that some path leaves and enters again, each as its members."""
    bits = {frame: 1 << k for k, frame in enumerate(dict.fromkeys(filter(None, frames)))}
    inside = [0 if frame is None else bits[frame] for frame in frames]
    left: list[int] = []  # per node: the frames that some path to it was in and has left
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
    return list(members.values())


def _calls(members: Sequence[int], operands: Sequence[Sequence[int]]) -> dict[int, int]:
    """The number of the call, from 0, that each member of a frame belongs to."""
    inside = set(members)
    calls: dict[int, int] = {}
    for i in range(members[0], members[-1] + 1):
        reads = [calls[j] + (j in inside and i not in inside) for j in operands[i] if j in calls]
        if reads or i in inside:
            calls[i] = max(reads, default=0)
    return {i: calls[i] for i in members}

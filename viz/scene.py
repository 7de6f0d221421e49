"""What is drawn of a graph: boxes, edges, and what stands in for an edge that would be too long.

Every operand of every node is in the scene in one of three ways: as an edge from the operand's
box, as an edge from a stand-in for it, or as a literal in the label of its reader.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import NamedTuple

from needle_ir.ir import CONSTANT, Graph, Node, Trait
from needle_ir.viz.calls import split_calls
from needle_ir.viz.clusters import Path, places

_MAX_LITERAL_OPERANDS = 3
_MAX_READERS = 6


class Edge(NamedTuple):
    """An arrow between two ids. `position` is the operand's, None where its order says nothing."""

    tail: str
    head: str
    position: int | None


@dataclass(frozen=True)
class Scene:
    """What is drawn.

    `boxes` are the nodes drawn as such, by id, in topological order; `stand_ins` the small names
    drawn for a node near one of its readers; `places` the cluster of both. `literals` are the
    operands of a node, by position, that its label spells out. `roles` are the lines that say what
    else a node is: `output 0`, `effect 0`, `→ backward` where another phase reads it.
    """

    boxes: dict[str, Node]
    stand_ins: dict[str, Node]
    places: dict[str, Path]
    edges: list[Edge]
    literals: dict[Node, dict[int, Node]]
    roles: dict[Node, list[str]]


def scene_of(graph: Graph) -> Scene:
    """The scene of a graph.

    An edge from phase to phase, and an edge from a node with many readers, starts at a stand-in:
    such edges would run across the whole picture and pull its parts out of their order.
    """
    place = split_calls(graph, places(graph))
    literals = {node: _literals(node) for node in graph.nodes}
    popular = _popular(graph, place, literals)
    roles = _roles(graph, place, popular)
    spoken = {x for operands in literals.values() for x in operands.values()}
    drawn = {x for n in graph.nodes for i, x in enumerate(n.inputs) if i not in literals[n]}
    ids = {
        node: f"n{i}"
        for i, node in enumerate(graph.nodes)
        if node in drawn or node in roles or node not in spoken
    }
    scene = Scene({i: node for node, i in ids.items()}, {}, {}, [], literals, roles)
    for node, head in ids.items():
        scene.places[head] = place[node]
        drawn_count = len(node.inputs) - len(literals[node])
        ordered = drawn_count > 1 and not node.op.has(Trait.COMMUTATIVE)
        for position, operand in enumerate(node.inputs):
            if position in literals[node]:
                continue
            tail = ids[operand]
            if operand in popular or place[operand][0] != place[node][0]:
                tail = f"{tail}_{head}"
                scene.stand_ins[tail] = operand
                scene.places[tail] = place[node]
            scene.edges.append(Edge(tail, head, position if ordered else None))
    return scene


def _literals(node: Node) -> dict[int, Node]:
    if len(node.inputs) > _MAX_LITERAL_OPERANDS:
        return {}
    return {i: x for i, x in enumerate(node.inputs) if x.op is CONSTANT and x.type.ndim == 0}


def _popular(
    graph: Graph, place: dict[Node, Path], literals: dict[Node, dict[int, Node]]
) -> dict[Node, int]:
    """The nodes that too many nodes of their own phase read for edges, and how many do."""
    readers = Counter(
        operand
        for node in graph.nodes
        for operand in set(node.inputs).difference(literals[node].values())
        if place[operand][0] == place[node][0]
    )
    return {node: count for node, count in readers.items() if count > _MAX_READERS}


def _roles(
    graph: Graph, place: dict[Node, Path], popular: dict[Node, int]
) -> dict[Node, list[str]]:
    roles: dict[Node, list[str]] = defaultdict(list)
    for i, node in enumerate(graph.effects):
        roles[node].append(f"effect {i}")
    for i, node in enumerate(graph.outputs):
        roles[node].append(f"output {i}")
    for node in graph.unused:
        roles[node].append("unused")
    for node, count in popular.items():
        roles[node].append(f"→ {count} readers")
    for node in graph.nodes:
        phases = dict.fromkeys(place[user][0] for user in graph.users[node])
        others = [phase for phase in phases if phase not in ("", place[node][0])]
        if node.inputs and others:
            roles[node].append(f"→ {', '.join(others)}")
    return dict(roles)

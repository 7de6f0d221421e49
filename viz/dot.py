"""The picture of a graph, as Graphviz DOT."""

from collections import Counter
from typing import TYPE_CHECKING

from needle_ir.ir import Graph, Node, Op, value_names
from needle_ir.viz.changes import Changes, changes
from needle_ir.viz.clusters import clusters
from needle_ir.viz.label import (
    elide,
    heading,
    node_label,
    plain,
    quoted,
    stand_in_name,
    tooltips,
)
from needle_ir.viz.layout import invisible_edges
from needle_ir.viz.scene import Scene, scene_of
from needle_ir.viz.style import (
    EDGE_LOOK,
    GRAPH_LOOK,
    INVISIBLE_LOOK,
    MODULE_LOOK,
    NODE_LOOK,
    PHASE_LOOK,
    STAND_IN_LOOK,
    Kind,
    attribute_text,
    box_look,
    kind_of,
)

if TYPE_CHECKING:
    import graphviz

_MAX_HEADING = 80


def to_dot(
    graph: Graph,
    *,
    before: Graph | None = None,
    title: str | None = None,
    legend: bool = True,
    max_label: int = 32,
) -> "graphviz.Digraph":
    """The picture of `graph`; equal graphs give equal text.

    Node `n7` is the eighth in topological order. Edges go from operand to user, with the operand's
    position where the order matters. A scalar constant stands in the label of the op that reads
    it, `power(·, 2.0)`, unless the op has many operands. Phases and modules are nested clusters.
    Where an edge would go from one phase to another, it starts at a small name that stands in for
    the operand. Outputs have a double border; effects say their number in program order.

    With `before`, the graph before a pass, new nodes are marked and the heading counts what came
    and went. `title` replaces the graph's name in the heading, `legend` explains the looks. Names,
    attributes and types in labels are cut to `max_label` characters.
    """
    import graphviz

    changed = None if before is None else changes(before, graph)
    new = frozenset[Node]() if changed is None else changed.new
    scene = scene_of(graph)
    kinds = {op: kind_of(op) for op in {node.op for node in scene.boxes.values()}}
    lines = [f"@{graph.name}" if title is None else title, *_counts(graph, before, changed)]
    dot = graphviz.Digraph(
        plain(graph.name),
        graph_attr=GRAPH_LOOK
        | {"label": heading(lines, kinds.values() if legend else (), bool(new))},
        node_attr=NODE_LOOK,
        edge_attr=EDGE_LOOK,
    )
    _add_nodes(dot, graph, scene, kinds, new, max_label)
    for edge in scene.edges:
        number = "" if edge.position is None else f" [headlabel={edge.position}]"
        dot.body.append(f"\t{edge.tail} -> {edge.head}{number}\n")
    invisible = attribute_text(INVISIBLE_LOOK)
    for upper, lower in invisible_edges(scene):
        dot.body.append(f"\t{upper} -> {lower} [{invisible}]\n")
    return dot


def _add_nodes(
    dot: "graphviz.Digraph",
    graph: Graph,
    scene: Scene,
    kinds: dict[Op, Kind],
    new: frozenset[Node],
    max_label: int,
) -> None:
    """Add every box and stand-in to its cluster, and every cluster to the one around it."""
    outermost, *inner = clusters(scene.places.values())
    frames = {outermost.path: dot}
    for cluster in inner:
        name = plain("/".join(("cluster", *filter(None, cluster.path))))
        look = PHASE_LOOK if cluster.is_phase else MODULE_LOOK
        line = f"\tgraph [label={quoted(cluster.label)} {attribute_text(look)}]\n"
        frames[cluster.path] = type(dot)(name, body=[line])

    names = value_names(graph)
    hints = tooltips(graph, names)
    outputs = frozenset(graph.outputs)
    for i, node in scene.boxes.items():
        literals = {at: (x, x in new) for at, x in scene.literals[node].items()}
        label = node_label(node, names[node], literals, scene.roles.get(node, ()), max_label)
        box = box_look(kinds[node.op], node in outputs, node in new)
        line = f"\t{i} [label={label} {box} tooltip={quoted(hints[node])}]\n"
        frames.get(scene.places[i], dot).body.append(line)
    small = attribute_text(STAND_IN_LOOK)
    for i, node in scene.stand_ins.items():
        label = quoted(stand_in_name(node, names[node], max_label))
        line = f"\t{i} [label={label} {small} tooltip={quoted(hints[node])}]\n"
        frames.get(scene.places[i], dot).body.append(line)

    for cluster in reversed((outermost, *inner)):
        for child in cluster.children:
            frames[cluster.path].subgraph(frames[child.path])


def _counts(graph: Graph, before: Graph | None, changed: Changes | None) -> list[str]:
    """The lines of the heading that say how large the graph is and what a pass did to it."""
    if before is None or changed is None:
        return [f"{len(graph.nodes)} nodes"]
    lines = [f"{len(before.nodes)} → {len(graph.nodes)} nodes: {changed}"]
    if changed.gone:
        ops = Counter(node.op.name for node in changed.gone)
        names = (f"{count} {name}" if count > 1 else name for name, count in sorted(ops.items()))
        lines.append(elide(f"gone: {', '.join(names)}", _MAX_HEADING))
    return lines

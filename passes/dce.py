"""Dead-code removal."""

from dataclasses import dataclass

from needle_ir.ir import Application, Graph, Node, announce, topological, watched


@dataclass(frozen=True)
class DCE:
    """Drops what neither an output nor an effect needs. Inputs stay: they are the signature."""

    name = "dce"

    def run(self, graph: Graph) -> Graph:
        """The graph without unused nodes."""
        if not graph.unused:
            return graph
        kept = _refused(graph) if watched() else set()
        if kept.issuperset(graph.unused):
            return graph
        unused = [node for node in graph.unused if node in kept]
        return Graph(graph.inputs, graph.outputs, graph.effects, unused, graph.name)


def _refused(graph: Graph) -> set[Node]:
    """The unused nodes that somebody who looks on wants to keep."""
    needed = [*graph.inputs, *topological([*graph.outputs, *graph.effects])]
    kept = set()
    goes: list[Node] = []  # with the next one of the unused nodes
    for node in topological(graph.unused, done=needed):
        goes.append(node)
        if node in graph.unused:
            if not announce(Application("dce", node, node, tuple(reversed(goes)), new=())):
                kept.add(node)
            goes = []
    return kept

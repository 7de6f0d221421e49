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
        if not watched():
            return Graph(graph.inputs, graph.outputs, graph.effects, name=graph.name)
        refused, dead = _refused(graph)
        if refused and len(refused) == dead:
            return graph
        return Graph(graph.inputs, graph.outputs, graph.effects, refused, graph.name)


def _refused(graph: Graph) -> tuple[list[Node], int]:
    """The dead nodes that somebody who looks on wants to keep, and how many are dead."""
    needed = [*graph.inputs, *topological([*graph.outputs, *graph.effects])]
    unused = set(graph.unused)
    refused: list[Node] = []
    dead = 0
    goes: list[Node] = []  # what only the next one of the unused nodes needs
    for node in topological(graph.unused, done=needed):
        goes.append(node)
        if node in unused:
            dead += 1
            if not announce(Application("dce", node, node, tuple(reversed(goes)), new=())):
                refused.append(node)
            goes = []
    return refused, dead

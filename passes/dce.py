"""Dead-code removal."""

from dataclasses import dataclass

from needle_ir.ir import Graph


@dataclass(frozen=True)
class DCE:
    """Drops what neither an output nor an effect needs. Inputs stay: they are the signature."""

    name = "dce"

    def run(self, graph: Graph) -> Graph:
        """The graph without unused nodes."""
        if not graph.unused:
            return graph
        return Graph(graph.inputs, graph.outputs, graph.effects, name=graph.name)

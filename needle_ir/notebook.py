"""How a graph shows itself in a notebook."""

from needle_ir.ir import Graph

# Seconds that a cell waits for the layout; then the graph is drawn by its modules.
_TIMEOUT = 10.0


def graph_svg(graph: Graph) -> str:
    """The picture of a graph as SVG text. What is different from `viz.to_svg` is told in it."""
    from needle_ir.viz import to_svg

    return to_svg(graph, timeout=_TIMEOUT, report=lambda note: None)

"""How a notebook shows graphs, plans and profiles: the picture beside the text."""

from needle_ir.ir import Graph, Plan, Representable

# Seconds that a cell waits for the layout; then the graph is drawn by its modules.
_TIMEOUT = 10.0


def picture(shown: Representable) -> str | None:
    """The picture as SVG text; None for what has none, such as a profile in which nothing ran.

    What is different from `viz.to_svg` is told in it.
    """
    from needle_ir.viz import Timed, to_svg

    has_picture = isinstance(shown, Graph | Plan) or bool(getattr(shown, "graphs", ()))
    if has_picture and isinstance(shown, Graph | Plan | Timed):
        return to_svg(shown, timeout=_TIMEOUT, report=lambda note: None)
    return None

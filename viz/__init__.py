"""Pictures: a graph as DOT and SVG, and a dump of every pass."""

if __name__ != "needle_ir.viz":
    raise ImportError("this folder is imported as `needle_ir.viz`, not as `viz`")

from needle_ir.viz.changes import Changes, changes
from needle_ir.viz.dot import to_dot
from needle_ir.viz.dump import GraphDumper
from needle_ir.viz.render import DotError, DotMissingError, DotTimeoutError, render_svg
from needle_ir.viz.style import LOOKS, Kind, Look, kind_of

__all__ = [
    "LOOKS",
    "Changes",
    "DotError",
    "DotMissingError",
    "DotTimeoutError",
    "GraphDumper",
    "Kind",
    "Look",
    "changes",
    "kind_of",
    "render_svg",
    "to_dot",
]

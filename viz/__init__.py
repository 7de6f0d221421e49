"""Pictures: a graph, a plan, a change or a profile as DOT and SVG, and a dump of every pass."""

if __name__ != "needle_ir.viz":
    raise ImportError("this folder is imported as `needle_ir.viz`, not as `viz`")

from needle_ir.viz.change import Change, Mark
from needle_ir.viz.dot import to_dot
from needle_ir.viz.dump import GraphDumper
from needle_ir.viz.picture import picture_format, save_picture, to_svg
from needle_ir.viz.render import DotError, DotMissingError, DotTimeoutError, render_svg
from needle_ir.viz.style import LOOKS, Kind, Look, kind_of
from needle_ir.viz.subject import LEVELS, Drawable, Heat, Level, Timed

__all__ = [
    "LEVELS",
    "LOOKS",
    "Change",
    "DotError",
    "DotMissingError",
    "DotTimeoutError",
    "Drawable",
    "GraphDumper",
    "Heat",
    "Kind",
    "Level",
    "Look",
    "Mark",
    "Timed",
    "kind_of",
    "picture_format",
    "render_svg",
    "save_picture",
    "to_dot",
    "to_svg",
]

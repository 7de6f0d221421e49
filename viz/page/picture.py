"""The pictures of a page: SVG whose boxes can be clicked, and what is in each of them."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from needle_ir.ir import Node
from needle_ir.viz.dot import dot_of
from needle_ir.viz.draw import draw
from needle_ir.viz.drawing import Drawing
from needle_ir.viz.render import DotError, DotMissingError, DotTimeoutError, dot_svg
from needle_ir.viz.subject import Drawable, Level
from needle_ir.viz.svg import svg_of

MAX_BOXES = 800
"""With more boxes than these no level but the module level is drawn: nobody could read it."""

_SVG = "http://www.w3.org/2000/svg"
_DECIMALS = re.compile(r"(-?\d+\.\d)\d+")
_COORDINATES = ("d", "points", "x", "y", "cx", "cy", "rx", "ry", "width", "height")
# The page says these for all pictures at once, or has no use for them.
_DROPPED = ("font-family", "id", "class")

ET.register_namespace("", _SVG)


@dataclass(frozen=True)
class PagePicture:
    """A picture of a page.

    A box is a `g` with `data-box`, an edge one with `data-ends`, its two boxes. `values` has the
    names of the values in each box, `texts` the statement of each box that is one op inside of an
    opened node. `caption` are the lines of the heading, `legend` its cells: word, fill, border,
    style. `notes` say how the picture differs from what was asked for.
    """

    svg: str | None
    values: Mapping[str, list[str]]
    texts: Mapping[str, str]
    marks: Mapping[str, str]
    caption: tuple[str, ...]
    legend: tuple[tuple[str, str, str, str], ...]
    notes: tuple[str, ...]
    boxes: int

    def as_data(self) -> dict[str, Any]:
        """The picture as what JSON can hold."""
        return {
            "svg": self.svg,
            "values": self.values,
            "texts": self.texts,
            "marks": self.marks,
            "caption": self.caption,
            "legend": self.legend,
            "notes": self.notes,
            "boxes": self.boxes,
        }


@dataclass
class Limits:
    """What the layouts of a page may take: `timeout` seconds each.

    Where one took longer, `dot` is not asked again for pictures of as many boxes at that level.
    """

    timeout: float
    too_large: dict[Level, int] = field(default_factory=dict)

    def refuse(self, level: Level, boxes: int) -> None:
        """Remember that a layout took too long."""
        self.too_large[level] = min(boxes, self.too_large.get(level, boxes))

    def allow(self, level: Level, boxes: int) -> bool:
        """Whether a layout is worth a try."""
        return boxes < self.too_large.get(level, boxes + 1)


def page_picture(
    drawable: Drawable, level: Level, names: Mapping[Node, str], limits: Limits
) -> PagePicture:
    """The picture of a graph, a plan, a change or a profile; `names` are those of its values.

    It has no SVG where it has more than MAX_BOXES boxes and is not at the module level. Where
    `dot` is missing, fails or takes too long, the layout is our own, and a note says so.
    """
    drawing = draw(drawable, level=level, names=names)
    boxes = len(drawing.boxes)
    if boxes > MAX_BOXES and level != "module":
        return _picture(drawing, names, None, (f"{boxes} boxes are too many to draw",))
    # The page tells more of a box than a tooltip does.
    untold = tuple(replace(box, tooltip="") for box in drawing.boxes)
    bare = replace(drawing, heading=(), legend=(), boxes=untold)
    notes: tuple[str, ...] = ()
    if limits.allow(level, boxes):
        try:
            svg = dot_svg(dot_of(bare), limits.timeout)
        except DotError as error:
            if isinstance(error, DotTimeoutError):
                limits.refuse(level, boxes)
            svg, notes = svg_of(bare), (_note(error),)
    else:
        svg = svg_of(bare)
        notes = (f"laid out without Graphviz: {boxes} boxes would take longer than its limit",)
    return _picture(drawing, names, slim(svg), notes)


def _note(error: DotError) -> str:
    if isinstance(error, DotMissingError):
        return "laid out without Graphviz, which is not installed"
    return f"laid out without Graphviz: {error}"


def _picture(
    drawing: Drawing, names: Mapping[Node, str], svg: str | None, notes: tuple[str, ...]
) -> PagePicture:
    values: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    marks: dict[str, str] = {}
    for box in drawing.boxes:
        values[box.id] = [*dict.fromkeys(names[unit.owner] for unit in box.units)]
        if len(box.units) == 1 and box.units[0].opened:
            texts[box.id] = box.units[0].text
        found = {unit.mark for unit in box.units if unit.mark is not None}
        if found and box.look is not None:
            marks[box.id] = found.pop().value if len(found) == 1 else "touched"
    return PagePicture(
        svg=svg,
        values=values,
        texts=texts,
        marks=marks,
        caption=drawing.heading[1:],
        legend=tuple((x.text, x.fill, x.border, x.style) for x in drawing.legend),
        notes=notes,
        boxes=len(drawing.boxes),
    )


def slim(svg: str) -> str:
    """An SVG text of `dot` or of our own layout without what the page does not need: background,
    tooltips, fonts. Boxes and edges get the attributes by which the page knows them.
    """
    root = ET.fromstring(svg)
    for part in [root, *root]:
        for child in [*part]:
            if _tag(child) in ("polygon", "rect"):
                part.remove(child)  # the background: boxes and frames are in groups
                break
    _slim(root)
    size = {name: root.get(name, "").removesuffix("pt") for name in ("width", "height")}
    for name, value in size.items():
        root.set(name, value)
    return ET.tostring(root, encoding="unicode")


def _slim(root: ET.Element) -> None:
    stack = [root]
    while stack:
        element = stack.pop()
        _name_group(element)
        for name in _DROPPED:
            element.attrib.pop(name, None)
        if _tag(element) != "svg":
            for name in _COORDINATES:
                if name in element.attrib:
                    element.set(name, _DECIMALS.sub(r"\1", element.attrib[name]))
        element[:] = [child for child in _opened(element) if _tag(child) != "title"]
        if _tag(element) not in ("text", "tspan"):
            element.text = element.tail = None
        stack += element


def _opened(element: ET.Element) -> Iterator[ET.Element]:
    """The children; of a link, and of the group that dot puts around one, those of the link."""
    for child in element:
        is_link = _tag(child) == "a" or (child.get("id") or "").startswith("a_")
        yield from _opened(child) if is_link else (child,)


def _name_group(element: ET.Element) -> None:
    """Give a group the attributes of a box or of an edge."""
    title = next((child for child in element if _tag(child) == "title"), None)
    words = "" if title is None else title.text or ""
    if element.get("class") == "node":
        id = element.get("id") or ""
        # dot numbers its groups and puts the id in the title; our own have it as theirs.
        is_dots = re.fullmatch(r"node\d+", id) is not None
        element.set("data-box", words if is_dots else id)
    elif element.get("class") == "edge":
        element.set("data-ends", " ".join(words.split("->")))


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]

"""A drawing as SVG, laid out without Graphviz."""

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from needle_ir.viz.clusters import clusters
from needle_ir.viz.drawing import Arrow, Box, Drawing, LegendCell, Line, Span, small
from needle_ir.viz.label import printable
from needle_ir.viz.layered import Area, Placement, line_height, line_width, place
from needle_ir.viz.layers import Point
from needle_ir.viz.style import (
    BACKGROUND,
    EDGE_SIZE,
    FAINT,
    FONT,
    MODULE_LOOK,
    NODE_SIZE,
    PHASE_LOOK,
    TEXT,
    TITLE_SIZE,
    WARNING,
    Look,
)

_MARGIN = 10.0
_BASELINE = 0.8  # of a line of words, from its top
_ROUND = 7
_LEGEND_HEIGHT, _LEGEND_GAP = 17.0, 6.0
_DASHES = {"dashed": "5,3", "dotted": "1,3"}


def svg_of(drawing: Drawing) -> str:
    """The SVG text of a drawing: frames below edges below boxes, so that words stay readable."""
    placement = place(drawing)
    heading, top, least = _heading(drawing)
    width = max(placement.width, least) + 2 * _MARGIN
    height = placement.height + top + 2 * _MARGIN
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}pt" height="{height:.0f}pt" '
        f'viewBox="0 0 {width:.2f} {height:.2f}" font-family="{escape(FONT)}">',
        f"<title>{_text(drawing.heading[0] if drawing.heading else drawing.name)}</title>",
        _rectangle(Area(0, 0, width, height), BACKGROUND, "none", 0, 0),
        f'<g transform="translate({_MARGIN:g} {_MARGIN:g})">',
        *heading,
        f'<g transform="translate(0 {top:.2f})">',
        *_frames(drawing, placement),
        *_arrows(drawing, placement),
        *(_box(box, placement.boxes[box.id]) for box in drawing.boxes),
        "</g>",
        "</g>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _heading(drawing: Drawing) -> tuple[list[str], float, float]:
    """The heading and the legend, with their height and width."""
    lines: list[Line] = [(Span(x, TITLE_SIZE, TEXT, True),) for x in drawing.heading[:1]]
    lines += map(small, drawing.heading[1:])
    lines += [(Span(line, NODE_SIZE, WARNING, True),) for line in drawing.warnings]
    result, y = [], 0.0
    for line in lines:
        result.append(_words(line, 0, y, "start"))
        y += line_height(line)
    width = max(map(line_width, lines), default=0.0)
    if drawing.legend:
        cells, legend_width = _legend(drawing.legend, y + _LEGEND_GAP)
        result += cells
        width, y = max(width, legend_width), y + _LEGEND_HEIGHT + 2 * _LEGEND_GAP
    return result, y, width


def _legend(cells: Sequence[LegendCell], y: float) -> tuple[list[str], float]:
    result, x = [], 0.0
    for cell in cells:
        line = small(cell.text, TEXT)
        area = Area(x, y, line_width(line) + 10, _LEGEND_HEIGHT)
        radius = _ROUND if cell.style == "rounded" else 0
        dashes = _DASHES.get(cell.style, "")
        result.append(_rectangle(area, cell.fill, cell.border, cell.width, radius, dashes))
        result.append(_words(line, x + area.width / 2, y + 3, "middle"))
        x += area.width + _LEGEND_GAP
    return result, x


def _frames(drawing: Drawing, placement: Placement) -> Iterator[str]:
    for frame in clusters([*(box.place for box in drawing.boxes), *drawing.frames])[1:]:
        look = PHASE_LOOK if frame.is_phase else MODULE_LOOK
        note = drawing.frames.get(frame.path)
        fill = look["fillcolor"] if note is None or note.fill is None else note.fill
        text = frame.label if note is None else f"{frame.label} · {note.text}"
        area = placement.frames[frame.path]
        yield _rectangle(area, fill, look["color"], 1, _ROUND)
        span = Span(text, float(look["fontsize"]), look.get("fontcolor", TEXT))
        yield _words((span,), area.x + 8, area.y + 3, "start")


def _box(box: Box, area: Area) -> str:
    middle = area.x + area.width / 2
    y = area.y + (area.height - sum(map(line_height, box.lines))) / 2
    words = []
    for line in box.lines:
        words.append(_words(line, middle, y, "middle"))
        y += line_height(line)
    shape = "" if box.look is None else _shape(area, box.look)
    title = f"<title>{_text(box.tooltip)}</title>"
    return f'<g class="node" id="{box.id}">{title}{shape}{"".join(words)}</g>'


def _shape(area: Area, look: Look) -> str:
    radius = _ROUND if "rounded" in look.style else 0
    dashes = next((dash for word, dash in _DASHES.items() if word in look.style), "")
    x, y, width, height = area
    outside = ""
    if look.is_double:
        around = Area(x - 3, y - 3, width + 6, height + 6)
        outside = _rectangle(around, "none", look.border, 1, radius and radius + 3, dashes)
    style = f'fill="{look.fill}" stroke="{look.border}" stroke-width="{look.width:g}"'
    if look.shape == "oval":
        centre = f'cx="{x + width / 2:.1f}" cy="{y + height / 2:.1f}"'
        return f'{outside}<ellipse {centre} rx="{width / 2:.1f}" ry="{height / 2:.1f}" {style}/>'
    inside = ""
    if look.shape == "note":
        fold = f"M{x + width - 7:.1f},{y:.1f}v7h7"
        inside = f'<path d="{fold}" fill="none" stroke="{look.border}"/>'
    if look.shape == "component":
        tabs = (Area(x - 4, y + height * part - 2, 8, 4) for part in (0.25, 0.75))
        inside = "".join(_rectangle(tab, look.fill, look.border, 1, 0) for tab in tabs)
    body = _rectangle(area, look.fill, look.border, look.width, radius, dashes)
    return outside + body + inside


def _arrows(drawing: Drawing, placement: Placement) -> Iterator[str]:
    leaving = Counter(arrow.tail for arrow in drawing.arrows)
    coming = Counter(arrow.head for arrow in drawing.arrows)
    for number, arrow in enumerate(drawing.arrows):
        # Words stand where fewer edges are near: away from an end that is shared.
        share = 0.5 + 0.25 * (leaving[arrow.tail] > 1) - 0.25 * (coming[arrow.head] > 1)
        yield _arrow(arrow, placement, placement.bends.get(number, []), share)


def _arrow(arrow: Arrow, placement: Placement, bends: Sequence[Point], share: float) -> str:
    tail, head = placement.boxes[arrow.tail], placement.boxes[arrow.head]
    if not arrow.pushes and (_right(tail) < head.x or _right(head) < tail.x):
        path, tip, middle = _sideways(tail, head)
    else:
        path, tip, middle = _downwards(tail, head, bends, share)
    dashes = ' stroke-dasharray="4,3"' if arrow.is_dashed else ""
    line = f'fill="none" stroke="{arrow.colour}" stroke-width="{arrow.width:g}"{dashes}'
    result = f'<path d="{path}" {line}/><path d="{tip}" fill="{arrow.colour}"/>'
    x, y = middle
    for i, text in enumerate(arrow.lines):
        top = y + (i - len(arrow.lines) / 2) * 1.2 * EDGE_SIZE
        result += _words((Span(text, EDGE_SIZE, FAINT),), x + 3, top, "start")
    ends = _text(f"{arrow.tail}->{arrow.head}")
    return f'<g class="edge"><title>{ends}</title>{result}</g>'


def _downwards(
    tail: Area, head: Area, bends: Sequence[Point], share: float
) -> tuple[str, str, Point]:
    """The path of an edge from box to box, its arrow head, and where its words go: after this share
    of its way.
    """
    is_down = tail.y <= head.y
    start = (tail.x + tail.width / 2, tail.y + tail.height * is_down)
    end = (head.x + head.width / 2, head.y + head.height * (not is_down))
    points = [start, *(bends if is_down else bends[::-1]), end]
    path = f"M{start[0]:.1f},{start[1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        half = (y1 - y0) / 2
        path += f"C{x0:.1f},{y0 + half:.1f} {x1:.1f},{y1 - half:.1f} {x1:.1f},{y1:.1f}"
    tip = f"M{end[0]:.1f},{end[1]:.1f}l-2.5,{-5 if is_down else 5}h5z"
    segment = round(share * (len(points) - 2))
    (x0, y0), (x1, y1) = points[segment : segment + 2]
    return path, tip, (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share)


def _sideways(tail: Area, head: Area) -> tuple[str, str, Point]:
    """The same for an edge from column to column."""
    is_right = tail.x <= head.x
    x0, x1 = (_right(tail), head.x) if is_right else (tail.x, _right(head))
    y0, y1 = tail.y + tail.height / 2, head.y + head.height / 2
    half = (x1 - x0) / 2
    path = f"M{x0:.1f},{y0:.1f}C{x0 + half:.1f},{y0:.1f} {x1 - half:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
    tip = f"M{x1:.1f},{y1:.1f}l{-5 if is_right else 5},-2.5v5z"
    return path, tip, (x0 + half, (y0 + y1) / 2)


def _right(area: Area) -> float:
    return area.x + area.width


def _words(line: Line, x: float, y: float, anchor: str) -> str:
    """A line of words with its upper edge at `y`."""
    baseline = y + _BASELINE * line_height(line)
    spans = "".join(map(_span, line))
    return f'<text x="{x:.1f}" y="{baseline:.1f}" text-anchor="{anchor}">{spans}</text>'


def _span(span: Span) -> str:
    weight = ' font-weight="bold"' if span.is_bold else ""
    size = f'font-size="{span.size:g}" fill="{span.colour}"'
    return f'<tspan {size}{weight} xml:space="preserve">{_text(span.text)}</tspan>'


def _rectangle(
    area: Area, fill: str, border: str, width: float, radius: float, dashes: str = ""
) -> str:
    place = f'x="{area.x:.1f}" y="{area.y:.1f}" width="{area.width:.1f}" height="{area.height:.1f}"'
    corners = f' rx="{radius:g}"' if radius else ""
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    line = f'stroke="{border}" stroke-width="{width:g}"' if width else 'stroke="none"'
    return f'<rect {place}{corners} fill="{fill}" {line}{pattern}/>'


def _text(text: str) -> str:
    return escape("\n".join(map(printable, text.split("\n"))))

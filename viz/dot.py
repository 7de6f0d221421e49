"""A drawing as Graphviz DOT. Labels are in its HTML-like form, which knows type sizes."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from needle_ir.viz.clusters import Cluster, clusters
from needle_ir.viz.draw import draw
from needle_ir.viz.drawing import Arrow, Box, Drawing, FrameNote, LegendCell, Line, Span, small
from needle_ir.viz.label import printable
from needle_ir.viz.style import (
    EDGE_LOOK,
    GRAPH_LOOK,
    INVISIBLE_LOOK,
    LINE,
    MODULE_LOOK,
    NODE_LOOK,
    NODE_SIZE,
    PHASE_LOOK,
    ROWS_LOOK,
    STAND_IN_LOOK,
    TEXT,
    TITLE_SIZE,
    WARNING,
    Look,
    attribute_text,
)
from needle_ir.viz.subject import Drawable, Level

if TYPE_CHECKING:
    import graphviz

_LEGEND_COLUMNS = 6


def to_dot(
    drawable: Drawable,
    *,
    level: Level | None = None,
    collapse: Sequence[str] | None = None,
    title: str | None = None,
    legend: bool = True,
    max_label: int = 32,
) -> "graphviz.Digraph":
    """The picture of a graph, a plan, a change or a profile. What is equal gives equal text.

    `level` is what a box is: a call of a `module`, a node with `composite` ops closed, a
    `primitive` op, or a call of a `kernel`; by default `kernel` for a plan, else `composite`.
    `collapse` names modules to draw as one box at the other levels; by default, those that a
    change left alone.

    Node `n7` is the eighth of the graph in topological order, `n7_2` the third inside of it, `r7`
    the eighth of the graph before the change, `m7` a module. An edge goes from operand to reader;
    it says the operand's position where the order matters, the views that it looks through, and
    the type that is read, and is wider for more bytes. Constants stand in the label of what reads
    them, `power(·, 2.0)`. Where an edge would go from one phase to another, or one op has many
    readers, a small name stands in for the operand; at the module level the phases stand side by
    side. Outputs have a double border; effects say their number in program order.

    `title` replaces the graph's name in the heading, `legend` explains the looks. Names,
    attributes and types are cut to `max_label` characters. Raises TypeError for what can not be
    drawn, ValueError for an unknown level or a profile that does not fit its graph.
    """
    return dot_of(
        draw(
            drawable,
            level=level,
            collapse=collapse,
            title=title,
            legend=legend,
            max_label=max_label,
        )
    )


def dot_of(drawing: Drawing) -> "graphviz.Digraph":
    """The DOT text of a drawing."""
    import graphviz

    heading = {"label": _heading(drawing)} if drawing.heading else {}
    dot = graphviz.Digraph(
        _plain(drawing.name),
        graph_attr=GRAPH_LOOK | (ROWS_LOOK if drawing.rows else {}) | heading,
        node_attr=NODE_LOOK,
        edge_attr=EDGE_LOOK,
    )
    _add_boxes(dot, drawing)
    invisible = attribute_text(INVISIBLE_LOOK)
    beside = {(arrow.tail, arrow.head) for arrow in drawing.arrows if arrow.is_level}
    for row in drawing.rows:
        dot.body.append(f"\t{{ rank=same; {'; '.join(row)} }}\n")
        for left, right in pairwise(row):
            if (left, right) not in beside:
                dot.body.append(f"\t{left} -> {right} [{invisible}]\n")
    for arrow in drawing.arrows:
        dot.body.append(_edge(arrow))
    for upper, lower in drawing.pairs:
        dot.body.append(f"\t{upper} -> {lower} [{invisible}]\n")
    return dot


def _add_boxes(dot: "graphviz.Digraph", drawing: Drawing) -> None:
    """Add every box to its cluster, and every cluster to the one around it."""
    outermost, *inner = clusters([*(box.place for box in drawing.boxes), *drawing.frames])
    frames = {outermost.path: dot}
    for cluster in inner:
        name = _plain("/".join(("cluster", *filter(None, cluster.path))))
        line = _frame(cluster, drawing.frames.get(cluster.path))
        frames[cluster.path] = type(dot)(name, body=[line])
    for box in drawing.boxes:
        frames.get(box.place, dot).body.append(_node(box))
    for cluster in reversed((outermost, *inner)):
        for child in cluster.children:
            frames[cluster.path].subgraph(frames[child.path])


def _frame(cluster: Cluster, note: FrameNote | None) -> str:
    look = dict(PHASE_LOOK if cluster.is_phase else MODULE_LOOK)
    text = cluster.label
    if note is not None:
        text += f" · {note.text}"
        look |= {} if note.fill is None else {"fillcolor": note.fill, "fontcolor": TEXT}
    return f"\tgraph [label={_quoted(text)} {attribute_text(look)}]\n"


def _node(box: Box) -> str:
    tooltip = "&#10;".join(_quoted(line)[1:-1] for line in box.tooltip.split("\n"))
    if box.look is None:
        label, look = _quoted("".join(span.text for span in box.lines[0])), STAND_IN_LOOK
    else:
        label, look = f"<{'<br/>'.join(map(_html, box.lines))}>", _node_look(box.look)
    return f'\t{box.id} [label={label} {attribute_text(look)} tooltip="{tooltip}"]\n'


def _node_look(look: Look) -> dict[str, str]:
    attributes = {"shape": look.shape, "style": look.style, "fillcolor": look.fill}
    attributes["color"] = look.border
    if look.is_double:
        attributes["peripheries"] = "2"
    if look.width != 1:
        attributes["penwidth"] = f"{look.width:g}"
    return attributes


def _edge(arrow: Arrow) -> str:
    attributes = []
    if arrow.lines:
        label = "\\n".join(f" {_quoted(line)[1:-1]} " for line in arrow.lines)
        attributes.append(f'{"xlabel" if arrow.is_level else "label"}="{label}"')
    attributes.append(f"penwidth={arrow.width:g}")
    if arrow.colour != LINE:
        attributes.append(f'color="{arrow.colour}"')
    if arrow.is_dashed:
        attributes.append("style=dashed")
    if not arrow.pushes and not arrow.is_level:
        attributes.append("constraint=false")
    ends = (arrow.tail, arrow.head)
    if arrow.is_upward:
        # `dot` puts the head below the tail: the backward pass goes up with its arrows turned.
        ends = (arrow.head, arrow.tail)
        attributes.append("dir=back")
    return f"\t{ends[0]} -> {ends[1]} [{' '.join(attributes)}]\n"


def _heading(drawing: Drawing) -> str:
    """The heading of a picture: its lines, the first one large, and the legend."""
    first, *others = drawing.heading
    lines: list[Line] = [(Span(first, TITLE_SIZE, TEXT, True),), *map(small, others)]
    lines += [(Span(line, NODE_SIZE, WARNING, True),) for line in drawing.warnings]
    rows = [f'<tr><td align="left">{_html(line)}</td></tr>' for line in lines]
    starts = range(0, len(drawing.legend), _LEGEND_COLUMNS)
    legend = "".join(_legend_row(drawing.legend[i : i + _LEGEND_COLUMNS]) for i in starts)
    if legend:
        table = f'<table border="0" cellspacing="4" cellpadding="3">{legend}</table>'
        rows.append(f'<tr><td align="left">{table}</td></tr>')
    return f'<<table border="0" cellspacing="0" cellpadding="1">{"".join(rows)}</table>>'


def _legend_row(cells: Iterable[LegendCell]) -> str:
    return f"<tr>{''.join(map(_legend_cell, cells))}</tr>"


def _legend_cell(cell: LegendCell) -> str:
    style = f' style="{cell.style}"' if cell.style else ""
    text = _html(small(cell.text, TEXT))
    return (
        f'<td border="{cell.width}" color="{cell.border}" bgcolor="{cell.fill}"{style}>{text}</td>'
    )


def _html(line: Line) -> str:
    return "".join(map(_html_span, line))


def _html_span(span: Span) -> str:
    text = escape(printable(span.text))
    text = f"<b>{text}</b>" if span.is_bold else text
    size = "" if span.size == NODE_SIZE else f' point-size="{span.size:g}"'
    colour = "" if span.colour == TEXT else f' color="{span.colour}"'
    return f"<font{size}{colour}>{text}</font>" if size or colour else text


def _plain(text: str) -> str:
    """`text` for the graphviz library to show as it is: no escapes, entities or HTML-like form."""
    import graphviz

    result: str = graphviz.escape(printable(text).replace("&", "&amp;"))
    return result


def _quoted(text: str) -> str:
    """`text` as a DOT string that is shown as it is."""
    escaped = printable(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

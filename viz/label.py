"""The words in a picture: labels of nodes, tooltips, the heading with the legend.

Labels are in Graphviz's HTML-like form, which knows small type.
"""

from collections.abc import Collection, Iterable, Mapping
from html import escape
from typing import Any

from needle_ir.ir import CONSTANT, INPUT, Graph, Node, Origin, print_attr, statement
from needle_ir.viz.style import FAINT, LOOKS, NEW, Kind

_MAX_ATTRIBUTE_LINES = 3
_MAX_CONSTANT = 8
_LEGEND_COLUMNS = 5


def node_label(
    node: Node,
    name: str,
    literals: Mapping[int, tuple[Node, bool]],
    roles: Iterable[str],
    max_label: int,
) -> str:
    """The label of a node: what it does, its attributes, `%name : type`, its roles.

    `literals` are the constants, by operand position, that are written into the label, each with
    whether to mark it as new. `roles` are lines such as `output 0`.
    """
    lines = [_call(node, name, literals, max_label)]
    lines += [_small(line) for line in _attribute_lines(node, max_label)]
    result = str(node.type) if node.op is INPUT else f"{name} : {node.type}"
    lines.append(_small(elide(result, max_label)))
    lines += [f'<font point-size="9"><b>{_text(role)}</b></font>' for role in roles]
    return f"<{'<br/>'.join(lines)}>"


def stand_in_name(node: Node, name: str, max_label: int) -> str:
    """The small name that stands in for a node: `%x` for an input, `%7 exp` for another one."""
    return elide(name if node.op is INPUT else f"{name} {node.op.name}", max_label)


def heading(lines: Iterable[str], kinds: Collection[Kind], any_new: bool) -> str:
    """The heading of a picture: its lines, the first one large, and a legend of `kinds`."""
    first, *others = lines
    rows = [_row(f'<font point-size="14"><b>{_text(first)}</b></font>'), *map(_row_of_text, others)]
    cells = [_legend_cell(kind) for kind in Kind if kind in kinds]
    if cells and any_new:
        text = f'<font point-size="9" color="{NEW}"><b>new</b></font>'
        cells.append(f'<td border="2" color="{NEW}">{text}</td>')
    if cells:
        starts = range(0, len(cells), _LEGEND_COLUMNS)
        legend = "".join(f"<tr>{''.join(cells[i : i + _LEGEND_COLUMNS])}</tr>" for i in starts)
        rows.append(_row(f'<table border="0" cellspacing="4" cellpadding="3">{legend}</table>'))
    return f'<<table border="0" cellspacing="0" cellpadding="1">{"".join(rows)}</table>>'


def tooltips(graph: Graph, names: dict[Node, str]) -> dict[Node, str]:
    """What a node says under the mouse: its statement in the text form, and the user's line."""
    lines: dict[Origin | None, str] = {None: ""}
    result: dict[Node, str] = {}
    for node in graph.nodes:
        if node.origin not in lines:
            lines[node.origin] = f"  # {node.origin}"
        text = f"{names[node]} : {node.type}" if node.op is INPUT else statement(node, names)
        result[node] = text + lines[node.origin]
    return result


def plain(text: str) -> str:
    """`text` for the graphviz library to show as it is: no escapes, entities or HTML-like form."""
    import graphviz

    result: str = graphviz.escape(_printable(text).replace("&", "&amp;"))
    return result


def quoted(text: str) -> str:
    """`text` as a DOT string that is shown as it is."""
    escaped = _printable(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def elide(text: str, limit: int) -> str:
    """`text`, cut to `limit` characters with an ellipsis at the end."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _call(node: Node, name: str, literals: Mapping[int, tuple[Node, bool]], max_label: int) -> str:
    if node.op is INPUT:
        return _text(elide(name, max_label))
    title = _text(elide(node.op.name, max_label))
    if not literals:
        return title
    operands = ["·"] * len(node.inputs)
    for position, (constant, is_new) in literals.items():
        text = _text(_scalar(constant))
        operands[position] = f'<font color="{NEW}"><b>{text}</b></font>' if is_new else text
    return f"{title}({', '.join(operands)})"


def _scalar(constant: Node) -> str:
    """A scalar in as few digits as its own dtype needs: 0.1, not 0.10000000149011612."""
    return str(constant.attrs["value"][()]).lower()


def _attribute_lines(node: Node, max_label: int) -> list[str]:
    """The attributes that tell something, in lines of at most `max_label` characters."""
    if node.op is INPUT:
        return []
    if node.op is CONSTANT:
        value = node.attrs["value"]
        return [elide(print_attr(value), max_label)] if value.size <= _MAX_CONSTANT else []
    lines: list[str] = []
    for name, value in node.attrs.items():
        if _says_nothing(node, value):
            continue
        text = elide(f"{name}={print_attr(value)}", max_label)
        if lines and len(lines[-1]) + len(text) + 2 <= max_label:
            lines[-1] += f", {text}"
        else:
            lines.append(text)
    return (
        lines if len(lines) <= _MAX_ATTRIBUTE_LINES else [*lines[: _MAX_ATTRIBUTE_LINES - 1], "…"]
    )


def _says_nothing(node: Node, value: Any) -> bool:
    """Whether an attribute is an option that is off, or is seen in the result's type."""
    if value is None or value is False:
        return True
    if isinstance(value, tuple):
        return value == node.shape
    return isinstance(value, type(node.dtype)) and value == node.dtype


def _text(text: str) -> str:
    return escape(_printable(text))


def _printable(text: str) -> str:
    """`text` with every character that can not be shown written as Python writes it: `\\n`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _small(text: str) -> str:
    return f'<font point-size="9" color="{FAINT}">{_text(text)}</font>'


def _row(content: str) -> str:
    return f'<tr><td align="left">{content}</td></tr>'


def _row_of_text(text: str) -> str:
    return _row(_small(text))


def _legend_cell(kind: Kind) -> str:
    look = LOOKS[kind]
    style = "".join(f' style="{word}"' for word in ("rounded", "dashed") if word in look.style)
    text = f'<font point-size="9">{kind.value}</font>'
    return f'<td border="1" color="{look.border}" bgcolor="{look.fill}"{style}>{text}</td>'

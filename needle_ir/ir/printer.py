"""The text form of a graph. `needle_ir.ir.parser` reads it back."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from needle_ir.ir.graph import Graph
from needle_ir.ir.node import CONSTANT, Array, Node
from needle_ir.ir.registry import written_name
from needle_ir.ir.types import SHORT_NAMES, short_name

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
# How long a line may be for the comments of the others to stand in one column behind it.
_WIDTH = 84


def print_graph(
    graph: Graph, *, origins: bool = True, max_constant: int = 8, full: bool = False
) -> str:
    """The text form of `graph`.

    One line a node, in topological order; a graph inside a node (the body of a cluster) has lines
    of its own. Constants with more than `max_constant` elements are elided; `origins` adds the
    user's line and the module path as a comment.

    With `full` the text stands for the graph: no constant is elided, large ones are base64, and a
    NaN with other bits than NumPy's is written as its bits. The comments have whole paths, and say
    which node is of the backward pass or of an update.
    """
    return "\n".join(_graph_lines(graph, origins, max_constant, full))


def value_names(graph: Graph) -> dict[Node, str]:
    """The name of every node in the text form: `%x` for an input, `%0`, `%1` … for the others."""
    names: dict[Node, str] = {}
    taken: set[str] = set()
    for i, node in enumerate(graph.inputs):
        wanted = node.attrs.get("name") or f"in{i}"
        if not _PLAIN_NAME.fullmatch(wanted):
            wanted = re.sub(r"[^A-Za-z0-9_.]", "_", f"in{i}_{wanted}")
        name = next(n for n in _candidates(wanted) if n not in taken)
        taken.add(name)
        names[node] = f"%{name}"
    for number, node in enumerate(graph.nodes[len(graph.inputs) :]):
        names[node] = f"%{number}"
    return names


def input_name(position: int, written: str) -> str | None:
    """The name of the input at `position` that the text calls `%written`: None for `%in0` at 0."""
    return None if written == f"in{position}" else written


def statement(node: Node, names: Mapping[Node, str], max_constant: int = 8) -> str:
    """One node as the text form has it: `%1 = exp(%0) : f32[4]`. A graph inside it is elided."""
    attrs = ", ".join(
        f"{_name(k)}={print_attr(v, max_constant, typed=node.op is not CONSTANT)}"
        for k, v in node.attrs.items()
    )
    return _statement(node, names, attrs)


def print_attr(
    value: Any, max_constant: int = 8, *, typed: bool = False, full: bool = False
) -> str:
    """One attribute's value in the text form.

    With `typed`, NumPy's own scalars and arrays have their types beside them, so that they are
    told from Python's; in a constant the type of the node says that. With `full`, large arrays are
    not elided.
    """
    if isinstance(value, np.ndarray | np.generic | np.dtype) and not _has_name(value):
        return _elided(value)  # no dtype of the IR: only an attribute of a composite can be one
    if typed and isinstance(value, np.ndarray | np.generic):
        shape = f"[{','.join(map(str, value.shape))}]" if isinstance(value, np.ndarray) else ""
        elements = _print_array(np.asarray(value), max_constant, full)
        return f"{short_name(value.dtype)}{shape}({elements})"
    if isinstance(value, np.ndarray):
        return _print_array(value, max_constant, full)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        items = [print_attr(x, max_constant, typed=typed, full=full) for x in value]
        return f"[{', '.join(items)}]"
    if isinstance(value, np.dtype):
        return short_name(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int | float):
        return repr(value)
    return repr(value) if isinstance(value, Graph) else _elided(value)


def _has_name(value: Any) -> bool:
    dtype = value if isinstance(value, np.dtype) else value.dtype
    return dtype.name in SHORT_NAMES


def _elided(value: object) -> str:
    return f"<{value!r}>".replace("\n", " ")


def _graph_lines(graph: Graph, origins: bool, max_constant: int, full: bool) -> list[str]:
    names = value_names(graph)
    parameters = ", ".join(_parameter(i, x, names[x]) for i, x in enumerate(graph.inputs))
    results = ", ".join(str(node.type) for node in graph.outputs)
    head = f"graph @{_name(graph.name)}({parameters}) -> "
    lines = [f"{head}{_one_or_tuple(results, graph.outputs)} {{"]

    def attr(node: Node, name: str, value: Any) -> str:
        if isinstance(value, Graph):
            inner = "\n".join(_graph_lines(value, origins, max_constant, full))
            indented = inner.replace("\n", "\n  ")
            return f"{_name(name)}={indented}"
        typed = node.op is not CONSTANT
        return f"{_name(name)}={print_attr(value, max_constant, typed=typed, full=full)}"

    body: list[tuple[str, str]] = []
    for node in graph.nodes[len(graph.inputs) :]:
        attrs = ", ".join([attr(node, name, value) for name, value in node.attrs.items()])
        comment = _comment(node, full) if origins else ""
        body.append((f"  {_statement(node, names, attrs)}", comment))
    width = min(max((len(_last_line(text)) for text, _ in body), default=0), _WIDTH)
    for text, comment in body:
        space = " " * (width - len(_last_line(text)))
        lines.append(f"{text}{space}  # {comment}" if comment else text)
    for word, nodes in (("effects", graph.effects), ("unused", graph.unused)):
        if nodes:
            lines.append(f"  {word} {', '.join(names[node] for node in nodes)}")
    returned = ", ".join(names[node] for node in graph.outputs)
    return [*lines, f"  return {returned}".rstrip(), "}"]


def _statement(node: Node, names: Mapping[Node, str], attrs: str) -> str:
    operands = ", ".join([names[operand] for operand in node.inputs])
    call = "constant" if node.op is CONSTANT else f"{_name(written_name(node.op))}({operands})"
    braces = f" {{{attrs}}}" if attrs else ""
    return f"{names[node]} = {call}{braces} : {node.type}"


def _parameter(position: int, node: Node, name: str) -> str:
    """An input; with its name in quotes where the text has to call it by another one."""
    given = node.attrs.get("name")
    said = "" if given == input_name(position, name[1:]) else f" {{name={print_attr(given)}}}"
    return f"{name}: {node.type}{said}"


def _print_array(value: Array, max_constant: int, full: bool) -> str:
    if value.size > max_constant:
        if not full:
            return f"<{value.size} elements>"
        data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
        import base64  # printing a large constant is rare, and importing this is not free

        return f'base64"{base64.b64encode(data.tobytes()).decode()}"'
    if value.ndim:
        rows = [_print_array(np.asarray(row), max_constant, full) for row in value]
        return f"[{', '.join(rows)}]"
    number = value[()]
    if value.dtype.kind != "f":
        return print_attr(number.item())
    if full and number != number and number.tobytes() != value.dtype.type(np.nan).tobytes():
        # Which NaN it is: that of 0 / 0 differs from machine to machine.
        return f"0x{number.tobytes()[::-1].hex()}"
    # The shortest digits that give this number back in its own dtype: 0.1 for float32's 0.1.
    return str(number)


def _comment(node: Node, full: bool) -> str:
    origin = node.origin
    if origin is None:
        return ""
    place = f"{origin.filename}:{origin.line} in {origin.code.co_name}" if full else str(origin)
    module = f", {origin.module}" if origin.module else ""
    phase = f" ({origin.phase})" if full and origin.phase != "forward" else ""
    return f"{place}{module}{phase}".replace("\n", " ")


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    import json  # as above

    return json.dumps(text, ensure_ascii=not text.isprintable())


def _last_line(text: str) -> str:
    return text[text.rfind("\n") + 1 :]


def _one_or_tuple(text: str, items: tuple[Node, ...]) -> str:
    return text if len(items) == 1 else f"({text})"


def _candidates(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        yield f"{name}_{number}"
        number += 1

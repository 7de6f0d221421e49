"""The text form of a graph."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from needle_ir.ir.graph import Graph
from needle_ir.ir.node import CONSTANT, Node
from needle_ir.ir.types import short_name

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def print_graph(graph: Graph, *, origins: bool = True, max_constant: int = 8) -> str:
    """The text form of `graph`.

    One line a node, in topological order; constants with more than `max_constant` elements are
    elided; `origins` adds the user's line and the module path as a comment.
    """
    names = value_names(graph)
    parameters = ", ".join(f"{names[node]}: {node.type}" for node in graph.inputs)
    results = ", ".join(str(node.type) for node in graph.outputs)
    lines = [f"graph @{graph.name}({parameters}) -> {_one_or_tuple(results, graph.outputs)} {{"]
    body = [
        (f"  {statement(node, names, max_constant)}", _comment(node) if origins else "")
        for node in graph.nodes[len(graph.inputs) :]
    ]
    width = min(max((len(text) for text, _ in body), default=0), 84)
    lines += [f"{text:<{width}}  # {comment}" if comment else text for text, comment in body]
    returned = ", ".join(names[node] for node in graph.outputs)
    lines += [f"  return {returned}".rstrip(), "}"]
    return "\n".join(lines)


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


def statement(node: Node, names: Mapping[Node, str], max_constant: int = 8) -> str:
    """One node as the text form has it: `%1 = exp(%0) : f32[4]`."""
    attrs = ", ".join(f"{k}={print_attr(v, max_constant)}" for k, v in node.attrs.items())
    operands = ", ".join(names[operand] for operand in node.inputs)
    call = node.op.name if node.op is CONSTANT else f"{node.op.name}({operands})"
    braces = f" {{{attrs}}}" if attrs else ""
    return f"{names[node]} = {call}{braces} : {node.type}"


def print_attr(value: Any, max_constant: int = 8) -> str:
    """One attribute's value in the text form."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(print_attr(x, max_constant) for x in value)}]"
    if isinstance(value, np.dtype):
        return short_name(value)
    if isinstance(value, np.ndarray):
        return _print_array(value, max_constant)
    if isinstance(value, str):
        return '"' + value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") + '"'
    return repr(value)


def _print_array(value: "np.ndarray[Any, Any]", max_constant: int) -> str:
    if value.size > max_constant:
        return f"<{value.size} elements>"
    if value.ndim == 0:
        # The shortest digits that give this number back in its own dtype: 0.1 for float32's 0.1.
        return str(value[()]) if value.dtype.kind == "f" else print_attr(value.item())
    return f"[{', '.join(_print_array(row, max_constant) for row in value)}]"


def _comment(node: Node) -> str:
    if node.origin is None:
        return ""
    module = f", {node.origin.module}" if node.origin.module else ""
    return f"{node.origin}{module}"


def _one_or_tuple(text: str, items: tuple[Node, ...]) -> str:
    return text if len(items) == 1 else f"({text})"


def _candidates(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        yield f"{name}_{number}"
        number += 1

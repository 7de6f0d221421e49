"""Short ways to write a graph, and to compare its text form with what a test expects."""

from textwrap import dedent
from typing import Any

import numpy as np

from needle_ir.ir import Graph, Node, TensorType, input_node, print_graph


def arg(name: str, *shape: int, dtype: Any = np.float32) -> Node:
    """An input node."""
    return input_node(TensorType(shape, np.dtype(dtype)), name)


def text(graph: Graph) -> str:
    return print_graph(graph, origins=False)


def body(graph: Graph) -> list[str]:
    """The lines between the braces."""
    return [line.strip() for line in text(graph).splitlines()[1:-1]]


def assert_text(graph: Graph, expected: str) -> None:
    assert text(graph) == dedent(expected).strip()

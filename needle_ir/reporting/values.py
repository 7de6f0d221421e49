"""The values of all stages as rows of a table: what stays the same from pass to pass is one row."""

from collections.abc import Mapping
from typing import Any

from needle_ir.explanation.naming import literal
from needle_ir.ir import CONSTANT, INPUT, Cost, Graph, Node, node_costs, print_attr, print_graph
from needle_ir.reporting.sources import Sources
from needle_ir.viz import LOOKS, Kind, kind_of
from needle_ir.viz.style import heaviest

KINDS = list(Kind)


class Values:
    """Rows: name, op, attributes, type, operands, place, FLOPs, bytes moved, kind."""

    def __init__(self, sources: Sources) -> None:
        self.rows: list[list[Any]] = []
        self._sources = sources
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._costs: dict[Node, Cost] = {}

    def of_graph(self, graph: Graph, names: Mapping[Node, str]) -> list[int]:
        """The rows of a graph's values, operands before users, without scalar constants: these
        are written where they are read.
        """
        self._costs |= node_costs(graph)
        return [self.add(node, names) for node in graph.nodes if literal(node) is None]

    def add(self, node: Node, names: Mapping[Node, str]) -> int:
        """The row of a node whose graph was added."""
        operands = [names[operand] for operand in node.inputs]
        cost = self._costs[node]
        place = self._sources.add(node.origin)
        key = (names[node], node.op, node.attrs.key, node.type, place, cost, *operands)
        if key not in self._numbers:
            self._numbers[key] = len(self.rows)
            self.rows.append(
                [
                    names[node],
                    node.op.name,
                    [] if node.op is INPUT else [[k, _text(v)] for k, v in node.attrs.items()],
                    str(node.type),
                    operands,
                    place,
                    cost.flops,
                    cost.bytes_moved,
                    KINDS.index(_kind(node)),
                ]
            )
        return self._numbers[key]


def kinds() -> list[list[str]]:
    """The kinds of ops: word, fill, border."""
    return [[kind.value, LOOKS[kind].fill, LOOKS[kind].border] for kind in KINDS]


def _kind(node: Node) -> Kind:
    """The kind of a node; that of what is in it where it stands for a graph."""
    bodies = [value for value in node.attrs.values() if isinstance(value, Graph)]
    ops = [x.op for body in bodies for x in body.nodes if x.op not in (INPUT, CONSTANT)]
    return heaviest(map(kind_of, ops)) if ops else kind_of(node.op)


def _text(value: Any) -> str:
    return print_graph(value, origins=False) if isinstance(value, Graph) else print_attr(value)

"""Horizontal fusion: many small updates of the same form become one over packed arrays."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from needle_ir.ir import Graph, Node, Trait, inherit_origin
from needle_ir.ops import build
from needle_ir.ops.packing import PACK, UNPACK
from needle_ir.ops.shape import RESHAPE

Lanes = tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class _Column:
    """Nodes, one of each lane, that become one node: one op, or where they differ one pack.

    `operands` are a column for all lanes, or a scalar that they share. A pack has none.
    """

    lanes: Lanes
    operands: "tuple[Node | _Column, ...]" = ()


# How far up two updates must look alike to be fused. Further up, what differs is packed.
_DEPTH = 3


@dataclass(frozen=True)
class Horizontal:
    """Fuses the elementwise chains that lead to outputs of the graph and have the same form.

    26 parameters that an optimizer updates are 26 lanes: the first op of all lanes becomes one op
    over the lanes' operands packed into one array, then the second op, and so on up the chains.
    The outputs are views of the last packed array. Operands that are one and the same scalar for
    all lanes stay scalars. Lanes of more than `max_bytes` stay alone, since there the calls cost
    little beside the work; fewer than `min_lanes` lanes are left as they are.
    """

    max_bytes: int = 65536
    min_lanes: int = 4
    name = "horizontal"

    def run(self, graph: Graph) -> Graph:
        """The graph with the updates fused; every number in it is computed as before."""
        columns = _Columns(graph, self.max_bytes)
        for lanes in columns.seeds():
            if len(lanes) >= self.min_lanes:
                columns.grow(lanes)
        return _rebuild(graph, columns.of) if columns.of else graph


class _Columns:
    """The columns that were found, by the nodes that they replace."""

    def __init__(self, graph: Graph, max_bytes: int):
        self.of: dict[Node, _Column] = {}
        self._graph = graph
        self._max_bytes = max_bytes
        # The most steps from a node down to where the graph ends. Columns of nodes of one height
        # can never wait for each other in a circle: every edge leads to a lower height.
        self._height: dict[Node, int] = {}
        for node in reversed(graph.nodes):
            users = graph.users[node]
            self._height[node] = 1 + max([self._height[x] for x in users], default=-1)

    def seeds(self) -> Iterable[Lanes]:
        """Outputs of the same form, the ends of chains first: they find the longest columns."""
        groups: dict[Hashable, list[Node]] = {}
        for node in sorted(dict.fromkeys(self._graph.outputs), key=self._height.__getitem__):
            if self._has_lanes(node):
                form = (self._height[node], self._form(node, _DEPTH))
                groups.setdefault(form, []).append(node)
        return [tuple(lanes) for lanes in groups.values()]

    def grow(self, seed: Lanes) -> None:
        """Add the column `seed` and those above it, if they are two at least."""
        found: dict[Lanes, list[Node | Lanes]] = {}
        claimed: set[Node] = set()
        waiting = [seed]
        while waiting:
            lanes = waiting.pop()
            if lanes in found or not claimed.isdisjoint(lanes) or not self._is_column(lanes):
                continue
            found[lanes] = _operands(lanes)
            claimed.update(lanes)
            waiting.extend(x for x in found[lanes] if isinstance(x, tuple))
        if len(found) > 1:
            columns: dict[Lanes, _Column] = {}
            # Those found last are nearest to the leaves of the graph.
            for lanes in sorted(found, key=lambda x: -self._height[x[0]]):
                operands = [
                    x if isinstance(x, Node) else columns.setdefault(x, _Column(x))
                    for x in found[lanes]
                ]
                columns[lanes] = _Column(lanes, tuple(operands))
                self.of.update(dict.fromkeys(lanes, columns[lanes]))

    def _is_column(self, lanes: Lanes) -> bool:
        if len(set(lanes)) < len(lanes) or any(node in self.of for node in lanes):
            return False
        return (
            all(map(self._has_lanes, lanes))
            and len({(self._height[node], self._form(node, 0)) for node in lanes}) == 1
        )

    def _has_lanes(self, node: Node) -> bool:
        """Whether element i of the result depends on element i of the operands, and on scalars."""
        return (
            node.op.has(Trait.ELEMENTWISE)
            and node.shape != ()
            and 0 < node.type.nbytes <= self._max_bytes
            and all(x.shape in (node.shape, ()) for x in node.inputs)
        )

    def _form(self, node: Node, depth: int) -> Hashable:
        """What nodes have in common that can be lanes of one column, `depth` columns up."""
        operands: list[Hashable] = []
        for x in node.inputs:
            if x.shape == ():
                operands.append(id(x))
            elif depth and self._has_lanes(x):
                operands.append(self._form(x, depth - 1))
            else:
                operands.append(x.dtype)
        return (node.op, node.attrs, node.dtype, *operands)


def _operands(lanes: Lanes) -> list[Node | Lanes]:
    """The operands of a column: a scalar that all lanes share, or one node of each lane."""
    return [
        operands[0] if operands[0].shape == () else operands
        for operands in zip(*[node.inputs for node in lanes], strict=True)
    ]


def _rebuild(graph: Graph, column_of: dict[Node, _Column]) -> Graph:
    """The graph with every column in one node, over packed operands."""
    new: dict[Node | _Column, Node] = {node: node for node in graph.inputs}

    def needs(item: Node | _Column) -> Iterable[Node | _Column]:
        if isinstance(item, _Column):
            return item.operands or item.lanes
        return [column_of[item]] if item in column_of else item.inputs

    def make(item: Node | _Column) -> None:
        if isinstance(item, _Column):
            new[item] = (
                _fused(item, [new[x] for x in item.operands])
                if item.operands
                else _packed([new[x] for x in item.lanes])
            )
            start = 0
            for node in item.lanes if item.operands else ():
                with inherit_origin(node.origin):
                    new[node] = build(UNPACK, [new[item]], {"start": start, "shape": node.shape})
                start += node.type.size
        elif item not in column_of:
            new[item] = item.with_inputs(tuple([new[x] for x in item.inputs]))

    roots = (*graph.effects, *graph.outputs, *graph.unused)
    stack: list[tuple[Node | _Column, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        item, ready = stack.pop()
        if item in new:
            continue
        if ready:
            make(item)
        else:
            stack.append((item, True))
            stack.extend([(x, False) for x in reversed([*needs(item)])])
    return graph.with_roots(new.__getitem__)


def _fused(column: _Column, operands: list[Node]) -> Node:
    first = column.lanes[0]
    with inherit_origin(first.origin):
        return build(first.op, operands, first.attrs)


def _packed(nodes: list[Node]) -> Node:
    # The order of the elements is all that counts: their shapes do not.
    flat = [x.inputs[0] if x.op is RESHAPE else x for x in nodes]
    with inherit_origin(flat[0].origin):
        return build(PACK, flat, {})

"""The ops of a picture: the nodes of a graph, and what is inside of those that are opened."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Graph,
    Node,
    inherit_origin,
    input_node,
    statement,
    value_names,
)
from needle_ir.viz.change import Change, Mark
from needle_ir.viz.subject import Level

LEAVES = (INPUT, CONSTANT)

Body = Callable[[Node], Graph | None]
"""What is inside of a node; None where it is not opened."""


class Unit(NamedTuple):
    """One op of a picture. `operands` are positions in the list that the unit stands in.

    `owner` is the node of the graph that it is, or is a part of; `opened` says for each node that
    was opened around it what it is called.
    """

    id: str
    node: Node
    operands: tuple[int, ...]
    name: str
    text: str
    owner: Node
    opened: tuple[str, ...]
    mark: Mark | None


class Units(NamedTuple):
    """All ops of a picture, operands before users.

    `of` has the unit of each node of the graph, for an opened node the unit of its result.
    `lost` are the edges (operand, reader, position) that a pass cut: the reader stayed, and does
    not read the operand any more.
    """

    all: list[Unit]
    of: dict[Node, int]
    lost: list[tuple[int, int, int]]


def units_of(
    graph: Graph,
    level: Level,
    change: Change | None,
    names: Mapping[Node, str] | None = None,
) -> Units:
    """The units of `graph` at a level. With a change, the nodes that it removed are there too.

    `names` are those of the values, of what was removed too; by default they are numbered.
    """
    marks: Mapping[Node, Mark] = {} if change is None else change.marks
    result = Units([], {}, [])
    _open(graph, _BODIES[level], marks, value_names(graph) if names is None else names, result)
    if change is not None and change.marks:
        return _with_removed(result, change, value_names(change.before) if names is None else names)
    return result


def nested_graphs(node: Node) -> list[Graph]:
    """The graphs among a node's attributes."""
    return [value for value in node.attrs.values() if isinstance(value, Graph)]


def decomposition(node: Node) -> Graph | None:
    """What a composite is made of, as a graph over inputs of its own; None for other nodes."""
    if node.op.decompose is None:
        return None
    inputs = [input_node(operand.type) for operand in node.inputs]
    with inherit_origin(node.origin):
        return Graph(inputs, [node.op.decompose(*inputs, **node.attrs)])


def _kernel(node: Node) -> Graph | None:
    """The nested graph that computes a node's result from its operands."""
    for graph in nested_graphs(node):
        if len(graph.inputs) == len(node.inputs) and len(graph.outputs) == 1:
            return graph
    return None


_BODIES: dict[Level, Body] = {
    "module": lambda node: None,
    "composite": lambda node: None,
    "primitive": lambda node: _kernel(node) or decomposition(node),
    "kernel": _kernel,
}


@dataclass
class _Open:
    """A graph that is being read, and the unit of each of its nodes so far."""

    graph: Graph
    rest: Iterator[tuple[int, Node]]
    names: Mapping[Node, str]
    units: dict[Node, int]
    prefix: str
    opened: tuple[str, ...]
    owner: Node | None = None  # of the outermost graph; None in that graph itself
    node: Node | None = None  # the node of the graph around that was opened
    mark: Mark | None = field(default=None)


def _open(
    graph: Graph,
    body: Body,
    marks: Mapping[Node, Mark],
    names: Mapping[Node, str],
    result: Units,
) -> None:
    stack = [_Open(graph, iter(enumerate(graph.nodes)), names, result.of, "n", ())]
    while stack:
        top = stack[-1]
        for i, node in top.rest:
            if node in top.units:  # an operand from outside
                continue
            mark = marks.get(node) if top.owner is None else top.mark
            inner = body(node)
            if inner is not None:
                given = [top.units[operand] for operand in node.inputs]
                stack.append(
                    _Open(
                        graph=inner,
                        rest=iter(enumerate(inner.nodes)),
                        names=value_names(inner),
                        units=dict(zip(inner.inputs, given, strict=True)),
                        prefix=f"{top.prefix}{i}_",
                        opened=(*top.opened, f"{node.op.name} {top.names[node]}"),
                        owner=node if top.owner is None else top.owner,
                        node=node,
                        mark=mark,
                    )
                )
                break
            top.units[node] = len(result.all)
            result.all.append(_unit(f"{top.prefix}{i}", node, top, mark))
        else:
            stack.pop()
            if top.node is not None:
                stack[-1].units[top.node] = top.units[top.graph.outputs[0]]


def _unit(id: str, node: Node, top: _Open, mark: Mark | None) -> Unit:
    return Unit(
        id=id,
        node=node,
        operands=tuple([top.units[operand] for operand in node.inputs]),
        name=top.names[node],
        text=_text(node, top.names),
        owner=node if top.owner is None else top.owner,
        opened=top.opened,
        mark=mark,
    )


def _text(node: Node, names: Mapping[Node, str]) -> str:
    """A node as the text form has it, in one line, with the user's line."""
    if node.op is INPUT:
        text = f"{names[node]} : {node.type}"
    elif nested_graphs(node):
        operands = ", ".join(names[operand] for operand in node.inputs)
        text = f"{names[node]} = {node.op.name}({operands}) : {node.type}"
    else:
        text = statement(node, names)
    return text if node.origin is None else f"{text}  # {node.origin}"


def _with_removed(units: Units, change: Change, names: Mapping[Node, str]) -> Units:
    """`units` with what `change` removed, in an order for both graphs where there is one."""
    of = dict(units.of)
    result = list(units.all)
    of_old = {old: of[new] for old, new in change.kept.items()}
    for i, node in enumerate(change.before.nodes):
        if node in change.removed:
            of_old[node] = of[node] = len(result)
            operands = tuple([of_old[operand] for operand in node.inputs])
            text = _text(node, names)
            unit = Unit(f"r{i}", node, operands, names[node], text, node, (), Mark.REMOVED)
            result.append(unit)
    lost = [
        (of_old[operand], of_old[old], position)
        for old, new in change.kept.items()
        if new in change.touched
        for position, operand in enumerate(old.inputs)
        if of_old[operand] not in result[of_old[old]].operands
    ]
    return _sorted(Units(result, of, lost))


def _sorted(units: Units) -> Units:
    """`units` with every operand, the lost ones too, before its reader; as they are where edges
    of before and after make a cycle.
    """
    operands = [list(unit.operands) for unit in units.all]
    for operand, reader, _ in units.lost:
        operands[reader].append(operand)
    order: list[int] = []
    state = [0] * len(operands)  # 1: its operands are being placed; 2: it is placed
    for start in range(len(operands)):
        stack = [start]
        while stack:
            i = stack[-1]
            if state[i] == 0:
                state[i] = 1
                waiting = [x for x in operands[i] if state[x] != 2]
                if any(state[x] == 1 for x in waiting):
                    return units
                stack += reversed(waiting)
            else:
                stack.pop()
                if state[i] == 1:
                    state[i] = 2
                    order.append(i)
    at = {old: new for new, old in enumerate(order)}
    return Units(
        [
            unit._replace(operands=tuple([at[x] for x in unit.operands]))
            for unit in map(units.all.__getitem__, order)
        ],
        {node: at[i] for node, i in units.of.items()},
        [(at[operand], at[reader], position) for operand, reader, position in units.lost],
    )

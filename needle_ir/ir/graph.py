"""Graphs: an immutable program with inputs and outputs."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from needle_ir.ir.node import Node
from needle_ir.ir.representation import Representable

if TYPE_CHECKING:
    import networkx


class Graph(Representable):
    """A program: what it is given, what it returns, and the effects it must have.

    `inputs` are the input nodes in call order, `outputs` the nodes whose arrays it returns.
    `effects` are the nodes with effects in program order: they run even where no output needs
    them. `unused` are nodes that the program computes and nobody reads: they stay visible until
    dead-code removal. Immutable: a pass returns a new graph and the old one stays as it was.
    """

    def __init__(
        self,
        inputs: Iterable[Node],
        outputs: Iterable[Node],
        effects: Iterable[Node] = (),
        unused: Iterable[Node] = (),
        name: str = "graph",
    ):
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.effects = tuple(effects)
        self.unused = tuple(unused)
        self.name = name

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node in topological order: the inputs first, then operands before users."""
        roots = (*self.effects, *self.outputs, *self.unused)
        return (*self.inputs, *topological(roots, done=self.inputs))

    @cached_property
    def users(self) -> dict[Node, tuple[Node, ...]]:
        """For every node, the nodes that read it, in topological order, each once."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for operand in node.inputs:
                readers = users[operand]
                if not readers or readers[-1] is not node:
                    readers.append(node)
        return {node: tuple(readers) for node, readers in users.items()}

    def count(self, op_name: str) -> int:
        """How many nodes have the op of this name."""
        return sum(node.op.name == op_name for node in self.nodes)

    def rebuild(self, visit: Callable[[Node, tuple[Node, ...]], Node]) -> "Graph":
        """A new graph in which every node is `visit(node, new operands)`.

        `visit` sees operands before users. Inputs stay as they are. Where nothing changed, the
        result is this graph itself.
        """
        new: dict[Node, Node] = {node: node for node in self.inputs}
        for node in self.nodes[len(self.inputs) :]:
            new[node] = visit(node, tuple([new[operand] for operand in node.inputs]))
        return self.with_roots(new.__getitem__)

    def with_roots(self, new: Callable[[Node], Node]) -> "Graph":
        """This graph with every output, effect and unused node exchanged for what `new` gives."""
        roots = (self.outputs, self.effects, self.unused)
        outputs, effects, unused = (tuple(map(new, nodes)) for nodes in roots)
        if (outputs, effects, unused) == roots:
            return self
        return Graph(self.inputs, outputs, effects, unused, self.name)

    def to_networkx(self) -> "networkx.MultiDiGraph[int]":
        """The graph for NetworkX.

        Vertices are positions in `nodes`, with the attributes `op`, `attrs`, `shape`, `dtype`,
        `module` and `node`. An edge goes from operand to user; its key is the operand's position.
        The graph's own attributes are `name`, `inputs` and `outputs`.
        """
        import networkx

        index = {node: i for i, node in enumerate(self.nodes)}
        result: networkx.MultiDiGraph[int] = networkx.MultiDiGraph(
            name=self.name,
            inputs=[index[node] for node in self.inputs],
            outputs=[index[node] for node in self.outputs],
        )
        for node, i in index.items():
            module = node.origin.module if node.origin is not None else ""
            properties: dict[str, Any] = {"op": node.op.name, "attrs": dict(node.attrs)}
            properties |= {"shape": node.shape, "dtype": node.dtype, "module": module}
            result.add_node(i, node=node, **properties)
        for node, i in index.items():
            for position, operand in enumerate(node.inputs):
                result.add_edge(index[operand], i, key=position)
        return result

    def structural_key(self) -> Hashable:
        """What two graphs share exactly when they are the same program."""
        from needle_ir.ir.structure import structural_key

        return structural_key(self)

    def format(self, *, origins: bool = True, full: bool = False) -> str:
        """The text form. `needle_ir.ir.parse` reads it back where no constant is elided.

        Constants with more than 8 elements are, unless `full` is set: then the text stands for the
        graph, and the comments have whole paths. Without `origins` there are no comments.
        """
        from needle_ir.ir.printer import print_graph

        return print_graph(self, origins=origins, full=full)

    def __str__(self) -> str:
        return self.format()

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self.nodes)} nodes, {len(self.outputs)} outputs>"


def topological(roots: Sequence[Node], done: Iterable[Node] = ()) -> list[Node]:
    """All nodes that `roots` need, operands before users, without those in `done`."""
    seen = set(done)
    order: list[Node] = []
    # A node is followed by None while its operands, which stand above it, are not in order yet.
    stack: list[Node | None] = [*reversed(roots)]
    while stack:
        node = stack.pop()
        if node is None:
            ready = stack.pop()
            assert ready is not None
            order.append(ready)
        elif node not in seen:
            seen.add(node)
            if node.inputs:
                stack += (node, None)
                stack += [x for x in reversed(node.inputs) if x not in seen]
            else:
                order.append(node)
    return order

"""Lowering: composites opened into the ops they are made of."""

from dataclasses import dataclass

from needle_ir.ir import Graph, Node, inherit_origin


@dataclass(frozen=True)
class Lower:
    """Replaces every composite by its decomposition, composites inside of it included.

    With `keep_vjp`, a composite that carries a derivative of its own stays closed, so that
    autodiff can use it.
    """

    keep_vjp: bool = False
    name = "lower"

    def run(self, graph: Graph) -> Graph:
        """The graph without composites, or only with those that have a VJP."""
        while any(map(self._opens, graph.nodes)):
            graph = graph.rebuild(self._open)
        return graph

    def _opens(self, node: Node) -> bool:
        return node.op.decompose is not None and not (self.keep_vjp and node.op.vjp is not None)

    def _open(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        if not self._opens(node):
            return node.with_inputs(inputs)
        assert node.op.decompose is not None
        with inherit_origin(node.origin):
            return node.op.decompose(*inputs, **node.attrs)

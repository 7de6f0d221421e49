"""The verifier: what must be true of every graph, whatever pass made it."""

from needle_ir.ir.errors import OpError, VerificationError
from needle_ir.ir.graph import Graph
from needle_ir.ir.node import CONSTANT, INPUT, Node, Trait
from needle_ir.ir.printer import statement, value_names
from needle_ir.ir.types import TensorType


def verify(graph: Graph) -> None:
    """Check `graph` against the rules of the IR.

    Raises VerificationError for the first rule that is broken: an input listed twice or not at
    all, a type that the op's type rule does not give, attributes that are not in normal form, a
    constant that can be written to, an effect that is not listed or a listed one that is none.
    """
    inputs = set(graph.inputs)
    if len(inputs) != len(graph.inputs):
        raise VerificationError(f"@{graph.name}: an input is listed twice")
    for node in graph.inputs:
        if node.op is not INPUT:
            raise _broken(graph, node, "is listed as an input but is not an input node")
    effects = set(graph.effects)
    if len(effects) != len(graph.effects):
        raise VerificationError(f"@{graph.name}: an effect is listed twice")
    for node in graph.nodes:
        _verify_node(graph, node, inputs)
        if node.op.has(Trait.EFFECT) != (node in effects):
            raise _broken(graph, node, "has an effect and is not listed, or is listed and has none")


def _verify_node(graph: Graph, node: Node, inputs: set[Node]) -> None:
    if node.op is INPUT:
        if node not in inputs:
            raise _broken(graph, node, "is an input node that the graph does not list")
    elif node.op is CONSTANT:
        value = node.attrs["value"]
        if value.flags.writeable:
            raise _broken(graph, node, "is a constant whose array can be written to")
        if node.type != TensorType(value.shape, value.dtype):
            raise _broken(graph, node, f"is a constant of {value.dtype}{list(value.shape)}")
    else:
        types = [operand.type for operand in node.inputs]
        try:
            expected = node.op.infer(*types, **node.attrs)
            if node.op.normalize is not None:
                normal = dict(node.op.normalize(*types, **node.attrs))
                if normal != dict(node.attrs):
                    raise _broken(graph, node, f"has attributes not in normal form: {normal}")
        except OpError as error:
            raise _broken(graph, node, f"does not fit its type rule: {error}") from error
        if expected != node.type:
            raise _broken(graph, node, f"should have the type {expected}")


def _broken(graph: Graph, node: Node, reason: str) -> VerificationError:
    # Names need the whole graph, which may be broken elsewhere too: the node's own line is enough.
    names = dict.fromkeys(graph.nodes, "%?") | value_names(graph)
    return VerificationError(f"@{graph.name}: `{statement(node, names)}` {reason}")

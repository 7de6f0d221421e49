"""The verifier: what must be true of every graph, whatever pass made it."""

from needle_ir.ir.attrs import Attrs
from needle_ir.ir.errors import OpError, VerificationError
from needle_ir.ir.graph import Graph
from needle_ir.ir.node import CONSTANT, INPUT, Node, Op, Promotion, Trait
from needle_ir.ir.printer import statement, value_names
from needle_ir.ir.types import TensorType, is_floating


def verify(graph: Graph) -> None:
    """Check `graph` against the rules of the IR.

    Raises VerificationError for the first rule that is broken: an input listed twice or not at
    all, a type that the op's type rule does not give, operands that are not promoted, attributes
    that are not in normal form, a constant that can be written to, an effect that is not listed or
    a listed one that is none.
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
        for value in node.attrs.values():
            if isinstance(value, Graph):
                verify(value)
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
            if node.op.normalize is not None:
                normal = Attrs(node.op.normalize(*types, **node.attrs))
                if normal != node.attrs:
                    raise _broken(graph, node, f"has attributes not in normal form: {dict(normal)}")
            expected = node.op.infer(*types, **node.attrs)
        except (OpError, TypeError) as error:  # TypeError: operands or attributes too few or many
            raise _broken(graph, node, f"does not fit its type rule: {error}") from error
        if expected != node.type:
            raise _broken(graph, node, f"should have the type {expected}")
        if not is_promoted(node.op, types):
            shown = ", ".join(map(str, types))
            raise _broken(graph, node, f"has operands that were not promoted: {shown}")


def is_promoted(op: Op, types: list[TensorType]) -> bool:
    """Whether the operands have the dtypes that the op's promotion gives."""
    if op.promotion is Promotion.NONE:
        return True
    if op.promotion is Promotion.COMPARISON and any(type.dtype.kind in "iu" for type in types):
        return True
    dtypes = {type.dtype for type in types[op.promotion is Promotion.BRANCHES :]}
    floats = op.promotion in (Promotion.FLOAT, Promotion.QUOTIENT)
    return len(dtypes) == 1 and (not floats or all(map(is_floating, dtypes)))


def _broken(graph: Graph, node: Node, reason: str) -> VerificationError:
    # Names need the whole graph, which may be broken elsewhere too: the node's own line is enough.
    names = dict.fromkeys((*graph.nodes, *node.inputs), "%?") | value_names(graph)
    return VerificationError(f"@{graph.name}: `{statement(node, names)}` {reason}")

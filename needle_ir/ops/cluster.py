"""Clusters: elementwise ops that run as one node, `fused`."""

from typing import Any

from needle_ir.ir import CONSTANT, INPUT, Graph, Node, Op, OpError, TensorType, Trait
from needle_ir.ops.build import apply
from needle_ir.ops.packing import PACK


def _fused_type(*xs: TensorType, body: Graph) -> TensorType:
    types = tuple([node.type for node in body.inputs])
    if types != xs:
        raise OpError(f"its body takes ({', '.join(map(str, types))})")
    if len(body.outputs) != 1 or body.effects:
        raise OpError("its body has one output and no effects")
    results = cluster_results(body)
    result = results[0].type
    for node in body.nodes:
        if node.op in (INPUT, CONSTANT) or node.op is PACK is body.outputs[0].op:
            continue
        if not node.op.has(Trait.ELEMENTWISE) or node.op.decompose is not None:
            raise OpError(f"its body holds {node.op.name}, which is no elementwise primitive")
        if node.shape != result.shape:
            raise OpError(f"its body computes {node.type} on the way to {result}")
    computed = {x for x in results if x.op not in (INPUT, CONSTANT) and x.type == result}
    if len(computed) < len(results):
        raise OpError("its body packs one value twice, an operand, or values of several types")
    return body.outputs[0].type


def cluster_results(body: Graph) -> tuple[Node, ...]:
    """What a cluster computes: its body's output, or what that packs."""
    (output,) = body.outputs
    return output.inputs if output.op is PACK else (output,)


def _opened(*inputs: Node, body: Graph) -> Node:
    """The result of the body over `inputs`, op by op."""
    new: dict[Node, Node] = dict(zip(body.inputs, inputs, strict=True))
    for node in body.nodes[len(body.inputs) :]:
        new[node] = node.with_inputs(tuple([new[x] for x in node.inputs]))
    return new[body.outputs[0]]


# `body` is a graph of elementwise primitives that all have one shape. Its output is one of them, or
# several of one type, packed. The op is its own definition, as a composite is, and has a kernel.
FUSED = Op(name="fused", infer=_fused_type, decompose=_opened)


def fused(*xs: Any, body: Graph) -> Any:
    """What the graph `body` computes of `xs`, in one node."""
    return apply(FUSED, *xs, body=body)

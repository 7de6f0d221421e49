"""Reverse-mode automatic differentiation, as a pass.

`grad` nodes are requests. The pass expands them into the backward graph, innermost first, so that
requests about the result of a request give higher derivatives. Then it takes off the markers that
only it reads.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Graph,
    Node,
    OpError,
    TensorType,
    Trait,
    VerificationError,
    inherit_origin,
    is_floating,
    topological,
)
from needle_ir.ops import add, as_constant, broadcast_to
from needle_ir.ops.markers import GRAD, KNOWN, STOP_GRADIENT, VARIABLE
from needle_ir.passes.lower import Lower


class NotDifferentiableError(OpError, TypeError):
    """A derivative was asked for through an op that has none."""


@dataclass(frozen=True)
class Autodiff:
    """Expands every `grad` request and removes every marker."""

    name = "autodiff"

    def run(self, graph: Graph) -> Graph:
        """The graph with the derivatives written out."""
        graph = Lower(keep_vjp=True).run(graph)
        return _expand_requests(graph).rebuild(_without_marker)


def _expand_requests(graph: Graph) -> Graph:
    requests: dict[tuple[Node, ...], list[Node]] = {}
    for node in graph.nodes:
        if node.op is GRAD:
            requests.setdefault(_question(node), []).append(node)
    if not requests:
        return graph

    new: dict[Node, Node] = {node: node for node in graph.inputs}
    for node in graph.nodes[len(graph.inputs) :]:
        if node.op is not GRAD:
            new[node] = node.with_inputs(tuple([new[operand] for operand in node.inputs]))
        elif node not in new:
            # One sweep answers all requests about the same output. A leaf that was not reached
            # yet is no operand of that output, and its derivative is zero.
            group = requests[_question(node)]
            y, *ct = [new[operand] for operand in _question(node)]
            wanted = {request: new.get(request.inputs[1]) for request in group}
            answers = backward(y, ct[0] if ct else None, filter(None, wanted.values()))
            answers = dict(zip(answers, _lowered(answers.values()), strict=True))
            for request, x in wanted.items():
                answer = None if x is None else answers.get(x)
                new[request] = _filled(0.0, request.type) if answer is None else answer
    return graph.with_roots(new.__getitem__)


def _lowered(derivatives: Iterable[Node]) -> tuple[Node, ...]:
    """`derivatives` with the composites opened that a VJP emitted: the next order needs that."""
    return Lower(keep_vjp=True).run(Graph((), derivatives)).outputs


def _question(request: Node) -> tuple[Node, ...]:
    """The output and the cotangent of a request, without what it is differentiated by."""
    y, _, *ct = request.inputs
    return (y, *ct)


def backward(y: Node, ct: Node | None, xs: Iterable[Node]) -> dict[Node, Node]:
    """The derivatives of sum(y * ct) by each of `xs`; `ct` is ones where None.

    Each op's VJP turns the cotangent of its result into cotangents of its operands; a node that
    is read several times adds up what it gets. An x that y does not depend on is left out.
    Raises NotDifferentiableError where an op on the way has no VJP.
    """
    wanted = set(xs)
    order = topological([y])
    on_the_way = _between(order, wanted)
    cotangents = {y: _filled(1.0, y.type) if ct is None else ct}
    for node in reversed(order):
        if node not in on_the_way or node not in cotangents or node.op in (INPUT, CONSTANT):
            continue
        if not any(operand in on_the_way for operand in node.inputs):
            continue
        for operand, contribution in zip(
            node.inputs, _cotangents_of_inputs(node, cotangents[node]), strict=True
        ):
            if contribution is None or operand not in on_the_way:
                continue
            if contribution.type != operand.type:
                raise VerificationError(
                    f"the VJP of {node.op.name} gave {contribution.type} for {operand.type}"
                )
            before = cotangents.get(operand)
            with inherit_origin(node.origin, phase="backward"):
                total = contribution if before is None else add(before, contribution)
            cotangents[operand] = total
    return {x: cotangents[x] for x in wanted if x in cotangents}


def _between(order: list[Node], xs: set[Node]) -> set[Node]:
    """The nodes of `order` through which a derivative by one of `xs` flows."""
    found: set[Node] = set()
    for node in order:
        if node in xs or (
            node.op is not STOP_GRADIENT
            and is_floating(node.dtype)
            and any(operand in found for operand in node.inputs)
        ):
            found.add(node)
    return found


def _cotangents_of_inputs(node: Node, ct: Node) -> tuple[Node | None, ...]:
    if node.op.vjp is None:
        raise NotDifferentiableError(
            f"{node.op.name} has no derivative; put stop_gradient (detach) before it", node.origin
        )
    with inherit_origin(node.origin, phase="backward"):
        return node.op.vjp(ct, node, *node.inputs, **node.attrs)


def _filled(value: float, type: TensorType) -> Node:
    constant = as_constant(value, type.dtype)
    if not type.shape:
        return constant
    result: Node = broadcast_to(constant, type.shape)
    return result


def _without_marker(node: Node, inputs: tuple[Node, ...]) -> Node:
    if not node.op.has(Trait.MARKER):
        return node.with_inputs(inputs)
    if node.op is KNOWN:
        return inputs[1]
    if node.op in (VARIABLE, STOP_GRADIENT):
        return inputs[0]
    raise VerificationError(f"autodiff does not know the marker {node.op.name}")

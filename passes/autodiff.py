"""Reverse-mode automatic differentiation, as a pass.

`grad` nodes are requests. The pass expands them into the backward graph, innermost first, so that
requests about the result of a request give higher derivatives. Then it takes off the markers that
only it reads.
"""

from collections.abc import Collection, Iterable
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
from needle_ir.passes.untaken import Contribution, Pull, Reach, joined


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

    sweep = _Sweep()
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
            answers = sweep.derivatives(y, ct[0] if ct else None, filter(None, wanted.values()))
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
    return _Sweep().derivatives(y, ct, xs)


class _Sweep:
    """Sweeps from outputs back to what they depend on. Later ones know what earlier ones made."""

    def __init__(self) -> None:
        self._pull = Pull(self._contributions)

    def derivatives(self, y: Node, ct: Node | None, xs: Iterable[Node]) -> dict[Node, Node]:
        """As `backward`."""
        start = _filled(1.0, y.type) if ct is None else ct
        found = self._contributions(y, start, None, [*xs], ())
        return {x: total for x, (total, _) in found.items() if total is not None}

    def _contributions(
        self,
        y: Node,
        ct: Node,
        reach: Reach | None,
        xs: Collection[Node],
        leaves: Collection[Node],
    ) -> dict[Node, Contribution]:
        """The cotangent of each of `xs` that y depends on, for the cotangent `ct` of y, which is
        0 beyond `reach`. Nothing is looked at that `leaves` are made of.
        """
        wanted = set(xs)
        order = [*leaves, *topological([y], done=leaves)]
        on_the_way = _between(order, wanted)
        totals = {y: Contribution(ct, reach)}
        for node in reversed(order):
            total = totals.get(node)
            if node not in on_the_way or total is None or node.op in (INPUT, CONSTANT):
                continue
            if not any(operand in on_the_way for operand in node.inputs):
                continue
            _check_differentiable(node)
            assert total.ct is not None
            with inherit_origin(node.origin, phase="backward"):
                contributions = self._pull(node, total.ct, total.reach, on_the_way)
                for operand, contribution in zip(node.inputs, contributions, strict=True):
                    if contribution.ct is None or operand not in on_the_way:
                        continue
                    if contribution.ct.type != operand.type:
                        raise VerificationError(
                            f"the VJP of {node.op.name} gave {contribution.ct.type} "
                            f"for {operand.type}"
                        )
                    before = totals.get(operand)
                    totals[operand] = contribution if before is None else _sum(before, contribution)
        return {x: totals[x] for x in xs if x in totals}


def _sum(a: Contribution, b: Contribution) -> Contribution:
    assert a.ct is not None
    assert b.ct is not None
    return Contribution(add(a.ct, b.ct), joined(a.reach, b.reach))


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


def _check_differentiable(node: Node) -> None:
    if node.op.vjp is None:
        raise NotDifferentiableError(
            f"{node.op.name} has no derivative; put stop_gradient (detach) before it", node.origin
        )


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

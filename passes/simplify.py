"""Algebraic simplification."""

from dataclasses import dataclass
from typing import Any

from needle_ir.ir import Graph, Node, Trait
from needle_ir.ops import (
    as_constant,
    broadcast_to,
    cast,
    negative,
    permute,
    power,
    relu,
    reshape,
    sum,
)
from needle_ir.ops.shape import BROADCAST_TO, broadcast_shapes
from needle_ir.passes.rewrite import Rule, rewrite, scalar_value


def _filled(x: Node, value: int) -> Any:
    return broadcast_to(as_constant(value, x.dtype), x.shape)


# Each holds for every float, NaN, infinities and signed zeros included, to the last bit.
EXACT = (
    Rule("double-negative", lambda x: -negative(x), lambda x: x),
    Rule("times-one", lambda x: x * 1, lambda x: x),
    Rule("divide-by-one", lambda x: x / 1, lambda x: x),
    Rule("minus-zero", lambda x: x - 0, lambda x: x),
    Rule("power-one", lambda x: power(x, 1), lambda x: x),
    Rule(
        "square",
        lambda x, two: power(x, two),
        lambda x, two: x * x,
        # NumPy squares for an exponent without axes only; elsewhere its power rounds otherwise.
        lambda x, two: two.shape == () and scalar_value(two) == 2,
    ),
    Rule("add-negative", lambda x, y: x + negative(y), lambda x, y: x - y),
    Rule("subtract-negative", lambda x, y: x - negative(y), lambda x, y: x + y),
    Rule("relu-relu", lambda x: relu(relu(x)), lambda x: relu(x)),
    Rule(
        "transpose-transpose",
        lambda x, p, q: permute(permute(x, p), q),
        lambda x, p, q: permute(x, [p[i] for i in q]),
    ),
    Rule(
        "transpose-nothing",
        lambda x, p: permute(x, p),
        lambda x, p: x,
        lambda x, p: p == tuple(range(len(p))),
    ),
    Rule(
        "reshape-reshape", lambda x, s, t: reshape(reshape(x, s), t), lambda x, s, t: reshape(x, t)
    ),
    Rule("reshape-nothing", lambda x, s: reshape(x, s), lambda x, s: x),
    Rule(
        "broadcast-broadcast",
        lambda x, s, t: broadcast_to(broadcast_to(x, s), t),
        lambda x, s, t: broadcast_to(x, t),
    ),
    Rule("broadcast-nothing", lambda x, s: broadcast_to(x, s), lambda x, s: x),
    Rule("cast-nothing", lambda x, d: cast(x, d), lambda x, d: x),
)

# These change NaN, infinities, the sign of a zero, or the rounding.
FAST_MATH = (
    Rule("plus-zero", lambda x: x + 0, lambda x: x),
    Rule("times-zero", lambda x: x * 0, lambda x: _filled(x, 0)),
    Rule("minus-itself", lambda x: x - x, lambda x: _filled(x, 0)),
    Rule("divide-by-itself", lambda x: x / x, lambda x: _filled(x, 1)),
    # A sum starts at 0, and 0 + -0.0 is 0.0.
    Rule("sum-nothing", lambda x, k: sum(x, (), k), lambda x, k: x),
)


@dataclass(frozen=True)
class Simplify:
    """Applies the identities that hold for every float; with `fast_math`, others too."""

    fast_math: bool = False
    name = "simplify"

    def run(self, graph: Graph) -> Graph:
        """The simplified graph."""
        rules = EXACT + FAST_MATH if self.fast_math else EXACT
        while True:
            simplified = rewrite(graph.rebuild(_drop_broadcasts), rules)
            if simplified is graph:
                return graph
            graph = simplified


def _drop_broadcasts(node: Node, inputs: tuple[Node, ...]) -> Node:
    """Elementwise ops broadcast by themselves: read an operand from before its `broadcast_to`,
    one by one, as long as the others still give the shape.
    """
    if node.op.has(Trait.ELEMENTWISE):
        operands = list(inputs)
        for i, operand in enumerate(operands):
            if operand.op is BROADCAST_TO:
                operands[i] = operand.inputs[0]
                if broadcast_shapes(*[x.shape for x in operands]) != node.shape:
                    operands[i] = operand
        inputs = tuple(operands)
    return node.with_inputs(inputs)

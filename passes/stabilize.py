"""Numerical stability: log-sum-exp written in primitives becomes the one op that is right."""

from dataclasses import dataclass
from typing import Any

from needle_ir.ir import Graph, Node, Trait
from needle_ir.ops import exp, log, logsumexp, sum
from needle_ir.ops.shape import BROADCAST_TO, RESHAPE
from needle_ir.passes.rewrite import Rule, rewrite


def _is_shift(
    x: Node, shift: Node, shift_back: Node, axes: tuple[int, ...], keepdims: bool
) -> bool:
    """Whether `shift` is constant along `axes` of x, and `shift_back` adds the same numbers back
    at the same places.
    """
    shape = (1,) * (len(x.shape) - len(shift.shape)) + shift.shape
    if len(shape) != len(x.shape) or any(shape[axis] != 1 for axis in axes):
        return False
    if not keepdims:
        shape = tuple([dim for i, dim in enumerate(shape) if i not in axes])
    if _without_leading_ones(shape) != _without_leading_ones(shift_back.shape):
        return False
    return _without_views(shift) == _without_views(shift_back)


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    first = next((i for i, dim in enumerate(shape) if dim != 1), len(shape))
    return shape[first:]


def _without_views(node: Node) -> Any:
    """What a node is apart from axes of length 1: views taken off, `keepdims` ignored."""
    while node.op in (RESHAPE, BROADCAST_TO) and node.type.size == node.inputs[0].type.size:
        node = node.inputs[0]
    if node.op.has(Trait.REDUCTION):
        return (node.op, node.inputs[0], node.attrs["axes"])
    return node


RULES = (
    Rule(
        "log-sum-exp",
        lambda x, axes, keepdims: log(sum(exp(x), axes, keepdims)),
        lambda x, axes, keepdims: logsumexp(x, axes, keepdims),
        # The log of an empty sum is -inf; logsumexp refuses an empty axis.
        lambda x, axes, keepdims: all(x.shape[axis] for axis in axes),
    ),
    Rule(
        "shifted-logsumexp",
        lambda x, shift, shift_back, axes, keepdims: (
            logsumexp(x - shift, axes, keepdims) + shift_back
        ),
        lambda x, shift, shift_back, axes, keepdims: logsumexp(x, axes, keepdims),
        _is_shift,
    ),
)


@dataclass(frozen=True)
class Stabilize:
    """Turns expressions that overflow into ops that do not. It runs before autodiff, so that the
    derivative is right as well.
    """

    name = "stabilize"

    def run(self, graph: Graph) -> Graph:
        """The graph with `logsumexp` in the place of log-sum-exp, shifted or not."""
        return rewrite(graph, RULES)

"""Numerical stability: what overflows, cancels or gives NaN when it is written in primitives
becomes the op that is right.
"""

from dataclasses import dataclass

from needle_ir.ir import Graph, Node
from needle_ir.ops import (
    exp,
    expm1,
    known,
    log,
    log1mexp,
    log1p,
    matmul,
    power,
    sigmoid,
    softplus,
    sqrt,
    sum,
    tanh,
    weighted_logsumexp,
    weighted_softmax,
)
from needle_ir.ops.elementwise import EXP, EXPM1, LOG, LOG1P, NEGATIVE, TANH
from needle_ir.ops.exponentials import LOGADDEXP, SIGMOID, SOFTMAX, SOFTPLUS, WEIGHTED_SOFTMAX
from needle_ir.ops.markers import GRAD, STOP_GRADIENT, VARIABLE
from needle_ir.ops.reduction import SUM
from needle_ir.ops.shape import broadcast_shapes
from needle_ir.passes.logarithms import (
    factors,
    has_logarithm,
    is_exponential,
    is_weight,
    is_weighted_sum,
    log_of_difference,
    log_of_weighted_terms,
    logarithm,
    logarithms,
    lossy_part,
    may_overflow,
    may_vanish,
    weighted_terms,
)
from needle_ir.passes.rewrite import Rule, rewrite, scalar_value
from needle_ir.passes.stable_forms import FORMS, ROWS, in_form, minus, plus, row_axes

# Each rule is an equation between real numbers, and its right side is what is computed without
# overflow and without cancelling. docs/stability.md has the values of both sides at the extremes.
# p and q stand for what is made of exponentials. Of two rules that match, the first one counts.

# 1 plus one of these has a form of its own.
_BESIDE_1 = {EXPM1, NEGATIVE, TANH}

LOGS = (
    Rule(
        "log-sum-exp",
        lambda p, a, k: log(sum(p, a, k)),
        lambda p, a, k: logarithm(sum(p, a, k)),
        lambda p, a, k: is_exponential(sum(p, a, k)),
    ),
    Rule(
        "log-of-exponential",
        lambda p: log(p),
        lambda p: logarithm(p),
        lambda p: may_overflow(p) or may_vanish(p),
    ),
    Rule(
        "log-of-weighted-sum",
        lambda p: log(p),
        lambda p: logarithm(p),
        lambda p: is_weighted_sum(p),
    ),
    Rule(
        "log-of-weighted-softmax",
        lambda x, w, a: log(weighted_softmax(x, w, a)),
        lambda x, w, a: x - weighted_logsumexp(x, w, a, True) + log(w),
    ),
    Rule(
        "log-of-product",
        lambda p, x: log(p * x),
        lambda p, x: logarithm(p) + log(x),
        lambda p, x: has_logarithm(p),
    ),
    Rule(
        "log-of-quotient",
        lambda p, q: log(p / q),
        lambda p, q: logarithm(p) - logarithm(q),
        lambda p, q: has_logarithm(p) or has_logarithm(q),
    ),
    Rule("log-of-1-plus", lambda x: log(1 + x), lambda x: log1p(x)),
    Rule("log-of-1-minus", lambda x: log(1 - x), lambda x: log1p(minus(x))),
    Rule("log-of-expm1", lambda x: log(expm1(x)), lambda x: x + log1mexp(minus(x))),
    Rule("log-of-minus-expm1", lambda x: log(-expm1(x)), lambda x: log1mexp(x)),
    Rule(
        "log1p-of-exponential",
        lambda p: log1p(p),
        lambda p: softplus(logarithm(p)),
        lambda p: may_overflow(p),
    ),
    Rule(
        "log1p-in-form",
        lambda x: log1p(x),
        lambda x: logarithm(in_form(plus(1, x))),
        lambda x: x.op in _BESIDE_1 and is_exponential(in_form(plus(1, x))),
    ),
    # 1 - tanh(x)**2 itself stays: it is the derivative of tanh.
    Rule(
        "log1p-of-minus-tanh-squared",
        lambda x: log1p(-(tanh(x) * tanh(x))),
        lambda x: logarithm(sigmoid(x * 2) * sigmoid(x * -2) * 4),
    ),
    Rule(
        "log1p-of-minus-exponential",
        lambda p: log1p(-p),
        lambda p: log1mexp(logarithm(p)),
        lambda p: is_exponential(p),
    ),
    Rule(
        "log-of-difference-of-sigmoids",
        lambda x, y: log(sigmoid(x) - sigmoid(y)),
        lambda x, y: log1mexp(y - x) - softplus(minus(x)) - softplus(y),
    ),
    Rule(
        "log-of-difference",
        lambda p, q: log(p - q),
        lambda p, q: log_of_difference(p, q),
        lambda p, q: is_exponential(p) and is_exponential(q) and _is_no_outer_product(p, q),
    ),
    Rule(
        "log-of-weighted-terms",
        lambda t: log(t),
        lambda t: log_of_weighted_terms(weighted_terms(t) or []),
        lambda t: weighted_terms(t) is not None,
    ),
)


def _quotient(p: Node, q: Node) -> Node:
    log_p, log_q = logarithms(p, q)
    return in_form(exp(in_form(log_p - log_q)))


def _weighted_softmax(terms: Node, axes: tuple[int, ...] | None) -> Node:
    p, weights = factors(terms) or (terms, terms)
    result: Node = weighted_softmax(logarithm(p), weights, axes)
    return result


def _is_no_outer_product(p: Node, q: Node) -> bool:
    """Whether one of two operands has the shape of the result: of rows and columns, exponentials
    are taken before they are multiplied, not for all pairs.
    """
    return broadcast_shapes(p.shape, q.shape) in (p.shape, q.shape)


def _may_fail(p: Node, q: Node) -> bool:
    """Whether p / q is a quotient of exponentials that may overflow, or have a 0 below, where the
    quotient is a moderate number.
    """
    return (
        is_exponential(p)
        and is_exponential(q)
        and (may_vanish(q) or may_overflow(p) or may_overflow(q))
        and _is_no_outer_product(p, q)
    )


# Quotients of exponentials, which overflow or vanish one by one.
QUOTIENTS = (
    Rule(
        "quotient-of-exponentials",
        lambda p, q: p / q,
        lambda p, q: _quotient(p, q),
        lambda p, q: _may_fail(p, q),
    ),
    Rule(
        "reciprocal-of-exponential",
        lambda p: 1 / p,
        lambda p: in_form(exp(minus(logarithm(p)))),
        lambda p: may_overflow(p),
    ),
    Rule(
        "over-1-plus-exp",
        lambda x, y: y / (1 + exp(x)),
        lambda x, y: y * sigmoid(minus(x)),
        lambda x, y: not is_exponential(y) and factors(y) is None,
    ),
    Rule(
        "constant-over-exponential",
        lambda c, p: c / p,
        lambda c, p: _quotient(c, p),
        lambda c, p: is_weight(c) and may_overflow(p) and _is_no_outer_product(c, p),
    ),
    Rule(
        "weighted-softmax",
        lambda t, total: t / total,
        lambda t, total: _weighted_softmax(t, row_axes(total, SUM, t)),
        lambda t, total: factors(t) is not None and row_axes(total, SUM, t) is not None,
    ),
    Rule(
        "weighted-quotient",
        lambda p, q, v: (p * v) / q,
        lambda p, q, v: _quotient(p, q) * v,
        lambda p, q, v: not is_exponential(v) and _may_fail(p, q),
    ),
    Rule(
        "weighted-mean",
        lambda p, v, a, k: sum(p * v, a, k) / sum(p, a, k),
        lambda p, v, a, k: sum(_quotient(p, sum(p, a, True)) * v, a, k),
        lambda p, v, a, k: (
            is_exponential(sum(p, a, k))
            and not is_exponential(v)
            and broadcast_shapes(p.shape, v.shape) == p.shape
        ),
    ),
    Rule(
        "weighted-mean-by-matmul",
        lambda p, v, total: matmul(p, v) / total,
        lambda p, v, total: matmul(_quotient(p, sum(p, -1, True)), v),
        lambda p, v, total: (
            is_exponential(total)
            and len(v.shape) > 1
            and row_axes(total, SUM, p) == (len(p.shape) - 1,)
        ),
    ),
    Rule(
        "over-exponential",
        lambda x, p: x / p,
        lambda x, p: x * exp(logarithm(p) * -0.5) * exp(logarithm(p) * -0.5),
        # By halves: 1 / p may overflow where the quotient does not.
        lambda x, p: may_overflow(p) and not is_exponential(x) and _is_no_outer_product(x, p),
    ),
    Rule(
        "times-reciprocal",
        lambda x, p: p * exp(-x),
        lambda x, p: in_form(exp(in_form(logarithm(p) - x))),
        lambda x, p: may_overflow(p) and _is_no_outer_product(x, p),
    ),
    Rule(
        "power-of-exponential",
        lambda p, c: power(p, c),
        lambda p, c: in_form(exp(logarithm(power(p, c)))),
        lambda p, c: may_overflow(power(p, c)) and scalar_value(c) < 1,
    ),
    Rule(
        "sqrt-of-exponential",
        lambda p: sqrt(p),
        lambda p: in_form(exp(logarithm(sqrt(p)))),
        lambda p: may_overflow(p),
    ),
)

KNOWN_VALUES = (
    Rule(
        "look-behind-known",
        lambda x, value: known(x, value),
        lambda x, value: x,
        lambda x, value: bool(lossy_part(x)),
    ),
)

RULES = KNOWN_VALUES + LOGS + FORMS + QUOTIENTS

# Without any of these, a graph has nothing for most of the rules.
_EXPONENTIALS = {
    *(EXP, EXPM1, LOG, LOG1P, TANH),
    *(SIGMOID, SOFTPLUS, SOFTMAX, LOGADDEXP, WEIGHTED_SOFTMAX),
}


@dataclass(frozen=True)
class Stabilize:
    """Turns expressions that overflow or cancel into ops that do not. It runs before autodiff, so
    that the derivatives are right as well.
    """

    name = "stabilize"

    def run(self, graph: Graph) -> Graph:
        """The graph with stable ops in the place of the expressions that define them."""
        graph = without_needless_markers(graph)
        return rewrite(graph, rules_for(graph))


def rules_for(graph: Graph) -> tuple[Rule, ...]:
    """The rules that may find something in a graph."""
    ops = {node.op for node in graph.nodes}
    return ROWS if ops.isdisjoint(_EXPONENTIALS) else RULES


def without_needless_markers(graph: Graph) -> Graph:
    """The graph without markers that say nothing, and that patterns do not look through: variables
    that nothing is differentiated by; every stop_gradient where there is no request, and all but
    one of each operand where there is. `no_grad` records one for each use.
    """
    requests = [node for node in graph.nodes if node.op is GRAD]
    asked_for = {node.inputs[1] for node in requests}
    stops: dict[Node, Node] = {}

    def visit(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node in asked_for or node.op not in (VARIABLE, STOP_GRADIENT):
            return node.with_inputs(inputs)
        if node.op is VARIABLE or not requests:
            return inputs[0]
        return stops.setdefault(inputs[0], node.with_inputs(inputs))

    return graph.rebuild(visit)

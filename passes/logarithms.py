"""The logarithm of what is made of exponentials, as an expression without exponentials.

exp(x) overflows and vanishes where x is a moderate number; so do sums, products and quotients of
exponentials. Here are the equations by which the logarithm of such an expression is worked out
from the inside to the outside, op by op.
"""

from collections.abc import Callable, Sequence

import numpy as np

from needle_ir.ir import CONSTANT, Node, Op, constant_node, is_floating
from needle_ir.ops import (
    as_constant,
    broadcast_to,
    concatenate,
    equal,
    gather,
    log,
    log1mexp,
    log_softmax,
    logaddexp,
    logsumexp,
    max,
    min,
    permute,
    reshape,
    slice,
    softplus,
    stack,
    stop_gradient,
    weighted_logsumexp,
    where,
)
from needle_ir.ops.build import CAST
from needle_ir.ops.elementwise import (
    ADD,
    BOOL,
    DIVIDE,
    EXP,
    EXPM1,
    MULTIPLY,
    NEGATIVE,
    POWER,
    SQRT,
    SUBTRACT,
    TANH,
    WHERE,
)
from needle_ir.ops.exponentials import SIGMOID, SOFTMAX, WEIGHTED_SOFTMAX
from needle_ir.ops.indexing import GATHER, SLICE
from needle_ir.ops.joining import CONCATENATE
from needle_ir.ops.markers import KNOWN, STOP_GRADIENT
from needle_ir.ops.reduction import MAX, MIN, SUM
from needle_ir.ops.shape import BROADCAST_TO, RESHAPE, TRANSPOSE, broadcast_shapes
from needle_ir.passes.rewrite import scalar_value
from needle_ir.passes.stable_forms import in_form, minus, plus

# How many nodes a question looks at: beyond, the answer is no.
LIMIT = 128

Log = Callable[[Node], Node]


def _log_of_sum_of_two(log: Log, p: Node, q: Node) -> Node:
    for one, other in ((p, q), (q, p)):
        if scalar_value(one) == 1 and len(one.shape) <= len(other.shape):
            return softplus(log(other))
    return logaddexp(log(p), log(q))


def _times(x: Node, factor: Node) -> Node:
    return minus(x) if scalar_value(factor) == -1 else x * factor


# log(op(p, ...)) by log(p), ...: `log` gives the logarithms of the operands.
LOGARITHMS: dict[Op, Callable[..., Node]] = {
    EXP: lambda log, x: x,
    SOFTMAX: lambda log, x, axes: log_softmax(x, axes),
    SIGMOID: lambda log, x: -softplus(minus(x)),
    ADD: _log_of_sum_of_two,
    MULTIPLY: lambda log, p, q: in_form(plus(log(p), log(q))),
    DIVIDE: lambda log, p, q: in_form(log(p) - log(q)),
    POWER: lambda log, p, exponent: _times(log(p), exponent),
    SQRT: lambda log, p: log(p) * 0.5,
    SUM: lambda log, p, axes, keepdims: logsumexp(log(p), axes, keepdims),
    MAX: lambda log, p, axes, keepdims: max(log(p), axes, keepdims),
    MIN: lambda log, p, axes, keepdims: min(log(p), axes, keepdims),
    WHERE: lambda log, condition, p, q: where(condition, log(p), log(q)),
    RESHAPE: lambda log, p, shape: reshape(log(p), shape),
    TRANSPOSE: lambda log, p, permutation: permute(log(p), permutation),
    BROADCAST_TO: lambda log, p, shape: broadcast_to(log(p), shape),
    SLICE: lambda log, p, starts, lengths, steps: slice(log(p), starts, lengths, steps),
    GATHER: lambda log, p, *indices: gather(log(p), *indices),
    CONCATENATE: lambda log, *ps, axis: concatenate([log(p) for p in ps], axis),
    STOP_GRADIENT: lambda log, p: stop_gradient(log(p)),
}

_PROBABILITIES = {SOFTMAX, SIGMOID}
_ENDS = {EXP, *_PROBABILITIES}
# Which operands are part of the expression: all, or these.
_PARTS = {POWER: np.s_[:1], GATHER: np.s_[:1], WHERE: np.s_[1:]}


def _parts(node: Node) -> tuple[Node, ...]:
    """The operands whose logarithms make the logarithm of `node`."""
    if node.op in _ENDS or node.op not in LOGARITHMS:
        return ()
    return node.inputs[_PARTS.get(node.op, np.s_[:])]


def is_exponential(*nodes: Node) -> bool:
    """Whether `nodes` are exponentials, probabilities and what is positive by being made of them.

    Constants that are not negative and casts of booleans may take part.
    """
    return _made_of(nodes, _ENDS)


def may_overflow(*nodes: Node) -> bool:
    """Whether `nodes` are exponential, and not by probabilities alone."""
    return _made_of(nodes, {EXP})


def may_vanish(node: Node) -> bool:
    """Whether an exponential node may be 0 in floating point where it is not in real numbers."""
    guarded = node.op is ADD and any(map(is_weight, node.inputs))
    return is_exponential(node) and not guarded


def _made_of(nodes: tuple[Node, ...], ends: set[Op]) -> bool:
    found = False
    seen = set(nodes)
    todo = list(seen)
    while todo:
        node = todo.pop()
        if node.op in _ENDS:
            found = found or node.op in ends
        elif node.op in LOGARITHMS and _is_defined(node):
            parts = [x for x in _parts(node) if x not in seen]
            seen.update(parts)
            todo += parts
        elif not is_weight(node):
            return False
        if len(seen) > LIMIT:
            return False
    return found


def _is_defined(node: Node) -> bool:
    if node.op is POWER:
        return bool(scalar_value(node.inputs[1]))
    if node.op is SUM:
        # The log of an empty sum is -inf; logsumexp refuses an empty axis.
        return all(node.inputs[0].shape[axis] for axis in node.attrs["axes"])
    return True


def is_weight(node: Node) -> bool:
    """Whether a node is a mask or a constant that is nowhere negative."""
    while node.op in (RESHAPE, BROADCAST_TO):
        node = node.inputs[0]
    if node.op is CAST:
        return node.inputs[0].dtype == BOOL
    if node.op is not CONSTANT:
        return False
    number = scalar_value(node)
    return bool((node.attrs["value"] >= 0).all() if number is None else number >= 0)


def factors(product: Node) -> tuple[Node, Node] | None:
    """The two factors of a product, an exponential one first and another one; None elsewhere."""
    if product.op is not MULTIPLY:
        return None
    for p, other in (product.inputs, product.inputs[::-1]):
        if is_exponential(p) and not is_exponential(other):
            return p, other
    return None


def is_weighted_sum(node: Node) -> bool:
    """Whether a node is the sum over axes of exponentials times something of any sign."""
    return node.op is SUM and _is_defined(node) and factors(node.inputs[0]) is not None


def weighted_terms(node: Node) -> list[tuple[Node, Node]] | None:
    """The terms of a sum or a difference as exponentials and the weights that they have in it.

    None where a term has no exponential in it, and for a node that is none of the two.
    """
    one = as_constant(1.0, node.dtype) if is_floating(node.dtype) else None
    if one is None or node.op not in (ADD, SUBTRACT):
        return None
    found: list[tuple[Node, Node]] = []
    todo = [(node, one)]
    while todo:
        term, sign = todo.pop()
        if len(found) > LIMIT:
            return None
        if is_exponential(term):
            found.append((term, sign))
        elif term.op is ADD:
            todo += [(x, sign) for x in reversed(term.inputs)]
        elif term.op is SUBTRACT:
            todo += [(term.inputs[1], -sign), (term.inputs[0], sign)]
        else:
            parts = factors(term)
            if parts is None:
                return None
            found.append((parts[0], parts[1] if sign is one else parts[1] * sign))
    return found


def log_of_weighted_terms(terms: list[tuple[Node, Node]]) -> Node:
    """log(sum of exponential * weight) over the `terms`, of any sign."""
    shape = broadcast_shapes(*[x.shape for term in terms for x in term])
    xs = logarithms(*[p for p, _ in terms])
    result: Node = weighted_logsumexp(
        _stacked(xs, shape), _stacked([w for _, w in terms], shape), 0
    )
    return result


def _stacked(xs: Sequence[Node], shape: tuple[int, ...]) -> Node:
    result: Node = stack([x if x.shape == shape else broadcast_to(x, shape) for x in xs])
    return result


def log_of_difference(p: Node, q: Node) -> Node:
    """log(p - q) of exponentials: NaN where q is larger."""
    log_p, log_q = logarithms(p, q)
    # Of a q that is 0 nothing is subtracted, also where p is 0 as well.
    ratio = where(equal(log_q, -np.inf), -np.inf, in_form(log_q - log_p))
    result: Node = log_p + log1mexp(ratio)
    return result


def has_logarithm(node: Node) -> bool:
    """Whether `logarithm` can say more of a node than log(node)."""
    return is_exponential(node) or is_weighted_sum(node)


def logarithms(*nodes: Node) -> tuple[Node, ...]:
    """log(node) for each node: worked out where it is exponential, as it stands elsewhere.

    What the nodes share, their logarithms share.
    """
    known = {x: _log(x) for x in nodes if not (is_exponential(x) or is_weight(x))}
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if node in known:
            continue
        waiting = [x for x in _parts(node) if x not in known]
        if waiting:
            todo += [node, *waiting]
        elif node.op in LOGARITHMS:
            known[node] = LOGARITHMS[node.op](known.__getitem__, *node.inputs, **node.attrs)
        else:
            known[node] = _log_of_weight(node)
    return tuple([known[node] for node in nodes])


def _log(node: Node) -> Node:
    parts = factors(node.inputs[0]) if is_weighted_sum(node) else None
    if parts is None:
        result: Node = log(node)
    else:
        result = weighted_logsumexp(logarithm(parts[0]), parts[1], **node.attrs)
    return result


def logarithm(node: Node) -> Node:
    """log(node), worked out where it is exponential."""
    return logarithms(node)[0]


def _log_of_weight(node: Node) -> Node:
    if node.op is CONSTANT:
        with np.errstate(all="ignore"):
            return constant_node(np.log(node.attrs["value"]), node.origin)
    zero, nothing = (as_constant(x, node.dtype) for x in (0.0, -np.inf))
    result: Node = where(node.inputs[0], zero, nothing)
    return result


# Values -------------------------------------------------------------------------------------------

# What is lost in one of these, a rule can get back where it sees what they were made of.
_LOSSY = {EXPM1, TANH, WEIGHTED_SOFTMAX, *_ENDS}
_CARRYING = {*LOGARITHMS, NEGATIVE, SUBTRACT, KNOWN} - _ENDS
MAY_LOSE_DIGITS = _LOSSY | _CARRYING

# Whether a node has lost digits, None where its op decides.
Judge = Callable[[Node], bool | None]


def lossy_part(root: Node, judge: Judge = lambda node: None) -> set[Node]:
    """The nodes from `root` down to what loses digits: an exponential or a probability.

    A rule may need to know what `root` is made of, because its value says less. Empty where nothing
    is lost within `LIMIT` nodes.
    """
    users: dict[Node, list[Node]] = {root: []}
    todo = [root]
    found: list[Node] = []
    while todo and len(users) <= LIMIT:
        node = todo.pop()
        verdict = judge(node)
        if verdict or (verdict is None and node.op in _LOSSY):
            found.append(node)
        if verdict is None and node.op in _CARRYING:
            for operand in node.inputs:
                if operand not in users:
                    todo.append(operand)
                users.setdefault(operand, []).append(node)
    part: set[Node] = set()
    while found:
        node = found.pop()
        if node not in part:
            part.add(node)
            found += users[node]
    return part

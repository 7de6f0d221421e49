"""The stable ops where they are written in parts: x - logsumexp(x) is log_softmax(x), and so on."""

from typing import Any

from needle_ir.ir import INPUT, Node, Op, Trait
from needle_ir.ops import (
    abs,
    exp,
    expm1,
    log_softmax,
    logaddexp,
    logsumexp,
    maximum,
    relu,
    reshape,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from needle_ir.ops.build import apply
from needle_ir.ops.elementwise import NEGATIVE, SUBTRACT
from needle_ir.ops.exponentials import LOGSUMEXP, SIGMOID
from needle_ir.ops.indexing import GATHER, SLICE
from needle_ir.ops.markers import GRAD, KNOWN, STOP_GRADIENT, VARIABLE
from needle_ir.ops.reduction import MAX, MIN
from needle_ir.ops.shape import BROADCAST_TO, RESHAPE, TRANSPOSE
from needle_ir.passes.rewrite import Rule

# Two expressions are compared up to this many nodes, and count as different beyond.
LIMIT = 128


def minus(x: Node) -> Node:
    """-x, without a second minus."""
    if x.op is NEGATIVE:
        return x.inputs[0]
    return x.inputs[1] - x.inputs[0] if x.op is SUBTRACT else -x


def plus(x: Any, y: Node) -> Node:
    """x + y, as a difference where y is a negative."""
    result: Node = x - y.inputs[0] if y.op is NEGATIVE else x + y
    return result


def same(x: Node, y: Node) -> bool:
    """Whether two nodes are the same expression of the same operands."""
    todo = [(x, y)]
    for count, (a, b) in enumerate(todo):
        if a is b:
            continue
        if count > LIMIT or a.op is not b.op or a.type != b.type or a.op in _NEVER_THE_SAME:
            return False
        if a.op.has(Trait.RANDOM) or a.attrs != b.attrs or len(a.inputs) != len(b.inputs):
            return False
        todo += zip(a.inputs, b.inputs, strict=True)
    return True


_NEVER_THE_SAME = {INPUT, VARIABLE, GRAD, KNOWN}


# Rows: what is reduced over axes, and what stands beside the rows that it was reduced from. -------


def row_axes(total: Node, op: Op, x: Node) -> tuple[int, ...] | None:
    """The axes where `total` is op(x) over axes of x, standing beside the rows that it is of.

    None where it is something else, or is broadcast against x along another axis.
    """
    while total.op is BROADCAST_TO:
        total = total.inputs[0]
    reduction = _without_views(total)
    if reduction.op is not op or not same(reduction.inputs[0], x):
        return None
    axes: tuple[int, ...] = reduction.attrs["axes"]
    kept = tuple([1 if i in axes else dim for i, dim in enumerate(x.shape)])
    return axes if _leading_ones(total.shape, len(kept)) == kept else None


def is_extremum_of_rows(shift: Node, x: Node, axes: tuple[int, ...]) -> bool:
    """Whether `shift` is the largest or smallest element of x over some axes, in any layout that
    is constant along `axes`.
    """
    if not _is_constant_along(shift, x, axes):
        return False
    while shift.op in (STOP_GRADIENT, KNOWN, RESHAPE, BROADCAST_TO):
        shift = shift.inputs[0]
    return shift.op in (MAX, MIN) and same(shift.inputs[0], x)


def is_shift(x: Node, shift: Node, back: Node, axes: tuple[int, ...], keepdims: bool) -> bool:
    """Whether `shift` is constant along `axes` of x, and `back` the same numbers beside what is
    left of x when it was reduced over `axes`.
    """
    if not _is_constant_along(shift, x, axes):
        return False
    shape = _leading_ones(shift.shape, len(x.shape))
    if not keepdims:
        shape = tuple([dim for i, dim in enumerate(shape) if i not in axes])
    if _without_leading_ones(shape) != _without_leading_ones(back.shape):
        return False
    shift, back = _without_views(shift), _without_views(back)
    if shift.op is back.op and shift.op.has(Trait.REDUCTION):
        # `keepdims` does not count.
        return shift.attrs["axes"] == back.attrs["axes"] and same(shift.inputs[0], back.inputs[0])
    return same(shift, back)


def beside(x: Node, total: Node) -> Node:
    """x with as many axes as `total` has, where it has fewer.

    Simplify takes axes of length 1 off in front, where an elementwise op puts them back.
    """
    more = len(total.shape) - len(x.shape)
    if more <= 0:
        return x
    result: Node = reshape(x, (1,) * more + x.shape)
    return result


def _is_constant_along(shift: Node, x: Node, axes: tuple[int, ...]) -> bool:
    shape = _leading_ones(shift.shape, len(x.shape))
    return len(shape) == len(x.shape) and all(shape[axis] == 1 for axis in axes)


def _leading_ones(shape: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    return (1,) * (ndim - len(shape)) + shape


def _without_leading_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    first = next((i for i, dim in enumerate(shape) if dim != 1), len(shape))
    return shape[first:]


def _without_views(node: Node) -> Node:
    """A node without the views on it that leave its elements in their order."""
    while node.op in (RESHAPE, BROADCAST_TO) and node.type.size == node.inputs[0].type.size:
        node = node.inputs[0]
    return node


def _log_softmax(x: Node, total: Node) -> Node:
    result: Node = log_softmax(x, row_axes(total, LOGSUMEXP, x))
    return result


ROWS = (
    Rule(
        "shifted-logsumexp",
        lambda x, shift, back, a, k: logsumexp(x - shift, a, k) + back,
        lambda x, shift, back, a, k: logsumexp(beside(x, shift), a, k),
        lambda x, shift, back, a, k: is_shift(beside(x, shift), shift, back, a, k),
    ),
    Rule(
        "log-softmax",
        lambda x, total: x - total,
        lambda x, total: _log_softmax(beside(x, total), total),
        lambda x, total: row_axes(total, LOGSUMEXP, beside(x, total)) is not None,
    ),
    Rule(
        "minus-log-softmax",
        lambda x, total: total - x,
        lambda x, total: -_log_softmax(beside(x, total), total),
        lambda x, total: row_axes(total, LOGSUMEXP, beside(x, total)) is not None,
    ),
    Rule("softmax", lambda x, a: exp(log_softmax(x, a)), lambda x, a: softmax(x, a)),
    Rule(
        "shifted-log-softmax",
        lambda x, shift, a: log_softmax(x - shift, a),
        lambda x, shift, a: log_softmax(beside(x, shift), a),
        lambda x, shift, a: is_extremum_of_rows(shift, beside(x, shift), a),
    ),
    Rule(
        "shifted-softmax",
        lambda x, shift, a: softmax(x - shift, a),
        lambda x, shift, a: softmax(beside(x, shift), a),
        lambda x, shift, a: is_extremum_of_rows(shift, beside(x, shift), a),
    ),
)


def _below_views(p: Node) -> Node:
    """What p is a part of, or has in another layout."""
    while p.op in _VIEWS:
        p = p.inputs[0]
    return p


def _complement(p: Node) -> Node:
    """1 - p, of views of a sigmoid: the sigmoid of fewer elements, of all or of those in view."""
    views: list[Node] = []
    below = p
    while below.op in _VIEWS:
        views.append(below)
        below = below.inputs[0]
    (x,) = below.inputs
    if p.type.size > x.type.size:
        return _viewed(sigmoid(minus(x)), views)
    result: Node = sigmoid(minus(_viewed(x, views)))
    return result


def _viewed(x: Node, views: list[Node]) -> Node:
    for view in reversed(views):
        x = apply(view.op, x, *view.inputs[1:], **view.attrs)
    return x


_VIEWS = {RESHAPE, TRANSPOSE, BROADCAST_TO, SLICE, GATHER, STOP_GRADIENT}

# The same for two numbers, of which one may be 0.
LOGISTIC = (
    Rule("sigmoid", lambda x: exp(-softplus(x)), lambda x: sigmoid(minus(x))),
    Rule(
        "1-minus-sigmoid",
        lambda p: 1 - p,
        lambda p: _complement(p),
        lambda p: _below_views(p).op is SIGMOID,
    ),
    Rule("minus-softplus", lambda x: x - softplus(x), lambda x: -softplus(minus(x))),
    Rule("softplus-minus", lambda x: softplus(x) - x, lambda x: softplus(minus(x))),
    Rule("softplus-plus", lambda x: softplus(-x) + x, lambda x: softplus(x)),
    Rule("softplus-by-relu", lambda x: relu(x) + softplus(-abs(x)), lambda x: softplus(x)),
    Rule("softplus-by-maximum", lambda x: maximum(x, 0) + softplus(-abs(x)), lambda x: softplus(x)),
    Rule("minus-logaddexp", lambda x, y: x - logaddexp(x, y), lambda x, y: -softplus(y - x)),
    Rule(
        "logaddexp-by-maximum",
        lambda x, y: maximum(x, y) + softplus(-abs(x - y)),
        lambda x, y: logaddexp(x, y),
    ),
    Rule(
        "shifted-logaddexp",
        lambda x, y, s: logaddexp(x - s, y - s) + s,
        lambda x, y, s: logaddexp(x, y),
    ),
)

# What cancels: a number near 1 minus 1.
DIFFERENCES = (
    Rule("expm1", lambda x: exp(x) - 1, lambda x: expm1(x)),
    Rule("expm1-plus", lambda x: exp(x) + -1, lambda x: expm1(x)),
    Rule("minus-expm1", lambda x: 1 - exp(x), lambda x: -expm1(x)),
    Rule("1-plus-expm1", lambda x: 1 + expm1(x), lambda x: exp(x)),
    Rule("1-minus-minus-expm1", lambda x: 1 - -expm1(x), lambda x: exp(x)),
    Rule("1-plus-tanh", lambda x: 1 + tanh(x), lambda x: sigmoid(x * 2) * 2),
    Rule("1-minus-tanh", lambda x: 1 - tanh(x), lambda x: sigmoid(x * -2) * 2),
    Rule("tanh", lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)), lambda x: tanh(x)),
    Rule(
        "tanh-of-difference",
        lambda x, y: (exp(x) - exp(y)) / (exp(x) + exp(y)),
        lambda x, y: tanh((x - y) * 0.5),
    ),
    Rule(
        "tanh-by-expm1",
        lambda x, y: expm1(x) * sigmoid(y),
        lambda x, y: tanh(x * 0.5),
        lambda x, y: same(minus(x), y),
    ),
    Rule(
        "tanh-by-minus-expm1",
        lambda x, y: -expm1(x) * sigmoid(y),
        lambda x, y: tanh(x * -0.5),
        lambda x, y: same(minus(x), y),
    ),
    Rule("tanh-by-sigmoid", lambda x: 2 * sigmoid(x) - 1, lambda x: tanh(x * 0.5)),
    Rule("tanh-by-minus-sigmoid", lambda x: 1 - 2 * sigmoid(x), lambda x: tanh(x * -0.5)),
)

FORMS = ROWS + LOGISTIC + DIFFERENCES


def in_form(node: Node) -> Node:
    """The stable op whose definition ends in `node`, or `node` itself."""
    for rule in FORMS:
        result = rule.apply(node)
        if result is not None:
            return in_form(result)
    return node

"""Rules about sums, largest and smallest elements over axes."""

from math import prod

from needle_ir.ir import Node
from needle_ir.ops import broadcast_to, reshape, sum
from needle_ir.ops.exponentials import LOGSUMEXP
from needle_ir.ops.reduction import MAX, MIN, SUM
from needle_ir.passes.pattern import BoundOp, floating, one_of, reduction, scalar_constant
from needle_ir.passes.rule import Rule
from needle_ir.passes.rules.views import of_rank

Ints = tuple[int, ...]

_extremum = one_of(MAX, MIN)
_sum, _max, _min, _logsumexp = one_of(SUM), one_of(MAX), one_of(MIN), one_of(LOGSUMEXP)


def _reduced(shape: Ints, axes: Ints, keepdims: bool) -> Ints:
    """The shape that a reduction over `axes` leaves."""
    if keepdims:
        return tuple([1 if i in axes else dim for i, dim in enumerate(shape)])
    return tuple([dim for i, dim in enumerate(shape) if i not in axes])


def _other_keepdims(f: BoundOp, x: Node, s: Ints) -> Node | None:
    """The reduction with its axes of length 1 kept, or taken off, where that gives the shape."""
    keepdims = not f.attrs["keepdims"]
    if _reduced(x.shape, f.attrs["axes"], keepdims) != s:
        return None
    result: Node = f(x, keepdims=keepdims)
    return result


def _over_ones(f: BoundOp, x: Node) -> Node | None:
    """x without the axes of a reduction that have one element each."""
    axes = f.attrs["axes"]
    if any(x.shape[axis] != 1 for axis in axes):
        return None
    result: Node = reshape(x, _reduced(x.shape, axes, f.attrs["keepdims"]))
    return result


def _at_once(f: BoundOp, g: BoundOp, x: Node) -> Node:
    """f of g over the axes of both."""
    axes, keepdims = g.attrs["axes"], g.attrs["keepdims"]
    left = [axis for axis in range(len(x.shape)) if keepdims or axis not in axes]
    all_axes = sorted({*axes, *[left[axis] for axis in f.attrs["axes"]]})
    inner = _reduced(x.shape, axes, keepdims)
    shape = _reduced(inner, f.attrs["axes"], f.attrs["keepdims"])
    result: Node = reshape(g(x, axes=all_axes, keepdims=False), shape)
    return result


def _sum_before_broadcast(x: Node, s: Ints, axes: Ints, keepdims: bool) -> Node | None:
    """Each element once, times how often it is repeated."""
    lead = len(s) - len(x.shape)
    count = prod([s[axis] for axis in axes if of_rank(x.shape, len(s))[axis] != s[axis]])
    if count == 1:
        return None
    once: Node = sum(x, [axis - lead for axis in axes if axis >= lead], keepdims)
    result: Node = broadcast_to(once * count, _reduced(s, axes, keepdims))
    return result


def _extremum_before_broadcast(f: BoundOp, x: Node, s: Ints) -> Node | None:
    axes, keepdims = f.attrs["axes"], f.attrs["keepdims"]
    shape = of_rank(x.shape, len(s))
    if any(shape[axis] != 1 for axis in axes):
        return None
    once = reshape(x, _reduced(shape, axes, keepdims))
    result: Node = broadcast_to(once, _reduced(s, axes, keepdims))
    return result


# The order in which a sum adds, and in which a largest element is looked for among zeros of both
# signs, shows in floats.
EXACT = (
    Rule(
        "reshape-reduction",
        lambda x, s, f=reduction: reshape(f(x), s),
        lambda x, s, f: _other_keepdims(f, x, s),
        single_use=True,
    ),
    Rule("extremum-of-ones", lambda x, f=_extremum: f(x), lambda x, f: _over_ones(f, x)),
    Rule(
        "extremum-of-broadcast",
        lambda x, s, f=_extremum: f(broadcast_to(x, s)),
        lambda x, s, f: _extremum_before_broadcast(f, x, s),
    ),
    Rule(
        "integer-sum-of-ones",
        lambda f=_sum, x=~floating: f(x),
        lambda f, x: _over_ones(f, x),
    ),
    Rule(
        "integer-sum-of-broadcast",
        lambda s, axes, k, x=~floating: sum(broadcast_to(x, s), axes, k),
        lambda x, s, axes, k: _sum_before_broadcast(x, s, axes, k),
    ),
    Rule(
        "integer-sum-sum",
        lambda f=_sum, g=_sum, x=~floating: f(g(x)),
        lambda f, g, x: _at_once(f, g, x),
        single_use=True,
    ),
    Rule(
        "integer-max-max",
        lambda f=_max, g=_max, x=~floating: f(g(x)),
        lambda f, g, x: _at_once(f, g, x),
        single_use=True,
    ),
    Rule(
        "integer-min-min",
        lambda f=_min, g=_min, x=~floating: f(g(x)),
        lambda f, g, x: _at_once(f, g, x),
        single_use=True,
    ),
)

FAST_MATH = (
    # A sum starts at 0, and 0 + -0.0 is 0.0.
    Rule("sum-of-ones", lambda x=floating, f=_sum: f(x), lambda f, x: _over_ones(f, x)),
    Rule("logsumexp-of-ones", lambda x, f=_logsumexp: f(x), lambda f, x: _over_ones(f, x)),
    Rule(
        "sum-of-broadcast",
        lambda s, axes, k, x=floating: sum(broadcast_to(x, s), axes, k),
        lambda x, s, axes, k: _sum_before_broadcast(x, s, axes, k),
    ),
    Rule(
        "sum-sum",
        lambda f=_sum, g=_sum, x=floating: f(g(x)),
        lambda f, g, x: _at_once(f, g, x),
        single_use=True,
    ),
    # The gradient goes in equal parts to the largest elements, of each group or of all.
    Rule(
        "max-max",
        lambda f=_max, g=_max, x=floating: f(g(x)),
        lambda f, g, x: _at_once(f, g, x),
        single_use=True,
    ),
    Rule(
        "min-min",
        lambda f=_min, g=_min, x=floating: f(g(x)),
        lambda f, g, x: _at_once(f, g, x),
        single_use=True,
    ),
    Rule(
        "sum-of-negative",
        lambda x, axes, k: sum(-x, axes, k),
        lambda x, axes, k: -sum(x, axes, k),
        single_use=True,
    ),
    Rule(
        "sum-of-scaled",
        lambda axes, k, x=floating, c=scalar_constant: sum(x * c, axes, k),
        lambda axes, k, x, c: sum(x, axes, k) * reshape(c, ()),
        single_use=True,
    ),
)

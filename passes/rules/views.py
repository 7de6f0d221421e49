"""Rules about views, which move no numbers: reshape, transpose, broadcast_to, slice."""

from math import prod

from needle_ir.ir import CONSTANT, Node, Trait, constant_node
from needle_ir.ops import broadcast_to, permute, reshape, slice, unslice
from needle_ir.ops.build import CAST
from needle_ir.ops.elementwise import (
    ABS,
    ADD,
    DIVIDE,
    EQUAL,
    GREATER,
    GREATER_EQUAL,
    LESS,
    LESS_EQUAL,
    LOGICAL_NOT,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    NEGATIVE,
    NOT_EQUAL,
    POWER,
    RELU,
    SIGN,
    SQRT,
    SUBTRACT,
    WHERE,
)
from needle_ir.ops.shape import BROADCAST_TO, RESHAPE, broadcast_shapes
from needle_ir.passes.pattern import BoundOp, elementwise, one_of
from needle_ir.passes.rule import Rule

Ints = tuple[int, ...]


def without_ones(shape: Ints) -> Ints:
    """The lengths that are not 1."""
    return tuple([dim for dim in shape if dim != 1])


def of_rank(shape: Ints, rank: int) -> Ints:
    """`shape` with as many ones in front as give it `rank` axes."""
    return (1,) * (rank - len(shape)) + shape


def aligned(x: Node, rank: int) -> Node:
    """x with as many axes of length 1 in front as give it `rank` axes."""
    result: Node = reshape(x, of_rank(x.shape, rank))
    return result


def _is_dense(x: Node) -> bool:
    """Whether a reshape of x moves no numbers either."""
    return not x.op.has(Trait.VIEW) or x.op.has(Trait.DENSE)


def _keeps_order(x: Node, p: Ints) -> bool:
    """Whether only axes of length 1 change their places."""
    moved = [axis for axis in p if x.shape[axis] != 1]
    return moved == sorted(moved)


# Broadcasting ------------------------------------------------------------------------------------

# NumPy gives the same bits for these however its operands lie in memory. Its exp, log, tanh and
# power have more than one way to compute, and do not promise it.
_SAME_BITS_ANYWHERE = one_of(
    *(ABS, ADD, CAST, DIVIDE, EQUAL, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, LOGICAL_NOT),
    *(MAXIMUM, MINIMUM, MULTIPLY, NEGATIVE, NOT_EQUAL, RELU, SIGN, SQRT, SUBTRACT, WHERE),
)


def _before_broadcast(x: Node) -> Node:
    """x without what broadcasting does by itself: repeating, and axes of length 1 in front."""
    if x.op is CONSTANT and x.type.size == 1 and x.shape:
        return constant_node(x.attrs["value"].reshape(()))
    if x.op is BROADCAST_TO:
        return x.inputs[0]
    if x.op is RESHAPE and of_rank(x.inputs[0].shape, len(x.shape)) == x.shape:
        return x.inputs[0]
    return x


def _has_broadcast(*xs: Node) -> bool:
    """Whether an operand may be one that `_before_broadcast` changes."""
    return any(x.op in (BROADCAST_TO, RESHAPE) or (x.op is CONSTANT and x.shape) for x in xs)


def _on_smaller_operands(f: BoundOp, *xs: Node) -> Node | None:
    """The op on its operands from before they are broadcast, where together they give the shape."""
    shape = broadcast_shapes(*[x.shape for x in xs])
    if f.op is POWER and prod(shape) == 1:
        return None  # a power of arrays of one element depends on their axes
    operands = list(xs)
    for i, x in enumerate(xs):
        operands[i] = _before_broadcast(x)
        if broadcast_shapes(*[operand.shape for operand in operands]) != shape:
            operands[i] = x
    if all(new is old for new, old in zip(operands, xs, strict=True)):
        return None
    result: Node = f(*operands)
    return result


def _broadcast_result(f: BoundOp, *xs: Node) -> Node | None:
    """The op on its operands from before they are broadcast, and its result broadcast instead."""
    shape = broadcast_shapes(*[x.shape for x in xs])
    operands = [_before_broadcast(x) for x in xs]
    if prod(broadcast_shapes(*[x.shape for x in operands])) >= prod(shape):
        return None
    result: Node = broadcast_to(f(*operands), shape)
    return result


def _reshaped_before(x: Node, s: Ints, t: Ints) -> Node:
    """x so that broadcasting it to `t` is broadcasting it to `s` and adding and removing axes of
    length 1.
    """
    lengths = iter([old for old, new in zip(of_rank(x.shape, len(s)), s, strict=True) if new != 1])
    result: Node = reshape(x, [1 if dim == 1 else next(lengths) for dim in t])
    return result


# Slices ------------------------------------------------------------------------------------------


def _slice_of_slice(
    x: Node, starts: Ints, steps: Ints, starts2: Ints, lengths2: Ints, steps2: Ints
) -> Node:
    first = zip(starts, steps, strict=True)
    begin = [a + i * step for (a, step), i in zip(first, starts2, strict=True)]
    # Of no elements the first one may lie anywhere.
    begin = [a if n else 0 for a, n in zip(begin, lengths2, strict=True)]
    strides = [s * t for s, t in zip(steps, steps2, strict=True)]
    result: Node = slice(x, begin, lengths2, strides)
    return result


def _is_whole(x: Node, starts: Ints, lengths: Ints, steps: Ints) -> bool:
    return lengths == x.shape and all(
        n < 1 or (start == 0 and (step == 1 or n == 1))
        for start, n, step in zip(starts, lengths, steps, strict=True)
    )


def _slice_before_broadcast(x: Node, s: Ints, starts: Ints, lengths: Ints, steps: Ints) -> Node:
    small = aligned(x, len(s))
    axes = [
        (start, n, step) if dim == full else (0, 1, 1)
        for dim, full, start, n, step in zip(small.shape, s, starts, lengths, steps, strict=True)
    ]
    a, n, step = zip(*axes, strict=True)
    result: Node = broadcast_to(slice(small, a, n, step), lengths)
    return result


EXACT = (
    Rule("reshape-nothing", lambda x, s: reshape(x, s), lambda x: x),
    Rule("reshape-reshape", lambda x, s, t: reshape(reshape(x, s), t), lambda x, t: reshape(x, t)),
    Rule(
        "transpose-nothing",
        lambda x, p: permute(x, p),
        lambda x: x,
        lambda p: p == tuple(range(len(p))),
    ),
    Rule(
        "transpose-transpose",
        lambda x, p, q: permute(permute(x, p), q),
        lambda x, p, q: permute(x, [p[i] for i in q]),
    ),
    Rule(
        "transpose-ones",
        lambda x, p: permute(x, p),
        lambda x, p: reshape(x, [x.shape[axis] for axis in p]),
        lambda x, p: _is_dense(x) and _keeps_order(x, p),
    ),
    Rule(
        "reshape-transposed-ones",
        lambda x, p, s: reshape(permute(x, p), s),
        lambda x, s: reshape(x, s),
        lambda x, p: _keeps_order(x, p),
    ),
    Rule("broadcast-nothing", lambda x, s: broadcast_to(x, s), lambda x: x),
    Rule(
        "broadcast-broadcast",
        lambda x, s, t: broadcast_to(broadcast_to(x, s), t),
        lambda x, t: broadcast_to(x, t),
    ),
    # A reshape of a reshape is one.
    Rule(
        "broadcast-ones",
        lambda x, s: broadcast_to(x, s),
        lambda x, s: reshape(x, s),
        lambda x, s: prod(s) == x.type.size and _is_dense(x),
    ),
    Rule(
        "broadcast-reshaped",
        lambda x, s, t: broadcast_to(reshape(x, s), t),
        lambda x, t: broadcast_to(x, t),
        lambda x, s: of_rank(x.shape, len(s)) == s,
    ),
    Rule(
        "reshape-broadcast",
        lambda x, s, t: reshape(broadcast_to(x, s), t),
        lambda x, s, t: broadcast_to(_reshaped_before(x, s, t), t),
        lambda s, t: without_ones(s) == without_ones(t),
    ),
    Rule(
        "transpose-broadcast",
        lambda x, s, p: permute(broadcast_to(x, s), p),
        lambda x, s, p: broadcast_to(permute(aligned(x, len(s)), p), [s[axis] for axis in p]),
    ),
    Rule(
        "broadcast-result",
        lambda f=_SAME_BITS_ANYWHERE, *xs: f(*xs),
        _broadcast_result,
        _has_broadcast,
    ),
    Rule(
        "broadcast-operand", lambda f=elementwise, *xs: f(*xs), _on_smaller_operands, _has_broadcast
    ),
    Rule(
        "slice-nothing",
        lambda x, a, n, s: slice(x, a, n, s),
        lambda x: x,
        lambda x, a, n, s: _is_whole(x, a, n, s),
    ),
    Rule(
        "slice-slice",
        lambda x, a, n, s, b, m, t: slice(slice(x, a, n, s), b, m, t),
        lambda x, a, s, b, m, t: _slice_of_slice(x, a, s, b, m, t),
    ),
    Rule(
        "slice-broadcast",
        lambda x, shape, a, n, s: slice(broadcast_to(x, shape), a, n, s),
        lambda x, shape, a, n, s: _slice_before_broadcast(x, shape, a, n, s),
    ),
    Rule(
        "slice-unslice",
        lambda x, shape, a, n, s: slice(unslice(x, shape, a, s), a, n, s),
        lambda x: x,
    ),
    Rule(
        "unslice-nothing",
        lambda x, shape, a, s: unslice(x, shape, a, s),
        lambda x: x,
        lambda x, a, s: _is_whole(x, a, x.shape, s),
    ),
)

FAST_MATH = (
    Rule(
        "function-of-broadcast",
        lambda f=elementwise, *xs: f(*xs),
        _broadcast_result,
        _has_broadcast,
    ),
)

"""Graphs for property tests: drawn by hypothesis, with arrays to run them on.

A graph must give the same numbers before and after the passes, up to rounding. So what is drawn
stays away from the points where rounding decides: a function with a jump or a kink is applied only
to values that every correct compilation computes to the same bits, and no value grows past
`LARGEST`. Divisors and arguments of logarithms and roots are at least one half.
"""

from collections.abc import Callable
from math import prod
from random import Random
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from needle_ir import ops
from needle_ir.ir import Graph, Node, ShapeError, TensorType, Trait, input_node, is_floating
from needle_ir.passes.logarithms import lossy_part

LARGEST = 1e3
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


class Value(NamedTuple):
    """A node, the largest magnitude it can have, and whether its bits are certain."""

    node: Node
    bound: float
    certain: bool


class Sample:
    """A graph and arrays for its inputs. The first outputs, as many as `certain` has, are values;
    it says whether their bits are certain. Then come derivatives.
    """

    def __init__(self, graph: Graph, arrays: list[np.ndarray[Any, Any]], certain: list[bool]):
        self.graph = graph
        self.arrays = arrays
        self.certain = certain

    def __repr__(self) -> str:
        return f"{self.graph}\non {[a.tolist() for a in self.arrays]}"


def _coin(random: Random) -> bool:
    return random.random() < 0.5


def bound_of_sum(x: Value, axes: tuple[int, ...]) -> float:
    return x.bound * max(1, prod(x.node.shape[axis] for axis in axes))


# Moves of one operand. Each gives the node, its bound, and whether the bits stay certain. ---------


def _smooth(function: Callable[[Any], Node], bound: Callable[[float], float]) -> Any:
    return lambda random, x: Value(function(x.node), bound(x.bound), False)


def _exact(function: Callable[[Any], Node], bound: Callable[[float], float] = lambda b: b) -> Any:
    return lambda random, x: Value(function(x.node), bound(x.bound), x.certain)


def _kinked(function: Callable[[Any], Node], bound: Callable[[float], float] = lambda b: b) -> Any:
    """A move only for certain bits: elsewhere rounding could decide which side is taken."""
    return lambda random, x: Value(function(x.node), bound(x.bound), True) if x.certain else None


def _exp(random: Random, x: Value) -> Value | None:
    return Value(ops.exp(x.node), np.exp(x.bound), False) if x.bound <= 5 else None


def _axes(random: Random, x: Value) -> tuple[int, ...]:
    ndim = len(x.node.shape)
    return tuple(axis for axis in range(ndim) if _coin(random))


def _sum(random: Random, x: Value) -> Value:
    axes = _axes(random, x)
    return Value(ops.sum(x.node, axes, _coin(random)), bound_of_sum(x, axes), False)


def _extremum(function: Callable[..., Node]) -> Any:
    def move(random: Random, x: Value) -> Value | None:
        axes = _axes(random, x)
        if not x.certain or 0 in [x.node.shape[axis] for axis in axes]:
            return None
        return Value(function(x.node, axes, _coin(random)), x.bound, True)

    return move


def _log_sum_exp(random: Random, x: Value) -> Value | None:
    """In one of the ways in which people write it."""
    axes, keepdims = _axes(random, x), _coin(random)
    if x.bound > 5 or 0 in [x.node.shape[axis] for axis in axes]:
        return None
    bound = x.bound + np.log(max(1, x.node.type.size))
    if not x.certain or _coin(random):
        return Value(ops.log(ops.sum(ops.exp(x.node), axes, keepdims)), bound, False)
    top = ops.max(x.node, axes, True)
    back = top if keepdims else ops.max(x.node, axes, False)
    return Value(ops.log(ops.sum(ops.exp(x.node - top), axes, keepdims)) + back, bound, False)


def _transpose(random: Random, x: Value) -> Value:
    axes = range(len(x.node.shape))
    order = random.sample(axes, len(axes))
    return Value(ops.permute(x.node, order), x.bound, x.certain)


def _reshape(random: Random, x: Value) -> Value:
    shape = x.node.shape
    shapes = [(prod(shape),), (1, *shape), (*shape, 1), shape[::-1]]
    return Value(ops.reshape(x.node, random.choice(shapes)), x.bound, x.certain)


def _broadcast(random: Random, x: Value) -> Value:
    shape = tuple(random.randint(0, 3) if dim == 1 else dim for dim in x.node.shape)
    lead = random.choice([(), (1,), (2,), (0,)])
    return Value(ops.broadcast_to(x.node, (*lead, *shape)), x.bound, x.certain)


def _slice(random: Random, x: Value) -> Value:
    steps = [random.choice([1, 1, 2, -1]) for _ in x.node.shape]
    lengths = [
        random.randint(0, -(-dim // abs(s))) for dim, s in zip(x.node.shape, steps, strict=True)
    ]
    starts = [0 if s > 0 else dim - 1 for dim, s in zip(x.node.shape, steps, strict=True)]
    starts = [0 if n == 0 else start for start, n in zip(starts, lengths, strict=True)]
    return Value(ops.slice(x.node, starts, lengths, steps), x.bound, x.certain)


def _unslice(random: Random, x: Value) -> Value:
    steps = [random.choice([1, 2]) for _ in x.node.shape]
    starts = [random.randint(0, 1) for _ in x.node.shape]
    shape = [start + s * dim for start, s, dim in zip(starts, steps, x.node.shape, strict=True)]
    return Value(ops.unslice(x.node, shape, starts, steps), x.bound, x.certain)


def _gather(random: Random, x: Value) -> Value | None:
    if 0 in x.node.shape[:1] or not x.node.shape:
        return None
    rows = [random.randrange(x.node.shape[0]) for _ in range(random.randint(0, 4))]
    return Value(ops.gather(x.node, np.array(rows, np.int64)), x.bound, x.certain)


def _other_float(random: Random, x: Value) -> Value:
    dtype = F32 if x.node.dtype == F64 else F64
    return Value(ops.cast(x.node, dtype), x.bound, x.certain)


def _through_int(random: Random, x: Value) -> Value | None:
    if not x.certain:
        return None
    number = ops.cast(x.node, np.int32)
    return Value(ops.cast(number * number - number, x.node.dtype), x.bound**2 + x.bound, True)


def _integers(random: Random, x: Value) -> Value | None:
    """Arithmetic that wraps around in a byte."""
    if not x.certain or x.bound > 100:
        return None
    number = ops.cast(x.node, np.int8)
    wrapped = random.choice(
        [
            lambda n: (n + 100) + 100,
            lambda n: (n * 7) * 9 - n * 0,
            lambda n: -(0 - n) + 0,
            lambda n: (n + n * n) - n * n,
            lambda n: ops.maximum(ops.maximum(n, 3 - n), 3 - n),
            lambda n: ops.power(n, 2) - ops.sign(n),
        ]
    )(number)
    return Value(ops.cast(wrapped, x.node.dtype), 128, True)


def _flags(random: Random, x: Value) -> Value | None:
    """Booleans: compared, negated, joined, and made a number again."""
    if not x.certain:
        return None
    compare = random.choice([ops.less, ops.less_equal, ops.equal, ops.not_equal, ops.greater])
    flags = compare(x.node, random.choice([0.5, -1.0, 0.0]))
    for _ in range(random.randint(0, 3)):
        flags = random.choice(
            [
                ops.logical_not,
                lambda f: f * True,
                lambda f: f + False,
                lambda f: ops.equal(f, False),
                lambda f: ops.where(f, ops.as_constant(False), True),
                lambda f: f + (x.node > 1),
            ]
        )(flags)
    number = ops.cast(flags, x.node.dtype)
    scale = random.choice([1.0, 0.75, -2.0])
    number = number / scale if _coin(random) else number * scale
    return Value(number, 2.0, True)


def _selected(random: Random, x: Value) -> Value | None:
    if not x.certain:
        return None
    condition = random.choice([x.node > 0, ops.as_constant(True), ops.as_constant([False])])
    other = random.choice([x.node, ops.as_constant(0, x.node.dtype), x.node * 2])
    inner = ops.where(condition, other, x.node)
    return Value(ops.where(condition, x.node, inner), 2 * x.bound, True)


def _parts(random: Random, x: Value) -> Value | None:
    """Cut along an axis and put together, in the same order or not."""
    if not x.node.shape:
        return None
    axis, length = random.randrange(len(x.node.shape)), 0
    parts = []
    while length < x.node.shape[axis]:
        n = random.randint(1, x.node.shape[axis] - length)
        starts = [length if i == axis else 0 for i in range(len(x.node.shape))]
        lengths = [n if i == axis else dim for i, dim in enumerate(x.node.shape)]
        parts.append(ops.slice(x.node, starts, lengths))
        length += n
    if _coin(random):
        random.shuffle(parts)
    if not parts:
        return None
    return Value(ops.concatenate(parts, axis), x.bound, x.certain)


# The same number, as the passes see sooner or later.
RESPELLED: list[Callable[[Node], Node]] = [
    lambda x: x * 1.0,
    lambda x: -ops.negative(x),
    lambda x: ops.reshape(ops.reshape(x, (1, x.type.size)), x.shape),
    lambda x: ops.permute(ops.permute(x)),
]


def _written_twice(random: Random, x: Value) -> Value | None:
    """The same moves from x and from x spelled otherwise, joined: the passes make them equal."""
    other = Value(random.choice(RESPELLED)(x.node), x.bound, x.certain)
    moves, seed = random.choices(UNARY, k=random.randint(1, 2)), random.random()
    results: list[Value | None] = [x, other]
    for move in moves:
        results = [move(Random(seed), y) if y and y.bound <= LARGEST else None for y in results]
    first, second = results
    return random.choice(BINARY)(random, first, second) if first and second else None


def _norm(norm: Callable[..., Node]) -> Any:
    def move(random: Random, x: Value) -> Value | None:
        shape = x.node.shape
        if not shape or not x.node.type.size:
            return None
        weight = ops.as_constant(np.linspace(0.5, 1.5, shape[-1]), x.node.dtype)
        return Value(norm(x.node, weight, weight, eps=0.5), 1.5 * max(shape) + 1.5, False)

    return move


def _softmax_loss(random: Random, x: Value) -> Value | None:
    shape = x.node.shape
    if len(shape) != 2 or not x.node.type.size:
        return None
    labels = ops.as_constant(np.arange(shape[0]) % shape[1])
    return Value(ops.softmax_loss(x.node, labels), 2 * x.bound + 6, False)


def _over_rows(function: Callable[..., Node], bound: Callable[[float, int], float]) -> Any:
    """A stable op over some axes, none of them empty."""

    def move(random: Random, x: Value) -> Value | None:
        axes = _axes(random, x)
        if 0 in [x.node.shape[axis] for axis in axes]:
            return None
        return Value(function(x.node, axes), bound(x.bound, x.node.type.size + 1), False)

    return move


def _scatter(random: Random, x: Value) -> Value | None:
    if not x.node.shape:
        return None
    rows = random.randint(1, 4)
    at = [random.randrange(rows) for _ in range(x.node.shape[0])]
    shape = (rows, *x.node.shape[1:])
    node = ops.scatter_add(x.node, np.array(at, np.int64), shape=shape)
    return Value(node, x.bound * max(1, len(at)), False)


def _packed(random: Random, x: Value) -> Value:
    """Packed beside itself and unpacked again, from any place."""
    flat = ops.pack(x.node, x.node)
    start = random.randint(0, x.node.type.size)
    return Value(ops.unpack(flat, start, x.node.shape), x.bound, x.certain)


def _linear(random: Random, x: Value) -> Value | None:
    if not x.node.shape:
        return None
    features = x.node.shape[-1]
    weight = ops.as_constant(np.linspace(-1, 1, features * 2).reshape(features, 2), x.node.dtype)
    bias = ops.as_constant(np.array([0.5, -0.5]), x.node.dtype)
    return Value(ops.linear(x.node, weight, bias), x.bound * features + 0.5, False)


UNARY = [
    _smooth(ops.tanh, lambda b: 1),
    _smooth(lambda x: ops.log(x * x + 0.5), lambda b: np.log(b * b + 2)),
    _smooth(lambda x: ops.sqrt(x * x + 0.5), lambda b: b + 1),
    _smooth(lambda x: ops.log1p(ops.exp(ops.tanh(x))), lambda b: 2),
    _smooth(lambda x: ops.expm1(ops.tanh(x)), lambda b: 2),
    _smooth(lambda x: 1.0 / (x * x + 1.0), lambda b: 1),
    _exact(lambda x: x * 1.0 - 0.0),
    _exact(lambda x: -ops.negative(x)),
    _exact(lambda x: ops.power(x, 2), lambda b: b * b),
    _exact(lambda x: ops.power(x, 1) / 1.0),
    _exact(lambda x: x * 0.5 + 2.0, lambda b: b + 2),
    _exact(lambda x: x * np.arange(3.0)[1:2], lambda b: b),
    _exact(lambda x: x / 4.0 * 2.0 * 8.0, lambda b: 4 * b),
    _exact(lambda x: -(x * 3.0) / -1.0, lambda b: 3 * b),
    _exact(lambda x: ops.power(x, 0) - -x, lambda b: b + 1),
    _exact(ops.stop_gradient),
    _exact(ops.variable),
    _kinked(lambda x: ops.relu(ops.relu(x))),
    _kinked(ops.abs),
    _kinked(lambda x: ops.sign(ops.sign(x)), lambda b: 1),
    _kinked(lambda x: ops.maximum(x, x) + ops.relu(abs(-x)), lambda b: 2 * b),
    _kinked(lambda x: ops.where(x > 0.5, x, 0.25 * x), lambda b: b),
    _exp,
    _sum,
    _sum,
    _extremum(ops.max),
    _extremum(ops.min),
    _log_sum_exp,
    _log_sum_exp,
    _transpose,
    _transpose,
    _reshape,
    _reshape,
    _broadcast,
    _broadcast,
    _slice,
    _slice,
    _unslice,
    _gather,
    _other_float,
    _through_int,
    _integers,
    _flags,
    _flags,
    _selected,
    _parts,
    _norm(ops.layer_norm),
    _norm(ops.batch_norm),
    _softmax_loss,
    _smooth(ops.sigmoid, lambda b: 1),
    _smooth(ops.softplus, lambda b: b + 1),
    _smooth(lambda x: ops.log1mexp(-(x * x) - 0.5), lambda b: 2),
    _over_rows(ops.logsumexp, lambda b, n: b + np.log(n)),
    _over_rows(ops.softmax, lambda b, n: 1),
    _over_rows(ops.log_softmax, lambda b, n: 2 * b + np.log(n)),
    _over_rows(
        lambda x, axes: ops.weighted_logsumexp(x, x * x + 0.5, axes),
        lambda b, n: b + 2 * np.log(b + 2) + np.log(n),
    ),
    _over_rows(lambda x, axes: ops.weighted_softmax(x, x * x + 0.5, axes), lambda b, n: 1),
    _scatter,
    _packed,
    _linear,
    # What cancels in the derivative alone.
    _smooth(lambda x: (ops.tanh(x) - ops.exp(ops.tanh(x))) * 3.0, lambda b: 6),
    _smooth(lambda x: ops.log_softmax(ops.reshape(x, (*x.shape, 1)), -1), lambda b: 1),
    *[_written_twice] * 4,
]


# Moves of two operands. ---------------------------------------------------------------------------


def _matmul(random: Random, x: Value, y: Value) -> Value | None:
    if not x.node.shape or not y.node.shape:
        return None
    flags = {"transpose_a": _coin(random), "transpose_b": _coin(random)}
    for name, operand in zip(flags, (x.node, y.node), strict=True):
        flags[name] = flags[name] and len(operand.shape) > 1
    inner = x.node.shape[-2 if flags["transpose_a"] else -1]
    return Value(ops.matmul(x.node, y.node, **flags), x.bound * y.bound * inner, False)


def _select(compare: Callable[[Any, Any], Node]) -> Any:
    def move(random: Random, x: Value, y: Value) -> Value | None:
        if not (x.certain and y.certain):
            return None
        condition = compare(x.node, y.node)
        return Value(ops.where(condition, x.node, y.node), max(x.bound, y.bound), True)

    return move


def _select_twice(random: Random, x: Value, y: Value) -> Value | None:
    """By one condition that is written in two ways."""
    if not (x.certain and y.certain):
        return None
    again = random.choice(RESPELLED)(x.node) > y.node
    inner = ops.where(again, x.node, y.node)
    branches = [inner, y.node * 0.5][:: random.choice([1, -1])]
    return Value(ops.where(x.node > y.node, *branches), max(x.bound, y.bound), True)


def _select_by_booleans(random: Random, x: Value, y: Value) -> Value | None:
    if not (x.certain and y.certain):
        return None
    flags = ops.where(x.node > y.node, x.node > 0.5, ops.less(y.node, 0.25))
    return Value(ops.where(flags, x.node, y.node), max(x.bound, y.bound), True)


def _known(random: Random, x: Value, y: Value) -> Value | None:
    # Where digits are lost, stabilize looks behind the value, which then has to be the right one.
    if x.node.type != y.node.type or lossy_part(x.node):
        return None
    return Value(ops.known(x.node, y.node), y.bound, y.certain)


def _concatenate(random: Random, x: Value, y: Value) -> Value | None:
    if not x.node.shape or x.node.dtype != y.node.dtype:
        return None
    axis = random.randrange(len(x.node.shape))
    parts = [x.node, y.node, x.node][: random.randint(1, 3)]
    bound, certain = max(x.bound, y.bound), x.certain and y.certain
    return Value(ops.concatenate(parts, axis), bound, certain)


def _larger_or_smaller(function: Callable[[Any, Any], Node]) -> Any:
    def move(random: Random, x: Value, y: Value) -> Value | None:
        if not (x.certain and y.certain):
            return None
        return Value(function(x.node, y.node), max(x.bound, y.bound), True)

    return move


def _arithmetic(
    function: Callable[[Any, Any], Node], bound: Callable[[float, float], float]
) -> Any:
    return lambda random, x, y: Value(
        function(x.node, y.node), bound(x.bound, y.bound), x.certain and y.certain
    )


def _sum_of(a: float, b: float) -> float:
    return a + b


BINARY = [
    _arithmetic(ops.add, _sum_of),
    _arithmetic(ops.subtract, _sum_of),
    _arithmetic(ops.multiply, lambda a, b: a * b),
    _arithmetic(lambda x, y: x + (-y), _sum_of),
    _arithmetic(lambda x, y: x - (-y), _sum_of),
    _arithmetic(lambda x, y: x / (y * y + 0.5), lambda a, b: 2 * a),
    lambda random, x, y: Value(ops.logaddexp(x.node, y.node), max(x.bound, y.bound) + 1, False),
    _matmul,
    _matmul,
    _select(ops.less),
    _select(ops.greater_equal),
    _select(ops.equal),
    _select_by_booleans,
    _select_twice,
    _larger_or_smaller(ops.maximum),
    _larger_or_smaller(ops.minimum),
    _known,
    _concatenate,
]


def _draw(random: Random, like: Value) -> Value:
    shape, dtype = like.node.shape, like.node.dtype
    kind = random.random()
    if kind < 0.4:
        return Value(ops.random_normal(shape, 0.0, 0.25, dtype), 2.0, True)
    if kind < 0.6:
        return Value(ops.cast(ops.random_bernoulli(shape, 0.5), dtype), 1.0, True)
    return Value(ops.random_uniform(shape, -2.0, 2.0, dtype), 2.0, True)


def _grown(random: Random, pool: list[Value]) -> Value | None:
    """One more value, made from those in `pool`; None where the move that was tried is no good."""

    def recent() -> Value:
        return random.choice(pool[-4:] if _coin(random) else pool)

    kind = random.randrange(13)
    try:
        if kind == 0:
            value = _draw(random, recent())
        elif kind < 9:
            value = random.choice(UNARY)(random, recent())
        else:
            value = random.choice(BINARY)(random, recent(), recent())
    except ShapeError:
        return None
    small = value is not None and value.bound <= LARGEST and value.node.type.size <= 400
    return value if small else None


SHAPES = [
    *((2, 3), (3, 3), (4, 2), (1, 3), (4, 1), (0, 2), (3, 0)),
    *((3,), (1,), (5,), (0,), (), (2, 3, 4), (2, 1, 3), (1, 1, 2), (2, 0, 3)),
]


def _inputs(random: Random, dtype: Any) -> list[Value]:
    base = random.choice(SHAPES)
    values = []
    for number in range(random.randint(1, 3)):
        shape = tuple(random.choice([dim, dim, dim, 1]) for dim in base)
        shape = shape[random.randint(0, len(shape)) :] if number else base
        node = input_node(TensorType(shape, dtype), f"x{number}")
        values.append(Value(node, 2.0, True))
    return values


def _requests(random: Random, inputs: list[Value], pool: list[Value]) -> list[Node]:
    """Derivatives of one of the values by some of the inputs and variables, to second order."""
    y = random.choice(pool[-3:]).node
    leaves = [*inputs, *[value for value in pool if value.node.op.name == "variable"]]
    by = [value.node for value in random.sample(leaves, random.randint(1, min(3, len(leaves))))]
    ct = None
    if _coin(random):
        ct = ops.broadcast_to(ops.as_constant(0.5, y.dtype), y.shape)
    elif _coin(random):
        y = ops.sum(y)
    first = [ops.grad(y, x, ct) for x in by]
    if _coin(random):
        return first
    x = by[-1]
    return [*first, ops.grad(ops.sum(first[0] * first[0]) + ops.sum(x * x), x)]


def make_sample(seed: int, moves: int, gradients: bool) -> Sample:
    """A graph of `moves` moves. Fewer moves with the same seed are the beginning of the same."""
    random = Random(seed)
    inputs = _inputs(random, random.choice([F32, F64]))
    pool = list(inputs)
    for _ in range(moves):
        value = None
        for _ in range(5):
            value = value or _grown(random, pool)
        pool += [value] if value else []
    returned = [pool[-1], *[value for value in pool[:-1] if random.random() < 0.2]]
    outputs = [value.node for value in returned]
    unused = [value.node for value in pool if random.random() < 0.1]
    if gradients:
        outputs += _requests(random, inputs, pool)
    drawn = [x for value in pool for x in (*value.node.inputs, value.node)]
    effects = [x for x in dict.fromkeys(drawn) if x.op.has(Trait.EFFECT)]
    graph = Graph([value.node for value in inputs], outputs, effects, unused)
    numbers = np.random.default_rng(seed)
    arrays = [
        np.asarray(numbers.choice(np.linspace(-2, 2, 17), node.shape), node.dtype)
        for node in graph.inputs
    ]
    return Sample(graph, arrays, [value.certain for value in returned])


def samples(gradients: bool = True) -> st.SearchStrategy[Sample]:
    """Graphs with arrays for their inputs. A run of one starts with `np.random.seed(0)`.

    Hypothesis draws a seed and the number of moves: so all moves are tried equally often, and a
    failing graph is made smaller by moves.
    """
    wanted = st.booleans() if gradients else st.just(False)
    return st.builds(make_sample, st.integers(0, 2**32 - 1), st.integers(1, 14), wanted)


def tolerance(graph: Graph) -> float:
    """How far two correct results may lie apart, relative to the largest element: by the coarsest
    float dtype in the graph.
    """
    floats = [node.dtype for node in graph.nodes if is_floating(node.dtype)]
    return max(3e-4 if dtype == F32 else 1e-10 for dtype in floats)


def assert_close(actual: Any, expected: Any, rtol: float) -> None:
    """Same dtypes, same shapes, same numbers up to `rtol` of the largest; NaN equals NaN."""
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        finite = np.abs(b[np.isfinite(b)])
        scale = max(1.0, float(np.max(finite, initial=0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale)

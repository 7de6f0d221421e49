"""Graphs for property tests: drawn by hypothesis, with arrays to run them on.

A graph must give the same numbers before and after the passes, up to rounding. So what is drawn
stays away from the points where rounding decides: a function with a jump or a kink is applied only
to values that every correct compilation computes to the same bits, and no value grows past
`LARGEST`. Divisors and arguments of logarithms and roots are at least one half.
"""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from needle_ir import ops
from needle_ir.ir import Graph, Node, ShapeError, TensorType, Trait, input_node, is_floating

LARGEST = 1e3
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


class Value(NamedTuple):
    """A node, the largest magnitude it can have, and whether its bits are certain."""

    node: Node
    bound: float
    certain: bool


class Sample:
    """A graph and arrays for its inputs."""

    def __init__(self, graph: Graph, arrays: list[np.ndarray[Any, Any]]):
        self.graph = graph
        self.arrays = arrays

    def __repr__(self) -> str:
        return f"{self.graph}\non {[a.tolist() for a in self.arrays]}"


def bound_of_sum(x: Value, axes: tuple[int, ...]) -> float:
    return x.bound * max(1, prod(x.node.shape[axis] for axis in axes))


# Moves of one operand. Each gives the node, its bound, and whether the bits stay certain. ---------


def _smooth(function: Callable[[Any], Node], bound: Callable[[float], float]) -> Any:
    return lambda draw, x: Value(function(x.node), bound(x.bound), False)


def _exact(function: Callable[[Any], Node], bound: Callable[[float], float] = lambda b: b) -> Any:
    return lambda draw, x: Value(function(x.node), bound(x.bound), x.certain)


def _kinked(function: Callable[[Any], Node], bound: Callable[[float], float] = lambda b: b) -> Any:
    """A move only for certain bits: elsewhere rounding could decide which side is taken."""
    return lambda draw, x: Value(function(x.node), bound(x.bound), True) if x.certain else None


def _exp(draw: Any, x: Value) -> Value | None:
    return Value(ops.exp(x.node), np.exp(x.bound), False) if x.bound <= 5 else None


def _axes(draw: Any, x: Value) -> tuple[int, ...]:
    ndim = len(x.node.shape)
    kept = draw(st.lists(st.booleans(), min_size=ndim, max_size=ndim))
    return tuple(axis for axis, keep in enumerate(kept) if not keep)


def _sum(draw: Any, x: Value) -> Value:
    axes = _axes(draw, x)
    return Value(ops.sum(x.node, axes, draw(st.booleans())), bound_of_sum(x, axes), False)


def _extremum(draw: Any, x: Value) -> Value | None:
    axes = _axes(draw, x)
    if not x.certain or 0 in [x.node.shape[axis] for axis in axes]:
        return None
    function = draw(st.sampled_from([ops.max, ops.min]))
    return Value(function(x.node, axes, draw(st.booleans())), x.bound, True)


def _log_sum_exp(draw: Any, x: Value) -> Value | None:
    """In one of the ways in which people write it."""
    axes, keepdims = _axes(draw, x), draw(st.booleans())
    if x.bound > 5 or 0 in [x.node.shape[axis] for axis in axes]:
        return None
    bound = x.bound + np.log(max(1, x.node.type.size))
    if not x.certain or draw(st.booleans()):
        return Value(ops.log(ops.sum(ops.exp(x.node), axes, keepdims)), bound, False)
    top = ops.max(x.node, axes, True)
    back = top if keepdims else ops.max(x.node, axes, False)
    return Value(ops.log(ops.sum(ops.exp(x.node - top), axes, keepdims)) + back, bound, False)


def _transpose(draw: Any, x: Value) -> Value:
    order = draw(st.permutations(range(len(x.node.shape))))
    return Value(ops.permute(x.node, order), x.bound, x.certain)


def _reshape(draw: Any, x: Value) -> Value:
    shape = x.node.shape
    shapes = [(prod(shape),), (1, *shape), (*shape, 1), shape[::-1]]
    return Value(ops.reshape(x.node, draw(st.sampled_from(shapes))), x.bound, x.certain)


def _broadcast(draw: Any, x: Value) -> Value:
    shape = tuple(draw(st.integers(0, 3)) if dim == 1 else dim for dim in x.node.shape)
    lead = draw(st.sampled_from([(), (1,), (2,), (0,)]))
    return Value(ops.broadcast_to(x.node, (*lead, *shape)), x.bound, x.certain)


def _other_float(draw: Any, x: Value) -> Value:
    dtype = F32 if x.node.dtype == F64 else F64
    return Value(ops.cast(x.node, dtype), x.bound, x.certain)


def _through_int(draw: Any, x: Value) -> Value | None:
    if not x.certain:
        return None
    number = ops.cast(x.node, np.int32)
    return Value(ops.cast(number * number - number, x.node.dtype), x.bound**2 + x.bound, True)


def _norm(draw: Any, x: Value) -> Value | None:
    shape = x.node.shape
    if not shape or not x.node.type.size:
        return None
    weight = ops.as_constant(np.linspace(0.5, 1.5, shape[-1]), x.node.dtype)
    rows = len(shape) == 2 and draw(st.booleans())
    norm = ops.batch_norm if rows else ops.layer_norm
    return Value(norm(x.node, weight, weight, eps=0.5), 1.5 * max(shape) + 1.5, False)


def _softmax_loss(draw: Any, x: Value) -> Value | None:
    shape = x.node.shape
    if len(shape) != 2 or not x.node.type.size:
        return None
    labels = ops.as_constant(np.arange(shape[0]) % shape[1])
    return Value(ops.softmax_loss(x.node, labels), 2 * x.bound + 6, False)


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
    _exact(ops.stop_gradient),
    _exact(ops.variable),
    _kinked(lambda x: ops.relu(ops.relu(x))),
    _kinked(ops.abs),
    _kinked(lambda x: ops.where(x > 0.5, x, 0.25 * x), lambda b: b),
    _exp,
    _sum,
    _sum,
    _extremum,
    _log_sum_exp,
    _log_sum_exp,
    _transpose,
    _transpose,
    _reshape,
    _reshape,
    _broadcast,
    _broadcast,
    _other_float,
    _through_int,
    _norm,
    _softmax_loss,
]


# Moves of two operands. ---------------------------------------------------------------------------


def _matmul(draw: Any, x: Value, y: Value) -> Value | None:
    if not x.node.shape or not y.node.shape:
        return None
    return Value(x.node @ y.node, x.bound * y.bound * x.node.shape[-1], False)


def _select(draw: Any, x: Value, y: Value) -> Value | None:
    if not (x.certain and y.certain):
        return None
    condition = draw(st.sampled_from([ops.less, ops.greater_equal, ops.equal]))(x.node, y.node)
    return Value(ops.where(condition, x.node, y.node), max(x.bound, y.bound), True)


def _select_by_booleans(draw: Any, x: Value, y: Value) -> Value | None:
    if not (x.certain and y.certain):
        return None
    flags = ops.where(x.node > y.node, x.node > 0.5, ops.less(y.node, 0.25))
    return Value(ops.where(flags, x.node, y.node), max(x.bound, y.bound), True)


def _known(draw: Any, x: Value, y: Value) -> Value | None:
    if x.node.type != y.node.type:
        return None
    return Value(ops.known(x.node, y.node), y.bound, y.certain)


def _maximum(draw: Any, x: Value, y: Value) -> Value | None:
    if not (x.certain and y.certain):
        return None
    function = draw(st.sampled_from([ops.maximum, ops.minimum]))
    return Value(function(x.node, y.node), max(x.bound, y.bound), True)


def _arithmetic(
    function: Callable[[Any, Any], Node], bound: Callable[[float, float], float]
) -> Any:
    return lambda draw, x, y: Value(
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
    _matmul,
    _matmul,
    _select,
    _select_by_booleans,
    _maximum,
    _known,
]


def _random(draw: Any, like: Value) -> Value:
    shape, dtype = like.node.shape, like.node.dtype
    return Value(ops.random_uniform(shape, -2.0, 2.0, dtype), 2.0, True)


def _grown(draw: Any, pool: list[Value]) -> Value | None:
    """One more value, made from those in `pool`; None where the move that was drawn is no good."""
    recent = st.integers(0, len(pool) - 1).map(lambda back: pool[-1 - back])
    kind = draw(st.integers(0, 12))
    try:
        if kind == 0:
            value = _random(draw, draw(recent))
        elif kind < 9:
            value = draw(st.sampled_from(UNARY))(draw, draw(recent))
        else:
            value = draw(st.sampled_from(BINARY))(draw, draw(recent), draw(recent))
    except ShapeError:
        return None
    small = value is not None and value.bound <= LARGEST and value.node.type.size <= 400
    return value if small else None


def _inputs(draw: Any, dtype: Any) -> list[Value]:
    base = draw(st.lists(st.sampled_from([1, 2, 3, 3, 4, 0]), max_size=3))
    values = []
    for number in range(draw(st.integers(1, 3))):
        shape = [draw(st.sampled_from([dim, dim, dim, 1])) for dim in base]
        shape = shape[draw(st.integers(0, len(shape))) :] if number else base
        node = input_node(TensorType(tuple(shape), dtype), f"x{number}")
        values.append(Value(node, 2.0, True))
    return values


def _requests(draw: Any, inputs: list[Value], pool: list[Value]) -> list[Node]:
    """Derivatives of one of the values by some of the inputs and variables, to second order."""
    y = draw(st.sampled_from(pool[::-1])).node
    leaves = [*inputs, *[value for value in pool if value.node.op.name == "variable"]]
    wanted = draw(st.lists(st.sampled_from(leaves), min_size=1, max_size=3, unique=True))
    by = [value.node for value in wanted]
    ct = draw(st.sampled_from([None, ops.as_constant(0.5, y.dtype)]))
    if ct is None:
        y = ops.sum(y) if draw(st.booleans()) else y
    else:
        ct = ops.broadcast_to(ct, y.shape)
    first = [ops.grad(y, x, ct) for x in by]
    if draw(st.booleans()):
        return first
    x = by[-1]
    return [*first, ops.grad(ops.sum(first[0] * first[0]) + ops.sum(x * x), x)]


@st.composite
def samples(draw: Any, gradients: bool = True) -> Sample:
    """A graph with arrays for its inputs."""
    dtype = draw(st.sampled_from([F32, F64]))
    inputs = _inputs(draw, dtype)
    pool = list(inputs)
    for _ in range(draw(st.integers(1, 12))):
        value = _grown(draw, pool)
        if value is not None:
            pool.append(value)
    outputs = [pool[-1].node, *[v.node for v in pool[:-1] if draw(st.integers(0, 5)) == 0]]
    unused = [v.node for v in pool if draw(st.integers(0, 9)) == 0]
    if gradients and draw(st.booleans()):
        outputs += _requests(draw, inputs, pool)
    effects = [v.node for v in pool if v.node.op.has(Trait.EFFECT)]
    graph = Graph([v.node for v in inputs], outputs, effects, unused)
    numbers = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = [
        np.asarray(numbers.choice(np.linspace(-2, 2, 17), v.node.shape), dtype) for v in inputs
    ]
    return Sample(graph, arrays)


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

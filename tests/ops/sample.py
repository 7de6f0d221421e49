"""What a row of sample inputs is, and the pieces that rows are made of."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from needle_ir.ir import Graph, TensorType, input_node

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sample:
    """One row.

    `reference(*operands, **attrs)` gives the result. Its dtype counts, only that a float result
    has the dtype of the float operands, or `dtype` where the op fixes it. `tolerance` is in units
    of the dtype's rounding error at the largest element. `step` is the step of finite differences.
    NumPy's global generator is seeded with `seed` before the op runs, where there is one.
    """

    op: str
    operands: tuple[Array, ...]
    reference: Callable[..., Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    dtype: Any = None
    tolerance: float = 8
    step: float = 1e-5
    seed: int | None = None

    def __str__(self) -> str:
        shapes = [f"{x.dtype.kind}{list(x.shape)}" for x in self.operands]
        attrs = [
            f"{name}={getattr(v, '__name__', None) or getattr(v, 'name', v)}"
            for name, v in self.attrs.items()
        ]
        return f"{self.op}({','.join(shapes + attrs)})".replace(" ", "")


# Operands -----------------------------------------------------------------------------------------


def uniform(*shape: int, low: float = -2, high: float = 2, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).uniform(low, high, shape)


def spread(*shape: int, shift: float = 0.2) -> Array:
    """Different numbers in random order: shift + 0.4 i, with i around 0.

    None is closer than 0.2 to 0, to another one, or to any with the other shift, 0.4.
    """
    count = math.prod(shape)
    numbers = shift + 0.4 * (np.arange(count) - count // 2)
    return np.random.default_rng(count).permutation(numbers).reshape(shape)


def few(*shape: int, seed: int = 0) -> Array:
    """-1, 0 and 1, so that many are equal."""
    return np.random.default_rng([seed, *shape]).integers(-1, 2, shape).astype(np.float64)


def flags(*shape: int) -> Array:
    return (np.arange(math.prod(shape)) % 3 != 1).reshape(shape)


def body(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Graph:
    """A graph of int64 operands, as a cluster has one."""
    inputs = [input_node(TensorType(shape, np.dtype(np.int64))) for shape in shapes]
    return Graph(inputs, [function(*inputs)], name="body")


# References ---------------------------------------------------------------------------------------


def each(function: Callable[..., Any], dtype: Any = np.float64) -> Callable[..., Array]:
    """A function of Python scalars, applied to each element after broadcasting."""
    return np.vectorize(function, otypes=[dtype])


def converted(function: Callable[[Any], Any], result: Any = np.float64) -> Callable[..., Array]:
    """The reference of a cast: Python's conversion of each element."""
    return lambda x, dtype: each(function, result)(x)


def over_axes(function: Callable[[Array], Any]) -> Callable[..., Array]:
    """A function of a vector, applied along axes by a loop over what they leave."""

    def reduce(x: Array, axes: Any, keepdims: bool) -> Array:
        folded = range(x.ndim) if axes is None else [axis % x.ndim for axis in np.atleast_1d(axes)]
        shape = [1 if i in folded else dim for i, dim in enumerate(x.shape)]
        values = []
        for index in np.ndindex(*shape):
            block = x[tuple(slice(None) if i in folded else k for i, k in enumerate(index))]
            values.append(function(np.ravel(block)))
        if not keepdims:
            shape = [dim for i, dim in enumerate(x.shape) if i not in folded]
        return np.array(values).reshape(shape)

    return reduce


# Rows ---------------------------------------------------------------------------------------------


def binary(
    op: str,
    reference: Callable[..., Any],
    first: Callable[..., Array],
    second: Callable[..., Array],
) -> list[Sample]:
    """A row for every way of broadcasting."""
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((2, 3), (2, 3)),
        ((2, 3), (3,)),
        ((3,), (2, 1, 3)),
        ((2, 1), (1, 3)),
        ((1, 3), (2, 3)),
        ((2, 3), ()),
        ((), (2, 3)),
        ((), ()),
    ]
    return [Sample(op, (first(*a), second(*b)), reference) for a, b in shapes]


def comparison(op: str, reference: Callable[..., Any]) -> list[Sample]:
    return binary(op, each(reference, np.bool_), few, lambda *shape: few(*shape, seed=1))


def arithmetic(op: str, reference: Callable[..., Any]) -> list[Sample]:
    return binary(op, reference, uniform, lambda *shape: uniform(*shape, seed=1))


def extremum(op: str, reference: Callable[..., Any]) -> list[Sample]:
    return binary(op, each(reference), spread, lambda *shape: spread(*shape, shift=0.4))


def reduction(op: str, reference: Callable[[Array], Any]) -> list[Sample]:
    cases = [
        (spread(2, 3), None, False),
        (spread(2, 3), 1, True),
        (spread(2, 3), (-1,), False),
        (spread(2, 3, 2), (0, 2), False),
        (spread(2, 3, 2), (2, 0), True),
        (spread(2, 3), (), False),
        (spread(), None, False),
        (spread(), (), True),
    ]
    reduce = over_axes(reference)
    return [
        Sample(op, (x,), reduce, {"axes": axes, "keepdims": keepdims})
        for x, axes, keepdims in cases
    ]

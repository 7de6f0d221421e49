"""Random draws. They are effects: one draw each, in program order, so that seeds mean something."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from needle_ir.ir import (
    DType,
    DTypeError,
    Op,
    OperandValueError,
    TensorType,
    Trait,
    as_dtype,
    is_floating,
)
from needle_ir.ops.build import apply
from needle_ir.ops.shape import as_shape

_DRAW = frozenset({Trait.RANDOM, Trait.EFFECT})


def _draw_type(*, shape: tuple[int, ...], dtype: DType, **parameters: float) -> TensorType:
    if not is_floating(dtype):
        raise DTypeError(f"a draw is of a float dtype, not {dtype}; cast the result")
    return TensorType(shape, dtype)


def _draw_attrs(*, shape: Sequence[int], dtype: Any, **parameters: float) -> dict[str, Any]:
    numbers = {name: float(value) for name, value in parameters.items()}
    return {"shape": as_shape(shape), "dtype": as_dtype(dtype), **numbers}


def _bernoulli_type(*, shape: tuple[int, ...], p: float) -> TensorType:
    if not 0 <= p <= 1:
        raise OperandValueError(f"the probability p is {p}; it must lie in [0, 1]")
    return TensorType(shape, np.dtype(np.bool_))


def _bernoulli_attrs(*, shape: Sequence[int], p: float) -> dict[str, Any]:
    return {"shape": as_shape(shape), "p": float(p)}


RANDOM_UNIFORM = Op(name="random_uniform", infer=_draw_type, normalize=_draw_attrs, traits=_DRAW)
RANDOM_NORMAL = Op(name="random_normal", infer=_draw_type, normalize=_draw_attrs, traits=_DRAW)
RANDOM_BERNOULLI = Op(
    name="random_bernoulli", infer=_bernoulli_type, normalize=_bernoulli_attrs, traits=_DRAW
)


def random_uniform(shape: Sequence[int], low: float, high: float, dtype: Any) -> Any:
    """numpy.random.rand(*shape) * (high - low) + low, from NumPy's global generator."""
    return apply(RANDOM_UNIFORM, shape=shape, low=low, high=high, dtype=dtype)


def random_normal(shape: Sequence[int], mean: float, std: float, dtype: Any) -> Any:
    """numpy.random.randn(*shape) * std + mean, from NumPy's global generator."""
    return apply(RANDOM_NORMAL, shape=shape, mean=mean, std=std, dtype=dtype)


def random_bernoulli(shape: Sequence[int], p: float) -> Any:
    """numpy.random.rand(*shape) <= p, from NumPy's global generator: true with probability p.

    Raises OperandValueError for a p outside [0, 1].
    """
    return apply(RANDOM_BERNOULLI, shape=shape, p=p)

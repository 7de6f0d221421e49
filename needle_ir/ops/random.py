"""Random draws. They are effects: one draw each, in program order, so that seeds mean something."""

from collections.abc import Sequence
from typing import Any

from needle_ir.ir import DType, Op, TensorType, Trait, as_dtype
from needle_ir.ops.build import apply

_DRAW = frozenset({Trait.RANDOM, Trait.EFFECT})


def _draw_type(*, shape: tuple[int, ...], dtype: DType, **parameters: float) -> TensorType:
    return TensorType(shape, dtype)


RANDOM_UNIFORM = Op(name="random_uniform", infer=_draw_type, traits=_DRAW)
RANDOM_NORMAL = Op(name="random_normal", infer=_draw_type, traits=_DRAW)


def random_uniform(shape: Sequence[int], low: float, high: float, dtype: Any) -> Any:
    """numpy.random.rand(*shape) * (high - low) + low, from NumPy's global generator."""
    attrs = {"low": float(low), "high": float(high), "dtype": as_dtype(dtype)}
    return apply(RANDOM_UNIFORM, shape=tuple(shape), **attrs)


def random_normal(shape: Sequence[int], mean: float, std: float, dtype: Any) -> Any:
    """numpy.random.randn(*shape) * std + mean, from NumPy's global generator."""
    attrs = {"mean": float(mean), "std": float(std), "dtype": as_dtype(dtype)}
    return apply(RANDOM_NORMAL, shape=tuple(shape), **attrs)

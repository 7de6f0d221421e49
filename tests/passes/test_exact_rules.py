"""The exact rules of simplify keep every bit, on every float there is to be afraid of."""

from typing import Any

import numpy as np
import pytest

from needle_ir.ir import Graph, input_node
from needle_ir.ir.types import TensorType
from needle_ir.passes import Simplify
from needle_ir.runtime import interpret
from tests.passes.simplify_cases import EXACT_CASES, FAST_MATH_CASES, Case

Array = np.ndarray[Any, Any]


def extremes(dtype: Any) -> Array:
    """Zeros, infinities, NaN, the ends of the range, subnormals, and random bit patterns."""
    info = np.finfo(dtype)
    big = min(1e38, float(info.max) / 2)
    numbers = [0.0, np.inf, np.nan, info.max, big, info.tiny, info.smallest_subnormal]
    numbers += [info.tiny / 2, 1, 1 + info.eps, 0.1, 2, 3, np.sqrt(float(info.max))]
    both = np.array([*numbers, *[-x for x in numbers]], dtype)
    bits = np.random.default_rng(0).bytes(26 * both.itemsize)
    return np.concatenate([both, np.frombuffer(bits, dtype)])


def pairs(dtype: Any) -> tuple[Array, Array]:
    """Every number of `extremes` with every other."""
    x, y = np.meshgrid(extremes(dtype), extremes(dtype), indexing="ij")
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def run_both(case: Case, x: Array, y: Array, simplify: Simplify) -> tuple[Array, Array]:
    """The result before and after the pass, which must have changed the graph."""
    inputs = [input_node(TensorType(a.shape, a.dtype)) for a in (x, y)]
    graph = Graph(inputs, [case.before(*inputs)])
    simplified = simplify.run(graph)
    assert simplified is not graph
    (before,), (after,) = interpret(graph, [x, y]), interpret(simplified, [x, y])
    assert (before.dtype, before.shape) == (after.dtype, after.shape)
    return before, after


def differing(before: Array, after: Array) -> Array:
    """Where the bits differ. All NaN count as the same."""
    if before.dtype.kind != "f":
        return np.asarray(before != after)
    bits = f"u{before.itemsize}"
    same = np.ascontiguousarray(before).view(bits) == np.ascontiguousarray(after).view(bits)
    return ~(same | (np.isnan(before) & np.isnan(after)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("case", EXACT_CASES, ids=repr)
def test_exact_rule_keeps_the_bits(case: Case, dtype: Any) -> None:
    x, y = pairs(dtype)
    before, after = run_both(case, x, y, Simplify())
    assert not differing(before, after).any()


@pytest.mark.parametrize("case", EXACT_CASES, ids=repr)
def test_exact_rule_keeps_the_bits_of_every_half(case: Case) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    before, after = run_both(case, x, x[::-1].copy(), Simplify())
    assert not differing(before, after).any()


@pytest.mark.parametrize("case", EXACT_CASES, ids=repr)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (0, 3)])
def test_exact_rule_keeps_the_bits_of_small_arrays(case: Case, shape: tuple[int, int]) -> None:
    numbers = np.random.default_rng(1).standard_normal((200, 2, *shape)).astype(np.float32)
    for x, y in numbers:
        before, after = run_both(case, x, y, Simplify())
        assert not differing(before, after).any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
@pytest.mark.parametrize("case", [c for c in EXACT_CASES if c.rule != "divide-by-one"], ids=repr)
def test_exact_rule_keeps_integers_that_overflow(case: Case, dtype: Any) -> None:
    info = np.iinfo(dtype)
    numbers = np.array([0, 1, 2, 100, info.min, info.max, info.max - 1], dtype)
    x, y = (np.ascontiguousarray(a) for a in np.meshgrid(numbers, numbers, indexing="ij"))
    before, after = run_both(case, x, y, Simplify())
    assert not differing(before, after).any()


@pytest.mark.parametrize("case", FAST_MATH_CASES, ids=repr)
def test_a_fast_math_rule_changes_some_bits(case: Case) -> None:
    # Otherwise it would belong to the exact ones.
    x, y = pairs(np.float32)
    before, after = run_both(case, x, y, Simplify(fast_math=True))
    assert differing(before, after).any()

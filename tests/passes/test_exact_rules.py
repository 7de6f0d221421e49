"""The exact rules of simplify keep every bit, on every number there is to be afraid of."""

from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import Graph, input_node
from needle_ir.ir.types import TensorType
from needle_ir.passes import Autodiff, Simplify
from needle_ir.runtime import interpret
from tests.passes.rules import products
from tests.passes.rules.case import Case
from tests.passes.simplify_cases import EXACT_CASES, FAST_MATH_CASES

Array = np.ndarray[Any, Any]


def of_dtype(kind: str) -> list[Case]:
    return [case for case in EXACT_CASES if kind in case.dtypes]


def extremes(dtype: Any) -> Array:
    """Zeros, infinities, NaN, the ends of the range, subnormals, and random bit patterns."""
    info = np.finfo(dtype)
    big = min(1e38, float(info.max) / 2)
    numbers = [0.0, np.inf, np.nan, info.max, big, info.tiny, info.smallest_subnormal]
    numbers += [info.tiny / 2, 1, 1 + info.eps, 0.1, 2, 3, np.sqrt(float(info.max))]
    both = np.array([*numbers, *[-x for x in numbers]], dtype)
    bits = np.random.default_rng(0).bytes(26 * both.itemsize)
    return quiet(np.concatenate([both, np.frombuffer(bits, dtype)]))


def quiet(numbers: Array) -> Array:
    """With the NaN that computing gives, not the signaling one, which a power of 0 keeps."""
    return np.where(np.isnan(numbers), numbers.dtype.type(np.nan), numbers)


def each_with_each(numbers: Array) -> tuple[Array, Array]:
    x, y = np.meshgrid(numbers, numbers, indexing="ij")
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def run_both(case: Case, x: Array, y: Array, simplify: Simplify) -> tuple[Array, Array]:
    """The result before and after the pass."""
    inputs = [input_node(TensorType(a.shape, a.dtype)) for a in (x, y)]
    graph = Graph(inputs, [case.before(*inputs)])
    (before,), (after,) = interpret(graph, [x, y]), interpret(simplify.run(graph), [x, y])
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
@pytest.mark.parametrize("case", of_dtype("f"), ids=repr)
def test_exact_rule_keeps_the_bits(case: Case, dtype: Any) -> None:
    before, after = run_both(case, *each_with_each(extremes(dtype)), Simplify())
    assert not differing(before, after).any()


# NumPy has no fast product of halves.
@pytest.mark.parametrize("case", [c for c in of_dtype("f") if c not in products.EXACT], ids=repr)
def test_exact_rule_keeps_the_bits_of_every_half(case: Case) -> None:
    x = quiet(np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256))
    before, after = run_both(case, x, x[::-1].copy(), Simplify())
    assert not differing(before, after).any()


@pytest.mark.parametrize("case", of_dtype("f"), ids=repr)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (0, 3)])
def test_exact_rule_keeps_the_bits_of_small_arrays(case: Case, shape: tuple[int, int]) -> None:
    if 0 in shape and case.rule in {"extremum-of-ones", "transposed-left"}:
        shape = (2, 3)  # of no elements there is no largest one, and no product
    numbers = np.random.default_rng(1).standard_normal((8, 2, *shape)).astype(np.float32)
    for x, y in numbers:
        before, after = run_both(case, x, y, Simplify())
        assert not differing(before, after).any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64, np.uint64])
@pytest.mark.parametrize("case", of_dtype("i"), ids=repr)
def test_exact_rule_keeps_integers_that_overflow(case: Case, dtype: Any) -> None:
    info = np.iinfo(dtype)
    numbers = np.array([0, 1, 2, 100, info.min, info.max, info.max - 1, info.max // 2], dtype)
    before, after = run_both(case, *each_with_each(numbers), Simplify())
    assert not differing(before, after).any()


@pytest.mark.parametrize("case", of_dtype("b"), ids=repr)
def test_exact_rule_keeps_booleans(case: Case) -> None:
    before, after = run_both(case, *each_with_each(np.array([False, True, True])), Simplify())
    assert not differing(before, after).any()


# These give other bits with some of NumPy's kernels and not with others.
UP_TO_NUMPY = {
    *("function-of-broadcast", "transposed-product", "power-half", "power-minus-one"),
    *("max-max", "min-min", "sum-sum"),
}


@pytest.mark.parametrize(
    "case", [c for c in FAST_MATH_CASES if c.rule not in UP_TO_NUMPY], ids=repr
)
def test_a_fast_math_rule_changes_some_bits(case: Case) -> None:
    # Otherwise it would belong to the exact ones.
    numbers = extremes(np.float32)
    changed = False
    for some in (numbers, numbers[np.isfinite(numbers)], np.array([0, -0.0], np.float32)):
        with np.errstate(all="ignore"):
            before, after = run_both(case, *each_with_each(some), Simplify(fast_math=True))
        changed = changed or bool(differing(before, after).any())
    assert changed


def test_the_largest_of_the_largest_shares_its_gradient_otherwise() -> None:
    x = input_node(TensorType((2, 2), np.dtype(np.float32)))
    graph = Graph([x], [ops.grad(ops.max(ops.max(x, 1), 0), x)])
    ties = np.array([[1, 1], [1, 0]], np.float32)
    (in_groups,) = interpret(Autodiff().run(graph), [ties])
    (at_once,) = interpret(Autodiff().run(Simplify(fast_math=True).run(graph)), [ties])
    assert in_groups.tolist() == [[0.25, 0.25], [0.5, 0]]
    assert np.allclose(at_once, [[1 / 3, 1 / 3], [1 / 3, 0]])

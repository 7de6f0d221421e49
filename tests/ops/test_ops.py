"""What must hold of every op, asked of the tables of ops and kernels and of the samples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from needle_ir import ops
from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Graph,
    Node,
    Op,
    Pass,
    TensorType,
    Trait,
    input_node,
    is_floating,
    verify,
)
from needle_ir.ops import COMPOSITES, PRIMITIVES, as_constant, build
from needle_ir.passes import (
    DEFAULT_PIPELINE,
    Autodiff,
    Lower,
    Verify,
    parse_pipeline,
    pass_table,
    run_pipeline,
)
from needle_ir.runtime import KERNELS, evaluate, interpret
from tests.ops.samples import SAMPLES, Array, Sample

OPS = PRIMITIVES | COMPOSITES
LEAVES = {INPUT.name, CONSTANT.name}

# The primitives without a VJP, and why.
NOT_DIFFERENTIABLE = {
    "input": "a leaf has no operands",
    "constant": "a leaf has no operands",
    "random_uniform": "a draw has no operands",
    "random_normal": "a draw has no operands",
    "random_bernoulli": "a draw has no operands",
    "logical_not": "the result is bool",
    "equal": "the result is bool",
    "not_equal": "the result is bool",
    "less": "the result is bool",
    "less_equal": "the result is bool",
    "greater": "the result is bool",
    "greater_equal": "the result is bool",
    "fused": "it is opened first, as a composite is",
    "grad": "it is expanded before anything is differentiated by its operands",
}

# Their derivative is no limit of differences: they are defined to have it.
BY_DEFINITION = {"stop_gradient", "known"}

DEFAULT = parse_pipeline(DEFAULT_PIPELINE, pass_table(evaluate))
AUTODIFF_ALONE: list[Pass] = [Autodiff(), Lower()]


# Completeness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OPS.keys() - LEAVES))
def test_every_op_has_a_row_of_samples(name: str) -> None:
    assert name in {sample.op for sample in SAMPLES}


def test_every_row_is_of_an_op() -> None:
    assert {sample.op for sample in SAMPLES} <= OPS.keys()


def test_an_op_is_called_what_the_table_calls_it() -> None:
    assert {name: op.name for name, op in OPS.items()} == {name: name for name in OPS}
    assert PRIMITIVES.keys() & COMPOSITES.keys() == set()


def test_every_primitive_has_a_vjp_or_a_reason() -> None:
    without = {name for name, op in PRIMITIVES.items() if op.vjp is None}
    assert without == NOT_DIFFERENTIABLE.keys()


@pytest.mark.parametrize(
    "name", sorted(PRIMITIVES.keys() - NOT_DIFFERENTIABLE.keys() - BY_DEFINITION)
)
def test_every_vjp_is_run_by_a_sample(name: str) -> None:
    assert any(wrt(sample) for sample in SAMPLES if sample.op == name)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_primitive_has_a_kernel_or_needs_none(name: str) -> None:
    needs_none = name in LEAVES or PRIMITIVES[name].has(Trait.MARKER)
    assert (name in KERNELS) != needs_none
    assert (PRIMITIVES[name].decompose is None) == (name != "fused")


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_composite_has_a_decomposition_and_no_kernel(name: str) -> None:
    assert COMPOSITES[name].decompose is not None
    assert name not in KERNELS


def test_every_kernel_is_of_an_op() -> None:
    assert PRIMITIVES.keys() >= KERNELS.keys()


# Values -------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _global_generator() -> Iterator[None]:
    """The draws of a test leave NumPy's global generator as it was."""
    state = np.random.get_state()
    yield
    np.random.set_state(state)


def in_dtype(sample: Sample, dtype: Any) -> list[Array]:
    """The operands, the float ones converted."""
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in sample.operands]


def leaves_like(arrays: Sequence[Array]) -> list[Node]:
    return [input_node(TensorType(x.shape, x.dtype)) for x in arrays]


def compiled(graph: Graph, passes: Sequence[Pass] = DEFAULT) -> Graph:
    return run_pipeline(graph, passes, [Verify()])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_value(sample: Sample, dtype: Any) -> None:
    arrays = in_dtype(sample, dtype)
    leaves = leaves_like(arrays)
    node = build(OPS[sample.op], leaves, sample.attrs)
    graph = Graph(leaves, [node], effects=[node] if node.op.has(Trait.EFFECT) else [])
    verify(graph)

    exact = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in arrays]
    expected = np.asarray(sample.reference(*exact, **sample.attrs))
    floating = expected.dtype.kind == "f"
    result_dtype = np.dtype(sample.dtype or dtype) if floating else expected.dtype
    assert node.type == TensorType(expected.shape, result_dtype)

    np.random.seed(sample.seed)
    (actual,) = interpret(compiled(graph), arrays)
    assert (actual.shape, actual.dtype) == (expected.shape, result_dtype)
    if floating and expected.size:
        coarsest = max(np.finfo(d).eps for d in (result_dtype, dtype))
        limit = sample.tolerance * coarsest * np.max(np.abs(expected))
        np.testing.assert_allclose(actual.astype(np.float64), expected, rtol=0, atol=limit)
    else:
        np.testing.assert_array_equal(actual, expected)


# Derivatives --------------------------------------------------------------------------------------


def wrt(sample: Sample) -> list[int]:
    """The positions of the operands by which the op has a derivative."""
    if sample.op in NOT_DIFFERENTIABLE or sample.op in BY_DEFINITION:
        return []
    node = build(OPS[sample.op], leaves_like(sample.operands), sample.attrs)
    if not is_floating(node.dtype):
        return []
    return [i for i, x in enumerate(sample.operands) if x.dtype.kind == "f" and x.size]


DIFFERENTIABLE = [sample for sample in SAMPLES if wrt(sample)]


def weights(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


class Derivatives:
    """The loss sum(w * op(...)**2), its gradients, a sum of these weighted, and its gradients."""

    def __init__(self, sample: Sample, op: Op | None = None):
        self.wrt = wrt(sample)
        self.leaves = leaves_like(sample.operands)
        out = build(op or OPS[sample.op], self.leaves, sample.attrs)
        self.weights = weights(out.shape, 0)
        self.loss = ops.sum(out * out * as_constant(self.weights))
        xs = [self.leaves[i] for i in self.wrt]
        self.first = [ops.grad(self.loss, x) for x in xs]
        terms = [ops.sum(g * as_constant(weights(g.shape, 1))) for g in self.first]
        self.inner = terms[0]
        for term in terms[1:]:
            self.inner = self.inner + term
        self.second = [ops.grad(self.inner, x) for x in xs]

    def run(self, passes: Sequence[Pass], operands: Sequence[Array]) -> tuple[list[Array], ...]:
        """The gradients of the first and of the second order."""
        graph = Graph(self.leaves, [*self.first, *self.second])
        results = interpret(compiled(graph, passes), operands)
        return list(results[: len(self.wrt)]), list(results[len(self.wrt) :])


def differences(function: Any, arrays: Sequence[Array], i: int, step: float) -> Array:
    """The derivative of a scalar function by arrays[i], by central differences."""
    result = np.empty(arrays[i].shape)
    for index in np.ndindex(result.shape):
        values = []
        for sign in (1, -1):
            moved = [x.copy() for x in arrays]
            moved[i][index] += sign * step
            values.append(float(function(moved)))
        result[index] = (values[0] - values[1]) / (2 * step)
    return result


@pytest.mark.parametrize("sample", DIFFERENTIABLE, ids=str)
def test_gradients_by_finite_differences(sample: Sample) -> None:
    derivatives = Derivatives(sample)
    first, second = derivatives.run(DEFAULT, sample.operands)

    def loss(arrays: list[Array]) -> Any:
        return np.sum(derivatives.weights * sample.reference(*arrays, **sample.attrs) ** 2)

    for i, gradient in zip(derivatives.wrt, first, strict=True):
        expected = differences(loss, sample.operands, i, sample.step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)

    inner = compiled(Graph(derivatives.leaves, [derivatives.inner]))
    for i, gradient in zip(derivatives.wrt, second, strict=True):
        expected = differences(
            lambda arrays: interpret(inner, arrays)[0], sample.operands, i, sample.step
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sample", DIFFERENTIABLE, ids=str)
def test_autodiff_needs_no_later_pass(sample: Sample) -> None:
    derivatives = Derivatives(sample)
    results = zip(
        derivatives.run(AUTODIFF_ALONE, sample.operands),
        derivatives.run(DEFAULT, sample.operands),
        strict=True,
    )
    for alone, optimized in results:
        for a, b in zip(alone, optimized, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


BY_HAND = [sample for sample in SAMPLES if sample.op in COMPOSITES and OPS[sample.op].vjp]


def test_some_composites_carry_a_vjp() -> None:
    assert {sample.op for sample in BY_HAND} >= {"batch_norm", "layer_norm"}


@pytest.mark.parametrize("passes", [DEFAULT, AUTODIFF_ALONE], ids=["default", "autodiff"])
@pytest.mark.parametrize("sample", BY_HAND, ids=str)
def test_a_vjp_by_hand_equals_the_derived_one(sample: Sample, passes: list[Pass]) -> None:
    derived = replace(OPS[sample.op], vjp=None)
    both = [Derivatives(sample, op).run(passes, sample.operands) for op in (None, derived)]
    for by_hand, by_rule in zip(*both, strict=True):
        for a, b in zip(by_hand, by_rule, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)

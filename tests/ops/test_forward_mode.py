"""Forward mode of every differentiable op: against differences, and against reverse mode."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import ops
from needle_ir.ops import COMPOSITES, PRIMITIVES
from tests.ops.samples import Array, Sample
from tests.ops.test_ops import DIFFERENTIABLE, wrt

OPS = PRIMITIVES | COMPOSITES


def applied(sample: Sample) -> Callable[..., Any]:
    """The op as a function of the operands that it has a derivative by."""
    chosen = wrt(sample)

    def function(*xs: Any) -> Any:
        operands: list[Any] = list(sample.operands)
        for i, x in zip(chosen, xs, strict=True):
            operands[i] = x
        return ops.apply(OPS[sample.op], *operands, **sample.attrs)

    return function


def reference(sample: Sample, xs: list[Array]) -> Array:
    operands = list(sample.operands)
    for i, x in zip(wrt(sample), xs, strict=True):
        operands[i] = x
    return np.asarray(sample.reference(*operands, **sample.attrs))


def at(sample: Sample) -> list[Array]:
    return [sample.operands[i] for i in wrt(sample)]


def directions(arrays: list[Array], seed: int) -> list[Array]:
    random = np.random.default_rng(seed)
    return [np.asarray(random.uniform(-1, 1, x.shape), x.dtype) for x in arrays]


def inner(xs: Any, ys: Any) -> float:
    return float(sum(np.sum(np.asarray(x) * np.asarray(y)) for x, y in zip(xs, ys, strict=True)))


def along(sample: Sample, xs: list[Array], ts: list[Array], step: float) -> Array:
    return reference(sample, [x + step * t for x, t in zip(xs, ts, strict=True)])


@pytest.mark.parametrize("sample", DIFFERENTIABLE, ids=str)
def test_jvp_by_finite_differences(sample: Sample) -> None:
    xs = at(sample)
    ts, h = directions(xs, 1), sample.step
    value, slope = ndl.jvp(applied(sample), xs, ts)
    ahead, behind = along(sample, xs, ts, h), along(sample, xs, ts, -h)
    np.testing.assert_allclose(value.numpy(), reference(sample, xs), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slope.numpy(), (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sample", DIFFERENTIABLE, ids=str)
def test_second_derivative_by_finite_differences(sample: Sample) -> None:
    """jvp of jvp: how the result curves along a line."""
    xs = at(sample)
    ts, h = directions(xs, 2), 20 * sample.step

    def slope(*xs: Any) -> Any:
        return ndl.jvp(applied(sample), xs, ts)[1]

    curvature = ndl.jvp(slope, xs, ts)[1].numpy()
    points = [along(sample, xs, ts, k * h) for k in (-2, -1, 0, 1, 2)]
    stencil = np.array([-1, 16, -30, 16, -1]) / (12 * h * h)
    expected = sum(c * p for c, p in zip(stencil, points, strict=True))
    scale = max(1.0, *[float(np.max(np.abs(p), initial=0)) for p in points])
    np.testing.assert_allclose(curvature, expected, rtol=1e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("sample", DIFFERENTIABLE, ids=str)
def test_forward_and_reverse_mode_are_transposes(sample: Sample) -> None:
    """<ct, J t> = <Jᵀ ct, t>."""
    xs = at(sample)
    ts = directions(xs, 3)
    value, pushed = ndl.jvp(applied(sample), xs, ts)
    (ct,) = directions([value.numpy()], 4)
    _, pullback = ndl.vjp(applied(sample), *xs)
    rtol = 1e-10 if value.dtype == np.float64 else 1e-6
    np.testing.assert_allclose(inner([ct], [pushed]), inner(pullback(ct), ts), rtol=rtol)


@pytest.mark.parametrize("sample", DIFFERENTIABLE, ids=str)
def test_second_derivatives_are_symmetric(sample: Sample) -> None:
    """<s, H t> = <t, H s> for the Hessian of <ct, op(x)>, forward over reverse; and the same by
    reverse over forward.
    """
    xs = at(sample)
    ts, ss = directions(xs, 5), directions(xs, 6)
    (ct,) = directions([applied(sample)(*map(ndl.Tensor, xs)).numpy()], 7)

    def pulled(*xs: Any) -> Any:
        return ndl.vjp(applied(sample), *xs)[1](ct)

    _, along_t = ndl.jvp(pulled, xs, ts)
    _, along_s = ndl.jvp(pulled, xs, ss)
    expected = inner(along_s, ts)
    limit = 1e-10 * (1 + abs(expected))
    np.testing.assert_allclose(inner(along_t, ss), expected, rtol=1e-9, atol=limit)

    _, pullback = ndl.vjp(lambda *xs: ndl.jvp(applied(sample), xs, ts)[1], *xs)
    np.testing.assert_allclose(inner(pullback(ct), ss), expected, rtol=1e-9, atol=limit)


def test_the_composites_with_a_vjp_by_hand_are_among_them() -> None:
    tested = {sample.op for sample in DIFFERENTIABLE}
    by_hand = {name for name, op in COMPOSITES.items() if op.vjp is not None}
    assert by_hand
    assert by_hand | {"dropout", "softmax_loss", "logsumexp"} <= tested

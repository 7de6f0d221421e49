"""The same numbers in every mode: computed at once, step by step with a look at each value, traced
and compiled, jitted. Where an expression was computed half-way, the rest is right all the same.
"""

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, provenance
from needle_ir.ir import Node

Array = np.ndarray[Any, Any]
# Is given each intermediate value, and gives it back.
Look = Callable[[Tensor], Tensor]
Program = Callable[[Tensor, Look], Tensor]

X = np.array([[1000.0, 999.0, -1e4], [-1e4, -9999.0, 0.5]], np.float32)
LABELS = np.array([1, 0])
MASK = np.array([[True, True, True], [True, True, False]])
Y = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.25]], np.float32)
SOFT = np.array([[0.25, 0.125, 0.75], [0.875, 0.5, 0.625]], np.float32)
LONG = X.astype(np.longdouble)


def nothing(x: Tensor) -> Tensor:
    return x


def log_sum_exp(x: Tensor, look: Look) -> Tensor:
    e = look(ndl.exp(x))
    s = look(e.sum(1))
    return ndl.log(s)


def log_softmax(x: Tensor, look: Look) -> Tensor:
    z = look(x - x.max(1, keepdims=True))
    e = look(ndl.exp(z))
    p = look(e / look(e.sum(1, keepdims=True)))
    return ndl.log(p)


def naive_log_softmax(x: Tensor, look: Look) -> Tensor:
    e = look(ndl.exp(x))
    p = look(e / e.sum(1, keepdims=True))
    return ndl.log(p)


def cross_entropy(x: Tensor, look: Look) -> Tensor:
    e = look(ndl.exp(x))
    p = look(e / look(e.sum(1)).reshape(2, 1))
    picked = look(p[np.arange(2), LABELS])
    return -ndl.log(picked).mean()


def masked(x: Tensor, look: Look) -> Tensor:
    e = look(ndl.where(MASK, look(ndl.exp(x)), 0.0))
    return ndl.log(look(e.sum(1)))


def weighted(x: Tensor, look: Look) -> Tensor:
    e = look(look(ndl.exp(x)) * MASK.astype(np.float32))
    return ndl.log(e.sum(1))


def log_of_one_minus(x: Tensor, look: Look) -> Tensor:
    p = look(1 / look(1 + look(ndl.exp(-x))))
    return ndl.log(look(1 - p))


def binary_cross_entropy(x: Tensor, look: Look) -> Tensor:
    p = look(1 / (1 + ndl.exp(-x)))
    return -(Y * ndl.log(p) + (1 - Y) * ndl.log(1 - p)).mean()


def of_the_ops(x: Tensor, look: Look) -> Tensor:
    p = look(ndl.softmax(x))
    return ndl.log(p) + ndl.log(look(1 - look(ndl.sigmoid(x))))


def tanh(x: Tensor, look: Look) -> Tensor:
    up, down = look(ndl.exp(x)), look(ndl.exp(-x))
    return look(up - down) / look(up + down)


def squashed(x: Tensor, look: Look) -> Tensor:
    t = look(ndl.tanh(x))
    return ndl.log(look(1 - look(t * t)))


def soft_labels(x: Tensor, look: Look) -> Tensor:
    p = look(1 / look(1 + ndl.exp(-x)))
    return ndl.log(look(p * SOFT) + look(look(1 - p) * (1 - SOFT)))


def softmax_softmax(x: Tensor, look: Look) -> Tensor:
    e = look(ndl.exp(x))
    return look(e / e.sum(1, keepdims=True)) * 1.0


def shifted(x: Array) -> Array:
    return np.asarray(x - x.max(1, keepdims=True))


def reference_log_softmax(x: Array) -> Array:
    z = shifted(x)
    return np.asarray(z - np.log(np.exp(z).sum(1, keepdims=True)))


def reference_logsumexp(x: Array) -> Array:
    return np.log(np.exp(shifted(x)).sum(1)) + x.max(1)


def softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


PROGRAMS: dict[Program, Callable[[Array], Array]] = {
    log_sum_exp: reference_logsumexp,
    log_softmax: reference_log_softmax,
    naive_log_softmax: reference_log_softmax,
    cross_entropy: lambda x: -np.mean(reference_log_softmax(x)[[0, 1], LABELS]),
    masked: lambda x: reference_logsumexp(np.where(MASK, x, -np.inf)),
    weighted: lambda x: reference_logsumexp(np.where(MASK, x, -np.inf)),
    log_of_one_minus: lambda x: -softplus(x),
    binary_cross_entropy: lambda x: np.mean(Y * softplus(-x) + (1 - Y) * softplus(x)),
    of_the_ops: lambda x: reference_log_softmax(x) - softplus(x),
    tanh: np.tanh,
    squashed: lambda x: np.log(4) - 2 * np.logaddexp(x, -x),
    soft_labels: lambda x: np.logaddexp(
        np.log(SOFT) - softplus(-x), np.log(1 - SOFT) - softplus(x)
    ),
    softmax_softmax: lambda x: np.exp(reference_log_softmax(x)),
}


def weights(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).choice([0.5, 1.0, 2.0], shape).astype(np.float32)


def expected(reference: Callable[[Array], Array], order: int) -> Array:
    """The value in longdouble, or a derivative of it by differences."""

    def along(function: Callable[[Array], Any], x: Array, direction: Array) -> Any:
        step = np.longdouble(1e-3)
        one, two = (
            function(x + n * step * direction) - function(x - n * step * direction) for n in (1, 2)
        )
        return (8 * one - two) / (12 * step)

    def gradient(x: Array) -> Array:
        outer = weights(np.shape(reference(x)), 0)
        units = np.eye(x.size).reshape(x.size, *x.shape)
        slopes = [along(lambda x: np.sum(outer * reference(x)), x, unit) for unit in units]
        return np.array(slopes, np.longdouble).reshape(x.shape)

    if order == 0:
        return np.asarray(reference(LONG))
    return gradient(LONG) if order == 1 else along(gradient, LONG, weights(X.shape, 1))


def assert_right(actual: Array, program: Program, order: int) -> None:
    right = expected(PROGRAMS[program], order).astype(float)
    atol = 2e-6 * max(1, np.max(np.abs(right)))
    np.testing.assert_allclose(actual, right, rtol=0, atol=atol)


def show(x: Tensor) -> Tensor:
    """What a print does."""
    str(x)
    return x


def loss_of(program: Program, x: Tensor, look: Look) -> Tensor:
    y = look(program(x, look))
    return look((y * weights(y.shape, 0)).sum())


programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
looks = pytest.mark.parametrize("look", [nothing, show], ids=["at once", "step by step"])


@programs
@looks
@pytest.mark.parametrize("mode", ["leaf", "data", "no_grad", "detached"])
def test_value(program: Program, look: Look, mode: str) -> None:
    x = Tensor(X, requires_grad=mode != "data")
    with ndl.no_grad() if mode == "no_grad" else contextlib.nullcontext():
        if mode == "detached":
            y = program(x, lambda value: look(look(value).detach()))
        else:
            y = program(x, look)
        assert_right(y.numpy(), program, 0)


@programs
@looks
def test_derivatives(program: Program, look: Look) -> None:
    x = Tensor(X)
    loss_of(program, x, look).backward()
    first = look(x.grad)
    assert_right(first.numpy(), program, 1)
    look((first * weights(X.shape, 1)).sum()).backward()
    assert_right(x.grad.numpy(), program, 2)


@programs
@pytest.mark.parametrize("how", [ndl.jit, lambda fn: lambda x: ndl.compile(fn, x)(x)])
def test_derivatives_of_functions(program: Program, how: Any) -> None:
    def loss(x: Tensor) -> Tensor:
        return loss_of(program, x, nothing)

    def slope(x: Tensor) -> Tensor:
        return (ndl.grad(loss)(x) * weights(X.shape, 1)).sum()

    x = Tensor(X)
    assert_right(how(lambda x: program(x, nothing))(x).numpy(), program, 0)
    assert_right(how(ndl.grad(loss))(x).numpy(), program, 1)
    assert_right(how(ndl.grad(slope))(x).numpy(), program, 2)


@programs
def test_values_that_are_returned_too(program: Program) -> None:
    """Read at the end and not in between: each is what it is alone."""
    seen: list[Tensor] = []
    y = program(Tensor(X), lambda value: seen.append(value) or value)
    assert_right(y.numpy(), program, 0)
    for value in seen:
        value.numpy()
    assert_right((y * 1).numpy(), program, 0)


@looks
def test_after_a_layer(look: Look) -> None:
    """The numbers of the course behind maximum(x @ w, 0), with a cross-entropy by hand."""
    x, w = Tensor([[1000.0, 999.0]], requires_grad=False), Tensor(np.eye(2, dtype=np.float32))
    z = look(ndl.maximum(x @ w, 0.0))
    p = look(look(ndl.exp(z)) / ndl.exp(z).sum())
    loss = -ndl.log(p[0, 1])
    loss.backward()
    np.testing.assert_allclose(look(loss).item(), 1.3132616875182228, rtol=1e-6)
    share = 1 / (1 + np.exp(-1))
    right = np.outer([1000, 999], [share, -share])
    np.testing.assert_allclose(w.grad.numpy(), right, rtol=1e-6)


def test_the_naive_program_half_way() -> None:
    x = Tensor([1000.0, 999.0])
    e = ndl.exp(x)
    assert str(e) == "Tensor([inf, inf], dtype=float32)"
    s = e.sum()
    loss = ndl.log(s)
    loss.backward()
    np.testing.assert_allclose(loss.item(), 1000.3132616875182, rtol=1e-7)
    np.testing.assert_allclose(x.grad.numpy(), [0.7310585786, 0.2689414214], rtol=1e-6)
    assert s.item() == np.inf


# What is kept for it ------------------------------------------------------------------------------


def kept() -> int:
    """How many values keep an expression."""
    gc.collect()
    return len(provenance._kept)


def live_nodes() -> int:
    gc.collect()
    return sum(type(x) is Node for x in gc.get_objects())


def test_what_lost_no_digits_keeps_nothing() -> None:
    x, before = Tensor(X, requires_grad=False), kept()
    for y in (x + 1, ndl.log(x), x @ x.T, ndl.sqrt(x), ndl.logsumexp(x), ndl.relu(x) * 2):
        y.numpy()
    assert kept() == before


def test_a_value_keeps_its_operands_as_long_as_it_lives() -> None:
    before = kept()
    e = ndl.exp(Tensor(X, requires_grad=False) * 2.0)
    e.numpy()
    assert kept() == before + 1
    del e
    assert kept() == before


def test_operands_that_are_too_large_are_not_kept() -> None:
    wide = Tensor(np.full(provenance.MAX_BYTES // 4 + 1, 1000, np.float32), requires_grad=False)
    s = ndl.exp(wide * 1.5).sum()
    s.numpy()
    assert ndl.log(s).item() == np.inf
    nodes = live_nodes()
    del s, wide
    assert live_nodes() < nodes


def test_gradients_do_not_go_through_what_is_kept() -> None:
    x = Tensor(X)
    with ndl.no_grad():
        e = show(ndl.exp(x))
    loss = (ndl.log(e.sum(1)) * x.sum(1)).sum()
    loss.backward()
    right = np.broadcast_to(reference_logsumexp(LONG)[:, None], X.shape).astype(float)
    np.testing.assert_allclose(x.grad.numpy(), right, rtol=1e-6)


def test_after_the_history_was_freed() -> None:
    x = Tensor(X)
    e = ndl.exp(x)
    loss = ndl.log(e.sum())
    loss.backward()
    ndl.optim.SGD([x], lr=1.0).step()
    assert np.isinf(e.numpy()).any()
    np.testing.assert_allclose(ndl.log(e.sum(1)).numpy(), reference_logsumexp(LONG), rtol=1e-6)


@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_loop_compiles_no_more_and_keeps_no_more(requires_grad: bool) -> None:
    v = Tensor([0.5], requires_grad=requires_grad)
    total = Tensor([0.0], requires_grad=requires_grad)
    compiled, nodes = [], []
    for step in range(50):
        v = show(ndl.exp(-v))
        total = show(total * 0.5 + ndl.exp(v))
        if requires_grad:
            ndl.sync()
        if step % 10 == 9:
            compiled.append(ndl.cache_info().misses)
            nodes.append(live_nodes())
    assert compiled[2] == compiled[4]
    assert nodes[4] <= nodes[2] + 20


def test_a_program_that_looks_behind_a_value_can_be_explained() -> None:
    s = show(ndl.exp(Tensor(X, requires_grad=False)).sum(1))
    ndl.clear_cache()
    ndl.log(s).numpy()
    ndl.log(s * 2.0).numpy()
    assert len(str(ndl.explain_recompiles()).splitlines()) >= 2


def test_a_jitted_function_reads_values_from_outside_anew() -> None:
    x = Tensor([1.0, 2.0], requires_grad=False)
    e = show(ndl.exp(x))
    log_of_sum = ndl.jit(lambda: ndl.log(e.sum()))
    np.testing.assert_allclose(log_of_sum().item(), np.logaddexp(1, 2), rtol=1e-6)
    e.data = Tensor([3.0, 4.0])
    np.testing.assert_allclose(log_of_sum().item(), np.log(7), rtol=1e-6)

"""Optimizer.clip_grad_norm against NumPy."""

from functools import partial

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, optim

SHAPES = [(3, 4), (1, 4), (2,), ()]
OPTIMIZERS = [partial(optim.SGD, lr=0.1), partial(optim.Adam, lr=0.1)]


def make(make_optimizer=OPTIMIZERS[0], dtype="float32", scale=1.0):
    """(optimizer, parameters, the gradients that they have, as arrays)."""
    rng = np.random.RandomState(0)
    params = [nn.Parameter(np.asarray(rng.randn(*shape), dtype)) for shape in SHAPES]
    grads = [np.asarray(rng.randn(*shape) * scale, dtype) for shape in SHAPES]
    for p, g in zip(params, grads, strict=True):
        p.grad = Tensor(g, requires_grad=False)
    return make_optimizer(params), params, grads


def norm_of(arrays):
    return np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS, ids=["sgd", "adam"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("max_norm", [0.25, 1.0, 3])
def test_above_the_limit(make_optimizer, dtype, tolerance, max_norm):
    opt, params, grads = make(make_optimizer, dtype, scale=10.0)
    norm = norm_of(grads)
    assert norm > 3
    returned = opt.clip_grad_norm(max_norm)
    np.testing.assert_allclose(returned.item(), norm, rtol=tolerance)
    for p, g in zip(params, grads, strict=True):
        assert p.grad.dtype == dtype
        expected = g.astype(np.float64) * (max_norm / (norm + 1e-6))
        np.testing.assert_allclose(p.grad.numpy(), expected, rtol=3 * tolerance)
    clipped = norm_of([p.grad.numpy() for p in params])
    np.testing.assert_allclose(clipped, max_norm, rtol=1e-5)


@pytest.mark.parametrize("max_norm", [1.0, 5, 1e6, float("inf")])
def test_below_the_limit_the_bits_stay(max_norm):
    opt, params, grads = make(scale=0.1)
    assert norm_of(grads) < 0.9
    returned = opt.clip_grad_norm(max_norm)
    np.testing.assert_allclose(returned.item(), norm_of(grads), rtol=1e-6)
    for p, g in zip(params, grads, strict=True):
        assert p.grad.numpy().tobytes() == g.tobytes()


def test_the_limit_is_a_quarter_by_default():
    opt, params, grads = make()
    opt.clip_grad_norm()
    factor = 0.25 / (norm_of(grads) + 1e-6)
    np.testing.assert_allclose(params[0].grad.numpy(), grads[0] * factor, rtol=5e-6)


def test_three_four_five():
    p = nn.Parameter([0.0, 0.0])
    opt = optim.SGD([p])
    p.grad = Tensor([3.0, 4.0])
    assert opt.clip_grad_norm(2.5).item() == 5
    np.testing.assert_allclose(p.grad.numpy(), [1.5, 2.0], rtol=1e-6)


@pytest.mark.parametrize("max_norm", [0, 0.0])
def test_a_limit_of_zero(max_norm):
    opt, params, _ = make()
    opt.clip_grad_norm(max_norm)
    assert norm_of([p.grad.numpy() for p in params]) == 0


def test_gradients_that_are_zero_stay_zero():
    opt, params, _ = make(scale=0.0)
    assert opt.clip_grad_norm(0.5).item() == 0
    for p in params:
        np.testing.assert_array_equal(p.grad.numpy(), np.zeros(p.shape))


def test_dtypes_are_kept_where_they_differ():
    a, b = nn.Parameter(np.zeros(1, np.float32)), nn.Parameter(np.zeros(1))
    opt = optim.SGD([a, b])
    a.grad, b.grad = Tensor(np.float32([3])), Tensor(np.array([4.0]))
    opt.clip_grad_norm(1.0)
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(a.grad.numpy(), [0.6], rtol=1e-6)
    np.testing.assert_allclose(b.grad.numpy(), [0.8], rtol=1e-6)


def test_the_gradients_from_before_are_not_modified():
    opt, params, grads = make()
    held = [p.grad for p in params]
    opt.clip_grad_norm(0.1)
    for p, tensor, g in zip(params, held, grads, strict=True):
        assert p.grad is not tensor
        np.testing.assert_array_equal(tensor.numpy(), g)


def test_parameters_without_a_gradient_do_not_count():
    opt, params, grads = make()
    params[0].grad = None
    np.testing.assert_allclose(opt.clip_grad_norm(0.5).item(), norm_of(grads[1:]), rtol=1e-6)
    assert params[0].grad is None
    np.testing.assert_allclose(norm_of([p.grad.numpy() for p in params[1:]]), 0.5, rtol=1e-5)


def descend(x, y, steps, run):
    """Weights of a linear model after clipped SGD, and the norms; `run` wraps the step."""
    weight = nn.Parameter(np.zeros((3, 1)))
    opt = optim.SGD([weight], lr=0.5)

    def step(x, y):
        opt.reset_grad()
        ((x @ weight - y) ** 2).sum().backward()
        norm = opt.clip_grad_norm(0.75)
        opt.step()
        return norm

    run_step = run(step)
    tensors = [Tensor(array, requires_grad=False) for array in (x, y)]
    return [run_step(*tensors).item() for _ in range(steps)], weight.numpy()


@pytest.mark.parametrize("run", [lambda step: step, ndl.jit], ids=["eager", "jit"])
def test_training_with_clipping(run):
    rng = np.random.RandomState(0)
    x, y = rng.randn(6, 3), rng.randn(6, 1)
    norms, weight = descend(x, y, 8, run)

    expected, w = [], np.zeros((3, 1))
    for _ in range(8):
        g = 2 * x.T @ (x @ w - y)
        expected.append(np.sqrt((g**2).sum()))
        w = w - 0.5 * g * min(0.75 / (expected[-1] + 1e-6), 1.0)
    assert max(expected) > 0.75
    # The learning rate is float32.
    np.testing.assert_allclose(norms, expected, rtol=1e-6)
    np.testing.assert_allclose(weight, w, rtol=1e-6)


def test_nothing_is_differentiated_through_the_clipping():
    x = nn.Parameter([3.0, 4.0])
    opt = optim.SGD([x])
    (x * x).sum().backward()
    norm = opt.clip_grad_norm(1.0)
    assert not norm.requires_grad
    assert not x.grad.requires_grad


@pytest.mark.parametrize("max_norm", [-1, -1e-9, float("nan")])
def test_a_limit_below_zero_is_refused(max_norm):
    opt, params, grads = make()
    with pytest.raises(ValueError, match=r"max_norm is .*; it must not be negative"):
        opt.clip_grad_norm(max_norm)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g)


@pytest.mark.parametrize("max_norm", ["1", None])
def test_a_limit_is_a_number(max_norm):
    opt, _, _ = make()
    with pytest.raises(TypeError):
        opt.clip_grad_norm(max_norm)


def test_without_any_gradient():
    opt, params, _ = make()
    opt.reset_grad()
    with pytest.raises(ValueError, match=r"no parameter has a gradient to clip; call backward\(\)"):
        opt.clip_grad_norm()
    assert [p.grad for p in params] == [None] * 4

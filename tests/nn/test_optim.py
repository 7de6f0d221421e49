"""SGD and Adam, against the formulas of homework 2 in NumPy."""

import itertools

import numpy as np
import pytest

from needle_ir import Tensor, nn, optim

SHAPES = [(3, 4), (1, 4), (2,), ()]


def make_params(dtype="float32"):
    rng = np.random.RandomState(0)
    return [nn.Parameter(rng.randn(*shape), dtype=dtype) for shape in SHAPES]


def gradients(steps):
    """The same gradients in every test, in float64; large, small and zero ones among them."""
    rng = np.random.RandomState(1)
    for _ in range(steps):
        yield [rng.randn(*shape) * 10.0 ** rng.randint(-3, 2) for shape in SHAPES]


def sgd(params, grads, lr, momentum=0.0, weight_decay=0.0):
    u = [np.zeros_like(p) for p in params]
    for step in grads:
        for i, g in enumerate(step):
            u[i] = momentum * u[i] + (1 - momentum) * (g + weight_decay * params[i])
            params[i] = params[i] - lr * u[i]
    return params, u


def adam(params, grads, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    u = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    for t, step in enumerate(grads, 1):
        for i, g in enumerate(step):
            g = g + weight_decay * params[i]
            u[i] = beta1 * u[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            u_hat, v_hat = u[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
            params[i] = params[i] - lr * u_hat / (np.sqrt(v_hat) + eps)
    return params, u, v


CASES = [
    *[
        (optim.SGD, sgd, {"lr": 0.1, "momentum": momentum, "weight_decay": decay})
        for momentum, decay in itertools.product([0.0, 0.9], [0.0, 0.01])
    ],
    (optim.Adam, adam, {"lr": 0.01}),
    (optim.Adam, adam, {"lr": 0.01, "weight_decay": 0.1}),
    (optim.Adam, adam, {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3}),
    (optim.Adam, adam, {"lr": 0.1, "beta1": 0.0, "beta2": 0.0}),
]


def run(make, params, options, steps=8):
    opt = make(params, **options)
    for step in gradients(steps):
        for parameter, gradient in zip(params, step, strict=True):
            parameter.grad = Tensor(gradient, dtype=parameter.dtype)
        opt.step()
    return opt


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("make", "formula", "options"), CASES)
def test_against_the_formula(make, formula, options, dtype):
    params = make_params(dtype)
    reference = [p.numpy().astype(np.float64) for p in params]
    expected, *moments = formula(reference, gradients(8), **options)
    opt = run(make, params, options)
    for parameter, theirs in zip(params, expected, strict=True):
        assert parameter.dtype == dtype
        assert parameter.is_leaf
        assert parameter.requires_grad
        # The moments are float32 with either dtype.
        np.testing.assert_allclose(parameter.numpy(), theirs, rtol=2e-6, atol=2e-6)
    if options.get("momentum") == 0:
        return
    for name, theirs in zip("uv", moments, strict=False):
        for moment, value in zip(getattr(opt, name), theirs, strict=True):
            assert moment.dtype == np.float32
            np.testing.assert_allclose(moment.numpy(), value, rtol=2e-6, atol=2e-6)


def test_the_reference_moves():
    """Or the tests above could pass with optimizers that do nothing."""
    for _, formula, options in CASES:
        start = [p.numpy().astype(np.float64) for p in make_params()]
        end, *_ = formula(list(start), gradients(8), **options)
        assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(start, end, strict=True))


def test_the_first_step_of_adam_is_the_learning_rate():
    """With bias correction the first step is lr·g/|g|: without, it would be a third of it."""
    w = nn.Parameter([1.0, 2.0])
    opt = optim.Adam([w], lr=0.5)
    w.grad = Tensor([1e-3, -100.0])
    opt.step()
    np.testing.assert_allclose(w.numpy(), [0.5, 2.5], rtol=1e-4)
    assert opt.t == 1


def test_bias_correction_keeps_its_digits():
    """1 - 0.999ᵗ in float32 would have lost four digits of seven."""
    w = nn.Parameter(np.zeros(1), dtype="float64")
    opt = optim.Adam([w], lr=1.0, eps=0.0)
    w.grad = Tensor(np.array([3.0]))
    opt.step()
    np.testing.assert_allclose(w.numpy(), [-1], rtol=1e-6)


@pytest.mark.parametrize(("make", "formula", "options"), CASES)
def test_gradients_are_not_modified(make, formula, options):
    params = make_params()
    held = []
    opt = make(params, **options)
    for step in gradients(3):
        for parameter, gradient in zip(params, step, strict=True):
            parameter.grad = Tensor(gradient, dtype="float32")
            held.append((parameter.grad, parameter.grad.numpy()))
        opt.step()
        assert all(p.grad is held[-4 + i][0] for i, p in enumerate(params))
    for tensor, before in held:
        np.testing.assert_array_equal(tensor.numpy(), before)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_reset_grad(make):
    w = nn.Parameter([1.0])
    opt = make([w])
    (w * w).backward()
    opt.reset_grad()
    assert w.grad is None


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_the_learning_rate_can_change(make):
    w = nn.Parameter([1.0])
    opt = make([w], lr=0.0)
    w.grad = Tensor([2.0])
    opt.step()
    assert w.item() == 1
    opt.lr = 0.25
    opt.step()
    # SGD: lr·g. Adam, with the same gradient every time: lr·g/|g|.
    expected = 0.5 if make is optim.SGD else 0.75
    np.testing.assert_allclose(w.item(), expected, rtol=1e-6)


def test_momentum_can_be_switched_on_later():
    w = nn.Parameter([1.0])
    opt = optim.SGD([w], lr=1.0)
    w.grad = Tensor([1.0])
    opt.step()
    assert w.item() == 0
    opt.momentum = 0.5
    opt.step()
    opt.step()
    # u is 0.5, then 0.75.
    assert w.item() == -1.25


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, momentum=0.9), optim.Adam])
def test_parameters_without_a_gradient_are_skipped(make):
    a, b = nn.Parameter([1.0]), nn.Parameter([2.0])
    opt = make([a, b])
    opt.weight_decay = 0.5
    (a * a).backward()
    opt.step()
    assert a.item() != 1
    assert b.item() == 2
    assert b.grad is None
    assert opt.u[1].item() == 0
    assert opt.u[0].item() != 0


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_a_step_without_any_gradient_changes_no_parameter(make):
    params = make_params()
    before = [p.numpy() for p in params]
    make(params, weight_decay=0.5).step()
    for parameter, value in zip(params, before, strict=True):
        np.testing.assert_array_equal(parameter.numpy(), value)


def test_params_may_be_any_iterable():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    opt = optim.SGD(p for p in model.parameters())
    assert [id(p) for p in opt.params] == [id(p) for p in model.parameters()]
    opt.step()
    opt.step()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (optim.SGD, {"lr": -0.1}, "lr is -0.1; it must not be negative"),
        (optim.Adam, {"lr": float("nan")}, "lr is nan; it must not be negative"),
        (optim.SGD, {"weight_decay": -1.0}, "weight_decay is -1.0; it must not be negative"),
        (optim.Adam, {"weight_decay": -1.0}, "weight_decay is -1.0; it must not be negative"),
        (optim.SGD, {"momentum": 1.0}, r"momentum is 1.0; it must lie in \[0, 1\)"),
        (optim.SGD, {"momentum": -0.5}, r"momentum is -0.5; it must lie in \[0, 1\)"),
        (optim.Adam, {"beta1": 1.0}, r"beta1 is 1.0; it must lie in \[0, 1\)"),
        (optim.Adam, {"beta2": -0.1}, r"beta2 is -0.1; it must lie in \[0, 1\)"),
        (optim.Adam, {"eps": -1e-8}, "eps is -1e-08; it must not be negative"),
    ],
)
def test_bad_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        make([nn.Parameter([1.0])], **options)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_bad_parameters(make):
    with pytest.raises(ValueError, match="no parameters"):
        make([])
    with pytest.raises(TypeError, match="a parameter is a Tensor, not ndarray"):
        make([np.ones(2)])


def test_an_optimizer_of_ones_own_says_what_it_lacks():
    weight = nn.Parameter([1.0])
    opt = optim.Optimizer([weight], lr=0.1, weight_decay=0.0)
    weight.sum().backward()
    with pytest.raises(TypeError, match=r"Optimizer does not define update\(\)"):
        opt.step()


class Accumulating(optim.Optimizer):
    """Takes a step along the sum of two gradients, in every second step."""

    moments = ("sum", "last")

    def __init__(self, params):
        super().__init__(params, lr=0.5, weight_decay=0.0)
        self.count = 0

    def update(self, parameter, gradient, moments):
        self.count += 1
        total = moments["sum"] + gradient
        if self.count % 2:
            return parameter, {"sum": total, "last": total}
        return parameter - total * 0.5, {"sum": total * 0.0, "last": total}


def test_an_update_may_give_back_what_it_took_and_one_node_twice():
    parameter = nn.Parameter(np.array([1.0, 2.0], np.float32))
    opt = Accumulating([parameter])
    expected, total = np.array([1.0, 2.0], np.float32), np.zeros(2, np.float32)
    for number in range(1, 9):
        opt.reset_grad()
        (parameter * parameter).sum().backward()
        opt.step()
        total = total + 2 * expected
        last = total
        if number % 2 == 0:
            expected, total = expected - total * 0.5, total * 0
        np.testing.assert_allclose(parameter.numpy(), expected, rtol=1e-6)
        (moment,) = opt._moment_of_each("last")
        np.testing.assert_allclose(moment.numpy(), last, rtol=1e-6)

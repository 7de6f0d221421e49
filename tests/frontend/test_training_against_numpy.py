"""Training an MLPResNet, against the same network written out by hand in NumPy, in float64."""

from functools import partial

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, optim

STEPS = 20
SHAPE = {"dim": 12, "hidden_dim": 10, "num_blocks": 2, "num_classes": 4}
EPS = 1e-5
NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm1d}


class Reference:
    """Forward, backward and update of MLPResNet over parameters by name."""

    def __init__(self, model, norm, drop_prob):
        self.params = {name: p.numpy().astype(np.float64) for name, p in model.named_parameters()}
        self.blocks = len(model.blocks)
        self.axis = 0 if norm == "batch" else 1
        self.p = drop_prob
        norms = [f"blocks.{i}.norm{j}" for i in range(self.blocks) for j in (1, 2)]
        sizes = {name: self.params[f"{name}.weight"].shape for name in norms}
        self.running_mean = {name: np.zeros(size) for name, size in sizes.items()}
        self.running_var = {name: np.ones(size) for name, size in sizes.items()}

    def linear(self, x, name):
        return x @ self.params[f"{name}.weight"] + self.params[f"{name}.bias"]

    def linear_backward(self, dy, x, name, grads):
        grads[f"{name}.weight"] = x.T @ dy
        grads[f"{name}.bias"] = dy.sum(0, keepdims=True)
        return dy @ self.params[f"{name}.weight"].T

    def norm(self, x, name):
        mean = x.mean(self.axis, keepdims=True)
        var = ((x - mean) ** 2).mean(self.axis, keepdims=True)
        if self.axis == 0:
            self.running_mean[name] = 0.9 * self.running_mean[name] + 0.1 * mean[0]
            self.running_var[name] = 0.9 * self.running_var[name] + 0.1 * var[0]
        scale = 1 / np.sqrt(var + EPS)
        normal = (x - mean) * scale
        return normal * self.params[f"{name}.weight"] + self.params[f"{name}.bias"], normal, scale

    def norm_backward(self, dy, normal, scale, name, grads):
        grads[f"{name}.weight"] = (dy * normal).sum(0)
        grads[f"{name}.bias"] = dy.sum(0)
        d = dy * self.params[f"{name}.weight"]
        mean = d.mean(self.axis, keepdims=True)
        slope = (d * normal).mean(self.axis, keepdims=True)
        return scale * (d - mean - normal * slope)

    def loss_and_grads(self, x, labels):
        """The loss and the gradient of every parameter. Draws one mask a block."""
        stem = self.linear(x, "stem")
        h = np.maximum(stem, 0)
        saved = []
        for i in range(self.blocks):
            name = f"blocks.{i}"
            a, normal1, scale1 = self.norm(self.linear(h, f"{name}.linear1"), f"{name}.norm1")
            keep = (np.random.rand(*a.shape) <= 1 - self.p) / (1 - self.p)
            dropped = np.maximum(a, 0) * keep
            b, normal2, scale2 = self.norm(self.linear(dropped, f"{name}.linear2"), f"{name}.norm2")
            saved.append((h, a, normal1, scale1, keep, dropped, normal2, scale2, h + b))
            h = np.maximum(h + b, 0)
        logits = self.linear(h, "classifier")

        rows = np.arange(len(labels))
        top = logits.max(1, keepdims=True)
        log_sum = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
        loss = (log_sum - logits[rows, labels]).mean()

        grads = {}
        d = np.exp(logits - log_sum[:, None])
        d[rows, labels] -= 1
        d = self.linear_backward(d / len(labels), h, "classifier", grads)
        for i in reversed(range(self.blocks)):
            name = f"blocks.{i}"
            h, a, normal1, scale1, keep, dropped, normal2, scale2, total = saved[i]
            d = d * (total > 0)
            inner = self.norm_backward(d, normal2, scale2, f"{name}.norm2", grads)
            inner = self.linear_backward(inner, dropped, f"{name}.linear2", grads)
            inner = inner * keep * (a > 0)
            inner = self.norm_backward(inner, normal1, scale1, f"{name}.norm1", grads)
            d = d + self.linear_backward(inner, h, f"{name}.linear1", grads)
        self.linear_backward(d * (stem > 0), x, "stem", grads)
        return loss, grads


def adam(params, lr, weight_decay, beta1=0.9, beta2=0.999, eps=1e-8):
    """A function that takes one step, from the formulas of homework 2."""
    u = {name: np.zeros_like(p) for name, p in params.items()}
    v = {name: np.zeros_like(p) for name, p in params.items()}
    t = 0

    def step(grads):
        nonlocal t
        t += 1
        for name in params:
            g = grads[name] + weight_decay * params[name]
            u[name] = beta1 * u[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * g**2
            u_hat, v_hat = u[name] / (1 - beta1**t), v[name] / (1 - beta2**t)
            params[name] = params[name] - lr * u_hat / (np.sqrt(v_hat) + eps)

    return step


def sgd(params, lr, weight_decay, momentum):
    """A function that takes one step, from the formulas of homework 2."""
    u = {name: np.zeros_like(p) for name, p in params.items()}

    def step(grads):
        for name in params:
            g = grads[name] + weight_decay * params[name]
            u[name] = momentum * u[name] + (1 - momentum) * g
            params[name] = params[name] - lr * u[name]

    return step


OPTIMIZERS = {
    "adam": (
        partial(optim.Adam, lr=0.01, weight_decay=0.01),
        partial(adam, lr=0.01, weight_decay=0.01),
    ),
    "sgd": (
        partial(optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
        partial(sgd, lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
}


def batches(dtype, rows=16):
    rng = np.random.RandomState(11)
    for _ in range(STEPS):
        x = rng.rand(rows, SHAPE["dim"]).astype(dtype)
        yield x, rng.randint(0, SHAPE["num_classes"], rows).astype(np.uint8)


def make_model(app, norm, dtype, drop_prob=0.2):
    np.random.seed(0)
    model = app.MLPResNet(**SHAPE, norm=partial(NORMS[norm], dtype=dtype), drop_prob=drop_prob)
    if dtype == "float64":
        linears = [model.stem, model.classifier]
        linears += [linear for block in model.blocks for linear in (block.linear1, block.linear2)]
        for linear in linears:
            linear.weight = nn.Parameter(linear.weight, dtype=dtype)
            linear.bias = nn.Parameter(linear.bias, dtype=dtype)
    assert {p.dtype.name for p in model.parameters()} == {dtype}
    return model


# How far losses and parameters may be off, relative to their size: ten times what was measured,
# 7e-8 and 2e-7 with float64 parameters, 5e-7 and 5e-6 with float32. The optimizers' moments are
# float32 in both cases.
TOLERANCES = {"float64": (7e-7, 2e-6), "float32": (5e-6, 5e-5)}


@pytest.mark.parametrize("run", ["eager", "jit"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_twenty_steps(app, norm, optimizer, dtype, run):
    model = make_model(app, norm, dtype)
    reference = Reference(model, norm, drop_prob=0.2)
    ours, theirs = OPTIMIZERS[optimizer]
    opt, update = ours(model.parameters()), theirs(reference.params)
    step = partial(app.train_step, model, opt)
    step = ndl.jit(step) if run == "jit" else step

    np.random.seed(1)
    losses = []
    for x, labels in batches(dtype):
        _, loss = step(Tensor(x, requires_grad=False), Tensor(labels))
        losses.append(loss.item())
    draw = np.random.rand()

    np.random.seed(1)
    expected = []
    for x, labels in batches(np.float64 if dtype == "float64" else np.float32):
        loss, grads = reference.loss_and_grads(x.astype(np.float64), labels)
        update(grads)
        expected.append(loss)
    assert np.random.rand() == draw

    loss_tolerance, tolerance = TOLERANCES[dtype]
    np.testing.assert_allclose(losses, expected, rtol=loss_tolerance)
    assert abs(expected[-1] - expected[0]) > 100 * loss_tolerance
    for name, parameter in model.named_parameters():
        close = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance, err_msg=name)
        close(parameter.numpy(), reference.params[name])
        close(parameter.grad.numpy(), grads[name])
    if norm == "batch":
        for i, block in enumerate(model.blocks):
            for j, layer in ((1, block.norm1), (2, block.norm2)):
                name = f"blocks.{i}.norm{j}"
                close(layer.running_mean.numpy(), reference.running_mean[name])
                close(layer.running_var.numpy(), reference.running_var[name])


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_gradients_agree_with_finite_differences(app, norm):
    model = make_model(app, norm, "float64")
    x, labels = next(batches(np.float64))
    x, labels = Tensor(x, requires_grad=False), Tensor(labels)

    def loss():
        np.random.seed(5)
        return app.evaluate(model, x, labels)[1]

    loss().backward()
    rng = np.random.RandomState(2)
    step = 1e-5
    for name, parameter in model.named_parameters():
        value, gradient = parameter.numpy(), parameter.grad.numpy()
        for position in rng.choice(value.size, min(value.size, 4), replace=False):
            change = np.zeros(value.size)
            change[position] = step
            change = change.reshape(value.shape)
            ends = []
            for moved in (value + change, value - change):
                parameter.data = moved
                ends.append(loss().item())
            difference = (ends[0] - ends[1]) / (2 * step)
            # The error of the difference: step² from the third derivative, 1e-16 / step rounding.
            assert abs(gradient.flat[position] - difference) < 1e-8 + 1e-6 * abs(difference), name
        parameter.data = value


def test_the_reference_is_right():
    """Its own gradient against its own differences: a reference must not be taken on trust."""

    class Model:
        blocks = (0, 1)

        def named_parameters(self):
            rng = np.random.RandomState(3)
            sizes = {"stem": (3, 5), "classifier": (5, 2)}
            for i in (0, 1):
                sizes |= {f"blocks.{i}.linear1": (5, 4), f"blocks.{i}.linear2": (4, 5)}
                sizes |= {f"blocks.{i}.norm1": (4,), f"blocks.{i}.norm2": (5,)}
            for name, size in sizes.items():
                yield f"{name}.weight", Tensor(rng.randn(*size))
                bias = size if len(size) == 1 else (1, size[1])
                yield f"{name}.bias", Tensor(rng.randn(*bias))

    rng = np.random.RandomState(4)
    x, labels = rng.randn(6, 3), rng.randint(0, 2, 6)
    for norm in ("batch", "layer"):
        reference = Reference(Model(), norm, drop_prob=0.3)

        def loss(reference=reference):
            np.random.seed(6)
            return reference.loss_and_grads(x, labels)

        _, grads = loss()
        assert grads.keys() == reference.params.keys()
        for name, gradient in grads.items():
            array = reference.params[name]
            for position in np.ndindex(array.shape):
                before = array[position]
                ends = []
                for moved in (before + 1e-5, before - 1e-5):
                    array[position] = moved
                    ends.append(loss()[0])
                array[position] = before
                difference = (ends[0] - ends[1]) / 2e-5
                assert abs(gradient[position] - difference) < 1e-7, (norm, name)

"""Optimizers: SGD, Adam. `step()` is where a training step is computed."""

from collections.abc import Iterable
from functools import reduce
from operator import add

import numpy as np

from needle_ir import ops
from needle_ir.ir import Node, capture_origin, inherit_origin, scope
from needle_ir.realize import sync
from needle_ir.recording import guarded, host_scalar, no_grad
from needle_ir.tensor import Tensor

_MOMENT_DTYPE = np.dtype(np.float32)


class Optimizer:
    """What optimizers share. `lr` can be changed between steps; it never compiles again."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float):
        self.params = list(params)
        if not self.params:
            raise ValueError("the optimizer was given no parameters")
        for parameter in self.params:
            if not isinstance(parameter, Tensor):
                raise TypeError(f"a parameter is a Tensor, not {type(parameter).__name__}")
        self.lr = _at_least_zero("lr", lr)
        self.weight_decay = _at_least_zero("weight_decay", weight_decay)

    def step(self) -> None:
        """Update every parameter that has a gradient, and compute all that is pending.

        Forward pass, gradients and updates run as one plan. Gradients are not modified.
        """
        with no_grad(), scope(type(self).__name__, "update"), inherit_origin(capture_origin()):
            self._update([p for p in self.params if p.grad is not None])
        sync()

    def reset_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for parameter in self.params:
            parameter.grad = None

    def clip_grad_norm(self, max_norm: float = 0.25) -> Tensor:
        """Scale all gradients so that their common Euclidean norm is at most `max_norm`.

        Every `.grad` becomes a new tensor. Returns the norm from before. Raises ValueError for a
        negative max_norm, or where no parameter has a gradient.
        """
        _at_least_zero("max_norm", max_norm)
        with no_grad():
            gradients = [(p, p.grad.detach()) for p in self.params if p.grad is not None]
            if not gradients:
                raise ValueError("no parameter has a gradient to clip; call backward() first")
            norm = ops.sqrt(reduce(add, [ops.sum(g * g) for _, g in gradients]))
            factor = ops.minimum(max_norm / (norm + 1e-6), 1.0)
            for parameter, gradient in gradients:
                parameter.grad = gradient * ops.cast(factor, gradient.dtype)
        return norm

    def _update(self, params: list[Tensor]) -> None:
        """Record the new value of each of `params`."""
        raise TypeError(f"{type(self).__name__} does not define _update()")

    def _learning_rate(self) -> Node:
        return host_scalar(lambda: self.lr, np.dtype(np.float32), "lr")

    def _gradient(self, parameter: Tensor) -> Node:
        """The gradient with the weight decay added."""
        assert parameter.grad is not None
        gradient = parameter.grad._read()
        decay = guarded(self, "weight_decay", self.weight_decay)
        if not decay:
            return gradient
        return ops.decayed_gradient(gradient, parameter._read(), decay=decay)


class SGD(Optimizer):
    """Stochastic gradient descent: u ← momentum·u + (1 - momentum)·g, θ ← θ - lr·u.

    g is the gradient plus weight_decay·θ. u starts at 0 and is float32. Raises ValueError for a
    negative lr or weight_decay, or a momentum outside of [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, weight_decay)
        self.momentum = _fraction("momentum", momentum)
        self.u = [_moment(p) for p in self.params]

    def _update(self, params: list[Tensor]) -> None:
        lr = self._learning_rate()
        beta = guarded(self, "momentum", self.momentum)
        moments = dict(zip(map(id, self.params), self.u, strict=True))
        for parameter in params:
            direction = self._gradient(parameter)
            if beta:
                u = moments[id(parameter)]
                _name(u, parameter, "u")
                direction = ops.moving_average(u._read(), direction, beta=beta)
                u._assign(direction)
            parameter._assign(ops.sgd_update(parameter._read(), direction, lr))


class Adam(Optimizer):
    """Adam with bias correction (Kingma and Ba 2015, algorithm 1).

    u ← β₁·u + (1 - β₁)·g, v ← β₂·v + (1 - β₂)·g², θ ← θ - lr·û / (√v̂ + eps), where
    û = u / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). g is the gradient plus weight_decay·θ. u and v start
    at 0 and are float32. Raises ValueError for a negative lr, eps or weight_decay, or a beta
    outside of [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, weight_decay)
        self.beta1 = _fraction("beta1", beta1)
        self.beta2 = _fraction("beta2", beta2)
        self.eps = _at_least_zero("eps", eps)
        self.u = [_moment(p) for p in self.params]
        self.v = [_moment(p) for p in self.params]
        # float64: 1 - 0.999 would lose four of float32's seven digits.
        self._t = Tensor(np.zeros(()), requires_grad=False)
        self._t.rename("t")

    @property
    def t(self) -> int:
        """The number of steps taken."""
        return int(self._t)

    def _update(self, params: list[Tensor]) -> None:
        lr = self._learning_rate()
        beta1 = guarded(self, "beta1", self.beta1)
        beta2 = guarded(self, "beta2", self.beta2)
        eps = guarded(self, "eps", self.eps)
        t = self._t._read() + 1
        self._t._assign(t)
        u_debias = ops.cast(1 - beta1**t, _MOMENT_DTYPE)
        v_debias = ops.cast(1 - beta2**t, _MOMENT_DTYPE)
        moments = dict(zip(map(id, self.params), zip(self.u, self.v, strict=True), strict=True))
        for parameter in params:
            gradient = self._gradient(parameter)
            u, v = moments[id(parameter)]
            _name(u, parameter, "u")
            _name(v, parameter, "v")
            new_u = ops.moving_average(u._read(), gradient, beta=beta1)
            new_v = ops.moving_square_average(v._read(), gradient, beta=beta2)
            update = ops.adam_update(
                parameter._read(), new_u, new_v, lr, u_debias, v_debias, eps=eps
            )
            u._assign(new_u)
            v._assign(new_v)
            parameter._assign(update)


def _moment(parameter: Tensor) -> Tensor:
    return Tensor(np.zeros(parameter.shape, _MOMENT_DTYPE), requires_grad=False)


def _name(moment: Tensor, parameter: Tensor, suffix: str) -> None:
    """Name a moment after its parameter, which learns its own name when its module is called."""
    if moment.name is None and parameter.name is not None:
        moment.rename(f"{parameter.name}.{suffix}")


def _at_least_zero(name: str, value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{name} is {value}; it must not be negative")
    return value


def _fraction(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; it must lie in [0, 1)")
    return value

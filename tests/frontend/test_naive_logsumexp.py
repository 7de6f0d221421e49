"""The naive log(sum(exp(x))) at [1000, 999], where exp(1000) is infinite: finite and right, alone,
after maximum(x @ w, 0), and as a cross-entropy written by hand; its first and second derivative
too; in every way in which a program can be run.

Expected values are worked out by hand: with p = softmax([1000, 999]) = [s, 1 - s] and
s = 1 / (1 + e^-1), the gradient is p, and the gradient of its product with c is p * (c - p.c).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor

Array = np.ndarray[Any, Any]
Look = Callable[[Tensor], Tensor]

P = np.array([1, np.exp(-1.0)]) / (1 + np.exp(-1.0))
VALUE = 1000 + np.log(1 + np.exp(-1.0))
C = np.array([0.5, -2.0])
TURN = P * (C - P @ C)  # the second derivative, in the direction c


class Program(NamedTuple):
    """A loss of a parameter. `direction` is what the gradient is multiplied by before it is
    differentiated again; `expected` are the value and both derivatives.
    """

    loss: Callable[[Tensor, Look], Tensor]
    parameter: Array
    direction: Array
    expected: tuple[Any, Array, Array]


def alone(z: Tensor, look: Look) -> Tensor:
    return ndl.log(look(look(ndl.exp(z)).sum()))


X = np.array([[10.0, 20.0]])
W = np.array([[40.0, 30.0], [30.0, 34.95]])  # X @ W = [[1000, 999]]


def after_a_layer(w: Tensor, look: Look) -> Tensor:
    h = look(ndl.maximum(look(Tensor(X, dtype=w.dtype, requires_grad=False) @ w), 0))
    return ndl.log(look(look(ndl.exp(h)).sum()))


LOGITS = np.array([[1000.0, 999.0], [-1000.0, 1000.0]])
LABELS = np.array([1, 0])
HOT = np.eye(2)[LABELS]
SOFTMAX = np.array([P, [0.0, 1.0]])


def cross_entropy(logits: Tensor, look: Look) -> Tensor:
    e = look(ndl.exp(logits))
    p = look(e / look(e.sum(1, keepdims=True)))
    return -look(ndl.log(look(p[np.arange(2), LABELS]))).mean()


def cross_entropy_one_hot(logits: Tensor, look: Look) -> Tensor:
    total = look(ndl.log(look(look(ndl.exp(logits)).sum(1))))
    picked = look((logits * HOT.astype(logits.dtype)).sum(1))
    return look(total - picked).mean()


PROGRAMS = {
    "alone": Program(alone, np.array([1000.0, 999.0]), C, (VALUE, P, TURN)),
    "after a layer": Program(
        after_a_layer, W, np.outer(np.ones(2), C), (VALUE, np.outer(X, P), 30 * np.outer(X, TURN))
    ),
    **{
        name: Program(
            loss,
            LOGITS,
            np.array([C, C]),
            (
                (VALUE - 999 + 2000) / 2,
                (SOFTMAX - HOT) / 2,
                np.array([TURN, [0.0, 0.0]]) / 2,
            ),
        )
        for name, loss in {
            "cross-entropy": cross_entropy,
            "cross-entropy, one-hot": cross_entropy_one_hot,
        }.items()
    },
}


def at_once(x: Tensor) -> Tensor:
    return x


def printed(x: Tensor) -> Tensor:
    assert str(x)
    return x


def recorded(program: Program, x: Tensor, look: Look = at_once) -> list[Tensor]:
    loss = program.loss(x, look)
    loss.backward()
    first = look(x.grad)
    direction = program.direction.astype(x.dtype)
    look((first * direction).sum()).backward()
    return [loss, first, x.grad]


def by_functions(program: Program, through: Callable[..., Any]) -> Callable[[Tensor], Any]:
    """The same by `ndl.grad`, each function gone `through` something."""

    def loss(x: Tensor) -> Tensor:
        return program.loss(x, at_once)

    def inner(x: Tensor) -> Tensor:
        return (ndl.grad(loss)(x) * program.direction.astype(x.dtype)).sum()

    return lambda x: [through(f, x)(x) for f in (loss, ndl.grad(loss), ndl.grad(inner))]


MODES: dict[str, Callable[[Program, Tensor], list[Tensor]]] = {
    "recorded": recorded,
    "printed half-way": lambda program, x: recorded(program, x, printed),
    "jit": lambda program, x: by_functions(program, lambda f, x: ndl.jit(f))(x),
    "compile": lambda program, x: by_functions(program, ndl.compile)(x),
    "functions": lambda program, x: by_functions(program, lambda f, x: f)(x),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value_and_derivatives(name: str, mode: str, dtype: Any) -> None:
    program = PROGRAMS[name]
    x = Tensor(program.parameter, dtype=dtype)
    results = MODES[mode](program, x)
    # x @ w is 1000 with an error of 6e-5 in float32.
    rtol = 2e-4 if dtype is np.float32 else 1e-12
    for result, expected in zip(results, program.expected, strict=True):
        assert result.dtype == dtype
        np.testing.assert_allclose(result.numpy(), expected, rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("look", [at_once, printed], ids=["recorded", "printed half-way"])
def test_values_without_gradients(name: str, look: Look) -> None:
    program = PROGRAMS[name]
    with ndl.no_grad():
        x = Tensor(program.parameter, dtype=np.float32)
        value = program.loss(x, look)
    np.testing.assert_allclose(value.numpy(), program.expected[0], rtol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_numpy_overflows(name: str) -> None:
    """Else the tests above would show nothing."""
    parameter = PROGRAMS[name].parameter.astype(np.float32)
    z = np.maximum(X.astype(np.float32) @ parameter, 0) if name == "after a layer" else parameter
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(z).sum(-1)).all()

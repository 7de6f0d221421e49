"""Initializers: the formulas of homework 2 over NumPy's global generator."""

import math

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, init


def drawn(make, seed=0):
    """What `make` draws, and the next number of the generator."""
    np.random.seed(seed)
    made = make()
    return made, np.random.rand()


def same(make, formula):
    """`make` gives the float32 of what `formula` gives and draws as much from the generator."""
    tensor, after = drawn(make)
    expected, expected_after = drawn(formula)
    assert after == expected_after
    assert tensor.dtype == np.float32
    assert tensor.shape == expected.shape
    np.testing.assert_array_equal(tensor.numpy(), expected.astype(np.float32))
    return True


@pytest.mark.parametrize("shape", [(3, 4), (5,), (2, 3, 4), (0, 3)])
def test_uniform_and_normal(shape):
    assert same(lambda: init.rand(*shape), lambda: np.random.rand(*shape))
    assert same(
        lambda: init.rand(*shape, low=-2, high=5), lambda: np.random.rand(*shape) * (5 - -2) + -2
    )
    assert same(lambda: init.randn(*shape), lambda: np.random.randn(*shape))
    assert same(
        lambda: init.randn(*shape, mean=3.0, std=0.5), lambda: np.random.randn(*shape) * 0.5 + 3.0
    )


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_bernoulli(p):
    tensor, after = drawn(lambda: init.randb(1000, p=p))
    expected, expected_after = drawn(lambda: np.random.rand(1000) <= p)
    assert tensor.dtype == np.bool_
    np.testing.assert_array_equal(tensor.numpy(), expected)
    assert after == expected_after


@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_xavier(gain):
    bound = gain * math.sqrt(6 / (30 + 20))
    assert same(
        lambda: init.xavier_uniform(30, 20, gain=gain),
        lambda: np.random.rand(30, 20) * (2 * bound) - bound,
    )
    std = gain * math.sqrt(2 / (30 + 20))
    assert same(
        lambda: init.xavier_normal(30, 20, gain=gain), lambda: np.random.randn(30, 20) * std
    )


def test_kaiming():
    bound = math.sqrt(2) * math.sqrt(3 / 30)
    assert same(
        lambda: init.kaiming_uniform(30, 20), lambda: np.random.rand(30, 20) * (2 * bound) - bound
    )
    std = math.sqrt(2) / math.sqrt(30)
    assert same(lambda: init.kaiming_normal(30, 20), lambda: np.random.randn(30, 20) * std)


def test_kaiming_knows_relu_only():
    for make in (init.kaiming_uniform, init.kaiming_normal):
        with pytest.raises(ValueError, match=r"'tanh'.*'relu' only"):
            make(3, 4, nonlinearity="tanh")


def test_constants():
    np.testing.assert_array_equal(init.ones(2, 3).numpy(), np.ones((2, 3)))
    np.testing.assert_array_equal(init.zeros(2, 3).numpy(), np.zeros((2, 3)))
    np.testing.assert_array_equal(init.constant(2, c=1.5).numpy(), [1.5, 1.5])
    assert init.ones(2).dtype == init.zeros(2).dtype == init.constant(2).dtype == np.float32
    assert init.constant(c=2.0).shape == ()
    x = Tensor(np.zeros((2, 3), np.int64))
    for make, value in ((init.ones_like, 1), (init.zeros_like, 0)):
        assert make(x).dtype == np.int64
        np.testing.assert_array_equal(make(x).numpy(), np.full((2, 3), value))


def test_one_hot():
    hot = init.one_hot(4, Tensor(np.array([2, 0, 3], np.uint8)))
    assert hot.dtype == np.float32
    np.testing.assert_array_equal(hot.numpy(), np.eye(4)[[2, 0, 3]])
    nested = init.one_hot(3, Tensor(np.array([[2], [1]])), dtype="int32")
    assert nested.dtype == np.int32
    np.testing.assert_array_equal(nested.numpy(), np.eye(3)[[[2], [1]]])
    floats = init.one_hot(3, Tensor([2.0, 1.0]))
    np.testing.assert_array_equal(floats.numpy(), np.eye(3)[[2, 1]])


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
def test_one_hot_refuses_labels_out_of_range(labels):
    with pytest.raises(ValueError, match=r"labels lie in .*, but there are 4 classes"):
        init.one_hot(4, Tensor(np.array(labels)))


MAKERS = [
    lambda **options: init.rand(2, 3, **options),
    lambda **options: init.randn(2, 3, **options),
    lambda **options: init.randb(2, 3, **options),
    lambda **options: init.constant(2, 3, **options),
    lambda **options: init.ones(2, 3, **options),
    lambda **options: init.zeros(2, 3, **options),
    lambda **options: init.xavier_uniform(2, 3, **options),
    lambda **options: init.xavier_normal(2, 3, **options),
    lambda **options: init.kaiming_uniform(2, 3, **options),
    lambda **options: init.kaiming_normal(2, 3, **options),
    lambda **options: init.one_hot(3, Tensor(np.array([0, 1])), **options),
]


@pytest.mark.parametrize("make", MAKERS)
def test_what_all_of_them_take(make):
    tensor = make(dtype="float64", device=ndl.cpu(), requires_grad=True)
    assert tensor.dtype == np.float64
    assert tensor.shape == (2, 3)
    assert tensor.is_leaf
    assert tensor.requires_grad
    (tensor * tensor).sum().backward()
    np.testing.assert_array_equal(tensor.grad.numpy(), 2 * tensor.numpy())
    assert not make().requires_grad
    with pytest.raises(TypeError, match="'gpu' is not a device"):
        make(device="gpu")


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_inside_a_traced_function(make):
    def f():
        tensor = make(dtype="float64", requires_grad=True)
        loss = (tensor * tensor).sum()
        loss.backward()
        return tensor, tensor.grad

    plain, after = drawn(f)
    traced, traced_after = drawn(ndl.jit(f))
    assert after == traced_after
    for a, b in zip(plain, traced, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()

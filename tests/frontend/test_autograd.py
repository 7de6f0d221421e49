"""`backward()` and `.grad`, `grad` and `value_and_grad`: against closed forms."""

from typing import NamedTuple

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import DTypeError, ShapeError, Tensor, nn, optim


def close(tensor, expected, rtol=1e-6):
    assert isinstance(tensor, Tensor)
    expected = np.asarray(expected)
    assert tensor.shape == expected.shape
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=rtol, atol=1e-12)
    return True


def f64(values):
    return Tensor(np.asarray(values, np.float64))


X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
W = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]])

CLOSED_FORMS = [
    ("square", lambda x: (x * x).sum(), lambda x: 2 * x),
    ("cube", lambda x: (x**3).sum(), lambda x: 3 * x**2),
    ("mean", lambda x: x.mean(), lambda x: np.full_like(x, 1 / x.size)),
    ("exp", lambda x: x.exp().sum(), np.exp),
    ("log", lambda x: (x * x + 1).log().sum(), lambda x: 2 * x / (x * x + 1)),
    ("tanh", lambda x: x.tanh().sum(), lambda x: 1 - np.tanh(x) ** 2),
    ("sqrt", lambda x: (x * x + 1).sqrt().sum(), lambda x: x / np.sqrt(x * x + 1)),
    ("reciprocal", lambda x: (1 / (x + 9)).sum(), lambda x: -1 / (x + 9) ** 2),
    ("abs", lambda x: abs(x).sum(), np.sign),
    ("relu", lambda x: ndl.relu(x).sum(), lambda x: (x > 0) * 1.0),
    ("matmul", lambda x: (x @ W).sum(), lambda x: np.tile(W.sum(1), (2, 1))),
    ("row sums", lambda x: (x.sum(1) ** 2).sum(), lambda x: 2 * x.sum(1, keepdims=True) + 0 * x),
    ("max", lambda x: x.max(), lambda x: (x == x.max()) * 1.0),
    ("reshape", lambda x: (x.reshape(3, 2) * W).sum(), lambda x: W.reshape(2, 3)),
    ("transpose", lambda x: (x.T * W).sum(), lambda x: W.T),
    (
        "logsumexp",
        lambda x: ndl.logsumexp(x, 1).sum(),
        lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
    ),
]


@pytest.mark.parametrize(
    ("function", "derivative"), [row[1:] for row in CLOSED_FORMS], ids=[r[0] for r in CLOSED_FORMS]
)
def test_closed_forms(function, derivative):
    x = f64(X)
    assert function(x).backward() is None
    assert close(x.grad, derivative(X))
    assert x.grad.dtype == np.float64
    assert close(ndl.grad(function)(X), derivative(X))


def test_a_leaf_that_is_read_twice_adds_up():
    x, y = Tensor([2.0, 3.0]), Tensor([5.0, 7.0])
    (x * y + x * x - y).sum().backward()
    assert close(x.grad, [5 + 4, 7 + 6])
    assert close(y.grad, [2 - 1, 3 - 1])


def test_a_broadcast_operand_gets_the_sum():
    x, b = Tensor(np.ones((4, 3), np.float32)), Tensor([1.0, 2.0, 3.0])
    (x * b).sum().backward()
    assert close(b.grad, [4, 4, 4])
    assert close(x.grad, np.tile([1.0, 2.0, 3.0], (4, 1)))


@pytest.mark.parametrize("kind", [lambda ct: Tensor(ct), lambda ct: ct, lambda ct: ct.tolist()])
def test_out_grad_weighs_the_outputs(kind):
    x = Tensor([2.0, 3.0])
    (x * x).backward(kind(np.array([10.0, 100.0], np.float32)))
    assert close(x.grad, [40, 600])


def test_a_leaf_is_its_own_derivative():
    x = Tensor([2.0, 3.0])
    x.backward()
    assert close(x.grad, [1, 1])


def test_grad_is_set_afresh():
    x, y = Tensor([2.0]), Tensor([3.0])
    (x * y).backward()
    first = x.grad
    (x * 10).backward()
    assert close(x.grad, [10])
    assert close(y.grad, [2])
    assert close(first, [3])


def test_no_leaf_below_no_grad():
    x, y = Tensor([2.0]), Tensor([3.0], requires_grad=False)
    (x * y).backward()
    assert y.grad is None
    assert close(x.grad, [3])


def test_only_leaves_get_a_grad():
    x = Tensor([2.0])
    h = x * 3
    (h * h).backward()
    assert h.grad is None
    assert not h.is_leaf
    assert x.is_leaf
    assert close(x.grad, [36])


def test_the_gradient_of_a_gradient():
    """The test of needle's homework 1: y = x2² + x2·x3."""
    x2, x3 = Tensor([6.0]), Tensor([0.0])
    y = x2 * x2 + x2 * x3
    y.backward()
    grad_x2, grad_x3 = x2.grad, x3.grad
    assert close(y, [36])
    assert close(grad_x2, [12])
    assert close(grad_x3, [6])
    grad_x2.backward()
    assert close(x2.grad, [2])
    assert close(x3.grad, [1])
    grad_x3.backward()
    assert close(x2.grad, [1])
    assert close(x3.grad, [0])


def test_a_third_derivative_by_backward():
    x = f64([0.5, 2.0])
    (x**4).sum().backward()
    x.grad.sum().backward()
    x.grad.sum().backward()
    assert close(x.grad, [12, 48])


def test_detach_is_a_constant():
    x = Tensor([2.0, 3.0])
    h = x * x
    for constant in (h.detach(), h.data, ndl.stop_gradient(h)):
        (constant * x).sum().backward()
        assert close(x.grad, [4, 9])
    assert not h.detach().requires_grad
    with pytest.raises(ValueError, match="depends on no leaf"):
        h.detach().backward()


def test_no_grad_makes_constants():
    x = Tensor([2.0])
    with ndl.no_grad():
        h = x * x
        with ndl.enable_grad():
            g = x * 5
        after = x * 7
    assert not h.requires_grad
    assert g.requires_grad
    assert not after.requires_grad
    (h * x + g + after).backward()
    assert close(x.grad, [4 + 5])
    with pytest.raises(ValueError, match="depends on no leaf"):
        h.backward()


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), ndl.no_grad():
        raise KeyError
    assert (Tensor([1.0]) * 2).requires_grad


def test_gradients_recorded_under_no_grad_have_no_history():
    x = Tensor([3.0])
    y = x * x
    with ndl.no_grad():
        y.backward()
    assert close(x.grad, [6])
    with pytest.raises(ValueError, match="depends on no leaf"):
        x.grad.backward()


@pytest.mark.parametrize("pending", [False, True])
def test_assigning_data_starts_a_new_leaf(pending):
    x, y = Tensor([2.0]), Tensor([5.0])
    value = x * y
    if not pending:
        value.numpy()
    x.data = value
    assert x.is_leaf
    (x * x).backward()
    assert close(x, [10])
    assert close(x.grad, [20])
    assert y.grad is None


def test_a_leaf_assigned_by_itself_is_updated():
    w = Tensor([4.0])
    for _ in range(3):
        (w * w).backward()
        w.data = w.data - 0.25 * w.grad
    assert close(w, [0.5])


@pytest.mark.parametrize("pending", [False, True])
def test_assigning_data_before_backward_keeps_the_gradient(pending):
    """As everywhere in needle and PyTorch: the tensor still gets what it contributed."""
    w = Tensor([3.0])
    loss = w * w
    new = Tensor([100.0]) * 1
    if not pending:
        new.numpy()
    w.data = new
    loss.backward()
    assert close(loss, [9])
    assert close(w.grad, [6])
    assert close(w, [100])


def test_uses_before_and_after_an_assignment_both_count():
    w = Tensor([3.0])
    before = w * w
    w.data = Tensor([5.0])
    (before + 10 * w).backward()
    assert close(w.grad, [6 + 10])


def test_two_leaves_of_one_pending_value_are_two():
    value = Tensor([2.0], requires_grad=False) * 1
    p, q = nn.Parameter([0.0]), nn.Parameter([0.0])
    p.data, q.data = value, value
    (p * q * q).backward()
    assert close(p.grad, [4])
    assert close(q.grad, [8])


def test_grad_can_be_assigned_and_cleared():
    x = Tensor([1.0, 2.0])
    x.grad = Tensor([5.0, 6.0])
    assert close(x.grad, [5, 6])
    x.grad = None
    assert x.grad is None


def test_nothing_to_differentiate_by():
    with pytest.raises(ValueError, match="depends on no leaf with requires_grad=True"):
        (Tensor([1.0], requires_grad=False) * 2).backward()


def test_an_integer_has_no_derivative():
    with pytest.raises(ValueError, match="int64; derivatives need a float dtype"):
        Tensor(np.array([1, 2])).backward()
    with pytest.raises(ValueError, match="bool; derivatives need a float dtype"):
        (Tensor([1.0]) > 0).backward()


def test_out_grad_must_fit():
    x = Tensor([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"out_grad has shape \(3,\), the tensor \(2,\)"):
        (x * x).backward(Tensor([1.0, 2.0, 3.0]))
    assert x.grad is None


@pytest.mark.parametrize("read_before", [False, True])
def test_after_a_step_there_is_no_history(read_before):
    w = nn.Parameter([2.0])
    opt = optim.SGD([w], lr=0.5)
    loss = w * w
    if read_before:
        loss.item()
    loss.backward()
    opt.step()
    with pytest.raises(ValueError, match="history was freed by an optimizer step"):
        loss.backward()
    assert loss.item() == 4
    assert close(w.grad, [4])


def test_grad_of_a_function():
    assert close(ndl.grad(lambda x: x * x)(3.0), 6)
    assert close(ndl.grad(lambda x: (x * x).sum())(Tensor([1.0, 2.0])), [2, 4])
    gradient = ndl.grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    assert gradient.dtype == np.float64
    assert close(gradient, [2, 4])


def test_value_and_grad():
    value, gradient = ndl.value_and_grad(lambda x: (x * x).sum())(Tensor([1.0, 2.0]))
    assert close(value, 5)
    assert close(gradient, [2, 4])


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [
        (0, 12.0),
        (1, 8.0),
        (2, 6.0),
        (-1, 6.0),
        (-3, 12.0),
        ((0, 2), (12.0, 6.0)),
        ((2, 0), (6.0, 12.0)),
        ([1], (8.0,)),
        ((-1,), (6.0,)),
    ],
)
def test_argnums(argnums, expected):
    gradient = ndl.grad(lambda x, y, z: x * y * z, argnums)(2.0, 3.0, Tensor(4.0))
    if isinstance(expected, float):
        assert close(gradient, expected)
    else:
        assert isinstance(gradient, tuple)
        assert [g.item() for g in gradient] == list(expected)


@pytest.mark.parametrize("argnums", [2, -3, (0, 5)])
def test_argnums_out_of_range(argnums):
    with pytest.raises(ValueError, match=r"argnums=.*, but there are 2 arguments"):
        ndl.grad(lambda x, y: x * y, argnums)(1.0, 2.0)


def test_one_tensor_as_two_arguments_is_two_variables():
    x = Tensor([2.0])
    by_a, by_b = ndl.grad(lambda a, b: (a * b * b).sum(), (0, 1))(x, x)
    assert close(by_a, [4])
    assert close(by_b, [8])


class Point(NamedTuple):
    x: object
    y: object


def test_nested_containers_keep_their_structure():
    def loss(params, scale):
        w, (b, c) = params["w"], params["rest"]
        return scale * ((w * w).sum() + 3 * b + c.x * c.y)

    params = {"w": [1.0, 2.0], "rest": (5.0, Point(Tensor(7.0), np.float64(11)))}
    params["w"] = Tensor(params["w"])
    gradient = ndl.grad(loss)(params, 2.0)
    assert list(gradient) == ["w", "rest"]
    assert close(gradient["w"], [4, 8])
    b, c = gradient["rest"]
    assert isinstance(c, Point)
    assert close(b, 6)
    assert close(c.x, 22)
    assert close(c.y, 14)


def test_none_is_an_empty_container():
    gradient = ndl.grad(lambda p: p["w"] * 2 if p["b"] is None else p["w"])({"w": 1.0, "b": None})
    assert gradient["b"] is None
    assert close(gradient["w"], 2)


def test_an_argument_that_does_not_matter_has_the_gradient_zero():
    gradient = ndl.grad(lambda p: (p[0] * 2).sum())([Tensor([1.0]), Tensor([[1.0, 2.0]])])
    assert close(gradient[1], [[0, 0]])
    assert close(ndl.grad(lambda x: Tensor(3.0))(1.0), 0)


def test_has_aux():
    def f(x):
        return x * x, {"double": x * 2, "name": "aux"}

    (value, aux), gradient = ndl.value_and_grad(f, has_aux=True)(3.0)
    assert close(value, 9)
    assert close(gradient, 6)
    assert close(aux["double"], 6)
    assert aux["name"] == "aux"
    gradient, aux = ndl.grad(f, has_aux=True)(3.0)
    assert close(gradient, 6)
    assert close(aux["double"], 6)


def test_keyword_arguments_are_passed_on():
    assert close(ndl.grad(lambda x, *, k, power=2: k * x**power)(3.0, k=Tensor(10.0)), 60)


def test_higher_orders():
    x = 2.0
    order = lambda x: x**5 + x.exp()  # noqa: E731
    for expected in (5 * x**4, 20 * x**3, 60 * x**2):
        order = ndl.grad(order)
        assert close(order(f64(x)), expected + np.exp(x), rtol=1e-12)


def test_higher_orders_of_a_sum():
    gradient = ndl.grad(lambda x: (ndl.grad(lambda y: (y**3).sum())(x) ** 2).sum())
    # The inner one is 3 x², its square 9 x⁴.
    assert close(gradient(f64([1.0, 2.0])), [36, 36 * 8])


def test_nested_derivatives_by_different_variables():
    # d/dx (x · d/dy (x + y)) = 1: a derivative by y must not see x.
    assert close(ndl.grad(lambda x: x * ndl.grad(lambda y: x + y)(1.0))(2.0), 1)
    # d/dx (x · d/dy (x·y)) = d/dx x² = 2x.
    assert close(ndl.grad(lambda x: x * ndl.grad(lambda y: x * y)(3.0))(5.0), 10)


def test_a_mixed_second_derivative():
    hessian = ndl.grad(ndl.grad(lambda x, y: x**2 * y**3, 0), 1)
    assert close(hessian(f64(2.0), f64(3.0)), 2 * 2 * 3 * 9)


def test_values_may_steer_the_function():
    def f(x):
        while x < 100:
            x = x * x
        return x

    # 3 → 9 → 81 → 6561 = 3⁸.
    value, gradient = ndl.value_and_grad(f)(3.0)
    assert close(value, 6561)
    assert close(gradient, 8 * 3**7)


def test_grad_under_no_grad():
    with ndl.no_grad():
        assert close(ndl.grad(lambda x: x * x)(3.0), 6)


def test_grad_leaves_the_arguments_alone():
    x = Tensor([1.0, 2.0])
    assert close(ndl.grad(lambda x: (x * x).sum())(x), [2, 4])
    assert x.grad is None
    frozen = Tensor([1.0, 2.0], requires_grad=False)
    assert close(ndl.grad(lambda x: (x * x).sum())(frozen), [2, 4])
    assert not frozen.requires_grad


def test_grad_and_backward_work_on_each_others_results():
    w = Tensor([3.0])
    gradient = ndl.grad(lambda x: (x**3 * w).sum())(Tensor([2.0]))
    assert close(gradient, [36])
    gradient.backward()
    assert close(w.grad, [12])

    def penalty(x):
        y = (x * x * x).sum()
        return (ndl.grad(lambda x: (x * x * x).sum())(x) ** 2).sum() + y

    assert close(ndl.grad(penalty)(f64([2.0])), [36 * 8 + 12])


def test_the_name_and_docstring_stay():
    def energy(x):
        """The energy."""
        return x * x

    for wrapped in (ndl.grad(energy), ndl.value_and_grad(energy)):
        assert (wrapped.__name__, wrapped.__doc__) == ("energy", "The energy.")


@pytest.mark.parametrize(
    ("function", "argument", "kind", "message"),
    [
        (lambda x: x * 2, [1.0, 2.0], ShapeError, r"returned shape \(2,\); it must .* scalar"),
        (lambda x: x * 2, [1.0], ShapeError, r"returned shape \(1,\)"),
        (lambda x: 3.0, [1.0], DTypeError, "returned float; it must return a Tensor"),
        (lambda x: x.sum() > 0, [1.0], DTypeError, "bool can not be differentiated"),
        (lambda x: x.sum(), np.array([1, 2]), DTypeError, "argument 0 is of int64"),
        (lambda x: x.sum(), np.array([True]), DTypeError, "argument 0 is of bool"),
    ],
)
def test_what_can_not_be_differentiated(function, argument, kind, message):
    argument = Tensor(argument) if isinstance(argument, list) else argument
    with pytest.raises(kind, match=message):
        ndl.grad(function)(argument)


def test_gradient_of_the_variance():
    values = np.random.default_rng(0).normal(size=(3, 4))
    x = Tensor(values)
    (x.var(1) * np.arange(3.0)).sum().backward()
    expected = np.arange(3.0)[:, None] * 2 * (values - values.mean(1, keepdims=True)) / 4
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)

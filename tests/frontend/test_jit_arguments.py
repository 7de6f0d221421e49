"""What goes into a jitted function and comes out of it, and what is part of its program."""

import re
import sys

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, optim


@pytest.mark.parametrize(
    ("first", "second", "again"),
    [
        ((2,), (3,), (2,)),
        ((1,), (1.0,), (True,)),
        ((0.0,), (-0.0,), (0,)),
        (("a",), ("b",), (None,)),
        ((np.float32(1),), (np.float64(1),), (np.int64(1),)),
    ],
)
def test_static_values_are_part_of_the_program(first, second, again):
    fast = ndl.jit(lambda x, value: (x, value))
    x = Tensor([1.0])
    for arguments in (first, second, again):
        for _ in range(2):
            value = fast(x, *arguments)[1]
            assert (type(value), str(value)) == (type(arguments[0]), str(arguments[0]))
    assert len(fast.retraces) == len({(type(a), str(a)) for (a,) in (first, second, again)})
    assert re.match(r"value: \S+( of \w+)? before, \S+( of \w+)? now", fast.retraces[1])


def test_the_sign_of_a_static_zero_matters():
    fast = ndl.jit(lambda x, zero: x / (x * zero))
    assert fast(Tensor([1.0]), 0.0).item() == np.inf
    assert fast(Tensor([1.0]), -0.0).item() == -np.inf


def test_a_static_argument_must_be_hashable():
    with pytest.raises(TypeError, match="of type set is neither a tensor, an array nor hashable"):
        ndl.jit(lambda x, s: x)(Tensor([1.0]), {1, 2})


def test_it_keeps_the_programs_used_last(monkeypatch):
    monkeypatch.setattr(sys.modules["needle_ir.jit"], "JIT_CAPACITY", 2)
    fast = ndl.jit(lambda x, n: x * n)
    x = Tensor([1.0])
    for n in (1, 2, 1, 3, 1, 3):
        assert fast(x, n).item() == n
    assert len(fast.retraces) == 3
    assert fast(x, 2).item() == 2
    assert len(fast.retraces) == 4
    opt = optim.SGD([nn.Parameter([1.0])])
    opt.params[0].grad = Tensor([0.0])
    update = ndl.jit(opt.step)
    for decay in (0.1, 0.2, 0.3, 0.2, 0.1):
        opt.weight_decay = decay
        update()
    # 0.2 was kept when 0.3 came, 0.1 was not.
    assert len(update.retraces) == 4


def test_nested_structures_go_in_and_out():
    def f(params, pair, *, flag=False):
        (a, b), table = pair, {"sum": params["x"] + params["list"][0]}
        if flag:
            table["extra"] = a
        return [table, (a * b, None), "text", 3]

    fast = ndl.jit(f)
    params = {"x": Tensor([1.0]), "list": [np.array([2.0])]}
    for flag in (False, True):
        table, (product, nothing), text, three = fast(params, (Tensor([3.0]), 4.0), flag=flag)
        assert list(table) == (["sum", "extra"] if flag else ["sum"])
        assert table["sum"].item() == 3
        assert table["sum"].dtype == np.float64
        assert product.item() == 12
        assert (nothing, text, three) == (None, "text", 3)


def test_a_function_may_return_nothing():
    w = nn.Parameter([1.0])

    def f(x):
        w.data = w.data + x

    fast = ndl.jit(f)
    assert fast(Tensor([2.0])) is None
    assert fast(Tensor([3.0])) is None
    assert w.item() == 6


def test_the_name_and_docstring_stay():
    @ndl.jit
    def twice(x):
        """Twice x."""
        return x * 2

    assert (twice.__name__, twice.__doc__) == ("twice", "Twice x.")


def test_methods_can_be_jitted():
    class Scale:
        def __init__(self, factor):
            self.factor = Tensor([factor])

        @ndl.jit
        def apply(self, x):
            return x * self.factor

    a, b = Scale(2.0), Scale(3.0)
    assert [a.apply(Tensor([5.0])).item(), b.apply(Tensor([5.0])).item()] == [10, 15]
    assert a.apply(Tensor([6.0])).item() == 12
    assert len(Scale.apply.retraces) == 2


def test_jit_in_jit():
    inner = ndl.jit(lambda x: x.exp())
    outer = ndl.jit(lambda x: inner(x) * inner(x + 1))
    x = np.array([0.5, 1.0])
    np.testing.assert_allclose(outer(x).numpy(), np.exp(x) * np.exp(x + 1), rtol=1e-14)
    assert inner.retraces == []
    np.testing.assert_allclose(inner(x).numpy(), np.exp(x), rtol=1e-14)


def test_jit_and_grad_in_either_order():
    def f(x):
        return (x * x * x).sum()

    x = np.array([1.0, 2.0])
    for gradient in (ndl.jit(ndl.grad(f)), ndl.grad(ndl.jit(f))):
        for _ in range(2):
            np.testing.assert_array_equal(gradient(x).numpy(), [3, 12])
    second = ndl.jit(ndl.grad(lambda x: ndl.grad(ndl.jit(f))(x).sum()))
    np.testing.assert_array_equal(second(x).numpy(), [6, 12])
    value, gradient = ndl.jit(ndl.value_and_grad(f))(x)
    assert value.item() == 9


def test_a_gradient_flows_through_a_jitted_call_on_results():
    w = Tensor([3.0])
    square = ndl.jit(lambda x: x * x)
    square(w * 2).backward()
    np.testing.assert_array_equal(w.grad.numpy(), [24])

"""A step that is recorded again is recognized, and one that only looks like it is not."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, ops, optim
from needle_ir.ir import Node, TensorType, input_node
from needle_ir.plan_cache import PlanCache, plans
from needle_ir.realize import canonicalize

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    ndl.clear_cache()


@pytest.fixture
def recognized(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each look-up whether the step was recognized."""
    found: list[bool] = []
    find_again = PlanCache.find_again

    def counted(self: PlanCache, outputs: Any) -> Any:
        result = find_again(self, outputs)
        found.append(result is not None)
        return result

    monkeypatch.setattr(PlanCache, "find_again", counted)
    return found


def train(step: Callable[[int], Tensor], numbers: list[int]) -> list[float]:
    return [step(number).item() for number in numbers]


class Regression:
    """weight, bias and their optimizer."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
        self.bias = nn.Parameter(np.zeros((1, 3), np.float32))
        self.opt = optim.Adam([self.weight, self.bias], lr=0.1)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        self.opt.reset_grad()
        difference = x @ self.weight + self.bias - y
        loss = (difference * difference).mean()
        loss.backward()
        self.opt.step()
        return loss


def batch(rows: int, seed: int = 0) -> list[Tensor]:
    generator = np.random.default_rng(seed)
    shapes = [(rows, 4), (rows, 3)]
    return [Tensor(generator.random(s, np.float32), requires_grad=False) for s in shapes]


def test_from_the_third_step_on(recognized: list[bool]) -> None:
    model = Regression()
    for _ in range(5):
        model.step(*batch(8))
    assert recognized == [False, True, True, True, True]
    assert ndl.cache_info()[:2] == (4, 1)


def test_shapes_that_take_turns(recognized: list[bool]) -> None:
    model, reference = Regression(), Regression()
    rows = [8, 8, 5, 5, 8, 8]
    losses = [model.step(*batch(n)).item() for n in rows]
    assert recognized == [False, True, False, True, False, True]
    assert ndl.cache_info().misses == 2
    for number, n in enumerate(rows):
        ndl.clear_cache()
        assert reference.step(*batch(n)).item() == losses[number]


def numeric(x: Array, y: Array) -> tuple[Array, Array]:
    """The derivatives of sum(x * x * y) by x and y."""
    return 2 * x * y, x * x


def test_one_tensor_in_the_place_of_two() -> None:
    """Its derivative is the sum of both."""
    a = nn.Parameter(np.arange(3.0))
    b = nn.Parameter(np.ones(3))
    opt = optim.SGD([a, b], lr=0.0)

    def step(x: Tensor, y: Tensor) -> None:
        opt.reset_grad()
        (x * x * y).sum().backward()
        opt.step()

    for x, y in [(a, b), (a, b), (a, a), (b, a), (b, b), (a, b)]:
        step(x, y)
        by_x, by_y = numeric(x.numpy(), y.numpy())
        if x is y:
            np.testing.assert_allclose(x.grad.numpy(), by_x + by_y)
        else:
            np.testing.assert_allclose(x.grad.numpy(), by_x)
            np.testing.assert_allclose(y.grad.numpy(), by_y)


def test_a_constant_that_changes(recognized: list[bool]) -> None:
    w = nn.Parameter(np.ones(3))
    opt = optim.SGD([w], lr=0.0)
    for factor in (2.0, 2.0, 3.0, 2.0):
        opt.reset_grad()
        (w * factor).sum().backward()
        opt.step()
        np.testing.assert_array_equal(w.grad.numpy(), np.full(3, factor))
    assert recognized == [False, True, False, False]


def test_a_value_that_is_asked_for_half_way() -> None:
    w = nn.Parameter(np.ones(3, np.float32))
    opt = optim.SGD([w], lr=0.5)
    values = []
    for number in range(6):
        opt.reset_grad()
        hidden = w * w
        if number in (2, 4):
            values.append(hidden.sum().item())
        hidden.sum().backward()
        opt.step()
        np.testing.assert_array_equal(w.numpy(), np.zeros(3))
        w.data = np.ones(3, np.float32)
    assert values == [3.0, 3.0]


def test_an_operand_that_is_used_twice_instead_of_once() -> None:
    w = nn.Parameter(np.full(3, 2.0))
    opt = optim.SGD([w], lr=0.0)

    def step(twice: bool) -> Array:
        opt.reset_grad()
        first = w.exp()
        second = first if twice else w.exp()
        (first * second).sum().backward()
        opt.step()
        assert w.grad is not None
        result: Array = w.grad.numpy()
        return result

    for twice in (True, True, False, False, True):
        np.testing.assert_allclose(step(twice), 2 * np.exp(4.0) * np.ones(3), rtol=1e-6)


def leaves(count: int) -> list[Node]:
    type = TensorType((3,), np.dtype(np.float32))
    return [input_node(type, value=np.ones(3, np.float32)) for _ in range(count)]


def is_recognized(outputs: Sequence[Node], after: Sequence[Node]) -> bool:
    cache = PlanCache(4)
    cache.find(canonicalize(after), recognize=True)
    return cache.find_again(outputs) is not None


def test_what_stood_in_two_places_is_not_one_node() -> None:
    """Derivatives by both are no derivative by one, even where the numbers would be right."""
    a, b, c, d = leaves(4)
    assert is_recognized([c * d], after=[a * b])
    assert is_recognized([c * c], after=[a * a])
    assert not is_recognized([c * c], after=[a * b])
    assert not is_recognized([c * d], after=[a * a])


def test_operands_that_change_from_one_node_to_the_next() -> None:
    a, b, c, d, e = leaves(5)
    before = [ops.pack(a, b), ops.pack(c, d, e)]
    assert is_recognized([ops.pack(e, d), ops.pack(c, b, a)], after=before)
    assert not is_recognized([ops.pack(a, b, c), ops.pack(d, e)], after=before)


def test_what_was_computed_meanwhile_is_not_computed_again() -> None:
    a, b = leaves(2)
    inner = a + b
    before = [(b + a) * a]
    assert is_recognized([inner * b], after=before)
    inner.realize(np.ones(3, np.float32))
    assert not is_recognized([inner * b], after=before)


def test_a_program_that_was_dropped_is_not_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "capacity", 1)
    model = Regression()
    for rows in (8, 8, 5, 8, 8):
        model.step(*batch(rows))
    assert ndl.cache_info()[1:] == (3, 1, 1)


def test_the_least_recently_used_program_is_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "capacity", 2)
    model = Regression()
    for rows in (8, 5, 8, 6, 8, 8):
        model.step(*batch(rows))
    assert ndl.cache_info().misses == 3  # 5 had to go, not 8


# The optimizer's parameters, packed --------------------------------------------------------------


def test_parameters_are_views_of_one_array_and_what_is_held_stays() -> None:
    model = Regression()
    model.step(*batch(8))
    held, copy = model.weight.cached_data, model.weight.numpy()
    model.step(*batch(8))
    np.testing.assert_array_equal(held, copy)
    bases = {id(p.node.value.base) for p in (model.weight, model.bias)}
    assert len(bases) == 1


CHANGES: dict[str, Callable[[Regression], None]] = {
    "assigned": lambda m: setattr(m.weight, "data", m.weight.data * 0.5),
    "assigned and not computed": lambda m: setattr(m.bias, "data", m.weight.data.sum(0, True)),
    "frozen": lambda m: setattr(m.weight, "requires_grad", False),
    "renamed": lambda m: m.weight.rename("other"),
    "moved by another optimizer": lambda m: other_step(m),
}


def other_step(model: Regression) -> None:
    opt = optim.SGD([model.bias, model.weight], lr=0.1)
    opt.reset_grad()
    ((model.weight + model.bias) ** 2.0).sum().backward()
    opt.step()


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_parameters_that_change_between_steps(change: Callable[[Regression], None]) -> None:
    plain, jitted = Regression(), Regression()
    step = ndl.jit(jitted.step)
    for number in range(6):
        a, b = plain.step(*batch(8, number)), step(*batch(8, number))
        assert a.item() == pytest.approx(b.item(), rel=1e-5)
        if number in (1, 3):
            change(plain)
            change(jitted)
    for p, q in ((plain.weight, jitted.weight), (plain.bias, jitted.bias)):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-4, atol=1e-6)


def test_a_step_that_fails_leaves_the_parameters_as_they_were() -> None:
    model = Regression()
    for _ in range(2):
        model.step(*batch(8))
    before = [model.weight.numpy(), model.bias.numpy()]
    index = Tensor(np.array([4]), requires_grad=False) + 5
    model.opt.reset_grad()
    (model.weight.exp()[index] + model.bias).sum().backward()
    with pytest.raises(IndexError):
        model.opt.step()
    np.testing.assert_array_equal(model.weight.numpy(), before[0])
    np.testing.assert_array_equal(model.bias.numpy(), before[1])

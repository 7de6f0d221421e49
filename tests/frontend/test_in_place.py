"""State that a training step updates where it lies, when nobody else holds it."""

import copy
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, optim
from needle_ir.compiler import running_with
from needle_ir.ir import Array, Plan
from needle_ir.runtime import Executor, executor, recycle
from tests.frontend.test_held_arrays import Training, wraps

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "Adam": optim.Adam,
    "Adam with decay": lambda params, lr: optim.Adam(params, lr, weight_decay=0.1),
    "SGD": optim.SGD,
    "SGD with momentum": lambda params, lr: optim.SGD(params, lr, momentum=0.9, weight_decay=0.1),
}


@pytest.fixture(autouse=True)
def own_stream() -> Any:
    yield
    ndl.manual_seed(None)


@pytest.fixture
def small_arrays_are_recycled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "RECYCLED_BYTES", 1)


def places(tensors: Sequence[Tensor | None]) -> list[int]:
    return [tensor.cached_data.ctypes.data for tensor in tensors if tensor is not None]


@pytest.mark.parametrize("of_images", [True, False])
def test_a_loop_settles_on_one_set_of_arrays_and_nodes(of_images: bool) -> None:
    training = Training(ndl.jit, of_images=of_images)
    params = training.params
    training()
    before = places([*params, *[p.grad for p in params]])
    nodes = [id(p.node) for p in params]
    grads = [id(p.grad) for p in params]
    for _ in range(5):
        training()
        assert places([*params, *[p.grad for p in params]]) == before
        assert [id(p.node) for p in params] == nodes
        assert [id(p.grad) for p in params] == grads


@pytest.mark.parametrize("of_images", [True, False])
def test_so_does_a_loop_without_jit(of_images: bool) -> None:
    training = Training(lambda step: step, of_images=of_images)
    tensors = [*training.params, *training.opt._groups[0]._moments.values()]
    training()
    training()
    before, nodes = places(tensors), [id(p.node) for p in training.params]
    for _ in range(5):
        training()
        assert places(tensors) == before
        assert [id(p.node) for p in training.params] == nodes


@wraps
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
@pytest.mark.parametrize("of_images", [True, False])
def test_the_bits_are_those_of_new_arrays(
    wrap: Any, optimizer: Any, of_images: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train() -> tuple[list[bytes], bool]:
        training = Training(wrap, optimizer, of_images=of_images)
        for _ in range(12):
            before = places(training.params)
            training()
        in_place = places(training.params) == before
        return [x.numpy().tobytes() for x in training.everything() if x is not None], in_place

    values, in_place = train()
    assert in_place
    monkeypatch.setattr(recycle, "_COUNTS_ARE_EXACT", False)
    assert train() == (values, False)


def test_parameters_of_two_dtypes_and_some_without_a_gradient() -> None:
    """Small ones are not computed in place, and large ones beside them are."""

    def train(in_place: bool) -> list[Array]:
        generator = np.random.default_rng(0)
        shapes = {(150, 150): np.float32, (3, 150): np.float64, (4, 150): np.float64}
        w, v, unused = [nn.Parameter(generator.random(x).astype(y)) for x, y in shapes.items()]
        opt = optim.Adam([w, v, unused], lr=0.1)
        before = []
        for number in range(8):
            opt.reset_grad()
            terms = [v, v * v, unused][: 2 + (number == 6)]
            loss = sum([(x @ w.astype(np.float64)).sum() for x in terms], (w * w).sum())
            loss.backward()
            held = None if in_place else (w.cached_data, opt.u)
            opt.step()
            before.append(places([w]))
            del held
        assert (before[1:6] == before[1:2] * 5) == in_place
        return [x.numpy() for x in (w, v, unused, *opt.u, *opt.v)]

    for x, y in zip(train(True), train(False), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_step_that_replaces_less_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same program, and nobody knows who else waits for the gradients."""
    w = nn.Parameter(np.ones((200, 200), np.float32))
    opt = optim.SGD([w], lr=0.25)
    found = []
    for number in range(8):
        if number == 4:
            monkeypatch.setattr(optim, "requests_for", lambda tensors: None)
        if number == 6:
            monkeypatch.undo()
        opt.reset_grad()
        (w * w).sum().backward()
        opt.step()
        found.append(places([w]))
        np.testing.assert_array_equal(w.numpy(), np.full((200, 200), 0.5 ** (number + 1)))
    assert found[2] == found[3] != found[4]
    assert found[6] == found[7]


def test_a_copy_of_an_optimizer_trains_on_its_own() -> None:
    training = Training(lambda step: step)
    for _ in range(4):
        training()
    for copied in (copy.deepcopy(training), pickle.loads(pickle.dumps(training.opt))):
        opt = copied if isinstance(copied, optim.Adam) else copied.opt
        before = [p.numpy() for p in training.params]
        for _ in range(3):
            opt.reset_grad()
            sum([(p * p).sum() for p in opt.params], Tensor(0.0)).backward()
            opt.step()
        for p, expected in zip(training.params, before, strict=True):
            np.testing.assert_array_equal(p.numpy(), expected)
        assert opt.t == 7


@wraps
def test_what_somebody_holds_for_one_step_costs_one_new_array(wrap: Any) -> None:
    training = Training(wrap, of_images=False)
    for _ in range(2):
        training()
    weight = training.params[0]
    (before,) = places([weight])
    held, copy = weight.cached_data, weight.numpy()
    training()
    (after,) = places([weight])
    assert after != before
    np.testing.assert_array_equal(held, copy)
    for _ in range(3):
        training()
        assert places([weight]) == [after]


def test_a_function_that_reads_what_it_replaced(small_arrays_are_recycled: None) -> None:
    a, b = Tensor(np.arange(6.0)), Tensor(np.ones(6))

    @ndl.jit
    def step() -> Tensor:
        old = a.data
        a.data = a.data * 0.5 + b.data
        b.data = ndl.ops.exp(-(old @ old)) + b.data
        return old

    x, y = np.arange(6.0), np.ones(6)
    for _ in range(5):
        old = step()
        np.testing.assert_allclose(old.numpy(), x, rtol=1e-6)
        x, y = x * 0.5 + y, np.exp(-(x @ x)) + y
        np.testing.assert_allclose(a.numpy(), x, rtol=1e-6)
        np.testing.assert_allclose(b.numpy(), y, rtol=1e-6)


def test_tensors_that_change_places(small_arrays_are_recycled: None) -> None:
    a, b = Tensor(np.arange(6.0)), Tensor(np.ones(6))

    @ndl.jit
    def step() -> None:
        a.data, b.data = b.data + 0.0, a.data * 2.0

    x, y = np.arange(6.0), np.ones(6)
    for _ in range(5):
        step()
        x, y = y, x * 2
        np.testing.assert_array_equal(a.numpy(), x)
        np.testing.assert_array_equal(b.numpy(), y)


def test_a_parameter_that_is_an_argument_too(small_arrays_are_recycled: None) -> None:
    a = Tensor(np.arange(6.0), requires_grad=False)

    @ndl.jit
    def step(given: Tensor) -> Tensor:
        a.data = a.data * 0.5
        return ndl.ops.exp(given).sum() + given

    x = np.arange(6.0)
    for _ in range(5):
        result = step(a)
        np.testing.assert_allclose(result.numpy(), np.exp(x).sum() + x, rtol=1e-6)
        x = x * 0.5


def test_two_tensors_that_get_one_value(small_arrays_are_recycled: None) -> None:
    a, b = Tensor(np.arange(6.0)), Tensor(np.ones(6))

    @ndl.jit
    def step() -> None:
        a.data = b.data = a.data + 2.0 * b.data

    x, y = np.arange(6.0), np.ones(6)
    for _ in range(5):
        step()
        x = y = x + 2.0 * y
        np.testing.assert_array_equal(a.numpy(), x)
        np.testing.assert_array_equal(b.numpy(), y)


def test_gradients_that_add_up(small_arrays_are_recycled: None) -> None:
    w = nn.Parameter(np.arange(6.0))

    @ndl.jit
    def step() -> None:
        (w * w).sum().backward()

    @ndl.jit
    def collect() -> None:
        before = w.grad
        (w * w).sum().backward()
        assert before is not None
        assert w.grad is not None
        w.grad = w.grad + before

    step()
    for number in range(2, 6):
        collect()
        assert w.grad is not None
        np.testing.assert_array_equal(w.grad.numpy(), number * 2 * np.arange(6.0))


class Stopped(BaseException):
    """What Ctrl-C raises, in a class of its own."""


@wraps
def test_after_an_error_everything_has_a_value_and_training_goes_on(wrap: Any) -> None:
    training = Training(wrap, of_images=False)
    for _ in range(3):
        training()

    def stop(plan: Plan, arrays: Sequence[Array]) -> tuple[Array, ...]:
        raise Stopped

    before = [x.numpy() for x in training.everything()]
    with running_with(stop), pytest.raises(Stopped):
        training()
    # Without jit the gradients and moments are recorded still, and computed when asked for.
    states = training.everything() if wrap is ndl.jit else training.params
    for x, expected in zip(states, before, strict=False):
        np.testing.assert_array_equal(x.numpy(), expected)
    assert np.isfinite(training()[0].item())


@wraps
def test_a_step_that_fails_before_the_update_leaves_the_parameters(wrap: Any) -> None:
    table = nn.Parameter(np.ones((200, 200), np.float32))
    opt = optim.Adam([table], lr=0.1)

    @wrap
    def step(index: Tensor) -> Tensor:
        opt.reset_grad()
        loss = (table * 2.0)[index].sum()
        loss.backward()
        opt.step()
        return loss

    good, bad = (Tensor(np.array([i]), requires_grad=False) for i in (3, 999))
    for _ in range(3):
        step(good)
    before = table.numpy()
    with pytest.raises(IndexError):
        step(bad)
    np.testing.assert_array_equal(table.numpy(), before)
    if wrap is ndl.jit:
        assert opt.t == 3
        assert table.grad is not None
    step(good)
    assert not np.array_equal(table.numpy(), before)


def slowly(reached: threading.Event, go_on: threading.Event) -> Any:
    """Runs a plan, but waits first, while the leaves that it updates have no values."""

    def run(plan: Plan, arrays: Sequence[Array]) -> tuple[Array, ...]:
        reached.set()
        assert go_on.wait(30)
        return Executor(plan)(arrays)

    return run


READS: dict[str, Callable[[Training], Array]] = {
    "numpy()": lambda t: t.params[0].numpy(),
    "recorded": lambda t: (t.params[0] * 1.0).numpy(),
    "detach()": lambda t: t.params[0].detach().numpy(),
    "assigned": lambda t: assigned(t.params[0]),
    "a copy": lambda t: Tensor(t.params[0]).numpy(),
    "traced": lambda t: ndl.compile(lambda: t.params[0] * 1.0)().numpy(),
    "jitted": lambda t: ndl.jit(lambda: t.params[0] * 1.0)().numpy(),
    "an argument": lambda t: ndl.jit(lambda w: w * 1.0)(t.params[0].data).numpy(),
    "state_dict()": lambda t: t.model.state_dict()["0.weight"],
}


def assigned(source: Tensor) -> Array:
    tensor = Tensor(np.zeros(source.shape, np.float32))
    tensor.data = source.data
    return tensor.numpy()


@wraps
@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
def test_a_thread_that_reads_during_an_update_waits_for_it(wrap: Any, read: Any) -> None:
    training = Training(wrap, of_images=False)
    for _ in range(3):
        training()
    before = training.params[0].numpy()
    reached, go_on = threading.Event(), threading.Event()
    found: list[Array] = []

    def train() -> None:
        with running_with(slowly(reached, go_on)):
            training()

    threads = [threading.Thread(target=train)]
    threads[0].start()
    assert reached.wait(30)
    threads.append(threading.Thread(target=lambda: found.append(read(training))))
    threads[1].start()
    threads[1].join(0.2)
    assert found == []
    go_on.set()
    for thread in threads:
        thread.join(30)
    after = training.params[0].numpy()
    assert not np.array_equal(after, before)
    # Without jit, results that are not computed in their place are handed out a moment later.
    assert any(
        np.array_equal(found[0], x) for x in ([after] if wrap is ndl.jit else [before, after])
    )


@wraps
def test_the_updating_thread_itself_does_not_wait_for_ever(wrap: Any) -> None:
    """A signal handler or a destructor may read a parameter in the middle of an update."""
    training = Training(wrap, of_images=False)
    for _ in range(3):
        training()

    def read(plan: Plan, arrays: Sequence[Array]) -> tuple[Array, ...]:
        training.params[0].numpy()
        return Executor(plan)(arrays)

    with running_with(read), pytest.raises(RuntimeError, match="is being updated"):
        training()
    assert np.isfinite(training()[0].item())

"""What somebody holds never changes under him, while memory and nodes are used again and again."""

import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, leaves, nn, optim
from needle_ir.runtime import recycle

# Wide enough for the memory of parameters to be recycled, which small arrays are not.
WIDTH = 120


class Training:
    """A model, its optimizer, and the step that trains it; `wrap` is `jit` or nothing.

    With `of_images` the step gives the images, another tensor each time, a gradient as well.
    """

    def __init__(
        self,
        wrap: Callable[..., Any],
        optimizer: Any = optim.Adam,
        seed: int = 0,
        of_images: bool = True,
    ):
        self.of_images = of_images
        ndl.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Linear(8, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3),
        )  # fmt: skip
        self.params = self.model.parameters()
        self.opt = optimizer(self.params, lr=0.01)
        self.run = wrap(self.step)
        generator = np.random.default_rng(seed)
        self.x = generator.random((16, 8), np.float32)
        self.y = generator.integers(0, 3, 16)

    def step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.opt.reset_grad()
        logits = self.model(x)
        loss = nn.SoftmaxLoss()(logits, y)
        loss.backward()
        self.opt.step()
        return loss, logits

    def __call__(self) -> tuple[Tensor, ...]:
        self.images = Tensor(self.x, requires_grad=self.of_images)
        results: tuple[Tensor, ...] = self.run(self.images, Tensor(self.y))
        return results

    def everything(self) -> list[Tensor]:
        """All tensors that a step assigns to, and their gradients."""
        norm = self.model.modules[1]
        grads = [p.grad for p in self.params if p.grad is not None]
        moments = [*self.opt.u, *getattr(self.opt, "v", [])]
        grads += [self.images.grad] if self.of_images else []
        return [*self.params, *grads, *moments, norm.running_mean, norm.running_var]


@pytest.fixture(autouse=True)
def own_stream() -> Any:
    yield
    ndl.manual_seed(None)


WRAPS = {"jit": ndl.jit, "plan cache": lambda step: step}
wraps = pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))

# Ways to hold the values of a tensor: each gives a function that gives them later.
HOLDS: dict[str, Callable[[Tensor], Callable[[], Any]]] = {
    "the array": lambda t: (lambda a: lambda: a)(t.cached_data),
    "a view of a view": lambda t: (lambda a: lambda: a)(t.cached_data.reshape(-1)[1:].view()),
    "a memoryview": lambda t: (lambda a: lambda: np.asarray(a))(memoryview(t.cached_data)),
    "numpy()": lambda t: (lambda a: lambda: a)(t.numpy()),
    "np.asarray": lambda t: (lambda a: lambda: a)(np.asarray(t)),
    "the tensor's node": lambda t: (lambda n: lambda: n.value)(t.node),
    "detach()": lambda t: (lambda d: d.numpy)(t.detach()),
    "something recorded": lambda t: (lambda y: y.numpy)(t.detach() * 2 + 1),
    "something computed": lambda t: (lambda y: y.numpy)((t.detach() * 1).realize()),
}


@wraps
@pytest.mark.parametrize("hold", HOLDS.values(), ids=list(HOLDS))
@pytest.mark.parametrize("optimizer", [optim.Adam, optim.SGD])
@pytest.mark.parametrize("of_images", [True, False])
def test_what_is_held_stays(wrap: Any, hold: Any, optimizer: Any, of_images: bool) -> None:
    training = Training(wrap, optimizer, of_images=of_images)
    kept: list[tuple[Callable[[], Any], Any]] = []
    for number in range(9):
        results = training()
        if number % 2:
            for tensor in (*training.everything(), *results):
                look = hold(tensor)
                # What is recorded only is computed at the end: its value now is worked out twice.
                expected = hold(Tensor(tensor.numpy()))()
                kept.append((look, np.array(expected)))
    assert len(kept) > 100
    for look, expected in kept:
        np.testing.assert_array_equal(look(), expected)


@wraps
@pytest.mark.parametrize("of_images", [True, False])
def test_gradients_that_are_held_stay(wrap: Any, of_images: bool) -> None:
    training = Training(wrap, of_images=of_images)
    held = []
    for _ in range(6):
        training()
        grads = [p.grad for p in training.params]
        held.append((grads, [g.numpy() for g in grads if g is not None]))
    for grads, expected in held:
        for grad, array in zip(grads, expected, strict=True):
            np.testing.assert_array_equal(grad.numpy(), array)


def test_without_exact_counts_nothing_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Python without the global interpreter lock."""
    for module in (leaves, recycle):
        monkeypatch.setattr(module, "_COUNTS_ARE_EXACT", False)
    training = Training(ndl.jit)
    nodes, kept = [], []
    for _ in range(5):
        training()
        nodes.append(training.params[0].node)
        kept.append((training.params[0].cached_data, training.params[0].numpy()))
    assert len(set(map(id, nodes))) == 5
    assert all(node.value is not None for node in nodes)
    assert len({array.ctypes.data for array, _ in kept}) == 5


def test_values_die_with_their_last_holder() -> None:
    training = Training(ndl.jit)
    for _ in range(4):
        training()
    held = training.params[0].node
    assert held.value is not None
    for _ in range(4):
        training()
    assert held.value is not training.params[0].node.value
    gone = weakref.ref(held)
    del held
    for _ in range(4):
        training()
    gc.collect()
    assert gone() is None


def test_history_recorded_before_a_step_sees_the_values_from_before() -> None:
    training = Training(ndl.jit)
    for _ in range(3):
        training()
    weight = training.params[0]
    before = weight.numpy()
    loss = (weight * weight).sum()
    training()
    assert loss.item() == pytest.approx(float((before.astype("f8") ** 2).sum()), rel=1e-5)
    assert not np.array_equal(weight.numpy(), before)


CHANGES: dict[str, Callable[[Tensor], None]] = {
    "renamed": lambda p: p.rename("other"),
    "name": lambda p: setattr(p, "name", "another"),
    "data": lambda p: setattr(p, "data", p.data * 0.5),
    "frozen and freed": lambda p: (
        setattr(p, "requires_grad", False),
        setattr(p, "requires_grad", True),
    )[0],
    "grad": lambda p: setattr(p, "grad", None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_changes_in_between(change: Callable[[Tensor], None]) -> None:
    trainings = [Training(wrap) for wrap in WRAPS.values()]
    losses = []
    for training in trainings:
        ndl.manual_seed(1)
        values = []
        for number in range(7):
            values.append(training()[0].item())
            if number in (1, 2, 4):
                change(training.params[0])
        losses.append(values)
        # The parameters are leaves like any other: a derivative finds its way to them.
        training.params[0].grad = None
        (training.params[0] * 3.0).sum().backward()
        grad = training.params[0].grad
        assert grad is not None
        np.testing.assert_array_equal(grad.numpy(), np.full_like(grad.numpy(), 3))
    assert losses[0] == losses[1]
    names = [training.params[0].name for training in trainings]
    assert names[0] == names[1]
    assert f"{names[0]}:" in str(ndl.trace(lambda: trainings[0].params[0] * 2))


def in_threads(*functions: Callable[[], None]) -> list[str]:
    """What goes wrong where these run at one time."""
    failures: list[str] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def check_again(kept: list[tuple[Any, Any]], tensors: list[Tensor]) -> None:
    """Hold on to the present arrays beside those from before, none of which may have changed."""
    for array, copy in kept:
        np.testing.assert_array_equal(array, copy)
    for tensor in tensors:
        array = tensor.cached_data
        kept.append((array, array.copy()))
    del kept[:-60]


@wraps
def test_threads_that_train_and_hold(wrap: Any) -> None:
    trainings = [Training(wrap, seed=seed) for seed in (1, 2)]

    def train(training: Training) -> None:
        kept: list[tuple[Any, Any]] = []
        for _ in range(30):
            assert np.isfinite(training()[0].item())
            check_again(kept, training.everything())

    assert in_threads(*[partial(train, training) for training in trainings]) == []


# Where nothing is jitted, the threads' own calls of `reset_grad` and `backward` get in each other's
# way, as they would in any library.
@pytest.mark.parametrize(("wrap", "trainers"), [(ndl.jit, 2), (lambda step: step, 1)])
def test_threads_that_train_one_model_and_threads_that_look(wrap: Any, trainers: int) -> None:
    training = Training(wrap, seed=1)
    training()
    running = trainers

    def train() -> None:
        nonlocal running
        try:
            for _ in range(60):
                assert np.isfinite(training()[0].item())
        finally:
            running -= 1

    def look() -> None:
        kept: list[tuple[Any, Any]] = []
        while running:
            check_again(kept, training.params)

    assert in_threads(*[train] * trainers, look, look) == []
    assert training.opt.t > 60


def test_a_thread_beside_others_trains_as_it_does_alone() -> None:
    """Each thread has its own model; without draws, which all threads share, the bits are equal."""

    def train(seed: int) -> list[bytes]:
        training = Training(ndl.jit, seed=seed)
        training.model.modules[3].p = 0.0
        for _ in range(15):
            training()
        return [p.numpy().tobytes() for p in training.params]

    alone = [train(seed) for seed in range(3)]
    beside: dict[int, list[bytes]] = {}
    starts = [Training(ndl.jit, seed=seed) for seed in range(3)]  # draws the initial parameters

    def run(seed: int) -> None:
        training = starts[seed]
        training.model.modules[3].p = 0.0
        for _ in range(15):
            training()
        beside[seed] = [p.numpy().tobytes() for p in training.params]

    assert in_threads(*[partial(run, seed) for seed in range(3)]) == []
    assert [beside[seed] for seed in range(3)] == alone

"""When things are computed, how often, and what is kept: laziness, the plan cache, memory."""

import gc
import threading
import weakref

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, optim, recording
from needle_ir.plan_cache import plans


def test_nothing_runs_until_a_value_is_asked_for(kernel_calls):
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    y = (x @ x + 1).max(0).sum()
    y.backward()
    assert y.shape == ()
    assert y.dtype == np.float32
    assert not kernel_calls
    assert y.item() == 16 + 23
    assert kernel_calls == {"matmul": 1, "max": 1, "sum": 1}


@pytest.mark.parametrize(
    "read",
    [
        Tensor.numpy,
        Tensor.item,
        Tensor.realize,
        float,
        bool,
        int,
        repr,
        str,
        np.asarray,
        lambda x: x.cached_data,
        lambda x: Tensor(x),
    ],
)
def test_reading_forces_once(kernel_calls, read):
    y = Tensor([3.0, 1.0]).max()
    assert not kernel_calls
    read(y)
    assert kernel_calls == {"max": 1}
    read(y)
    assert kernel_calls == {"max": 1}


def test_a_comparison_in_an_if_forces(kernel_calls):
    loss = Tensor([1.5, 2.0]).sum()
    taken = "small" if loss < 4 else "large"
    assert taken == "small"
    assert kernel_calls == {"sum": 1}
    assert loss.item() == 3.5
    assert kernel_calls == {"sum": 1}


def test_forcing_computes_held_ancestors_once(kernel_calls):
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    h = x @ x
    a, b = h.max(0), h.min(0)
    aside = ndl.logsumexp(x)
    total = (a + b).sum()
    assert total.item() == 15 + 22 + 7 + 10
    assert kernel_calls == {"matmul": 1, "max": 1, "min": 1, "sum": 1}
    np.testing.assert_array_equal(h.numpy(), [[7, 10], [15, 22]])
    np.testing.assert_array_equal(a.numpy(), [15, 22])
    np.testing.assert_array_equal(b.numpy(), [7, 10])
    assert kernel_calls == {"matmul": 1, "max": 1, "min": 1, "sum": 1}
    aside.numpy()
    assert kernel_calls["logsumexp"] == 1


def test_what_nobody_holds_and_nobody_needs_never_runs(kernel_calls):
    x = Tensor([1.0, 2.0])
    x.max()
    optim.SGD([nn.Parameter([1.0])]).step()
    x.sum().numpy()
    assert kernel_calls == {"sum": 1}


def test_a_step_computes_what_is_held_with_the_forward_pass_once(kernel_calls):
    w = nn.Parameter([[1.0, 2.0]])
    opt = optim.SGD([w], lr=0.5)
    aside = Tensor([4.0, 5.0]).max()
    loss = (w.T @ w).sum()
    loss.backward()
    opt.step()
    # One product forward; backward two, for w.T and for w.
    expected = {"matmul": 3, "max": 1, "sum": 1}
    assert kernel_calls == expected
    assert aside.item() == 5
    # (w₁ + w₂)²
    assert loss.item() == 9
    np.testing.assert_array_equal(w.grad.numpy(), [[6, 6]])
    np.testing.assert_array_equal(w.numpy(), [[-2, -1]])
    assert kernel_calls == expected


def test_sync_computes_what_is_held(kernel_calls):
    a, b = Tensor([1.0, 2.0]).max(), Tensor([4.0, 5.0]).min()
    ndl.sync()
    assert kernel_calls == {"max": 1, "min": 1}
    assert (a.item(), b.item()) == (2, 4)
    assert kernel_calls == {"max": 1, "min": 1}


def test_each_thread_records_for_itself():
    results = {}

    def work(number):
        x = Tensor(np.full(3, number, np.float64))
        for _ in range(50):
            x = x * 2 - number
        results[number] = x.numpy()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # x_0 = n and x -> 2 x - n leaves n where it is.
    for number in range(8):
        np.testing.assert_array_equal(results[number], np.full(3, number))


def test_floating_point_errors_give_inf_and_nan_without_a_warning():
    x = Tensor([0.0, -1.0])
    np.testing.assert_array_equal(x.log().numpy(), [-np.inf, np.nan])
    np.testing.assert_array_equal((1 / x).numpy(), [np.inf, -1])


def example(data, scale=2.0, dtype=np.float32):
    return (Tensor(np.asarray(data, dtype)) * scale + 1).sum().item()


def test_the_same_structure_is_compiled_once(lookups):
    assert example([1, 2]) == 8
    assert lookups() == (0, 1)
    assert example([1, 2]) == 8
    assert lookups() == (1, 0)
    assert example([10, 20]) == 62
    assert lookups() == (1, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"data": [1, 2, 3]},
        {"data": [[1, 2]]},
        {"data": [1, 2], "scale": 3.0},
        {"data": [1, 2], "scale": -2.0},
        {"data": [1, 2], "dtype": np.float64},
    ],
)
def test_another_shape_dtype_or_constant_is_another_program(lookups, other):
    example([1, 2])
    lookups()
    data, scale = np.asarray(other["data"]), other.get("scale", 2.0)
    assert example(**other) == (data * scale + 1).sum()
    assert lookups() == (0, 1)


def test_constants_are_told_apart_by_their_bits(lookups):
    one = np.float32(1)
    assert (one / (Tensor([1.0]) * 0.0)).item() == np.inf
    assert (one / (Tensor([1.0]) * -0.0)).item() == -np.inf
    assert lookups() == (0, 2)


def test_arrays_and_lists_beside_tensors_are_data(lookups):
    for values in ([1.0, 2.0], [3.0, 4.0]):
        for beside in (np.array(values), values):
            total = (Tensor([1.0, 1.0]) + beside).sum().item()
            assert total == 2 + sum(values)
        lookups()
    (Tensor([1.0, 1.0]) + np.array([5.0, 6.0])).sum().item()
    assert lookups() == (1, 0)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_another_learning_rate_is_the_same_program(lookups, make):
    w = nn.Parameter([1.0, 2.0])
    opt = make([w], lr=0.1)
    counts = []
    for step in range(5):
        opt.lr = 0.1 / (step + 1)
        opt.reset_grad()
        (w * w).sum().backward()
        opt.step()
        counts.append(lookups())
    assert counts == [(0, 1), (1, 0), (1, 0), (1, 0), (1, 0)]


def test_the_cache_forgets_what_was_not_used_for_longest(lookups, monkeypatch):
    monkeypatch.setattr(plans, "capacity", 3)
    for size in (1, 2, 3):
        example(np.zeros(size))
    lookups()
    example(np.zeros(1))
    assert lookups() == (1, 0)
    example(np.zeros(4))  # drops 2
    assert ndl.cache_info().currsize == 3
    for size, expected in ((1, (1, 0)), (3, (1, 0)), (4, (1, 0)), (2, (0, 1))):
        lookups()
        example(np.zeros(size))
        assert lookups() == expected
    assert ndl.cache_info().currsize == 3


def test_clearing_the_cache_starts_again(lookups):
    example([1, 2])
    ndl.clear_cache()
    assert ndl.cache_info() == (0, 0, ndl.cache_info().maxsize, 0)
    assert ndl.cache_info().maxsize > 0
    example([1, 2])
    assert (ndl.cache_info().misses, ndl.cache_info().currsize) == (1, 1)


def test_a_cached_program_holds_no_data_alive(lookups):
    def run():
        x = Tensor(np.ones((8, 8)))
        beside = np.ones((8, 8))
        y = x + beside
        y.sum().backward()
        x.grad.numpy()
        y.numpy()
        return weakref.ref(x.cached_data.base), weakref.ref(y.cached_data.base)

    leaf, result = run()
    gc.collect()
    assert ndl.cache_info().currsize == 1
    assert leaf() is None
    assert result() is None


def test_a_step_lets_go_of_the_batch(lookups):
    w = nn.Parameter(np.ones((8, 1), np.float32))
    opt = optim.Adam([w])

    def step():
        x = Tensor(np.ones((4, 8), np.float32), requires_grad=False)
        loss = (x @ w).sum()
        loss.backward()
        opt.step()
        return weakref.ref(x.cached_data.base)

    references = [step() for _ in range(3)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_a_held_loss_lets_go_of_its_history_at_the_step():
    w = nn.Parameter(np.ones((8, 1), np.float32))
    opt = optim.SGD([w])
    losses, references = [], []
    for printed in (False, True):
        x = Tensor(np.ones((4, 8), np.float32), requires_grad=False)
        opt.reset_grad()
        loss = (x @ w).sum()
        if printed:
            loss.item()
        loss.backward()
        opt.step()
        losses.append(loss)
        references.append(weakref.ref(x.cached_data.base))
    del x
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.fixture
def limit(monkeypatch):
    """The limit of pending nodes, made small: a program of it compiles fast. Counting starts."""
    monkeypatch.setattr(recording, "MAX_PENDING_NODES", 1000)
    ndl.sync()
    return 1000


@pytest.mark.parametrize(("length", "requires_grad"), [(100_000, True), (20_000, False)])
def test_a_long_chain_behind_one_read(kernel_calls, limit, length, requires_grad):
    x = Tensor([1.0, 0.0], requires_grad=requires_grad)
    shear = Tensor([[1.0, 1.0], [0.0, 1.0]], requires_grad=False)
    for _ in range(length):
        x = x @ shear
    # The limit has run most of it by now.
    assert length - limit - 1 <= kernel_calls["matmul"] < length
    np.testing.assert_array_equal(x.numpy(), [1, length])
    assert kernel_calls["matmul"] == length
    # What requires a gradient has kept its history: 100,000 nodes go at once, without recursion.
    last = weakref.ref(x.node)
    del x
    gc.collect()
    assert last() is None


def test_a_long_graph_that_is_dropped_unread(kernel_calls, limit):
    x = Tensor([1.0, 0.0])
    shear = Tensor([[1.0, 1.0], [0.0, 1.0]])
    for _ in range(limit - 1):
        x = x @ shear
    del x
    ndl.sync()
    assert not kernel_calls


def test_the_limit_leaves_gradients_as_they_are(limit):
    w = nn.Parameter([2.0])
    y = w
    for _ in range(3 * limit + 100):
        y = y + w
    y.backward()
    np.testing.assert_array_equal(w.grad.numpy(), [3 * limit + 101])


@pytest.mark.parametrize("read", [print, Tensor.numpy, lambda h: bool(h.sum() > 0)])
def test_a_value_read_half_way_does_not_change_the_gradients(read):
    x = Tensor([0.5, -1.0])
    w = nn.Parameter([2.0, 3.0])
    h = (x * w).tanh()
    read(h)
    loss = (h * h * w).sum()
    loss.item()
    loss.backward()
    xs, ws = np.array([0.5, -1.0]), np.array([2.0, 3.0])
    t = np.tanh(xs * ws)
    slope = 2 * t * (1 - t * t) * ws
    np.testing.assert_allclose(loss.item(), (t * t * ws).sum(), rtol=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), slope * xs + t * t, rtol=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), slope * ws, rtol=1e-5)


def test_reading_the_loss_first_trains_the_same():
    def train(read):
        np.random.seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        opt = optim.Adam(model.parameters(), lr=0.05)
        for _ in range(5):
            x = ndl.init.randn(6, 3)
            opt.reset_grad()
            hidden = model.modules[0](x)
            loss = (model.modules[3](model.modules[2](model.modules[1](hidden))) ** 2).mean()
            read(hidden, loss)
            loss.backward()
            opt.step()
        return [p.numpy() for p in model.parameters()], model.modules[1].running_var.numpy()

    quiet, quiet_var = train(lambda hidden, loss: None)
    loud, loud_var = train(lambda hidden, loss: (repr(hidden), loss.item()))
    # A plan for the half, a plan for the whole: only the rounding may differ.
    for a, b in zip(quiet, loud, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(quiet_var, loud_var, rtol=1e-5)


def test_arrays_handed_out_never_change():
    np.random.seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    opt = optim.Adam(model.parameters(), lr=0.1, weight_decay=0.01)
    held, copies = [], []

    def keep(array):
        held.append(array)
        copies.append(array.copy())

    for step in range(12):
        x = ndl.init.randn(5, 4)
        y = Tensor(np.arange(5) % 3)
        opt.reset_grad()
        hidden = model.modules[0](x)
        logits = model(x)
        loss = nn.SoftmaxLoss()(logits, y)
        loss.backward()
        before = [p.data for p in model.parameters()]
        if step % 2:
            keep(loss.numpy())
            keep(logits.numpy()[1:, ::2])
        opt.step()
        for tensor in (x, hidden, logits, loss, *before, model.modules[1].running_mean):
            keep(tensor.numpy())
            keep(tensor.cached_data)
        for parameter in model.parameters():
            keep(parameter.cached_data)
            keep(parameter.grad.cached_data)
            keep(parameter.data.cached_data.T)
        keep(model(x).cached_data)
        ((x * 2).reshape(-1)).numpy()
    assert len(held) > 300
    for array, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_two_results_of_one_program_do_not_share_memory():
    x = Tensor([1.0, 2.0])
    first = (x + 1).cached_data
    second = (x + 1).cached_data
    again = x.reshape(2, 1)
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(again.numpy(), x.numpy())

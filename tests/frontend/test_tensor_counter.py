"""needle_ir.autograd.TENSOR_COUNTER is the number of tensors that are alive."""

import gc
import weakref

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import Tensor, nn, optim


@pytest.fixture(autouse=True)
def no_garbage():
    """What other tests left in cycles must not be collected in the middle of a count."""
    gc.collect()


def count():
    return ndl.autograd.TENSOR_COUNTER


def test_it_follows_tensors_that_are_made_and_deleted():
    before = count()
    x = Tensor([1.0, 2.0])
    assert count() == before + 1
    y = x * 2
    assert count() == before + 2
    kept = [x + i for i in range(10)]
    assert count() == before + 12
    del kept[3:]
    assert count() == before + 5
    del kept, y
    assert count() == before + 1
    del x
    assert count() == before


def test_parameters_and_gradients_are_counted():
    before = count()
    layer = nn.Linear(3, 2)
    assert count() == before + 2
    layer(Tensor(np.ones((4, 3), np.float32), requires_grad=False)).sum().backward()
    # A gradient is a tensor once it is asked for.
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    assert count() == before + 4
    layer.weight.grad = None
    assert count() == before + 3
    del layer
    assert count() == before


def test_intermediate_results_are_no_tensors_once_nobody_holds_them():
    before = count()
    x = Tensor([1.0])
    for _ in range(100):
        x = x * 2 + 1
    assert count() == before + 1
    assert np.isfinite(x.item())
    assert count() == before + 1


def test_it_can_be_read_beside_dead_proxies():
    class Gone:
        pass

    gone = Gone()
    proxy = weakref.proxy(gone)
    before = count()
    del gone
    assert count() == before
    with pytest.raises(ReferenceError):
        str(proxy)


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'TENSOR_COUNT'"):
        ndl.autograd.TENSOR_COUNT  # noqa: B018


@pytest.mark.parametrize("jitted", [False, True])
def test_a_training_loop_does_not_raise_it(jitted):
    np.random.seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)
    )
    opt = optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    loss_function = nn.SoftmaxLoss()

    def step(x, y):
        opt.reset_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        opt.step()
        return loss

    run = ndl.jit(step) if jitted else step
    rng = np.random.RandomState(1)
    counts, losses = {}, []
    for number in range(1, 51):
        x = Tensor(rng.randn(10, 6).astype(np.float32), requires_grad=False)
        loss = run(x, Tensor(rng.randint(0, 3, 10)))
        losses.append(loss.item())
        if number in (1, 2, 3, 10, 50):
            counts[number] = count()
    assert counts == dict.fromkeys(counts, counts[1])
    assert len(set(losses)) == 50
    assert np.isfinite(losses).all()


def test_what_a_loop_holds_on_to_raises_it():
    """The loop above must be able to fail."""
    x = Tensor([1.0])
    before, held = count(), []
    for i in range(5):
        held.append((x * i).data)
        assert count() == before + i + 1

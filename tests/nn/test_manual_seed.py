"""`manual_seed`: a stream of the library's own, the same in recorded and in traced code."""

import numpy as np
import pytest

import needle_ir as ndl
from needle_ir import init, nn
from needle_ir.data import DataLoader, NDArrayDataset


@pytest.fixture(autouse=True)
def _numpy_again():
    yield
    ndl.manual_seed(None)


def sfc64(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


def test_draws_are_those_of_sfc64():
    ndl.manual_seed(7)
    expected = sfc64(7)
    uniform = expected.random((3, 4), np.float32) * np.float32(3) - np.float32(1)
    np.testing.assert_allclose(init.rand(3, 4, low=-1, high=2).numpy(), uniform, rtol=1e-6)
    normal = expected.standard_normal((5,), np.float32) * np.float32(0.5) + np.float32(2)
    np.testing.assert_allclose(init.randn(5, mean=2, std=0.5).numpy(), normal, rtol=1e-6)
    np.testing.assert_array_equal(
        init.randb(100, p=0.3).numpy(), expected.random(100, np.float32) <= 0.3
    )
    np.testing.assert_array_equal(
        init.rand(6, dtype="float64").numpy(), expected.random(6, np.float64)
    )


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_every_dtype(dtype):
    ndl.manual_seed(0)
    x, y = init.rand(1000, high=10, dtype=dtype), init.randn(1000, std=3, dtype=dtype)
    assert x.dtype == y.dtype == dtype
    assert 4 < float(x.numpy().mean()) < 6
    assert 2 < float(y.numpy().std()) < 4


def test_numpys_generator_is_left_alone_and_comes_back():
    np.random.seed(3)
    expected = np.random.rand(4).astype(np.float32)
    np.random.seed(3)
    ndl.manual_seed(1)
    init.rand(8).numpy()
    ndl.manual_seed(None)
    np.testing.assert_array_equal(init.rand(4).numpy(), expected)


def test_traced_code_draws_the_same_numbers():
    layer = nn.Dropout(0.4)
    x = ndl.Tensor(np.ones((50, 20), np.float32))

    def step(x):
        return layer(x) + init.rand(50, 20) + init.randn(20)

    jitted = ndl.jit(step)
    for seed in (0, 1):
        ndl.manual_seed(seed)
        recorded = [step(x).numpy() for _ in range(3)]
        ndl.manual_seed(seed)
        np.testing.assert_array_equal([jitted(x).numpy() for _ in range(3)], recorded)


def test_jit_traces_again_where_the_stream_is_another():
    layer = nn.Dropout(0.5)
    x = ndl.Tensor(np.ones(1000, np.float32))
    jitted = ndl.jit(lambda x: layer(x))
    for seed in (None, 4, None, 5):
        ndl.manual_seed(seed)
        np.random.seed(9)
        recorded = layer(x).numpy()
        ndl.manual_seed(seed)
        np.random.seed(9)
        np.testing.assert_array_equal(jitted(x).numpy(), recorded)


def test_shuffles():
    data = NDArrayDataset(np.arange(20))
    ndl.manual_seed(2)
    expected = np.arange(20)
    sfc64(2).shuffle(expected)
    seen = np.concatenate([x.numpy() for (x,) in DataLoader(data, batch_size=6, shuffle=True)])
    np.testing.assert_array_equal(seen, expected)


def test_a_training_run_repeats():
    def losses():
        ndl.manual_seed(11)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        opt = ndl.optim.Adam(model.parameters(), lr=0.01)
        x = init.randn(16, 4)
        found = []
        for _ in range(5):
            opt.reset_grad()
            loss = (model(x) ** 2).sum()
            loss.backward()
            opt.step()
            found.append(loss.item())
        return found

    assert losses() == losses()


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), ("a", TypeError)])
def test_a_seed_that_is_none(seed, error):
    with pytest.raises(error):
        ndl.manual_seed(seed)
    np.random.seed(0)
    expected = np.random.rand(2).astype(np.float32)
    np.random.seed(0)
    np.testing.assert_array_equal(init.rand(2).numpy(), expected)

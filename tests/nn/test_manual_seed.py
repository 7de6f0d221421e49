"""`manual_seed`: a stream of the library's own, the same in recorded and in traced code."""

import math

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


def mask(generator: np.random.Generator, shape: tuple[int, ...], p: float) -> np.ndarray:
    """Two elements from each draw of 64 bits, the low half first, in Python's own integers."""
    size = math.prod(shape)
    drawn = [int(x) for x in generator.bit_generator.random_raw((size + 1) // 2)]
    halves = [half for x in drawn for half in (x % 2**32, x // 2**32)]
    return np.array([half < p * 2**32 for half in halves[:size]]).reshape(shape)


def test_draws_are_those_of_sfc64():
    ndl.manual_seed(7)
    expected = sfc64(7)
    uniform = expected.random((3, 4), np.float32) * np.float32(3) - np.float32(1)
    np.testing.assert_allclose(init.rand(3, 4, low=-1, high=2).numpy(), uniform, rtol=1e-6)
    normal = expected.standard_normal((5,), np.float32) * np.float32(0.5) + np.float32(2)
    np.testing.assert_allclose(init.randn(5, mean=2, std=0.5).numpy(), normal, rtol=1e-6)
    np.testing.assert_array_equal(init.randb(10, 7, p=0.3).numpy(), mask(expected, (10, 7), 0.3))
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


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (5,), (3, 5), (2, 3, 4)])
def test_a_mask_of_any_shape(shape):
    ndl.manual_seed(3)
    drawn, after = init.randb(*shape, p=0.6).numpy(), init.rand(3, dtype="float64").numpy()
    expected = sfc64(3)
    np.testing.assert_array_equal(drawn, mask(expected, shape, 0.6))
    assert drawn.shape == shape
    np.testing.assert_array_equal(after, expected.random(3))


def test_the_first_masks_of_a_seed():
    """The same bits on every machine, whatever the order of its bytes."""
    ndl.manual_seed(0)
    drawn = init.randb(3, 8, p=0.5).numpy()
    assert np.packbits(drawn).tolist() == [55, 74, 254]


@pytest.mark.parametrize("p", [1e-3, 0.1, 0.5, 0.9, 0.999])
def test_masks_are_true_with_their_probability(p):
    ndl.manual_seed(5)
    share = init.randb(1000, 400, p=p).numpy().mean()
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 400_000)


def test_probabilities_at_the_ends():
    ndl.manual_seed(6)
    for p in (0, 0.0, 1e-10, np.float32(0)):
        assert not init.randb(100_000, p=p).numpy().any()
    for p in (1, 1.0, 1 - 1e-10, np.float16(1)):
        assert init.randb(100_000, p=p).numpy().all()


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
        mask = init.randb(20, p=0.3, dtype="float32")
        return layer(x) + init.rand(50, 20) + init.randn(20) * mask

    jitted = ndl.jit(step)
    for seed in (0, 1):
        ndl.manual_seed(seed)
        recorded = [step(x).numpy() for _ in range(3)]
        ndl.manual_seed(seed)
        np.testing.assert_array_equal([jitted(x).numpy() for _ in range(3)], recorded)


def test_jit_draws_from_the_stream_there_is_at_the_call():
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
    assert jitted.retraces == ["first call"]


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

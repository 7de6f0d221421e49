import dataclasses

import numpy as np
import pytest

from needle_ir.data import RandomCrop, RandomFlipHorizontal, Transform


def image(height=5, width=7, channels=2, seed=0):
    return np.random.RandomState(seed).rand(height, width, channels).astype(np.float32)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_flip_follows_needles_draws(p):
    np.random.seed(3)
    results = [RandomFlipHorizontal(p)(image(seed=i)) for i in range(40)]
    draws = np.random.RandomState(3)
    for i, result in enumerate(results):
        flipped = draws.rand() < p
        expected = np.flip(image(seed=i), axis=1) if flipped else image(seed=i)
        np.testing.assert_array_equal(result, expected)


def test_flip_draws_once_an_image():
    np.random.seed(4)
    RandomFlipHorizontal(0.0)(image())
    after = np.random.rand()
    assert after == np.random.RandomState(4).rand(2)[1]


def test_flip_needs_a_draw_below_p(monkeypatch):
    monkeypatch.setattr(np.random, "rand", lambda: 0.25)
    np.testing.assert_array_equal(RandomFlipHorizontal(0.25)(image()), image())
    np.testing.assert_array_equal(RandomFlipHorizontal(0.26)(image()), image()[:, ::-1])


def test_flip_is_by_half_by_default():
    assert RandomFlipHorizontal().p == 0.5


@pytest.mark.parametrize("padding", [0, 1, 3, 12])
@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 2), (1, 1, 1)])
def test_crop_follows_needles_draws(padding, shape):
    height, width, _ = shape
    np.random.seed(5)
    results = [RandomCrop(padding)(image(*shape, seed=i)) for i in range(40)]
    draws = np.random.RandomState(5)
    for i, result in enumerate(results):
        shift_x, shift_y = draws.randint(low=-padding, high=padding + 1, size=2)
        padded = np.pad(image(*shape, seed=i), ((padding, padding), (padding, padding), (0, 0)))
        top, left = padding + shift_x, padding + shift_y
        np.testing.assert_array_equal(result, padded[top : top + height, left : left + width, :])
        assert result.dtype == np.float32


def test_crop_pads_three_by_default():
    assert RandomCrop().padding == 3


@pytest.mark.parametrize("transform", [RandomFlipHorizontal(1.0), RandomCrop(2)])
def test_input_is_left_as_it_is(transform):
    np.random.seed(0)
    x = image()
    x.flags.writeable = False
    transform(x)
    np.testing.assert_array_equal(x, image())


@pytest.mark.parametrize("transform", [RandomFlipHorizontal(), RandomCrop()])
@pytest.mark.parametrize("shape", [(28, 28), (4, 28, 28, 1), ()])
def test_only_one_image_of_rank_three(transform, shape):
    with pytest.raises(ValueError, match=r"shape \(H, W, C\), got shape \("):
        transform(np.zeros(shape))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), float("inf")])
def test_p_is_a_probability(p):
    with pytest.raises(ValueError, match=r"probability in \[0, 1\], got"):
        RandomFlipHorizontal(p)


@pytest.mark.parametrize("padding", [-1, 1.5, True, None, np.uint8(3)])
def test_padding_is_a_count(padding):
    with pytest.raises(ValueError, match="padding must be an int of at least 0, got"):
        RandomCrop(padding)


def test_transforms_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RandomCrop(3).padding = 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        RandomFlipHorizontal(0.5).p = 1.0


def test_transform_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Transform()

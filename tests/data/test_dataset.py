import gzip

import numpy as np
import pytest

from needle_ir.data import (
    Dataset,
    IDXError,
    MNISTDataset,
    NDArrayDataset,
    RandomCrop,
    RandomFlipHorizontal,
)

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 5, 4)).astype(np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)
SCALED = (PIXELS.astype(np.float32) / np.float32(255)).reshape(6, 5, 4, 1)


@pytest.fixture
def files(tmp_path):
    images, labels = tmp_path / "images.gz", tmp_path / "labels"
    header = bytes([0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0, 0, 4])
    images.write_bytes(gzip.compress(header + PIXELS.tobytes()))
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 6]) + LABELS.tobytes())
    return images, labels


def test_dataset_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Dataset()


class Squares(Dataset):
    """A dataset that, like the course's, does not call its base class."""

    def __init__(self):
        self.n = 3

    def __getitem__(self, index):
        return (np.arange(self.n)[index] ** 2,)

    def __len__(self):
        return self.n


def test_subclass_without_super_init():
    assert Squares().transforms is None
    assert Squares().apply_transforms("as it is") == "as it is"
    assert [item for (item,) in Squares()] == [0, 1, 4]


def test_transforms_are_applied_in_order(files):
    dataset = MNISTDataset(*files, transforms=[lambda x: x + 1, lambda x: x * 2])
    assert dataset.apply_transforms(3) == 8


@pytest.mark.parametrize("transforms", [RandomCrop(), [RandomCrop(), "flip"], "flip"])
def test_transforms_must_be_a_list_of_callables(files, transforms):
    with pytest.raises(TypeError, match="list of callables, got"):
        MNISTDataset(*files, transforms=transforms)


INDICES = [
    pytest.param(2, id="int"),
    pytest.param(-1, id="negative"),
    pytest.param(np.int64(4), id="numpy int"),
    pytest.param(slice(1, 4), id="slice"),
    pytest.param(slice(None, None, -2), id="backwards"),
    pytest.param(slice(3, 3), id="empty slice"),
    pytest.param(slice(4, 100), id="long slice"),
    pytest.param(np.array([5, 0, 0, -2]), id="array"),
    pytest.param(np.array([5, 1], np.uint8), id="uint8 array"),
    pytest.param([1, 3], id="list"),
    pytest.param(np.array([], np.int64), id="empty array"),
]


@pytest.mark.parametrize("index", [*INDICES, pytest.param([], id="empty list")])
def test_ndarray_items(index):
    a = np.random.RandomState(1).rand(6, 2, 3)
    b = np.arange(6)
    item = NDArrayDataset(a, b)[index]
    assert isinstance(item, tuple)
    plain = np.array([], int) if isinstance(index, list) and not index else index
    np.testing.assert_array_equal(item[0], a[plain], strict=not np.isscalar(item[0]))
    np.testing.assert_array_equal(item[1], b[plain])
    assert len(item) == 2


def test_ndarray_lengths():
    assert len(NDArrayDataset(np.zeros((7, 2)))) == 7
    assert len(NDArrayDataset(np.zeros(0), np.zeros((0, 3)))) == 0
    assert len(NDArrayDataset([1, 2, 3])) == 3


@pytest.mark.parametrize(
    "arrays", [(), (np.zeros(3), np.zeros(4)), (np.zeros(()),), (np.zeros(3), np.zeros(()))]
)
def test_ndarray_refuses_unequal_lengths(arrays):
    with pytest.raises(ValueError, match="one or more of equal length, got shapes"):
        NDArrayDataset(*arrays)


@pytest.mark.parametrize("index", INDICES)
def test_mnist_items(files, index):
    images, labels = MNISTDataset(*files)[index]
    np.testing.assert_array_equal(images, SCALED[index], strict=True)
    np.testing.assert_array_equal(labels, LABELS[index])
    assert labels.dtype == np.uint8


def test_mnist_image_shapes(files):
    dataset = MNISTDataset(*files)
    assert len(dataset) == 6
    assert dataset.transforms is None
    assert dataset[0][0].shape == (5, 4, 1)
    assert dataset[0][1] == 3
    assert dataset[0:1][0].shape == (1, 5, 4, 1)
    assert dataset[np.array([1])][1].shape == (1,)


def test_mnist_items_are_new_memory(files):
    dataset = MNISTDataset(*files)
    for index in (0, slice(0, 6), np.arange(6)):
        dataset[index][0][...] = -1
    np.testing.assert_array_equal(dataset[:][0], SCALED)


@pytest.mark.parametrize("index", INDICES)
def test_transforms_see_one_image_at_a_time(files, index):
    seen = []

    def transform(x):
        seen.append(x.copy())
        return x[::-1] * 2

    images, labels = MNISTDataset(*files, transforms=[transform])[index]
    chosen = SCALED[index].reshape(-1, 5, 4, 1)
    np.testing.assert_array_equal(np.array(seen).reshape(-1, 5, 4, 1), chosen)
    np.testing.assert_array_equal(images, SCALED[index][..., ::-1, :, :] * 2, strict=True)
    np.testing.assert_array_equal(labels, LABELS[index])


def test_transforms_draw_image_by_image(files):
    dataset = MNISTDataset(*files, transforms=[RandomFlipHorizontal(0.5), RandomCrop(2)])
    order = np.array([4, 1, 1, 5])
    np.random.seed(8)
    images, _ = dataset[order]
    draws = np.random.RandomState(8)
    for image, i in zip(images, order, strict=True):
        expected = SCALED[i][:, ::-1] if draws.rand() < 0.5 else SCALED[i]
        x, y = draws.randint(-2, 3, size=2)
        expected = np.pad(expected, ((2, 2), (2, 2), (0, 0)))[2 + x : 7 + x, 2 + y : 6 + y]
        np.testing.assert_array_equal(image, expected)


BAD_INDICES = [
    pytest.param(6, id="past the end"),
    pytest.param(-7, id="before the start"),
    pytest.param(np.array([0, 6]), id="array past the end"),
    pytest.param([-7], id="list before the start"),
    pytest.param(True, id="bool"),
    pytest.param(np.zeros(6, bool), id="mask"),
    pytest.param(1.0, id="float"),
    pytest.param(np.array([0.0, 1.0]), id="float array"),
    pytest.param(np.array([[0, 1]]), id="2-D array"),
    pytest.param((0, 1), id="tuple"),
    pytest.param(None, id="None"),
    pytest.param(..., id="ellipsis"),
    pytest.param("0", id="string"),
]


@pytest.mark.parametrize("index", BAD_INDICES)
def test_bad_indices(files, index):
    for dataset in (MNISTDataset(*files), NDArrayDataset(PIXELS, LABELS)):
        with pytest.raises(IndexError):
            dataset[index]


def test_bad_index_says_what_is_right(files):
    with pytest.raises(IndexError, match="index 6 is out of range for a dataset of 6 items"):
        MNISTDataset(*files)[6]
    with pytest.raises(IndexError, match=r"int, a slice or 1-D integers, got \(0, 1\)"):
        MNISTDataset(*files)[0, 1]


def test_iteration_ends(files):
    assert [label for _, label in MNISTDataset(*files)] == [3, 1, 4, 1, 5, 9]
    assert [tuple(item) for item in NDArrayDataset(np.arange(3))] == [(0,), (1,), (2,)]


def test_broken_files_are_refused(files, tmp_path):
    images, labels = files
    with pytest.raises(FileNotFoundError, match="absent"):
        MNISTDataset(images, tmp_path / "absent")
    with pytest.raises(IDXError, match="expected images"):
        MNISTDataset(labels, images)
    labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 1]))
    with pytest.raises(IDXError, match="found 2 labels; expected 6"):
        MNISTDataset(images, labels)

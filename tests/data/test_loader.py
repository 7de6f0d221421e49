import gc
import weakref

import numpy as np
import pytest

from needle_ir.data import DataLoader, Dataset, NDArrayDataset
from needle_ir.tensor import Tensor


class Counted(Dataset):
    """Ten items (3 i, i); it writes down every index it is asked for."""

    def __init__(self, transforms=None):
        super().__init__(transforms)
        self.asked = []

    def __getitem__(self, index):
        self.asked.append(index)
        numbers = np.arange(10, dtype=np.float32)[index]
        return self.apply_transforms(3 * numbers), numbers

    def __len__(self):
        return 10


def numbers(batches):
    """The second tensor of every batch, as lists."""
    return [batch[1].numpy().tolist() for batch in batches]


@pytest.mark.parametrize("size", [1, 3, 5, 10, 11, np.int64(4)])
def test_batches_in_order(size):
    x = np.random.RandomState(0).rand(10, 2, 3).astype(np.float32)
    y = np.arange(10, dtype=np.int32)
    loader = DataLoader(NDArrayDataset(x, y), batch_size=size)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-10 // size)
    for i, batch in enumerate(batches):
        assert isinstance(batch, tuple)
        assert all(isinstance(tensor, Tensor) for tensor in batch)
        assert not any(tensor.requires_grad for tensor in batch)
        np.testing.assert_array_equal(batch[0].numpy(), x[i * size : (i + 1) * size], strict=True)
        np.testing.assert_array_equal(batch[1].numpy(), y[i * size : (i + 1) * size], strict=True)


def test_one_tensor_per_array():
    arrays = [np.arange(4, dtype=np.float32) + i for i in range(3)]
    assert [len(batch) for batch in DataLoader(NDArrayDataset(*arrays), 4)] == [3]
    assert [len(batch) for batch in DataLoader(NDArrayDataset(arrays[0]), 4)] == [1]


def test_defaults():
    loader = DataLoader(Counted())
    assert (loader.batch_size, loader.shuffle) == (1, False)
    assert numbers(loader) == [[float(i)] for i in range(10)]


def test_none_is_one_batch():
    loader = DataLoader(Counted(), batch_size=None)
    assert len(loader) == 1
    assert numbers(loader) == [list(range(10))]


@pytest.mark.parametrize("size", [None, 1, 3])
def test_empty_dataset_has_no_batches(size):
    loader = DataLoader(NDArrayDataset(np.zeros((0, 3))), batch_size=size)
    assert len(loader) == 0
    assert list(loader) == []


@pytest.mark.parametrize("size", [0, -1, 1.0, "3", True, np.float64(2)])
def test_bad_batch_sizes(size):
    with pytest.raises(ValueError, match="batch_size must be a positive integer, or None"):
        DataLoader(Counted(), batch_size=size)


def test_dataset_must_be_a_dataset():
    with pytest.raises(TypeError, match=r"needle_ir\.data\.Dataset, got list"):
        DataLoader([1, 2, 3])


def test_shuffle_draws_at_the_start_of_every_pass():
    loader = DataLoader(Counted(), batch_size=4, shuffle=True)
    np.random.seed(6)
    passes = [numbers(loader), numbers(loader)]
    draws = np.random.RandomState(6)
    for got in passes:
        order = np.arange(10)
        draws.shuffle(order)
        assert got == [order[:4].tolist(), order[4:8].tolist(), order[8:].tolist()]


def test_shuffle_draws_before_the_first_batch():
    loader = DataLoader(Counted(), shuffle=True)
    np.random.seed(6)
    iter(loader)
    draws = np.random.RandomState(6)
    draws.shuffle(np.arange(10))
    assert np.random.rand() == draws.rand()


def test_order_of_the_course():
    """The numbers of the course's own test, from its public test file."""
    np.random.seed(0)
    batches = iter(DataLoader(NDArrayDataset(np.arange(100)), batch_size=1, shuffle=True))
    first = [int(next(batches)[0].numpy()[0]) for _ in range(10)]
    assert first == [26, 86, 2, 55, 75, 93, 16, 73, 54, 95]


def test_no_shuffle_draws_nothing():
    np.random.seed(7)
    list(DataLoader(Counted(), 3))
    assert np.random.rand() == np.random.RandomState(7).rand()


@pytest.mark.parametrize("transforms", [None, []])
def test_a_batch_is_one_gather(transforms):
    dataset = Counted(transforms)
    list(DataLoader(dataset, batch_size=4))
    assert [index.tolist() for index in dataset.asked] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_transformed_items_are_stacked():
    dataset = Counted(transforms=[lambda x: np.stack([x, x + 1])])
    batches = list(DataLoader(dataset, batch_size=4))
    assert dataset.asked == list(range(10))
    assert all(type(index) is int for index in dataset.asked)
    i = np.arange(8, 10, dtype=np.float32)
    np.testing.assert_array_equal(batches[2][0].numpy(), np.stack([3 * i, 3 * i + 1], axis=1))
    np.testing.assert_array_equal(batches[2][1].numpy(), i)


@pytest.mark.parametrize("transforms", [None, [lambda x: x]])
def test_an_item_must_be_a_tuple(transforms):
    class Bare(Counted):
        def __getitem__(self, index):
            return np.arange(10)[index]

    with pytest.raises(TypeError, match="must be a tuple of arrays, got"):
        list(DataLoader(Bare(transforms), 2))


def test_second_pass_starts_over():
    loader = DataLoader(Counted(), batch_size=5)
    for _ in loader:
        break
    assert numbers(loader) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert numbers(loader) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_nested_loops():
    loader = DataLoader(Counted(), batch_size=5)
    pairs = [(a[1].numpy()[0], b[1].numpy()[0]) for a in loader for b in loader]
    assert pairs == [(0, 0), (0, 5), (5, 0), (5, 5)]


def test_the_loader_is_an_iterator():
    loader = DataLoader(Counted(), batch_size=5)
    assert numbers([next(loader), next(loader)]) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(loader)
    iter(loader)
    assert numbers([next(loader)]) == [[0, 1, 2, 3, 4]]
    iter(loader)
    assert numbers([next(loader)]) == [[0, 1, 2, 3, 4]]


def test_batches_do_not_share_memory_with_the_dataset():
    x = np.zeros((4, 2), np.float32)
    (batch,) = next(DataLoader(NDArrayDataset(x), batch_size=4))
    x[...] = 1
    np.testing.assert_array_equal(batch.numpy(), np.zeros((4, 2)))


def test_an_abandoned_loader_is_freed_at_once():
    dataset = Counted()
    loader = DataLoader(dataset, batch_size=3)
    next(loader)
    gone = weakref.ref(dataset)
    gc.disable()
    try:
        del loader, dataset
        assert gone() is None
    finally:
        gc.enable()

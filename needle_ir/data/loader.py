"""Batches of a dataset as tensors."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from needle_ir.data.dataset import Dataset
from needle_ir.runtime import draws
from needle_ir.tensor import Tensor


class DataLoader:
    """Iterate over the batches of `dataset`, each a tuple with one Tensor per array of an item.

    The last batch may be short. `batch_size=None` makes the whole dataset one batch. With
    `shuffle`, each pass draws a new order when it starts, by `np.random.shuffle` on
    `np.arange(len(dataset))`.

    Every `iter(loader)` is a pass of its own, so loops may be nested. `next(loader)` goes on with
    the pass that was started last, as in the course's needle.

    Raises:
        TypeError: `dataset` is not a Dataset.
        ValueError: `batch_size` is not a positive integer or None.

    """

    def __init__(self, dataset: Dataset, batch_size: int | None = 1, shuffle: bool = False) -> None:
        if not isinstance(dataset, Dataset):
            raise TypeError(
                f"dataset must be a needle_ir.data.Dataset, got {type(dataset).__name__}"
            )
        if batch_size is not None:
            whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
            if not whole or batch_size < 1:
                raise ValueError(
                    "batch_size must be a positive integer, or None for the whole dataset as one "
                    f"batch, got {batch_size!r}"
                )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self._last_pass: Iterator[tuple[Tensor, ...]] | None = None

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return len(self._starts())

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Start a pass: draw its order now, and return an iterator over its batches."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            draws.shuffle(order)
        self._last_pass = _batches(self.dataset, order, self._starts())
        return self._last_pass

    def __next__(self) -> tuple[Tensor, ...]:
        """Return the next batch of the pass started last; the first call starts one."""
        return next(self._last_pass or iter(self))

    def _starts(self) -> range:
        items = len(self.dataset)
        return range(0, items, self.batch_size or max(items, 1))


# No method: a pass that held its loader, which holds the pass, would be freed late.
def _batches(
    dataset: Dataset, order: NDArray[np.intp], starts: range
) -> Iterator[tuple[Tensor, ...]]:
    for start in starts:
        positions = order[start : start + starts.step]
        if dataset.transforms:
            items = [_arrays(dataset[int(position)]) for position in positions]
            batch: Sequence[Any] = [np.stack(column) for column in zip(*items, strict=True)]
        else:
            batch = _arrays(dataset[positions])
        yield tuple(Tensor(array, requires_grad=False) for array in batch)


def _arrays(item: object) -> Sequence[Any]:
    if not isinstance(item, tuple | list):
        raise TypeError(f"dataset[i] must be a tuple of arrays, got {type(item).__name__}")
    return item

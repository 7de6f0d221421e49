"""Datasets: numbered items, each a tuple of arrays."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from needle_ir.data.idx import read_mnist, scaled

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

Index = int | slice | list[int] | NDArray[np.integer[Any]]


class Dataset(ABC):
    """Items that are found by number: `dataset[i]` for i in range(len(dataset)).

    `transforms` is a list of functions of one image, applied in order by `apply_transforms`.
    Where it is None or empty, a `DataLoader` fetches a batch by one `dataset[index_array]`; a
    dataset with transforms is only ever asked for one item at a time.

    Raises:
        TypeError: `transforms` is not a list of callables.

    """

    # Also here, so that a subclass need not call `super().__init__()`, as the course's do not.
    transforms: list[Callable[[NDArray[Any]], NDArray[Any]]] | None = None

    def __init__(
        self, transforms: list[Callable[[NDArray[Any]], NDArray[Any]]] | None = None
    ) -> None:
        if transforms is not None and not (
            isinstance(transforms, list | tuple) and all(map(callable, transforms))
        ):
            raise TypeError(f"transforms must be a list of callables, got {transforms!r}")
        self.transforms = transforms

    @abstractmethod
    def __getitem__(self, index: Index) -> tuple[Any, ...]:
        """Return one item, or a batch with the items along axis 0.

        Raises:
            IndexError: there is no such item. Iteration ends by it.

        """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    def apply_transforms(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return `x` passed through all transforms, first to last."""
        for transform in self.transforms or ():
            x = transform(x)
        return x


class NDArrayDataset(Dataset):
    """Item i is the tuple of `a[i]` for every array, as NumPy indexes it: slices are views.

    Raises:
        ValueError: no arrays, an array of rank 0, or arrays of different lengths.

    """

    def __init__(self, *arrays: NDArray[Any]) -> None:
        super().__init__()
        self.arrays = tuple(np.asarray(array) for array in arrays)
        shapes = [array.shape for array in self.arrays]
        if len({shape[:1] for shape in shapes}) != 1 or () in shapes:
            raise ValueError(f"the arrays must be one or more of equal length, got shapes {shapes}")

    def __getitem__(self, index: Index) -> tuple[Any, ...]:
        """Return `a[index]` of every array; `index` is an int, a slice or 1-D integers."""
        index = _checked(index, len(self))
        return tuple(_gather(array, index) for array in self.arrays)

    def __len__(self) -> int:
        """Return the common length of the arrays."""
        return len(self.arrays[0])


class MNISTDataset(Dataset):
    """Items (image, label) of two IDX files, gzipped or plain.

    An image is float32 (rows, cols, 1) in [0, 1], the label its number as uint8; a slice or an
    integer array gives (n, rows, cols, 1) and (n,). Each image goes through the transforms alone,
    in the order of the index. What is handed out is new memory each time: the pixels are kept in
    uint8 and scaled when fetched, which takes a quarter of the memory and no more time.

    Raises:
        FileNotFoundError: a file is missing.
        IDXError: a file is broken, or the two do not belong together.
        TypeError: `transforms` is not a list of callables.

    """

    def __init__(
        self,
        image_filename: "str | os.PathLike[str] | Traversable",
        label_filename: "str | os.PathLike[str] | Traversable",
        transforms: list[Callable[[NDArray[Any]], NDArray[Any]]] | None = None,
    ) -> None:
        super().__init__(transforms)
        images, self.labels = read_mnist(image_filename, label_filename)
        self.images = images[..., np.newaxis]

    def __getitem__(self, index: Index) -> tuple[NDArray[Any], Any]:
        """Return (image, label), or (images, labels) for a slice or 1-D integers."""
        index = _checked(index, len(self))
        images: NDArray[Any] = scaled(_gather(self.images, index))
        if self.transforms and isinstance(index, int):
            images = self.apply_transforms(images)
        elif self.transforms and len(images):
            images = np.stack([self.apply_transforms(image) for image in images])
        return images, _gather(self.labels, index)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)


def _checked(index: Index, length: int) -> int | slice | NDArray[np.intp]:
    """Return `index` as an int, a slice or 1-D intp; bools, tuples and the rest are refused."""
    if isinstance(index, slice):
        return index
    if isinstance(index, int | np.integer) and not isinstance(index, bool):
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range for a dataset of {length} items")
        return int(index)
    if isinstance(index, list | np.ndarray):
        positions = np.asarray(index)
        if positions.ndim == 1 and (positions.dtype.kind in "iu" or len(index) == 0):
            return positions.astype(np.intp, copy=False)
    raise IndexError(f"an index is an int, a slice or 1-D integers, got {index!r:.60}")


def _gather(array: NDArray[Any], index: int | slice | NDArray[np.intp]) -> Any:
    """Return `array[index]`; `take` is the faster way to the same rows."""
    return array.take(index, axis=0) if isinstance(index, np.ndarray) else array[index]

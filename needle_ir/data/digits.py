"""Where image files lie: the digits that come with the package, and a folder with MNIST."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

USUAL_NAMES = {
    True: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    False: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def digits_files(train: bool = True) -> "tuple[Traversable, Traversable]":
    """Return the image and label file of the embedded 8x8 digits: 1,438 to train, 359 to test.

    They are read with `MNISTDataset(*digits_files())` or `parse_mnist(*digits_files())`.
    """
    from importlib.resources import files

    folder = files("needle_ir.data") / "digits"
    images, labels = (folder / f"{name}.gz" for name in USUAL_NAMES[train])
    return images, labels


def mnist_files(data_dir: str | os.PathLike[str], train: bool = True) -> tuple[Path, Path]:
    """Return the image and label file of MNIST in `data_dir`, under their four usual names.

    Each may be gzipped (`.gz`) or plain; where both are there, the gzipped one is taken.

    Raises:
        FileNotFoundError: one or both are missing; all that are missing are named.

    """
    folder = Path(data_dir)
    found = {
        name: path
        for name in USUAL_NAMES[train]
        for path in (folder / name, folder / f"{name}.gz")
        if path.is_file()
    }
    missing = [f"{name}.gz" for name in USUAL_NAMES[train] if name not in found]
    if missing:
        message = f"no {' and no '.join(missing)} (nor without .gz) in this folder"
        raise FileNotFoundError(errno.ENOENT, message, str(folder))
    images, labels = (found[name] for name in USUAL_NAMES[train])
    return images, labels

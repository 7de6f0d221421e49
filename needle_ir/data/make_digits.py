"""Make the embedded digits from scikit-learn's copy: `python -m needle_ir.data.make_digits FOLDER`.

Needs scikit-learn, which nothing else in the package does. `digits/README.md` tells the rest.
"""

import argparse
import importlib
from pathlib import Path

import numpy as np

from needle_ir.data.digits import USUAL_NAMES
from needle_ir.data.idx import write_idx


def make_digits(folder: Path) -> None:
    """Write the four gzipped IDX files into `folder`, which must exist.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    """
    # By name, since scikit-learn is no dependency and carries no types.
    digits = importlib.import_module("sklearn.datasets").load_digits()
    pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        # Every fifth of each digit, from the third on: no seed, and spread over all writers.
        test[np.flatnonzero(labels == digit)[2::5]] = True
    for train, part in ((True, ~test), (False, test)):
        images_name, labels_name = USUAL_NAMES[train]
        write_idx(folder / f"{images_name}.gz", pixels[part])
        write_idx(folder / f"{labels_name}.gz", labels[part])


def main() -> None:
    """Read the folder from the command line and write the files into it."""
    parser = argparse.ArgumentParser(
        prog="python -m needle_ir.data.make_digits",
        description="Write the embedded digits as four IDX files (needs scikit-learn).",
    )
    parser.add_argument("folder", type=Path, help="an existing folder to write into")
    make_digits(parser.parse_args().folder)


if __name__ == "__main__":
    main()

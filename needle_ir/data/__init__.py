"""Datasets, transforms and the loader of needle, and a small set of digits to try them on."""

from needle_ir.data.dataset import Dataset, MNISTDataset, NDArrayDataset
from needle_ir.data.digits import digits_files, mnist_files
from needle_ir.data.idx import IDXError, parse_mnist, read_idx, write_idx
from needle_ir.data.loader import DataLoader
from needle_ir.data.transforms import RandomCrop, RandomFlipHorizontal, Transform

__all__ = [
    "DataLoader",
    "Dataset",
    "IDXError",
    "MNISTDataset",
    "NDArrayDataset",
    "RandomCrop",
    "RandomFlipHorizontal",
    "Transform",
    "digits_files",
    "mnist_files",
    "parse_mnist",
    "read_idx",
    "write_idx",
]

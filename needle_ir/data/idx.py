"""The IDX format of MNIST: a big-endian header (0, 0, type, rank, sizes), then the bytes."""

import errno
import math
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

UNSIGNED_BYTE = 0x08
GZIP_MAGIC = b"\x1f\x8b"


class IDXError(ValueError):
    """A file that is not what its reader expected; the message names it, what it held and why."""


def read_idx(path: "str | os.PathLike[str] | Traversable") -> NDArray[np.uint8]:
    """Return the array of an IDX file of unsigned bytes, gzipped or plain, of any rank.

    A file that starts with gzip's two magic bytes is unzipped, whatever its name is.

    Raises:
        FileNotFoundError: there is no such file.
        IDXError: named `.gz` but not gzip, broken gzip, wrong magic, truncated, or too long.

    """
    content = _content(path)
    if len(content) < 4:
        raise IDXError(f"{path}: truncated, found {len(content)} bytes; expected an IDX header")
    zeros, kind, rank = struct.unpack_from(">HBB", content)
    if zeros != 0 or kind != UNSIGNED_BYTE:
        raise IDXError(
            f"{path}: wrong magic, found bytes {content[:4].hex(' ')}; "
            "expected 00 00 08 and the rank (IDX of unsigned bytes)"
        )
    start = 4 + 4 * rank
    if len(content) < start:
        raise IDXError(
            f"{path}: truncated, found {len(content)} bytes; expected a header of {start} bytes"
        )
    shape = struct.unpack_from(f">{rank}I", content, 4)
    found, expected = len(content) - start, math.prod(shape)
    if found != expected:
        raise IDXError(
            f"{path}: {'truncated' if found < expected else 'too long'}, "
            f"found {found} bytes of data; expected {expected} for shape {shape}"
        )
    try:
        # The copy makes the array writable: `content` is immutable.
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
    except ValueError as error:
        raise IDXError(f"{path}: found shape {shape}; expected one NumPy can hold") from error


def write_idx(path: str | os.PathLike[str], array: NDArray[np.uint8]) -> None:
    """Write `array` as an IDX file, gzipped if the name ends in `.gz`.

    Equal arrays give equal files: no name and no time goes into the gzip header. The file appears
    at once and whole, or not at all. Its folder must exist.

    Raises:
        ValueError: the array does not hold uint8.

    """
    import gzip

    if array.dtype != np.uint8:
        raise ValueError(f"{os.fspath(path)}: found an array of {array.dtype}; expected uint8")
    header = struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    target = Path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            if target.suffix == ".gz":
                # Not gzip.compress: the system byte in its header depends on the Python version.
                with gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as zipped:
                    zipped.write(header + array.tobytes())
            else:
                file.write(header + array.tobytes())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def read_mnist(
    image_filename: "str | os.PathLike[str] | Traversable",
    label_filename: "str | os.PathLike[str] | Traversable",
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the images (n, rows, cols) and labels (n,) of two IDX files, as stored, in uint8.

    Raises:
        FileNotFoundError: a file is missing.
        IDXError: a file is broken, has another rank, or the two counts differ.

    """
    images = _of_rank(image_filename, 3, "images of shape (n, rows, cols)")
    labels = _of_rank(label_filename, 1, "labels of shape (n,)")
    if len(images) != len(labels):
        raise IDXError(
            f"{label_filename}: found {len(labels)} labels; "
            f"expected {len(images)}, the number of images in {image_filename}"
        )
    return images, labels


def parse_mnist(
    image_filename: "str | os.PathLike[str] | Traversable",
    label_filename: "str | os.PathLike[str] | Traversable",
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return `(X, y)`: images as float32 (n, rows*cols) in [0, 1], labels as uint8 (n,).

    A stored value v becomes v / 255, divided in float32 (10-714, homework 0).

    Raises:
        FileNotFoundError: a file is missing.
        IDXError: a file is broken, has another rank, or the two counts differ.

    """
    images, labels = read_mnist(image_filename, label_filename)
    n, rows, cols = images.shape
    return scaled(images).reshape(n, rows * cols), labels


def scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return uint8 `pixels` divided by 255, as a new float32 array of the same shape."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def _content(path: Any) -> bytes:
    """Return the bytes of the file at `path`, unzipped."""
    source = Path(path) if isinstance(path, str | os.PathLike) else path
    if not hasattr(source, "read_bytes"):
        raise TypeError(f"a file is named by its path, a str or a Path, not by {path!r:.60}")
    try:
        content: bytes = source.read_bytes()
    except FileNotFoundError:
        message = "no such file; expected an IDX file of unsigned bytes, gzipped or plain"
        raise FileNotFoundError(errno.ENOENT, message, str(path)) from None
    if content.startswith(GZIP_MAGIC):
        return _unzipped(content, path)
    if source.name.endswith(".gz"):
        raise IDXError(
            f"{path}: not gzip, found first bytes {content[:4].hex(' ') or '(none)'}; "
            "expected 1f 8b, as its name ends in .gz"
        )
    return content


def _unzipped(content: bytes, path: Any) -> bytes:
    import gzip
    import zlib

    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise IDXError(f"{path}: broken gzip, found: {error}; expected a whole .gz file") from error


def _of_rank(path: Any, rank: int, expected: str) -> NDArray[np.uint8]:
    array = read_idx(path)
    if array.ndim != rank:
        raise IDXError(f"{path}: found an array of shape {array.shape}; expected {expected}")
    return array

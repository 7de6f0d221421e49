import gzip
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir.data import IDXError, parse_mnist, read_idx, write_idx

IMAGES = np.random.RandomState(0).randint(0, 256, (5, 3, 4)).astype(np.uint8)
LABELS = np.array([7, 0, 9, 9, 1], np.uint8)


def idx_bytes(array):
    """IDX by the book, without the library: magic, big-endian sizes, bytes in C order."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + bytes(array.ravel().tolist())


@pytest.fixture
def pair(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx_bytes(IMAGES))
    labels.write_bytes(idx_bytes(LABELS))
    return images, labels


@pytest.mark.parametrize("shape", [(0,), (7,), (2, 3), (3, 0, 4), (5, 3, 4), (2, 1, 3, 2), ()])
@pytest.mark.parametrize("zipped", [False, True])
def test_read_any_rank(tmp_path, shape, zipped):
    expected = np.random.RandomState(1).randint(0, 256, shape, dtype=np.uint8)
    expected = np.asarray(expected, np.uint8)
    content = idx_bytes(expected)
    path = tmp_path / ("a.gz" if zipped else "a")
    path.write_bytes(gzip.compress(content) if zipped else content)
    read = read_idx(path)
    assert read.dtype == np.uint8
    assert read.shape == shape
    np.testing.assert_array_equal(read, expected)
    assert read.flags.writeable


def test_sizes_are_big_endian(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 1, 2]) + bytes(258))
    assert read_idx(path).shape == (258,)


def test_path_may_be_str(pair):
    np.testing.assert_array_equal(read_idx(str(pair[0])), IMAGES)


def test_gzip_is_seen_without_the_name(tmp_path):
    path = tmp_path / "no-suffix"
    path.write_bytes(gzip.compress(idx_bytes(LABELS)))
    np.testing.assert_array_equal(read_idx(path), LABELS)


def test_parse_mnist(pair):
    x, y = parse_mnist(*pair)
    assert x.dtype == np.float32
    assert y.dtype == np.uint8
    assert x.shape == (5, 12)
    np.testing.assert_array_equal(x, IMAGES.reshape(5, 12).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(y, LABELS)


def test_parse_mnist_spans_zero_to_one(tmp_path):
    (tmp_path / "images").write_bytes(idx_bytes(np.array([[[0, 51, 255]]], np.uint8)))
    (tmp_path / "labels").write_bytes(idx_bytes(LABELS[:1]))
    x, _ = parse_mnist(tmp_path / "images", tmp_path / "labels")
    np.testing.assert_array_equal(x, np.array([[0, 0.2, 1]], np.float32))


def test_parse_mnist_of_no_images(tmp_path):
    (tmp_path / "images").write_bytes(idx_bytes(np.zeros((0, 28, 28), np.uint8)))
    (tmp_path / "labels").write_bytes(idx_bytes(np.zeros(0, np.uint8)))
    x, y = parse_mnist(tmp_path / "images", tmp_path / "labels")
    assert x.shape == (0, 784)
    assert y.shape == (0,)


def refused(path, *words):
    """Read `path`, and return nothing if it is refused in one line that has all the words."""
    with pytest.raises(IDXError) as caught:
        read_idx(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), "found", "expected", *words):
        assert word in message


def test_missing_file_is_named(tmp_path):
    path = tmp_path / "absent.gz"
    with pytest.raises(FileNotFoundError, match="expected an IDX file") as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert caught.value.filename == str(path)


def test_idx_error_is_a_value_error():
    assert issubclass(IDXError, ValueError)


@pytest.mark.parametrize("length", range(4))
def test_no_room_for_the_magic(tmp_path, length):
    path = tmp_path / "a"
    path.write_bytes(idx_bytes(IMAGES)[:length])
    refused(path, "truncated", f"{length} bytes")


@pytest.mark.parametrize("length", [4, 8, 15])
def test_truncated_header(tmp_path, length):
    path = tmp_path / "a"
    path.write_bytes(idx_bytes(IMAGES)[:length])
    refused(path, "truncated", f"{length} bytes", "16 bytes")


@pytest.mark.parametrize("length", [16, 17, 75])
def test_truncated_data(tmp_path, length):
    path = tmp_path / "a"
    path.write_bytes(idx_bytes(IMAGES)[:length])
    refused(path, "truncated", f"found {length - 16} bytes", "expected 60", "(5, 3, 4)")


def test_too_much_data(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(idx_bytes(IMAGES) + b"\0")
    refused(path, "too long", "found 61 bytes", "expected 60")


@pytest.mark.parametrize("magic", ["00000d03", "01000803", "00010803", "3c68746d"])
def test_wrong_magic(tmp_path, magic):
    path = tmp_path / "a"
    path.write_bytes(bytes.fromhex(magic) + idx_bytes(IMAGES)[4:])
    refused(path, "wrong magic", bytes.fromhex(magic).hex(" "), "00 00 08")


def test_named_gz_but_plain(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(idx_bytes(IMAGES))
    refused(path, "not gzip", "00 00 08 03", "1f 8b")


def test_named_gz_but_empty(tmp_path):
    path = tmp_path / "a.gz"
    path.touch()
    refused(path, "not gzip", "(none)")


@pytest.mark.parametrize("length", [2, 10, 30, -8, -1])
def test_truncated_gzip(tmp_path, length):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES))[:length])
    refused(path, "broken gzip")


@pytest.mark.parametrize("place", [2, 12, -8, -1])
def test_corrupted_gzip(tmp_path, place):
    content = bytearray(gzip.compress(idx_bytes(IMAGES)))
    content[place] ^= 0xFF
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    refused(path, "broken gzip")


@pytest.mark.parametrize("shape", [(1,) * 65, (2**32 - 1, 2**32 - 1, 2**32 - 1, 0)])
def test_shape_numpy_cannot_hold(tmp_path, shape):
    path = tmp_path / "a"
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    path.write_bytes(header + (b"" if 0 in shape else b"\7"))
    refused(path, "found shape")


@settings(deadline=None)  # it waits for the disk
@given(content=st.binary(max_size=40), start=st.sampled_from([b"", b"\0\0\x08", b"\x1f\x8b\x08"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, start):
    path = tmp_path_factory.mktemp("fuzz") / "a"
    path.write_bytes(start + content)
    try:
        read = read_idx(path)
    except IDXError:
        return
    assert idx_bytes(read) == start + content


def test_counts_must_agree(tmp_path, pair):
    labels = tmp_path / "four"
    labels.write_bytes(idx_bytes(LABELS[:4]))
    with pytest.raises(IDXError, match="found 4 labels; expected 5") as caught:
        parse_mnist(pair[0], labels)
    assert str(pair[0]) in str(caught.value)
    assert str(labels) in str(caught.value)


def test_files_given_in_the_wrong_order(pair):
    images, labels = pair
    with pytest.raises(IDXError, match=r"found an array of shape \(5,\); expected images"):
        parse_mnist(labels, images)
    with pytest.raises(IDXError, match=r"found an array of shape \(5, 3, 4\); expected labels"):
        parse_mnist(images, images)


@pytest.mark.parametrize("name", ["a.gz", "a"])
@pytest.mark.parametrize("array", [IMAGES, LABELS, IMAGES[:, ::-1].T], ids=["3d", "1d", "strided"])
def test_write(tmp_path, name, array):
    path = tmp_path / name
    write_idx(path, array)
    content = path.read_bytes()
    if name == "a.gz":
        assert content[:2] == b"\x1f\x8b"
        content = gzip.decompress(content)
    assert content == idx_bytes(array)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_written_gzip_has_no_name_no_time_no_system(tmp_path):
    write_idx(tmp_path / "a.gz", LABELS)
    content = (tmp_path / "a.gz").read_bytes()
    flags, time, system = content[3], content[4:8], content[9]
    assert (flags, time, system) == (0, bytes(4), 255)
    write_idx(tmp_path / "b.gz", LABELS)
    assert (tmp_path / "b.gz").read_bytes() == content


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8, np.bool_])
def test_write_refuses_other_dtypes(tmp_path, dtype):
    with pytest.raises(ValueError, match=f"{np.dtype(dtype)}; expected uint8"):
        write_idx(tmp_path / "a", IMAGES.astype(dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.gz", "a"])
def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_bytes(b"old")

    def full(*paths):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_idx(path, IMAGES)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_write_needs_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_idx(tmp_path / "absent" / "a", IMAGES)


def test_import_is_light():
    """What only a read or a write needs is imported then."""
    program = (
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import needle_ir.data\n"
        "print({'gzip', 'zlib', 'importlib.resources', 'sklearn'} & (set(sys.modules) - before))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"

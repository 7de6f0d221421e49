import gzip
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import needle_ir.data
from needle_ir.data import DataLoader, MNISTDataset, digits_files, mnist_files, parse_mnist
from needle_ir.data.make_digits import make_digits

FOLDER = Path(needle_ir.data.__file__).parent / "digits"

# SHA-256 of the unzipped files. Computed from scikit-learn's csv file, without this package.
SHA256 = {
    "train-images-idx3-ubyte": "44cd734469ef672c610405eb690e24a7a9b128ccd4613d721c900701c8bbe1ca",
    "train-labels-idx1-ubyte": "0cf4bb955662b2880f38895d1bcb2c65531a191efc3efed3cb9549103084b1f6",
    "t10k-images-idx3-ubyte": "44091312d61324ea77452d06e73b4cfaa7dd68525fce179461021d5f524d7e0b",
    "t10k-labels-idx1-ubyte": "010a16aa0f8fc36144e4031b591958cf6029ff80e751d0c74437d5269c8bbf3f",
}
COUNTS = {
    True: [142, 146, 142, 146, 145, 146, 145, 143, 139, 144],
    False: [36, 36, 35, 37, 36, 36, 36, 36, 35, 36],
}


@pytest.mark.parametrize("name", SHA256)
def test_embedded_files(name):
    zipped = (FOLDER / f"{name}.gz").read_bytes()
    assert hashlib.sha256(gzip.decompress(zipped)).hexdigest() == SHA256[name]
    assert zipped[3] == 0, "a name in the gzip header"
    assert zipped[4:8] == bytes(4), "a time in the gzip header"


def test_readme_gives_the_checksums():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, digest in SHA256.items():
        assert f"{digest}  {name}\n" in readme


@pytest.mark.parametrize("train", [True, False])
def test_counts_and_values(train):
    x, y = parse_mnist(*digits_files(train))
    assert x.shape == (sum(COUNTS[train]), 64)
    assert np.bincount(y).tolist() == COUNTS[train]
    ink = np.rint(x * 16)
    assert set(ink.ravel().tolist()) == set(range(17))
    # What is stored is round(ink * 255 / 16), so the ink is found again.
    np.testing.assert_array_equal(x, np.rint(ink * 255 / 16).astype(np.float32) / np.float32(255))


def test_train_is_the_default():
    assert [file.name for file in digits_files()] == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]


def test_first_image():
    dataset = MNISTDataset(*digits_files(train=True))
    image, label = dataset[0]
    assert (len(dataset), image.shape, label) == (1438, (8, 8, 1), 0)
    np.testing.assert_array_equal(np.rint(image[0, :, 0] * 16), [0, 0, 5, 13, 9, 1, 0, 0])


def test_a_pass_over_the_digits():
    loader = DataLoader(MNISTDataset(*digits_files(train=False)), batch_size=100, shuffle=True)
    np.random.seed(0)
    shapes, labels = [], []
    for images, numbers in loader:
        shapes.append(images.shape)
        labels += numbers.numpy().astype(int).tolist()
    assert shapes == [(100, 8, 8, 1)] * 3 + [(59, 8, 8, 1)]
    assert np.bincount(labels).tolist() == COUNTS[False]


def test_the_two_parts_are_scikit_learns_digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    digits = datasets.load_digits()
    seen = [0] * 10
    test = []
    for digit in digits.target:
        test.append(seen[digit] % 5 == 2)
        seen[digit] += 1
    for train in (True, False):
        x, y = parse_mnist(*digits_files(train))
        chosen = np.array(test) != train
        np.testing.assert_array_equal(np.rint(x * 16), digits.data[chosen])
        np.testing.assert_array_equal(y, digits.target[chosen])


def test_made_again(tmp_path):
    pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    make_digits(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{n}.gz" for n in SHA256)
    for name, digest in SHA256.items():
        content = gzip.decompress((tmp_path / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == digest


def test_files_inside_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in FOLDER.glob("*.gz"):
            archive.write(path, path.name)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        inside = [zipfile.Path(archive, file.name) for file in digits_files(train=False)]
        _, y = parse_mnist(*inside)
    assert np.bincount(y).tolist() == COUNTS[False]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_files(tmp_path, suffix):
    for name in SHA256:
        (tmp_path / f"{name}{suffix}").touch()
    assert mnist_files(tmp_path) == mnist_files(tmp_path, train=True)
    assert mnist_files(str(tmp_path), train=True) == (
        tmp_path / f"train-images-idx3-ubyte{suffix}",
        tmp_path / f"train-labels-idx1-ubyte{suffix}",
    )
    assert mnist_files(tmp_path, train=False) == (
        tmp_path / f"t10k-images-idx3-ubyte{suffix}",
        tmp_path / f"t10k-labels-idx1-ubyte{suffix}",
    )


def test_mnist_files_prefer_gzip(tmp_path):
    for name in SHA256:
        (tmp_path / name).touch()
    (tmp_path / "t10k-images-idx3-ubyte.gz").touch()
    images, labels = mnist_files(tmp_path, train=False)
    assert (images.name, labels.name) == ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte")


@pytest.mark.parametrize("train", [True, False])
def test_all_missing_files_are_named(tmp_path, train):
    part, other = ("train", "t10k") if train else ("t10k", "train")
    folder = tmp_path / "data"
    with pytest.raises(FileNotFoundError) as caught:
        mnist_files(folder, train)
    message = str(caught.value)
    for word in (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz", str(folder)):
        assert word in message
    assert other not in message


def test_only_missing_files_are_named(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").touch()
    with pytest.raises(FileNotFoundError, match=r"no train-labels-idx1-ubyte\.gz") as caught:
        mnist_files(tmp_path)
    assert "train-images" not in str(caught.value)


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR names no folder with MNIST")
def test_mnist():
    x, y = parse_mnist(*mnist_files(os.environ["MNIST_DIR"], train=True))
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((60000, 784), np.float32, (60000,), np.uint8)
    assert y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # The norms of the course's own test, to four digits.
    assert np.linalg.norm(x[:10]) == pytest.approx(27.892084, rel=1e-4)
    assert np.linalg.norm(x[:1000]) == pytest.approx(293.0717, rel=1e-4)
    images, labels = MNISTDataset(*mnist_files(os.environ["MNIST_DIR"], train=False))[:]
    assert images.shape == (10000, 28, 28, 1)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert (float(images.min()), float(images.max())) == (0, 1)

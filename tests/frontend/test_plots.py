"""Pictures of a training run: what is in the files, what they refuse, what they need."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from needle_ir.plots import (
    PlotsMissingError,
    confusion_matrix,
    save_confusion_matrix,
    save_curves,
    save_worst_mistakes,
)

LABELS = np.array([0, 0, 1, 1, 2, 2, 2], np.uint8)
PREDICTED = np.array([0, 1, 1, 1, 2, 0, 0])
LOSSES = np.array([0.1, 3.0, 0.2, 0.1, 0.3, 1.5, 2.5], np.float32)
PANELS = {"loss": {"train": [3.0, 1.0, 0.5], "test": [2.0, 0.75, 0.8]}}


@pytest.fixture
def plots():
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")


def words(path):
    """The words of an SVG; matplotlib keeps each as a comment beside its outlines."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


def assert_pictures(paths, folder, name):
    assert paths == [folder / f"{name}.png", folder / f"{name}.svg"]
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.png", f"{name}.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert ET.parse(paths[1]).getroot().tag.endswith("svg")


@pytest.mark.usefixtures("plots")
def test_curves(tmp_path):
    panels = {**PANELS, "error": {"train": [0.5, 0.25, 0.0], "test": [0.5, 0.3, 0.2]}}
    paths = save_curves(tmp_path, panels, percent=["error"])
    assert_pictures(paths, tmp_path, "curves")
    found = words(paths[1])
    assert "loss: test at best 0.75, epoch 2" in found
    assert "error: test at best 20%, epoch 3" in found
    assert {"loss", "error", "0.5", "50%"} <= set(found)
    assert found.count("train") == found.count("test") == found.count("epoch") == 2


@pytest.mark.usefixtures("plots")
def test_the_scale_is_logarithmic_over_a_factor_of_ten(tmp_path):
    def found(*values):
        return words(save_curves(tmp_path, {"loss": {"train": values}})[1])

    ticks = found(2.0, 0.06)
    assert {"0.1", "0.2", "0.5", "1", "2"} <= set(ticks)
    assert not any("10^" in word or "times" in word for word in ticks)
    assert "0" in [word.replace("0.0", "0") for word in found(2.0, 1.0)], "it begins at zero"


@pytest.mark.usefixtures("plots")
def test_the_same_numbers_give_the_same_files(tmp_path):
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append([path.read_bytes() for path in save_curves(tmp_path / name, PANELS)])
    assert files[0] == files[1]


@pytest.mark.usefixtures("plots")
def test_numbers_that_are_none_are_drawn_as_gaps(tmp_path):
    nan = float("nan")
    paths = save_curves(tmp_path, {"loss": {"train": [nan, nan, nan], "test": [nan, 1.0, 2.0]}})
    assert "loss: test at best 1, epoch 2" in words(paths[1])
    paths = save_curves(tmp_path, {"loss": {"test": [nan, float("inf")]}})
    assert not any("at best" in word for word in words(paths[1]))


def test_the_confusion_matrix():
    counts = confusion_matrix(LABELS, PREDICTED, 3)
    wanted = np.zeros((3, 3), int)
    for given, predicted in zip(LABELS, PREDICTED, strict=True):
        wanted[given, predicted] += 1
    np.testing.assert_array_equal(counts, wanted)
    assert confusion_matrix(LABELS[:0], PREDICTED[:0], 2).shape == (2, 2)


@pytest.mark.usefixtures("plots")
def test_the_picture_of_the_confusion_matrix(tmp_path):
    paths = save_confusion_matrix(tmp_path, LABELS, PREDICTED, 3)
    assert_pictures(paths, tmp_path, "confusion")
    found = words(paths[1])
    assert "3 of 7 wrong" in found
    assert {"given", "predicted", "0", "1", "2"} <= set(found)


@pytest.mark.usefixtures("plots")
@pytest.mark.parametrize("predicted", [LABELS, (LABELS + 1) % 3])
def test_all_right_and_all_wrong(tmp_path, predicted):
    save_confusion_matrix(tmp_path, LABELS, predicted, 3)
    images = np.zeros((7, 4, 4, 1))
    save_worst_mistakes(tmp_path, images, LABELS, predicted, LOSSES)


@pytest.mark.usefixtures("plots")
def test_the_worst_mistakes_come_first(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (7, 4, 4, 1)).astype(np.uint8)
    paths = save_worst_mistakes(tmp_path, images, LABELS, PREDICTED, LOSSES)
    assert_pictures(paths, tmp_path, "mistakes")
    found = words(paths[1])
    given = [line for line in found if line.startswith("given")]
    assert given == ["given 0, predicted 1", "given 2, predicted 0", "given 2, predicted 0"]
    assert [line for line in found if line.startswith("loss")] == [
        "loss 3.00",
        "loss 2.50",
        "loss 1.50",
    ]
    assert "3 of 3 mistakes, the highest losses first" in found


@pytest.mark.usefixtures("plots")
def test_at_most_25_mistakes_are_drawn(tmp_path):
    labels, losses = np.zeros(40, int), np.linspace(0, 1, 40)
    paths = save_worst_mistakes(tmp_path, np.zeros((40, 2, 2)), labels, labels + 1, losses)
    assert "25 of 40 mistakes, the highest losses first" in words(paths[1])


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        ({"loss": {"train": [1.0], "test": [1.0, 2.0]}}, r"'loss' have \[1, 2\] numbers"),
        ({"loss": {"train": []}}, r"'loss' have \[0\] numbers"),
        ({"loss": {}}, r"'loss' have \[\] numbers"),
    ],
)
def test_curves_that_do_not_fit_are_refused(tmp_path, panels, message):
    with pytest.raises(ValueError, match=message):
        save_curves(tmp_path, panels)


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"labels have shape \(7,\), predictions \(6,\)"):
        save_confusion_matrix(tmp_path, LABELS, PREDICTED[1:], 3)
    with pytest.raises(ValueError, match="differ in number"):
        save_worst_mistakes(tmp_path, np.zeros((6, 2, 2)), LABELS, PREDICTED, LOSSES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("plots")
def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        save_curves(tmp_path / "nowhere", PANELS)


def test_without_matplotlib_there_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotsMissingError, match=r"pip install 'needle-ir\[plots\]'"):
        save_curves(tmp_path, PANELS)
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_imported_when_something_is_drawn():
    code = "import sys, needle_ir.plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

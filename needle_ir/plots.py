"""Pictures of a training run: curves, a confusion matrix, the worst mistakes.

They need matplotlib, which the extra `plots` installs. Every file appears whole or not at all.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from needle_ir.ir import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Paul Tol's bright scheme; lines differ in dashes too, for a grey print.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
_DASHES = ("-", "--", ":", "-.")
_RIGHT, _WRONG = "Blues", "Oranges"
_FORMATS = ("png", "svg")
_SETTINGS = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "needle_ir",  # the same numbers give the same file
    "savefig.dpi": 150,
}
_MOST_MISTAKES = 25
_COLUMNS = 5


class PlotsMissingError(ImportError):
    """matplotlib is not installed."""


def save_curves(
    folder: str | Path,
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    name: str = "curves",
    *,
    percent: Collection[str] = (),
) -> list[Path]:
    """Draw numbers by epoch as `curves.png` and `curves.svg` in `folder`; returns the files.

    `panels` has the lines of each panel by name: `{"loss": {"train": […], "test": […]}}`, one
    number an epoch, from epoch 1. The panels named by `percent` hold shares, from 0 to 1, and are
    drawn as per cent. The scale is logarithmic where all numbers of a panel are above zero and the
    largest is ten times the smallest. The lowest point of the last line is marked.

    Raises ValueError where lines of one panel differ in length or are empty, PlotsMissingError
    without matplotlib, OSError where a file can not be written.
    """
    for title, lines in panels.items():
        lengths = {len(line) for line in lines.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"the lines of {title!r} have {sorted(lengths)} numbers")
    figure = _figure(4.2 * len(panels), 3.2)
    for axes, (title, lines) in zip(_grid(figure, 1, len(panels)), panels.items(), strict=True):
        _draw_lines(axes, title, lines, title in percent)
    return _save(figure, Path(folder), name)


def save_confusion_matrix(
    folder: str | Path, labels: Array, predicted: Array, classes: int, name: str = "confusion"
) -> list[Path]:
    """Draw how often each class was taken for each other one, as PNG and SVG; returns the files.

    `labels` and `predicted` are integers of shape (n,), below `classes`. Rows are the given labels.
    The colour is the share of the row: blue for what is right, orange for what is wrong. Raises
    what `save_curves` raises.
    """
    if labels.shape != predicted.shape or labels.ndim != 1:
        raise ValueError(f"labels have shape {labels.shape}, predictions {predicted.shape}")
    counts = confusion_matrix(labels, predicted, classes)
    size = 1.6 + 0.36 * classes
    figure = _figure(size + 0.4, size)
    (axes,) = _grid(figure, 1, 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(classes, dtype=bool)
    axes.imshow(np.ma.masked_where(~diagonal, shares), cmap=_RIGHT, vmin=0, vmax=1.6)
    wrong = np.where(diagonal, 0.0, shares)
    top = max(float(wrong.max()), 0.02) * 1.4
    axes.imshow(np.ma.masked_where(wrong == 0, wrong), cmap=_WRONG, vmin=0, vmax=top)
    for row, column in np.argwhere(counts > 0):
        text = str(counts[row, column])
        weight = "normal" if row == column else "bold"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, fontweight=weight)
    axes.set_xticks(range(classes))
    axes.set_yticks(range(classes))
    axes.tick_params(length=0)
    axes.spines[:].set_color("#cccccc")
    axes.spines[:].set_visible(True)
    axes.set_xlabel("predicted")
    axes.set_ylabel("given")
    mistakes = int(counts.sum() - counts.trace())
    axes.set_title(f"{mistakes:,} of {counts.sum():,} wrong", fontsize=10)
    return _save(figure, Path(folder), name)


def save_worst_mistakes(
    folder: str | Path,
    images: Array,
    labels: Array,
    predicted: Array,
    losses: Array,
    name: str = "mistakes",
) -> list[Path]:
    """Draw the wrongly classified images with the highest losses as PNG and SVG. Returns the files.

    `images` have shape (n, rows, columns) or (n, rows, columns, 1), the others (n,). At most 25 are
    drawn, each with its given and its predicted label and its loss. Raises what `save_curves`
    raises.
    """
    if not len(images) == len(labels) == len(predicted) == len(losses):
        raise ValueError("images, labels, predictions and losses differ in number")
    wrong = np.flatnonzero(labels != predicted)
    worst = wrong[np.argsort(-losses[wrong], kind="stable")][:_MOST_MISTAKES]
    rows = max(1, -(-len(worst) // _COLUMNS))
    figure = _figure(1.35 * _COLUMNS, 1.75 * rows + 0.5)
    cells = _grid(figure, rows, _COLUMNS)
    for axes in cells:
        axes.axis("off")
    for axes, i in zip(cells, worst, strict=False):
        axes.imshow(images[i].reshape(images[i].shape[:2]), cmap="gray_r", interpolation="nearest")
        title = f"given {labels[i]}, predicted {predicted[i]}\nloss {losses[i]:.2f}"
        axes.set_title(title, fontsize=7)
    figure.suptitle(f"{len(worst)} of {len(wrong):,} mistakes, the highest losses first", size=10)
    return _save(figure, Path(folder), name)


def confusion_matrix(labels: Array, predicted: Array, classes: int) -> Array:
    """How often each given label (row) was predicted as each class (column)."""
    flat = labels.astype(np.int64) * classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def _draw_lines(
    axes: "Axes", title: str, lines: Mapping[str, Sequence[float]], is_percent: bool
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    scale, sign = (100, "%") if is_percent else (1, "")
    for number, (label, values) in enumerate(lines.items()):
        epochs = range(1, len(values) + 1)
        style = {
            "color": _COLOURS[number % len(_COLOURS)],
            "linestyle": _DASHES[number % len(_DASHES)],
        }
        axes.plot(epochs, values, marker="." if len(values) < 60 else None, label=label, **style)
    label, values = list(lines.items())[-1]
    heading = title
    finite_epochs = [i for i, value in enumerate(values) if np.isfinite(value)]
    if finite_epochs:
        best = min(finite_epochs, key=values.__getitem__)
        axes.plot(best + 1, values[best], "o", color="#222222", fillstyle="none", markersize=9)
        heading = f"{title}: {label} at best {scale * values[best]:.4g}{sign}, epoch {best + 1}"
    axes.set_title(heading, fontsize=9)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(title, fontsize=9)
    finite = [value for line in lines.values() for value in line if np.isfinite(value)]
    if finite and max(finite) >= 10 * min(finite) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif not finite or min(finite) >= 0:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{scale * value:.10g}{sign}"))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(which="both", labelsize=8)
    axes.tick_params(which="minor", length=0)
    axes.grid(visible=True, color="#e5e5e5", linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)


def _figure(width: float, height: float) -> "Figure":
    """A figure without a window, of this size in inches."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotsMissingError(
            "matplotlib is not installed; pip install 'needle-ir[plots]' installs it"
        ) from None
    with matplotlib.rc_context(_SETTINGS):
        return Figure(figsize=(width, height), layout="constrained")


def _grid(figure: "Figure", rows: int, columns: int) -> list["Axes"]:
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        return list(figure.subplots(rows, columns, squeeze=False).flat)


def _save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    import matplotlib

    from needle_ir.viz.atomic import replacing

    paths = [folder / f"{name}.{kind}" for kind in _FORMATS]
    for path, kind in zip(paths, _FORMATS, strict=True):
        # Without the date the same numbers give the same file.
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
        with matplotlib.rc_context(_SETTINGS), replacing(path) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata)
    return paths

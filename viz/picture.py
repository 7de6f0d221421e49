"""Pictures that always come out: by `dot`, with less in them, or without `dot`."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from needle_ir.viz.atomic import write_bytes
from needle_ir.viz.dot import dot_of
from needle_ir.viz.draw import draw
from needle_ir.viz.drawing import Drawing
from needle_ir.viz.render import TIMEOUT, DotError, DotTimeoutError, dot_picture
from needle_ir.viz.subject import Drawable, Level
from needle_ir.viz.svg import svg_of

_MAX_WORDS = 120
_MAX_OWN_BOXES = 1000  # with more of them, our own layout makes pictures metres wide

DOT_FORMATS = ("dot", "gv")
FORMATS = (*DOT_FORMATS, "svg", "png", "pdf")
"""The files that `save_picture` writes, by what their names end with."""


def to_stderr(line: str) -> None:
    """Tell the user one line."""
    print(line, file=sys.stderr)


class Picture(NamedTuple):
    """An SVG text. `notes` say how it differs from what was asked for; they are in the picture too.

    `trouble` is what kept `dot` from drawing it.
    """

    svg: str
    notes: tuple[str, ...]
    trouble: DotError | None


def to_svg(
    drawable: Drawable,
    *,
    level: Level | None = None,
    collapse: Sequence[str] | None = None,
    title: str | None = None,
    legend: bool = True,
    max_label: int = 32,
    timeout: float = TIMEOUT,
    report: Callable[[str], object] = to_stderr,
) -> str:
    """The picture of `to_dot` as SVG text. It always comes out.

    Where the layout takes longer than `timeout` seconds, the module level is drawn instead. Where
    that does too, where `dot` fails and where it is not installed, the layout is our own; it draws
    the module level for more than 1,000 boxes. What is different is told in the picture, and to
    `report`, one line each time.
    """
    picture = make_picture(
        lambda shown: draw(
            drawable,
            level=shown,
            collapse=collapse,
            title=title,
            legend=legend,
            max_label=max_label,
        ),
        level,
        timeout,
    )
    for note in picture.notes:
        report(note)
    return picture.svg


def save_picture(
    drawable: Drawable,
    path: str | os.PathLike[str],
    *,
    level: Level | None = None,
    collapse: Sequence[str] | None = None,
    title: str | None = None,
    legend: bool = True,
    max_label: int = 32,
    timeout: float = TIMEOUT,
    report: Callable[[str], object] = to_stderr,
) -> None:
    """Write the picture to a file, whole or not at all: `.svg`, `.png`, `.pdf`, or `.dot`.

    An `.svg` always comes out, as `to_svg` has it. A `.dot` is the text that `to_dot` makes; `.gv`
    is the same. `.png` and `.pdf` need the `dot` program; where the layout takes longer than
    `timeout` seconds, they show the module level. A `.png` has 144 pixels an inch.

    Raises ValueError for another ending, DotMissingError where a file needs the `dot` program and
    there is none, DotTimeoutError and DotError where it makes no picture of the module level
    either, OSError where `path` can not be written.
    """
    file = Path(path)
    format = picture_format(file)

    def draw_at(shown: Level | None) -> Drawing:
        return draw(
            drawable,
            level=shown,
            collapse=collapse,
            title=title,
            legend=legend,
            max_label=max_label,
        )

    if format in DOT_FORMATS:
        write_bytes(file, dot_of(draw_at(level)).source.encode())
        return
    if format == "svg":
        picture = make_picture(draw_at, level, timeout)
        data, notes = picture.svg.encode(), picture.notes
    else:
        _, found, notes, trouble = _by_dot(draw_at, level, timeout, format)
        if found is None:
            assert trouble is not None
            raise trouble
        data = found
    for note in notes:
        report(note)
    write_bytes(file, data)


def picture_format(path: Path) -> str:
    """What `save_picture` writes to a file of this name. Raises ValueError for no such format."""
    format = path.suffix.lower().removeprefix(".")
    if format not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise ValueError(f"{path} is no name of a picture; it may end with {endings}")
    return format


def make_picture(
    draw_at: Callable[[Level | None], Drawing], level: Level | None, timeout: float
) -> Picture:
    """The picture of what `draw_at` draws at a level, or at the module level."""
    drawing, svg, notes, trouble = _by_dot(draw_at, level, timeout, "svg")
    if svg is not None:
        return Picture(svg.decode(), notes, trouble)
    notes = (*notes, f"laid out without Graphviz: {str(trouble)[:_MAX_WORDS]}")
    if len(drawing.boxes) > _MAX_OWN_BOXES and level != "module":
        notes = (f"drawn by modules: {len(drawing.boxes):,} boxes need Graphviz", *notes)
        drawing = draw_at("module")
    return Picture(svg_of(replace(drawing, warnings=notes)), notes, trouble)


def _by_dot(
    draw_at: Callable[[Level | None], Drawing], level: Level | None, timeout: float, format: str
) -> tuple[Drawing, bytes | None, tuple[str, ...], DotError | None]:
    """The drawing, its picture by `dot` in a format, None where there is none, what it differs in
    from what was asked for, and what kept `dot` from drawing it.
    """
    drawing = draw_at(level)
    try:
        return drawing, dot_picture(dot_of(drawing), format, timeout), (), None
    except DotTimeoutError as error:
        if level == "module":
            return drawing, None, (), error
        notes = (f"drawn by modules: {error} for {len(drawing.boxes):,} boxes",)
        drawing = replace(draw_at("module"), warnings=notes)
        try:
            return drawing, dot_picture(dot_of(drawing), format, timeout), notes, error
        except DotError as second:
            return drawing, None, notes, second
    except DotError as error:
        return drawing, None, (), error

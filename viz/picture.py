"""Pictures that always come out: by `dot`, with less in them, or without `dot`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from needle_ir.viz.dot import dot_of
from needle_ir.viz.draw import draw
from needle_ir.viz.drawing import Drawing
from needle_ir.viz.render import TIMEOUT, DotError, DotTimeoutError, dot_svg
from needle_ir.viz.subject import Drawable, Level
from needle_ir.viz.svg import svg_of

_MAX_WORDS = 120


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
    that does too, where `dot` fails and where it is not installed, the layout is our own. What is
    different is told in the picture, and to `report`, one line each time.
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


def make_picture(
    draw_at: Callable[[Level | None], Drawing], level: Level | None, timeout: float
) -> Picture:
    """The picture of what `draw_at` draws at a level, or at the module level."""
    drawing = draw_at(level)
    notes: tuple[str, ...] = ()
    try:
        return Picture(dot_svg(dot_of(drawing), timeout), (), None)
    except DotTimeoutError as error:
        trouble: DotError = error
        if level != "module":
            notes = (f"drawn by modules: {error} for {len(drawing.boxes):,} boxes",)
            drawing = replace(draw_at("module"), warnings=notes)
            try:
                return Picture(dot_svg(dot_of(drawing), timeout), notes, error)
            except DotError as second:
                trouble = second
    except DotError as error:
        trouble = error
    notes = (*notes, f"laid out without Graphviz: {str(trouble)[:_MAX_WORDS]}")
    return Picture(svg_of(replace(drawing, warnings=notes)), notes, trouble)

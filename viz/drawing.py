"""A drawing: what is to be seen, with every word and colour, before anything has a position.

The DOT text and the fallback without Graphviz are two ways of writing the same drawing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from needle_ir.viz.places import Path
from needle_ir.viz.scene import Use
from needle_ir.viz.style import FAINT, NODE_SIZE, SMALL_SIZE, TEXT, Look
from needle_ir.viz.units import Unit


class Span(NamedTuple):
    """Words in one type."""

    text: str
    size: float = NODE_SIZE
    colour: str = TEXT
    is_bold: bool = False


Line = tuple[Span, ...]


def small(text: str, colour: str = FAINT, is_bold: bool = False) -> Line:
    """A line in small type."""
    return (Span(text, SMALL_SIZE, colour, is_bold),)


@dataclass(frozen=True)
class Box:
    """A box. `units` are the ops in it; it stands in the frame `place`.

    A stand-in is a box without a border: the small name of an op that is drawn elsewhere.
    """

    id: str
    place: Path
    lines: tuple[Line, ...]
    tooltip: str
    units: tuple[Unit, ...]
    look: Look | None  # None for a stand-in


@dataclass(frozen=True)
class Arrow:
    """An edge, from operand to reader.

    `lines` are the words beside it. `pushes` where it puts its head below its tail, `is_upward`
    where it puts it above: the backward pass of a mirrored drawing. `is_level` where its ends are
    to stand side by side.
    """

    tail: str
    head: str
    lines: tuple[str, ...]
    width: float
    colour: str
    is_dashed: bool
    pushes: bool
    is_upward: bool
    is_level: bool
    uses: tuple[Use, ...]


class LegendCell(NamedTuple):
    """One entry of the legend: a word on a fill, with a border."""

    text: str
    fill: str
    border: str
    style: str = ""
    width: int = 1


class FrameNote(NamedTuple):
    """What the label of a frame says besides its name, and the frame's fill where it has one."""

    text: str
    fill: str | None


@dataclass(frozen=True)
class Drawing:
    """What is to be seen. `heading` has a large first line, and may be empty; `warnings` stand
    below it.

    `frames` has notes for frames by their paths; the frames themselves follow from the places.

    `pairs` are ids of which the second is to stand below the first although no edge goes there,
    `rows` are ids that are to stand side by side.
    """

    name: str
    heading: tuple[str, ...]
    warnings: tuple[str, ...]
    legend: tuple[LegendCell, ...]
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    frames: Mapping[Path, FrameNote]
    pairs: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]

"""The table of looks: what kind of node an op is, and how a kind is drawn.

Kinds are read from an op's traits, so a new op has a look without a word here. Fills are the pale
scheme of Paul Tol's colour-blind safe palettes (SRON/EPS/TN/09-002), borders the dark one. Kinds
differ in shape or border style as well, so that a grey print can be read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from needle_ir.ir import CONSTANT, INPUT, Op, Trait
from needle_ir.viz.change import Mark

FONT = "Helvetica,Arial,sans-serif"
TEXT = "#222222"
FAINT = "#666666"
LINE = "#999999"
WARNING = "#aa3377"
REUSE = "#aa3377"
BACKGROUND = "#ffffff"

TITLE_SIZE, NODE_SIZE, SMALL_SIZE, EDGE_SIZE = 14, 11, 9, 8


class Kind(Enum):
    """What a reader tells apart at first sight. The value is the word in the legend."""

    INPUT = "input"
    CONSTANT = "constant"
    MARKER = "marker"
    COMPOSITE = "composite"
    EFFECT = "random, effect"
    CONTRACTION = "contraction"
    REDUCTION = "reduction"
    VIEW = "view"
    ELEMENTWISE = "elementwise"
    OTHER = "other"


@dataclass(frozen=True)
class Look:
    """How a box is drawn: colours as `#rrggbb`, `shape` and `style` in Graphviz's words."""

    fill: str
    border: str
    shape: str = "box"
    style: str = "filled"
    width: float = 1.0
    is_double: bool = False


# The first row that fits names the kind.
_TESTS: tuple[tuple[Kind, Callable[[Op], bool]], ...] = (
    (Kind.INPUT, lambda op: op is INPUT),
    (Kind.CONSTANT, lambda op: op is CONSTANT),
    (Kind.MARKER, lambda op: op.has(Trait.MARKER)),
    (Kind.COMPOSITE, lambda op: op.decompose is not None),
    (Kind.EFFECT, lambda op: op.has(Trait.RANDOM) or op.has(Trait.EFFECT)),
    (Kind.CONTRACTION, lambda op: op.has(Trait.CONTRACTION)),
    (Kind.REDUCTION, lambda op: op.has(Trait.REDUCTION)),
    (Kind.VIEW, lambda op: op.has(Trait.VIEW)),
    (Kind.ELEMENTWISE, lambda op: op.has(Trait.ELEMENTWISE)),
    (Kind.OTHER, lambda op: True),
)

# The kind of a box with several ops in it is the first of these that one of them has.
_HEAVIEST = (
    Kind.CONTRACTION,
    Kind.REDUCTION,
    Kind.EFFECT,
    Kind.COMPOSITE,
    Kind.ELEMENTWISE,
    Kind.OTHER,
    Kind.MARKER,
    Kind.VIEW,
    Kind.INPUT,
    Kind.CONSTANT,
)

LOOKS: dict[Kind, Look] = {
    Kind.INPUT: Look("#dddddd", "#555555", style="filled,rounded"),
    Kind.CONSTANT: Look("#f4f4f4", "#888888", shape="oval"),
    Kind.MARKER: Look("#ffffff", "#663333", shape="note"),
    Kind.COMPOSITE: Look("#eeeebb", "#666633", style="filled,rounded,bold", width=2.0),
    Kind.EFFECT: Look("#ffcccc", "#663333", shape="component"),
    Kind.CONTRACTION: Look("#bbccee", "#222255", style="filled,bold", width=2.0),
    Kind.REDUCTION: Look("#ccddaa", "#225522"),
    Kind.VIEW: Look("#ffffff", "#555555", style="filled,dashed"),
    Kind.ELEMENTWISE: Look("#cceeff", "#225555", style="filled,rounded"),
    Kind.OTHER: Look("#ffffff", "#222222", style="filled,dotted"),
}

# Colours of Tol's bright scheme, each with a sign for a grey print.
MARKS: dict[Mark, tuple[str, str]] = {
    Mark.ADDED: ("#117733", "+"),
    Mark.REMOVED: ("#cc3311", "−"),  # noqa: RUF001
    Mark.TOUCHED: ("#cc8800", "~"),
}

GRAPH_LOOK = {
    "rankdir": "TB",
    "newrank": "true",
    "fontname": FONT,
    "fontcolor": TEXT,
    "labelloc": "t",
    "labeljust": "l",
    "nodesep": "0.2",
    "ranksep": "0.3",
}
ROWS_LOOK = {"nodesep": "0.5"}  # room for the words on edges between boxes of a row
NODE_LOOK = {
    "fontname": FONT,
    "fontcolor": TEXT,
    "fontsize": str(NODE_SIZE),
    "margin": "0.1,0.05",
    "height": "0.3",
    "width": "0.5",
}
EDGE_LOOK = {
    "fontname": FONT,
    "fontcolor": FAINT,
    "fontsize": str(EDGE_SIZE),
    "color": LINE,
    "penwidth": "0.8",
    "arrowsize": "0.5",
}
STAND_IN_LOOK = {
    "shape": "plaintext",
    "fontsize": str(SMALL_SIZE),
    "fontcolor": FAINT,
    "height": "0.15",
    "width": "0.1",
    "margin": "0.03,0.02",
}
INVISIBLE_LOOK = {"style": "invis"}
PHASE_LOOK = {
    "style": "filled,rounded",
    "fillcolor": "#f3f3f3",
    "color": "#bbbbbb",
    "fontsize": "13",
    "margin": "12",
}
MODULE_LOOK = {
    "style": "filled,rounded",
    "fillcolor": "#ffffff",
    "color": "#bbbbbb",
    "fontsize": "10",
    "fontcolor": FAINT,
    "margin": "8",
}


def kind_of(op: Op) -> Kind:
    """The kind of a node with this op, read from the op's traits."""
    return next(kind for kind, fits in _TESTS if fits(op))


def heaviest(kinds: Iterable[Kind]) -> Kind:
    """The kind of a box that holds ops of these kinds."""
    return min(kinds, key=_HEAVIEST.index)


def attribute_text(attributes: Mapping[str, str]) -> str:
    """Attributes as DOT has them. The values hold no quotes and no backslashes."""
    return " ".join(f'{name}="{value}"' for name, value in attributes.items())

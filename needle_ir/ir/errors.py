"""Errors that a program can make: wrong shapes, wrong dtypes, a broken graph."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from needle_ir.ir.origin import Origin


class OpError(Exception):
    """An op was given operands that it does not take.

    `reason` says what is wrong and what to do, `origin` where it was recorded.
    """

    def __init__(self, reason: str, origin: "Origin | None" = None):
        super().__init__(reason)
        self.reason = reason
        self.origin = origin

    def __str__(self) -> str:
        return self.reason if self.origin is None else f"{self.reason} (at {self.origin})"


class ShapeError(OpError, ValueError):
    """Shapes that do not fit the op or each other."""


class DTypeError(OpError, TypeError):
    """Dtypes or operand kinds that the op does not take."""


class OperandValueError(OpError, ValueError):
    """Values, known when the op runs, that it does not take: an integer to a negative power."""


class OperandIndexError(OpError, IndexError):
    """Indices, known when the op runs, that lie outside of the axis."""


class VerificationError(Exception):
    """A graph that breaks a rule of the IR. The message names the node and the rule."""

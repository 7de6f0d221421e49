"""What arguments may be: a wrong one gets its error where it enters."""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from needle_ir.ir import ShapeError
from needle_ir.tensor import Tensor

# A union is put together each time that it is written.
_NUMBERS = (int, float, np.integer, np.floating)


def whole_number(name: str, value: Any, at_least: int = 0) -> int:
    """`value` as an int. Raises TypeError where it is no integer, ValueError where it is less."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be an integer") from None
    if number < at_least:
        raise ValueError(f"{name} is {number}; it must be at least {at_least}")
    return number


def real_number(name: str, value: Any) -> Any:
    """`value` itself. Raises TypeError where it is no Python or NumPy number."""
    if not isinstance(value, _NUMBERS):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    return value


def non_negative(name: str, value: Any) -> Any:
    """`value` itself. Raises TypeError where it is no number, ValueError where it is negative."""
    if not real_number(name, value) >= 0:
        raise ValueError(f"{name} is {value}; it must not be negative")
    return value


def fraction(name: str, value: Any, *, or_one: bool = False) -> Any:
    """`value` itself. Raises TypeError where it is no number, ValueError where it does not lie in
    [0, 1), or in [0, 1] with `or_one`.
    """
    if not (0 <= real_number(name, value) < 1 or (or_one and value == 1)):
        raise ValueError(f"{name} is {value}; it must lie in [0, 1{']' if or_one else ')'}")
    return value


def lengths(name: str, shape: Iterable[Any]) -> tuple[int, ...]:
    """The lengths of axes as ints. Raises TypeError for what is no integer, ShapeError for a
    length below 0.
    """
    shape = tuple(shape)
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        spread = ", ".join(map(repr, shape[0]))
        raise TypeError(f"{name}({shape[0]!r}): write the lengths of the axes as {name}({spread})")
    for length in shape:
        try:
            number = operator.index(length)
        except TypeError:
            raise TypeError(f"{name}: the length {length!r} of an axis is no integer") from None
        if number < 0:
            raise ShapeError(f"{name}: shape {shape} has a length below 0")
    return tuple([operator.index(length) for length in shape])


def check_array(name: str, x: Any) -> None:
    """Raise TypeError where `x` is neither a tensor nor an array."""
    if not isinstance(x, Tensor) and not isinstance(x, np.ndarray):
        raise TypeError(f"{name} takes a Tensor, not {type(x).__name__}")


def check_function(name: str, fn: Any) -> None:
    """Raise TypeError where `fn` can not be called."""
    if not callable(fn):
        raise TypeError(f"{name} takes a function, not {type(fn).__name__}")

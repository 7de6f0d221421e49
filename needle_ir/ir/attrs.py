"""The attributes of a node: an immutable, hashable mapping."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class Attrs(Mapping[str, Any]):
    """Attributes by name, in sorted order. Values are numbers, strings, None, dtypes, arrays,
    graphs and tuples of these.

    Two `Attrs` are equal when every bit of every value is, and every graph the same program.
    Python's own equality would merge 0.0 with -0.0 and True with 1.
    """

    __slots__ = ("_hash", "_key", "_values")

    def __init__(self, values: Mapping[str, Any]):
        names = values if len(values) < 2 else sorted(values)
        self._values = {name: _frozen(values[name]) for name in names}
        self._key: tuple[Any, ...] | None = None
        self._hash: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value that is equal exactly where the attributes are the same bits."""
        if self._key is None:
            self._key = tuple((name, _value_key(value)) for name, value in self._values.items())
        return self._key

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Attrs) and self.key == other.key)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.key)
        return self._hash

    def __repr__(self) -> str:
        return f"Attrs({self._values!r})"


NO_ATTRS = Attrs({})


def _frozen(value: Any) -> Any:
    return tuple(value) if type(value) is list else value


def _value_key(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        # Equality of floats is that of their bits but for zeros and NaN.
        return (float, value) if value and value == value else (float, value.hex())
    if kind is tuple:
        return tuple(map(_value_key, value))
    if isinstance(value, np.ndarray | np.generic):
        return (kind, value.dtype.str, value.shape, value.tobytes())
    structural_key = getattr(value, "structural_key", None)  # a graph has one
    return (kind, value) if structural_key is None else (kind, structural_key())

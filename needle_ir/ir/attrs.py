"""The attributes of a node: an immutable, hashable mapping."""

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

import numpy as np


class Attrs(Mapping[str, Any]):
    """Attributes by name, in sorted order. Values are numbers, strings, None, dtypes, arrays,
    graphs and tuples of these.

    Two `Attrs` are equal when every bit of every value is, and every graph the same program.
    Python's own equality would merge 0.0 with -0.0 and True with 1. Without arrays and graphs
    there is one object for each set of attributes, as there is for each type.
    """

    __slots__ = ("__weakref__", "_key", "_values")

    _values: dict[str, Any]
    _key: tuple[Any, ...] | None

    def __new__(cls, values: Mapping[str, Any]) -> "Attrs":
        """The attributes with these values."""
        names = values if len(values) < 2 else sorted(values)
        frozen = {name: _frozen(values[name]) for name in names}
        if not all(map(_is_plain, frozen.values())):
            return _made(_Compared, frozen, None)
        key = _key_of(frozen)
        found = _interned.get(key)
        if found is not None:
            return found
        # Another thread may have been first.
        return _interned.setdefault(key, _made(Attrs, frozen, key))

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable value that is equal exactly where the attributes are the same bits."""
        if self._key is None:
            self._key = _key_of(self._values)
        return self._key

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[type["Attrs"], tuple[dict[str, Any]]]:
        return Attrs, (self._values,)

    def __repr__(self) -> str:
        return f"Attrs({self._values!r})"


class _Compared(Attrs):
    """Attributes with an array or a graph among them. Their key is long and seldom asked for."""

    __slots__ = ("_hash",)

    _hash: int

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Compared) and self.key == other.key)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = hash(self.key)
            return self._hash


def _made(kind: type[Attrs], values: dict[str, Any], key: tuple[Any, ...] | None) -> Attrs:
    new = object.__new__(kind)
    new._values = values
    new._key = key
    return new


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is tuple:
        return all(map(_is_plain, value))
    return kind in _PLAIN or isinstance(value, np.dtype | np.generic)


def _key_of(values: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple([(name, _value_key(value)) for name, value in values.items()])


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
        # Not by `kind`: NumPy has two classes for integers of one size.
        is_array = isinstance(value, np.ndarray)
        return (is_array, value.dtype.str, value.shape, value.tobytes())
    structural_key = getattr(value, "structural_key", None)  # a graph has one
    return (kind, value) if structural_key is None else (kind, structural_key())


_PLAIN = {bool, int, float, str, type(None)}
_interned: WeakValueDictionary[tuple[Any, ...], Attrs] = WeakValueDictionary()
NO_ATTRS = Attrs({})

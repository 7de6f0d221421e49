"""The ops that the text form knows by name.

The IR has no op of its own but inputs and constants. `needle_ir.ops` registers its ops here, and
`composite` each one that a user writes, so that a text can be read back.
"""

import threading
from collections.abc import Iterable
from weakref import WeakKeyDictionary, ref

from needle_ir.ir.node import Op

_library: dict[str, Op] = {}
# The others, by the name that texts have for them, then by what was defined. The references are
# weak: a composite that was made in a function goes when nobody holds it any more.
_others: dict[str, dict[object, ref[Op]]] = {}
# Those that have the name of an op of the library, and what they are called in its place.
_renamed: "WeakKeyDictionary[Op, str]" = WeakKeyDictionary()
_lock = threading.Lock()


def register_library(ops: Iterable[Op]) -> None:
    """Let texts name the ops of the library. In a text, such a name means no other op."""
    _library.update({op.name: op for op in ops})


def register_op(op: Op, definition: str | None = None) -> None:
    """Let texts name `op`.

    `definition` says what defines it, such as `module.function`. To define the same thing again
    replaces it, as running a cell of a notebook twice does. Ops of one name that are defined in
    several places all stay, and so does each one without a `definition`: a text that uses such a
    name is ambiguous, and is refused. An op with the name of one of the library is called by its
    definition.
    """
    with _lock:
        name = op.name
        if _library.get(name, op) is not op:
            name = _renamed[op] = definition or f"another.{name}"
        known = _others.setdefault(name, {})
        for key in [key for key, reference in known.items() if reference() is None]:
            del known[key]
        known[object() if definition is None else definition] = ref(op)


def written_name(op: Op) -> str:
    """What `op` is called in a text."""
    return op.name if op.decompose is None else _renamed.get(op, op.name)


def registered_ops(name: str) -> dict[Op, str]:
    """The ops that a text may mean by this name, each with the place of its definition."""
    if name in _library:
        return {_library[name]: "the library"}
    with _lock:
        found = {x(): key for key, x in _others.get(name, {}).items()}
    places = {op: key if isinstance(key, str) else "a function" for op, key in found.items()}
    return {op: place for op, place in places.items() if op is not None}


def registered_names() -> list[str]:
    """What all ops are called that are known, sorted."""
    with _lock:
        others = [x() for ops in _others.values() for x in ops.values()]
    return sorted({*_library, *[written_name(op) for op in others if op is not None]})

"""Signatures of calls: what must be the same for a program to serve another call, and the words."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from needle_ir.ir import TensorType
from needle_ir.tensor import Tensor
from needle_ir.tracing import is_dynamic, type_of

_LONGEST_VALUE = 60


class Signature(NamedTuple):
    """The structure of a call's arguments, and of each leaf its type, or kind and value.

    Tensors and arrays count by type and by whether they require a gradient, anything else is
    static: it counts by its value.
    """

    tree: Hashable
    parts: tuple[Any, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(show_part, self.parts))})"


class Mismatch(NamedTuple):
    """Why a call is none of those before. `number` is the name of the argument where nothing but
    one static number differs, else None.
    """

    words: str
    number: str | None = None


def signature(leaves: Sequence[Any], tree: Hashable) -> Signature:
    """The signature of a call with these arguments. Raises TypeError for what can not be hashed."""
    parts: list[Hashable] = []
    for leaf in leaves:
        if is_dynamic(leaf):
            requires_grad = isinstance(leaf, Tensor) and leaf.requires_grad
            parts.append((type_of(leaf), requires_grad))
            continue
        try:
            hash(leaf)
        except TypeError:
            raise TypeError(
                f"an argument of type {type(leaf).__name__} is neither a tensor, an array nor "
                "hashable: pass a tensor for data, a hashable value for a static argument"
            ) from None
        # Python's own equality would merge 0.0 with -0.0.
        is_float = isinstance(leaf, float | np.floating)
        parts.append((type(leaf), float(leaf).hex() if is_float else leaf))
    return Signature(tree, tuple(parts))


def mismatch(new: Signature, kept: Iterable[Signature], names: Sequence[str]) -> Mismatch:
    """How `new` differs from the nearest of `kept`; of several, from the last one.

    `names` are those of the leaves of `new`.
    """
    near = [old for old in kept if old.tree == new.tree]
    if not near:
        return Mismatch(f"called with arguments of another structure, {new}")

    def differing(old: Signature) -> list[int]:
        return [i for i, part in enumerate(new.parts) if part != old.parts[i]]

    nearest = min(reversed(near), key=lambda old: len(differing(old)))
    changed = differing(nearest)
    pairs = [(names[i], nearest.parts[i], new.parts[i]) for i in changed]
    words = [f"{name}: {_changed(before, now)}" for name, before, now in pairs]
    name, before, now = pairs[0]
    if len(pairs) == 1 and _is_number(before) and _is_number(now):
        advice = "; it is static: pass it as a tensor, and it does not compile again"
        return Mismatch(words[0] + advice, name)
    return Mismatch("; ".join(words))


def show_part(part: Any) -> str:
    """One argument in words: a type, or a static value."""
    if isinstance(part, TensorType):
        return str(part)
    if isinstance(part, type):
        return part.__name__
    kind, value = part
    if isinstance(kind, TensorType):
        return f"{kind} with requires_grad" if value else str(kind)
    text = repr(float.fromhex(value) if issubclass(kind, float | np.floating) else value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _changed(before: Any, now: Any) -> str:
    texts = show_part(before), show_part(now)
    if texts[0] == texts[1]:
        texts = (f"{texts[0]} of {before[0].__name__}", f"{texts[1]} of {now[0].__name__}")
    return f"{texts[0]} before, {texts[1]} now"


def _is_number(part: Any) -> bool:
    kind = part[0]
    if isinstance(kind, TensorType) or kind is bool:
        return False
    return issubclass(kind, int | float | np.number)

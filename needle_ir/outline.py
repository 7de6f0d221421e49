"""Recorded programs in outline, and in words how one differs from another.

The plan cache keeps the outline of each program, to say why a new one is none of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from needle_ir.ir import CONSTANT, Origin, TensorType, print_attr

_SHOWN = 3  # of the inputs or constants that differ
_KNOWN = "known"


@dataclass(frozen=True)
class Outline:
    """What the key of the plan cache says of a program, with the names and lines behind it.

    `rows` and `roots` are the key: a row is the type of an input, or op, attributes and operands.
    `site` is the line that asked for the program. No node is held, and no
    array but those of constants.
    """

    rows: Sequence[Any]
    roots: tuple[tuple[int, ...], ...]
    names: dict[int, str]  # of the inputs, by row
    origins: Sequence[Origin | None]
    site: Origin | None


@dataclass(frozen=True)
class Difference:
    """Why a program is not one that was kept.

    `constant` is the line that reads it where nothing but a number differs, else None.
    """

    words: str
    constant: Origin | None = None


def why_not(new: Outline, kept: Iterable[Outline]) -> Difference:
    """How `new` differs from the nearest of `kept`, the one that was used last coming first."""
    near = [(_distance(new, old), i, old) for i, old in enumerate(kept)]
    for distance, _, old in sorted(near, key=lambda entry: entry[:2]):
        same_site = new.site is not None and new.site == old.site
        if same_site or 2 * distance <= len(new.rows):
            return difference(old, new)
    return Difference("first time" + ("; no program kept is like it" if near else ""))


def _distance(a: Outline, b: Outline) -> int:
    differing = sum(x != y for x, y in zip(a.rows, b.rows, strict=False))
    return differing + abs(len(a.rows) - len(b.rows))


def difference(old: Outline, new: Outline) -> Difference:
    """How `new` differs from `old`: inputs of other types, else numbers, else the first op."""
    inputs: list[str] = []
    numbers: list[tuple[str, Origin | None]] = []
    attributes: list[str] = []
    shorter = True
    structure = None
    for i, (before, now) in enumerate(zip(old.rows, new.rows, strict=False)):
        if before == now:
            continue
        if isinstance(before, TensorType) and isinstance(now, TensorType):
            inputs.append(f"{new.names.get(i, 'an input')}: {before} before, {now} now")
            shorter = shorter and _is_shorter(before, now)
        elif _is_constant(before) and _is_constant(now):
            numbers.append(_constant(before, now, i, new))
        elif _same_call(before, now):
            attributes.append(_attributes(before, now, i, new))
        else:
            structure = _structure(before, now, i, old, new)
            break
    if inputs:
        hint = " (a short last batch?)" if shorter else ""
        return Difference(_listed(inputs) + hint)
    if numbers:
        only = numbers[0][1] if not attributes and structure is None else None
        advice = ": pass it as a tensor, and it does not compile again"
        words = _listed([words for words, _ in numbers])
        return Difference(f"a constant changed: {words}{advice}", only)
    if attributes:
        return Difference(attributes[0])
    return Difference(structure or _ends(old, new))


def _is_shorter(before: TensorType, now: TensorType) -> bool:
    """Whether the first axis has become shorter and nothing else has changed."""
    return (
        before.dtype == now.dtype
        and before.shape[1:] == now.shape[1:]
        and before.shape[:1] > now.shape[:1]
    )


def _is_constant(row: Any) -> bool:
    return not isinstance(row, TensorType) and row[0] is CONSTANT


def _same_call(before: Any, now: Any) -> bool:
    """Whether two rows have the same op and operands, and so differ in attributes alone."""
    if isinstance(before, TensorType) or isinstance(now, TensorType):
        return False
    return bool(before[0] is now[0] and before[0] != _KNOWN and before[2:] == now[2:])


def _constant(before: Any, now: Any, row: int, outline: Outline) -> tuple[str, Origin | None]:
    words = f"{print_attr(before[1]['value'])} before, {print_attr(now[1]['value'])} now"
    for i in range(row + 1, len(outline.rows)):
        reader = _call(outline.rows[i])
        if reader is not None and row in reader[2:]:
            return f"{words}, in {reader[0].name}{_at(outline, i)}", outline.origins[i]
    return words, None


def _attributes(before: Any, now: Any, row: int, outline: Outline) -> str:
    keys = [dict(attrs.key) for attrs in (before[1], now[1])]
    names = [
        name for name in keys[0].keys() | keys[1].keys() if keys[0].get(name) != keys[1].get(name)
    ]
    old, new = (
        ", ".join(f"{name}={print_attr(attrs[name])}" for name in sorted(names) if name in attrs)
        for attrs in (before[1], now[1])
    )
    return f"op {row}, {now[0].name}: {old} before, {new} now{_at(outline, row)}"


def _structure(before: Any, now: Any, row: int, old: Outline, new: Outline) -> str:
    called, calls = _call(before), _call(now)
    for inputs, ops, words in (
        (new, old, "is an input now; before, the program computed it"),
        (old, new, "was an input before; now the program computes it"),
    ):
        origin = _computed_before(inputs, ops)
        if origin is not None:
            return f"the value of {origin} {words}"
    if called is None:
        assert calls is not None
        name = old.names.get(row, "a known value")
        return f"op {row}: the input {name} before, {calls[0].name} now{_at(new, row)}"
    if calls is None:
        name = new.names.get(row, "a known value")
        where = _at(old, row)
        return f"op {row}: {called[0].name}{where} before, the input {name} now"
    if called == calls:
        when = "now" if before is called else "before"
        return f"op {row}: the value of {calls[0].name}{_at(new, row)} is known {when}"
    if called[0] is calls[0]:
        return f"op {row}: {calls[0].name} reads other operands{_at(new, row)}"
    return f"op {row}: {called[0].name} before, {calls[0].name} now{_at(new, row)}"


def _computed_before(a: Outline, b: Outline) -> Origin | None:
    """The line of an input of `a` that `b` computes: a value that was read half-way."""
    inputs: set[Origin] = set()
    made: set[Origin] = set()
    for row, origin in zip(b.rows, b.origins, strict=True):
        if origin is not None:
            (inputs if isinstance(row, TensorType) else made).add(origin)
    # An optimizer's results are inputs of the next step in any case.
    made = {origin for origin in made - inputs if origin.phase != "update"}
    for row, origin in zip(a.rows, a.origins, strict=True):
        if isinstance(row, TensorType) and origin in made:
            return origin
    return None


def _ends(old: Outline, new: Outline) -> str:
    """What two programs differ in of which one is the beginning of the other."""
    extra, longer, shorter = len(new.rows) - len(old.rows), new, old
    if extra < 0:
        extra, longer, shorter = -extra, old, new
    if extra:
        start = len(shorter.rows)
        call = _call(longer.rows[start])
        what = "an input" if call is None else f"{call[0].name}{_at(longer, start)}"
        return f"{extra} ops {'more' if longer is new else 'fewer'} than before, first {what}"
    before, now = ({i for nodes in x.roots for i in nodes} for x in (old, new))
    changed = sorted(now - before) or sorted(before - now)
    call = _call(new.rows[changed[0]]) if changed else None
    what = "" if call is None else f": {call[0].name}{_at(new, changed[0])}"
    verb = "also asked for" if now - before else "no longer asked for"
    count = f"results: {len(before)} before, {len(now)} now"
    return f"{count}; {verb}{what}" if what else f"{count}, in another order"


def _call(row: Any) -> tuple[Any, ...] | None:
    """Op, attributes and operands of a row; None for the row of an input."""
    if isinstance(row, TensorType):
        return None
    return row[1] if row[0] == _KNOWN else row


def _at(outline: Outline, row: int) -> str:
    origin = outline.origins[row]
    return "" if origin is None else f" ({origin})"


def _listed(parts: list[str]) -> str:
    more = f"; and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return "; ".join(parts[:_SHOWN]) + more

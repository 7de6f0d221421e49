"""What modules hold, and whether they hold it still.

A compiled function reads the tensors that its trace met. Where an attribute was given another
tensor since, as in `layer.weight = Parameter(...)`, the trace is no longer the function's.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import getitem, is_
from typing import Any, NamedTuple


class Held(NamedTuple):
    """One place that held something: `holder[key] is value`. `path` names it."""

    holder: Any
    key: Any
    value: object
    path: str


def holdings(owner: object) -> list[Held]:
    """What an object holds: its attributes, and what lists, tuples and dicts among them hold."""
    found: list[Held] = []
    attributes = vars(owner)
    stack: list[tuple[Any, str]] = [(attributes, "")]
    seen = {id(attributes)}
    while stack:
        holder, within = stack.pop()
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            path = f"{within}[{key!r}]" if within else f"{type(owner).__name__}.{key}"
            found.append(Held(holder, key, value, path))
            if isinstance(value, list | tuple | dict) and id(value) not in seen:
                seen.add(id(value))
                stack.append((value, path))
    return found


@dataclass(frozen=True)
class Holdings:
    """The places that a trace depends on, and the length of each list or dict among them."""

    places: tuple[Held, ...]
    lengths: tuple[tuple[Any, int, str], ...]

    def what_changed(self) -> str | None:
        """Which place holds something else by now, in words; None where all are as they were."""
        if self._is_as_it_was():
            return None
        try:
            for holder, key, value, path in self.places:
                if holder[key] is not value:
                    return _replaced(path, value, holder[key])
        except LookupError:
            return f"{path} is gone"
        for container, length, path in self.lengths:
            if len(container) != length:
                return f"{path} has {len(container)} entries, had {length}"
        return None

    # A jitted step asks in every call about some hundred places, and the answer is mostly None.
    @cached_property
    def _is_as_it_was(self) -> Callable[[], bool]:
        holders, keys, values, _ = zip(*self.places, strict=True) if self.places else ((),) * 4
        containers = [container for container, _, _ in self.lengths]
        lengths = [length for _, length, _ in self.lengths]

        def is_as_it_was() -> bool:
            try:
                same = all(map(is_, map(getitem, holders, keys), values))
            except LookupError:
                return False
            return same and [*map(len, containers)] == lengths

        return is_as_it_was


def settled(found: Iterable[Held], read: Collection[int]) -> Holdings:
    """Of what was found when a trace met its objects, the part that the trace depends on.

    These are the places of what it `read` (tensors and modules, by id), of the containers around
    them, and of None, which a branch may have asked for. What the trace itself assigned to is left
    out: it is another object after each trace.
    """
    found = tuple(found)
    containers: dict[int, Held] = {}
    for held in found:
        if isinstance(held.value, list | tuple | dict):
            containers.setdefault(id(held.value), held)
    keys: dict[int, set[Any]] = {}
    for held in found:
        if id(held.holder) in containers:
            keys.setdefault(id(held.holder), set()).add(held.key)

    depended, last = set(read), 0
    while len(depended) != last:
        last = len(depended)
        holders = {id(held.holder) for held in found if id(held.value) in depended}
        depended |= holders & keys.keys()

    places = [
        held
        for held in found
        if id(held.value) in depended
        or (held.value is None and (id(held.holder) in depended or id(held.holder) not in keys))
    ]
    lengths: list[tuple[Any, int, str]] = [
        (containers[i].value, len(held_keys), containers[i].path)
        for i, held_keys in keys.items()
        if i in depended
    ]
    return Holdings(
        tuple(held for held in places if _holds(held)),
        tuple(entry for entry in lengths if len(entry[0]) == entry[1]),
    )


def _holds(held: Held) -> bool:
    try:
        return held.holder[held.key] is held.value
    except LookupError:
        return False


def _replaced(path: str, before: object, now: object) -> str:
    name = getattr(before, "name", None)  # a tensor's, which tells one Linear from the next
    path = f"{path} ({name})" if isinstance(name, str) else path
    if type(before) is type(now):
        return f"{path} is another {type(now).__name__}"
    kinds = ["None" if value is None else type(value).__name__ for value in (now, before)]
    return f"{path} is {kinds[0]}, was {kinds[1]}"

"""The plan cache: compiled programs by the structure of what was recorded."""

import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from needle_ir.compiler import Program, compile_graph
from needle_ir.ir import INPUT, Node, Op, capture_origin
from needle_ir.recompiles import Dropped, dropped_words, log, warn_of_number

if TYPE_CHECKING:
    from needle_ir.outline import Difference, Outline
    from needle_ir.realize import Pending

_op, _type = attrgetter("op"), attrgetter("type")

CACHE_CAPACITY = 256
# A program that is not kept is compared with this many of the same line, and of all.
_COMPARED = 8


class CacheInfo(NamedTuple):
    """Counts of the plan cache, as functools.lru_cache has them."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class Found(NamedTuple):
    """A program for what was recorded, and the leaves that it reads."""

    program: Program
    leaves: Sequence[Node]
    # How often each of them is an operand of what was recorded, None where that was not counted.
    uses: Sequence[int] | None = None


class _Shape:
    """A recorded subgraph without its nodes, to recognize the same one in the next step.

    A training loop records the same again and again. To go down from the outputs, and compare what
    stands there with what stood there before, takes a fifth of the time of numbering it anew.
    """

    def __init__(self, pending: "Pending"):
        leaves = set(pending.leaves)
        # The outputs, then the operands of each node that is no leaf, users first: `match` meets
        # the nodes in these places, some in several.
        places = [*pending.outputs]
        first: dict[Node, int] = {}  # the first place of each
        for i, node in enumerate(places):
            first.setdefault(node, i)
        inner = [node for node in reversed(pending.index) if node not in leaves]
        for node in inner:
            for operand in node.inputs:
                first.setdefault(operand, len(places))
                places.append(operand)
        self._count = len(first)
        # Of each inner node: its place, its op and attributes, how many operands it has.
        self._rows = [(first[x], x.op, x.attrs, len(x.inputs)) for x in inner]
        again = [(i, first[node]) for i, node in enumerate(places) if first[node] != i]
        self._again = [i for i, _ in again]
        self._before = [i for _, i in again]
        self._leaves = [first[node] for node in pending.leaves]
        self._types = [*map(_type, pending.leaves)]
        self._inputs = [INPUT] * len(pending.leaves)
        uses = Counter(first[node] for node in places[len(pending.outputs) :])
        self.uses = [uses[i] for i in self._leaves]

    def match(self, outputs: Sequence[Node]) -> list[Node] | None:
        """The leaves below `outputs`, where what they need has this shape."""
        places = [*outputs]
        for i, op, attrs, count in self._rows:
            node = places[i]
            if node.op is not op or node.attrs is not attrs or node.value is not None:
                return None
            operands = node.inputs
            if len(operands) != count:
                return None
            places += operands
        at = places.__getitem__
        leaves = [*map(at, self._leaves)]
        is_same = (
            [*map(at, self._again)] == [*map(at, self._before)]
            # What stood in two places must not be one node now: each has its own derivative.
            and len({*places}) == self._count
            and [*map(_op, leaves)] == self._inputs
            and [*map(_type, leaves)] == self._types
        )
        return leaves if is_same else None


@dataclass
class _Entry:
    program: Program
    outline: "Outline"
    shape: _Shape | None = None
    used: int = 0  # the number of the look-up that found it last


class PlanCache:
    """Compiled programs by the structure of what was recorded, least recently used first out.

    Keys and programs hold types, ops and constants, never the data of a leaf.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._entries: dict[Hashable, _Entry] = {}
        self._latest: dict[tuple[Op, ...], _Entry] = {}  # by the ops of the outputs
        self._dropped = Dropped()
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def find(
        self,
        pending: "Pending",
        recognize: bool = False,
        replaced: Iterable[tuple[int, int]] = (),
    ) -> Found:
        """The program for `pending`, compiled now where it is new.

        With `recognize`, `find_again` finds it where the same is recorded again. `replaced` is what
        `compile_graph` takes.
        """
        key = pending.key
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._hit(entry)
        if entry is None:
            entry = self._compile(pending, key, replaced)
        if recognize:
            if entry.shape is None:
                entry.shape = _Shape(pending)
            self._latest[tuple(map(_op, pending.outputs))] = entry
        return Found(entry.program, pending.leaves)

    def find_again(self, outputs: Sequence[Node]) -> Found | None:
        """The program for what was recorded, where the last program for outputs of these ops was
        for the same. Nothing is compiled.
        """
        entry = self._latest.get(tuple(map(_op, outputs)))
        shape = None if entry is None else entry.shape
        leaves = None if shape is None else shape.match(outputs)
        if entry is None or shape is None or leaves is None:
            return None
        with self._lock:
            self._hit(entry)
        return Found(entry.program, leaves, shape.uses)

    def _hit(self, entry: _Entry) -> None:
        self._hits += 1
        entry.used = self._hits + self._misses

    def _compile(
        self, pending: "Pending", key: Hashable, replaced: Iterable[tuple[int, int]]
    ) -> _Entry:
        with self._lock:
            self._misses += 1
        outline = pending.outline(capture_origin())
        why = self._why_not(key, outline)
        started = time.perf_counter()
        program = compile_graph(pending.graph(), replaced=replaced)
        seconds = time.perf_counter() - started
        where = "" if outline.site is None else str(outline.site)
        log.add("recorded", where, why.words, len(outline.rows), seconds)
        with self._lock:
            entry = _Entry(program, outline, used=self._hits + self._misses)
            self._entries[key] = entry
            while len(self._entries) > self.capacity:
                self._drop(min(self._entries, key=lambda x: self._entries[x].used))
        if why.constant is not None and log.streak(why.constant, self._hits):
            warn_of_number(why.constant, "a constant")
        return entry

    def _drop(self, key: Hashable) -> None:
        gone = self._entries.pop(key)
        self._latest = {ops: entry for ops, entry in self._latest.items() if entry is not gone}
        self._dropped.add(key)

    def info(self) -> CacheInfo:
        """How often a program was found, how often compiled, and how many are kept."""
        with self._lock:
            return CacheInfo(self._hits, self._misses, self.capacity, len(self._entries))

    def clear(self) -> None:
        """Drop every program and start counting again."""
        with self._lock:
            self._entries.clear()
            self._latest.clear()
            self._dropped.clear()
            self._hits = self._misses = 0

    def _why_not(self, key: Hashable, outline: "Outline") -> "Difference":
        """Why no program that is kept is the one asked for."""
        from needle_ir.outline import Difference, why_not

        with self._lock:
            if key in self._dropped:
                return Difference(dropped_words(self.capacity))
            entries = sorted(self._entries.values(), key=lambda entry: -entry.used)
        kept = [entry.outline for entry in entries]
        here = [x for x in kept if x.site == outline.site]
        recent = [*here[:_COMPARED], *kept[:_COMPARED]]
        return why_not(outline, {id(x): x for x in recent}.values())


plans = PlanCache(CACHE_CAPACITY)


def cache_info() -> CacheInfo:
    """Counts of the plan cache: hits, misses, capacity, programs kept."""
    return plans.info()


def clear_cache() -> None:
    """Drop every compiled program, and what `explain_recompiles` knows of it."""
    plans.clear()
    log.clear()

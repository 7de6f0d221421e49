"""`explain_recompiles`: what was compiled, when, for which line, and why."""

import threading
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import asdict, dataclass

from needle_ir.ir import Origin

_LOG_CAPACITY = 1000
_STREAK_CAPACITY = 64
# A cause that comes up this often in a row is worth a warning ...
STREAK = 8
# ... where "in a row" lets a loop find this many other programs in the cache in between.
_BETWEEN = 100


class RecompileWarning(UserWarning):
    """A program is compiled again and again because one number in it changes."""


@dataclass(frozen=True)
class Compilation:
    """One program that was compiled.

    `kind` is `recorded`, for what was recorded and then computed, or `jit`. `where` is the user's
    line that needed it, `reason` why no program that was kept would do. `time` is in seconds since
    the epoch, `seconds` what compiling took, `nodes` the size of what was recorded.
    """

    kind: str
    where: str
    reason: str
    nodes: int
    seconds: float
    time: float


@dataclass(frozen=True)
class Recompiles:
    """What was compiled, oldest first, at most the last 1,000. `str()` is a table."""

    compilations: tuple[Compilation, ...]
    total: int

    def to_json(self) -> str:
        """The compilations as a JSON list of objects with the fields of Compilation."""
        import json  # only here: importing the package stays light

        return json.dumps([asdict(x) for x in self.compilations], indent=2)

    def __str__(self) -> str:
        seconds = sum(x.seconds for x in self.compilations)
        shown = len(self.compilations)
        last = "" if shown == self.total else f" The last {shown} of them:"
        lines = [f"{self.total} programs compiled; {seconds * 1e3:.1f} ms.{last}"]
        width = max((len(x.where) for x in self.compilations), default=0)
        lines += [f"{'time':<8}  {'ms':>7}  {'nodes':>6}  {'':<8}  {'where':<{width}}  why"]
        for x in self.compilations:
            clock = time.strftime("%H:%M:%S", time.localtime(x.time))
            lines.append(
                f"{clock}  {x.seconds * 1e3:>7.1f}  {x.nodes:>6}  {x.kind:<8}  "
                f"{x.where:<{width}}  {x.reason}"
            )
        return "\n".join(lines if self.compilations else lines[:1])


class Dropped:
    """Keys that a cache kept once, by their hashes: the last 1,000 of them."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[int, None] = OrderedDict()

    def add(self, key: Hashable) -> None:
        """Note that `key` is no longer kept."""
        self._hashes[hash(key)] = None
        if len(self._hashes) > _LOG_CAPACITY:
            self._hashes.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return hash(key) in self._hashes

    def clear(self) -> None:
        """Forget everything."""
        self._hashes.clear()


def dropped_words(capacity: int) -> str:
    """The reason to compile what was dropped."""
    return f"it was compiled before and dropped since: {capacity} programs are kept"


class Log:
    """The compilations of this process, in words only: it keeps neither nodes nor arrays."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Compilation] = deque(maxlen=_LOG_CAPACITY)
        self._total = 0
        # Per cause: how often it came up in a row, and the cache's hits at the last time.
        self._streaks: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()

    def add(self, kind: str, where: str, reason: str, nodes: int, seconds: float) -> None:
        """Note a compilation that took `seconds` and just ended."""
        entry = Compilation(kind, where, reason, nodes, seconds, time.time())
        with self._lock:
            self._entries.append(entry)
            self._total += 1

    def streak(self, cause: Hashable, hits: int) -> bool:
        """Note that `cause` came up. True the one time that this was often enough for a warning.

        `hits` counts how often a program was found so far: many in between end a streak.
        """
        with self._lock:
            count, before = self._streaks.pop(cause, (0, hits))
            count = count + 1 if hits - before <= _BETWEEN else 1
            self._streaks[cause] = (count, hits)
            while len(self._streaks) > _STREAK_CAPACITY:
                self._streaks.popitem(last=False)
        return count == STREAK

    def recompiles(self) -> Recompiles:
        """What was noted so far."""
        with self._lock:
            return Recompiles(tuple(self._entries), self._total)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._streaks.clear()
            self._total = 0


log = Log()


def explain_recompiles() -> Recompiles:
    """What this process compiled since it started or since `clear_cache()`, and why, in words.

    Print it. A reason names the part that differs from the nearest program kept: the type of an
    input, a constant, an op with its line, a static argument, a flag of a module.
    """
    return log.recompiles()


def warn_of_number(origin: Origin | None, what: str) -> None:
    """Warn, at the user's line, that a number there makes a program compile each time."""
    line = "" if origin is None else f" ({origin}{': ' if origin.text else ''}{origin.text})"
    message = (
        f"{what} had another value in each of the last {STREAK} compilations{line}. A Python "
        "number is part of the program. Pass it as a tensor, ndl.Tensor(value), and a change "
        "does not compile again"
    )
    if origin is None:
        warnings.warn(message, RecompileWarning, stacklevel=2)
    else:
        warnings.warn_explicit(message, RecompileWarning, origin.filename, origin.line)

"""A pool of threads, and steps whose parts they share."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from needle_ir.runtime import blas

_VARIABLE = "NEEDLE_IR_NUM_THREADS"

# Does some of the parts: gets an iterator over those that fall to one thread, memory that is this
# thread's alone, and what all threads read.
Work = Callable[..., None]
# The memory for the thread of this number; 0 is the thread that asked for the work.
Memory = Callable[[int], Any]


class Pool:
    """Threads that wait for work. They are started when they are first needed.

    `size` counts the calling thread as well. It is None until it is set: then every step runs in
    the thread that called, and BLAS divides products among threads of its own.
    """

    def __init__(self) -> None:
        self._size: int | None = None
        self._blas_threads = 0  # how many it had before
        self.forget()

    def forget(self) -> None:
        """Begin anew with no thread. In a forked process there is none of its parent's."""
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._started = 0

    @property
    def size(self) -> int | None:
        """How many threads share a step."""
        return self._size

    def resize(self, size: int | None) -> None:
        """Let `size` threads share a step, and BLAS use one; None: as before it was first set."""
        with self._lock:
            if size is not None and self._size is None:
                self._blas_threads = blas.num_threads()
                blas.set_num_threads(1)
            elif size is None and self._size is not None:
                blas.set_num_threads(self._blas_threads)
            self._size = size

    def share(self, work: Work, parts: Sequence[Any], memory: Memory, *shared: Any) -> None:
        """Call `work(mine, memory, *shared)` here and in other threads, so that each of the parts
        is in one of the iterators `mine`.

        Parts are handed out in order. It returns when no thread is at work any more. What a part
        raises is raised here; of several, the error of the first part, which is what one thread
        alone would meet.
        """
        helpers = min(self._size or 1, len(parts)) - 1
        if helpers < 1:
            work(iter(parts), memory(0), *shared)
            return
        helpers = min(helpers, self._start(helpers))
        job = _Job(work, parts, [memory(i) for i in range(helpers + 1)], shared)
        for _ in range(helpers):
            self._jobs.put(job)
        job.run()

    def _start(self, count: int) -> int:
        """Start threads up to this number; how many there are then."""
        if self._started >= count:
            return self._started
        with self._lock:
            while self._started < count:
                name = f"needle_ir {self._started + 1}"
                thread = threading.Thread(target=_serve, args=(self._jobs,), name=name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    break  # at the interpreter's end: those that there are do the work
                self._started += 1
            return self._started


class _Job:
    """One step: the parts that nobody has taken, and how many threads are at it.

    A thread that comes too late does nothing. So a step never waits for a thread that has not
    begun, be it busy with another step or without a core.
    """

    def __init__(
        self, work: Work, parts: Iterable[Any], memory: Sequence[Any], shared: tuple[Any, ...]
    ):
        self._work: tuple[Work, Sequence[Any], tuple[Any, ...]] | None = work, memory, shared
        self._parts = deque(enumerate(parts))
        self._changed = threading.Condition()
        self._joined = 0
        self._at_work = 0
        self._failed: tuple[int, Exception] | None = None

    def run(self) -> None:
        """Take part from the calling thread, and wait for those that do."""
        assert self._work is not None
        try:
            self._take_part(0, *self._work)
        finally:
            self._close()
        if self._failed is not None:
            (_, error), self._failed = self._failed, None
            raise error

    def help(self) -> None:
        """Take part from another thread, unless all is done."""
        with self._changed:
            if self._work is None:
                return
            work = self._work
            self._joined += 1
            self._at_work += 1
            thread = self._joined
        try:
            self._take_part(thread, *work)
        finally:
            del work  # while a thread refers to arrays, they are not used again
            with self._changed:
                self._at_work -= 1
                self._changed.notify()

    def _take_part(
        self, thread: int, work: Work, memory: Sequence[Any], shared: tuple[Any, ...]
    ) -> None:
        taken = 0

        def mine() -> Iterator[Any]:
            nonlocal taken
            while True:
                try:
                    taken, part = self._parts.popleft()
                except IndexError:
                    return
                yield part

        try:
            work(mine(), memory[thread], *shared)
        except Exception as error:
            with self._changed:
                # The parts before this one were all handed out: one of them may fail yet.
                self._parts.clear()
                if self._failed is None or taken < self._failed[0]:
                    self._failed = taken, error

    def _close(self) -> None:
        """Hand out nothing more, wait, and let go of the arrays. An interrupt comes afterwards:
        until then others write to these arrays.
        """
        interrupt = None
        while True:
            try:
                self._parts.clear()
                with self._changed:
                    self._work = None
                    self._changed.wait_for(lambda: not self._at_work)
                break
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


def _serve(jobs: "SimpleQueue[_Job]") -> None:
    # Each thread has floating-point flags of its own: the executor's are the calling thread's.
    with np.errstate(all="ignore"):
        while True:
            jobs.get().help()


def _size_of_environment() -> int | None:
    text = os.environ.get(_VARIABLE, "").strip()
    if text and not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError(f"{_VARIABLE} is {text!r}; it must be a number of threads, 1 or more")
    return int(text) if text else None


pool = Pool()
pool.resize(_size_of_environment())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.forget)

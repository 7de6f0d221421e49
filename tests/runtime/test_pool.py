"""The pool: every part once, errors and interrupts as one thread would have them, nothing left."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from needle_ir.runtime import blas
from needle_ir.runtime.pool import Pool

SECONDS = 20  # after which a test that hangs fails


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool()
    pool.resize(2)
    yield pool
    pool.resize(None)


def memory(thread: int) -> int:
    return thread


def test_two_threads_share_the_parts_and_each_part_is_done_once(pool: Pool) -> None:
    both = threading.Barrier(2, timeout=SECONDS)
    done: list[tuple[int, int, str]] = []

    def work(mine: Iterator[int], thread: int, word: str) -> None:
        for i, part in enumerate(mine):
            if i == 0:
                both.wait()  # one thread alone would wait for ever
            done.append((part, thread, word))

    pool.share(work, range(100), memory, "shared")
    assert sorted(part for part, _, _ in done) == [*range(100)]
    assert {(thread, word) for _, thread, word in done} == {(0, "shared"), (1, "shared")}


def test_no_more_threads_than_parts(pool: Pool) -> None:
    pool.resize(8)
    threads: list[int] = []
    pool.share(lambda mine, thread: threads.extend([thread] * len([*mine])), [1], memory)
    assert threads == [0]


def test_of_several_errors_the_one_of_the_first_part_is_raised(pool: Pool) -> None:
    both = threading.Barrier(2, timeout=SECONDS)
    begun: list[int] = []

    def work(mine: Iterator[int], thread: int) -> None:
        for part in mine:
            begun.append(part)
            both.wait()
            if part == 0:
                time.sleep(0.05)  # the later part fails first
            raise ValueError(f"part {part}")

    with pytest.raises(ValueError, match="part 0"):
        pool.share(work, range(50), memory)
    assert sorted(begun) == [0, 1]


def test_after_an_error_no_part_is_handed_out(pool: Pool) -> None:
    both = threading.Barrier(2, timeout=SECONDS)
    begun: list[int] = []

    def work(mine: Iterator[int], thread: int) -> None:
        for i, part in enumerate(mine):
            begun.append(part)
            if i == 0:
                both.wait()
            if thread == 1:
                raise ValueError("the thread that helps")
            time.sleep(0.05)

    with pytest.raises(ValueError, match="the thread that helps"):
        pool.share(work, range(10), memory)
    assert sorted(begun) == [0, 1]


def test_after_an_error_the_threads_go_on(pool: Pool) -> None:
    def fail(mine: Iterator[int], thread: int) -> None:
        for _ in mine:
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.share(fail, range(4), memory)
    test_two_threads_share_the_parts_and_each_part_is_done_once(pool)


def test_a_step_does_not_wait_for_a_thread_that_is_busy_elsewhere(pool: Pool) -> None:
    busy, free = threading.Semaphore(0), threading.Event()

    def hold(mine: Iterator[int], thread: int) -> None:
        for _ in mine:
            busy.release()
            assert free.wait(SECONDS)

    done: list[int] = []
    holding = threading.Thread(target=pool.share, args=(hold, [0, 1], memory), daemon=True)
    holding.start()
    assert all(busy.acquire(timeout=SECONDS) for _ in range(2))
    pool.share(lambda mine, thread: done.extend(mine), range(10), memory)
    assert done == [*range(10)]
    free.set()
    holding.join(SECONDS)
    assert not holding.is_alive()


def test_an_interrupt_comes_when_no_other_thread_writes_any_more(pool: Pool) -> None:
    both = threading.Barrier(2, timeout=SECONDS)
    finished: list[int] = []

    def work(mine: Iterator[int], thread: int) -> None:
        for i, part in enumerate(mine):
            if i == 0:
                both.wait()
            if thread == 0:
                raise KeyboardInterrupt
            time.sleep(0.05)
            finished.append(part)

    with pytest.raises(KeyboardInterrupt):
        pool.share(work, range(10), memory)
    assert len(finished) == 1


def test_nothing_holds_the_arrays_afterwards(pool: Pool) -> None:
    """While somebody refers to an array, the executor does not use it again."""
    arrays = [np.zeros(3) for _ in range(20)]
    whole = np.zeros(3)
    watched = [*map(weakref.ref, [*arrays, whole])]

    def work(mine: Iterator[np.ndarray], thread: int, whole: np.ndarray) -> None:
        for array in mine:
            array += whole

    gc.disable()
    try:
        pool.share(work, arrays, memory, whole)
        del arrays, whole
        assert [ref for ref in watched if ref() is not None] == []
    finally:
        gc.enable()


def test_floating_point_errors_give_no_warnings_in_any_thread(pool: Pool) -> None:
    """Warnings are errors in this suite."""
    both = threading.Barrier(2, timeout=SECONDS)
    results: list[float] = []

    def work(mine: Iterator[int], thread: int) -> None:
        for _ in mine:
            both.wait()
            results.extend(np.log(np.zeros(1)))

    with np.errstate(all="ignore"):
        pool.share(work, range(2), memory)
    assert results == [-np.inf, -np.inf]


def test_blas_has_one_thread_while_the_library_has_its_own() -> None:
    before = blas.num_threads()
    pool = Pool()
    try:
        blas.set_num_threads(2)
        for size in (3, 1):
            pool.resize(size)
            assert (pool.size, blas.num_threads()) == (size, 1)
        pool.resize(None)
        assert (pool.size, blas.num_threads()) == (None, 2)
    finally:
        blas.set_num_threads(before)


def test_the_kernels_are_those_that_threadpoolctl_names() -> None:
    found = [x["architecture"] for x in threadpool_info() if x["internal_api"] == "openblas"]
    assert blas.core_name() in (found or [""])


def test_another_blas_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    monkeypatch.setattr(blas, "_NAMES", ["no_such_library_{}"])
    blas._function.cache_clear()
    assert blas.core_name.__wrapped__() == ""
    with pytest.raises(RuntimeError, match="NumPy's BLAS is no OpenBLAS"):
        pool.resize(2)
    assert pool.size is None
    monkeypatch.undo()
    blas._function.cache_clear()
    pool.resize(2)
    pool.resize(None)


FORK = """
import os, sys, threading
from needle_ir.runtime.pool import pool

def share():
    both = threading.Barrier(2, timeout=20)
    pool.share(lambda mine, memory: [both.wait() for _ in mine], [0, 1], lambda thread: None)

pool.resize(2)
share()
child = os.fork()
if child == 0:
    share()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
share()
"""

EXIT = """
import atexit
from needle_ir.runtime.pool import pool

def share():
    done = []
    pool.share(lambda mine, memory: done.extend(mine), range(1000), lambda thread: None)
    print(len(done))

pool.resize(3)
atexit.register(share)
"""


def output_of(program: str) -> str:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    child = subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS, check=True)
    assert child.stderr == ""
    return child.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    assert output_of(FORK) == "7\n"


def test_what_runs_while_the_interpreter_ends_is_done() -> None:
    assert output_of(EXIT) == "1000\n"


def test_where_no_thread_can_be_started_the_caller_does_the_work(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    pool.share(lambda mine, thread: done.extend(mine), range(10), memory)
    assert done == [*range(10)]
    assert pool._jobs.empty()

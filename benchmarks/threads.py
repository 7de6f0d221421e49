"""Measures a training step with BLAS's threads, and with as many threads of the library's own.

With `--busy`, a program that only counts keeps one core busy meanwhile.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

if __name__ == "__main__":
    # What is measured is this checkout, not a needle_ir that is installed.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import needle_ir as ndl
from benchmarks.blas import numpy_blas
from benchmarks.configurations import CONFIGURATIONS, Configuration
from benchmarks.cores import describe_machine, pick_cores, usable_cores
from benchmarks.needle_step import make_step
from benchmarks.tables import Table, new_console, print_tables

TURN_SECONDS = 0.3
BUSY = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", nargs="+", default=["default"], choices=[*CONFIGURATIONS])
    parser.add_argument("--rounds", type=int, default=10, help="turns of each (default: 10)")
    parser.add_argument("--busy", action="store_true", help="keep one core busy meanwhile")
    options = parser.parse_args(arguments)
    threads = (None, 1, len(usable_cores()))
    blas = numpy_blas()
    with _busy_core() if options.busy else nullcontext():
        rows = [
            (
                name,
                *[f"{1e3 * x:.2f}" for x in measure(CONFIGURATIONS[name], threads, options.rounds)],
            )
            for name in options.config
        ]
    title = f"a step in ms; {describe_machine()}{', one of them busy' * options.busy}; {blas}"
    columns = ("configuration", "BLAS's threads", *[f"{x} of our own" for x in threads[1:]])
    print_tables([Table(title, columns, tuple(rows))], new_console())
    return 0


def measure(
    configuration: Configuration, threads: Sequence[int | None], rounds: int
) -> list[float]:
    """The median of the seconds that a step takes, for each number of threads. They take turns."""
    step = make_step(configuration, "jit")
    seconds: list[list[float]] = [[] for _ in threads]
    for _ in range(rounds):
        for count, found in zip(threads, seconds, strict=True):
            ndl.set_num_threads(count)
            step.wait(step.run(0))
            ends = time.perf_counter() + TURN_SECONDS
            while not found or time.perf_counter() < ends:
                started = time.perf_counter()
                step.wait(step.run(1))
                found.append(time.perf_counter() - started)
    ndl.set_num_threads(None)
    return [*map(statistics.median, seconds)]


@contextmanager
def _busy_core() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", BUSY, str(pick_cores(1)[0])]) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())

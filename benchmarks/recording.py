"""Measures what a training step of the default model takes besides its plan, part by part.

Once without a decorator and once under `jit`, in turns, on one core. Inner parts are timed by
functions put around them, so all of it together takes a little longer than a step does.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

if __name__ == "__main__":
    # What is measured is this checkout, not a needle_ir that is installed.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.cores import load_average, pick_cores, pin, removed_variables

# Before NumPy picks its kernels and starts its threads.
REMOVED = removed_variables()
for variable in REMOVED:
    del os.environ[variable]
pin(pick_cores(1))

import needle_ir as ndl
from benchmarks.blas import numpy_blas
from benchmarks.configurations import CONFIGURATIONS
from benchmarks.needle_step import make_model, make_optimizer
from benchmarks.problem import batches
from benchmarks.report import preface
from benchmarks.tables import Table, new_console, print_tables, replace_section
from benchmarks.tables import markdown as as_markdown
from needle_ir import nn
from needle_ir.in_place import InPlace
from needle_ir.optim import Optimizer
from needle_ir.plan_cache import PlanCache
from needle_ir.runtime import Executor

PLAN = "the plan itself"
FORWARD, LOSS, BACKWARD = "forward pass", "loss", "backward()"
UPDATE, LOOK_UP = "the optimizer's part", "to recognize the step"
CLAIM = "to make sure that nobody holds what is replaced"
RESULTS = "to find what is held, to hand out results, to free"
JIT = "guards, leaves, reference counts"
# What is timed by a function around it.
_INNER = (
    (Optimizer, "_record_step", UPDATE),
    (PlanCache, "find_again", LOOK_UP),
    (InPlace, "_claim", CLAIM),
    (InPlace, "_restore", CLAIM),
    (Executor, "replace", PLAN),
)
TURN = 20  # steps
WARM_UP = 30


class Stopwatch:
    """Seconds by part. Time within an inner part is not that of the part around it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._part = ""
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is inside of the `with`, or the function that this decorates, as a part."""
        outer = self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def _switch(self, part: str) -> str:
        now = time.perf_counter()
        outer = self._part
        self.seconds[outer] += now - self._since
        self._part, self._since = part, now
        return outer


def measure(steps: int) -> dict[str, dict[str, float]]:
    """Microseconds by part, the median over so many steps: without a decorator, and under jit."""
    configuration = CONFIGURATIONS["default"]
    ndl.manual_seed(0)
    data = [
        (ndl.Tensor(images, requires_grad=False), ndl.Tensor(labels))
        for images, labels in batches(configuration)
    ]
    watch = Stopwatch()
    criterion = nn.SoftmaxLoss()

    def make_step() -> Callable[[ndl.Tensor, ndl.Tensor], ndl.Tensor]:
        model = make_model(configuration)
        opt = make_optimizer(configuration, model)

        def step(images: ndl.Tensor, labels: ndl.Tensor) -> ndl.Tensor:
            with watch.part(RESULTS):
                opt.reset_grad()
            with watch.part(FORWARD):
                logits = model(images)
            with watch.part(LOSS):
                loss: ndl.Tensor = criterion(logits, labels)
            del logits
            with watch.part(BACKWARD):
                loss.backward()
            with watch.part(RESULTS):
                opt.step()
            return loss

        return step

    def run(step: Callable[..., ndl.Tensor], around: str, count: int) -> list[dict[str, float]]:
        rows = []
        for number in range(count):
            watch.seconds.clear()
            with watch.part(around):
                step(*data[number % len(data)]).realize()
            rows.append({part: 1e6 * seconds for part, seconds in watch.seconds.items() if part})
        return rows

    variants = {"no decorator": (make_step(), RESULTS), "jit": (ndl.jit(make_step()), JIT)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    with ExitStack() as patches:
        for owner, name, part in _INNER:
            timed = watch.part(part)(getattr(owner, name))
            patches.enter_context(patch.object(owner, name, timed))
        for step, around in variants.values():
            run(step, around, WARM_UP)
        for _ in range(0, steps, TURN):
            for variant, (step, around) in variants.items():
                found[variant] += run(step, around, TURN)
    return {variant: _medians(rows) for variant, rows in found.items()}


def _medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(row[part] for row in rows) for part in rows[0]}


def table(found: dict[str, dict[str, float]]) -> Table:
    """A row for each part, and what they are together without the plan."""
    parts = (FORWARD, LOSS, BACKWARD, UPDATE, LOOK_UP, CLAIM, RESULTS, JIT)
    rows = [
        (part, *[f"{x[part]:.0f}" if part in x else "" for x in found.values()]) for part in parts
    ]
    together = [sum(x.values()) - x[PLAN] for x in found.values()]
    rows.append(("together", *[f"{x:.0f}" for x in together]))
    rows.append((PLAN, *[f"{x[PLAN]:.0f}" for x in found.values()]))
    return Table("A step besides its plan, microseconds", ("part", *found), tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2_000, metavar="N", help="default: 2,000")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="put the table into FILE, between `begin recording` and `end recording`",
    )
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps {options.steps}: give at least 1")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    about = f"{preface(REMOVED)} {python}, {platform.python_compiler()}, {numpy_blas()}."
    console = new_console()
    console.print(about)
    result = table(measure(options.steps))
    print_tables([result], console)
    if options.markdown is not None:
        text = f"{about} Load average {load_average()}.\n\n{as_markdown([result])}"
        replace_section(options.markdown, "recording", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

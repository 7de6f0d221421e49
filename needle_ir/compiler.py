"""The way down: a graph through the passes to a plan, and the plan to something that runs."""

import gc
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from needle_ir.ir import Array, Graph, Instrument, Pass, Plan

if TYPE_CHECKING:
    from needle_ir.passes import Record
    from needle_ir.runtime import Executor, Leases

Pipeline = str | Sequence[str | Pass]
# Runs a plan: arrays in, arrays out.
Run = Callable[[Plan, Sequence[Array]], tuple[Array, ...]]


@dataclass(frozen=True)
class Program:
    """A compiled graph: the optimized graph, its plan, the executor that runs it, and what it was
    compiled from.
    """

    graph: Graph
    plan: Plan
    executor: "Executor"
    recorded: Graph
    passes: tuple[Pass, ...]

    def __call__(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs for one array per input of the graph."""
        return self.replace(arrays, ())[0]

    def replace(
        self, arrays: Sequence[Array], leases: "Leases"
    ) -> "tuple[tuple[Array, ...], Leases]":
        """The outputs, computed where those of an earlier run lie; see `Executor.replace`."""
        run = _instead.run
        try:
            if run is not None:
                return run(self.plan, arrays), ()
            return self.executor.replace(arrays, leases)
        except Exception as error:
            from needle_ir.failures import report_failure

            report_failure(error, self.recorded, self.passes, "running", arrays)
            raise


class _Instruments(threading.local):
    def __init__(self) -> None:
        self.active: tuple[Instrument, ...] = ()


class _Instead(threading.local):
    run: Run | None = None


_instruments = _Instruments()
_instead = _Instead()


def read_pipeline(pipeline: Pipeline | None) -> list[Pass]:
    """The passes of a pipeline: a text, a list of texts and passes, or None for the default one."""
    from needle_ir.passes import DEFAULT_PIPELINE, parse_pipeline, pass_table
    from needle_ir.runtime import evaluate

    return parse_pipeline(DEFAULT_PIPELINE if pipeline is None else pipeline, pass_table(evaluate))


def compile_graph(
    graph: Graph,
    pipeline: Pipeline | None = None,
    watchers: Sequence[Instrument] = (),
    replaced: Iterable[tuple[int, int]] = (),
) -> Program:
    """Run the pipeline over `graph`, plan it and generate its executor.

    `replaced` pairs positions of inputs with those of the outputs that the caller puts in their
    place.

    What fails here, and when the program runs, is written to a file (`needle_ir.failures`).
    """
    # The passes trace their rules when they are imported: what is only recorded needs none.
    from needle_ir.passes import Progress, make_plan, run_pipeline
    from needle_ir.runtime import Executor

    passes = read_pipeline(pipeline)
    progress = Progress(passes)
    try:
        watching = (progress, *watchers, *_instruments.active)
        with collector_paused():
            optimized = run_pipeline(graph, passes, watching)
            plan = make_plan(optimized, replaced)
            return Program(optimized, plan, Executor(plan), graph, tuple(passes))
    except Exception as error:
        from needle_ir.failures import report_failure

        report_failure(error, graph, passes, str(progress))
        raise


@contextmanager
def collector_paused() -> Iterator[None]:
    """Let the cyclic garbage collector rest.

    Compiling makes many small objects and hardly a cycle; looking through all of them again and
    again takes time that grows faster than the graph. What was made counts as old afterwards.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # somebody's frozen objects stay frozen
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@contextmanager
def instruments(*watchers: Instrument) -> Iterator[None]:
    """Let `watchers` look on at everything that this thread compiles inside."""
    outer = _instruments.active
    _instruments.active = (*outer, *watchers)
    try:
        yield
    finally:
        _instruments.active = outer


@contextmanager
def running_with(run: Run) -> Iterator[None]:
    """Let `run`, in the place of the executors, run every program that this thread runs inside."""
    outer = _instead.run
    _instead.run = run
    try:
        yield
    finally:
        _instead.run = outer


@contextmanager
def record_passes() -> "Iterator[Record]":
    """Keep the graph after every pass of what is compiled inside; the last one compiled stays."""
    from needle_ir.passes import Record

    record = Record()
    with instruments(record):
        yield record


@contextmanager
def dump_graphs(directory: str | Path) -> Iterator[None]:
    """Write the graph after every pass of what is compiled inside to `directory`.

    Each compilation has a numbered folder of its own; in it, per pass, a numbered .txt, .dot and
    .svg.
    """
    from needle_ir.viz import GraphDumper

    with instruments(GraphDumper(directory)):
        yield

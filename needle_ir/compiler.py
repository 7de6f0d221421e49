"""The way down: a graph through the passes to a plan, and the plan to something that runs."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from needle_ir.ir import Array, Graph, Instrument, Pass, Plan
from needle_ir.passes import (
    DEFAULT_PIPELINE,
    Record,
    make_plan,
    parse_pipeline,
    pass_table,
    run_pipeline,
)
from needle_ir.runtime import Executor, evaluate

Pipeline = str | Sequence[Pass]
# Runs a plan: arrays in, arrays out.
Run = Callable[[Plan, Sequence[Array]], tuple[Array, ...]]


@dataclass(frozen=True)
class Program:
    """A compiled graph: the optimized graph, its plan, and the executor that runs it."""

    graph: Graph
    plan: Plan
    executor: Executor

    def __call__(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs for one array per input of the graph."""
        run = _instead.run
        return self.executor(arrays) if run is None else run(self.plan, arrays)


class _Instruments(threading.local):
    def __init__(self) -> None:
        self.active: tuple[Instrument, ...] = ()


class _Instead(threading.local):
    run: Run | None = None


_instruments = _Instruments()
_instead = _Instead()


def read_pipeline(pipeline: Pipeline | None) -> list[Pass]:
    """The passes of a pipeline given as text, as a list, or as None for the default one."""
    if pipeline is None:
        pipeline = DEFAULT_PIPELINE
    if isinstance(pipeline, str):
        return parse_pipeline(pipeline, pass_table(evaluate))
    return list(pipeline)


def compile_graph(
    graph: Graph, pipeline: Pipeline | None = None, watchers: Sequence[Instrument] = ()
) -> Program:
    """Run the pipeline over `graph`, plan it and generate its executor."""
    watching = (*watchers, *_instruments.active)
    optimized = run_pipeline(graph, read_pipeline(pipeline), watching)
    plan = make_plan(optimized)
    return Program(optimized, plan, Executor(plan))


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
def record_passes() -> Iterator[Record]:
    """Keep the graph after every pass of what is compiled inside; the last one compiled stays."""
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

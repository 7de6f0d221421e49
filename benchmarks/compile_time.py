"""Measures what compiling costs for each node, from a hundred nodes to a hundred thousand.

A program is recorded, goes through the passes, is planned, and its code is generated. Each of these
is timed by itself, and divided by the number of recorded nodes.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

if __name__ == "__main__":
    # What is measured is this checkout, not a needle_ir that is installed.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import needle_ir as ndl
from benchmarks.compiled_graphs import PROGRAMS, Program
from benchmarks.cores import load_average, pick_cores, pin
from benchmarks.report import preface
from benchmarks.tables import Table, new_console, print_tables, replace_section
from benchmarks.tables import markdown as as_markdown
from needle_ir.compiler import collector_paused, read_pipeline
from needle_ir.ir import Graph, Pass
from needle_ir.passes import make_plan, run_pipeline
from needle_ir.runtime import Executor
from needle_ir.viz.atomic import write_text

NODES = (100, 1_000, 10_000, 100_000)
# A small program is compiled again and again for this long, and the medians count.
REPEAT_SECONDS = 1.0
MOST_REPEATS = 25
RECORDING, PLAN, CODE = "recording", "plan", "generated code"


@dataclass(frozen=True)
class CompileTime:
    """What compiling one program took: seconds by phase, the passes among them by their names."""

    program: str
    nodes: int  # as recorded
    last_nodes: int  # after the last pass
    repeats: int
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """The seconds of all phases."""
        return sum(self.seconds.values())


class PassTimer:
    """An instrument that keeps the seconds of each pass. A pass that runs again gets a number."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def start(self, graph: Graph) -> None:
        """Begin anew."""
        self.seconds = {}

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Keep the time."""
        name, number = pass_.name, 1
        while name in self.seconds:
            number += 1
            name = f"{pass_.name} {number}"
        self.seconds[name] = seconds


def compile_once(program: Program) -> tuple[Graph, Graph, dict[str, float]]:
    """The graph as recorded, the one after the last pass, and the seconds of each phase."""
    function, arguments = program
    timer = PassTimer()
    gc.collect()
    clock = [time.perf_counter()]
    recorded = ndl.trace(function, *arguments)
    clock.append(time.perf_counter())
    with collector_paused():  # as compile_graph does
        optimized = run_pipeline(recorded, read_pipeline(None), (timer,))
        clock.append(time.perf_counter())
        plan = make_plan(optimized)
        clock.append(time.perf_counter())
        Executor(plan)
        clock.append(time.perf_counter())
    recording, _, planning, code = (after - before for before, after in pairwise(clock))
    seconds = {RECORDING: recording, **timer.seconds, PLAN: planning, CODE: code}
    return recorded, optimized, seconds


def measure(name: str, nodes: int) -> CompileTime:
    """The medians over repeated compilations of a program of about so many nodes."""
    program = PROGRAMS[name](nodes)
    runs: list[dict[str, float]] = []
    ends = time.perf_counter() + REPEAT_SECONDS
    while not runs or (time.perf_counter() < ends and len(runs) < MOST_REPEATS):
        recorded, optimized, seconds = compile_once(program)
        runs.append(seconds)
    medians = {phase: statistics.median(run[phase] for run in runs) for phase in runs[0]}
    return CompileTime(name, len(recorded.nodes), len(optimized.nodes), len(runs), medians)


def table(results: Sequence[CompileTime]) -> Table:
    """Microseconds a node of one program, a column for each size and a row for each phase.

    The last column is the cost a node at the last size over that at the second one.
    """
    first, last = results[min(1, len(results) - 1)], results[-1]
    sizes = [f"{result.nodes:,} nodes" for result in results]
    columns = (results[0].program, *sizes, f"last over {first.nodes:,}")
    rows = []
    for phase in results[0].seconds:
        per_node = [1e6 * result.seconds[phase] / result.nodes for result in results]
        growth = (last.seconds[phase] / last.nodes) / (first.seconds[phase] / first.nodes)
        rows.append((phase, *[f"{x:.1f}" for x in per_node], f"{growth:.2f}"))
    totals = [1e6 * result.total / result.nodes for result in results]
    growth = (last.total / last.nodes) / (first.total / first.nodes)
    rows.append(("together", *[f"{x:.1f}" for x in totals], f"{growth:.2f}"))
    rows.append(("together, s", *[f"{result.total:.2f}" for result in results], ""))
    rows.append(("nodes after the passes", *[f"{result.last_nodes:,}" for result in results], ""))
    title = f"{results[0].program}: compile time in microseconds for each recorded node"
    return Table(title, columns, tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code."""
    options = _parser().parse_args(arguments)
    console = new_console()
    about = preface()
    console.print(about)
    pin(pick_cores(1))
    results: list[CompileTime] = []
    tables: list[Table] = []
    for name in options.programs:
        with console.status("") as status:
            of_program: list[CompileTime] = []
            for nodes in sorted(options.nodes):
                status.update(f"{name}: {nodes:,} nodes")
                of_program.append(measure(name, nodes))
        results += of_program
        tables.append(table(of_program))
        print_tables(tables[-1:], console)
    load = load_average()
    if options.json is not None:
        content = {"load": load, "results": [asdict(result) for result in results]}
        write_text(options.json, json.dumps(content, indent=1) + "\n")
    if options.markdown is not None:
        text = f"{about} Load average {load}.\n\n{as_markdown(tables)}"
        replace_section(options.markdown, "compile time", text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "--programs",
        nargs="+",
        default=list(PROGRAMS),
        choices=list(PROGRAMS),
        metavar="NAME",
        help=f"any of {', '.join(PROGRAMS)} (default: all)",
    )
    sizes = " ".join(map(str, NODES))
    add(
        "--nodes",
        nargs="+",
        type=_node_count,
        default=list(NODES),
        metavar="N",
        help=f"how many nodes, about (default: {sizes})",
    )
    add("--json", type=Path, metavar="FILE", help="write all that was measured to FILE")
    add(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="put the tables into FILE, between `begin compile time` and `end compile time`",
    )
    return parser


def _node_count(text: str) -> int:
    count = int(text)
    if count < 100:
        raise argparse.ArgumentTypeError(f"{text}: give at least 100 nodes")
    return count


if __name__ == "__main__":
    sys.exit(main())

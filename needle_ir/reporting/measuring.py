"""A program run a few times with a clock around every kernel."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from needle_ir.compiler import Program
from needle_ir.ir import Array, Node, Plan
from needle_ir.machine import peak_gflops
from needle_ir.profiler import Profile, Row, profile
from needle_ir.realize import sync
from needle_ir.runtime import Executor, draws

_MOST_RUNS = 20
_SECONDS = 0.5  # as many runs as fit into these, and one at least


class Measured(NamedTuple):
    """What was measured, over `runs` runs after one that is not counted."""

    profile: Profile
    runs: int

    def node_seconds(self) -> dict[Node, float]:
        """The seconds of each node in one run."""
        return {x: s / self.runs for x, s in self.profile.node_seconds().items()}


def measure(plan: Plan, read: Callable[[], Sequence[Array]]) -> Measured:
    """Run `plan` a few times on the arrays that `read` gives.

    Nothing is assigned, and the random streams stay where they are.
    """
    with draws.unmoved():
        arrays = read()
        program = Program(plan.graph, plan, Executor(plan), plan.graph, ())
        sync(free_history=False)  # what is pending elsewhere is not to be measured
        with profile(show=False) as measured:
            program(arrays)
            measured.calls.clear()
            started = perf_counter()
            runs = 0
            while runs == 0 or (runs < _MOST_RUNS and perf_counter() - started < _SECONDS):
                program(arrays)
                runs += 1
    return Measured(measured, runs)


def profile_data(measured: Measured, names: dict[Node, str]) -> dict[str, Any]:
    """The measurement as plain data: tables, and the seconds of each value in one run."""
    found, runs = measured
    tables = {
        "kernel": found.by_kernel(),
        "module": found.by_module(),
        "line": found.by_line(),
        "phase": found.by_phase(),
    }
    return {
        "runs": runs,
        "seconds": found.kernel_seconds / runs,
        "peak_gflops": peak_gflops(),
        "tables": {name: [_row(row, runs) for row in rows] for name, rows in tables.items()},
        "values": {names[x]: s for x, s in measured.node_seconds().items() if x in names},
    }


def _row(row: Row, runs: int) -> list[Any]:
    """Name, calls, seconds, FLOPs and bytes moved, each for one run."""
    return [
        row.name,
        row.calls // runs,
        row.seconds / runs,
        row.flops // runs,
        row.bytes_moved // runs,
    ]

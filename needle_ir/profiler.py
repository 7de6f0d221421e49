"""`profile`: where the time goes, by kernel, by module and by source line."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from needle_ir.compiler import instruments, running_with
from needle_ir.ir import Array, Cost, Graph, Node, Pass, Plan, node_costs
from needle_ir.realize import sync
from needle_ir.runtime import Executor, Kernel


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One call of a kernel, in seconds; `start` counts from the start of the profile."""

    node: Node
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class PassRun:
    """One run of a pass over one graph, in the same seconds."""

    name: str
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """What the kernel calls under one name add up to."""

    name: str
    calls: int
    seconds: float
    flops: int
    bytes_moved: int


@dataclass
class Profile:
    """What `profile` measured. `seconds` is the time from its begin to its end, `graphs` are the
    compiled graphs that ran.

    `str()` gives three tables: by kernel, by module and by source line.
    """

    calls: list[KernelCall] = field(default_factory=list)
    passes: list[PassRun] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    seconds: float = 0.0
    _costs: dict[Node, Cost] = field(default_factory=dict, repr=False)

    @property
    def graph(self) -> Graph:
        """The graph whose kernels took the longest: the one that `viz.to_dot` draws."""
        if not self.graphs:
            raise ValueError("nothing ran while the profile was taken: there is no graph")
        seconds = self.node_seconds()
        return max(self.graphs, key=lambda graph: sum(seconds.get(x, 0.0) for x in graph.nodes))

    @property
    def kernel_seconds(self) -> float:
        """The time in kernels."""
        return sum(call.seconds for call in self.calls)

    @property
    def compile_seconds(self) -> float:
        """The time in passes."""
        return sum(run.seconds for run in self.passes)

    def node_seconds(self) -> dict[Node, float]:
        """The time of each node of the compiled graphs, over all of its calls."""
        found: dict[Node, float] = {}
        for call in self.calls:
            found[call.node] = found.get(call.node, 0.0) + call.seconds
        return found

    def by_kernel(self) -> list[Row]:
        """One row for each kernel, the longest first."""
        return self._rows(lambda node: node.op.name)

    def by_module(self) -> list[Row]:
        """One row for each module path, the longest first."""
        return self._rows(lambda node: node.origin.module if node.origin else "")

    def by_line(self) -> list[Row]:
        """One row for each line of the user's code, the longest first."""
        return self._rows(lambda node: str(node.origin) if node.origin else "")

    def by_phase(self) -> list[Row]:
        """One row for `forward`, `backward` and `update` each, the longest first."""
        return self._rows(lambda node: node.origin.phase if node.origin else "")

    def _rows(self, name_of: Callable[[Node], str]) -> list[Row]:
        groups: dict[str, list[KernelCall]] = {}
        for call in self.calls:
            groups.setdefault(name_of(call.node), []).append(call)
        rows = []
        for name, calls in groups.items():
            costs = [self._costs[call.node] for call in calls]
            rows.append(
                Row(
                    name or "(none)",
                    len(calls),
                    sum(call.seconds for call in calls),
                    sum(cost.flops for cost in costs),
                    sum(cost.bytes_moved for cost in costs),
                )
            )
        return sorted(rows, key=lambda row: -row.seconds)

    def __str__(self) -> str:
        tables = [
            ("kernel", self.by_kernel()),
            ("module", self.by_module()),
            ("source line", self.by_line()),
        ]
        inside = self.kernel_seconds
        rest = max(self.seconds - inside - self.compile_seconds, 0.0)
        head = (
            f"{1e3 * self.seconds:.2f} ms: {len(self.calls)} kernel calls {1e3 * inside:.2f} ms, "
            f"passes {1e3 * self.compile_seconds:.2f} ms, the rest {1e3 * rest:.2f} ms\n"
            f"peak: {peak_gflops():.1f} GFLOP/s, measured with a float32 matrix product"
        )
        return "\n\n".join([head, *[_table(title, rows, inside) for title, rows in tables]])

    def write_trace(self, path: str | Path) -> None:
        """Write the calls as a Chrome trace, for chrome://tracing or ui.perfetto.dev."""
        from needle_ir.viz.atomic import write_text

        write_text(Path(path), json.dumps(self._trace()))

    def _trace(self) -> dict[str, Any]:
        names = [(1, "kernels"), (2, "passes")]
        events: list[dict[str, Any]] = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": {"name": name}}
            for tid, name in names
        ]
        for call in self.calls:
            origin = call.node.origin
            flops, moved = self._costs[call.node]
            details: dict[str, Any] = {"type": str(call.node.type), "flops": flops, "bytes": moved}
            if origin is not None:
                details |= {"module": origin.module, "line": str(origin)}
            events.append(
                _event(call.node.op.name, origin.phase if origin else "", 1, call, details)
            )
        events += [_event(run.name, "pass", 2, run, {}) for run in self.passes]
        return {"traceEvents": events, "displayTimeUnit": "ms"}


def _event(
    name: str, category: str, thread: int, timed: KernelCall | PassRun, details: dict[str, Any]
) -> dict[str, Any]:
    """A complete event of the trace format; its times are microseconds."""
    return {
        "name": name,
        "cat": category,
        "ph": "X",
        "pid": 1,
        "tid": thread,
        "ts": round(1e6 * timed.start, 3),
        "dur": round(1e6 * timed.seconds, 3),
        "args": details,
    }


_ROWS = 20  # of a table; the rest are one row


def _table(title: str, rows: list[Row], total: float) -> str:
    shown = rows if len(rows) <= _ROWS else [*rows[: _ROWS - 1], _sum_of(rows[_ROWS - 1 :])]
    width = min(max(len(row.name) for row in shown), 44) if shown else 8
    width = max(width, len(title))
    head = f"{title:<{width}}  {'calls':>7}  {'ms':>9}  {'share':>6}  {'MB':>9}  "
    lines = [head + f"{'GFLOP/s':>8}  {'of peak':>7}"]
    for row in shown:
        name = row.name if len(row.name) <= width else f"…{row.name[1 - width :]}"
        share = row.seconds / total if total else 0.0
        rate = row.flops / row.seconds / 1e9 if row.seconds else 0.0
        lines.append(
            f"{name:<{width}}  {row.calls:>7}  {1e3 * row.seconds:>9.3f}  {share:>6.1%}  "
            f"{row.bytes_moved / 1e6:>9.2f}  {rate:>8.2f}  {rate / peak_gflops():>7.1%}"
        )
    return "\n".join(lines)


def _sum_of(rows: list[Row]) -> Row:
    return Row(
        f"{len(rows)} more",
        sum(row.calls for row in rows),
        sum(row.seconds for row in rows),
        sum(row.flops for row in rows),
        sum(row.bytes_moved for row in rows),
    )


class _Profiler:
    """Runs plans with a clock around every kernel, and looks on at the passes."""

    def __init__(self, profile: Profile):
        self._profile = profile
        self._start = perf_counter()
        self._executors: dict[int, Executor] = {}  # by the id of the plan, which each keeps alive

    def stop(self) -> None:
        self._profile.seconds = perf_counter() - self._start

    def run(self, plan: Plan, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs of the plan. Its kernels are timed one by one."""
        executor = self._executors.get(id(plan))
        if executor is None:
            costs = node_costs(plan.graph)
            self._profile._costs |= costs
            self._profile.graphs.append(plan.graph)
            executor = self._executors[id(plan)] = Executor(plan, self._timed)
        return executor(arrays)

    def _timed(self, node: Node, kernel: Kernel) -> Kernel:
        calls, begin = self._profile.calls, self._start

        def timed(*arrays: Array) -> Any:
            start = perf_counter()
            result = kernel(*arrays)
            calls.append(KernelCall(node, start - begin, perf_counter() - start))
            return result

        return timed

    # As an instrument of the pipeline.

    def start(self, graph: Graph) -> None:
        """Nothing is known yet."""

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Keep how long the pass took."""
        start = perf_counter() - self._start - seconds
        self._profile.passes.append(PassRun(pass_.name, start, seconds))


@contextmanager
def profile(*, show: bool = True, trace: str | Path | None = None) -> Iterator[Profile]:
    """Measure what this thread compiles and runs inside.

    At the end it prints the tables of the Profile, unless `show` is False, and writes a Chrome
    trace to the file `trace`, where one is named. What is recorded inside and still held at the
    end is computed there. A clock around every kernel costs about half a microsecond a call.
    """
    result = Profile()
    profiler = _Profiler(result)
    with instruments(profiler), running_with(profiler.run):
        yield result
        sync(free_history=False)
    profiler.stop()
    if trace is not None:
        result.write_trace(trace)
    if show:
        print(result)


@cache
def peak_gflops(size: int = 512) -> float:
    """The most float32 operations a second that a matrix product reached here, in 10⁹.

    The best of ten products of `size` by `size`, as many threads as the BLAS library uses. It is
    measured once in a process.
    """
    a = np.ones((size, size), np.float32)
    out = np.empty_like(a)
    multiply = partial(np.matmul, a, a, out)
    multiply()
    seconds = []
    for _ in range(10):
        start = perf_counter()
        multiply()
        seconds.append(perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9

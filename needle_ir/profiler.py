"""`profile`: where the time goes, by kernel, by module and by source line."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from needle_ir.compiler import instruments, running_with
from needle_ir.ir import (
    Array,
    Cost,
    Graph,
    Node,
    Origin,
    Pass,
    Plan,
    Representable,
    node_costs,
)
from needle_ir.machine import copy_gbps, copy_rates, peak_gflops
from needle_ir.ops.cluster import FUSED
from needle_ir.realize import sync
from needle_ir.runtime import Executor, Kernel, fused_kernel

_ROWS = 20  # of a table; the rest are one row
_NAME_WIDTH = 44
_PID = 1  # in the trace, which has one process
_SAMPLED = 3  # calls of a fused cluster in which the ops inside are timed


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

    @property
    def gflops(self) -> float:
        """10⁹ floating-point operations a second."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gbps(self) -> float:
        """10⁹ bytes read or written a second."""
        return self.bytes_moved / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def of_peak(self) -> float:
        """How near it comes to what the machine reaches, from 0 to about 1: the larger one of its
        shares of `machine.peak_gflops` and of `machine.copy_gbps` for as many bytes as a call
        moves. So the roofline model has it (Williams, Waterman and Patterson 2009).
        """
        if not self.calls:
            return 0.0
        copy = copy_gbps(self.bytes_moved // self.calls)
        return max(self.gflops / peak_gflops(), self.gbps / copy)


class _Part(NamedTuple):
    """The part of a kernel's time and cost that one op in it has."""

    origin: Origin | None
    share: float
    cost: Cost


@dataclass(repr=False)
class Profile(Representable):
    """What `profile` measured. `seconds` is the time from its begin to its end, `graphs` are the
    compiled graphs that ran.

    `str()` gives three tables: by kernel, by module and by source line. The time of a fused cluster
    is shared out among the modules and lines of the ops in it, as these took it in the cluster's
    first calls.
    """

    calls: list[KernelCall] = field(default_factory=list)
    passes: list[PassRun] = field(default_factory=list)
    graphs: list[Graph] = field(default_factory=list)
    seconds: float = 0.0
    _costs: dict[Node, Cost] = field(default_factory=dict)
    _inside: dict[Node, float] = field(default_factory=dict)  # seconds of ops in fused clusters

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
        """One row for each kernel, the longest first. A fused cluster is named by its ops."""
        groups: dict[str, list[tuple[float, Cost]]] = {}
        for call in self.calls:
            cost = self._costs[call.node]
            groups.setdefault(_kernel_name(call.node), []).append((call.seconds, cost))
        return _rows(groups)

    def by_module(self) -> list[Row]:
        """One row for each module path, the longest first."""
        return self._by_origin(lambda origin: origin.module)

    def by_line(self) -> list[Row]:
        """One row for each line of the user's code, the longest first."""
        return self._by_origin(str)

    def by_phase(self) -> list[Row]:
        """One row for `forward`, `backward` and `update` each, the longest first."""
        return self._by_origin(lambda origin: origin.phase)

    def _by_origin(self, name_of: Callable[[Origin], str]) -> list[Row]:
        """One row for each name; a call counts once for each that has a part in it."""
        parts: dict[Node, dict[str, tuple[float, Cost]]] = {}
        groups: dict[str, list[tuple[float, Cost]]] = {}
        for call in self.calls:
            if call.node not in parts:
                named: dict[str, tuple[float, Cost]] = {}
                parts[call.node] = named
                for origin, share, cost in self._parts(call.node):
                    name = "" if origin is None else name_of(origin)
                    before, (flops, moved) = named.get(name, (0.0, Cost(0, 0)))
                    sum_ = Cost(flops + cost.flops, moved + cost.bytes_moved)
                    named[name] = (before + share, sum_)
            for name, (share, cost) in parts[call.node].items():
                groups.setdefault(name or "(none)", []).append((share * call.seconds, cost))
        return _rows(groups)

    def _parts(self, node: Node) -> list[_Part]:
        """The ops in a kernel. In a fused cluster, an op that reads one of its operands first, or
        makes its result, has moved these bytes.
        """
        body = _body(node)
        if body is None:
            return [_Part(node.origin, 1.0, self._costs[node])]
        ops = [x for x in body.nodes if x in self._inside]
        total = sum(self._inside[x] for x in ops)
        costs = node_costs(body)
        unread = {id(x): x.type.nbytes for x in body.inputs}
        parts = []
        for x in ops:
            moved = sum(unread.pop(id(operand), 0) for operand in x.inputs)
            moved += x.type.nbytes * (x is body.outputs[0])
            share = self._inside[x] / total if total else 1 / len(ops)
            parts.append(_Part(x.origin, share, Cost(costs[x].flops, moved)))
        return parts

    def __str__(self) -> str:
        return self.show()

    def __repr__(self) -> str:
        return f"<Profile: {len(self.calls)} kernel calls in {1e3 * self.seconds:.2f} ms>"

    def show(self, by: str | None = None) -> str:
        """The tables as text; with `by`, one of them: `kernel`, `module`, `line` or `phase`.

        Raises ValueError for another word.
        """
        tables = {
            "kernel": ("kernel", self.by_kernel),
            "module": ("module", self.by_module),
            "line": ("source line", self.by_line),
            "phase": ("phase", self.by_phase),
        }
        if by is not None and by not in tables:
            raise ValueError(f"a profile has no table by {by!r}; there are {', '.join(tables)}")
        inside = self.kernel_seconds
        rest = max(self.seconds - inside - self.compile_seconds, 0.0)
        rates = [rate for _, rate in copy_rates()]
        head = (
            f"{1e3 * self.seconds:.2f} ms: {len(self.calls)} kernel calls {1e3 * inside:.2f} ms, "
            f"passes {1e3 * self.compile_seconds:.2f} ms, the rest {1e3 * rest:.2f} ms\n"
            f"measured here: {peak_gflops():.1f} GFLOP/s in a float32 matrix product; "
            f"copies at {max(rates):.1f} GB/s in cache, {rates[-1]:.1f} GB/s out of it"
        )
        wanted = [by] if by is not None else ["kernel", "module", "line"]
        texts = [_table(title, rows(), inside) for title, rows in map(tables.__getitem__, wanted)]
        return "\n\n".join([head, *texts])

    def write_trace(self, path: str | Path) -> None:
        """Write the calls as a Chrome trace, for chrome://tracing or ui.perfetto.dev."""
        from needle_ir.viz.atomic import write_text

        write_text(Path(path), json.dumps(self._trace()))

    def _trace(self) -> dict[str, Any]:
        names = [("process_name", 1, "needle_ir"), ("thread_name", 1, "kernels")]
        names.append(("thread_name", 2, "passes"))
        events: list[dict[str, Any]] = [
            {"name": kind, "ph": "M", "pid": _PID, "tid": tid, "ts": 0, "args": {"name": name}}
            for kind, tid, name in names
        ]
        for call in self.calls:
            origin = call.node.origin
            flops, moved = self._costs[call.node]
            details: dict[str, Any] = {"type": str(call.node.type), "flops": flops, "bytes": moved}
            if _body(call.node) is not None:
                details["ops"] = _kernel_name(call.node).partition(" ")[2]
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
        "pid": _PID,
        "tid": thread,
        "ts": round(1e6 * timed.start, 3),
        "dur": round(1e6 * timed.seconds, 3),
        "args": details,
    }


def _body(node: Node) -> Graph | None:
    """The graph of the ops in a fused cluster, None for another kernel."""
    return node.attrs["body"] if node.op is FUSED else None


def _kernel_name(node: Node) -> str:
    body = _body(node)
    if body is None:
        return node.op.name
    return f"{node.op.name} {', '.join(x.op.name for x in body.nodes if x.inputs)}"


def _rows(groups: dict[str, list[tuple[float, Cost]]]) -> list[Row]:
    """A row for each name, of the seconds and costs of its calls."""
    rows = [
        Row(
            name,
            len(calls),
            sum(seconds for seconds, _ in calls),
            sum(cost.flops for _, cost in calls),
            sum(cost.bytes_moved for _, cost in calls),
        )
        for name, calls in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def _table(title: str, rows: list[Row], total: float) -> str:
    shown = rows if len(rows) <= _ROWS else [*rows[: _ROWS - 1], _sum_of(rows[_ROWS - 1 :])]
    width = max(len(title), *[min(len(row.name), _NAME_WIDTH) for row in shown], 8)
    head = f"{title:<{width}}  {'calls':>7}  {'ms':>9}  {'share':>6}  {'MB':>9}  "
    lines = [head + f"{'GFLOP/s':>8}  {'GB/s':>7}  {'of peak':>7}"]
    for row in shown:
        name = row.name
        if len(name) > width:
            # Of a file and a line the end tells, of the ops of a cluster the first.
            is_kernel = title == "kernel"
            name = f"{name[: width - 1]}…" if is_kernel else f"…{name[1 - width :]}"
        share = row.seconds / total if total else 0.0
        lines.append(
            f"{name:<{width}}  {row.calls:>7}  {1e3 * row.seconds:>9.3f}  {share:>6.1%}  "
            f"{row.bytes_moved / 1e6:>9.2f}  {row.gflops:>8.2f}  {row.gbps:>7.2f}  "
            f"{row.of_peak:>7.1%}"
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
        is_fused = _body(node) is not None
        sampled = [fused_kernel(node, self._timed_inside)] * _SAMPLED if is_fused else []

        def timed(*arrays: Array) -> Any:
            run = sampled.pop() if sampled else kernel
            start = perf_counter()
            result = run(*arrays)
            calls.append(KernelCall(node, start - begin, perf_counter() - start))
            return result

        return timed

    def _timed_inside(self, node: Node, kernel: Kernel) -> Kernel:
        """A kernel of an op in a fused cluster, which is called for each of its tiles."""
        inside = self._profile._inside
        inside[node] = 0.0

        def timed(*arrays: Array) -> Any:
            start = perf_counter()
            result = kernel(*arrays)
            seconds = perf_counter() - start
            inside[node] += seconds  # without a call in between: threads share the tiles
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

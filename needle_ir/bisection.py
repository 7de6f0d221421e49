"""`bisect`: which rewrite of a pipeline first changes what a graph computes.

A rewrite that a pass announces is a unit, and so is what a pass changes without announcing it. The
graph is judged after every pass; in the first pass after which it is wrong, the fewest rewrites are
looked for after which it is, by refusing the others.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from needle_ir.agreement import Difference, Reference, compare, run_nodes, runnable
from needle_ir.compiler import Pipeline, read_pipeline
from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Application,
    Array,
    Graph,
    Node,
    Pass,
    inherit_origin,
    statement,
    value_names,
    verify,
    watch_rewrites,
)
from needle_ir.passes import make_plan
from needle_ir.random_inputs import Floats, checked_inputs, random_inputs
from needle_ir.runtime import KERNELS, Executor, draws
from needle_ir.tensor import Tensor

# Gives the outputs of a graph.
Run = Callable[[Graph, Sequence[Array], int], tuple[Array, ...]]
# So many outputs are shown one by one.
_SHOWN = 5


@dataclass(frozen=True)
class Bisection:
    """What `bisect` found. `str()` is the report.

    `verdict` is `same` (to the bit), `rounding`, `rewrite` (one rewrite is at fault), `pass` (what
    a pass does without announcing rewrites is) or `plan` (node by node the numbers are right, and
    the plan or a kernel of it gives others).

    `rule`, `pass_name`, `pass_number` (from 1) and `number` (of `of` rewrites in the pass) say
    where. `application` has the nodes; `differences` are those of the outputs after it, `local`
    that of the value which was rewritten. `error` is what the compiler, or the run, raised in the
    place of numbers.
    """

    verdict: str
    differences: tuple[Difference, ...] = ()
    rule: str | None = None
    pass_name: str | None = None
    pass_number: int | None = None
    number: int | None = None
    of: int | None = None
    application: Application | None = None
    local: Difference | None = None
    error: Exception | None = None
    inputs: tuple[Node, ...] = ()
    note: str = ""

    @property
    def found(self) -> bool:
        """Whether something is at fault."""
        return self.verdict not in ("same", "rounding")

    def __str__(self) -> str:
        lines = [self._headline()]
        if self.application is not None:
            lines += _rewrite_lines(self.application, self.inputs)
        if self.local is not None:
            lines.append(f"    {self.local}")
        shown = [x for x in self.differences if x.count or self.verdict == "rounding"]
        lines += [f"    {x}" for x in shown[:_SHOWN]]
        if len(shown) > _SHOWN:
            lines.append(f"    and {len(shown) - _SHOWN} outputs more")
        if self.error is not None:
            lines.append(f"    {type(self.error).__name__}: {self.error}")
            for frame in traceback.extract_tb(self.error.__traceback__)[-1:]:
                lines.append(f"    raised in {frame.name}, {frame.filename}:{frame.lineno}")
        return "\n".join([*lines, *([self.note] if self.note else [])])

    def _headline(self) -> str:
        does = "fails" if self.error is not None else "changes the numbers"
        where = f"pass {self.pass_number}, {self.pass_name}"
        if self.verdict == "same":
            return "no difference: the same bits after every pass and as a plan"
        if self.verdict == "rounding":
            return "no difference but rounding, after every pass and as a plan"
        if self.verdict == "rewrite":
            after = "makes what follows fail" if self.error is not None else does
            which = f"number {self.number} of {self.of}"
            return f"the rewrite {self.rule} of {where}, {after} ({which})"
        if self.verdict == "pass":
            rewrites = f", not by one of its {self.of} announced rewrites" if self.of else ""
            return f"{where}, {does} by itself{rewrites}"
        return f"the plan {does}: node by node, the optimized graph is right"


def bisect(
    graph: Graph,
    inputs: Sequence[Any] | None = None,
    pipeline: Pipeline | None = None,
    *,
    seed: int = 0,
) -> Bisection:
    """The first rewrite of `pipeline` that changes what `graph` computes of `inputs`.

    `inputs` are arrays or tensors for the graph's inputs; None stands for random ones, normal and
    positive. `pipeline` is a text, or a list of texts and passes; None is the default one. `seed`
    is that of the random inputs and of draws in the graph. Numbers are compared with those of the
    graph run node by node without the pipeline, up to rounding (docs/inspection.md says how).

    A pass that raises, a graph that the verifier refuses and a run that fails are at fault as wrong
    numbers are. Raises ValueError for inputs that do not fit, and RuntimeError where the graph
    fails without the pipeline.
    """
    passes = read_pipeline(pipeline)
    verify(graph)
    if inputs is None:
        sets = [random_inputs(graph, seed, floats) for floats in Floats]
    else:
        sets = [checked_inputs(graph, [x.numpy() if isinstance(x, Tensor) else x for x in inputs])]
    with inherit_origin(None):
        results = []
        for arrays in sets:
            results.append(_Bisector(graph, arrays, passes, seed).bisect())
            if results[-1].found:
                break
    return max(results, key=lambda result: (result.found, result.verdict == "rounding"))


@dataclass
class _Verdict:
    """What a graph gave: numbers that differ, or an error."""

    differences: list[Difference] = field(default_factory=list)
    error: Exception | None = None

    @property
    def wrong(self) -> bool:
        return self.error is not None or any(x.count for x in self.differences)


@dataclass
class _State:
    """A graph after some rewrites of a pass, all of them where none was refused."""

    graph: Graph | None
    applications: list[Application]
    error: Exception | None = None


class _Bisector:
    def __init__(self, graph: Graph, arrays: Sequence[Array], passes: Sequence[Pass], seed: int):
        self._graph = graph
        self._arrays = arrays
        self._passes = passes
        self._seed = seed
        try:
            self._reference = Reference(graph, arrays, seed)
        except Exception as error:
            raise RuntimeError(
                f"@{graph.name} fails without the pipeline: {type(error).__name__}: {error}"
            ) from error

    def bisect(self) -> Bisection:
        before, rounding = self._graph, _Verdict()
        for number, pass_ in enumerate(self._passes, start=1):
            state = _state(pass_, before)
            if state.graph is before:
                continue
            verdict = self._judge(state, _by_nodes)
            if verdict.wrong:
                return self._inside(before, pass_, number, state, verdict, _by_nodes)
            rounding = verdict if verdict.differences else rounding
            assert state.graph is not None
            before = state.graph
        verdict = self._judge(_State(before, []), _by_plan)
        if verdict.wrong:
            return self._plan(verdict)
        rounding = verdict if verdict.differences else rounding
        verdict_word = "rounding" if rounding.differences else "same"
        return Bisection(verdict_word, tuple(rounding.differences))

    def _judge(self, state: _State, run: Run) -> _Verdict:
        if state.graph is None:
            return _Verdict(error=state.error)
        try:
            verify(state.graph)
            found = run(state.graph, self._arrays, self._seed)
        except Exception as error:
            return _Verdict(error=error)
        return _Verdict(self._reference.differences(found))

    def _plan(self, verdict: _Verdict) -> Bisection:
        """Which rewrite the plan first goes wrong with, where it is right without any."""
        before = self._graph
        unoptimized = self._judge(_State(runnable(before), []), _by_plan)
        if unoptimized.wrong:
            note = "the plan of the graph without the pipeline does so too"
            return self._report("plan", unoptimized, note=note)
        note = "node by node, the graph is right after it: the plan or a kernel is at fault"
        for number, pass_ in enumerate(self._passes, start=1):
            state = _state(pass_, before)
            after = self._judge(state, _by_plan_at_once)
            if after.wrong:
                return self._inside(before, pass_, number, state, after, _by_plan_at_once, note)
            assert state.graph is not None
            before = state.graph
        return self._report("plan", verdict)

    def _inside(
        self,
        before: Graph,
        pass_: Pass,
        number: int,
        whole: _State,
        verdict: _Verdict,
        run: Run,
        note: str = "",
    ) -> Bisection:
        """The rewrite of a pass after which the graph is wrong, where it is right before it."""
        where = {"pass_name": pass_.name, "pass_number": number, "note": note}
        count = len(whole.applications)
        seen: dict[int, tuple[_State, _Verdict]] = {count: (whole, verdict)}

        def look(allowed: int) -> bool:
            """Whether it is wrong after so many rewrites."""
            if allowed not in seen:
                state = _state(pass_, before, allowed)
                seen[allowed] = (state, self._judge(state, run))
            return seen[allowed][1].wrong

        if look(0):
            first = seen[0][1]
            if first.error is not None and verdict.error is None:
                where["note"] = "its rewrites can not be left out: it fails without them"
                return self._report("pass", verdict, of=count, **where)
            return self._report("pass", first, of=count, **where)
        right, wrong = 0, count
        while wrong - right > 1:
            middle = (right + wrong) // 2
            right, wrong = (right, middle) if look(middle) else (middle, wrong)
        state, verdict = seen[wrong]
        application = state.applications[wrong - 1]
        return self._report(
            "rewrite",
            verdict,
            rule=application.rule,
            number=wrong,
            of=count,
            application=application,
            local=None if verdict.error else self._local(application, before),
            **where,
        )

    def _report(self, kind: str, verdict: _Verdict, **where: Any) -> Bisection:
        return Bisection(
            kind,
            tuple(verdict.differences),
            error=verdict.error,
            inputs=self._graph.inputs,
            **where,
        )

    def _local(self, application: Application, graph: Graph) -> Difference | None:
        """How the value that is put in differs from the one whose place it takes."""
        before, after = application.before, application.after
        if before is after:
            return None
        both = runnable(Graph(graph.inputs, [before, after], graph.effects))
        old, new = run_nodes(both, self._arrays, self._seed)
        return compare("the value", old, new, tolerance=0.0)


def _state(pass_: Pass, graph: Graph, allowed: int | None = None) -> _State:
    """The graph after a pass of which every rewrite after the first `allowed` is refused."""
    made: list[Application] = []

    def watch(application: Application) -> bool:
        if allowed is not None and len(made) >= allowed:
            return False
        made.append(application)
        return True

    try:
        with watch_rewrites(watch):
            return _State(pass_.run(graph), made)
    except Exception as error:
        return _State(None, made, error)


def _by_nodes(graph: Graph, arrays: Sequence[Array], seed: int) -> tuple[Array, ...]:
    return run_nodes(runnable(graph), arrays, seed)


def _by_plan(graph: Graph, arrays: Sequence[Array], seed: int) -> tuple[Array, ...]:
    executor = Executor(make_plan(graph))
    with draws.repeatable(seed):
        executor([np.zeros_like(x) for x in arrays])  # leaves other numbers in the arena
    with draws.repeatable(seed):
        return executor(arrays)


def _by_plan_at_once(graph: Graph, arrays: Sequence[Array], seed: int) -> tuple[Array, ...]:
    has_kernels = all(x.op in (INPUT, CONSTANT) or x.op.name in KERNELS for x in graph.nodes)
    return _by_plan(graph if has_kernels else runnable(graph), arrays, seed)


def _rewrite_lines(application: Application, inputs: tuple[Node, ...]) -> list[str]:
    """The nodes that went, those that came, and where they were recorded."""
    before, after = application.before, application.after
    names = value_names(Graph(inputs, [before, after], [], application.matched))
    origin = before.origin
    lines: list[str] = []
    if origin is not None:
        module = f", {origin.module}" if origin.module else ""
        lines.append(f"    {origin}{module}{f': {origin.text}' if origin.text else ''}")
    for node in reversed(application.matched):
        place = f"  # {node.origin}" if node.origin is not None and node.origin != origin else ""
        lines.append(f"    - {statement(node, names)}{place}")
    if after is before:
        return lines
    lines += [f"    + {statement(node, names)}" for node in application.new if node in names]
    return [*lines, f"    → {names[after]} stands for {names[before]}"]

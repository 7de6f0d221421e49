"""`explain`: what each pass made of a program, why, and at what cost."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

from needle_ir.compiler import Pipeline, read_pipeline
from needle_ir.explanation.report import ReportLine, report
from needle_ir.explanation.schema import as_json
from needle_ir.explanation.stages import Planning, Stage, run_stages
from needle_ir.ir import Graph
from needle_ir.jit import Compiled, JitFunction, trace
from needle_ir.passes import format_pipeline

__all__ = ["Explanation", "Stage", "explain"]


@dataclass(frozen=True)
class Explanation:
    """What a pipeline made of a graph: the stages, the first of them the graph as recorded, and
    the plan. `str()` is the report.
    """

    stages: tuple[Stage, ...]
    planning: Planning
    pipeline: str

    @property
    def graph(self) -> Graph:
        """The optimized graph."""
        return self.stages[-1].graph

    def show(
        self,
        *,
        only: str | int | None = None,
        until: str | int | None = None,
        rule: str | None = None,
        full: bool = False,
    ) -> str:
        """The report: the pipeline as a table, then the changes of each pass.

        `only` shows the changes of the passes of this name or number, `until` ends with the first
        one of it. `rule` shows what this rule changed. `full` shows whole graphs; without it, long
        changes are summed up by module. Raises ValueError for a name that is not there.
        """
        lines = self.lines(only=only, until=until, rule=rule, full=full)
        return "\n".join(line.plain for line in lines)

    def lines(
        self,
        *,
        only: str | int | None = None,
        until: str | int | None = None,
        rule: str | None = None,
        full: bool = False,
    ) -> list[ReportLine]:
        """The lines of `show`, each with its style on a terminal with colours."""
        listed, shown = self._select(only, until, rule)
        planning = self.planning if len(listed) == len(self.stages) else None
        return report(listed, shown, planning, rule, full)

    def to_json(
        self,
        *,
        only: str | int | None = None,
        until: str | int | None = None,
        rule: str | None = None,
        full: bool = False,
    ) -> str:
        """The report as JSON, with the options of `show`. docs/inspection.md lists the fields."""
        listed, shown = self._select(only, until, rule)
        planning = self.planning if len(listed) == len(self.stages) else None
        return as_json(self.pipeline, listed, shown, planning, rule, full)

    def __str__(self) -> str:
        return self.show()

    def _select(
        self, only: str | int | None, until: str | int | None, rule: str | None
    ) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
        """The stages that the table lists, and those of which the changes are shown."""
        listed = self.stages
        if until is not None:
            listed = listed[: self._find(until, listed)[0].number + 1]
        shown = listed[1:] if only is None else self._find(only, listed)
        if rule is not None and not any(rule in stage.rules for stage in shown):
            applied = sorted({name for stage in shown for name in stage.rules})
            raise ValueError(
                f"no rule {rule!r} was applied; those that were are {', '.join(applied)}"
                if applied
                else f"no rule {rule!r} was applied, nor any other"
            )
        return listed, tuple(shown)

    def _find(self, wanted: str | int, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """The passes of a name or of a number in the table."""
        found = tuple(x for x in stages[1:] if str(wanted) in (x.name, x.text, str(x.number)))
        if not found:
            names = ", ".join(dict.fromkeys(stage.name for stage in stages[1:]))
            raise ValueError(
                f"no pass {wanted!r} here; the passes are {names}, and 1 to {len(stages) - 1}"
            )
        return found


def explain(
    fn_or_graph: Callable[..., Any] | Graph,
    *args: Any,
    pipeline: Pipeline | None = None,
    **kwargs: Any,
) -> Explanation:
    """What each pass makes of a function for example arguments, or of a graph. Print it.

    It shows per pass the time, the nodes, the rules that were applied and how often, FLOPs, bytes
    moved and planned peak memory; then what changed, with the rule that did it and the line of the
    program. The function is traced: nothing is computed, nothing assigned. A jitted function and
    a compiled one are explained with their own pipeline, if `pipeline` is None.
    """
    if pipeline is None:
        pipeline = own_pipeline(fn_or_graph)
    if isinstance(fn_or_graph, Graph | Compiled):
        if args or kwargs:
            raise TypeError("explain(graph) takes no example arguments: a graph has types")
        graph = fn_or_graph if isinstance(fn_or_graph, Graph) else fn_or_graph.stages[0].graph
    elif callable(fn_or_graph):
        graph = trace(fn_or_graph, *args, **kwargs)
    else:
        raise TypeError(f"explain() takes a function or a graph, not {type(fn_or_graph).__name__}")
    passes = read_pipeline(pipeline)
    stages, planning = run_stages(graph, passes)
    return Explanation(stages, planning, format_pipeline(passes))


def own_pipeline(fn: Any) -> Pipeline | None:
    """The pipeline that a jitted or a compiled function was given; None where it was none."""
    function = fn.__func__ if isinstance(fn, MethodType) else fn
    return function.pipeline if isinstance(function, JitFunction | Compiled) else None

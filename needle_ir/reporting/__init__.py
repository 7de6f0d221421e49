"""`report`: what the compiler makes of a program, as one page of HTML to look through."""

from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from needle_ir.compiler import Pipeline
from needle_ir.explanation import Explanation, explain, own_pipeline
from needle_ir.ir import Graph
from needle_ir.jit import Compiled
from needle_ir.pytree import flatten
from needle_ir.reporting.measuring import Measured, measure, profile_data
from needle_ir.reporting.memory import plan_data
from needle_ir.reporting.passes import stage_data
from needle_ir.reporting.pictures import draw_pictures
from needle_ir.reporting.sources import Sources
from needle_ir.reporting.values import Values, kinds
from needle_ir.tracing import argument_arrays, record
from needle_ir.viz.atomic import write_text
from needle_ir.viz.page import page

__all__ = ["Report", "report"]

VERSION = 1
TIMEOUT = 20.0


@dataclass(frozen=True)
class Report:
    """A page. `html` is its text, `path` the file that it was written to, None where it was not;
    `notes` say what is left out of it, and why.
    """

    html: str = field(repr=False)
    notes: tuple[str, ...]
    path: Path | None

    def write(self, path: str | PathLike[str]) -> None:
        """Write the page to a file, whole or not at all. Raises OSError where that fails."""
        write_text(Path(path), self.html)


def report(
    fn_or_graph: Callable[..., Any] | Graph,
    *args: Any,
    path: str | PathLike[str] | None = "report.html",
    pipeline: Pipeline | None = None,
    profile: bool = True,
    timeout: float = TIMEOUT,
    **kwargs: Any,
) -> Report:
    """Write what the compiler makes of a function for example arguments, or of a graph, as one
    page of HTML: the graph after each pass, the rewrites and their costs, the memory of the plan
    and, with `profile`, where the time goes.

    The page needs no network and no server. The function is traced as `explain` traces it; for the
    profile its program runs a few times on the arguments, and nothing is assigned. A graph has no
    arguments, so there is no profile of it. A jitted function and a compiled one go through their
    own pipeline, if `pipeline` is None. A layout that takes longer than `timeout` seconds is made
    without Graphviz. With `path` None, nothing is written.

    Raises TypeError for what is no function and no graph, ValueError for a timeout that is not
    above 0, OSError where `path` can not be written.
    """
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout!r}; expected a number of seconds above 0")
    if pipeline is None:
        pipeline = own_pipeline(fn_or_graph)
    measured: Measured | None = None
    if isinstance(fn_or_graph, Graph | Compiled) or not callable(fn_or_graph):
        explanation = explain(fn_or_graph, *args, pipeline=pipeline, **kwargs)
        told = "there are no arguments to run it with"
    else:
        recording = record(fn_or_graph, (args, kwargs))
        explanation = explain(recording.graph, pipeline=pipeline)
        leaves, _ = flatten((args, kwargs))
        told = "it was not asked for"
        if profile:
            plan = explanation.planning.plan
            try:
                measured = measure(plan, lambda: recording.gather(argument_arrays(leaves)))
            except Exception as error:  # whatever a kernel raises: the rest can still be shown
                told = f"the program failed with {type(error).__name__}: {error}"
            else:
                if not measured.profile.calls:
                    measured, told = None, "the plan calls no kernel"
    html, notes = _html(explanation, measured, told, timeout)
    if measured is None and profile:
        notes = (*notes, f"no profile: {told}")
    result = Report(html, notes, None if path is None else Path(path))
    if path is not None:
        result.write(path)
    return result


def _html(
    explanation: Explanation, measured: Measured | None, told: str, timeout: float
) -> tuple[str, tuple[str, ...]]:
    """The text of the page, and what is left out of it."""
    stages = explanation.stages
    sources = Sources()
    values = Values(sources)
    drawn = draw_pictures(explanation, measured, timeout)
    found = [stage_data(stage, values, sources) for stage in stages]
    names = dict(stages[-1].names)
    data = {
        "version": VERSION,
        "graph": stages[0].graph.name,
        "pipeline": explanation.pipeline,
        "notes": drawn.notes,
        "kinds": kinds(),
        "stages": found,
        "pictures": drawn.by_stop,
        "rows": values.rows,
        "plan": plan_data(explanation.planning, names),
        "profile": None if measured is None else profile_data(measured, names),
        "no_profile": told,
        "places": sources.places,
        "files": sources.files(),
    }
    return page(f"@{stages[0].graph.name}", data, drawn.pictures), drawn.notes

"""A pipeline run with an eye on it: per pass the time, the rewrites, the costs, the changes."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from needle_ir.explanation.changes import Change, Hunk
from needle_ir.explanation.naming import Namer, Names, Transition
from needle_ir.ir import Application, Cost, Graph, Pass, Plan, graph_cost
from needle_ir.passes import format_pipeline, make_plan, run_pipeline


@dataclass(frozen=True)
class Stage:
    """A graph, and the pass that made it.

    The first stage is what was recorded: it has no pass, and `before` is None. `seconds` is the
    time of the pass, which told of each rewrite meanwhile. `rules` counts what it applied. The
    costs are those of the graph, `peak_bytes` what a plan of it keeps alive at most: results in
    between, without inputs, constants and what is returned. `names` are those of the values,
    which they keep through all stages.
    """

    number: int
    name: str
    text: str
    seconds: float
    before: Graph | None
    graph: Graph
    rules: Counter[str]
    cost: Cost
    peak_bytes: int
    names: Names
    transition: Transition | None

    @cached_property
    def change(self) -> Change | None:
        """What the pass changed, line by line; None where it left the graph as it was."""
        if self.before is None or self.transition is None or self.before is self.graph:
            return None
        return Change(self.before, self.graph, self.transition)

    @cached_property
    def hunks(self) -> tuple[Hunk, ...]:
        """The changes, by the rewrite that made them."""
        return () if self.change is None else self.change.hunks()


@dataclass(frozen=True)
class Planning:
    """The plan of the last graph, and the seconds it took to make."""

    plan: Plan
    seconds: float


def run_stages(graph: Graph, passes: Iterable[Pass]) -> tuple[tuple[Stage, ...], Planning]:
    """Run a pipeline over `graph` and keep what there is to tell of each pass."""
    watch = _Watch()
    run_pipeline(graph, passes, [watch])
    planning = _plan(graph)
    namer = Namer(graph)
    stages = [
        Stage(
            number=0,
            name="recorded",
            text="recorded",
            seconds=0.0,
            before=None,
            graph=graph,
            rules=Counter(),
            cost=graph_cost(graph),
            peak_bytes=planning.plan.peak[1],
            names=namer.names,
            transition=None,
        )
    ]
    for run in watch.runs:
        last = stages[-1]
        changed = run.after is not last.graph
        transition = namer.follow(run.after, run.applications) if changed else None
        planning = _plan(run.after) if changed else planning
        stages.append(
            Stage(
                number=len(stages),
                name=run.pass_.name,
                text=format_pipeline([run.pass_]),
                seconds=run.seconds,
                before=last.graph,
                graph=run.after,
                rules=Counter(application.rule for application in run.applications),
                cost=graph_cost(run.after) if changed else last.cost,
                peak_bytes=planning.plan.peak[1],
                names=namer.names,
                transition=transition,
            )
        )
    return tuple(stages), planning


@dataclass
class _Run:
    pass_: Pass
    after: Graph
    seconds: float
    applications: list[Application]


@dataclass
class _Watch:
    """An instrument that keeps what each pass made, and each rewrite on the way."""

    runs: list[_Run] = field(default_factory=list)
    applications: list[Application] = field(default_factory=list)

    def start(self, graph: Graph) -> None:
        """Nothing is known before the first pass."""

    def rewrite(self, pass_: Pass, application: Application) -> bool:
        """Keep a rewrite, and let it be made."""
        self.applications.append(application)
        return True

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Keep what the pass made."""
        self.runs.append(_Run(pass_, after, seconds, self.applications))
        self.applications = []


def _plan(graph: Graph) -> Planning:
    started = time.perf_counter()
    plan = make_plan(graph)
    return Planning(plan, time.perf_counter() - started)

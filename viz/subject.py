"""What can be drawn: a graph, a plan, what a pass changed, and where the time goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

from needle_ir.ir import Graph, Node, Plan
from needle_ir.viz.change import Change

Level = Literal["module", "composite", "primitive", "kernel"]
"""What one box is.

`module`: a call of a module. `composite`: a node; composites and fused kernels are closed.
`primitive`: a primitive op; composites and fused kernels are frames around what they are made of.
`kernel`: a call of a kernel; fused kernels are frames, composites are closed.
"""

LEVELS: tuple[Level, ...] = get_args(Level)


@runtime_checkable
class Profile(Protocol):
    """Measured times: the graph that ran, and the seconds of its nodes, summed over all runs."""

    @property
    def graph(self) -> Graph:
        """The graph whose nodes were measured."""

    @property
    def seconds(self) -> Mapping[Node, float]:
        """The seconds of each node that was measured. Nodes without a kernel have none."""


@dataclass(frozen=True)
class Heat:
    """A profile made of a graph and a mapping from its nodes to seconds."""

    graph: Graph
    seconds: Mapping[Node, float]


Drawable = Graph | Plan | Change | Profile


@dataclass(frozen=True)
class Subject:
    """Something to draw, taken apart: the graph, and what there is to tell of its nodes."""

    graph: Graph
    change: Change | None = None
    plan: Plan | None = None
    seconds: Mapping[Node, float] | None = None

    @property
    def level(self) -> Level:
        """The level at which it is drawn where none is asked for."""
        return "composite" if self.plan is None else "kernel"


def subject_of(drawable: Drawable) -> Subject:
    """`drawable`, taken apart.

    Raises TypeError for what can not be drawn, ValueError for a profile of another graph or with
    a time that is no number of seconds.
    """
    if isinstance(drawable, Graph):
        return Subject(drawable)
    if isinstance(drawable, Plan):
        return Subject(drawable.graph, plan=drawable)
    if isinstance(drawable, Change):
        return Subject(drawable.after, change=drawable)
    if isinstance(drawable, Profile):
        _check_seconds(drawable.graph, drawable.seconds)
        return Subject(drawable.graph, seconds=drawable.seconds)
    raise TypeError(
        f"{type(drawable).__name__} can not be drawn; expected a Graph, a Plan, a Change, or a "
        "profile with `graph` and `seconds`"
    )


def check_level(level: Level) -> Level:
    """`level`. Raises ValueError where there is no such level."""
    if level not in LEVELS:
        raise ValueError(f"no level {level!r}; the levels are {', '.join(LEVELS)}")
    return level


def _check_seconds(graph: Graph, seconds: Mapping[Node, float]) -> None:
    nodes = frozenset(graph.nodes)
    for node, value in seconds.items():
        if node not in nodes:
            raise ValueError(f"the profile has a time for {node!r}, which is not in its graph")
        if not 0 <= value < float("inf"):
            raise ValueError(f"the profile has {value} s for {node!r}; expected 0 or more")

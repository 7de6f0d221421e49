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
class Timed(Protocol):
    """Measured times, such as `needle_ir.profile` gives: a graph that ran, and how long its nodes
    took.
    """

    @property
    def graph(self) -> Graph:
        """The graph to draw."""

    def node_seconds(self) -> Mapping[Node, float]:
        """The seconds of each node that was measured, summed over all runs. Nodes without a kernel
        have none. There may be nodes of other graphs.
        """


@dataclass(frozen=True)
class Heat:
    """A graph and the seconds of its nodes, as something to draw."""

    graph: Graph
    seconds: Mapping[Node, float]

    def node_seconds(self) -> Mapping[Node, float]:
        """The seconds as they were given."""
        return self.seconds


Drawable = Graph | Plan | Change | Timed


@dataclass(frozen=True)
class Subject:
    """Something to draw, taken apart: the graph, and what there is to tell of its nodes.

    `seconds` are of nodes of the graph, `elsewhere` the seconds of all others.
    """

    graph: Graph
    change: Change | None = None
    plan: Plan | None = None
    seconds: Mapping[Node, float] | None = None
    elsewhere: float = 0.0

    @property
    def level(self) -> Level:
        """The level at which it is drawn where none is asked for."""
        return "composite" if self.plan is None else "kernel"


def subject_of(drawable: Drawable) -> Subject:
    """`drawable`, taken apart.

    Raises TypeError for what can not be drawn, ValueError for times of another graph alone, or for
    one that is no number of seconds.
    """
    if isinstance(drawable, Graph):
        return Subject(drawable)
    if isinstance(drawable, Plan):
        return Subject(drawable.graph, plan=drawable)
    if isinstance(drawable, Change):
        return Subject(drawable.after, change=drawable)
    if isinstance(drawable, Timed):
        return _with_times(drawable.graph, drawable.node_seconds())
    raise TypeError(
        f"{type(drawable).__name__} can not be drawn; expected a Graph, a Plan, a Change, or times "
        "with `graph` and `node_seconds()`"
    )


def check_level(level: Level) -> Level:
    """`level`. Raises ValueError where there is no such level."""
    if level not in LEVELS:
        raise ValueError(f"no level {level!r}; the levels are {', '.join(LEVELS)}")
    return level


def _with_times(graph: Graph, seconds: Mapping[Node, float]) -> Subject:
    for node, value in seconds.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"the time of {node!r} is {value} s; expected 0 or more")
    nodes = frozenset(graph.nodes)
    own = {node: value for node, value in seconds.items() if node in nodes}
    if seconds and not own:
        raise ValueError(f"none of the {len(seconds)} nodes that have times is in {graph!r}")
    elsewhere = sum(value for node, value in seconds.items() if node not in nodes)
    return Subject(graph, seconds=own, elsewhere=elsewhere)

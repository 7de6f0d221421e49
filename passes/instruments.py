"""Instruments that watch a pipeline: the verifier, a timer, a recorder, a counter."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from needle_ir.ir import Graph, Pass, VerificationError, verify


class Verify:
    """Checks the graph after every pass; the error names the pass that broke it."""

    def start(self, graph: Graph) -> None:
        """Check the graph as it was recorded."""
        verify(graph)

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Check what the pass made."""
        try:
            verify(after)
        except VerificationError as error:
            raise VerificationError(f"after the pass {pass_.name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Stage:
    """A graph, the pass that made it, and the seconds this took."""

    name: str
    graph: Graph
    seconds: float


@dataclass
class Record:
    """Keeps the graph after every pass. The first stage, `recorded`, is the pipeline's input."""

    stages: list[Stage] = field(default_factory=list)

    def start(self, graph: Graph) -> None:
        """Begin a new record."""
        self.stages = [Stage("recorded", graph, 0.0)]

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Keep what the pass made."""
        self.stages.append(Stage(pass_.name, after, seconds))

    def __str__(self) -> str:
        """A table: pass, nodes, milliseconds."""
        rows = [f"{'pass':<12}{'nodes':>8}{'ms':>10}"]
        for stage in self.stages:
            ms = f"{1e3 * stage.seconds:.2f}"
            rows.append(f"{stage.name:<12}{len(stage.graph.nodes):>8}{ms:>10}")
        return "\n".join(rows)


class Progress:
    """Knows how far a pipeline is. `str()` names the pass that runs, `planning` after the last."""

    def __init__(self, passes: Sequence[Pass]):
        self._passes = passes
        self._done = 0

    def start(self, graph: Graph) -> None:
        """No pass has run."""
        self._done = 0

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Count the pass."""
        self._done += 1

    @property
    def last(self) -> str:
        """The pass that ran last: `pass 2 of 5, simplify`."""
        return self._name(self._done)

    def __str__(self) -> str:
        return self._name(self._done + 1) if self._done < len(self._passes) else "planning"

    def _name(self, number: int) -> str:
        return f"pass {number} of {len(self._passes)}, {self._passes[number - 1].name}"

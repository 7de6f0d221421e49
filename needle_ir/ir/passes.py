"""What a pass and an instrument are: protocols, so that neither side imports the other."""

from typing import Protocol

from needle_ir.ir.graph import Graph


class Pass(Protocol):
    """A graph in, a graph out. The options of a pass are the fields of its frozen dataclass."""

    @property
    def name(self) -> str:
        """The name in a pipeline's text form."""

    def run(self, graph: Graph) -> Graph:
        """The rewritten graph; `graph` itself where nothing changed."""


class Instrument(Protocol):
    """Something that looks on while a pipeline runs."""

    def start(self, graph: Graph) -> None:
        """Called once with the graph as it was recorded."""

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Called after every pass with its graphs and the time it took."""

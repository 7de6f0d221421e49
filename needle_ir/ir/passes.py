"""What a pass and an instrument are: protocols, so that neither side imports the other."""

from typing import Protocol, runtime_checkable

from needle_ir.ir.graph import Graph
from needle_ir.ir.rewriting import Application


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


@runtime_checkable
class RewriteInstrument(Instrument, Protocol):
    """An instrument that sees every single rewrite as well."""

    def rewrite(self, pass_: Pass, application: Application) -> bool:
        """Called before each rewrite of a pass. It is left out where the answer is False."""

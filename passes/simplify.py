"""Algebraic simplification."""

from dataclasses import dataclass

from needle_ir.ir import Graph
from needle_ir.passes.rewrite import rewrite
from needle_ir.passes.rules import EXACT, FAST_MATH


@dataclass(frozen=True)
class Simplify:
    """Applies the identities that hold for every number; with `fast_math`, others too."""

    fast_math: bool = False
    name = "simplify"

    def run(self, graph: Graph) -> Graph:
        """The simplified graph."""
        return rewrite(graph, EXACT + FAST_MATH if self.fast_math else EXACT)

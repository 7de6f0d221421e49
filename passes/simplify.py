"""Algebraic simplification."""

from dataclasses import dataclass, field

from needle_ir.ir import Graph
from needle_ir.passes.fold import Evaluate, fold_rule
from needle_ir.passes.rewrite import rewrite
from needle_ir.passes.rules import EXACT, FAST_MATH


@dataclass(frozen=True)
class Simplify:
    """Applies the identities that hold for every number; with `fast_math`, others too.

    With `evaluate`, constants that the identities bring together are folded as well.
    """

    fast_math: bool = False
    evaluate: Evaluate | None = field(default=None, repr=False, compare=False)
    name = "simplify"

    def run(self, graph: Graph) -> Graph:
        """The simplified graph."""
        rules = EXACT + FAST_MATH if self.fast_math else EXACT
        if self.evaluate is not None:
            rules += (fold_rule(self.evaluate),)
        return rewrite(graph, rules)

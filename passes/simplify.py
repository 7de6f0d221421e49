"""Algebraic simplification."""

from dataclasses import dataclass, field

from needle_ir.ir import Graph
from needle_ir.passes.fold import Evaluate, fold_rule
from needle_ir.passes.rewrite import rewrite
from needle_ir.passes.rules import EXACT, FAST_MATH
from needle_ir.passes.stabilize import rules_for, without_needless_markers


@dataclass(frozen=True)
class Simplify:
    """Applies the identities that hold for every number; with `fast_math`, others too.

    With `evaluate`, constants that the identities bring together are folded as well.

    With `stabilize`, the rules of that pass are applied too, and with `cse`, what the rules make
    the same expression as another is merged with it. Each of the three makes work for the other
    two: a derivative may be seen to cancel when it is simpler, a stable op brings a sign that goes
    into its reader, and of two branches with equal conditions one goes when these are one node.
    Together they end where none of them finds anything; one after the other, they would not.
    """

    fast_math: bool = False
    evaluate: Evaluate | None = field(default=None, repr=False, compare=False)
    stabilize: bool = False
    cse: bool = False
    name = "simplify"

    def run(self, graph: Graph) -> Graph:
        """The simplified graph."""
        rules = EXACT + FAST_MATH if self.fast_math else EXACT
        if self.evaluate is not None:
            rules += (fold_rule(self.evaluate),)
        if self.stabilize:
            graph = without_needless_markers(graph)
            rules += rules_for(graph)
        return rewrite(graph, rules, merge=self.cse)

"""The passes: Graph to Graph, and at the end Graph to Plan."""

if __name__ != "needle_ir.passes":
    raise ImportError("this folder is imported as `needle_ir.passes`, not as `passes`")

from collections.abc import Callable, Mapping
from functools import partial

from needle_ir.ir import Pass
from needle_ir.passes.autodiff import Autodiff, NotDifferentiableError, backward
from needle_ir.passes.cse import CSE
from needle_ir.passes.dce import DCE
from needle_ir.passes.fold import Evaluate, Fold
from needle_ir.passes.fuse import Fuse
from needle_ir.passes.horizontal import Horizontal
from needle_ir.passes.instruments import Progress, Record, Stage, Verify
from needle_ir.passes.lower import Lower
from needle_ir.passes.memory import make_plan, plan_memory
from needle_ir.passes.pattern import (
    BoundOp,
    Kind,
    OpKind,
    Pattern,
    any_op,
    boolean,
    constant,
    elementwise,
    floating,
    integer,
    of_dtype,
    of_rank,
    one_of,
    reduction,
    scalar_constant,
    scalar_value,
    single_use,
)
from needle_ir.passes.pipeline import format_pipeline, parse_pipeline, run_pipeline
from needle_ir.passes.remat import BudgetWarning, Remat
from needle_ir.passes.rewrite import RulePass, rewrite
from needle_ir.passes.rule import Rule
from needle_ir.passes.schedule import peak_bytes, schedule
from needle_ir.passes.simplify import Simplify
from needle_ir.passes.stabilize import Stabilize

DEFAULT_PIPELINE = (
    "lower{keep_vjp=true}, fold, simplify, cse, stabilize, autodiff, "
    "dce, lower, fold, cse, simplify{stabilize=true, cse=true}, horizontal, fuse"
)


def pass_table(evaluate: Evaluate) -> Mapping[str, Callable[..., Pass]]:
    """Every pass by the name it has in a pipeline's text. Folding computes with `evaluate`."""
    return {
        "autodiff": Autodiff,
        "cse": CSE,
        "dce": DCE,
        "fold": partial(Fold, evaluate),
        "fuse": Fuse,
        "horizontal": Horizontal,
        "lower": Lower,
        "remat": Remat,
        "simplify": partial(Simplify, evaluate=evaluate),
        "stabilize": Stabilize,
    }


__all__ = [
    "CSE",
    "DCE",
    "DEFAULT_PIPELINE",
    "Autodiff",
    "BoundOp",
    "BudgetWarning",
    "Fold",
    "Fuse",
    "Horizontal",
    "Kind",
    "Lower",
    "NotDifferentiableError",
    "OpKind",
    "Pattern",
    "Progress",
    "Record",
    "Remat",
    "Rule",
    "RulePass",
    "Simplify",
    "Stabilize",
    "Stage",
    "Verify",
    "any_op",
    "backward",
    "boolean",
    "constant",
    "elementwise",
    "floating",
    "format_pipeline",
    "integer",
    "make_plan",
    "of_dtype",
    "of_rank",
    "one_of",
    "parse_pipeline",
    "pass_table",
    "peak_bytes",
    "plan_memory",
    "reduction",
    "rewrite",
    "run_pipeline",
    "scalar_constant",
    "scalar_value",
    "schedule",
    "single_use",
]

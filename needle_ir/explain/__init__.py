"""`explain`: what each pass made of a program, why, and at what cost."""

from needle_ir.explain.explanation import Explanation, explain
from needle_ir.explain.stages import Stage

__all__ = ["Explanation", "Stage", "explain"]

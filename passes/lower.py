"""Lowering: composites opened into the ops they are made of."""

from dataclasses import dataclass
from typing import Any

from needle_ir.ir import Graph, Op
from needle_ir.passes.pattern import BoundOp, OpKind
from needle_ir.passes.rewrite import Rule, rewrite


@dataclass(frozen=True)
class Lower:
    """Replaces every composite by its decomposition, composites inside of it included.

    With `keep_vjp`, a composite that carries a derivative of its own stays closed, so that
    autodiff can use it.
    """

    keep_vjp: bool = False
    name = "lower"

    def run(self, graph: Graph) -> Graph:
        """The graph without composites, or only with those that have a VJP."""
        return rewrite(graph, [_WITHOUT_VJP if self.keep_vjp else _ALL])


def _decomposition(f: BoundOp, *xs: Any) -> Any:
    assert f.op.decompose is not None
    return f.op.decompose(*xs, **f.attrs)


def _has_no_vjp(op: Op) -> bool:
    return op.decompose is not None and op.vjp is None


def _opening(composites: OpKind) -> Rule:
    return Rule("lower", lambda f=composites, *xs: f(*xs), _decomposition)


_ALL = _opening(OpKind("composite", lambda op: op.decompose is not None))
_WITHOUT_VJP = _opening(OpKind("composite without a VJP", _has_no_vjp))

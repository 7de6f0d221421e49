"""The IR: types, nodes, graphs, the verifier, the text form, plans. It knows no op by name."""

from typing import TYPE_CHECKING, Any

from needle_ir.ir.attrs import NO_ATTRS, Attrs
from needle_ir.ir.cost import Cost, graph_cost, node_costs
from needle_ir.ir.errors import (
    DTypeError,
    OperandIndexError,
    OperandValueError,
    OpError,
    ShapeError,
    VerificationError,
)
from needle_ir.ir.graph import Graph, topological
from needle_ir.ir.node import (
    CONSTANT,
    INPUT,
    Array,
    Node,
    Op,
    Promotion,
    Trait,
    constant_node,
    input_node,
    refill,
)
from needle_ir.ir.operators import Operators
from needle_ir.ir.origin import (
    Here,
    Origin,
    capture_origin,
    here,
    inherit_origin,
    is_of_package,
    scope,
    scope_of_call,
)
from needle_ir.ir.passes import Instrument, Pass, RewriteInstrument
from needle_ir.ir.plan import ALIGNMENT, Donation, HandedBack, Place, Plan, Slot, Step, aligned
from needle_ir.ir.printer import print_attr, print_graph, statement, value_names
from needle_ir.ir.registry import register_library, register_op
from needle_ir.ir.representation import Representable
from needle_ir.ir.rewriting import Application, announce, watch_rewrites, watched
from needle_ir.ir.structure import node_key, structural_key, structurally_equal
from needle_ir.ir.types import DType, TensorType, as_dtype, is_floating, short_name
from needle_ir.ir.verify import verify

if TYPE_CHECKING:
    from needle_ir.ir.parser import ParseError, parse


def __getattr__(name: str) -> Any:
    # The parser is imported when a text is first read.
    if name in ("ParseError", "parse"):
        from needle_ir.ir import parser

        return getattr(parser, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ALIGNMENT",
    "CONSTANT",
    "INPUT",
    "NO_ATTRS",
    "Application",
    "Array",
    "Attrs",
    "Cost",
    "DType",
    "DTypeError",
    "Donation",
    "Graph",
    "HandedBack",
    "Here",
    "Instrument",
    "Node",
    "Op",
    "OpError",
    "OperandIndexError",
    "OperandValueError",
    "Operators",
    "Origin",
    "ParseError",
    "Pass",
    "Place",
    "Plan",
    "Promotion",
    "Representable",
    "RewriteInstrument",
    "ShapeError",
    "Slot",
    "Step",
    "TensorType",
    "Trait",
    "VerificationError",
    "aligned",
    "announce",
    "as_dtype",
    "capture_origin",
    "constant_node",
    "graph_cost",
    "here",
    "inherit_origin",
    "input_node",
    "is_floating",
    "is_of_package",
    "node_costs",
    "node_key",
    "parse",
    "print_attr",
    "print_graph",
    "refill",
    "register_library",
    "register_op",
    "scope",
    "scope_of_call",
    "short_name",
    "statement",
    "structural_key",
    "structurally_equal",
    "topological",
    "value_names",
    "verify",
    "watch_rewrites",
    "watched",
]

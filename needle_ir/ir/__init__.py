"""The IR: types, nodes, graphs, the verifier, the text form, plans. It knows no op by name."""

from needle_ir.ir.attrs import NO_ATTRS, Attrs
from needle_ir.ir.cost import Cost, graph_cost, node_costs
from needle_ir.ir.errors import DTypeError, OpError, ShapeError, VerificationError
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
from needle_ir.ir.origin import Origin, capture_origin, inherit_origin, scope
from needle_ir.ir.passes import Instrument, Pass, RewriteInstrument
from needle_ir.ir.plan import ALIGNMENT, HandedBack, Place, Plan, Slot, Step, aligned
from needle_ir.ir.printer import print_attr, print_graph, statement, value_names
from needle_ir.ir.rewriting import Application, announce, watch_rewrites, watched
from needle_ir.ir.structure import node_key, structural_key, structurally_equal
from needle_ir.ir.types import DType, TensorType, as_dtype, is_floating, short_name
from needle_ir.ir.verify import verify

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
    "Graph",
    "HandedBack",
    "Instrument",
    "Node",
    "Op",
    "OpError",
    "Operators",
    "Origin",
    "Pass",
    "Place",
    "Plan",
    "Promotion",
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
    "inherit_origin",
    "input_node",
    "is_floating",
    "node_costs",
    "node_key",
    "print_attr",
    "print_graph",
    "refill",
    "scope",
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

"""What computed values were made of, kept where a value alone has lost digits.

After `e = exp(x); print(e)` the value of e is known, and it may be infinite where log(sum(e)) is
not. So a value that comes from an exponential or a probability keeps the expression that it was
computed by, down to the operands of the exponential. What is recorded on it later is compiled with
that expression, and stabilize looks behind the value where a rule needs to.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from needle_ir.ir import CONSTANT, INPUT, Node, input_node, topological
from needle_ir.ops.markers import STOP_GRADIENT, stop_gradient

# The operands that are kept for one value take at most so many bytes.
MAX_BYTES = 1 << 20
# So many values that kept an expression may stand on each other: in a loop there would be no end.
MAX_DEPTH = 8

# For each node that lost digits its expression, None where that is too large to keep, and how many
# others it stands on.
_kept: WeakKeyDictionary[Node, tuple[Node | None, int]] = WeakKeyDictionary()


def what_is_kept() -> Callable[[Node], Node | None] | None:
    """A function that gives what a node with a value was computed by, None for a value that says
    enough; None in its place where nothing is kept.

    It is the node itself while that has its history, and a copy when it was freed. Derivatives do
    not flow through the copy.
    """
    return _expression_behind if _kept else None


def _expression_behind(node: Node) -> Node | None:
    if node not in _kept:
        return None
    return _kept[node][0] if node.op is INPUT else node


def share(node: Node, other: Node) -> None:
    """Let `other`, which has the same value, keep what `node` keeps."""
    if node in _kept:
        _kept[other] = _kept[node]


class Part(NamedTuple):
    """Of a value that will have lost digits: the nodes from it down to what loses them, and below
    these the nodes that they read. Constants are left out.
    """

    nodes: set[Node]
    operands: list[Node]


def lossy_parts(nodes: Iterable[Node]) -> dict[Node, Part]:
    """The part of each of `nodes` that will have lost digits when it is computed."""
    # The passes trace their rules when they are imported: what is only recorded needs none.
    from needle_ir.passes.logarithms import MAY_LOSE_DIGITS, lossy_part

    found: dict[Node, Part] = {}
    for node in nodes:
        # Most are neither: this runs in every training step.
        if node.op in MAY_LOSE_DIGITS and (
            node.op is not STOP_GRADIENT or node.inputs[0].op in MAY_LOSE_DIGITS
        ):
            part = {x for x in lossy_part(node, _has_lost_digits) if x.value is None}
            if part:
                read = [x for inner in part for x in inner.inputs if x not in part]
                operands = [x for x in dict.fromkeys(read) if x.op is not CONSTANT]
                found[node] = Part(part, operands)
    return found


def _has_lost_digits(node: Node) -> bool | None:
    """Of a node with a value whether it has lost digits; None for one without a value."""
    return node in _kept if node.value is not None else None


def operands_to_keep(parts: dict[Node, Part]) -> list[Node]:
    """The operands of the `parts` that have no value yet and are not too large to keep."""
    wanted: dict[Node, None] = {}
    for part in parts.values():
        if sum(x.type.nbytes for x in part.operands) <= MAX_BYTES:
            wanted |= dict.fromkeys(x for x in part.operands if x.value is None)
    return list(wanted)


def keep(node: Node, part: Part) -> None:
    """Keep the expression of `node`, which has its value by now, as its operands have."""
    depth = 1 + max((_kept[x][1] for x in part.operands if x in _kept), default=0)
    if any(x.value is None for x in part.operands):
        _kept[node] = (None, depth)
        return
    new = {x: _leaf(x, depth <= MAX_DEPTH) for x in part.operands}
    for inner in topological([node], done=part.operands):
        inputs = tuple([new[x] for x in inner.inputs])
        # A copy in any case: the node itself is about to lose its inputs.
        new[inner] = Node(inner.op, inputs, inner.attrs, inner.type, inner.origin)
    _kept[node] = (new[node], depth if depth <= MAX_DEPTH else 0)


def _leaf(node: Node, with_expression: bool) -> Node:
    """A leaf with the value of `node`. It does not hold the history of `node` alive."""
    if node.op is INPUT and with_expression:
        return stop_gradient(node) if node.variable is not None else node
    leaf = input_node(node.type, value=node.value)
    if with_expression:
        share(node, leaf)
    return leaf

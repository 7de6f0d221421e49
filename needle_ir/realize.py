"""From pending tensors to arrays: canonicalize, look the plan up, run it."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, NoReturn
from weakref import ref

from needle_ir import ops
from needle_ir.ir import (
    INPUT,
    NO_ATTRS,
    Array,
    Graph,
    Node,
    Origin,
    Trait,
    input_node,
)
from needle_ir.ops.markers import GRAD, KNOWN, STOP_GRADIENT, known
from needle_ir.plan_cache import Found, plans
from needle_ir.provenance import keep, lossy_parts, operands_to_keep, what_is_kept
from needle_ir.recording import Trace, thread, updates
from needle_ir.tensor import Tensor

if TYPE_CHECKING:
    from needle_ir.in_place import InPlace
    from needle_ir.outline import Outline

# Behind so many values the walk looks for expressions that stabilize can use.
MAX_BEHIND = 16
_value = attrgetter("value")
_REQUESTS = {GRAD, ops.gradients.op}


class TracedValueError(RuntimeError):
    """The value of a tensor was asked for while the function that computes it is traced."""


@dataclass
class Pending:
    """A recorded subgraph in canonical form: leaves by position, not by data."""

    leaves: list[Node]  # in the order in which the walk met them
    outputs: list[Node]
    effects: Sequence[Node]
    unused: Sequence[Node]
    index: dict[Node, int]
    rows: list[Hashable]
    behind: dict[Node, Node]  # nodes with a value, and the expressions that were walked through

    @property
    def is_plain(self) -> bool:
        """Whether its leaves have no history, and it has nothing but outputs."""
        return not (self.behind or self.effects or self.unused) and all(
            leaf.op is INPUT for leaf in self.leaves
        )

    @property
    def key(self) -> Hashable:
        """What the plan cache compares: structure, types, constants."""
        roots = (self.effects, self.outputs)
        return (tuple(self.rows), *[tuple([self.index[x] for x in nodes]) for nodes in roots])

    def outline(self, site: Origin | None) -> "Outline":
        """What the plan cache keeps to tell programs apart in words."""
        from needle_ir.outline import Outline

        names = [leaf.attrs.get("name") if leaf.op is INPUT else None for leaf in self.leaves]
        return Outline(
            rows=tuple(self.rows),
            roots=tuple(tuple([self.index[x] for x in n]) for n in (self.effects, self.outputs)),
            names={
                self.index[leaf]: f"%{name or f'in{i}'}"
                for i, (leaf, name) in enumerate(zip(self.leaves, names, strict=True))
            },
            origins=tuple([node.origin for node in self.index]),
            site=site,
        )

    def graph(self, inputs: Sequence[Node] | None = None, name: str = "step") -> Graph:
        """The graph to compile. Its inputs stand for `leaves`, or for `inputs`, a permutation."""
        new: dict[Node, Node] = {}
        values: dict[Node, Node] = {}
        for leaf in self.leaves if inputs is None else inputs:
            values[leaf] = input_node(leaf.type, leaf.attrs.get("name"), leaf.origin)
        for node in self.index:
            expression = self.behind.get(node)
            if node in values and expression is None:
                new[node] = values[node]
                continue
            if expression is None or expression is node:
                rebuilt = node.with_inputs(tuple([new[operand] for operand in node.inputs]))
            else:
                rebuilt = new[expression]
            new[node] = known(rebuilt, values[node]) if node in values else rebuilt
        groups = (self.outputs, self.effects, self.unused)
        outputs, effects, unused = ([new[node] for node in nodes] for nodes in groups)
        return Graph(values.values(), outputs, effects, unused, name)


# What a node with a value was computed by, None where the walk stops at the value.
Behind = Callable[[Node], Node | None]


def canonicalize(
    outputs: Sequence[Node],
    effects: Sequence[Node] = (),
    unused: Sequence[Node] = (),
    behind: Behind | None = None,
) -> Pending:
    """Number what `outputs` and `effects` need, operands before users.

    The walk stops at nodes whose value is known, unless `behind` has an expression for them. Where
    a gradient is asked for it has to look behind all of them that have a history, because
    derivatives flow through it: then it starts again and does.
    """
    pending = _walk(outputs, effects, unused, behind, follow_known=False)
    if any(
        leaf.op is not INPUT and leaf.op is not STOP_GRADIENT for leaf in pending.leaves
    ) and any(node.op in _REQUESTS for node in pending.index):
        pending = _walk(outputs, effects, unused, behind, follow_known=True)
    return pending


def _walk(
    outputs: Sequence[Node],
    effects: Sequence[Node],
    unused: Sequence[Node],
    behind: Behind | None,
    follow_known: bool,
) -> Pending:
    index: dict[Node, int] = {}
    rows: list[Hashable] = []
    leaves: list[Node] = []
    expressions: dict[Node, Node] = {}
    stack = [*reversed(unused), *reversed(outputs), *reversed(effects)]
    position = index.get
    while stack:
        node = stack[-1]
        if node in index:
            stack.pop()
            continue
        op = node.op
        is_known = node.value is not None
        expression = node
        if op is INPUT or (is_known and not (follow_known and op is not STOP_GRADIENT)):
            found = expressions.get(node)
            if found is None and behind is not None and len(expressions) < MAX_BEHIND:
                found = behind(node)
            if found is None:
                stack.pop()
                index[node] = len(index)
                rows.append(node.type)
                leaves.append(node)
                continue
            expression = found
        if is_known:
            expressions[node] = expression
        operands = node.inputs if expression is node else (expression,)
        positions = [*map(position, operands)]
        if None in positions:
            stack += [x for x in reversed(operands) if x not in index]
            continue
        stack.pop()
        index[node] = len(index)
        row: Hashable = (
            (op, node.attrs, *positions) if expression is node else (KNOWN, NO_ATTRS, *positions)
        )
        if is_known:
            leaves.append(node)
            row = ("known", row)
        rows.append(row)
    return Pending(leaves, list(outputs), effects, unused, index, rows, expressions)


def force(tensor: Tensor) -> None:
    """Compute `tensor`, and with it every held tensor that the way there passes."""
    if tensor.node.op is INPUT:
        leaf_arrays([tensor.node])  # another thread updates it: this waits for it
        return
    pending = canonicalize([tensor.node], behind=what_is_kept())
    if thread.state.trace is not None and _is_traced(pending, thread.state.trace):
        refuse_to_read()
    waiting = thread.state.held()
    thread.state.pending = [ref(x) for x in waiting]
    held = [x for x in waiting if x.node in pending.index and x is not tensor]
    pending.outputs += [x.node for x in held if x.node is not tensor.node]
    _run(pending, [tensor, *held], free_history=False)


def sync(free_history: bool = True, in_place: "InPlace | None" = None) -> None:
    """Compute every pending tensor that is still held, as one plan.

    With `free_history`, no gradient goes back beyond this point: what was computed before it is a
    leaf from now on. With `in_place`, that runs the plan. Nothing happens while a function is
    traced: the trace records the step, it does not run it.
    """
    if thread.state.trace is not None:
        return
    requests = thread.state.requested()
    for request in requests:
        request.record_rest()
    held = thread.state.held()
    thread.state.pending.clear()
    thread.state.recorded = 0
    if held:
        outputs = [x.node for x in held]
        behind = what_is_kept()
        found = plans.find_again(outputs) if behind is None else None
        if found is None:
            _run(canonicalize(outputs, behind=behind), held, free_history, in_place)
        else:
            _compute(found, leaf_arrays(found.leaves), outputs, held, in_place)
            _settle(held, free_history)
    if free_history:
        if thread.state.computed:
            for tensor in [*thread.state.computed.values()]:
                tensor._free_history()
            thread.state.computed.clear()
        for request in requests:
            request.free()
            thread.state.requests.pop(id(request), None)


def _run(
    pending: Pending,
    tensors: Sequence[Tensor],
    free_history: bool,
    in_place: "InPlace | None" = None,
) -> None:
    parts = lossy_parts(pending.outputs)
    pending.outputs += [x for x in operands_to_keep(parts) if x not in pending.outputs]
    arrays = leaf_arrays(pending.leaves)
    replaced = () if in_place is None else in_place.pairs(pending.leaves, pending.outputs)
    found = plans.find(pending, not parts and pending.is_plain, replaced)
    _compute(found, arrays, pending.outputs, tensors, in_place)
    for node, part in parts.items():
        keep(node, part)
    _settle(tensors, free_history)


def _compute(
    found: Found,
    arrays: Sequence[Array],
    outputs: Sequence[Node],
    tensors: Sequence[Tensor],
    in_place: "InPlace | None",
) -> None:
    run = found.program if in_place is None else partial(in_place.run, found, outputs)
    try:
        results = run(arrays)
    except BaseException:
        # Who asks for one of these gets the error again; who asks for another tensor does not.
        failed = {id(tensor) for tensor in tensors}
        thread.state.pending = [x for x in thread.state.pending if id(x()) not in failed]
        raise
    for node, array in zip(outputs, results, strict=True):
        node.realize(array)


def _settle(tensors: Sequence[Tensor], free_history: bool) -> None:
    for tensor in tensors:
        tensor._settle(free_history)


def leaf_arrays(leaves: Sequence[Node]) -> list[Array]:
    """The data of `leaves`. Raises TracedValueError for a leaf that has none."""
    arrays = [*map(_value, leaves)]
    for i, array in enumerate(arrays):
        if array is None:
            updates.wait(leaves[i])
            arrays[i] = leaves[i].value
            if arrays[i] is None:
                refuse_to_read()
    return arrays


def refuse_to_read() -> NoReturn:
    """Raise TracedValueError."""
    raise TracedValueError(
        "a value that is known only when the traced function runs was asked for while it "
        "is traced. Return the tensor instead of reading it with numpy(), item(), float() "
        "or `if`; for a branch on a value use where()"
    )


def _is_traced(pending: Pending, trace: Trace) -> bool:
    """Whether a value differs from call to call: by an argument, by state, or by a draw."""
    return any(node.op.has(Trait.EFFECT) for node in pending.index) or any(
        leaf.value is None or leaf in trace.reads or leaf in trace.host_values
        for leaf in pending.leaves
    )

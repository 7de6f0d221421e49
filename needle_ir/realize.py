"""From pending tensors to arrays: canonicalize, look the plan up, run it."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from weakref import ref

from needle_ir import ops
from needle_ir.compiler import Program, compile_graph
from needle_ir.ir import (
    INPUT,
    NO_ATTRS,
    Array,
    Graph,
    Node,
    Op,
    Origin,
    Trait,
    capture_origin,
    input_node,
)
from needle_ir.ops.markers import GRAD, KNOWN, STOP_GRADIENT, known
from needle_ir.provenance import keep, lossy_parts, operands_to_keep, what_is_kept
from needle_ir.recompiles import Dropped, dropped_words, log, warn_of_number
from needle_ir.recording import Trace, state, updates
from needle_ir.tensor import Tensor

if TYPE_CHECKING:
    from needle_ir.outline import Difference, Outline

_op, _type = attrgetter("op"), attrgetter("type")

CACHE_CAPACITY = 256
# Behind so many values the walk looks for expressions that stabilize can use.
MAX_BEHIND = 16
_REQUESTS = {GRAD, ops.gradients.op}
# A program that is not kept is compared with this many of the same line, and of all.
_COMPARED = 8


class TracedValueError(RuntimeError):
    """The value of a tensor was asked for while the function that computes it is traced."""


class CacheInfo(NamedTuple):
    """Counts of the plan cache, as functools.lru_cache has them."""

    hits: int
    misses: int
    maxsize: int
    currsize: int


class _Shape:
    """A recorded subgraph without its nodes, to recognize the same one in the next step.

    A training loop records the same again and again. To go down from the outputs, and look whether
    each node is what stood there before, takes a third of the time of numbering them anew.
    """

    def __init__(self, pending: "Pending"):
        index = pending.index
        self._count = len(index)
        self._outputs = [index[node] for node in pending.outputs]
        self._leaves = [index[node] for node in pending.leaves]
        self._types = [node.type for node in pending.leaves]
        leaves = set(pending.leaves)
        rows = [
            (i, node.op, node.attrs, [index[x] for x in node.inputs])
            for node, i in index.items()
            if node not in leaves
        ]
        self._rows = rows[::-1]  # users before operands

    def match(self, outputs: Sequence[Node]) -> list[Node] | None:
        """The leaves below `outputs`, where what they need has this shape."""
        nodes: list[Any] = [None] * self._count
        for i, node in zip(self._outputs, outputs, strict=True):
            nodes[i] = node
        for i, op, attrs, positions in self._rows:
            node = nodes[i]
            inputs = node.inputs
            if (
                node.op is not op
                or node.attrs is not attrs
                or node.value is not None
                or len(inputs) != len(positions)
            ):
                return None
            for k, x in zip(positions, inputs, strict=True):
                if nodes[k] is not x:
                    if nodes[k] is not None:
                        return None
                    nodes[k] = x
        leaves = [nodes[i] for i in self._leaves]
        ops, types = map(_op, leaves), map(_type, leaves)
        if not all(map(is_, ops, repeat(INPUT))) or not all(map(is_, types, self._types)):
            return None
        # What stood in two places must not be one node now: each has its own derivative.
        return leaves if len(set(nodes)) == self._count else None


@dataclass
class _Entry:
    program: Program
    outline: "Outline"
    shape: _Shape | None = None
    used: int = 0  # the number of the look-up that found it last


class PlanCache:
    """Compiled programs by the structure of what was recorded, least recently used first out.

    Keys and programs hold types, ops and constants, never the data of a leaf.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._entries: dict[Hashable, _Entry] = {}
        self._latest: dict[tuple[Op, ...], _Entry] = {}  # by the ops of the outputs
        self._dropped = Dropped()
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def find(self, pending: "Pending", recognize: bool = False) -> Program:
        """The program for `pending`, compiled now where it is new.

        With `recognize`, `find_again` finds it where the same is recorded again.
        """
        key = pending.key
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._hit(entry)
        if entry is None:
            entry = self._compile(pending, key)
        if recognize:
            if entry.shape is None:
                entry.shape = _Shape(pending)
            self._latest[tuple(map(_op, pending.outputs))] = entry
        return entry.program

    def find_again(self, outputs: Sequence[Node]) -> tuple[Program, list[Node]] | None:
        """The program for what was recorded, and its leaves, where the last program for outputs of
        these ops was for the same. Nothing is compiled.
        """
        entry = self._latest.get(tuple(map(_op, outputs)))
        leaves = None if entry is None or entry.shape is None else entry.shape.match(outputs)
        if entry is None or leaves is None:
            return None
        with self._lock:
            self._hit(entry)
        return entry.program, leaves

    def _hit(self, entry: _Entry) -> None:
        self._hits += 1
        entry.used = self._hits + self._misses

    def _compile(self, pending: "Pending", key: Hashable) -> _Entry:
        with self._lock:
            self._misses += 1
        outline = pending.outline(capture_origin())
        why = self._why_not(key, outline)
        started = time.perf_counter()
        program = compile_graph(pending.graph())
        seconds = time.perf_counter() - started
        where = "" if outline.site is None else str(outline.site)
        log.add("recorded", where, why.words, len(outline.rows), seconds)
        with self._lock:
            entry = _Entry(program, outline, used=self._hits + self._misses)
            self._entries[key] = entry
            while len(self._entries) > self.capacity:
                self._drop(min(self._entries, key=lambda x: self._entries[x].used))
        if why.constant is not None and log.streak(why.constant, self._hits):
            warn_of_number(why.constant, "a constant")
        return entry

    def _drop(self, key: Hashable) -> None:
        gone = self._entries.pop(key)
        self._latest = {ops: entry for ops, entry in self._latest.items() if entry is not gone}
        self._dropped.add(key)

    def info(self) -> CacheInfo:
        """How often a program was found, how often compiled, and how many are kept."""
        with self._lock:
            return CacheInfo(self._hits, self._misses, self.capacity, len(self._entries))

    def clear(self) -> None:
        """Drop every program and start counting again."""
        with self._lock:
            self._entries.clear()
            self._latest.clear()
            self._dropped.clear()
            self._hits = self._misses = 0

    def _why_not(self, key: Hashable, outline: "Outline") -> "Difference":
        """Why no program that is kept is the one asked for."""
        from needle_ir.outline import Difference, why_not

        with self._lock:
            if key in self._dropped:
                return Difference(dropped_words(self.capacity))
            entries = sorted(self._entries.values(), key=lambda entry: -entry.used)
        kept = [entry.outline for entry in entries]
        here = [x for x in kept if x.site == outline.site]
        recent = [*here[:_COMPARED], *kept[:_COMPARED]]
        return why_not(outline, {id(x): x for x in recent}.values())


plans = PlanCache(CACHE_CAPACITY)


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
    if state.trace is not None and _is_traced(pending, state.trace):
        refuse_to_read()
    waiting = state.held()
    state.pending = [ref(x) for x in waiting]
    held = [x for x in waiting if x.node in pending.index and x is not tensor]
    pending.outputs += [x.node for x in held if x.node is not tensor.node]
    _run(pending, [tensor, *held], free_history=False)


def sync(free_history: bool = True) -> None:
    """Compute every pending tensor that is still held, as one plan.

    With `free_history`, no gradient goes back beyond this point: what was computed before it is a
    leaf from now on. Nothing happens while a function is traced: the trace records the step, it
    does not run it.
    """
    if state.trace is not None:
        return
    requests = [*state.requests.values()]
    for request in requests:
        request.record_rest()
    held = state.held()
    state.pending.clear()
    state.recorded = 0
    if held:
        outputs = [x.node for x in held]
        found = plans.find_again(outputs) if what_is_kept() is None else None
        if found is None:
            _run(canonicalize(outputs, behind=what_is_kept()), held, free_history)
        else:
            program, leaves = found
            _compute(program, leaf_arrays(leaves), outputs, held)
            _settle(held, free_history)
    if free_history:
        for tensor in [*state.computed.values()]:
            tensor._free_history()
        state.computed.clear()
        for request in requests:
            request.free()
        state.requests.clear()


def _run(pending: Pending, tensors: Sequence[Tensor], free_history: bool) -> None:
    parts = lossy_parts(pending.outputs)
    pending.outputs += [x for x in operands_to_keep(parts) if x not in pending.outputs]
    arrays = leaf_arrays(pending.leaves)
    program = plans.find(pending, recognize=not parts and pending.is_plain)
    _compute(program, arrays, pending.outputs, tensors)
    for node, part in parts.items():
        keep(node, part)
    _settle(tensors, free_history)


def _compute(
    program: Program, arrays: Sequence[Array], outputs: Sequence[Node], tensors: Sequence[Tensor]
) -> None:
    try:
        results = program(arrays)
    except BaseException:
        # Who asks for one of these gets the error again; who asks for another tensor does not.
        failed = {id(tensor) for tensor in tensors}
        state.pending = [x for x in state.pending if id(x()) not in failed]
        raise
    for node, array in zip(outputs, results, strict=True):
        node.realize(array)


def _settle(tensors: Sequence[Tensor], free_history: bool) -> None:
    for tensor in tensors:
        tensor._settle(free_history)


def leaf_arrays(leaves: Iterable[Node]) -> list[Array]:
    """The data of `leaves`. Raises TracedValueError for a leaf that has none."""
    arrays: list[Array] = []
    for leaf in leaves:
        value = leaf.value
        if value is None:
            updates.wait(leaf)
            value = leaf.value
        if value is None:
            refuse_to_read()
        arrays.append(value)
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


def cache_info() -> CacheInfo:
    """Counts of the plan cache: hits, misses, capacity, programs kept."""
    return plans.info()


def clear_cache() -> None:
    """Drop every compiled program, and what `explain_recompiles` knows of it."""
    plans.clear()
    log.clear()

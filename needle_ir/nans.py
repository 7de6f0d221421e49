"""`debug_nans`: which op made the first NaN, out of what, at which line."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from needle_ir.compiler import running_with
from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Array,
    Graph,
    Node,
    Origin,
    Plan,
    Trait,
    statement,
    value_names,
)
from needle_ir.realize import sync
from needle_ir.runtime import evaluate

# Says of each element whether it is one to stop at.
Test = Callable[[Array], Any]

_TESTS: dict[tuple[bool, bool], Test] = {
    (True, False): np.isnan,
    (False, True): np.isinf,
    (True, True): lambda x: ~np.isfinite(x),
}


@contextmanager
def debug_nans(*, nans: bool = True, infs: bool = False, masked: bool = False) -> Iterator[None]:
    """Stop at the first node that makes a NaN, an inf, or either.

    Raises FloatingPointError for a program of which a result is not clean. The error names the op
    that made the value out of clean operands, the user's line, the module, the phase, and what its
    operands were; or the input that the value came in through. A value that `where` masks before
    it reaches a result is no error, unless `masked`: then the very first one is.

    What is recorded inside and still held at the end is computed there. Programs run node by node
    inside, and as ever outside. Raises ValueError where neither `nans` nor `infs` is asked for.
    """
    if not (nans or infs):
        raise ValueError("debug_nans(nans=False) has nothing to look for; set infs=True")
    with running_with(partial(_run_checked, _TESTS[nans, infs], masked)):
        yield
        sync(free_history=False)


@dataclass(frozen=True)
class _Culprit:
    """A node whose value is bad while its operands are clean, or an input that is bad."""

    step: int
    message: str


def _run_checked(
    test: Test, masked: bool, plan: Plan, arrays: Sequence[Array]
) -> tuple[Array, ...]:
    return _Run(test, masked, plan.graph, [step.node for step in plan.steps]).outputs(arrays)


class _Run:
    """A graph run node by node, in `order`, that remembers where bad values come from."""

    def __init__(self, test: Test, masked: bool, graph: Graph, order: Sequence[Node]):
        self._test = test
        self._masked = masked
        self._graph = graph
        self._order = order
        self._names = value_names(graph)
        self._culprits: dict[Node, _Culprit] = {}  # for each node whose value is bad

    def outputs(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs of the graph. Raises FloatingPointError where one is bad."""
        values = dict(zip(self._graph.inputs, arrays, strict=True))
        values |= {x: x.attrs["value"] for x in self._graph.nodes if x.op is CONSTANT}
        for leaf, value in values.items():
            if self._is_bad(value):
                self._culprits[leaf] = _Culprit(-1, self._came_in(leaf, value))
        kept = set(self._graph.outputs)
        reads = {node: len(users) for node, users in self._graph.users.items()}
        for step, node in enumerate(self._order):
            operands = [values[operand] for operand in node.inputs]
            values[node] = self._evaluate(node, operands)
            if self._is_bad(values[node]):
                self._note(step, node, operands, values[node])
            for operand in dict.fromkeys(node.inputs):
                reads[operand] -= 1
                if not reads[operand] and operand not in kept:
                    del values[operand]
        found = [self._culprits[x] for x in self._graph.outputs if x in self._culprits]
        if found:
            raise FloatingPointError(min(found, key=lambda culprit: culprit.step).message)
        return tuple([values[node] for node in self._graph.outputs])

    def _evaluate(self, node: Node, operands: list[Array]) -> Array:
        try:
            return evaluate(node, operands)
        except Exception as error:
            # A NaN that was cast to an index is out of range.
            for message in dict.fromkeys(x.message for x in self._culprits.values()):
                error.add_note(f"before that, {message}")
            raise

    def _is_bad(self, value: Array) -> bool:
        return value.dtype.kind == "f" and bool(self._test(value).any())

    def _note(self, step: int, node: Node, operands: list[Array], value: Array) -> None:
        known = [self._culprits[x] for x in node.inputs if x in self._culprits]
        if known:
            self._culprits[node] = min(known, key=lambda culprit: culprit.step)
        else:
            message = self._inside(node, operands) or self._made(node, operands, value)
            self._culprits[node] = _Culprit(step, message)
        if self._masked:
            raise FloatingPointError(self._culprits[node].message)

    def _inside(self, node: Node, operands: list[Array]) -> str | None:
        """What a node that stands for a graph says of the node inside."""
        for body in node.attrs.values():
            if isinstance(body, Graph):
                order = [x for x in body.nodes if x.op not in (INPUT, CONSTANT)]
                try:
                    _Run(self._test, self._masked, body, order).outputs(operands)
                except FloatingPointError as error:
                    return f"{error}\n    inside of {self._names[node]}, {node.op.name}"
        return None

    def _made(self, node: Node, operands: list[Array], value: Array) -> str:
        lines = [f"{node.op.name} made {self._bad_values(value)}"]
        lines.append(f"    {statement(node, self._names)}")
        if node.origin is not None:
            lines.append(f"    at {_line(node.origin)}")
            module = f"in {node.origin.module}, " if node.origin.module else ""
            lines.append(f"    {module}{node.origin.phase}")
        index = self._first(value)
        for operand, array in dict(zip(node.inputs, operands, strict=True)).items():
            line = f"    {self._names[operand]} : {operand.type} is {_summary(array)}"
            if node.op.has(Trait.ELEMENTWISE) and array.size > 1:
                there = np.broadcast_to(array, value.shape)[index]
                line += f"; there {_show(there)}"
            lines.append(line)
        return "\n".join(lines)

    def _came_in(self, leaf: Node, value: Array) -> str:
        kind = "input" if leaf.op is INPUT else "constant"
        lines = [f"{self._bad_values(value)} came in through the {kind} {self._names[leaf]}"]
        lines.append(f"    {self._names[leaf]} : {leaf.type} is {_summary(value)}")
        for user in self._graph.users[leaf][:1]:
            where = "" if user.origin is None else f" at {_line(user.origin)}"
            lines.append(f"    it is read first by {user.op.name}{where}")
        return "\n".join(lines)

    def _bad_values(self, value: Array) -> str:
        """`2 NaN and 1 inf of 40 elements, first at [0, 3]`."""
        bad = value[self._test(value)]
        counts = [(int(np.isnan(bad).sum()), "NaN"), (int(np.isinf(bad).sum()), "inf")]
        shown = " and ".join(f"{count} {kind}" for count, kind in counts if count)
        return f"{shown} of {value.size} elements, first at {_place(self._first(value))}"

    def _first(self, value: Array) -> tuple[int, ...]:
        return _first_where(self._test(value))


def _first_where(mask: Any) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(int(np.argmax(mask)), np.shape(mask))))


def _summary(value: Array) -> str:
    """`from 0.0 to 3.0`, with the number of NaN and inf and the place of the first."""
    if not value.size:
        return "empty"
    if value.size == 1:
        return _show(value.flat[0])
    if value.dtype.kind != "f":
        return f"from {_show(value.min())} to {_show(value.max())}"
    parts = []
    finite = value[np.isfinite(value)]
    if finite.size:
        parts.append(f"from {_show(finite.min())} to {_show(finite.max())}")
    for kind, test in (("NaN", np.isnan), ("inf", np.isinf)):
        mask = test(value)
        if mask.any():
            parts.append(f"{int(mask.sum())} {kind}, first at {_place(_first_where(mask))}")
    return ", ".join(parts)


def _line(origin: Origin) -> str:
    """The place in the user's program, and what stands there where that is known."""
    return f"{origin}: {origin.text}" if origin.text else str(origin)


def _show(value: Any) -> str:
    return str(value[()] if isinstance(value, np.ndarray) else value)


def _place(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]"

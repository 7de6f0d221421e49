"""Cotangents behind a branch that was not taken: exactly 0, whatever the branch computed there.

`where(x > 0, log(x), 0)` sends the cotangent 0 back to log where x is 0, and 0 · 1/0 is NaN. So a
sweep keeps, beside each cotangent, its reach: where it may be other than 0. It follows from the
conditions of the selections (`where`, `relu`, `maximum` …) that the cotangent came through. A VJP
that multiplies by numbers of the program is cut back to the reach, with one more `where`, before
anything is summed. A VJP that only moves its cotangent, or multiplies it by finite constants, needs
no cut. The test is made on the condition and not on the cotangent being 0: a NaN or an infinity on
the taken branch stays, and the cut is linear in the cotangent, so that derivatives of it are right.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from needle_ir.ir import CONSTANT, Graph, Node, Trait, inherit_origin, input_node, is_floating
from needle_ir.ops import (
    broadcast_to,
    not_equal,
    reshape,
    sum,
    variable,
    where,
)
from needle_ir.ops.build import CAST
from needle_ir.ops.elementwise import BOOL, DIVIDE, EQUAL, WHERE
from needle_ir.ops.indexing import GATHER, SCATTER_ADD, UNSLICE
from needle_ir.ops.joining import CONCATENATE
from needle_ir.ops.linalg import MATMUL
from needle_ir.ops.packing import PACK
from needle_ir.ops.reduction import SUM
from needle_ir.ops.shape import BROADCAST_TO, RESHAPE, TRANSPOSE, expand_dims, sum_to
from needle_ir.passes.lower import Lower


class Reach(NamedTuple):
    """Where a cotangent may be other than 0: the boolean `mask`, broadcast against it.

    `asked` says that the program has a `where` there. What else selects (a relu, the `where` that
    a VJP emits) is followed through elementwise ops, and no further: to cut rows and columns of
    every product behind a relu would cost more than it is worth.
    """

    mask: Node
    asked: bool


class Contribution(NamedTuple):
    """What a VJP gives one operand, None where it gives nothing, and how far that reaches."""

    ct: Node | None
    reach: Reach | None = None


# What each of some nodes gets from a node with a cotangent and its reach, looking no further than
# to some leaves.
Sweep = Callable[
    [Node, Node, Reach | None, Collection[Node], Collection[Node]], dict[Node, Contribution]
]
Cotangents = tuple[Node | None, ...]


@dataclass
class Pull:
    """Pulls cotangents back through one node at a time. `sweep` is called for composites."""

    sweep: Sweep
    _emitted: set[Node] = field(default_factory=set)  # the selections that VJPs emitted

    def __call__(
        self, node: Node, ct: Node, reach: Reach | None, wanted: Collection[Node]
    ) -> list[Contribution]:
        """The contribution to each operand; those that are not `wanted` may be left out."""
        if reach is None and node.op.selects is None:
            return [Contribution(x) for x in self._vjp(node, ct, node.inputs)]
        if node.op.has(Trait.ELEMENTWISE):
            return self._elementwise(node, ct, reach, wanted)
        if node.op.has(Trait.MARKER):
            return [Contribution(x, reach) for x in self._vjp(node, ct, node.inputs)]
        if reach is not None and (node.op in _MOVE or node.op.has(Trait.VIEW)):
            return self._moved(node, ct, reach)
        if reach is None or not reach.asked:
            masks = self._selected(node, None)
            cts = self._vjp(node, ct, node.inputs)
            return [Contribution(x, mask) for x, mask in zip(cts, masks, strict=True)]
        if node.op.has(Trait.REDUCTION) or node.op.has(Trait.ROWWISE):
            return self._rows(node, ct, reach)
        if node.op is MATMUL:
            return self._product(node, ct, reach)
        if node.op.decompose is not None:
            return self._opened(node, ct, reach, wanted)
        anywhere = Reach(_any_to(reach.mask, node.shape, ()), reach.asked)
        cts = self._vjp(node, ct, node.inputs)
        return [Contribution(self._cut(x, anywhere), anywhere) for x in cts]

    def _vjp(self, node: Node, ct: Node, operands: tuple[Node, ...]) -> Cotangents:
        assert node.op.vjp is not None
        cts: Cotangents = node.op.vjp(ct, node, *operands, **node.attrs)
        if node.op is not WHERE or node in self._emitted:
            known = {ct, node, *node.inputs, *operands}
            self._emitted.update(x for x in _made(cts, known) if x.op is WHERE)
        return cts

    def _cut(self, ct: Node | None, reach: Reach) -> Node | None:
        if ct is None:
            return None
        cut: Node = where(reach.mask, ct, 0)
        if not reach.asked:
            self._emitted.add(cut)
        return cut

    def _selected(self, node: Node, reach: Reach | None) -> list[Reach | None]:
        """The reach of each operand, in the result's shape where the op is elementwise."""
        if node.op.selects is None:
            return [reach] * len(node.inputs)
        masks = node.op.selects(node, *node.inputs, **node.attrs)
        asked = node.op is WHERE and node not in self._emitted
        return [reach if mask is None else _both(reach, Reach(mask, asked)) for mask in masks]

    def _elementwise(
        self, node: Node, ct: Node, reach: Reach | None, wanted: Collection[Node]
    ) -> list[Contribution]:
        # Over the result's whole shape, so that the cut comes before the sum over what was
        # broadcast.
        operands = tuple([_spread(x, node, wanted) if reach else x for x in node.inputs])
        cts = self._vjp(node, ct, operands)
        result = []
        for x, ct_x, spread in zip(node.inputs, cts, self._selected(node, reach), strict=True):
            if ct_x is None or x not in wanted:
                result.append(Contribution(None))
                continue
            if reach is not None and _may_be_nan(ct_x, ct, {node, *operands}):
                ct_x = self._cut(ct_x, reach)
            assert ct_x is not None
            if spread is not None and x.shape != node.shape:
                spread = Reach(_any_to(spread.mask, node.shape, x.shape), spread.asked)
            result.append(Contribution(sum_to(ct_x, x.shape), spread))
        return result

    def _moved(self, node: Node, ct: Node, reach: Reach) -> list[Contribution]:
        """What moves and adds up elements moves the mask as it does the cotangent."""
        cts = self._vjp(node, ct, node.inputs)
        masks = self._vjp(node, broadcast_to(reach.mask, node.shape), node.inputs)
        return [
            Contribution(x, None if mask is None else Reach(_as_bool(mask), reach.asked))
            for x, mask in zip(cts, masks, strict=True)
        ]

    def _rows(self, node: Node, ct: Node, reach: Reach) -> list[Contribution]:
        """A row counts where anything of it does."""
        axes, keepdims = node.attrs["axes"], node.attrs.get("keepdims")
        if keepdims is None and _has_one_in_each_row(reach.mask, axes, node.shape):
            return [Contribution(x) for x in self._vjp(node, ct, node.inputs)]
        mask = broadcast_to(reach.mask, node.shape)
        if keepdims is None:
            mask = _as_bool(sum(mask, axes, True))
        elif not keepdims:
            mask = expand_dims(mask, axes)
        rows = Reach(mask, reach.asked)
        shape = np.broadcast_shapes(*[x.shape for x in node.inputs])
        spread = tuple([x if x.shape == shape else broadcast_to(x, shape) for x in node.inputs])
        cts = [self._cut(x, rows) for x in self._vjp(node, ct, spread)]
        result = []
        for x, ct_x, own in zip(node.inputs, cts, self._selected(node, rows), strict=True):
            if ct_x is None or own is None:
                result.append(Contribution(None))
            elif x.shape == shape:
                result.append(Contribution(ct_x, own))
            else:
                smaller = Reach(_any_to(own.mask, shape, x.shape), own.asked)
                result.append(Contribution(sum_to(ct_x, x.shape), smaller))
        return result

    def _product(self, node: Node, ct: Node, reach: Reach) -> list[Contribution]:
        """A row of the left operand counts where anything of that row of the result does; a column
        of the right one likewise. What does not count is 0 in the products of the VJP.
        """
        a, b = node.inputs
        mask = broadcast_to(reach.mask, node.shape)
        if len(b.shape) == 1:
            mask = expand_dims(mask, (len(mask.shape),))
        if len(a.shape) == 1:
            mask = expand_dims(mask, (len(mask.shape) - 1,))
        rows, columns = _as_bool(sum(mask, -1, True)), _as_bool(sum(mask, -2, True))
        of_a = _beside(rows, a, -1, node.attrs.get("transpose_a", False))
        of_b = _beside(columns, b, -2, node.attrs.get("transpose_b", False))
        safe = (where(of_a, a, 0), where(of_b, b, 0))
        cts = self._vjp(node, ct, safe)
        return [
            Contribution(self._cut(x, Reach(own, reach.asked)), Reach(own, reach.asked))
            for x, own in zip(cts, (of_a, of_b), strict=True)
        ]

    def _opened(
        self, node: Node, ct: Node, reach: Reach, wanted: Collection[Node]
    ) -> list[Contribution]:
        """A composite is differentiated by its parts, each of which is cut."""
        variables = [variable(x) for x in node.inputs]
        result = _decomposition(node, variables)
        pairs = zip(variables, node.inputs, strict=True)
        found = self.sweep(result, ct, reach, [v for v, x in pairs if x in wanted], variables)
        return [found.get(v, Contribution(None)) for v in variables]


# The ops that move and add up elements, beside views: each operand's element goes to some of the
# result's with the weight 1.
_MOVE = {SUM, UNSLICE, GATHER, SCATTER_ADD, CONCATENATE, PACK}


def joined(a: Reach | None, b: Reach | None) -> Reach | None:
    """The reach of a sum of two cotangents."""
    if a is None or b is None:
        return None
    if a.mask is b.mask:
        return Reach(a.mask, a.asked and b.asked)
    either: Node = a.mask + b.mask
    return Reach(either, a.asked and b.asked)


def _both(a: Reach | None, b: Reach) -> Reach:
    if a is None:
        return b
    both: Node = a.mask * b.mask
    return Reach(both, a.asked or b.asked)


def _spread(x: Node, node: Node, wanted: Collection[Node]) -> Node:
    if x not in wanted or x.shape == node.shape:
        return x
    result: Node = broadcast_to(x, node.shape)
    return result


def _any_to(mask: Node, full: tuple[int, ...], shape: tuple[int, ...]) -> Node:
    """Whether the mask holds anywhere along the axes on which `shape` is broadcast to `full`."""
    return _as_bool(sum_to(broadcast_to(mask, full), shape))


def _as_bool(mask: Node) -> Node:
    if mask.dtype == BOOL:
        return mask
    result: Node = not_equal(mask, 0)
    return result


def _beside(mask: Node, x: Node, axis: int, transposed: bool) -> Node:
    """A mask of rows or columns, in the shape of the operand x with the length 1 on `axis`."""
    if len(x.shape) == 1:
        return _as_bool(reshape(sum(mask), (1,)))
    shape = list(x.shape)
    other = -3 - axis
    kept = shape[axis if transposed else other]
    shape[axis], shape[other] = 1, kept
    result = _any_to(mask, mask.shape, tuple(shape))
    if not transposed:
        return result
    shape[axis], shape[other] = kept, 1
    turned: Node = reshape(result, shape)
    return turned


def _decomposition(node: Node, operands: list[Node]) -> Node:
    """The parts of a composite over `operands`, the composites among them opened that have no VJP
    of their own.
    """
    assert node.op.decompose is not None
    leaves = [input_node(x.type) for x in node.inputs]
    with inherit_origin(node.origin):
        parts = Lower(keep_vjp=True).run(Graph(leaves, [node.op.decompose(*leaves, **node.attrs)]))
    new: dict[Node, Node] = dict(zip(leaves, operands, strict=True))
    for part in parts.nodes[len(leaves) :]:
        new[part] = part.with_inputs(tuple([new[x] for x in part.inputs]))
    return new[parts.outputs[0]]


def _made(cts: Cotangents, known: Collection[Node]) -> set[Node]:
    """The nodes that `cts` are made of, up to those that were there before."""
    made: set[Node] = set()
    stack = [ct for ct in cts if ct is not None]
    while stack:
        node = stack.pop()
        if node not in made and node not in known:
            made.add(node)
            stack += node.inputs
    return made


def _may_be_nan(contribution: Node, ct: Node, known: Collection[Node]) -> bool:
    """Whether numbers of the program, `known`, come into a contribution: where they are infinite
    or NaN, so may it be, though `ct` is 0. As the condition of a `where` they do no harm.
    """
    seen = {ct}
    stack = [contribution]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if _is_finite(node):
            continue
        if node in known or not node.inputs:
            return True
        if node.op is DIVIDE and not _is_divisor(node.inputs[1]):
            return True
        stack += node.inputs[1:] if node.op is WHERE else node.inputs
    return False


def _is_finite(node: Node) -> bool:
    """Whether every element is a finite number, as far as that is plain to see."""
    stack = [node]
    for _ in range(8):
        if not stack:
            return True
        x = stack.pop()
        if x.op is CONSTANT:
            if not np.isfinite(x.attrs["value"]).all():
                return False
        elif x.op is WHERE:
            stack += x.inputs[1:]
        elif x.op is DIVIDE and _is_divisor(x.inputs[1]):
            stack.append(x.inputs[0])
        elif x.op is CAST and not is_floating(x.inputs[0].dtype):
            continue
        elif x.op in (BROADCAST_TO, RESHAPE, TRANSPOSE):
            stack.append(x.inputs[0])
        elif is_floating(x.dtype):
            return False
    return not stack


def _is_divisor(node: Node) -> bool:
    """Whether it is a constant, by which a finite number can be divided."""
    if node.op is not CONSTANT:
        return False
    value = np.abs(node.attrs["value"])
    return bool(np.isfinite(value).all() and (value >= 1e-30).all())


def _has_one_in_each_row(mask: Node, axes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a mask picks a label in each row, as a softmax loss does: a comparison of something
    that is constant along the one axis with 0 … k - 1. (A label out of range picks nothing.)
    """
    if mask.op is not EQUAL or len(axes) != 1:
        return False
    axis = axes[0] - len(shape)
    for classes, labels in (mask.inputs, mask.inputs[::-1]):
        if classes.op is not CONSTANT or classes.type.size != shape[axis]:
            continue
        along = classes.shape[axis] if -axis <= len(classes.shape) else 1
        other = labels.shape[axis] if -axis <= len(labels.shape) else 1
        if along == shape[axis] and other == 1:
            return bool((classes.attrs["value"].ravel() == np.arange(shape[axis])).all())
    return False

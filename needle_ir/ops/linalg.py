"""The matrix product."""

from typing import Any

from needle_ir.ir import Node, Op, Promotion, ShapeError, TensorType, Trait
from needle_ir.ops.build import apply
from needle_ir.ops.shape import broadcast_shapes, expand_dims, permute, reshape, sum_to


def _matmul_type(a: TensorType, b: TensorType) -> TensorType:
    if not a.ndim or not b.ndim:
        raise ShapeError("a scalar has no matrix product; multiply with * instead")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ShapeError(
            f"the inner dimensions {a.shape[-1]} and {inner} differ: shapes {a.shape} and {b.shape}"
        )
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows = a.shape[-2:-1] if a.ndim > 1 else ()
    columns = b.shape[-1:] if b.ndim > 1 else ()
    return TensorType((*batch, *rows, *columns), a.dtype)


def _matmul_vjp(ct: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    # A vector on the left is a row, on the right a column: with these axes put back, one rule
    # serves all cases.
    rows = a if len(a.shape) > 1 else expand_dims(a, (0,))
    columns = b if len(b.shape) > 1 else expand_dims(b, (1,))
    if len(b.shape) == 1:
        ct = expand_dims(ct, (len(ct.shape),))
    if len(a.shape) == 1:
        ct = expand_dims(ct, (len(ct.shape) - 1,))
    ct_a = sum_to(ct @ swap_last_two(columns), rows.shape)
    ct_b = sum_to(swap_last_two(rows) @ ct, columns.shape)
    return reshape(ct_a, a.shape), reshape(ct_b, b.shape)


MATMUL = Op(
    name="matmul",
    infer=_matmul_type,
    traits=frozenset({Trait.CONTRACTION}),
    promotion=Promotion.COMMON,
    vjp=_matmul_vjp,
)


def matmul(a: Any, b: Any) -> Any:
    """The matrix product, as numpy.matmul: (…, n, k) and (…, k, m) give (…, n, m)."""
    return apply(MATMUL, a, b)


def swap_last_two(x: Node) -> Node:
    """x with its last two axes swapped."""
    axes = list(range(len(x.shape)))
    axes[-2:] = axes[-1], axes[-2]
    result: Node = permute(x, axes)
    return result

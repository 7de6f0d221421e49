"""The matrix product."""

from typing import Any

from needle_ir.ir import Node, Op, Promotion, ShapeError, TensorType, Trait
from needle_ir.ops.build import apply
from needle_ir.ops.shape import broadcast_shapes, expand_dims, reshape, sum_to


def _matmul_attrs(
    a: TensorType, b: TensorType, *, transpose_a: bool = False, transpose_b: bool = False
) -> dict[str, bool]:
    flags = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    for (name, flag), operand in zip(flags.items(), (a, b), strict=True):
        if flag and operand.ndim < 2:
            raise ShapeError(f"{name} needs an operand with 2 axes or more, not {operand.shape}")
    return {name: True for name, flag in flags.items() if flag}


def _matmul_type(
    a: TensorType, b: TensorType, *, transpose_a: bool = False, transpose_b: bool = False
) -> TensorType:
    if not a.ndim or not b.ndim:
        raise ShapeError("a scalar has no matrix product; multiply with * instead")
    left = _swapped(a.shape) if transpose_a else a.shape
    right = _swapped(b.shape) if transpose_b else b.shape
    inner = right[-2] if b.ndim > 1 else right[0]
    if left[-1] != inner:
        raise ShapeError(
            f"the inner dimensions {left[-1]} and {inner} differ: shapes {left} and {right}"
        )
    batch = broadcast_shapes(left[:-2], right[:-2])
    rows = left[-2:-1] if a.ndim > 1 else ()
    columns = right[-1:] if b.ndim > 1 else ()
    return TensorType((*batch, *rows, *columns), a.dtype)


def _swapped(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def _matmul_vjp(
    ct: Node,
    out: Node,
    a: Node,
    b: Node,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> tuple[Node, Node]:
    # A vector on the left is a row, on the right a column: with these axes put back, one rule
    # serves all cases.
    rows = a if len(a.shape) > 1 else expand_dims(a, (0,))
    columns = b if len(b.shape) > 1 else expand_dims(b, (1,))
    if len(b.shape) == 1:
        ct = expand_dims(ct, (len(ct.shape),))
    if len(a.shape) == 1:
        ct = expand_dims(ct, (len(ct.shape) - 1,))
    # For c = a b these are ct bᵀ and aᵀ ct; for a transposed operand, their transposes.
    if transpose_a:
        ct_a = matmul(columns, ct, transpose_a=transpose_b, transpose_b=True)
    else:
        ct_a = matmul(ct, columns, transpose_b=not transpose_b)
    if transpose_b:
        ct_b = matmul(ct, rows, transpose_a=True, transpose_b=transpose_a)
    else:
        ct_b = matmul(rows, ct, transpose_a=not transpose_a)
    ct_a, ct_b = sum_to(ct_a, rows.shape), sum_to(ct_b, columns.shape)
    return reshape(ct_a, a.shape), reshape(ct_b, b.shape)


MATMUL = Op(
    name="matmul",
    infer=_matmul_type,
    normalize=_matmul_attrs,
    traits=frozenset({Trait.CONTRACTION}),
    promotion=Promotion.COMMON,
    vjp=_matmul_vjp,
    defaults={"transpose_a": False, "transpose_b": False},
)


def matmul(a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """The matrix product, as numpy.matmul: (…, n, k) and (…, k, m) give (…, n, m).

    `transpose_a` and `transpose_b` swap the last two axes of an operand first. Raises ShapeError
    for an operand with one axis.
    """
    return apply(MATMUL, a, b, transpose_a=transpose_a, transpose_b=transpose_b)

"""Rules about matrix products: transposes become flags of the product."""

from needle_ir.ops import matmul, permute
from needle_ir.passes.rule import Rule

Ints = tuple[int, ...]


def _swaps_last_two(p: Ints) -> bool:
    last = len(p) - 1
    return last > 0 and p == (*range(last - 1), last, last - 1)


EXACT = (
    Rule(
        "transposed-left",
        lambda a, b, p, s, t: matmul(permute(a, p), b, transpose_a=s, transpose_b=t),
        lambda a, b, s, t: matmul(a, b, transpose_a=not s, transpose_b=t),
        lambda p: _swaps_last_two(p),
    ),
    Rule(
        "transposed-right",
        lambda a, b, p, s, t: matmul(a, permute(b, p), transpose_a=s, transpose_b=t),
        lambda a, b, s, t: matmul(a, b, transpose_a=s, transpose_b=not t),
        lambda p: _swaps_last_two(p),
    ),
)

FAST_MATH = (
    # The other product adds in another order.
    Rule(
        "transposed-product",
        lambda a, b, p, s, t: permute(matmul(a, b, transpose_a=s, transpose_b=t), p),
        lambda a, b, s, t: matmul(b, a, transpose_a=not t, transpose_b=not s),
        lambda a, b, p: _swaps_last_two(p) and len(a.shape) > 1 and len(b.shape) > 1,
        single_use=True,
    ),
)

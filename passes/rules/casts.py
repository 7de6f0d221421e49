"""Rules about conversions between dtypes."""

import numpy as np

from needle_ir.ir import DType, Node
from needle_ir.ops import cast
from needle_ir.passes.rule import Rule


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether every number of `narrow` is one of `wide`. NumPy's "safe" has int64 in float64."""
    if wide.kind == "f" and narrow.kind in "iu":
        bits = narrow.itemsize * 8 - (narrow.kind == "i")
        return bits <= np.finfo(wide).nmant + 1 and narrow.itemsize < wide.itemsize
    return np.can_cast(narrow, wide, "safe")


def _is_direct(x: Node, between: DType, to: DType) -> bool:
    """Whether x converted to `between`, then to `to`, is x converted to `to`.

    What C leaves open, as the integer of a float out of range, may be answered otherwise on the
    direct way; and NumPy converts an integer to float16 by way of float32.
    """
    if not _holds(between, x.dtype):
        return False
    if to == x.dtype or x.dtype.kind == "b" or to.kind == "b":
        return True
    if to.kind == "f":
        return x.dtype.kind == "f" or to.itemsize > 2
    return x.dtype.kind != "f" and between.kind != "f"


EXACT = (
    Rule("cast-nothing", lambda x, d: cast(x, d), lambda x: x),
    Rule(
        "cast-cast",
        lambda x, d, e: cast(cast(x, d), e),
        lambda x, e: cast(x, e),
        lambda x, d, e: _is_direct(x, d, e),
    ),
)

FAST_MATH: tuple[Rule, ...] = ()

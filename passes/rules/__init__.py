"""The rules of simplify: one row each, by what they are about.

`EXACT` rules hold for every number: NaN, infinities, signed zeros and subnormals included, to the
last bit, and for integers that wrap around. A rule that is exact in integers alone says so by the
kinds of its wildcards. The rules of `FAST_MATH` change a NaN, an infinity, the sign of a zero, the
rounding, or which of two equal elements gets the gradient.

Simplify runs before autodiff too. So a rule also keeps the derivative, up to rounding.
"""

from needle_ir.passes.rules import (
    arithmetic,
    casts,
    functions,
    integers,
    joining,
    products,
    reductions,
    selection,
    views,
)

_TABLES = (
    arithmetic,
    integers,
    functions,
    casts,
    selection,
    views,
    joining,
    reductions,
    products,
)

EXACT = tuple(rule for table in _TABLES for rule in table.EXACT)
FAST_MATH = tuple(rule for table in _TABLES for rule in table.FAST_MATH)

"""Rules that are exact in integers, which wrap around, and in booleans."""

from needle_ir.ops import maximum, minimum
from needle_ir.passes.pattern import boolean, floating, integer, scalar_constant
from needle_ir.passes.rule import Rule
from needle_ir.passes.rules.arithmetic import filled, product, total

EXACT = (
    Rule("integer-plus-zero", lambda x=integer: x + 0, lambda x: x),
    Rule("integer-times-zero", lambda x=integer: x * 0, lambda x: filled(x, 0)),
    Rule("integer-zero-minus", lambda x=integer: 0 - x, lambda x: -x),
    Rule("integer-minus-itself", lambda x=integer: x - x, lambda x: filled(x, 0)),
    Rule(
        "integer-negative-of-difference",
        lambda y, x=integer: -(x - y),
        lambda x, y: y - x,
        single_use=True,
    ),
    Rule("integer-add-then-subtract", lambda y, x=integer: (x + y) - y, lambda x: x),
    Rule("integer-subtract-then-add", lambda y, x=integer: (x - y) + y, lambda x: x),
    Rule(
        "integer-scale-twice",
        lambda x=integer, a=scalar_constant, b=scalar_constant: x * a * b,
        lambda x, a, b: x * product(a, b),
    ),
    Rule(
        "integer-shift-twice",
        lambda x=integer, a=scalar_constant, b=scalar_constant: x + a + b,
        lambda x, a, b: x + total(a, b),
    ),
    Rule("or-false", lambda x=boolean: x + False, lambda x: x),
    Rule("or-true", lambda x=boolean: x + True, lambda x: filled(x, True)),
    Rule("and-true", lambda x=boolean: x * True, lambda x: x),
    Rule("and-false", lambda x=boolean: x * False, lambda x: filled(x, False)),
    # In floats the larger of 0.0 and -0.0 depends on their order.
    Rule(
        "integer-maximum-again",
        lambda x, y=~floating: maximum(maximum(x, y), y),
        lambda x, y: maximum(x, y),
    ),
    Rule(
        "integer-minimum-again",
        lambda x, y=~floating: minimum(minimum(x, y), y),
        lambda x, y: minimum(x, y),
    ),
)

FAST_MATH = (
    Rule(
        "maximum-again",
        lambda x, y=floating: maximum(maximum(x, y), y),
        lambda x, y: maximum(x, y),
    ),
    Rule(
        "minimum-again",
        lambda x, y=floating: minimum(minimum(x, y), y),
        lambda x, y: minimum(x, y),
    ),
)

"""Rules about powers and functions of one number."""

from needle_ir.ir import Node
from needle_ir.ops import abs, exp, log, maximum, minimum, power, relu, sign, sqrt
from needle_ir.passes.pattern import floating, scalar_constant, scalar_value
from needle_ir.passes.rule import Rule
from needle_ir.passes.rules.arithmetic import filled


def _is_scalar(exponent: Node, value: float) -> bool:
    # NumPy has a way of its own for exponents that do not vary; it squares for a 2, takes a root
    # for a half. In arrays of one element, only an exponent without axes is surely one of these.
    return exponent.shape == () and scalar_value(exponent) == value


EXACT = (
    Rule("power-zero", lambda x: power(x, 0), lambda x: filled(x, 1)),
    Rule("power-one", lambda x: power(x, 1), lambda x: x),
    Rule("power-of-one", lambda x=floating: power(1, x), lambda x: filled(x, 1)),
    Rule(
        "square",
        lambda x, c=scalar_constant: power(x, c),
        lambda x: x * x,
        lambda c: _is_scalar(c, 2),
    ),
    # Of an unsigned integer, the negative is another number without a sign.
    Rule("abs-negative", lambda x: abs(-x), lambda x: abs(x), lambda x: x.dtype.kind != "u"),
    Rule("abs-abs", lambda x: abs(abs(x)), lambda x: abs(x)),
    Rule("sign-sign", lambda x: sign(sign(x)), lambda x: sign(x)),
    Rule("relu-relu", lambda x: relu(relu(x)), lambda x: relu(x)),
    Rule("relu-abs", lambda x: relu(abs(x)), lambda x: abs(x)),
    Rule("maximum-itself", lambda x: maximum(x, x), lambda x: x),
    Rule("minimum-itself", lambda x: minimum(x, x), lambda x: x),
)

FAST_MATH = (
    Rule("cube", lambda x: power(x, 3), lambda x: x * x * x),
    Rule("power-half", lambda x=floating: power(x, 0.5), lambda x: sqrt(x)),
    Rule("power-minus-one", lambda x=floating: power(x, -1), lambda x: 1 / x),
    Rule("exp-log", lambda x: exp(log(x)), lambda x: x),
    Rule("log-exp", lambda x: log(exp(x)), lambda x: x),
    Rule("exp-times-exp", lambda x, y: exp(x) * exp(y), lambda x, y: exp(x + y), single_use=True),
    Rule("exp-by-exp", lambda x, y: exp(x) / exp(y), lambda x, y: exp(x - y), single_use=True),
)

"""Elementwise ops: arithmetic, functions, comparisons, `where`. All broadcast as NumPy does."""

from collections.abc import Callable
from typing import Any

import numpy as np

from needle_ir.ir import (
    CONSTANT,
    DType,
    DTypeError,
    Node,
    Op,
    OperandValueError,
    Promotion,
    TensorType,
    Trait,
    capture_origin,
)
from needle_ir.ops.build import CAST, apply
from needle_ir.ops.shape import broadcast_shapes, sum_to

Cotangents = tuple[Node | None, ...]
BOOL: DType = np.dtype(np.bool_)


def _unary(
    name: str,
    vjp: Callable[[Node, Node, Node], Node] | None,
    promotion: Promotion = Promotion.FLOAT,
    boolean: bool = False,
    takes_bool: bool = True,
    selects: Callable[[Node], Node] | None = None,
) -> Op:
    """A row for an op of one operand. `vjp(ct, out, x)` gives the cotangent of `x`, `selects(x)`
    where the result depends on it.
    """

    def infer(x: TensorType) -> TensorType:
        if not takes_bool:
            _refuse_bool(x)
        return TensorType(x.shape, BOOL) if boolean else x

    return Op(
        name=name,
        infer=infer,
        traits=frozenset({Trait.ELEMENTWISE}),
        promotion=promotion,
        vjp=None if vjp is None else lambda ct, out, x: (vjp(ct, out, x),),
        selects=None if selects is None else lambda out, x: (selects(x),),
    )


def _binary(
    name: str,
    vjp: Callable[[Node, Node, Node, Node], tuple[Node, Node]] | None,
    promotion: Promotion = Promotion.COMMON,
    commutative: bool = False,
    boolean: bool = False,
    takes_bool: bool = True,
    selects: Callable[[Node, Node], tuple[Node, Node]] | None = None,
) -> Op:
    """A row for an op of two operands. `vjp(ct, out, a, b)` gives both cotangents, before they
    are summed back over the axes along which an operand was broadcast; `selects(a, b)` where the
    result depends on each.
    """

    def infer(a: TensorType, b: TensorType) -> TensorType:
        if not takes_bool:
            _refuse_bool(a)
        return TensorType(broadcast_shapes(a.shape, b.shape), BOOL if boolean else a.dtype)

    def unbroadcast(ct: Node, out: Node, a: Node, b: Node) -> Cotangents:
        assert vjp is not None
        ct_a, ct_b = vjp(ct, out, a, b)
        return sum_to(ct_a, a.shape), sum_to(ct_b, b.shape)

    traits = {Trait.ELEMENTWISE, Trait.COMMUTATIVE} if commutative else {Trait.ELEMENTWISE}
    return Op(
        name=name,
        infer=infer,
        traits=frozenset(traits),
        promotion=promotion,
        vjp=None if vjp is None else unbroadcast,
        selects=None if selects is None else lambda out, a, b: selects(a, b),
    )


def _refuse_bool(x: TensorType) -> None:
    if x.dtype == BOOL:
        raise DTypeError("NumPy does not define it for bools; cast them to a number with astype")


def _comparison(name: str, commutative: bool = False) -> Op:
    return _binary(name, None, Promotion.COMPARISON, commutative=commutative, boolean=True)


NEGATIVE = _unary("negative", lambda ct, out, x: -ct, Promotion.NONE, takes_bool=False)
ABS = _unary("abs", lambda ct, out, x: ct * sign(x), Promotion.NONE)
SIGN = _unary("sign", lambda ct, out, x: ct * 0.0, Promotion.NONE, takes_bool=False)
EXP = _unary("exp", lambda ct, out, x: ct * out)
LOG = _unary("log", lambda ct, out, x: ct / x)
LOG1P = _unary("log1p", lambda ct, out, x: ct / (1.0 + x))
EXPM1 = _unary("expm1", lambda ct, out, x: ct * exp(x))
SQRT = _unary("sqrt", lambda ct, out, x: 0.5 * ct / out)
TANH = _unary("tanh", lambda ct, out, x: ct * (1.0 - out * out))
RELU = _unary(
    "relu",
    lambda ct, out, x: where(out > 0, ct, 0),  # as where x > 0; and x need not be kept
    Promotion.NONE,
    selects=lambda x: logical_not(x <= 0),
)
LOGICAL_NOT = _unary("logical_not", None, Promotion.NONE, boolean=True)

ADD = _binary("add", lambda ct, out, a, b: (ct, ct), commutative=True)
SUBTRACT = _binary("subtract", lambda ct, out, a, b: (ct, -ct), takes_bool=False)
MULTIPLY = _binary("multiply", lambda ct, out, a, b: (ct * b, ct * a), commutative=True)
DIVIDE = _binary("divide", lambda ct, out, a, b: (ct / b, -(ct * out / b)), Promotion.QUOTIENT)
MAXIMUM = _binary(
    "maximum",
    lambda ct, out, a, b: (_share(ct, a, b), _share(ct, b, a)),
    commutative=True,
    selects=lambda a, b: (logical_not(a < b), logical_not(b < a)),
)
MINIMUM = _binary(
    "minimum",
    lambda ct, out, a, b: (_share(ct, b, a), _share(ct, a, b)),
    commutative=True,
    selects=lambda a, b: (logical_not(a > b), logical_not(b > a)),
)

EQUAL = _comparison("equal", commutative=True)
NOT_EQUAL = _comparison("not_equal", commutative=True)
LESS = _comparison("less")
LESS_EQUAL = _comparison("less_equal")
GREATER = _comparison("greater")
GREATER_EQUAL = _comparison("greater_equal")


def _share(ct: Node, winner: Node, loser: Node) -> Node:
    """The part of `ct` that belongs to `winner > loser`: at a tie, half to each side."""
    return where(winner > loser, ct, where(equal(winner, loser), 0.5 * ct, 0))


def _power_vjp(ct: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    # a**0 has the derivative 0 everywhere, also where a**(0-1) is infinite; and 0**b is constant
    # in b, although log(0) is infinite. Elsewhere a**(b-1) stays as it is for its derivative by b.
    hidden = equal(b, 0)
    if b.op is not CONSTANT:
        hidden = hidden * (abs(a) < float(np.finfo(a.dtype).tiny))
    exponent = where(hidden, 1, b - 1)
    ct_a = ct * b * power(a, exponent)
    ct_b = ct * out * log(where(equal(a, 0), 1, a))
    return ct_a, ct_b


POWER = _binary("power", _power_vjp, takes_bool=False)


def _where_type(condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
    if condition.dtype != BOOL:
        raise DTypeError(
            f"the condition is {condition.dtype}; compare it, or cast it to bool with astype(bool)"
        )
    return TensorType(broadcast_shapes(condition.shape, a.shape, b.shape), a.dtype)


def _where_vjp(ct: Node, out: Node, condition: Node, a: Node, b: Node) -> Cotangents:
    ct_a, ct_b = where(condition, ct, 0), where(condition, 0, ct)
    return None, sum_to(ct_a, a.shape), sum_to(ct_b, b.shape)


WHERE = Op(
    name="where",
    infer=_where_type,
    traits=frozenset({Trait.ELEMENTWISE}),
    promotion=Promotion.BRANCHES,
    vjp=_where_vjp,
    selects=lambda out, condition, a, b: (None, condition, logical_not(condition)),
)


def negative(x: Any) -> Any:
    """-x."""
    return apply(NEGATIVE, x)


def abs(x: Any) -> Any:
    """|x|. The derivative at 0 is 0."""
    return apply(ABS, x)


def sign(x: Any) -> Any:
    """-1, 0 or 1. The derivative is 0 everywhere."""
    return apply(SIGN, x)


def exp(x: Any) -> Any:
    """e to the power of x."""
    return apply(EXP, x)


def log(x: Any) -> Any:
    """The natural logarithm of x."""
    return apply(LOG, x)


def log1p(x: Any) -> Any:
    """log(1 + x), right also where x is far smaller than 1."""
    return apply(LOG1P, x)


def expm1(x: Any) -> Any:
    """exp(x) - 1, right also where x is far smaller than 1."""
    return apply(EXPM1, x)


def sqrt(x: Any) -> Any:
    """The square root of x."""
    return apply(SQRT, x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent of x."""
    return apply(TANH, x)


def relu(x: Any) -> Any:
    """max(x, 0). The derivative at 0 is 0."""
    return apply(RELU, x)


def logical_not(x: Any) -> Any:
    """Whether x is zero."""
    return apply(LOGICAL_NOT, x)


def add(a: Any, b: Any) -> Any:
    """a + b."""
    return apply(ADD, a, b)


def subtract(a: Any, b: Any) -> Any:
    """a - b."""
    return apply(SUBTRACT, a, b)


def multiply(a: Any, b: Any) -> Any:
    """a * b."""
    return apply(MULTIPLY, a, b)


def divide(a: Any, b: Any) -> Any:
    """a / b. Integers become floats."""
    return apply(DIVIDE, a, b)


def power(a: Any, b: Any) -> Any:
    """a to the power of b. Raises OperandValueError for an integer to a negative integer power:
    where b is a number or an array at once, else when it runs.
    """
    if isinstance(b, int | np.integer | np.ndarray):
        _refuse_negative_power(a, b)
    return apply(POWER, a, b)


def _refuse_negative_power(a: Any, b: Any) -> None:
    dtype, exponent = getattr(a, "dtype", None), np.asarray(b)
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iu" or exponent.dtype.kind != "i":
        return
    if (exponent < 0).any():
        raise OperandValueError(
            f"power({TensorType(a.shape, dtype)}, {exponent.min()}): an integer to a negative "
            "power is no integer; convert it to a float with astype",
            capture_origin(),
        )


def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b; NaN where either is NaN. At a tie each gets half of the gradient."""
    return apply(MAXIMUM, a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b; NaN where either is NaN. At a tie each gets half of the gradient."""
    return apply(MINIMUM, a, b)


def equal(a: Any, b: Any) -> Any:
    """Whether a == b, elementwise."""
    return apply(EQUAL, a, b)


def not_equal(a: Any, b: Any) -> Any:
    """Whether a != b, elementwise."""
    return apply(NOT_EQUAL, a, b)


def less(a: Any, b: Any) -> Any:
    """Whether a < b, elementwise."""
    return apply(LESS, a, b)


def less_equal(a: Any, b: Any) -> Any:
    """Whether a <= b, elementwise."""
    return apply(LESS_EQUAL, a, b)


def greater(a: Any, b: Any) -> Any:
    """Whether a > b, elementwise."""
    return apply(GREATER, a, b)


def greater_equal(a: Any, b: Any) -> Any:
    """Whether a >= b, elementwise."""
    return apply(GREATER_EQUAL, a, b)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the boolean `condition` holds, b elsewhere. No NaN comes from the other branch."""
    return apply(WHERE, condition, a, b)


def cast(x: Any, dtype: Any) -> Any:
    """x converted to `dtype`, as numpy.ndarray.astype does."""
    return apply(CAST, x, dtype=dtype)

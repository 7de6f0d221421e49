"""Cases of the rules about integers and booleans."""

from needle_ir import ops
from tests.passes.rules.case import Case, Kept, also

EXACT = [
    Case("integer-plus-zero", "i", lambda x, y: x + 0, "return %x"),
    Case(
        "integer-times-zero",
        "i",
        lambda x, y: x * 0,
        "%0 = constant {value=0} : i32[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : i32[2,3]; "
        "return %1",
    ),
    Case("integer-zero-minus", "i", lambda x, y: 0 - x, "%0 = negative(%x) : i32[2,3]; return %0"),
    Case(
        "integer-minus-itself",
        "i",
        lambda x, y: x - x,
        "%0 = constant {value=0} : i32[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : i32[2,3]; "
        "return %1",
    ),
    Case(
        "integer-negative-of-difference",
        "i",
        lambda x, y: -(x - y),
        "%0 = subtract(%y, %x) : i32[2,3]; return %0",
    ),
    Case("integer-add-then-subtract", "i", lambda x, y: (x + y) - y, "return %x"),
    Case("integer-add-then-subtract", "i", lambda x, y: (y + x) - y, "return %x"),
    Case("integer-subtract-then-add", "i", lambda x, y: y + (x - y), "return %x"),
    Case(
        "integer-scale-twice",
        "i",
        lambda x, y: x * 3 * 5,
        "%0 = constant {value=15} : i32[]; %1 = multiply(%x, %0) : i32[2,3]; return %1",
    ),
    Case(
        "integer-shift-twice",
        "i",
        lambda x, y: (x + 3) + 5,
        "%0 = constant {value=8} : i32[]; %1 = add(%x, %0) : i32[2,3]; return %1",
    ),
    Case("or-false", "b", lambda x, y: x + False, "return %x"),
    Case(
        "or-true",
        "b",
        lambda x, y: x + True,
        "%0 = constant {value=true} : bool[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : bool[2,3]; "
        "return %1",
    ),
    Case("and-true", "b", lambda x, y: x * True, "return %x"),
    Case(
        "and-false",
        "b",
        lambda x, y: x * False,
        "%0 = constant {value=false} : bool[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : bool[2,3]; "
        "return %1",
    ),
    Case(
        "integer-maximum-again",
        "ib",
        lambda x, y: ops.maximum(ops.maximum(x, y), y),
        "%0 = maximum(%x, %y) : i32[2,3]; return %0",
    ),
    Case(
        "integer-maximum-again",
        "ib",
        lambda x, y: ops.maximum(x, ops.maximum(x, y)),
        "%0 = maximum(%y, %x) : i32[2,3]; return %0",
    ),
    Case(
        "integer-minimum-again",
        "ib",
        lambda x, y: ops.minimum(ops.minimum(x, y), y),
        "%0 = minimum(%x, %y) : i32[2,3]; return %0",
    ),
]

FAST_MATH = [
    Case(
        "maximum-again",
        "f",
        lambda x, y: ops.maximum(x, ops.maximum(x, y)),
        "%0 = maximum(%y, %x) : f32[2,3]; return %0",
    ),
    Case(
        "minimum-again",
        "f",
        lambda x, y: ops.minimum(x, ops.minimum(x, y)),
        "%0 = minimum(%y, %x) : f32[2,3]; return %0",
    ),
]

KEPT = [
    Kept("integer-plus-zero", "floats", "f", lambda x, y: x + 0),
    Kept("integer-times-zero", "floats", "f", lambda x, y: x * 0),
    Kept("integer-zero-minus", "floats", "f", lambda x, y: 0 - x),
    Kept("integer-minus-itself", "floats", "f", lambda x, y: x - x),
    Kept("integer-negative-of-difference", "floats", "f", lambda x, y: -(x - y)),
    Kept(
        "integer-negative-of-difference",
        "use outside of the pattern",
        "i",
        lambda x, y: also(x - y, ops.negative),
    ),
    Kept("integer-add-then-subtract", "floats", "f", lambda x, y: (x + y) - y),
    Kept("integer-add-then-subtract", "the other way round", "i", lambda x, y: y - (x + y)),
    Kept("integer-subtract-then-add", "floats", "f", lambda x, y: (x - y) + y),
    Kept("integer-scale-twice", "floats", "f", lambda x, y: x * 3 * 5),
    Kept("integer-shift-twice", "floats", "f", lambda x, y: x + 3 + 5),
    Kept("or-false", "true", "b", lambda x, y: x + True),
    Kept("or-false", "numbers", "i", lambda x, y: x + 0),
    Kept("or-true", "false", "b", lambda x, y: x + False),
    Kept("and-true", "false", "b", lambda x, y: x * False),
    Kept("and-true", "numbers", "i", lambda x, y: x * 1),
    Kept("and-false", "true", "b", lambda x, y: x * True),
    Kept("integer-maximum-again", "floats", "f", lambda x, y: ops.maximum(ops.maximum(x, y), y)),
    Kept(
        "integer-maximum-again",
        "the smaller of the larger",
        "i",
        lambda x, y: ops.minimum(ops.maximum(x, y), y),
    ),
    Kept("integer-minimum-again", "floats", "f", lambda x, y: ops.minimum(ops.minimum(x, y), y)),
    Kept("maximum-again", "another node", "f", lambda x, y: ops.maximum(ops.maximum(x, y), -y)),
    Kept("minimum-again", "another node", "f", lambda x, y: ops.minimum(ops.minimum(x, y), -y)),
]

"""Cases of the rules about sums, products and quotients of floats."""

import numpy as np

from needle_ir import ops
from tests.passes.rules.case import (
    Case,
    Kept,
    also,
)

EXACT = [
    Case("double-negative", "fi", lambda x, y: -ops.negative(x), "return %x"),
    Case("times-one", "fi", lambda x, y: x * 1, "return %x"),
    Case("times-one", "fi", lambda x, y: 1 * x, "return %x"),
    Case("times-one", "fi", lambda x, y: x * np.ones((1, 1), x.dtype), "return %x"),
    Case("times-minus-one", "f", lambda x, y: x * -1, "%0 = negative(%x) : f32[2,3]; return %0"),
    Case("divide-by-one", "f", lambda x, y: x / 1, "return %x"),
    Case(
        "divide-by-minus-one", "f", lambda x, y: x / -1, "%0 = negative(%x) : f32[2,3]; return %0"
    ),
    Case("minus-zero", "fi", lambda x, y: x - 0, "return %x"),
    Case("plus-negative-zero", "f", lambda x, y: x + -0.0, "return %x"),
    Case("plus-negative-zero", "f", lambda x, y: -0.0 + x, "return %x"),
    Case(
        "negative-zero-minus", "f", lambda x, y: -0.0 - x, "%0 = negative(%x) : f32[2,3]; return %0"
    ),
    Case("add-negative", "fi", lambda x, y: x + -y, "%0 = subtract(%x, %y) : f32[2,3]; return %0"),
    Case("add-negative", "fi", lambda x, y: -y + x, "%0 = subtract(%x, %y) : f32[2,3]; return %0"),
    Case("subtract-negative", "fi", lambda x, y: x - -y, "%0 = add(%x, %y) : f32[2,3]; return %0"),
    Case(
        "negative-times-negative",
        "fi",
        lambda x, y: -x * -y,
        "%0 = multiply(%x, %y) : f32[2,3]; return %0",
    ),
    Case(
        "negative-by-negative",
        "f",
        lambda x, y: -x / -y,
        "%0 = divide(%x, %y) : f32[2,3]; return %0",
    ),
    Case(
        "negative-times-constant",
        "fi",
        lambda x, y: -x * 3,
        "%0 = constant {value=-3.0} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "negative-times-constant",
        "fi",
        lambda x, y: 3 * -x,
        "%0 = constant {value=-3.0} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "negative-by-constant",
        "f",
        lambda x, y: -x / 3,
        "%0 = constant {value=-3.0} : f32[]; %1 = divide(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "constant-by-negative",
        "f",
        lambda x, y: 3 / -x,
        "%0 = constant {value=-3.0} : f32[]; %1 = divide(%0, %x) : f32[2,3]; return %1",
    ),
    Case(
        "negative-of-scaled",
        "fi",
        lambda x, y: -(x * 3),
        "%0 = constant {value=-3.0} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "divide-by-power-of-two",
        "f",
        lambda x, y: x / 4,
        "%0 = constant {value=0.25} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "divide-by-power-of-two",
        "f",
        lambda x, y: x / -0.125,
        "%0 = constant {value=-8.0} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "scale-up-twice",
        "f",
        lambda x, y: x * 2 * -8,
        "%0 = constant {value=-16.0} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "scale-up-twice",
        "f",
        lambda x, y: 4 * (2 * x),
        "%0 = constant {value=8.0} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
]

FAST_MATH = [
    Case("plus-zero", "f", lambda x, y: x + 0, "return %x"),
    Case("plus-zero", "f", lambda x, y: 0 + x, "return %x"),
    Case(
        "times-zero",
        "f",
        lambda x, y: x * 0,
        "%0 = constant {value=0.0} : f32[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]; "
        "return %1",
    ),
    Case("zero-minus", "f", lambda x, y: 0 - x, "%0 = negative(%x) : f32[2,3]; return %0"),
    Case(
        "minus-itself",
        "f",
        lambda x, y: x - x,
        "%0 = constant {value=0.0} : f32[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]; "
        "return %1",
    ),
    Case(
        "divide-by-itself",
        "f",
        lambda x, y: x / x,
        "%0 = constant {value=1.0} : f32[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]; "
        "return %1",
    ),
    Case(
        "negative-of-difference",
        "f",
        lambda x, y: -(x - y),
        "%0 = subtract(%y, %x) : f32[2,3]; return %0",
    ),
    Case("add-then-subtract", "f", lambda x, y: (x + y) - y, "return %x"),
    Case("subtract-then-add", "f", lambda x, y: (x - y) + y, "return %x"),
    Case("multiply-then-divide", "f", lambda x, y: x * y / y, "return %x"),
    Case("divide-then-multiply", "f", lambda x, y: x / y * y, "return %x"),
    Case(
        "divide-by-constant",
        "f",
        lambda x, y: x / 3,
        "%0 = constant {value=0.33333334} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "scale-twice",
        "f",
        lambda x, y: x * 3 * 0.1,
        "%0 = constant {value=0.3} : f32[]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "shift-twice",
        "f",
        lambda x, y: (x + 3) + 0.1,
        "%0 = constant {value=3.1} : f32[]; %1 = add(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "divide-twice",
        "f",
        lambda x, y: x / y / x,
        "%0 = multiply(%y, %x) : f32[2,3]; %1 = divide(%x, %0) : f32[2,3]; return %1",
    ),
    Case(
        "divide-by-quotient",
        "f",
        lambda x, y: x / (y / x),
        "%0 = multiply(%x, %x) : f32[2,3]; %1 = divide(%0, %y) : f32[2,3]; return %1",
    ),
    Case(
        "factor",
        "f",
        lambda x, y: x * x + y * x,
        "%0 = add(%x, %y) : f32[2,3]; %1 = multiply(%x, %0) : f32[2,3]; return %1",
    ),
    Case("root-of-square", "f", lambda x, y: ops.sqrt(x * x), "%0 = abs(%x) : f32[2,3]; return %0"),
    Case("square-of-root", "f", lambda x, y: ops.sqrt(x) * ops.sqrt(x), "return %x"),
]

KEPT = [
    Kept("double-negative", "something between", "fi", lambda x, y: -ops.relu(-x)),
    Kept("times-one", "ones that repeat", "fi", lambda x, y: x * np.ones((4, 1, 1), x.dtype)),
    Kept("times-one", "the sum with one", "fi", lambda x, y: x + 1),
    Kept(
        "times-minus-one",
        "numbers that repeat",
        "f",
        lambda x, y: x * np.full((4, 1, 1), -1, x.dtype),
    ),
    Kept("divide-by-one", "ones that repeat", "f", lambda x, y: x / np.ones((4, 1, 1), x.dtype)),
    Kept("divide-by-one", "the other operand", "f", lambda x, y: 1 / x),
    Kept("divide-by-minus-one", "the other operand", "f", lambda x, y: -1 / x),
    Kept("minus-zero", "the other zero", "f", lambda x, y: x - -0.0),
    Kept("minus-zero", "the other operand", "fi", lambda x, y: 0 - x),
    Kept("plus-negative-zero", "the other zero", "f", lambda x, y: x + 0.0),
    Kept("plus-negative-zero", "integers have one zero", "i", lambda x, y: x + 0),
    Kept("negative-zero-minus", "the other zero", "f", lambda x, y: 0.0 - x),
    Kept("add-negative", "the negative of the sum", "fi", lambda x, y: -(x + y)),
    Kept("subtract-negative", "the other operand", "fi", lambda x, y: -x - y),
    Kept("negative-times-negative", "one of two", "fi", lambda x, y: -x * y),
    Kept("negative-by-negative", "one of two", "f", lambda x, y: -x / y),
    Kept("negative-times-constant", "no constant", "fi", lambda x, y: -x * y),
    Kept(
        "negative-times-constant",
        "a constant with elements",
        "f",
        lambda x, y: -x * np.arange(3, dtype=x.dtype),
    ),
    Kept("negative-by-constant", "no constant", "f", lambda x, y: -x / y),
    Kept("constant-by-negative", "no constant", "f", lambda x, y: y / -x),
    Kept(
        "negative-of-scaled",
        "use outside of the pattern",
        "fi",
        lambda x, y: also(x * 3, ops.negative),
    ),
    Kept("negative-of-scaled", "no constant", "fi", lambda x, y: -(x * y)),
    Kept("divide-by-power-of-two", "no power of two", "f", lambda x, y: x / 3),
    Kept("divide-by-power-of-two", "zero", "f", lambda x, y: x / 0.0),
    Kept("divide-by-power-of-two", "its reciprocal overflows", "f", lambda x, y: x / 2.0**-140),
    Kept("scale-up-twice", "scaled down, twice rounded", "f", lambda x, y: x * 0.5 * 0.25),
    Kept("scale-up-twice", "no power of two", "f", lambda x, y: x * 3 * 2),
    Kept("scale-up-twice", "a product that overflows", "f", lambda x, y: x * 2.0**100 * 2.0**100),
    Kept("plus-zero", "the other zero", "f", lambda x, y: x + -0.0),
    Kept("plus-zero", "zeros that repeat", "f", lambda x, y: x + np.zeros((4, 1, 1), x.dtype)),
    Kept("plus-zero", "one", "f", lambda x, y: x + 1),
    Kept("times-zero", "the other zero", "f", lambda x, y: x * -0.0),
    Kept("times-zero", "zeros that repeat", "f", lambda x, y: x * np.zeros((4, 1, 1), x.dtype)),
    Kept("zero-minus", "the other operand", "f", lambda x, y: x - 0),
    Kept("minus-itself", "another node", "f", lambda x, y: x - y),
    Kept("minus-itself", "the same once more", "f", lambda x, y: (x + y) - (x + y)),
    Kept("divide-by-itself", "another node", "f", lambda x, y: x / y),
    Kept(
        "negative-of-difference",
        "use outside of the pattern",
        "f",
        lambda x, y: also(x - y, ops.negative),
    ),
    Kept("add-then-subtract", "another node", "f", lambda x, y: (x + y) - x * y),
    Kept("add-then-subtract", "the other way round", "f", lambda x, y: y - (x + y)),
    Kept("subtract-then-add", "another node", "f", lambda x, y: (x - y) + x),
    Kept("multiply-then-divide", "another node", "f", lambda x, y: (x * y) / (x + y)),
    Kept("divide-then-multiply", "another node", "f", lambda x, y: (x / y) * x),
    Kept("divide-by-constant", "zero", "f", lambda x, y: x / 0.0),
    Kept("divide-by-constant", "no constant", "f", lambda x, y: x / y),
    Kept("scale-twice", "no constant", "f", lambda x, y: x * 3 * y),
    Kept("shift-twice", "no constant", "f", lambda x, y: x + 3 + y),
    Kept(
        "divide-twice", "use outside of the pattern", "f", lambda x, y: also(x / y, lambda q: q / x)
    ),
    Kept(
        "divide-by-quotient",
        "use outside of the pattern",
        "f",
        lambda x, y: also(x / y, lambda q: x / q),
    ),
    Kept(
        "factor", "use outside of the pattern", "f", lambda x, y: also(x * y, lambda p: p + x * x)
    ),
    Kept("factor", "nothing in common", "f", lambda x, y: x * x + y * y),
    Kept("root-of-square", "no square", "f", lambda x, y: ops.sqrt(x * y)),
    Kept("square-of-root", "two roots", "f", lambda x, y: ops.sqrt(x) * ops.sqrt(y)),
]

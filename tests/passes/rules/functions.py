"""Cases of the rules about powers and functions of one number."""

import numpy as np

from needle_ir import ops
from tests.passes.rules.case import (
    Case,
    Kept,
    also,
)

EXACT = [
    Case(
        "power-zero",
        "fi",
        lambda x, y: x**0,
        "%0 = constant {value=1.0} : f32[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]; "
        "return %1",
    ),
    Case("power-one", "fi", lambda x, y: ops.power(x, 1), "return %x"),
    Case(
        "power-of-one",
        "f",
        lambda x, y: 1**x,
        "%0 = constant {value=1.0} : f32[]; "
        "%1 = broadcast_to(%0) {shape=[2, 3]} : f32[2,3]; "
        "return %1",
    ),
    Case("square", "fi", lambda x, y: x**2, "%0 = multiply(%x, %x) : f32[2,3]; return %0"),
    Case("abs-negative", "fi", lambda x, y: abs(-x), "%0 = abs(%x) : f32[2,3]; return %0"),
    Case("abs-abs", "fi", lambda x, y: abs(abs(x)), "%0 = abs(%x) : f32[2,3]; return %0"),
    Case(
        "sign-sign", "fi", lambda x, y: ops.sign(ops.sign(x)), "%0 = sign(%x) : f32[2,3]; return %0"
    ),
    Case(
        "relu-relu", "fi", lambda x, y: ops.relu(ops.relu(x)), "%0 = relu(%x) : f32[2,3]; return %0"
    ),
    Case("relu-abs", "f", lambda x, y: ops.relu(abs(x)), "%0 = abs(%x) : f32[2,3]; return %0"),
    Case("maximum-itself", "fib", lambda x, y: ops.maximum(x, x), "return %x"),
    Case("minimum-itself", "fib", lambda x, y: ops.minimum(x, x), "return %x"),
]

FAST_MATH = [
    Case(
        "cube",
        "f",
        lambda x, y: x**3,
        "%0 = multiply(%x, %x) : f32[2,3]; %1 = multiply(%0, %x) : f32[2,3]; return %1",
    ),
    Case("power-half", "f", lambda x, y: x**0.5, "%0 = sqrt(%x) : f32[2,3]; return %0"),
    Case(
        "power-minus-one",
        "f",
        lambda x, y: x ** np.full((1, 1), -1, x.dtype),
        "%0 = constant {value=1.0} : f32[]; %1 = divide(%0, %x) : f32[2,3]; return %1",
    ),
    Case("exp-log", "f", lambda x, y: ops.exp(ops.log(x)), "return %x"),
    Case("log-exp", "f", lambda x, y: ops.log(ops.exp(x)), "return %x"),
    Case(
        "exp-times-exp",
        "f",
        lambda x, y: ops.exp(x) * ops.exp(y),
        "%0 = add(%x, %y) : f32[2,3]; %1 = exp(%0) : f32[2,3]; return %1",
    ),
    Case(
        "exp-by-exp",
        "f",
        lambda x, y: ops.exp(x) / ops.exp(y),
        "%0 = subtract(%x, %y) : f32[2,3]; %1 = exp(%0) : f32[2,3]; return %1",
    ),
]

KEPT = [
    Kept("power-zero", "one", "fi", lambda x, y: x**1),
    Kept(
        "power-zero", "exponents that repeat", "f", lambda x, y: x ** np.zeros((4, 1, 1), x.dtype)
    ),
    Kept("power-one", "two", "fi", lambda x, y: x**2),
    Kept("power-one", "exponents that repeat", "f", lambda x, y: x ** np.ones((4, 1, 1), x.dtype)),
    Kept("power-of-one", "integers, which have no negative powers", "i", lambda x, y: 1**x),
    Kept("power-of-one", "a power of two", "f", lambda x, y: 2**x),
    Kept("square", "a cube", "fi", lambda x, y: x**3),
    Kept("square", "an exponent with axes", "f", lambda x, y: x ** np.full((1, 1), 2, x.dtype)),
    Kept("square", "exponents that repeat", "f", lambda x, y: x ** np.full(3, 2, x.dtype)),
    Kept("abs-negative", "the other way round", "fi", lambda x, y: -abs(x)),
    Kept("abs-negative", "unsigned", "fi", lambda x, y: abs(-ops.cast(x, np.uint8))),
    Kept("abs-abs", "something between", "fi", lambda x, y: abs(abs(x) - y)),
    Kept("sign-sign", "something between", "fi", lambda x, y: ops.sign(-ops.sign(x))),
    Kept("relu-relu", "something between", "fi", lambda x, y: ops.relu(-ops.relu(x))),
    Kept("relu-abs", "the other way round", "fi", lambda x, y: abs(ops.relu(x))),
    Kept("maximum-itself", "another node", "fib", lambda x, y: ops.maximum(x, y)),
    Kept("maximum-itself", "the same once more", "fi", lambda x, y: ops.maximum(x + y, x + y)),
    Kept("minimum-itself", "another node", "fib", lambda x, y: ops.minimum(x, y)),
    Kept("cube", "a square", "f", lambda x, y: x**2),
    Kept("power-half", "another root", "f", lambda x, y: x**0.25),
    Kept("power-minus-one", "another power", "f", lambda x, y: x**-2),
    Kept("exp-log", "another function", "f", lambda x, y: ops.exp(ops.log1p(x))),
    Kept("log-exp", "another function", "f", lambda x, y: ops.log(ops.expm1(x))),
    Kept(
        "exp-times-exp",
        "use outside of the pattern",
        "f",
        lambda x, y: also(ops.exp(x), lambda e: e * ops.exp(y)),
    ),
    Kept(
        "exp-by-exp",
        "use outside of the pattern",
        "f",
        lambda x, y: also(ops.exp(x), lambda e: e / ops.exp(y)),
    ),
]

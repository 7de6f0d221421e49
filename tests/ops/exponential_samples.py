"""Sample inputs of the ops that are right where their definition overflows."""

import math
from typing import Any

import numpy as np

from tests.ops.sample import Array, Sample, arithmetic, each, over_axes, reduction, spread, uniform


def softmax(x: Array, axes: Any) -> Array:
    """exp(x) / sum(exp(x)), the sums spread out by a product with ones."""
    sums = over_axes(lambda row: math.fsum(map(math.exp, row)))(x, axes, True)
    return each(math.exp)(x) / (sums * np.ones_like(x))


def weighted_logsumexp(x: Array, weights: Array, axes: Any, keepdims: bool) -> Array:
    return np.log(np.sum(weights * np.exp(x), axes, keepdims=keepdims))


def weighted_softmax(x: Array, weights: Array, axes: Any) -> Array:
    terms = weights * np.exp(x)
    return terms / np.sum(terms, axes, keepdims=True)


WEIGHTS = np.array([[1.0, 0.5, 2.0], [0.0, 1.5, -0.1]])

EXPONENTIALS = [
    *reduction("logsumexp", lambda x: math.log(math.fsum(map(math.exp, x)))),
    *[
        Sample(
            "weighted_logsumexp",
            operands,
            weighted_logsumexp,
            {"axes": axes, "keepdims": keepdims},
        )
        for operands, axes, keepdims in [
            ((uniform(2, 3), WEIGHTS), 1, False),
            ((uniform(3), WEIGHTS), (-1,), True),
            ((uniform(4, 2, 3), uniform(3, low=0.5)), (0, 2), False),
            ((uniform(2, 1), WEIGHTS + 0.2), None, False),
        ]
    ],
    *[
        Sample("weighted_softmax", operands, weighted_softmax, {"axes": axes})
        for operands, axes in [
            ((uniform(2, 3), WEIGHTS), 1),
            ((uniform(3), WEIGHTS), (-1,)),
            ((uniform(4, 2, 3), uniform(3, low=0.5)), (0, 2)),
        ]
    ],
    *[
        Sample(op, (spread(*shape),), reference, {"axes": axes})
        for op, reference in [
            ("softmax", softmax),
            ("log_softmax", lambda x, axes: each(math.log)(softmax(x, axes))),
        ]
        for shape, axes in [
            ((2, 3), -1),
            ((2, 3), (0,)),
            ((2, 3), None),
            ((2, 3, 2), (2, 0)),
            ((2, 3), ()),
            ((), None),
        ]
    ],
    Sample("softmax", (uniform(2, 0),), lambda x, axes: x, {"axes": 1}),
    Sample("log_softmax", (uniform(0, 2),), lambda x, axes: x, {"axes": 1}),
    Sample("sigmoid", (uniform(2, 3),), each(lambda x: 1 / (1 + math.exp(-x)))),
    Sample("sigmoid", (np.array([-30.0, 30.0]),), each(lambda x: 1 / (1 + math.exp(-x)))),
    Sample("softplus", (uniform(2, 3),), each(lambda x: math.log(1 + math.exp(x)))),
    Sample("softplus", (np.array([-30.0, 30.0]),), each(lambda x: math.log1p(math.exp(x)))),
    Sample(
        "log1mexp", (uniform(2, 3, low=-3, high=-0.2),), each(lambda x: math.log(1 - math.exp(x)))
    ),
    Sample("log1mexp", (np.array([-1e-3]),), each(lambda x: math.log(-math.expm1(x))), step=1e-8),
    *arithmetic("logaddexp", each(lambda a, b: math.log(math.exp(a) + math.exp(b)))),
]

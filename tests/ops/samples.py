"""Sample inputs of every op: the table that the tests of kernels and derivatives run on.

A row holds operands, attributes and the op in plain NumPy or Python, written without our kernels.
Float operands are float64; a test that wants another float dtype converts them. They stay inside
the op's domain and away from its kinks and jumps, so that finite differences hold.
"""

import math
from typing import Any

import numpy as np

from needle_ir import ops
from tests.ops.exponential_samples import EXPONENTIALS
from tests.ops.sample import (
    Array,
    Sample,
    arithmetic,
    binary,
    body,
    comparison,
    converted,
    each,
    extremum,
    few,
    flags,
    reduction,
    spread,
    uniform,
)


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    a = np.einsum("...ij->...ji", a) if transpose_a else a
    b = np.einsum("...ij->...ji", b) if transpose_b else b
    rows = a if a.ndim > 1 else a[None, :]
    columns = b if b.ndim > 1 else b[:, None]
    result = np.einsum("...ij,...jk->...ik", rows, columns)
    result = result if a.ndim > 1 else result[..., 0, :]
    return result if b.ndim > 1 else result[..., 0]


def batch_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    return weight * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + bias


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return weight * normal + bias


def softmax_loss(logits: Array, labels: Array) -> Array:
    chosen = np.exp(logits)[np.arange(len(labels)), labels]
    return np.mean(-np.log(chosen / np.exp(logits).sum(1)))


def adam_update(
    p: Array, u: Array, v: Array, lr: Array, t: Array, beta1: float, beta2: float, eps: float
) -> Array:
    return p - lr * (u / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)


# Rows ---------------------------------------------------------------------------------------------


ELEMENTWISE = [
    Sample("negative", (uniform(2, 3),), lambda x: 0 - x),
    Sample("abs", (spread(2, 3),), each(math.fabs)),
    Sample("sign", (spread(2, 3),), each(lambda x: (x > 0) - (x < 0))),
    Sample("sign", (np.array([-3, 0, 2], np.int8),), each(lambda x: (x > 0) - (x < 0), np.int8)),
    Sample("exp", (uniform(2, 3),), each(math.exp)),
    Sample("log", (uniform(2, 3, low=0.3),), each(math.log)),
    Sample("log1p", (uniform(2, 3, low=-0.6),), each(math.log1p)),
    Sample("log1p", (np.array([1e-20, 1e-9]),), each(math.log1p)),
    Sample("expm1", (uniform(2, 3),), each(math.expm1)),
    Sample("expm1", (np.array([1e-20, 1e-9]),), each(math.expm1)),
    Sample("sqrt", (uniform(2, 3, low=0.3),), each(math.sqrt)),
    Sample("tanh", (uniform(2, 3),), each(math.tanh)),
    Sample("relu", (spread(2, 3),), each(lambda x: x if x > 0 else 0.0)),
    Sample("logical_not", (few(2, 3),), each(lambda x: x == 0, np.bool_)),
    Sample("logical_not", (flags(2, 3),), each(lambda x: not x, np.bool_)),
    *arithmetic("add", lambda a, b: a + b),
    *arithmetic("subtract", lambda a, b: a - b),
    *arithmetic("multiply", lambda a, b: a * b),
    *binary("divide", lambda a, b: a / b, uniform, lambda *s: uniform(*s, low=0.5)),
    *binary("power", each(math.pow), lambda *s: uniform(*s, low=0.4), uniform),
    *extremum("maximum", max),
    *extremum("minimum", min),
    *comparison("equal", lambda a, b: a == b),
    *comparison("not_equal", lambda a, b: a != b),
    *comparison("less", lambda a, b: a < b),
    *comparison("less_equal", lambda a, b: a <= b),
    *comparison("greater", lambda a, b: a > b),
    *comparison("greater_equal", lambda a, b: a >= b),
    *[
        Sample(
            "where",
            (flags(*condition), uniform(*a), uniform(*b, seed=1)),
            each(lambda condition, a, b: a if condition else b),
        )
        for condition, a, b in [
            ((2, 3), (2, 3), (2, 3)),
            ((2, 3), (), (3,)),
            ((3,), (2, 1), ()),
            ((), (2, 3), (1, 3)),
            ((2, 1), (3,), (2, 1)),
        ]
    ],
    # Multiples of a quarter are exact in float32 too, as are steps by a quarter.
    Sample("cast", (few(2, 3) / 4,), converted(float), {"dtype": "f4"}, np.float32, step=0.25),
    Sample("cast", (uniform(2, 3),), converted(math.trunc, np.int32), {"dtype": "int32"}),
    Sample("cast", (few(2, 3),), converted(bool, np.bool_), {"dtype": bool}),
    Sample("cast", (flags(2, 3),), converted(float), {"dtype": np.float64}, np.float64),
]

REDUCTIONS = [
    *reduction("sum", math.fsum),
    Sample(
        "sum",
        (np.full((2, 200), 100, np.int8),),
        lambda x, axes, keepdims: np.array([20000, 20000]),
        {"axes": 1, "keepdims": False},
    ),
    Sample(
        "sum",
        (np.full(3, 255, np.uint8),),
        lambda x, axes, keepdims: np.array([765], np.uint64),
        {"axes": 0, "keepdims": True},
    ),
    Sample(
        "sum", (flags(6),), lambda x, axes, keepdims: np.int64(4), {"axes": None, "keepdims": False}
    ),
    *reduction("max", max),
    *reduction("min", min),
]


SHAPES = [
    Sample(
        "reshape", (uniform(2, 3),), lambda x, shape: x.flatten().reshape(3, 2), {"shape": (3, -1)}
    ),
    Sample("reshape", (uniform(2, 3),), lambda x, shape: x.flatten(), {"shape": (6,)}),
    Sample("reshape", (uniform(1),), lambda x, shape: x[0], {"shape": ()}),
    Sample("transpose", (uniform(2, 3),), lambda x, permutation: x.T, {"permutation": None}),
    Sample(
        "transpose",
        (uniform(2, 3, 4),),
        lambda x, permutation: np.einsum("ijk->kij", x),
        {"permutation": (2, 0, -2)},
    ),
    *[
        Sample(
            "broadcast_to", (uniform(*old),), lambda x, shape: x + np.zeros(shape), {"shape": new}
        )
        for old, new in [
            ((3,), (2, 3)),
            ((2, 1), (2, 3)),
            ((), (2, 3)),
            ((1, 3), (4, 2, 3)),
            ((1,), (0,)),
        ]
    ],
]


def sliced(x: Array, starts: Any, lengths: Any, steps: Any) -> Array:
    axes = zip(starts, lengths, steps, strict=True)
    picks = [[start + i * step for i in range(length)] for start, length, step in axes]
    return x[np.ix_(*picks)]


def unsliced(x: Array, shape: Any, starts: Any, steps: Any) -> Array:
    result = np.zeros(shape)
    for index in np.ndindex(*x.shape):
        at = [a + i * step for a, i, step in zip(starts, index, steps, strict=True)]
        result[tuple(at)] = x[index]
    return result


def scattered(x: Array, *indices: Array, shape: Any) -> Array:
    result = np.zeros(shape)
    rows = np.broadcast_arrays(*indices)
    for place in np.ndindex(*rows[0].shape):
        result[tuple(row[place] for row in rows)] += x[place]
    return result


INDEXING = [
    *[
        Sample("slice", (uniform(5, 4),), sliced, {"starts": a, "lengths": n, "steps": s})
        for a, n, s in [
            ((1, 0), (3, 4), (1, 1)),
            ((4, 3), (5, 2), (-1, -2)),
            ((0, 1), (3, 1), (2, 1)),
            ((2, 0), (1, 2), (-3, 3)),
        ]
    ],
    *[
        Sample("unslice", (uniform(2, 3),), unsliced, {"shape": shape, "starts": a, "steps": s})
        for shape, a, s in [
            ((4, 3), (1, 0), (1, 1)),
            ((5, 6), (4, 5), (-3, -2)),
            ((2, 3), (0, 0), (1, 1)),
        ]
    ],
    *[
        Sample("gather", (uniform(4, 3), *indices), lambda x, *i: x[i])
        for indices in [
            (np.array([2, 0, 2]),),
            (np.array([[1, -1], [3, 3]]),),
            (np.array([2, 0, 2]), np.array([1, 1, 0], np.int8)),
            (np.array([[2], [0]]), np.array([1, 2])),
        ]
    ],
    *[
        Sample("scatter_add", (uniform(*shape), *indices), scattered, {"shape": (4, 3)})
        for shape, indices in [
            ((3, 3), (np.array([2, 0, 2]),)),
            ((2, 2, 3), (np.array([[1, -1], [3, 3]]),)),
            ((3,), (np.array([2, 2, 2]), np.array([1, 1, 0], np.uint8))),
            ((2, 2), (np.array([[2], [0]]), np.array([1, 2]))),
        ]
    ],
    *[
        Sample(
            "concatenate",
            tuple(uniform(*shape, seed=i) for i, shape in enumerate(shapes)),
            lambda *xs, axis: np.swapaxes(
                np.array([row for x in xs for row in np.swapaxes(x, 0, axis)]), 0, axis
            ),
            {"axis": axis},
        )
        for shapes, axis in [
            (((2, 3), (1, 3)), 0),
            (((2, 3), (2, 1), (2, 2)), 1),
            (((2, 3), (2, 1)), -1),
            (((3,),), 0),
        ]
    ],
    *[
        Sample(
            "pack",
            tuple(uniform(*shape, seed=i) for i, shape in enumerate(shapes)),
            lambda *xs: np.array([number for x in xs for number in x.flat]),
        )
        for shapes in [((2, 3), (1,), (2, 1)), ((), (3,)), ((2, 2),)]
    ],
    *[
        Sample(
            "unpack",
            (uniform(*old),),
            lambda x, start, shape: np.reshape([*x.flat][start : start + math.prod(shape)], shape),
            {"start": start, "shape": shape},
        )
        for old, start, shape in [
            ((6,), 1, (2, 2)),
            ((2, 3), 2, (4,)),
            ((2, 3), 5, ()),
            ((2, 3), 0, [3, 2]),
        ]
    ],
]

CONTRACTIONS = [
    *[
        Sample("matmul", (uniform(*a), uniform(*b, seed=1)), matmul)
        for a, b in [
            ((2, 3), (3, 4)),
            ((3,), (3,)),
            ((3,), (3, 2)),
            ((2, 3), (3,)),
            ((4, 2, 3), (4, 3, 2)),
            ((4, 2, 3), (3, 2)),
            ((2, 3), (4, 3, 2)),
            ((2, 1, 2, 3), (3, 3, 2)),
            ((3,), (4, 3, 2)),
            ((4, 2, 3), (3,)),
        ]
    ],
    *[
        Sample("matmul", (uniform(*a), uniform(*b, seed=1)), matmul, flags)
        for a, b, flags in [
            ((3, 2), (3, 4), {"transpose_a": True}),
            ((2, 3), (4, 3), {"transpose_b": True}),
            ((3, 2), (4, 3), {"transpose_a": True, "transpose_b": True}),
            ((3, 2), (3,), {"transpose_a": True}),
            ((3,), (2, 3), {"transpose_b": True}),
            ((4, 3, 2), (4, 3, 2), {"transpose_a": True}),
            ((2, 3), (4, 2, 3), {"transpose_b": True}),
            ((2, 1, 3, 2), (3, 2, 3), {"transpose_a": True, "transpose_b": True}),
        ]
    ],
]

CLUSTERS = [
    Sample(
        "fused",
        (np.arange(6).reshape(2, 3), np.arange(3) - 1),
        lambda x, y, body: x * y + x,
        {"body": body(lambda x, y: x * y + x, (2, 3), (3,))},
    ),
    Sample(
        "fused",
        (np.arange(6).reshape(2, 3), np.arange(3) - 1),
        lambda x, y, body: np.concatenate([x * y, x * y + x], None),
        {"body": body(lambda x, y: (lambda z: ops.pack(z, z + x))(x * y), (2, 3), (3,))},
    ),
]

RANDOM = [
    Sample(
        "random_uniform",
        (),
        lambda **attrs: np.random.RandomState(5).random_sample((2, 3)) * 3 - 1,
        {"shape": (2, 3), "low": -1, "high": 2, "dtype": "float32"},
        np.float32,
        seed=5,
    ),
    Sample(
        "random_normal",
        (),
        lambda **attrs: np.random.RandomState(6).standard_normal((2, 3)) * 0.5 + 4,
        {"shape": [2, 3], "mean": 4, "std": 0.5, "dtype": np.float64},
        np.float64,
        seed=6,
    ),
    Sample(
        "random_bernoulli",
        (),
        lambda **attrs: np.random.RandomState(7).random_sample((3, 4)) <= 0.3,
        {"shape": [3, 4], "p": 0.3},
        np.bool_,
        seed=7,
    ),
]

MARKERS = [
    Sample("grad", (uniform(2), uniform(2, 3)), lambda y, x: x * 0),
    Sample("grad", (uniform(2), uniform(2, 3), uniform(2)), lambda y, x, ct: x * 0),
    Sample("variable", (uniform(2, 3),), lambda x: x),
    Sample("stop_gradient", (uniform(2, 3),), lambda x: x),
    Sample("known", (uniform(2, 3), uniform(2, 3, seed=1)), lambda x, value: value),
]

COMPOSITES = [
    Sample(
        "linear",
        (uniform(4, 3), uniform(3, 2, seed=1), uniform(2)),
        lambda x, weight, bias: np.einsum("...i,ij->...j", x, weight) + bias,
    ),
    Sample(
        "linear",
        (uniform(2, 4, 3), uniform(3, 2, seed=1), uniform(2)),
        lambda x, weight, bias: np.einsum("...i,ij->...j", x, weight) + bias,
    ),
    Sample(
        "batch_norm",
        (uniform(5, 3), uniform(3, low=0.5), uniform(3, seed=1)),
        batch_norm,
        {"eps": 1e-3},
        tolerance=32,
    ),
    Sample(
        "running_mean",
        (uniform(3, seed=1), uniform(5, 3)),
        lambda average, x, beta: beta * average + (1 - beta) * x.mean(0),
        {"beta": 0.75},
    ),
    Sample(
        "running_variance",
        (uniform(3, seed=1), uniform(5, 3)),
        lambda average, x, beta: beta * average + (1 - beta) * x.var(0),
        {"beta": 0.75},
    ),
    Sample(
        "batch_norm_inference",
        (uniform(4, 3), uniform(3), uniform(3, seed=1), uniform(3, seed=2), uniform(3, low=0.5)),
        lambda x, weight, bias, mean, var, eps: weight * (x - mean) / np.sqrt(var + eps) + bias,
        {"eps": 1e-3},
        tolerance=32,
    ),
    Sample(
        "layer_norm",
        (uniform(4, 5), uniform(5, low=0.5), uniform(5, seed=1)),
        layer_norm,
        {"eps": 1e-3},
        tolerance=32,
    ),
    Sample(
        "layer_norm",
        (uniform(2, 3, 5), uniform(5, low=0.5), uniform(5, seed=1)),
        layer_norm,
        {"eps": 1e-3},
        tolerance=32,
    ),
    Sample(
        "dropout", (uniform(4, 3), flags(4, 3)), lambda x, keep, p: x * keep / 0.75, {"p": 0.25}
    ),
    Sample(
        "one_hot",
        (np.array([[2, 0], [1, 3]]),),
        lambda labels, classes: np.eye(4)[labels],
        {"classes": 4},
        np.float32,
    ),
    Sample("softmax_loss", (uniform(3, 4), np.array([3, 0, 2], np.int8)), softmax_loss),
    Sample("gradients", (uniform(2), uniform(2, 3), uniform(4)), lambda y, a, b: np.zeros(10)),
    Sample(
        "moving_average",
        (uniform(4), uniform(4, seed=1)),
        lambda average, x, beta: beta * average + (1 - beta) * x,
        {"beta": 0.9},
    ),
    Sample(
        "moving_square_average",
        (uniform(4), uniform(4, seed=1)),
        lambda average, x, beta: beta * average + (1 - beta) * x**2,
        {"beta": 0.9},
    ),
    Sample(
        "decayed_gradient",
        (uniform(4), uniform(4, seed=1)),
        lambda gradient, parameter, decay: gradient + decay * parameter,
        {"decay": 0.25},
    ),
    Sample(
        "sgd_update",
        (uniform(4), uniform(4, seed=1), np.array(0.1)),
        lambda parameter, direction, lr: parameter - lr * direction,
    ),
    Sample(
        "adam_update",
        (
            uniform(4),
            uniform(4, seed=1),
            uniform(4, low=0.5),
            np.array(0.1),
            np.array(3.0),
        ),
        adam_update,
        {"beta1": 0.75, "beta2": 0.875, "eps": 1e-2},
        tolerance=32,
    ),
]

SAMPLES = [
    *ELEMENTWISE,
    *REDUCTIONS,
    *EXPONENTIALS,
    *SHAPES,
    *INDEXING,
    *CONTRACTIONS,
    *CLUSTERS,
    *RANDOM,
    *MARKERS,
    *COMPOSITES,
]

"""Graphs to draw, made of ops of our own: the pictures know ops by their traits only."""

import numpy as np
from hypothesis import strategies as st

from needle_ir.ir import (
    INPUT,
    NO_ATTRS,
    Attrs,
    Graph,
    Node,
    Op,
    Origin,
    TensorType,
    Trait,
    constant_node,
    input_node,
)

F32 = np.dtype("float32")
TYPE = TensorType((2, 3), F32)
USER = compile("def train_step(): pass", "model.py", "exec").co_consts[0]


def like_first(*types, **attrs):
    return types[0] if types else TYPE


def op(name, *traits, decompose=None):
    return Op(name=name, infer=like_first, traits=frozenset(traits), decompose=decompose)


ADD = op("add", Trait.ELEMENTWISE, Trait.COMMUTATIVE)
SUBTRACT = op("subtract", Trait.ELEMENTWISE)
EXP = op("exp", Trait.ELEMENTWISE)
WHERE = op("where", Trait.ELEMENTWISE)
MATMUL = op("matmul", Trait.CONTRACTION)
SUM = op("sum", Trait.REDUCTION)
TRANSPOSE = op("transpose", Trait.VIEW)
UNIFORM = op("random_uniform", Trait.RANDOM, Trait.EFFECT)
ASSIGN = op("assign", Trait.EFFECT)
STOP = op("stop_gradient", Trait.MARKER)
CONCAT = op("concat")
FUSED = op("fused", Trait.ELEMENTWISE)


def node(op, *inputs, module="", phase="forward", shape=None, **attrs):
    type = like_first(*[x.type for x in inputs]) if shape is None else TensorType(shape, F32)
    return Node(op, inputs, Attrs(attrs) if attrs else NO_ATTRS, type, origin(module, phase))


def origin(module="", phase="forward"):
    return Origin(USER, 0, module, phase)


LINEAR = op("linear", decompose=lambda x, w: node(ADD, node(MATMUL, x, w), scalar(0.5)))
TWICE = op("twice", decompose=lambda x: node(LINEAR, node(LINEAR, x, x), node(TRANSPOSE, x)))
SAME = op("same", decompose=lambda x: x)


def leaf(name=None, *shape):
    return input_node(TensorType(shape, F32), name)


def scalar(value, dtype=F32):
    return constant_node(np.array(value, dtype))


def table(*values):
    return constant_node(np.array(values, F32))


def fused(*inputs, module="", phase="forward"):
    """A node with a nested graph of as many inputs: the sum of all, then exp."""
    inner = [input_node(x.type) for x in inputs]
    result = inner[0]
    for x in inner[1:]:
        result = node(ADD, result, x)
    body = Graph(inner, [node(EXP, result)], name="body")
    return node(FUSED, *inputs, module=module, phase=phase, body=body)


def expression():
    """sum(where(x - y, 0.1, y.T) + table + 1e-5): literals, a view, the order of operands."""
    x, y = leaf("x", 2, 3), leaf("y", 2, 3)
    difference = node(SUBTRACT, x, y)
    chosen = node(WHERE, difference, scalar(0.1), node(TRANSPOSE, y))
    shifted = node(ADD, node(ADD, chosen, table(0, 1, 2)), scalar(1e-5))
    total = node(SUM, shifted, shape=(2,), axes=(1,), keepdims=False)
    return Graph([x, y], [total, shifted], name="expression")


def training_step(layers=2):
    """Layers in a list, forward, backward and update; one learning rate for all."""
    x, lr = leaf("x", 4, 3), leaf("lr")
    inputs, weights, saved = [x, lr], [], []
    draw = node(UNIFORM, shape=(4, 3), module="dropout", low=0.0, high=1.0)
    h = node(ADD, x, draw, module="dropout")
    for i in range(layers):
        weight = leaf(f"layers.{i}.linear.weight", 3, 3)
        inputs.append(weight)
        weights.append(weight)
        saved.append(h)
        h = node(LINEAR, h, weight, module=f"layers.{i}.linear")
        h = node(EXP, h, module=f"layers.{i}")
    loss = node(SUM, h, shape=(), module="loss", axes=(0, 1))
    g = node(SUBTRACT, h, loss, module="loss", phase="backward")
    updates = []
    for i in reversed(range(layers)):
        module = f"layers.{i}.linear"
        flipped = node(TRANSPOSE, saved[i], shape=(3, 4), module=module, phase="backward")
        gradient = node(MATMUL, flipped, g, shape=(3, 3), module=module, phase="backward")
        g = node(MATMUL, g, weights[i], module=module, phase="backward")
        scaled = node(ADD, gradient, lr, module="SGD", phase="update")
        updates.append(node(SUBTRACT, weights[i], scaled, module="SGD", phase="update"))
    g = node(STOP, g, phase="backward")
    return Graph(inputs, [loss, *updates], effects=[draw], unused=[g], name="train_step")


def rewritten():
    """exp(x) + 2 + 3 -> exp(x) + 5, under an exp that a pass had to make anew."""
    x = leaf("x", 2, 3)
    exponential = node(EXP, x)
    inner = node(ADD, exponential, scalar(2.0), module="inner")
    outer = node(ADD, inner, scalar(3.0), module="outer")
    before = Graph([x], [node(EXP, outer, module="last")], name="constants")
    merged = node(ADD, exponential, scalar(5.0), module="merged")
    return before, Graph([x], [node(EXP, merged, module="last")], name="constants")


# Generated graphs: leaves, popular nodes, views, composites, any mixture of modules and phases. ---

OPS = {
    0: [UNIFORM],
    1: [EXP, SUM, STOP, ASSIGN, TRANSPOSE, TRANSPOSE, TWICE, SAME],
    2: [ADD, SUBTRACT, MATMUL, LINEAR],
    3: [WHERE],
    4: [CONCAT],
    5: [CONCAT],
}
MODULES = ["", "a", "a.b", "a.b.0", "a.b.10", "a.b.2", "c", "c.a.b"]
ROWS = st.tuples(
    st.sampled_from(["input", "scalar", "table", "fused", "pack", *["op"] * 6]),
    st.lists(st.integers(0, 30), max_size=5),
    st.integers(0, 7),
    st.sampled_from(MODULES),
    st.sampled_from(["forward", "forward", "backward", "update", "other"]),
    st.booleans(),
)
RECIPES = st.lists(ROWS, min_size=1, max_size=40)


def build(recipe):
    """The graph of a recipe. A longer recipe begins with the same nodes."""
    made, outputs = [input_node(TYPE, "x")], []
    for kind, picks, choice, module, phase, is_output in recipe:
        operands = [made[pick % len(made)] for pick in picks]
        operands = [x if x.shape == TYPE.shape else made[0] for x in operands]
        if kind == "pack":
            many = [x for x in made if x.shape == TYPE.shape][-12:]
            made.append(node(CONCAT, *many, module=module, phase=phase))
            outputs += [node(TRANSPOSE, made[-1], part=part, phase=phase) for part in range(choice)]
        elif kind == "fused" and operands:
            made.append(fused(*operands, module=module, phase=phase))
        elif kind in ("op", "fused"):
            ops = OPS[len(operands)]
            made.append(node(ops[choice % len(ops)], *operands, module=module, phase=phase))
        elif kind == "input":
            name = f"{module or 'x'}.weight{len(made)}"
            made.append(input_node(TYPE, name if choice else None))
        else:
            shape = (2, 3) if kind == "table" else ()
            made.append(constant_node(np.full(shape, choice, F32)))
        if is_output:
            outputs.append(made[-1])
    inputs = [x for x in made if x.op is INPUT]
    effects = [x for x in made if x.op.has(Trait.EFFECT)]
    return Graph(inputs, outputs or made[-1:], effects=effects, unused=made[-3:])


# Large graphs. ----------------------------------------------------------------------------------


def chain(length):
    """The worst for recursion: one path through everything."""
    x = h = input_node(TYPE, "x")
    for i in range(length):
        h = node(EXP, h, module=f"layers.{i // 10}")
    return Graph([x], [h])


def deep_modules(length):
    """The worst for frames: a module inside a module inside a module …"""
    x = h = input_node(TYPE, "x")
    for i in range(length):
        h = node(EXP, h, module=".".join("m" * (i + 1)))
    return Graph([x], [h])


def layers(length):
    """As in training: weights, skip connections, two phases, one scalar that all layers read."""
    rate = input_node(TensorType((), F32), "rate")
    inputs, saved = [rate], []
    h = x = input_node(TYPE, "x")
    for i in range(length // 10):
        w = input_node(TYPE, f"layers.{i}.weight")
        inputs.append(w)
        saved.append((h, w))
        inner = node(ADD, h, w, module=f"layers.{i}.linear")
        for _ in range(3):
            inner = node(EXP, inner, module=f"layers.{i}.relu")
        h = node(ADD, h, inner, module=f"layers.{i}")
    g = node(EXP, h, phase="backward")
    updates = []
    for i, (h, w) in reversed(list(enumerate(saved))):
        ct = node(ADD, g, h, module=f"layers.{i}.linear", phase="backward")
        g = node(ADD, g, ct, module=f"layers.{i}", phase="backward")
        scaled = node(ADD, ct, rate, module="SGD", phase="update")
        updates.append(node(ADD, w, scaled, module="SGD", phase="update"))
    return Graph([x, *inputs], [g, *updates])


def wide(length):
    """The worst for columns: nothing but separate parts, and one node that all of them read."""
    x = input_node(TYPE, "x")
    first = node(EXP, x)
    outputs = [node(ADD, first, node(EXP, x)) for _ in range(length // 2)]
    return Graph([x], outputs)


def dense(length):
    """The worst for frames that read from each other: every module reads from the one before."""
    x = input_node(TYPE, "x")
    row = [node(EXP, x, module="m0") for _ in range(50)]
    for i in range(1, length // 50):
        row = [node(ADD, a, b, module=f"m{i}") for a, b in zip(row, row[1:] + row[:1], strict=True)]
    return Graph([x], row)

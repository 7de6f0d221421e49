"""One training step of a small network, written with ops: forward, gradients, Adam."""

from typing import Any

import numpy as np

from needle_ir import ops
from needle_ir.compiler import read_pipeline
from needle_ir.ir import Graph, Node
from needle_ir.passes import run_pipeline
from tests.passes.graph_text import arg

Array = np.ndarray[Any, Any]


def training_step(
    batch: int = 16, features: int = 24, hidden: int = 20, classes: int = 5
) -> tuple[Graph, list[Array]]:
    """The graph as it is recorded, and arrays for its inputs.

    It returns the loss, the new parameters and the new moments.
    """
    numbers = np.random.default_rng(0)
    x, labels = arg("x", batch, features), arg("labels", batch, dtype=np.int64)
    keep = arg("keep", batch, hidden, dtype=np.bool_)
    lr, t = arg("lr"), arg("t", dtype=np.float64)
    shapes = {
        "w1": (features, hidden),
        "b1": (hidden,),
        "scale": (hidden,),
        "shift": (hidden,),
        "w2": (hidden, hidden),
        "b2": (hidden,),
        "w3": (hidden, classes),
        "b3": (classes,),
    }
    params = {name: arg(name, *shape) for name, shape in shapes.items()}
    moments = {
        name: (arg(f"{name}.u", *p.shape), arg(f"{name}.v", *p.shape)) for name, p in params.items()
    }

    loss = _loss(x, labels, keep, params)
    new: list[Node] = []
    for name, parameter in params.items():
        u, v = moments[name]
        gradient = ops.grad(loss, parameter)
        u = ops.moving_average(u, gradient, beta=0.9)
        v = ops.moving_average(v, gradient * gradient, beta=0.999)
        update = ops.adam_update(parameter, u, v, lr, t, beta1=0.9, beta2=0.999, eps=1e-8)
        new += [update, u, v]

    inputs = [x, labels, keep, lr, t, *params.values()]
    inputs += [moment for pair in moments.values() for moment in pair]
    graph = Graph(inputs, [loss, *new], name="step")
    given: list[Array] = [
        numbers.standard_normal(x.shape),
        numbers.integers(0, classes, batch),
        numbers.random(keep.shape) > 0.25,
        *map(np.array, (0.01, 2.0)),
        *[numbers.standard_normal(p.shape) * 0.3 for p in params.values()],
        *[numbers.random(m.shape) * 0.1 for pair in moments.values() for m in pair],
    ]
    return graph, [a.astype(node.dtype) for a, node in zip(given, inputs, strict=True)]


def _loss(x: Node, labels: Node, keep: Node, p: dict[str, Node]) -> Node:
    h = ops.linear(x, p["w1"], p["b1"])
    h = ops.relu(ops.batch_norm(h, p["scale"], p["shift"], eps=1e-5))
    h = ops.dropout(h, keep, p=0.25)
    h = ops.relu(ops.linear(h, p["w2"], p["b2"]) + h)
    loss: Node = ops.softmax_loss(ops.linear(h, p["w3"], p["b3"]), labels)
    return loss


def optimized(graph: Graph, pipeline: str | None = None) -> Graph:
    """`graph` after a pipeline, the default one where None."""
    return run_pipeline(graph, read_pipeline(pipeline))

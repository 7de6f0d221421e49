"""The programs whose compile time is measured, each in any number of nodes."""

from collections.abc import Callable
from typing import Any

import numpy as np

import needle_ir as ndl
from benchmarks.configurations import Configuration
from benchmarks.needle_step import make_model, make_train_step

# A function to trace, and its arguments.
Program = tuple[Callable[..., Any], tuple[Any, ...]]

# Nodes that one block adds to the recorded training step, and that the rest of it has.
BLOCK_NODES, OTHER_NODES = 41, 31


def chain(nodes: int) -> Program:
    """One node after the other."""
    x, y = np.ones(4, np.float32), np.ones(4, np.float32)

    def record(x: ndl.Tensor, y: ndl.Tensor) -> ndl.Tensor:
        for _ in range(nodes // 2):
            x = ndl.tanh(x + y)
        return x

    return record, (x, y)


def wide(nodes: int) -> Program:
    """Nodes beside each other, and a balanced tree that adds them up."""
    x = np.ones(4, np.float32)

    def record(x: ndl.Tensor) -> ndl.Tensor:
        # A branch is a constant, a product, a tanh and a sum; two constants would be one node.
        level = [ndl.tanh(x * float(i + 2)) for i in range(nodes // 4)]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=False)
            level = [a + b for a, b in pairs] + level[len(level) & ~1 :]
        return level[0]

    return record, (x,)


def training_step(nodes: int) -> Program:
    """The training step of a narrow MLPResNet, as deep as the number of nodes says."""
    blocks = max(1, round((nodes - OTHER_NODES) / BLOCK_NODES))
    configuration = Configuration("narrow", hidden=8, batch=4, blocks=blocks, features=8)
    train_step = make_train_step(configuration, make_model(configuration))
    return train_step, (np.zeros((4, 8), np.float32), np.zeros(4, np.int64))


PROGRAMS: dict[str, Callable[[int], Program]] = {
    "chain": chain,
    "wide": wide,
    "training-step": training_step,
}

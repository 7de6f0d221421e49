"""What every contender starts from: the same initial parameters and the same batches."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.configurations import Configuration

Array = NDArray[Any]
BATCHES = 8


def parameter_shapes(configuration: Configuration) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every parameter, in the order of the model. Biases have one axis."""
    hidden, inner = configuration.hidden, configuration.hidden // 2
    yield from _linear("stem", configuration.features, hidden)
    for i in range(configuration.blocks):
        yield from _linear(f"blocks.{i}.linear1", hidden, inner)
        yield from _norm(f"blocks.{i}.norm1", inner)
        yield from _linear(f"blocks.{i}.linear2", inner, hidden)
        yield from _norm(f"blocks.{i}.norm2", hidden)
    yield from _linear("classifier", hidden, configuration.classes)


def initial_parameters(configuration: Configuration, seed: int = 0) -> dict[str, Array]:
    """float32 arrays by name: Kaiming uniform, and ones for the scales of normalizations.

    Their shifts are not 0: a normalized batch of one row is, and ReLU has its kink there.
    """
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for name, shape in parameter_shapes(configuration):
        if ".norm" in name and name.endswith("weight"):
            arrays[name] = np.ones(shape, np.float32)
        else:
            bound = math.sqrt(6 / shape[0])
            arrays[name] = (generator.random(shape, np.float32) * 2 - 1) * np.float32(bound)
    return arrays


def batches(configuration: Configuration, seed: int = 1) -> list[tuple[Array, Array]]:
    """Images (batch, features) of float32 in [0, 1) and labels (batch,) of int64.

    A step takes the batch of its number modulo their count.
    """
    generator = np.random.default_rng(seed)
    size = (configuration.batch, configuration.features)
    return [
        (
            generator.random(size, np.float32),
            generator.integers(0, configuration.classes, configuration.batch),
        )
        for _ in range(BATCHES)
    ]


def _linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (inputs, outputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)

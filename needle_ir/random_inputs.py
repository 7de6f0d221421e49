"""Inputs for a graph: random ones of its types, or arrays from a file."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from needle_ir.ir import Array, DType, Graph, TensorType, value_names


class Floats(Enum):
    """Which random floats. Roots and logarithms want positive ones, kinks both signs."""

    NORMAL = "normal"
    POSITIVE = "between 0.25 and 1.75"


def random_array(
    type: TensorType, numbers: np.random.Generator, below: int = 2, floats: Floats = Floats.NORMAL
) -> Array:
    """Random numbers of `type`: floats, integers from 0 up to a limit, or booleans."""
    if type.dtype.kind != "f":
        return np.asarray(numbers.integers(0, below, type.shape), type.dtype)
    if floats is Floats.POSITIVE:
        return np.asarray(numbers.uniform(0.25, 1.75, type.shape), type.dtype)
    return np.asarray(numbers.standard_normal(type.shape), type.dtype)


def random_inputs(graph: Graph, seed: int = 0, floats: Floats = Floats.NORMAL) -> list[Array]:
    """Random numbers for every input of `graph`; integers are 0 or 1, as they may be indices."""
    numbers = np.random.default_rng(seed)
    return [random_array(node.type, numbers, floats=floats) for node in graph.inputs]


def checked_inputs(graph: Graph, arrays: Sequence[Any]) -> list[Array]:
    """`arrays` for the inputs of `graph`, in its order, contiguous.

    Raises ValueError, with the input, for a wrong number of arrays, another shape, or a dtype that
    does not convert without loss of kind.
    """
    names = value_names(graph)
    if len(arrays) != len(graph.inputs):
        raise ValueError(f"@{graph.name} has {len(graph.inputs)} inputs, {len(arrays)} were given")
    found: list[Array] = []
    for node, given in zip(graph.inputs, arrays, strict=True):
        array = np.asarray(given)
        if array.shape != node.shape or not _converts(array.dtype, node.dtype):
            described = f"{array.dtype}[{','.join(map(str, array.shape))}]"
            raise ValueError(f"the input {names[node]} is {node.type}, and {described} was given")
        found.append(np.ascontiguousarray(array, node.dtype).reshape(node.shape))
    return found


def load_inputs(graph: Graph, file: Path) -> list[Array]:
    """The inputs of `graph` from an .npz file: by their names, or all unnamed, in order.

    Raises ValueError where they are not those of the graph, OSError where the file can not be read.
    """
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    names = value_names(graph)
    wanted = [names[node].removeprefix("%") for node in graph.inputs]
    if not arrays.keys() >= set(wanted):
        positional = [f"arr_{i}" for i in range(len(wanted))]
        if sorted(arrays) != sorted(positional):
            missing = ", ".join(name for name in wanted if name not in arrays)
            raise ValueError(f"{file} has {', '.join(arrays) or 'no arrays'}; it lacks {missing}")
        wanted = positional
    return checked_inputs(graph, [arrays[name] for name in wanted])


def _converts(given: DType, wanted: DType) -> bool:
    return given == wanted or (given.kind in "biuf" and np.can_cast(given, wanted, "same_kind"))

"""Inputs for graphs: of their types, reproducible, and checked where they are given."""

from pathlib import Path

import numpy as np
import pytest

from needle_ir.ir import Graph
from needle_ir.random_inputs import Floats, checked_inputs, load_inputs, random_inputs
from tests.passes.graph_text import arg

X, N, FLAG = arg("x", 2, 30), arg("n", 50, dtype=np.int64), arg("flag", 50, dtype=np.bool_)
GRAPH = Graph([X, N, FLAG], [X], name="f")


def test_types_and_seeds() -> None:
    first, again, other = random_inputs(GRAPH, 1), random_inputs(GRAPH, 1), random_inputs(GRAPH, 2)
    for array, node in zip(first, GRAPH.inputs, strict=True):
        assert (array.dtype, array.shape) == (node.dtype, node.shape)
    assert [a.tobytes() for a in first] == [a.tobytes() for a in again]
    assert first[0].tobytes() != other[0].tobytes()
    assert {*first[1].tolist()} == {0, 1}
    assert {*first[2].tolist()} == {False, True}
    assert (first[0] < 0).any()
    positive = random_inputs(GRAPH, 1, Floats.POSITIVE)[0]
    assert 0.25 <= positive.min() < positive.max() <= 1.75


def test_dtypes_convert_where_the_kind_stays() -> None:
    x, n, flag = random_inputs(GRAPH)
    found = checked_inputs(GRAPH, [x.astype(np.float64), n.astype(np.int32), flag])
    assert [a.dtype for a in found] == [node.dtype for node in GRAPH.inputs]
    with pytest.raises(ValueError, match=r"the input %n is i64\[50\], and float64\[50\] was given"):
        checked_inputs(GRAPH, [x, n.astype(np.float64), flag])


def test_a_file_by_names_or_in_order(tmp_path: Path) -> None:
    arrays = random_inputs(GRAPH)
    named, ordered = tmp_path / "named.npz", tmp_path / "ordered.npz"
    np.savez(named, flag=arrays[2], n=arrays[1], x=arrays[0], more=np.zeros(1))
    np.savez(ordered, *arrays)
    for file in (named, ordered):
        for a, b in zip(load_inputs(GRAPH, file), arrays, strict=True):
            np.testing.assert_array_equal(a, b)
    np.savez(named, x=arrays[0])
    with pytest.raises(ValueError, match=r"has x; it lacks n, flag"):
        load_inputs(GRAPH, named)

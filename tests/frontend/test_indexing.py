"""tensor[key] means what it means to NumPy, and has derivatives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import needle_ir as ndl
from needle_ir import Tensor

X = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)

KEYS = {
    "int": 1,
    "negative int": -1,
    "numpy int": np.int64(1),
    "two ints": (1, 2),
    "all ints": (1, 2, 3),
    "slice": slice(1, 3),
    "open slice": (slice(None), slice(1, None)),
    "step": (slice(None), slice(None), slice(None, None, 2)),
    "negative step": (slice(None), slice(None, None, -1), slice(3, 0, -2)),
    "empty slice": (slice(None), slice(2, 1)),
    "out-of-range slice": slice(-100, 100),
    "ellipsis": (..., 0),
    "ellipsis in the middle": (0, ..., slice(1, 3)),
    "ellipsis for nothing": (0, 1, 2, ...),
    "new axis": (None, slice(None), None),
    "new axis at the end": (..., None),
    "int and new axis": (0, None, 1),
    "empty tuple": (),
    "list": [1, 0, 1],
    "empty list": [],
    "array": np.array([[0, 1], [1, 1]]),
    "negative array": np.array([-1, 0, -2]),
    "array in the middle": (slice(None), np.array([2, 0])),
    "array last": (..., np.array([3, 0, 3])),
    "two arrays": (np.array([0, 1]), np.array([2, 0])),
    "arrays that broadcast": (np.array([[0], [1]]), np.array([2, 0, 1])),
    "arrays around a slice": (np.array([0, 1, 1]), slice(None), np.array([3, 0, 2])),
    "int and array around a slice": (0, slice(None), np.array([3, 0])),
    "slice, int, array": (slice(None), 1, np.array([3, 0])),
    "arrays and a new axis": (np.array([0, 1]), None, np.array([2, 0])),
    "slice and array and new axis": (slice(0, 1), np.array([2, 0]), None),
    "mask": X > 7,
    "mask of one axis": (slice(None), np.array([True, False, True])),
    "mask of two axes": np.arange(6).reshape(2, 3) % 2 == 0,
    "mask and int": (np.array([False, True]), 2),
    "empty mask": X > 100,
    "uint8 array": np.array([1, 0], np.uint8),
}


@pytest.mark.parametrize("name", KEYS)
def test_as_numpy(name):
    result = Tensor(X)[KEYS[name]]
    assert result.shape == X[KEYS[name]].shape
    np.testing.assert_array_equal(result.numpy(), X[KEYS[name]])


@pytest.mark.parametrize("name", KEYS)
def test_the_gradient_lands_where_the_values_came_from(name):
    x = Tensor(X)
    part = x[KEYS[name]]
    weights = np.random.default_rng(0).normal(size=part.shape).astype(np.float32)
    (part * weights).sum().backward()
    expected = np.zeros_like(X)
    np.add.at(expected, KEYS[name], weights)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_any_key(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))
    key = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True)
        | hnp.integer_array_indices(shape)
        | hnp.arrays(np.bool_, shape)
    )
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(Tensor(x)[key].numpy(), x[key])


def test_tensors_as_indices():
    rows = Tensor(np.array([1, 0, 1]))
    np.testing.assert_array_equal(Tensor(X)[rows].numpy(), X[[1, 0, 1]])
    mask = Tensor(X) > 7
    np.testing.assert_array_equal(Tensor(X)[mask].numpy(), X[X > 7])


def test_an_index_computed_in_a_traced_function_is_part_of_the_graph():
    pick = ndl.jit(lambda x, i: x[i + 1])
    for i in ([0, 0], [1, 0]):
        result = pick(Tensor(np.arange(3.0)), Tensor(np.array(i)))
        np.testing.assert_array_equal(result.numpy(), np.arange(3.0)[np.array(i) + 1])
    assert len(pick.retraces) == 1


def test_iteration_ends():
    rows = list(Tensor(X))
    assert len(rows) == 2
    np.testing.assert_array_equal(rows[1].numpy(), X[1])


def test_second_derivative_through_an_index():
    def f(x):
        return (x[np.array([0, 0, 2])] ** 3).sum()

    second = ndl.grad(lambda x: ndl.grad(f)(x).sum())(np.array([2.0, 3.0, 4.0]))
    np.testing.assert_allclose(second.numpy(), [24.0, 0.0, 24.0])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (2, "index 2 is out of range for axis 0 of length 2"),
        ((0, -4), "index -4 is out of range for axis 1 of length 3"),
        ((0, 0, 0, 0), "4 indices for a tensor with 3 axes"),
        ((..., ...), "one ellipsis"),
        (1.5, "type float"),
        ("a", "type str"),
        (np.array([0.5]), "dtype float64"),
        (np.array([0, 2]), r"indices 0 … 2 are out of range for axis 0 of length 2"),
        (np.array([True, False, True]), r"a mask of shape \(3,\)"),
        (True, "use a boolean array"),
    ],
)
def test_bad_keys(key, message):
    with pytest.raises(IndexError, match=message):
        Tensor(X)[key]


def test_an_index_out_of_range_that_is_known_late_is_refused_when_it_runs():
    late = Tensor(X)[Tensor(np.array([1])) + 1]
    with pytest.raises(IndexError):
        late.numpy()


def test_assignment_is_refused():
    x = Tensor(X)
    with pytest.raises(TypeError):
        x[0] = 1.0

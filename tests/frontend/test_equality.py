"""`==` and `!=`: elementwise as NumPy's, with a truth value for Python's containers."""

# ruff: noqa: SIM201, SIM202 - each operator is tested by itself

import numpy as np
import pytest

import needle_ir as ndl

X = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
Y = np.array([[1.0, 0.0], [3.0, 4.0]], np.float32)


@pytest.mark.parametrize("other", [Y, ndl.Tensor(Y), Y.tolist(), 3, 3.0, np.float32(3)])
def test_element_by_element(other):
    x = ndl.Tensor(X)
    expected = np.equal(X, np.asarray(other))
    np.testing.assert_array_equal((x == other).numpy(), expected)
    np.testing.assert_array_equal((x != other).numpy(), ~expected)


def test_the_truth_of_a_comparison_is_that_of_the_whole():
    x, same, other = ndl.Tensor(X), ndl.Tensor(X), ndl.Tensor(Y)
    assert x == same
    assert not x != same
    assert not x == other
    assert x != other


def test_containers_compare_tensors():
    x, y = ndl.Tensor(X), ndl.Tensor(Y)
    assert (x, y) == (ndl.Tensor(X), ndl.Tensor(Y))
    assert (x, y) != (y, x)
    assert ndl.Tensor(X) in [y, x]
    assert [y, x].index(ndl.Tensor(X)) == 1


def test_batches_of_a_shuffled_and_of_an_ordered_loader_differ():
    dataset = ndl.data.NDArrayDataset(np.arange(40.0), np.arange(40))
    np.random.seed(0)
    loaders = [ndl.data.DataLoader(dataset, 10, shuffle=shuffle) for shuffle in (True, False)]
    assert any(i != j for i, j in zip(*loaders, strict=True))
    assert not any(i != j for i, j in zip(loaders[1], loaders[1], strict=True))


def test_what_is_made_of_a_comparison_has_no_truth_as_a_whole():
    x = ndl.Tensor(X)
    for tensor in (x, x > 0, (x == x) * (x == x)):
        with pytest.raises(ValueError, match="4 elements"):
            bool(tensor)


@pytest.mark.parametrize("other", [None, "x", object()])
def test_a_tensor_is_none_of_what_is_no_number(other):
    x = ndl.Tensor(X)
    assert not x == other
    assert x != other


def test_nan_equals_nothing():
    x = ndl.Tensor([np.nan])
    assert not x == x.detach()
    assert x != x.detach()


def test_a_branch_on_a_comparison_is_refused_in_a_traced_function():
    def branch(x):
        return x + 1 if x == 0 else x

    with pytest.raises(ndl.TracedValueError):
        ndl.jit(branch)(ndl.Tensor(X))

"""Attributes: equal where every bit is, and only there."""

import copy
import gc
import pickle
import struct
import weakref
from typing import Any

import numpy as np
import pytest

from needle_ir.ir import NO_ATTRS, Attrs


def nan_with_payload(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", 0x7FF8 << 48 | bits))[0])


EQUAL = [
    (1, 1),
    (0.1 + 0.2, 0.30000000000000004),
    (float("nan"), float("nan")),
    (float("inf"), float("inf")),
    ((1, (2.0, "a")), (1, (2.0, "a"))),
    ([1, 2], (1, 2)),
    (None, None),
    (np.dtype("float32"), np.dtype("<f4")),
    (np.array([1.0, -0.0]), np.array([1.0, -0.0])),
    (np.array([np.nan]), np.array([np.nan])),
    (np.arange(6).reshape(2, 3).T, np.ascontiguousarray(np.arange(6).reshape(2, 3).T)),
    (np.float32(0.5), np.float32(0.5)),
    (np.float64("nan"), np.float64("nan")),
]

DIFFERENT = [
    (0.0, -0.0),
    (True, 1),
    (1, 1.0),
    (False, 0),
    (False, 0.0),
    (1.0, np.nextafter(1.0, 2.0).item()),
    ("1", 1),
    (None, 0),
    (None, False),
    ((0.0,), (-0.0,)),
    ((1, True), (1, 1)),
    (((1,), 2), (1, 2)),
    ((1, 2), (2, 1)),
    ((1,), 1),
    (np.dtype("float32"), np.dtype("float64")),
    (np.array(0.0), np.array(-0.0)),
    (np.array([1], np.int32), np.array([1], np.int64)),
    (np.array([True]), np.array([1], np.int8)),
    (np.array([1, 2]), np.array([[1, 2]])),
    (np.zeros(0), np.zeros((0, 2))),
    (np.float64(0.0), np.float64(-0.0)),
    (np.float32(1), np.float64(1)),
    (np.array([float("nan")]), np.array([nan_with_payload(1)])),
    (float("inf"), float("-inf")),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_the_same_bits_are_equal(a: Any, b: Any) -> None:
    assert Attrs({"v": a}) == Attrs({"v": b})
    assert hash(Attrs({"v": a})) == hash(Attrs({"v": b}))
    assert len({Attrs({"v": a}): 0, Attrs({"v": b}): 1}) == 1


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_other_bits_are_different(a: Any, b: Any) -> None:
    assert Attrs({"v": a}) != Attrs({"v": b})
    assert len({Attrs({"v": a}): 0, Attrs({"v": b}): 1}) == 2


def test_names_count_and_their_order_does_not() -> None:
    assert Attrs({"a": 1, "b": 2}) == Attrs({"b": 2, "a": 1})
    assert Attrs({"a": 1}) != Attrs({"b": 1})
    assert Attrs({"a": 1}) != Attrs({"a": 1, "b": 2})
    assert Attrs({"a": 1}) != {"a": 1}


def test_attributes_come_in_sorted_order() -> None:
    attrs = Attrs({"keepdims": True, "axes": (1,), "beta": 0.5})
    assert list(attrs) == ["axes", "beta", "keepdims"]
    assert dict(attrs) == {"axes": (1,), "beta": 0.5, "keepdims": True}
    assert len(attrs) == 3
    assert attrs["beta"] == 0.5
    assert repr(attrs) == "Attrs({'axes': (1,), 'beta': 0.5, 'keepdims': True})"


def test_attributes_do_not_change() -> None:
    given = {"a": 1}
    attrs = Attrs(given)
    given["a"] = 2
    assert attrs["a"] == 1
    with pytest.raises(TypeError, match="item assignment"):
        attrs["a"] = 3  # type: ignore[index]


def test_a_list_becomes_a_tuple() -> None:
    assert Attrs({"axes": [0, 1]})["axes"] == (0, 1)


def test_no_attributes() -> None:
    assert Attrs({}) == NO_ATTRS
    assert not NO_ATTRS


def test_there_is_one_object_for_equal_attributes() -> None:
    one = Attrs({"axes": (0, 1), "keepdims": False})
    assert Attrs({"keepdims": False, "axes": [0, 1]}) is one
    assert copy.deepcopy(one) is one
    assert pickle.loads(pickle.dumps(one)) is one


def test_attributes_that_nobody_holds_are_not_kept() -> None:
    gone = weakref.ref(Attrs({"beta": 0.123456789}))
    gc.collect()
    assert gone() is None


def test_equal_arrays_stay_where_they_are() -> None:
    """An array, or a graph, is the one that was given: not an equal one from elsewhere."""
    arrays = [np.arange(3), np.arange(3)]
    attrs = [Attrs({"value": array}) for array in arrays]
    assert attrs[0] == attrs[1]
    assert [x["value"] is array for x, array in zip(attrs, arrays, strict=True)] == [True, True]

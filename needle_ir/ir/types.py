"""Tensor types: a shape and a dtype."""

from functools import lru_cache
from math import prod
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from needle_ir.ir.errors import DTypeError

DType = np.dtype[Any]

SHORT_NAMES = {
    "bool": "bool",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "float16": "f16",
    "float32": "f32",
    "float64": "f64",
}


_DTYPES = {short: np.dtype(name) for name, short in SHORT_NAMES.items()}


class TensorType:
    """The static type of a node: `shape` as a tuple of ints, `dtype` as a NumPy dtype, and with
    them `size`, the number of elements.

    There is one object for each type, so that types are compared and hashed by identity: every
    look-up while recording does it.
    """

    __slots__ = ("__weakref__", "dtype", "shape", "size")

    shape: tuple[int, ...]
    dtype: DType
    size: int

    def __new__(cls, shape: tuple[int, ...], dtype: DType) -> "TensorType":
        """The type of this shape and dtype."""
        return _the_type(shape, dtype)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a type is frozen: {name} can not be set")

    def __reduce__(self) -> tuple[type["TensorType"], tuple[tuple[int, ...], DType]]:
        return TensorType, (self.shape, self.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of a contiguous array of this type."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{short_name(self.dtype)}[{','.join(map(str, self.shape))}]"

    def __repr__(self) -> str:
        return f"TensorType({self.shape}, {self.dtype})"


_types: WeakValueDictionary[tuple[tuple[int, ...], DType], TensorType] = WeakValueDictionary()


@lru_cache(maxsize=4096)
def _the_type(shape: tuple[int, ...], dtype: DType) -> TensorType:
    new = object.__new__(TensorType)
    object.__setattr__(new, "shape", tuple(shape))
    object.__setattr__(new, "dtype", np.dtype(dtype))
    object.__setattr__(new, "size", prod(new.shape))
    # There may be one that is no longer among the latest here, or of another thread.
    return _types.setdefault((new.shape, new.dtype), new)


@lru_cache(maxsize=64)
def short_name(dtype: DType) -> str:
    """The name of a dtype in the text form: `f32` for float32."""
    return SHORT_NAMES[dtype.name]


def named_dtype(short: str) -> DType:
    """The dtype that the text form calls `short`. Raises DTypeError where there is none."""
    if short not in _DTYPES:
        raise DTypeError(f"there is no dtype {short}; the dtypes are {', '.join(_DTYPES)}")
    return _DTYPES[short]


@lru_cache(maxsize=256)
def as_dtype(dtype: Any) -> DType:
    """The NumPy dtype that `dtype` means.

    Raises DTypeError for anything but bool, the integers and float16, float32, float64.
    """
    try:
        result = np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"{dtype!r} is not a dtype") from None
    if result.name not in SHORT_NAMES:
        supported = ", ".join(SHORT_NAMES)
        raise DTypeError(f"dtype {result.name} is not supported; the dtypes are {supported}")
    return result.newbyteorder("=")


def is_floating(dtype: DType) -> bool:
    """Whether `dtype` is a floating-point dtype, and so has derivatives."""
    return dtype.kind == "f"

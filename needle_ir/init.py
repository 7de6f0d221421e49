"""Initializers: constants and random draws.

Draws come from NumPy's global generator in program order, so `numpy.random.seed` makes a run
repeatable; after `manual_seed` they come from a faster one. Inside a traced function a draw is part
of the graph, and drawn anew at every call.
"""

import math
from typing import Any

import numpy as np

from needle_ir import ops
from needle_ir.arguments import (
    check_array,
    fraction,
    lengths,
    non_negative,
    real_number,
    whole_number,
)
from needle_ir.device import Device, check_device
from needle_ir.ir import Array, as_dtype, is_floating
from needle_ir.recording import thread
from needle_ir.runtime import draws
from needle_ir.tensor import Tensor


def manual_seed(seed: int | None) -> None:
    """Draw from a generator of the library's own from now on, seeded with `seed`.

    Initializers, dropout and the shuffles of `DataLoader` draw from it. It is faster than NumPy's
    global generator, makes float32 numbers at once, and gives other numbers. With None, draws come
    from NumPy's global generator again. Raises ValueError for a negative seed, TypeError for one
    that is no integer.
    """
    draws.seed(None if seed is None else whole_number("seed", seed))


def rand(
    *shape: int,
    low: float = 0.0,
    high: float = 1.0,
    device: Device | None = None,
    dtype: Any = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of `shape`, uniform in [low, high).

    This and every other initializer here raises TypeError where a length is no integer, or a
    number no number; ShapeError for a length below 0; DTypeError for what is no dtype.
    """
    check_device(device)
    shape = lengths("rand", shape)
    real_number("low", low)
    real_number("high", high)
    if thread.state.trace is not None:
        return _drawn(ops.random_uniform(shape, low, high, dtype), requires_grad)
    drawn = _empty(shape, dtype)
    draws.uniform(drawn, low, high)
    return _made(drawn, dtype, requires_grad)


def randn(
    *shape: int,
    mean: float = 0.0,
    std: float = 1.0,
    device: Device | None = None,
    dtype: Any = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of `shape`, normal with this mean and standard deviation.

    Raises ValueError for a negative `std`.
    """
    check_device(device)
    shape = lengths("randn", shape)
    real_number("mean", mean)
    non_negative("std", std)
    if thread.state.trace is not None:
        return _drawn(ops.random_normal(shape, mean, std, dtype), requires_grad)
    drawn = _empty(shape, dtype)
    draws.normal(drawn, mean, std)
    return _made(drawn, dtype, requires_grad)


def randb(
    *shape: int,
    p: float = 0.5,
    device: Device | None = None,
    dtype: Any = "bool",
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of `shape`, true with probability `p`; after `manual_seed` p counts to 2**-32.

    Raises ValueError for a p outside [0, 1].
    """
    check_device(device)
    shape = lengths("randb", shape)
    fraction("p", p, or_one=True)
    drawn = bernoulli(shape, float(p))
    if as_dtype(dtype) == np.bool_:
        return drawn
    if thread.state.trace is not None:
        return _with_grad(drawn.astype(dtype), requires_grad)
    return _made(drawn.cached_data, dtype, requires_grad)


def bernoulli(shape: tuple[int, ...], p: float) -> Tensor:
    """`randb` for arguments that were checked, such as those of a mask of dropout."""
    if thread.state.trace is not None:
        return _drawn(ops.random_bernoulli(shape, p), False)
    drawn = np.empty(shape, np.bool_)
    draws.bernoulli(drawn, p)
    return Tensor._from_array(drawn)


def constant(
    *shape: int,
    c: float = 1.0,
    device: Device | None = None,
    dtype: Any = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of `shape` full of `c`."""
    check_device(device)
    return _made(np.full(lengths("constant", shape), real_number("c", c)), dtype, requires_grad)


def ones(
    *shape: int, device: Device | None = None, dtype: Any = "float32", requires_grad: bool = False
) -> Tensor:
    """A tensor of `shape` full of ones."""
    return constant(*shape, c=1.0, device=device, dtype=dtype, requires_grad=requires_grad)


def zeros(
    *shape: int, device: Device | None = None, dtype: Any = "float32", requires_grad: bool = False
) -> Tensor:
    """A tensor of `shape` full of zeros."""
    return constant(*shape, c=0.0, device=device, dtype=dtype, requires_grad=requires_grad)


def ones_like(x: Tensor, *, device: Device | None = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape and dtype of `x`."""
    check_array("ones_like", x)
    return ones(*x.shape, device=device, dtype=x.dtype, requires_grad=requires_grad)


def zeros_like(x: Tensor, *, device: Device | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape and dtype of `x`."""
    check_array("zeros_like", x)
    return zeros(*x.shape, device=device, dtype=x.dtype, requires_grad=requires_grad)


def one_hot(
    n: int,
    i: Tensor,
    device: Device | None = None,
    dtype: Any = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Labels `i` of shape (…) as rows (…, n) with a 1 at the label.

    Raises ValueError for a label outside of 0 … n - 1 whose value is known.
    """
    check_device(device)
    check_labels(i, whole_number("n", n, at_least=1))
    hot: Tensor = ops.one_hot(i, classes=n)
    return _with_grad(hot.astype(dtype), requires_grad)


def check_labels(labels: Tensor | Array, classes: int) -> None:
    """Raise ValueError where a label whose value is known is not one of 0 … classes - 1."""
    values = labels.node.value if isinstance(labels, Tensor) else np.asarray(labels)
    if values is None or not values.size:
        return
    if values.dtype.kind not in "biuf":
        raise TypeError(f"labels are numbers, the positions of the classes, not {labels!r:.60}")
    least, most = np.minimum.reduce(values, None), np.maximum.reduce(values, None)
    if not 0 <= least <= most < classes:
        raise ValueError(f"labels lie in {least} … {most}, but there are {classes} classes")
    if is_floating(values.dtype) and (values % 1).any():
        raise ValueError("labels are whole numbers, the positions of the classes")


def xavier_uniform(fan_in: int, fan_out: int, gain: float = 1.0, **kwargs: Any) -> Tensor:
    """(fan_in, fan_out), uniform in ±gain·√(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    _check_fans(fan_in, fan_out)
    bound = real_number("gain", gain) * math.sqrt(6 / (fan_in + fan_out))
    return rand(fan_in, fan_out, low=-bound, high=bound, **kwargs)


def xavier_normal(fan_in: int, fan_out: int, gain: float = 1.0, **kwargs: Any) -> Tensor:
    """(fan_in, fan_out), normal, std gain·√(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    _check_fans(fan_in, fan_out)
    std = real_number("gain", gain) * math.sqrt(2 / (fan_in + fan_out))
    return randn(fan_in, fan_out, std=std, **kwargs)


def kaiming_uniform(fan_in: int, fan_out: int, nonlinearity: str = "relu", **kwargs: Any) -> Tensor:
    """(fan_in, fan_out), uniform in ±√2·√(3 / fan_in) (He et al. 2015)."""
    _check_fans(fan_in, fan_out)
    bound = _gain(nonlinearity) * math.sqrt(3 / fan_in)
    return rand(fan_in, fan_out, low=-bound, high=bound, **kwargs)


def kaiming_normal(fan_in: int, fan_out: int, nonlinearity: str = "relu", **kwargs: Any) -> Tensor:
    """(fan_in, fan_out), normal with std √2 / √fan_in (He et al. 2015)."""
    _check_fans(fan_in, fan_out)
    std = _gain(nonlinearity) / math.sqrt(fan_in)
    return randn(fan_in, fan_out, std=std, **kwargs)


def _check_fans(fan_in: int, fan_out: int) -> None:
    whole_number("fan_in", fan_in, at_least=1)
    whole_number("fan_out", fan_out, at_least=1)


def _gain(nonlinearity: str) -> float:
    if nonlinearity != "relu":
        raise ValueError(f"nonlinearity {nonlinearity!r}: the gain is known for 'relu' only")
    return math.sqrt(2)


def _empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array to draw into. NumPy's own draws are float64 and converted afterwards."""
    kind = as_dtype(dtype)
    return np.empty(shape, kind if draws.own and is_floating(kind) else np.float64)


def _made(array: Array, dtype: Any, requires_grad: bool) -> Tensor:
    """The tensor of a new array."""
    # Where the axes are () NumPy makes a number of some arrays.
    own = np.asarray(array).astype(as_dtype(dtype), copy=False)
    return Tensor._from_array(own, requires_grad and is_floating(own.dtype))


def _drawn(node: Any, requires_grad: bool) -> Tensor:
    assert thread.state.trace is not None
    thread.state.trace.effects.append(node)
    return _with_grad(Tensor._from_node(node, False, is_leaf=True), requires_grad)


def _with_grad(tensor: Tensor, requires_grad: bool) -> Tensor:
    if not requires_grad:
        return tensor
    leaf = tensor.detach()
    leaf.requires_grad = is_floating(leaf.dtype)
    return leaf

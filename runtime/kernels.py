"""The NumPy kernels: one row an op.

A row makes the kernel of one node: a callable that takes the operands' arrays and then the
result's, which it fills. Attributes are prepared here, once, not in every call. The kernel of an
elementwise op may be given one of its operands as its result. A row that is `Inline` gives the
lines of that callable, which the executor writes into its source instead of calling it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from operator import methodcaller
from typing import Any

import numpy as np

from needle_ir.ir import CONSTANT, Array, DType, Node, Trait
from needle_ir.runtime import exponentials
from needle_ir.runtime.draws import draws
from needle_ir.runtime.failures import told
from needle_ir.runtime.inline import Inline, Kernel, Lines
from needle_ir.runtime.pool import pool
from needle_ir.runtime.products import make_matmul
from needle_ir.runtime.rows import are_short_rows, is_blas_sum
from needle_ir.runtime.tiles import TileMemory, result_arrays, scratch, temporaries, tiling

Ints = tuple[int, ...]
KernelTable = dict[str, Callable[[Node], Kernel]]


def _ufunc(function: Callable[..., Any]) -> Inline:
    name = function.__name__
    return Inline(lambda node: Lines(_call(name, len(node.inputs)), {name: function}))


def _call(name: str, operands: int) -> str:
    arguments = ", ".join([*[f"{{x{i}}}" for i in range(operands)], "{out}"])
    return f"{{{name}}}({arguments})"


# NumPy 2.4 deprecates the third positional argument for maximum and minimum alone.
_MAXIMUM = Inline(lambda node: Lines("{maximum}({x0}, {x1}, out={out})", {"maximum": np.maximum}))
_MINIMUM = Inline(lambda node: Lines("{minimum}({x0}, {x1}, out={out})", {"minimum": np.minimum}))


def _cast(node: Node) -> Lines:
    return Lines("{out}[...] = {x0}")


def _relu(node: Node) -> Lines:
    # Beside a number NumPy's maximum takes 2.7 times as long as beside an array.
    bound = {"maximum": np.maximum, "zeros_like": _zeros_like}
    return Lines("{maximum}({x0}, {zeros_like}({x0}), out={out})", bound)


def _zeros_like(x: Array) -> Array:
    return _zeros(x.shape, x.dtype)


@lru_cache(maxsize=64)
def _zeros(shape: Ints, dtype: DType) -> Array:
    """Zeros that nobody writes to: the system lends one page of them for all of the array."""
    zeros: Array = np.zeros(shape, dtype)
    zeros.flags.writeable = False
    return zeros


def _where(node: Node) -> Lines:
    # As integers, the bits of a number times 1 are the number and times 0 are zero, for NaN and
    # infinities too. This takes an eighth of the time of copyto(..., where=condition).
    if _is_zero(node.inputs[2]):
        return Lines("{multiply}({bits1}, {x0}, {bits_out})", {"multiply": np.multiply})
    return Lines(
        "otherwise = {multiply}({bits2}, {logical_not}({x0}))\n"
        "{multiply}({bits1}, {x0}, {bits_out})\n"
        "{bitwise_or}({bits_out}, otherwise, {bits_out})",
        {
            "multiply": np.multiply,
            "logical_not": np.logical_not,
            "bitwise_or": np.bitwise_or,
        },
    )


def _is_zero(node: Node) -> bool:
    return node.op is CONSTANT and not any(node.attrs["value"].tobytes())


def _reduction(ufunc: np.ufunc) -> Callable[[Node], Lines]:
    reduce: Callable[..., Any] = ufunc.reduce

    def lines(node: Node) -> Lines:
        axes, keepdims = node.attrs["axes"], node.attrs["keepdims"]
        axis = axes[0] if len(axes) == 1 else axes
        text = f"{{reduce}}({{x0}}, {axis}, {{dtype}}, {{out}}, {keepdims})"
        return Lines(text, {"reduce": reduce, "dtype": node.dtype})

    return lines


_add_reduce = _reduction(np.add)


def _sum(node: Node) -> Lines:
    """The sum over one axis of a matrix is a product with ones."""
    (x,) = node.inputs
    axes, keepdims = node.attrs["axes"], node.attrs["keepdims"]
    if not is_blas_sum(x.type, axes) or x.op.has(Trait.VIEW):
        return _add_reduce(node)
    length = x.shape[axes[0]]
    by_row = axes == (1,)
    shape = ((length, 1) if by_row else (1, length)) if keepdims else length
    text = "{matmul}({x0}, {ones}, {out})" if by_row else "{matmul}({ones}, {x0}, {out})"
    return Lines(text, {"matmul": np.matmul, "ones": _ones(shape, x.dtype)})


@lru_cache(maxsize=64)
def _ones(shape: int | Ints, dtype: DType) -> Array:
    return np.ones(shape, dtype)


def _extremum(ufunc: np.ufunc) -> Callable[[Node], Lines]:
    plain = _reduction(ufunc)

    def lines(node: Node) -> Lines:
        if not are_short_rows(node.inputs[0].shape, node.attrs["axes"]):
            return plain(node)
        bound = {"reduce": ufunc.reduce, "dtype": node.dtype}
        text = "{reduce}({x0}.T.copy(), 0, {dtype}, {out}.reshape(-1))"
        return Lines(text, bound)

    return lines


def _view(make_view: Callable[[Node], Callable[[Array], Array]]) -> Callable[[Node], Kernel]:
    def make(node: Node) -> Kernel:
        look = make_view(node)

        def copy(x: Array, out: Array) -> None:
            np.copyto(out, look(x))

        return copy

    return make


def _random_uniform(node: Node) -> Kernel:
    return partial(draws.uniform, low=node.attrs["low"], high=node.attrs["high"])


def _random_normal(node: Node) -> Kernel:
    return partial(draws.normal, mean=node.attrs["mean"], std=node.attrs["std"])


def _random_bernoulli(node: Node) -> Kernel:
    return partial(draws.bernoulli, p=node.attrs["p"])


def _slices(starts: Ints, lengths: Ints, steps: Ints) -> tuple[slice, ...]:
    """Python's slices for `lengths` elements from `starts` on."""
    parts = []
    for start, length, step in zip(starts, lengths, steps, strict=True):
        stop = start + length * step
        # To Python a stop of -1 is the last element: backwards to the first one is None.
        parts.append(slice(start, None if stop < 0 else stop, step) if length else slice(0))
    return tuple(parts)


def _slice(node: Node) -> Callable[[Array], Array]:
    parts = _slices(node.attrs["starts"], node.attrs["lengths"], node.attrs["steps"])
    # With the ellipsis, an array without axes gives a view too, not a scalar of its own.
    key: tuple[Any, ...] = (*parts, ...)
    return lambda x: x[key]


def _unslice(node: Node) -> Kernel:
    key = _slices(node.attrs["starts"], node.inputs[0].shape, node.attrs["steps"])

    def unslice(x: Array, out: Array) -> None:
        out.fill(0)
        out[key] = x

    return unslice


def _gather(node: Node) -> Kernel:
    def gather(x: Array, *indices_and_out: Array) -> None:
        *indices, out = indices_and_out
        np.copyto(out, x[tuple(indices)])

    return gather


def _scatter_add(node: Node) -> Kernel:
    def scatter_add(x: Array, *indices_and_out: Array) -> None:
        *indices, out = indices_and_out
        out.fill(0)
        np.add.at(out, tuple(indices), x)

    return scatter_add


def _concatenate(node: Node) -> Kernel:
    axis = node.attrs["axis"]

    def concatenate(*xs_and_out: Array) -> None:
        *xs, out = xs_and_out
        np.concatenate(xs, axis, out)

    return concatenate


def _pack(node: Node) -> Kernel:
    def pack(*xs_and_out: Array) -> None:
        *xs, out = xs_and_out
        np.concatenate(xs, None, out)

    return pack


def pack_the_rest(node: Node, in_place: Sequence[bool]) -> Kernel:
    """The kernel of a pack some of whose operands are in their place in the result already."""
    moves = []
    start = 0
    for i, x in enumerate(node.inputs):
        if not in_place[i]:
            moves.append((i, start, start + x.type.size, x.shape))
        start += x.type.size

    def pack(*xs_and_out: Array) -> None:
        out = xs_and_out[-1]
        for i, start, stop, shape in moves:
            np.copyto(out[start:stop].reshape(shape), xs_and_out[i])

    return pack


def _unpack(node: Node) -> Callable[[Array], Array]:
    start, shape = node.attrs["start"], node.attrs["shape"]
    stop = start + node.type.size
    return lambda x: x.reshape(-1)[start:stop].reshape(shape)


def fused_kernel(
    node: Node, wrap: Callable[[Node, Kernel], Kernel] = lambda node, kernel: kernel
) -> Kernel:
    """The kernel of a fused node. `wrap` gives what to use in the place of the kernels inside,
    which are called once for each tile.
    """
    body = node.attrs["body"]
    steps = [(x, wrap(x, make_kernel(x))) for x in body.nodes if x.op.has(Trait.ELEMENTWISE)]
    constants = {x: x.attrs["value"] for x in body.nodes if x.op is CONSTANT}
    inputs = len(body.inputs)

    def run(
        mine: Iterator[tuple[Any, ...]], memory: list[list[Array]], number: dict[Node, int]
    ) -> None:
        for tile, *tiles in mine:
            kept = [*memory[tile], *tiles[inputs:]]
            arrays = {**dict(zip(body.inputs, tiles[:inputs], strict=True)), **constants}
            arrays |= {x: kept[i] for x, i in number.items()}
            for inner, kernel in steps:
                kernel(*[arrays[x] for x in inner.inputs], arrays[inner])

    def fused(*xs_and_out: Array) -> None:
        *xs, out = xs_and_out
        overwritten = [x for x, array in zip(body.inputs, xs, strict=True) if array is out]
        places = temporaries(body, overwritten)
        results = result_arrays(node, out)
        cut = tiling(node, [x.flags.c_contiguous for x in xs])
        shapes = [results[0].shape] if cut is None else cut.tile_shapes()
        tiles = [[x] if cut is None else cut.cut(x) for x in (*xs, *results)]
        parts = [*zip(range(len(shapes)), *tiles, strict=True)]
        memory = TileMemory(places, shapes, [scratch(places.nbytes(shapes[0]))])
        if cut is not None and cut.is_shared:
            pool.share(run, parts, memory, places.number)
        else:
            run(iter(parts), memory(0), places.number)

    return fused


# How a view op looks at its operand: array in, array out, no data moved.
VIEWS: dict[str, Callable[[Node], Callable[[Array], Array]]] = {
    # NumPy's functions of these names are Python around the methods.
    "reshape": lambda node: methodcaller("reshape", node.attrs["shape"]),
    "transpose": lambda node: methodcaller("transpose", node.attrs["permutation"]),
    "slice": _slice,
    "unpack": _unpack,
    "broadcast_to": lambda node: partial(np.broadcast_to, shape=node.attrs["shape"]),
}

KERNELS: KernelTable = {
    "negative": _ufunc(np.negative),
    "abs": _ufunc(np.absolute),
    "sign": _ufunc(np.sign),
    "exp": _ufunc(np.exp),
    "log": _ufunc(np.log),
    "log1p": _ufunc(np.log1p),
    "expm1": _ufunc(np.expm1),
    "sqrt": _ufunc(np.sqrt),
    "tanh": _ufunc(np.tanh),
    "relu": Inline(_relu),
    "logical_not": _ufunc(np.logical_not),
    "add": _ufunc(np.add),
    "subtract": _ufunc(np.subtract),
    "multiply": _ufunc(np.multiply),
    "divide": _ufunc(np.divide),
    "power": _ufunc(np.power),
    "maximum": _MAXIMUM,
    "minimum": _MINIMUM,
    "equal": _ufunc(np.equal),
    "not_equal": _ufunc(np.not_equal),
    "less": _ufunc(np.less),
    "less_equal": _ufunc(np.less_equal),
    "greater": _ufunc(np.greater),
    "greater_equal": _ufunc(np.greater_equal),
    "where": Inline(_where),
    "cast": Inline(_cast),
    "sum": Inline(_sum),
    "max": Inline(_extremum(np.maximum)),
    "min": Inline(_extremum(np.minimum)),
    "logsumexp": exponentials.make_logsumexp,
    "softmax": exponentials.make_softmax,
    "log_softmax": exponentials.make_log_softmax,
    "weighted_logsumexp": exponentials.make_weighted_logsumexp,
    "weighted_softmax": exponentials.make_weighted_softmax,
    "sigmoid": exponentials.make_sigmoid,
    "softplus": exponentials.make_softplus,
    "logaddexp": _ufunc(np.logaddexp),
    "log1mexp": exponentials.make_log1mexp,
    "matmul": make_matmul,
    "gather": _gather,
    "scatter_add": _scatter_add,
    "unslice": _unslice,
    "concatenate": _concatenate,
    "pack": _pack,
    "fused": fused_kernel,
    "random_uniform": _random_uniform,
    "random_normal": _random_normal,
    "random_bernoulli": _random_bernoulli,
    **{name: _view(make_view) for name, make_view in VIEWS.items()},
}


class MissingKernelError(LookupError):
    """A plan holds an op that the runtime has no kernel for."""


def kernel_row(node: Node, table: KernelTable = KERNELS) -> Callable[[Node], Kernel]:
    """The row of the table for `node`. Raises MissingKernelError with what to do where there is
    none.
    """
    if node.op.name in table:
        return table[node.op.name]
    if node.op.decompose is not None:
        hint = "open it with the lower pass first"
    elif node.op.has(Trait.MARKER):
        hint = "expand it with the autodiff pass first"
    else:
        hint = "add its row to the kernel table"
    raise MissingKernelError(f"no kernel for {node.op.name} ({node.type}): {hint}")


def make_kernel(node: Node, table: KernelTable = KERNELS) -> Kernel:
    """The kernel of `node`. Raises MissingKernelError with what to do where there is none."""
    return kernel_row(node, table)(node)


def evaluate(node: Node, arrays: list[Array]) -> Array:
    """The array of `node` computed from its operands' arrays, one node alone.

    Raises OperandValueError or OperandIndexError for values that the op does not take.
    """
    out = np.empty(node.shape, node.dtype)
    kernel = make_kernel(node)
    try:
        with np.errstate(all="ignore"):
            kernel(*arrays, out)
    except Exception as error:
        raise told(error, node) from None
    return out

"""Derivatives of functions as functions: `jvp`, `vjp`, `jacfwd`, `jacrev`, `hessian`.

All are made of `grad` requests, so that they are recorded, nest in any order and need no rule of
an op besides its VJP. A VJP is linear in its cotangent u, so the transpose of u -> u·J is t -> J·t:
forward mode is the derivative of a VJP by its cotangent (Townsend 2017, "A new trick for
calculating Jacobian vector products"). The cotangent itself drops out of the result, and with it
all that dead-code removal finds to serve the VJP only.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from needle_ir import ops
from needle_ir.autograd import mark, value_and_grad
from needle_ir.ir import (
    DTypeError,
    Node,
    ShapeError,
    TensorType,
    capture_origin,
    is_floating,
    scope,
)
from needle_ir.pytree import Tree, flatten, unflatten
from needle_ir.recording import enable_grad
from needle_ir.tensor import Tensor

Argnums = int | tuple[int, ...]


def jvp(
    fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> tuple[Any, ...]:
    """(fn(*primals), the derivative of that in the direction `tangents`): forward mode.

    `primals` is a tuple with an argument for each parameter, `tangents` one of the same structure,
    shapes and dtypes; a number stands for one of the dtype beside it. Arguments and results are
    tensors, arrays and floats, or tuples, lists and dicts of these. With `has_aux`, `fn` returns
    (result, anything), and the anything comes third. Raises ShapeError or DTypeError for a tangent
    of another type than its primal and for what is no float, ValueError for another structure.
    """
    for name, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, tuple | list):
            raise TypeError(
                f"jvp: {name} is a tuple with one entry for each argument of the function, "
                f"not {type(value).__name__}; write ({name[:-1]},)"
            )
    args, marked = mark(primals, tuple(range(len(primals))))
    xs = [x for leaves, _ in marked for x in leaves]
    tree = flatten(tuple(primals))[1]
    ts = _matching(tuple(tangents), xs, tree, "jvp", "tangent")
    with enable_grad():
        result, aux = _call(fn, args, {}, has_aux)
        ys, out_tree = _outputs(result)
        with scope(phase="backward"):
            pushed = _push(_Pulled(_nodes(ys), _nodes(xs)), _nodes(ts)) if ys else []
    return (result, unflatten(out_tree, _tensors(pushed)), *([aux] if has_aux else []))


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """(fn(*primals), the function that pulls a cotangent of it back): reverse mode.

    The pullback takes cotangents in the structure of the result, and gives a tuple with the
    cotangent of each argument, in its structure. It can be called any number of times; `fn` runs
    once. With `has_aux`, `fn` returns (result, anything), and the anything comes third. Raises
    as `jvp` does.
    """
    args, marked = mark(primals, tuple(range(len(primals))))
    xs = [x for leaves, _ in marked for x in leaves]
    with enable_grad():
        result, aux = _call(fn, args, {}, has_aux)
    ys, out_tree = _outputs(result)

    def pullback(cotangents: Any) -> tuple[Any, ...]:
        cts = _matching(cotangents, ys, out_tree, "vjp", "cotangent")
        with enable_grad(), scope(phase="backward"):
            pulled = iter(_tensors(_pull(_nodes(ys), _nodes(xs), _nodes(cts))))
        return tuple([unflatten(tree, [next(pulled) for _ in x]) for x, tree in marked])

    return (result, pullback, *([aux] if has_aux else []))


def jacrev(
    fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The Jacobian of `fn` by the arguments `argnums`, in reverse mode: a sweep for each element
    of the result.

    For a result of shape s and an argument of shape t it has the shape s + t. Where they are
    nested, each leaf of the result becomes the structure of the argument; for a tuple of `argnums`
    a tuple of these. With `has_aux` it gives (Jacobian, what else `fn` returned). Raises as
    `grad` does, except that the result may have any shape.
    """
    return _jacobian(fn, argnums, has_aux, _rows)


def jacfwd(
    fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """As `jacrev`, in forward mode: a sweep for each element of the arguments."""
    return _jacobian(fn, argnums, has_aux, _columns)


def hessian(
    fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The second derivatives of a function that returns a scalar, by the arguments `argnums`.

    For an argument of shape t it has the shape t + t; nested arguments give the structure twice,
    as `jacrev(grad(fn))` does, which it is. Each row is a sweep: for the product with one vector
    use `jvp(grad(fn), (x,), (v,))`. Raises ShapeError for a result that is no scalar.
    """
    both = value_and_grad(fn, argnums, has_aux)

    @wraps(fn)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, slope = both(*args, **kwargs)
        return (slope, value[1]) if has_aux else slope

    return jacrev(gradient, argnums, has_aux)


# What the functions share ------------------------------------------------------------------------


class _Pulled:
    """The cotangents of `xs` for a cotangent `by` of all of `ys`, in which they are linear."""

    def __init__(self, ys: Sequence[Node], xs: Sequence[Node]):
        self.types = [y.type for y in ys]
        y = _joined(ys)
        self.by: Node = ops.variable(_zeros(y.type))
        self.of = [ops.grad(y, x, self.by) for x in xs]


def _push(pulled: _Pulled, tangents: Sequence[Node]) -> list[Node]:
    """The tangents of the outputs."""
    if not tangents:
        return [_zeros(type) for type in pulled.types]
    along: Node = ops.grad(_joined(pulled.of), pulled.by, _joined(tangents))
    return _parted(along, pulled.types)


def _pull(ys: Sequence[Node], xs: Sequence[Node], cts: Sequence[Node]) -> list[Node]:
    """The cotangents of `xs`, in one sweep."""
    if not ys:
        return [_zeros(x.type) for x in xs]
    y, ct = _joined(ys), _joined(cts)
    return [ops.grad(y, x, ct) for x in xs]


def _joined(nodes: Sequence[Node]) -> Node:
    """All elements in one node: one question has one sweep for an answer."""
    if len(nodes) == 1:
        return nodes[0]
    result: Node = ops.concatenate([ops.reshape(node, (-1,)) for node in nodes])
    return result


def _parted(node: Node, types: Sequence[TensorType]) -> list[Node]:
    """What `_joined` has put together, each part in its type."""
    if len(types) == 1:
        return [node]
    parts: list[Node] = []
    start = 0
    for type in types:
        part = ops.reshape(ops.slice(node, (start,), (type.size,)), type.shape)
        parts.append(part if part.dtype == type.dtype else ops.cast(part, type.dtype))
        start += type.size
    return parts


def _zeros(type: TensorType) -> Node:
    result: Node = ops.broadcast_to(ops.as_constant(0.0, type.dtype), type.shape)
    return result


def _basis(type: TensorType) -> list[Node]:
    """For each element, in row-major order, the tensor with a 1 there and zeros elsewhere."""
    one = ops.as_constant(np.ones((1,) * type.ndim), type.dtype)
    steps = (1,) * type.ndim
    return [ops.unslice(one, type.shape, index, steps) for index in np.ndindex(type.shape)]


def _rows(ys: Sequence[Node], xs: Sequence[Node]) -> list[list[Node]]:
    """The Jacobian of each y by each x, from its rows."""
    result = []
    for y in ys:
        rows = [_pull([y], xs, [ct]) for ct in _basis(y.type)]
        result.append([_stacked([row[i] for row in rows], y, x) for i, x in enumerate(xs)])
    return result


def _columns(ys: Sequence[Node], xs: Sequence[Node]) -> list[list[Node]]:
    """The Jacobian of each y by each x, from its columns."""
    by_x: list[list[Node]] = []
    for x in xs:
        pulled = _Pulled(ys, [x])
        columns = [_push(pulled, [tangent]) for tangent in _basis(x.type)]
        by_x.append(
            [_swapped(_stacked([c[j] for c in columns], x, y), x, y) for j, y in enumerate(ys)]
        )
    return [[by_x[i][j] for i in range(len(xs))] for j in range(len(ys))]


def _stacked(parts: Sequence[Node], index: Node, part: Node) -> Node:
    """The parts, each of the type of `part`, at the places of the elements of `index`."""
    shape = (*index.shape, *part.shape)
    if not parts:
        return _zeros(TensorType(shape, part.dtype))
    longer = [ops.reshape(x, (1, *part.shape)) for x in parts]
    result: Node = ops.reshape(ops.concatenate(longer), shape)
    return result


def _swapped(node: Node, first: Node, second: Node) -> Node:
    """`node` with the axes of `second` before those of `first`."""
    split, ndim = len(first.shape), len(node.shape)
    result: Node = ops.permute(node, [*range(split, ndim), *range(split)])
    return result


def _jacobian(
    fn: Callable[..., Any],
    argnums: Argnums,
    has_aux: bool,
    blocks: Callable[[Sequence[Node], Sequence[Node]], list[list[Node]]],
) -> Callable[..., Any]:
    @wraps(fn)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        new_args, marked = mark(args, argnums)
        xs = [x for leaves, _ in marked for x in leaves]
        with enable_grad():
            result, aux = _call(fn, new_args, kwargs, has_aux)
            ys, out_tree = _outputs(result)
            with scope(phase="backward"):
                of_y = blocks(_nodes(ys), _nodes(xs))
        found = []
        for row in of_y:
            tensors = iter(_tensors(row))
            by_argument = [unflatten(tree, [next(tensors) for _ in x]) for x, tree in marked]
            found.append(by_argument[0] if isinstance(argnums, int) else tuple(by_argument))
        whole = unflatten(out_tree, found)
        return (whole, aux) if has_aux else whole

    return jacobian


def _call(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], has_aux: bool
) -> tuple[Any, Any]:
    """The result to differentiate, and what else there is."""
    result = fn(*args, **kwargs)
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"with has_aux the function returns a pair (result, aux), not {type(result).__name__}"
        )
    return result


def _outputs(result: Any) -> tuple[list[Tensor], Tree]:
    """The tensors of a result. Raises DTypeError for what is none, or of no float dtype."""
    leaves, tree = flatten(result)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise DTypeError(
                f"the function returned {type(leaf).__name__}; it must return tensors, or tuples, "
                "lists and dicts of them; return the rest beside them with has_aux=True"
            )
        if not is_floating(leaf.dtype):
            raise DTypeError(
                f"the function returned a tensor of {leaf.dtype}, which has no derivative; "
                "return it beside the result with has_aux=True"
            )
    return leaves, tree


def _matching(value: Any, like: Sequence[Tensor], tree: Tree, of: str, kind: str) -> list[Tensor]:
    """The leaves of `value` as tensors. Raises where they are not as those of `like` are."""
    leaves, found = flatten(value)
    if found != tree:
        raise ValueError(
            f"{of}: the {kind}s have another structure than what they belong to: "
            f"{len(leaves)} tensors, nested in another way or number than {len(like)}"
        )
    return [
        _of_type(leaf, x, f"{of}: {kind} {i}")
        for i, (leaf, x) in enumerate(zip(leaves, like, strict=True))
    ]


def _of_type(leaf: Any, like: Tensor, name: str) -> Tensor:
    is_array = isinstance(leaf, Tensor | np.ndarray | np.generic)
    dtype = None if is_array else like.dtype
    tensor = leaf if isinstance(leaf, Tensor) else Tensor(leaf, dtype=dtype, requires_grad=False)
    if tensor.shape != like.shape:
        raise ShapeError(
            f"{name} has the shape {tensor.shape}; it belongs to {like.shape}", capture_origin()
        )
    if tensor.dtype != like.dtype:
        raise DTypeError(
            f"{name} is {tensor.dtype}; it belongs to {like.dtype}: convert it with "
            f"astype({str(like.dtype)!r})",
            capture_origin(),
        )
    return tensor


def _nodes(tensors: Sequence[Tensor]) -> list[Node]:
    return [tensor._read() for tensor in tensors]


def _tensors(nodes: Sequence[Node]) -> list[Tensor]:
    return [Tensor._from_node(node, requires_grad=True) for node in nodes]

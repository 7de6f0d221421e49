"""Derivatives: `backward()` for leaves, `grad` and `value_and_grad` for functions.

`TENSOR_COUNTER` is the number of tensors that are alive.
"""

import gc
from collections.abc import Callable, Sequence
from functools import reduce, wraps
from typing import Any

from needle_ir import ops
from needle_ir.arguments import check_function
from needle_ir.gradients import Request
from needle_ir.ir import (
    DTypeError,
    Node,
    ShapeError,
    capture_origin,
    inherit_origin,
    is_floating,
    scope,
)
from needle_ir.ops.markers import STOP_GRADIENT
from needle_ir.pytree import Tree, flatten, unflatten
from needle_ir.recording import enable_grad, thread
from needle_ir.tensor import Tensor


def backward(tensor: Tensor, out_grad: Any = None) -> None:
    """Record the gradients of `tensor` and set them on the leaves; see Tensor.backward."""
    if not tensor.requires_grad:
        raise ValueError(
            "backward() on a tensor that depends on no leaf with requires_grad=True"
            if is_floating(tensor.dtype)
            else f"backward() on a tensor of {tensor.dtype}; derivatives need a float dtype"
        )
    if tensor._history_freed:
        raise ValueError(
            "backward() on a tensor whose history was freed by an optimizer step; "
            "call backward() before step(), or compute the tensor again"
        )
    if out_grad is not None and not isinstance(out_grad, Tensor):
        out_grad = Tensor(out_grad, dtype=tensor.dtype, requires_grad=False)
    if out_grad is not None and out_grad.shape != tensor.shape:
        raise ShapeError(f"out_grad has shape {out_grad.shape}, the tensor {tensor.shape}")
    ct = () if out_grad is None else (out_grad._read(),)
    y = tensor._read()
    leaves = _leaves_below(y)
    with scope(phase="backward"):
        origin = capture_origin()
    nodes = {id(leaf): node for leaf, node in leaves}
    if thread.state.trace is None and not ct and len(nodes) == len(leaves) > 1:
        request = Request(y, nodes, origin)
        for leaf, _ in leaves:
            leaf._grad = request
        return
    with inherit_origin(origin):
        gradients: dict[int, tuple[Tensor, list[Node]]] = {}
        for leaf, node in leaves:
            gradients.setdefault(id(leaf), (leaf, []))[1].append(ops.grad(y, node, *ct))
        for leaf, terms in gradients.values():
            # Several where `.data` was assigned between two uses: each use counts.
            leaf.grad = Tensor._from_node(reduce(ops.add, terms), thread.state.grad_enabled)


def _leaves_below(root: Node) -> list[tuple[Tensor, Node]]:
    """The leaves that require a gradient, each with a node by which `root` reads it."""
    found: list[tuple[Tensor, Node]] = []
    seen: set[Node] = set()
    queue = [root]
    for node in queue:  # which grows meanwhile
        if node in seen:
            continue
        seen.add(node)
        variable = node.variable
        if variable is not None:
            leaf = variable()
            if leaf is not None and leaf._requires_grad:
                found.append((leaf, node))
                continue
        if node.op is not STOP_GRADIENT:
            queue += node.inputs
    return found


def value_and_grad(
    fn: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns (fn(...), its derivative by the arguments `argnums`).

    `fn` returns a tensor with one element and no axes; with `has_aux` it returns (that tensor,
    anything), and so does the value. The derivative has the structure of the argument, which may
    be a tensor, an array, a float, or tuples, lists and dicts of these; for a tuple of `argnums`
    it is a tuple. Raises ShapeError for a result that is no scalar, DTypeError for an argument or
    a result that is not of a float dtype, ValueError for argnums out of range.
    """

    check_function("value_and_grad", fn)

    @wraps(fn)
    def differentiated(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        new_args, marked = mark(args, argnums)
        with enable_grad():
            result = fn(*new_args, **kwargs)
            y = result[0] if has_aux else result
            _check_scalar(y)
            grads = [
                unflatten(tree, [_derivative(y, tensor) for tensor in tensors])
                for tensors, tree in marked
            ]
        return result, grads[0] if isinstance(argnums, int) else tuple(grads)

    return differentiated


def grad(
    fn: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The derivative of a function as a function; see `value_and_grad`.

    With `has_aux` it returns (derivative, what else `fn` returned).
    """
    check_function("grad", fn)
    both = value_and_grad(fn, argnums, has_aux)

    @wraps(fn)
    def derivative(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return derivative


def mark(
    args: Sequence[Any], argnums: int | tuple[int, ...]
) -> tuple[list[Any], list[tuple[list[Tensor], Tree]]]:
    """The arguments with those at `argnums` made variables; and for each of these the variables,
    with the tree that puts them together again. Raises as `value_and_grad` does.
    """
    positions = argnums if isinstance(argnums, tuple | list) else (argnums,)
    new_args = list(args)
    marked: list[tuple[list[Tensor], Tree]] = []
    for position in positions:
        if not isinstance(position, int):
            raise TypeError(f"argnums is {argnums!r}; it must be an integer or a tuple of integers")
        if not -len(args) <= position < len(args):
            raise ValueError(f"argnums={argnums}, but there are {len(args)} arguments")
        leaves, tree = flatten(args[position])
        tensors = [_variable(leaf, position) for leaf in leaves]
        marked.append((tensors, tree))
        new_args[position] = unflatten(tree, tensors)
    return new_args, marked


def _variable(leaf: Any, position: int) -> Tensor:
    tensor = leaf if isinstance(leaf, Tensor) else Tensor(leaf)
    if not is_floating(tensor.dtype):
        raise DTypeError(
            f"argument {position} is of {tensor.dtype}; derivatives need a float dtype"
        )
    return Tensor._from_node(ops.variable(tensor._read()), requires_grad=True)


def _derivative(y: Tensor, x: Tensor) -> Tensor:
    with scope(phase="backward"):
        return Tensor._from_node(ops.grad(y.node, x.node), requires_grad=True)


def _check_scalar(y: Any) -> None:
    if not isinstance(y, Tensor):
        raise DTypeError(f"the function returned {type(y).__name__}; it must return a Tensor")
    if y.shape != ():
        raise ShapeError(
            f"the function returned shape {y.shape}; it must return a scalar, (). "
            "For a derivative of every element use jacrev or jvp"
        )


def __getattr__(name: str) -> int:
    # The course's memory tests read the number of live tensors. Counting when asked costs nothing
    # in between.
    if name == "TENSOR_COUNTER":
        # By type(): isinstance asks an object for its __class__, which a dead proxy refuses.
        return sum(issubclass(type(x), Tensor) for x in gc.get_objects())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Nested arguments: tuples, lists and dicts taken apart into leaves and put together again."""

from collections.abc import Iterator, Sequence
from typing import Any

# A leaf is LEAF; a container is its kind with the trees of its parts.
LEAF = "leaf"
Tree = Any

_SEQUENCES = (tuple, list)  # `tuple | list` would be made anew at every look


def flatten(value: Any) -> tuple[list[Any], Tree]:
    """The leaves of `value` in order, and the tree that puts them together again.

    Tuples (named ones too), lists and dicts are containers, and None is an empty one; anything
    else is a leaf. Trees compare equal when structure and dict keys are the same, and are hashable.
    """
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves)


def unflatten(tree: Tree, leaves: Sequence[Any]) -> Any:
    """The value that `tree` describes, over new leaves."""
    return _unflatten(tree, iter(leaves))


def _flatten(value: Any, leaves: list[Any]) -> Tree:
    if isinstance(value, dict):
        keys = tuple(value)
        return (dict, keys, tuple([_flatten(value[key], leaves) for key in keys]))
    if isinstance(value, _SEQUENCES):
        return (type(value), None, tuple([_flatten(part, leaves) for part in value]))
    if value is None:
        return (type(None), None, ())
    leaves.append(value)
    return LEAF


def _unflatten(tree: Tree, leaves: Iterator[Any]) -> Any:
    if tree == LEAF:
        return next(leaves)
    kind, keys, subtrees = tree
    parts = [_unflatten(subtree, leaves) for subtree in subtrees]
    if kind is type(None):
        return None
    if kind is dict:
        return dict(zip(keys, parts, strict=True))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return kind(*parts)
    return kind(parts)

"""What a pass tells of its rewrites, and how one is refused."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from needle_ir.ir.node import Node


@dataclass(frozen=True, slots=True)
class Application:
    """One rewrite: `after` is put in the place of `before`.

    `rule` names what did it: a rewrite rule, or a pass that has one way of rewriting. `matched`
    are the nodes that the pattern stood for, `before` first; `new` are the nodes that were made,
    operands first. Where a node is dropped and nothing takes its place, `after` is the node itself
    and `matched` all that goes with it.
    """

    rule: str
    before: Node
    after: Node
    matched: tuple[Node, ...]
    new: tuple[Node, ...]


# Whether the rewrite may be made.
Watcher = Callable[[Application], bool]


class _Watchers(threading.local):
    active: tuple[Watcher, ...] = ()


_watchers = _Watchers()


@contextmanager
def watch_rewrites(*watchers: Watcher) -> Iterator[None]:
    """Show every rewrite that this thread makes inside to `watchers`; each may refuse it."""
    outer = _watchers.active
    _watchers.active = (*outer, *watchers)
    try:
        yield
    finally:
        _watchers.active = outer


def watched() -> bool:
    """Whether anybody looks on: without, a pass need not work out what it would tell."""
    return bool(_watchers.active)


def announce(application: Application) -> bool:
    """Tell who looks on of a rewrite before it is made. False where one of them refuses: the first
    that does is the last that is asked."""
    return all(watcher(application) for watcher in _watchers.active)

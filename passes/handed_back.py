"""Which packs of inputs an earlier run may have put side by side already."""

from collections.abc import Iterable, Mapping

from needle_ir.ir import Node, Place
from needle_ir.ops.packing import PACK, UNPACK

Parts = tuple[Node, ...]

# The places of a view that the caller gets and of what it is a view of.
_HANDED_OUT = (Place.VIEW, Place.OUTPUT)


def handed_back(
    order: Iterable[Node], places: Mapping[Node, Place]
) -> dict[Node, tuple[Node, Parts]]:
    """The packs of inputs whose types are those of neighbours that are handed out.

    For each the allocated array that these are views of, and the views in their order.
    """
    order = tuple(order)
    views: dict[Node, list[Node]] = {}
    for node in order:
        if node.op is UNPACK and (places[node], places[node.inputs[0]]) == _HANDED_OUT:
            views.setdefault(node.inputs[0], []).append(node)
    neighbours = [(whole, _by_position(parts)) for whole, parts in views.items()]
    found: dict[Node, tuple[Node, Parts]] = {}
    for node in order:
        if node.op is not PACK or any(places[x] is not Place.INPUT for x in node.inputs):
            continue
        for whole, parts in neighbours:
            run = _run_like(node, parts) if places[node] is Place.ARENA else None
            if run is not None:
                found[node] = (whole, run)
                break
    return found


def _by_position(views: list[Node]) -> list[Node]:
    return sorted(views, key=lambda x: (x.attrs["start"], x.type.size))


def _run_like(pack: Node, views: list[Node]) -> Parts | None:
    """The views, one behind the other in memory, that have the types of what is packed."""
    types = [x.type for x in pack.inputs]
    count = len(types)
    for i in range(len(views) - count + 1):
        run = views[i : i + count]
        if [x.type for x in run] == types and _is_row(run):
            return tuple(run)
    return None


def _is_row(views: list[Node]) -> bool:
    position = views[0].attrs["start"]
    for view in views:
        if view.attrs["start"] != position:
            return False
        position += view.type.size
    return True

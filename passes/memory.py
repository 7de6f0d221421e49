"""Memory planning: a place for every value, and one arena that is used again and again."""

from bisect import bisect_left, insort
from collections.abc import Iterable

from needle_ir.ir import (
    CONSTANT,
    INPUT,
    Graph,
    HandedBack,
    Node,
    Place,
    Plan,
    Slot,
    Step,
    Trait,
    aligned,
)
from needle_ir.ops.cluster import FUSED
from needle_ir.ops.packing import PACK, UNPACK
from needle_ir.passes.donations import with_donations
from needle_ir.passes.handed_back import handed_back
from needle_ir.passes.schedule import schedule


def make_plan(graph: Graph, replaced: Iterable[tuple[int, int]] = ()) -> Plan:
    """Schedule `graph` and give every value its place.

    `replaced` pairs the positions of inputs with those of the outputs that the caller puts in their
    place.
    """
    return with_donations(plan_memory(graph, schedule(graph)), replaced)


def plan_memory(graph: Graph, order: tuple[Node, ...]) -> Plan:
    """A plan that runs `order`.

    Intermediate results live in the arena, best fit, from the step that computes them to the last
    step that reads them or a view of them. An elementwise result takes the place of an operand
    that dies with it. What the caller gets is allocated anew in every run, and what it hands back
    is looked for there. What is packed is computed in its place in the packed array, and outputs
    that share an array out among them are views of it, so that neither is copied.
    """
    leaves = [node for node in graph.nodes if node.op in (INPUT, CONSTANT)]
    values = (*leaves, *order)
    index = {node: i for i, node in enumerate(values)}
    places = _places(graph, values)
    returning = handed_back(order, places)
    places.update(dict.fromkeys(returning, Place.HANDED_BACK))
    inside = _packed_in_place(graph, order, places)
    owner = _owners(values, places)
    end = _last_uses(graph, order, owner)
    # A packed array's memory is in use as long as that of any of its parts.
    first = len(leaves)
    begin = {whole: index[whole] - first for whole, _ in inside.values()}
    for part, (whole, _) in inside.items():
        begin[whole] = min(begin[whole], index[part] - first)
        end[whole] = max(end[whole], end[part])

    arena = _Arena()
    dying: dict[int, list[Node]] = {}
    for node in order:
        if places[node] is Place.ARENA and node not in inside:
            dying.setdefault(end[node], []).append(node)

    offsets: dict[Node, int] = {}
    for step, node in enumerate(order):
        free_now = dying.get(step, [])
        if node in inside:
            whole, start = inside[node]
            if places[whole] is Place.ARENA and whole not in offsets:
                offsets[whole] = arena.allocate(whole.type.nbytes)
            offsets[node] = offsets.get(whole, 0) + start
        elif places[node] is Place.ARENA and node not in offsets:
            heir_of = _in_place(node, free_now, offsets, inside)
            if heir_of is None:
                offsets[node] = arena.allocate(node.type.nbytes)
            else:
                offsets[node] = offsets[heir_of]
                free_now = [x for x in free_now if x is not heir_of]
        for dead in free_now:
            arena.free(offsets[dead], dead.type.nbytes)

    slots = [
        Slot(
            node=node,
            place=places[node],
            nbytes=node.type.nbytes,
            start=begin.get(node, max(0, i - first)),
            end=end[owner[node]],
            offset=offsets.get(node),
            inside=index[inside[node][0]] if node in inside else None,
        )
        for i, node in enumerate(values)
    ]
    return Plan(
        graph=graph,
        slots=tuple(slots),
        steps=tuple(Step(n, tuple([index[x] for x in n.inputs]), index[n]) for n in order),
        inputs=tuple(index[node] for node in graph.inputs),
        outputs=tuple(index[node] for node in graph.outputs),
        arena_bytes=arena.size,
        handed_back=tuple(
            HandedBack(index[packed], index[whole], tuple(index[x] for x in parts))
            for packed, (whole, parts) in returning.items()
        ),
    )


def _places(graph: Graph, values: Iterable[Node]) -> dict[Node, Place]:
    outputs = set(graph.outputs)
    shared = _shared_out(graph)
    places: dict[Node, Place] = {}
    contiguous: dict[Node, bool] = {}
    for node in values:
        contiguous[node] = True
        if node.op is INPUT:
            places[node] = Place.INPUT
        elif node.op is CONSTANT:
            places[node] = Place.CONSTANT
        elif node in shared:
            places[node] = Place.OUTPUT
        elif node in outputs:
            places[node] = Place.VIEW if _is_share(node, shared) else Place.OUTPUT
        elif node.op.has(Trait.VIEW):
            dense = node.op.has(Trait.DENSE)
            if dense and not contiguous[node.inputs[0]]:
                places[node] = Place.ARENA
            else:
                places[node] = Place.VIEW
                contiguous[node] = dense
        else:
            places[node] = Place.ARENA
    return places


def _shared_out(graph: Graph) -> set[Node]:
    """The computed arrays that outputs unpack among them, each element into one output.

    The caller gets views of them: nobody else sees those bytes, and none are kept for nothing.
    """
    outputs = dict.fromkeys(graph.outputs)
    shares: dict[Node, list[Node]] = {}
    for node in outputs:
        if node.op is UNPACK:
            shares.setdefault(node.inputs[0], []).append(node)
    return {
        whole
        for whole, parts in shares.items()
        if whole not in outputs
        and whole.op not in (INPUT, CONSTANT)
        and not whole.op.has(Trait.VIEW)
        and _cover(whole, parts)
    }


def _cover(whole: Node, parts: list[Node]) -> bool:
    position = 0
    for start, size in sorted([(x.attrs["start"], x.type.size) for x in parts]):
        if start != position:
            return False
        position += size
    return position == whole.type.size


def _is_share(node: Node, shared: set[Node]) -> bool:
    return node.op is UNPACK and node.inputs[0] in shared


def _packed_in_place(
    graph: Graph, order: Iterable[Node], places: dict[Node, Place]
) -> dict[Node, tuple[Node, int]]:
    """The values that are computed inside of the array that packs them, and at which byte there.

    Where a part is an output, the packed array is allocated with it in every run, and the caller
    gets a view of it. That array must not be an output as well, nor shared out already.
    """
    outputs = set(graph.outputs)
    inside: dict[Node, tuple[Node, int]] = {}
    for whole in order:
        if whole.op is not PACK:
            continue
        given = places[whole] is Place.OUTPUT
        position = 0
        for part in whole.inputs:
            own = places[part] is Place.ARENA or (part in outputs and places[part] is Place.OUTPUT)
            if own and part not in inside and part.op is not PACK and part.type.size:
                if part in outputs and not given:
                    places[whole] = Place.OUTPUT
                if part not in outputs or not given:
                    inside[part] = (whole, position)
            position += part.type.nbytes
        # A part follows its array out of the arena.
        if places[whole] is Place.OUTPUT:
            for part in whole.inputs:
                if part in inside and inside[part][0] is whole:
                    places[part] = Place.OUTPUT
    return inside


def _owners(values: Iterable[Node], places: dict[Node, Place]) -> dict[Node, Node]:
    """The node whose memory each node's array lies in: its own, or what it is a view of."""
    owner: dict[Node, Node] = {}
    for node in values:
        owner[node] = owner[node.inputs[0]] if places[node] is Place.VIEW else node
    return owner


def _last_uses(graph: Graph, order: tuple[Node, ...], owner: dict[Node, Node]) -> dict[Node, int]:
    """For every owner, the last step at which its memory is read; past the end for outputs."""
    end: dict[Node, int] = dict.fromkeys(owner.values(), 0)
    for step, node in enumerate(order):
        end[owner[node]] = step
        for operand in node.inputs:
            end[owner[operand]] = step
    for node in graph.outputs:
        end[owner[node]] = len(order)
    return end


def _in_place(
    node: Node,
    dying: list[Node],
    offsets: dict[Node, int],
    inside: dict[Node, tuple[Node, int]],
) -> Node | None:
    """The operand that `node` may overwrite: it dies now, has the same type, and is read itself.

    A view among the operands may read the memory in another order, so an operand that is read
    through one as well keeps its memory, and so does one that holds another operand.
    """
    if not node.op.has(Trait.ELEMENTWISE) and node.op is not FUSED:
        return None
    for operand in node.inputs:
        if operand in dying and operand in offsets and operand.type == node.type:
            others = [x for x in node.inputs if x is not operand]
            if not any(x.op.has(Trait.VIEW) or x in inside for x in others):
                return operand
    return None


class _Arena:
    """Best fit over free blocks, which merge with their neighbours."""

    def __init__(self) -> None:
        self.size = 0
        self._by_offset: list[tuple[int, int]] = []  # (offset, bytes) of the free blocks
        self._by_size: list[tuple[int, int]] = []  # (bytes, offset) of the same blocks

    def allocate(self, nbytes: int) -> int:
        """The offset of `nbytes` free bytes: the smallest block that fits, else the arena's end."""
        wanted = aligned(nbytes)
        i = bisect_left(self._by_size, (wanted, 0))
        if i < len(self._by_size):
            size, offset = self._by_size[i]
            self._remove(offset, size)
            if size > wanted:
                self._insert(offset + wanted, size - wanted)
            return offset
        offset = self.size
        if self._by_offset and sum(self._by_offset[-1]) == self.size:
            offset, size = self._by_offset[-1]
            self._remove(offset, size)
        self.size = offset + wanted
        return offset

    def free(self, offset: int, nbytes: int) -> None:
        """Give a block back."""
        size = aligned(nbytes)
        i = bisect_left(self._by_offset, (offset, 0))
        if i < len(self._by_offset) and self._by_offset[i][0] == offset + size:
            next_offset, next_size = self._by_offset[i]
            self._remove(next_offset, next_size)
            size += next_size
        if i > 0 and sum(self._by_offset[i - 1]) == offset:
            previous_offset, previous_size = self._by_offset[i - 1]
            self._remove(previous_offset, previous_size)
            offset, size = previous_offset, previous_size + size
        self._insert(offset, size)

    def _insert(self, offset: int, size: int) -> None:
        insort(self._by_offset, (offset, size))
        insort(self._by_size, (size, offset))

    def _remove(self, offset: int, size: int) -> None:
        del self._by_offset[bisect_left(self._by_offset, (offset, size))]
        del self._by_size[bisect_left(self._by_size, (size, offset))]

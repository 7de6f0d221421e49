"""Memory planning: a place for every value, and one arena that is used again and again."""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping, Sequence

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

# For a value that is computed inside of an array that packs it, that array and the byte there.
Inside = Mapping[int, tuple[int, int]]


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
    place_of = _places(graph, values)
    returning = handed_back(order, place_of)
    place_of.update(dict.fromkeys(returning, Place.HANDED_BACK))
    packed = _packed_in_place(graph, order, place_of)

    # From here on a value is its number.
    steps = tuple(
        [
            Step(node, tuple([index[x] for x in node.inputs]), i)
            for i, node in enumerate(order, len(leaves))
        ]
    )
    outputs = tuple([index[node] for node in graph.outputs])
    places = [place_of[node] for node in values]
    inside = {index[part]: (index[whole], at) for part, (whole, at) in packed.items()}
    owner = _owners(steps, places)
    begin, end = _lifetimes(steps, outputs, owner, inside)
    offsets, arena_bytes = _offsets(steps, values, places, inside, end)
    slots = [
        Slot(
            node=node,
            place=places[i],
            nbytes=node.type.nbytes,
            start=begin[i],
            end=end[owner[i]],
            offset=offsets[i],
            inside=inside[i][0] if i in inside else None,
        )
        for i, node in enumerate(values)
    ]
    return Plan(
        graph=graph,
        slots=tuple(slots),
        steps=steps,
        inputs=tuple([index[node] for node in graph.inputs]),
        outputs=outputs,
        arena_bytes=arena_bytes,
        handed_back=tuple(
            HandedBack(index[pack], index[whole], tuple(index[x] for x in parts))
            for pack, (whole, parts) in returning.items()
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


def _owners(steps: Sequence[Step], places: Sequence[Place]) -> list[int]:
    """The value whose memory each value's array lies in: its own, or what it is a view of."""
    owner = [*range(len(places))]
    for step in steps:
        if places[step.output] is Place.VIEW:
            owner[step.output] = owner[step.inputs[0]]
    return owner


def _lifetimes(
    steps: Sequence[Step], outputs: Iterable[int], owner: Sequence[int], inside: Inside
) -> tuple[list[int], list[int]]:
    """The first and the last step at which each value's own memory is in use; past the end for
    outputs. That of a packed array is, as long as that of any of its parts.
    """
    leaves = len(owner) - len(steps)
    begin = [0] * leaves + [*range(len(steps))]
    end = [0] * len(owner)
    for number, step in enumerate(steps):
        end[owner[step.output]] = number
        for operand in step.inputs:
            end[owner[operand]] = number
    for output in outputs:
        end[owner[output]] = len(steps)
    for part, (whole, _) in inside.items():
        begin[whole] = min(begin[whole], begin[part])
        end[whole] = max(end[whole], end[part])
    return begin, end


def _offsets(
    steps: Sequence[Step],
    values: Sequence[Node],
    places: Sequence[Place],
    inside: Inside,
    end: Sequence[int],
) -> tuple[list[int | None], int]:
    """The place in the arena of each value that lies in it, or in an array that packs it; and the
    bytes of the arena.
    """
    arena = _Arena()
    offsets: list[int | None] = [None] * len(values)
    dying: list[list[int]] = [[] for _ in range(len(steps) + 1)]
    for step in steps:
        if places[step.output] is Place.ARENA and step.output not in inside:
            dying[end[step.output]].append(step.output)
    for step, dead in zip(steps, dying, strict=False):
        i = step.output
        if i in inside:
            whole, start = inside[i]
            if places[whole] is Place.ARENA and offsets[whole] is None:
                offsets[whole] = arena.allocate(values[whole].type.nbytes)
            offsets[i] = (offsets[whole] or 0) + start
        elif places[i] is Place.ARENA and offsets[i] is None:
            heir_of = _in_place(step, values, dead, offsets, inside)
            if heir_of is None:
                offsets[i] = arena.allocate(step.node.type.nbytes)
            else:
                offsets[i] = offsets[heir_of]
                dead.remove(heir_of)
        for x in dead:
            offset = offsets[x]
            assert offset is not None
            arena.free(offset, values[x].type.nbytes)
    return offsets, arena.size


def _in_place(
    step: Step,
    values: Sequence[Node],
    dying: Collection[int],
    offsets: Sequence[int | None],
    inside: Inside,
) -> int | None:
    """The operand that a step may overwrite: it dies now, has the same type, and is read itself.

    A view among the operands may read the memory in another order, so an operand that is read
    through one as well keeps its memory, and so does one that holds another operand.
    """
    node = step.node
    if not node.op.has(Trait.ELEMENTWISE) and node.op is not FUSED:
        return None
    for x in step.inputs:
        if x in dying and offsets[x] is not None and values[x].type == node.type:
            others = [other for other in step.inputs if other != x]
            if not any(y in inside or values[y].op.has(Trait.VIEW) for y in others):
                return x
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

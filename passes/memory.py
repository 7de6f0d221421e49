"""Memory planning: a place for every value, and one arena that is used again and again."""

from bisect import bisect_left, insort
from collections.abc import Iterable

from needle_ir.ir import CONSTANT, INPUT, Graph, Node, Place, Plan, Slot, Step, Trait, aligned
from needle_ir.passes.schedule import schedule


def make_plan(graph: Graph) -> Plan:
    """Schedule `graph` and give every value its place."""
    return plan_memory(graph, schedule(graph))


def plan_memory(graph: Graph, order: tuple[Node, ...]) -> Plan:
    """A plan that runs `order`.

    Intermediate results live in the arena, best fit, from the step that computes them to the last
    step that reads them or a view of them. An elementwise result takes the place of an operand
    that dies with it. What the caller gets is allocated anew in every run.
    """
    leaves = [node for node in graph.nodes if node.op in (INPUT, CONSTANT)]
    values = (*leaves, *order)
    index = {node: i for i, node in enumerate(values)}
    step_of = {node: i for i, node in enumerate(order)}
    places = _places(graph, values)
    owner = _owners(values, places)
    end = _last_uses(graph, order, owner)

    arena = _Arena()
    dying: dict[int, list[Node]] = {}
    for node in order:
        if places[node] is Place.ARENA:
            dying.setdefault(end[node], []).append(node)

    offsets: dict[Node, int] = {}
    for step, node in enumerate(order):
        free_now = dying.get(step, [])
        if places[node] is Place.ARENA:
            heir_of = _in_place(node, free_now, offsets)
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
            start=step_of.get(node, 0),
            end=end[owner[node]],
            offset=offsets.get(node),
        )
        for node in values
    ]
    return Plan(
        graph=graph,
        slots=tuple(slots),
        steps=tuple(Step(n, tuple([index[x] for x in n.inputs]), index[n]) for n in order),
        inputs=tuple(index[node] for node in graph.inputs),
        outputs=tuple(index[node] for node in graph.outputs),
        arena_bytes=arena.size,
    )


def _places(graph: Graph, values: Iterable[Node]) -> dict[Node, Place]:
    outputs = set(graph.outputs)
    places: dict[Node, Place] = {}
    contiguous: dict[Node, bool] = {}
    for node in values:
        contiguous[node] = True
        if node.op is INPUT:
            places[node] = Place.INPUT
        elif node.op is CONSTANT:
            places[node] = Place.CONSTANT
        elif node in outputs:
            places[node] = Place.OUTPUT
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


def _in_place(node: Node, dying: list[Node], offsets: dict[Node, int]) -> Node | None:
    """The operand that `node` may overwrite: it dies now, has the same type, and is read itself.

    A view among the operands may read the memory in another order, so an operand that is read
    through one as well keeps its memory.
    """
    if not node.op.has(Trait.ELEMENTWISE):
        return None
    for operand in node.inputs:
        if operand in dying and operand in offsets and operand.type == node.type:
            others = [x for x in node.inputs if x is not operand]
            if not any(x.op.has(Trait.VIEW) for x in others):
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

"""Which arrays may be written where an earlier run put them, though inputs lie there."""

from collections.abc import Iterable
from dataclasses import replace

from needle_ir.ir import Donation, Node, Place, Plan, Trait
from needle_ir.ops.cluster import FUSED, cluster_results
from needle_ir.ops.packing import allocated_parts

# A step that reads a slot, and at which of its operands.
Read = tuple[int, int]


def with_donations(plan: Plan, replaced: Iterable[tuple[int, int]]) -> Plan:
    """The plan with its donations.

    `replaced` pairs positions of the graph's inputs with positions of its outputs: those that the
    caller puts in their place, so that they may be the arrays that he was given for these outputs,
    or parts of these arrays.
    """
    pairs = [(plan.inputs[i], plan.outputs[k]) for i, k in replaced]
    return replace(plan, donations=_Memory(plan).donations(pairs))


class _Memory:
    """Where in the allocated arrays the outputs lie, and when their bytes are read and written."""

    def __init__(self, plan: Plan):
        self._plan = plan
        slots = enumerate(plan.slots)
        self._wholes = [i for i, x in slots if x.place is Place.OUTPUT and x.inside is None]
        # The array in which a slot lies, and the byte at which it starts there.
        self._start = {whole: (whole, 0) for whole in self._wholes}
        for whole, parts in allocated_parts(plan).items():
            self._start |= {part: (whole, start) for part, (_, start) in parts.items()}
        self._back = {back.packed: back for back in plan.handed_back}
        self._reads = self._find_reads()

    def donations(self, pairs: Iterable[tuple[int, int]]) -> tuple[Donation, ...]:
        """The arrays of which every pair that lies in them is safe, with these pairs."""
        found: dict[int, list[tuple[int, int]]] = {whole: [] for whole in self._wholes}
        for given, output in pairs:
            if output in self._start:
                found[self._start[output][0]].append((given, output))
        return tuple(
            Donation(whole, tuple(replaced))
            for whole, replaced in found.items()
            if all(self._is_safe(given, output) for given, output in replaced)
        )

    def _find_reads(self) -> dict[int, list[Read]]:
        """For each input the steps that read it, a view of it, or it and others found packed.

        What is returned is read when all steps are done.
        """
        plan = self._plan
        reads: dict[int, list[Read]] = {i: [] for i in plan.inputs}
        bases: dict[int, tuple[int, ...]] = {i: (i,) for i in plan.inputs}
        for number, step in enumerate(plan.steps):
            place = plan.slots[step.output].place
            if place in (Place.VIEW, Place.HANDED_BACK):
                bases[step.output] = tuple([i for x in step.inputs for i in bases.get(x, ())])
            if place is not Place.VIEW:
                for position, operand in enumerate(step.inputs):
                    for i in bases.get(operand, ()):
                        reads[i].append((number, position))
        for output in plan.outputs:
            for i in bases.get(output, ()):
                reads[i].append((len(plan.steps), 0))
        return reads

    def _is_safe(self, given: int, output: int) -> bool:
        """Whether nothing reads an input after the output was written over it.

        A smaller input of its dtype may be a part of what lies there.
        """
        slots = self._plan.slots
        old, new = slots[given].node.type, slots[output].node.type
        if old.dtype != new.dtype or old.size > new.size:
            return False
        whole, _ = self._start[output]
        written = slots[output if slots[output].inside is not None else whole].start
        return all(
            step < written
            or (step == written and old == new and self._overlays(step, position, given, output))
            for step, position in self._reads[given]
        )

    def _overlays(self, number: int, position: int, given: int, output: int) -> bool:
        """Whether a step computes element by element what it reads at `position`, in its place."""
        step = self._plan.steps[number]
        whole, start = self._start[output]
        operand = step.inputs[position]
        back = self._back.get(operand)
        if back is not None:
            # It lies where its first part does, if that is in this array at all.
            within, start = self._start[back.parts[0]]
            if within != whole:
                return False
        elif operand != given:
            return False
        if step.output not in self._start or self._start[step.output][0] != whole:
            return False
        offset = start - self._start[step.output][1]
        return _in_its_place(step.node, position, offset)


def _in_its_place(node: Node, position: int, offset: int) -> bool:
    """Whether an operand that lies `offset` bytes from where the result of `node` starts is read
    before it is overwritten, element by element.
    """
    operand = node.inputs[position]
    if node.op is not FUSED:
        return node.op.has(Trait.ELEMENTWISE) and offset == 0 and operand.type == node.type
    body = node.attrs["body"]
    given = body.inputs[position]
    for i, result in enumerate(cluster_results(body)):
        if i * result.type.nbytes == offset and result.type == given.type:
            order = {x: k for k, x in enumerate(body.nodes)}
            return all(order[x] <= order[result] for x in body.users[given])
    return False

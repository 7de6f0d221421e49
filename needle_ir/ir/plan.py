"""Plans: a scheduled graph with a place in memory for every value."""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from needle_ir.ir.graph import Graph
from needle_ir.ir.node import Node
from needle_ir.ir.printer import print_attr, value_names
from needle_ir.ir.representation import Representable

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to whole units of memory, at least one."""
    return max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)


class Place(Enum):
    """Where the array of a value lives."""

    INPUT = "input"  # given by the caller, never written
    CONSTANT = "constant"  # part of the plan, never written
    ARENA = "arena"  # at an offset of the arena, which is one buffer reused by every run
    OUTPUT = "output"  # allocated in every run and handed to the caller
    VIEW = "view"  # another look at its first operand's array
    HANDED_BACK = "handed back"  # inputs packed: see `HandedBack`


@dataclass(frozen=True, slots=True)
class Slot:
    """The array of one value.

    `offset` is its place in the arena in bytes, None elsewhere. `start` and `end` are the first
    and the last step at which its memory is in use; `end` is the number of steps where the caller
    gets it. `inside` is the number of the slot that packs this value, where it is computed in its
    place there: then it has no memory of its own, and `offset` counts from the start of the arena,
    or of the packed array where that is allocated in every run.
    """

    node: Node
    place: Place
    nbytes: int
    start: int
    end: int
    offset: int | None = None
    inside: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel call: `node` computed from the slots `inputs` into the slot `output`.

    A step whose op is a view makes the array of its slot and moves no data.
    """

    node: Node
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True)
class HandedBack:
    """A pack of inputs that may come back as an earlier run handed them out: side by side.

    A training step packs the parameters that it has unpacked in the step before. `packed` is the
    slot of the pack, `whole` that of the allocated array which the slots `parts` are views of, and
    these have the types of what is packed. Where the inputs are what an earlier run put there,
    the memory that they lie in is the packed array; otherwise it is allocated.
    """

    packed: int
    whole: int
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Donation:
    """An allocated array that may be written where an earlier run put it, though inputs lie there.

    A training step is given the parameters that it returned in the step before. Where nobody else
    holds them the new ones may be computed in their place. `whole` is the slot of the array;
    `replaced` pairs the slots of inputs that may lie in it with the slots of the outputs that are
    computed in their place: no input is read after its bytes were written.
    """

    whole: int
    replaced: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Plan(Representable):
    """What the runtime runs: steps in order over slots, and one arena of `arena_bytes`.

    `inputs` and `outputs` are slot numbers in the order of the graph's own.
    """

    graph: Graph
    slots: tuple[Slot, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arena_bytes: int
    handed_back: tuple[HandedBack, ...] = ()
    donations: tuple[Donation, ...] = ()

    @cached_property
    def naive_bytes(self) -> int:
        """The arena's size if every value in it had its own memory."""
        return sum(aligned(slot.nbytes) for slot in self.slots if slot.place is Place.ARENA)

    def in_place(self, step: Step) -> tuple[bool, ...]:
        """For a step that packs, which of its operands are in their place already."""
        flags = []
        result = self.slots[step.output]
        position = result.offset or 0
        for number in step.inputs:
            slot = self.slots[number]
            flags.append(slot.inside == step.output and slot.offset == position)
            position += slot.nbytes
        return tuple(flags)

    def alive_at(self, step: int) -> list[Slot]:
        """The slots of the arena that hold a value while `step` runs."""
        return [s for s in self._arena if s.start <= step <= s.end]

    @cached_property
    def _arena(self) -> list[Slot]:
        """The slots with memory of their own in the arena."""
        return [s for s in self.slots if s.place is Place.ARENA and s.inside is None]

    @cached_property
    def peak(self) -> tuple[int, int]:
        """The step at which most bytes of the arena are alive, and how many.

        At the step that computes in place, operand and result are the same bytes.
        """
        arena = self._arena
        handed_over = {(s.offset, s.nbytes, s.end) for s in arena if s.start < s.end}
        change = [0] * (len(self.steps) + 2)
        for slot in arena:
            in_place = (slot.offset, slot.nbytes, slot.start) in handed_over
            change[slot.start + in_place] += slot.nbytes
            change[slot.end + 1] -= slot.nbytes
        alive, peak = 0, (0, 0)
        for step, delta in enumerate(change):
            alive += delta
            if alive > peak[1]:
                peak = (step, alive)
        return peak

    def __str__(self) -> str:
        """The plan as a table: one line a step, then the memory it needs."""
        names = value_names(self.graph)
        rows = [("step", "kernel", "operands", "result", "place", "type")]
        for number, step in enumerate(self.steps):
            node, slot = step.node, self.slots[step.output]
            attrs = ", ".join(f"{k}={print_attr(v)}" for k, v in node.attrs.items())
            place = slot.place.value
            if slot.offset is not None:
                place += f" {slot.offset}..{slot.offset + slot.nbytes}"
            if slot.inside is not None:
                place += f" in {names[self.slots[slot.inside].node]}"
            kernel = f"{node.op.name} {{{attrs}}}" if attrs else node.op.name
            operands = ", ".join(names[self.slots[i].node] for i in step.inputs)
            rows.append((str(number), kernel, operands, names[node], place, str(node.type)))
        widths = [min(max(map(len, column)), 44) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        step_number, peak = self.peak
        lines.append(
            f"arena {self.arena_bytes:,} bytes; without reuse {self.naive_bytes:,}; "
            f"peak {peak:,} alive at step {step_number}"
        )
        pairs = [pair for donation in self.donations for pair in donation.replaced]
        if pairs:
            nbytes = sum(self.slots[output].nbytes for output in {output for _, output in pairs})
            lines.append(
                f"in the place of {len(pairs)} inputs, where nobody else holds them: "
                f"{nbytes:,} bytes"
            )
        return "\n".join(lines)

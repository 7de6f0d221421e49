"""Plans: what they report about memory, and the table that they print."""

from itertools import pairwise
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from needle_ir import ops
from needle_ir.ir import Graph, Node, Place, Plan, Slot, Step, TensorType, aligned, input_node

F32 = np.dtype(np.float32)


def leaf(*shape: int, name: str | None = None) -> Node:
    return input_node(TensorType(shape, F32), name)


def arena_slot(nbytes: int, start: int, end: int, offset: int) -> Slot:
    return Slot(leaf(), Place.ARENA, nbytes, start, end, offset)


def plan_of(slots: list[Slot], steps: int) -> Plan:
    """A plan that runs nothing: its slots are all that counts here."""
    return Plan(Graph([], []), tuple(slots), (Step(leaf(), (), 0),) * steps, (), (), 0)


def bytes_alive(plan: Plan, step: int) -> int:
    """How many bytes of the arena are in use, byte by byte."""
    used: set[int] = set()
    for slot in plan.slots:
        if slot.place is Place.ARENA and slot.start <= step <= slot.end:
            assert slot.offset is not None
            used.update(range(slot.offset, slot.offset + slot.nbytes))
    return len(used)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Slots side by side; each is a chain of values, one computed in the place of the other."""
    steps = draw(st.integers(1, 8))
    slots, offset = [], 0
    for _ in range(draw(st.integers(0, 6))):
        nbytes = draw(st.integers(0, 40))
        cuts = sorted(draw(st.lists(st.integers(0, steps), min_size=2, max_size=4, unique=True)))
        for start, end in pairwise(cuts):
            slots.append(arena_slot(nbytes, start, end, offset))
        offset += nbytes
    slots += [
        Slot(leaf(), place, 1000, 0, steps)
        for place in draw(st.lists(st.sampled_from(Place).filter(lambda p: p is not Place.ARENA)))
    ]
    return plan_of(draw(st.permutations(slots)), steps)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(plans())
def test_the_peak_by_brute_force(plan: Plan) -> None:
    alive = [bytes_alive(plan, step) for step in range(len(plan.steps) + 1)]
    step, peak = plan.peak
    assert peak == max(alive)
    assert alive[step] == peak
    assert alive.index(peak) == step


@settings(max_examples=100, derandomize=True, deadline=None)
@given(plans())
def test_who_is_alive(plan: Plan) -> None:
    arena = [slot for slot in plan.slots if slot.place is Place.ARENA]
    for step in range(len(plan.steps) + 1):
        alive = plan.alive_at(step)
        assert alive == [slot for slot in arena if step in range(slot.start, slot.end + 1)]


def test_without_reuse_every_value_has_its_own_aligned_memory() -> None:
    sizes = [0, 1, 64, 65, 128]
    slots = [arena_slot(nbytes, 0, 1, 0) for nbytes in sizes]
    slots += [Slot(leaf(), place, 500, 0, 1) for place in Place if place is not Place.ARENA]
    assert plan_of(slots, 1).naive_bytes == 64 + 64 + 64 + 128 + 128


@pytest.mark.parametrize(
    ("nbytes", "expected"), [(0, 64), (1, 64), (63, 64), (64, 64), (65, 128), (1000, 1024)]
)
def test_memory_comes_in_cache_lines(nbytes: int, expected: int) -> None:
    assert aligned(nbytes) == expected


def test_an_empty_plan() -> None:
    plan = plan_of([], 0)
    assert plan.peak == (0, 0)
    assert plan.naive_bytes == 0
    assert plan.alive_at(0) == []


# The table ----------------------------------------------------------------------------------------


def small_plan() -> Plan:
    """tanh(exp(x)) in place, its sum over the rows of its transpose, and a constant."""
    x = leaf(2, 3, name="x")
    two = ops.as_constant(2.0)
    e = ops.exp(x)
    t = ops.tanh(e)
    v = ops.permute(t)
    s = ops.sum(v, 0)
    y = s * two

    def slot(node: Node, place: Place, start: int, end: int, offset: Any = None) -> Slot:
        return Slot(node, place, node.type.nbytes, start, end, offset)

    slots = (
        slot(x, Place.INPUT, 0, 0),
        slot(two, Place.CONSTANT, 0, 4),
        slot(e, Place.ARENA, 0, 1, 0),
        slot(t, Place.ARENA, 1, 3, 0),
        slot(v, Place.VIEW, 2, 3),
        slot(s, Place.ARENA, 3, 4, 64),
        slot(y, Place.OUTPUT, 4, 5),
    )
    steps = (
        Step(e, (0,), 2),
        Step(t, (2,), 3),
        Step(v, (3,), 4),
        Step(s, (4,), 5),
        Step(y, (5, 1), 6),
    )
    return Plan(Graph([x], [y]), slots, steps, (0,), (6,), 128)


def test_the_table() -> None:
    expected = """
        step  kernel                           operands  result  place         type
        0     exp                              %x        %0      arena 0..24   f32[2,3]
        1     tanh                             %0        %1      arena 0..24   f32[2,3]
        2     transpose {permutation=[1, 0]}   %1        %2      view          f32[3,2]
        3     sum {axes=[0], keepdims=false}   %2        %3      arena 64..72  f32[2]
        4     multiply                         %3, %4    %5      output        f32[2]
        arena 128 bytes; without reuse 192; peak 32 alive at step 3
    """
    lines = dedent(expected).strip().splitlines()
    assert [line.split() for line in str(small_plan()).splitlines()] == [x.split() for x in lines]


def test_the_columns_of_the_table_line_up() -> None:
    *rows, _ = str(small_plan()).splitlines()
    for heading in ["kernel", "operands", "result", "place", "type"]:
        column = rows[0].index(heading)
        assert all(row[column - 2 : column] == "  " and row[column] != " " for row in rows)


def test_no_wide_cell_pushes_the_others_out() -> None:
    """A column grows to 44 characters; one longer kernel does not widen it for all."""
    x = leaf(*[2] * 12, name="x")
    y = ops.permute(ops.exp(x), range(11, -1, -1))
    slots = (Slot(x, Place.INPUT, 0, 0, 0), Slot(y, Place.OUTPUT, 0, 0, 1))
    plan = Plan(Graph([x], [y]), slots, (Step(y, (0,), 1),), (0,), (1,), 0)
    heading, row, _ = str(plan).splitlines()
    assert heading.index("operands") == len("step  ") + 44 + 2
    assert "{permutation=[11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]}  %x" in row

"""Memory planning, held to a checker that works out lifetimes on its own."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings

from needle_ir import ops
from needle_ir.ir import CONSTANT, INPUT, Graph, Node, Place, Plan, Slot
from needle_ir.passes import make_plan, plan_memory, schedule
from needle_ir.runtime import Executor, interpret
from tests.passes.arena_checker import problems
from tests.passes.graph_text import arg
from tests.passes.random_graphs import Sample, assert_close, samples, tolerance
from tests.passes.training_step import optimized, training_step


def slot_of(plan: Plan, node: Node) -> Slot:
    (slot,) = [slot for slot in plan.slots if slot.node is node]
    return slot


# Sound plans --------------------------------------------------------------------------------------


@settings(max_examples=150, derandomize=True, deadline=None)
@given(samples())
def test_any_graph(sample: Sample) -> None:
    for pipeline in ("autodiff, lower", None):
        graph = optimized(sample.graph, pipeline)
        plan = make_plan(graph)
        assert problems(plan) == []
        assert plan.arena_bytes <= plan.naive_bytes
        assert plan.peak[1] <= plan.arena_bytes


@pytest.mark.parametrize("pipeline", ["autodiff, lower", None])
def test_a_training_step(pipeline: str | None) -> None:
    graph, arrays = training_step()
    graph = optimized(graph, pipeline)
    plan = make_plan(graph)
    assert problems(plan) == []
    assert plan.arena_bytes < plan.naive_bytes / 3
    executor = Executor(plan)
    for _ in range(2):  # the second run finds the first one's numbers in the arena
        assert_close(executor(arrays), interpret(graph, arrays), tolerance(graph))


def test_the_order_given_is_the_order_of_the_steps() -> None:
    graph = optimized(training_step()[0], "autodiff, lower")
    order = tuple(node for node in graph.nodes if node.op not in (INPUT, CONSTANT))
    assert order != schedule(graph)
    plan = plan_memory(graph, order)
    assert tuple(step.node for step in plan.steps) == order
    assert problems(plan) == []


def test_an_elementwise_chain_runs_in_one_place() -> None:
    x = arg("x", 100)
    y = ops.exp(ops.tanh(ops.exp(ops.tanh(x))) + 1.0)
    plan = make_plan(Graph([x], [ops.sum(y)]))
    assert problems(plan) == []
    assert plan.arena_bytes == 448  # 400 bytes, rounded up to whole lines of 64


def test_a_freed_place_is_used_again() -> None:
    x = arg("x", 10, 10)
    graph = Graph([x], [x @ x @ x @ x @ x @ x])
    plan = make_plan(graph)
    assert problems(plan) == []
    assert plan.naive_bytes == 4 * 448
    assert plan.arena_bytes == 2 * 448


# Values by name with their size in lines of 64 bytes; `-a` is the last use of a. Then the lines
# where they begin, and the size of the arena in lines.
ALLOCATIONS = {
    "one after the other": ("a1 b2 -a -b", {"a": 0, "b": 1}, 3),
    "a freed block is used again": ("a2 -a b2 -b", {"a": 0, "b": 0}, 2),
    "a larger block is split": ("a4 -a b1 c2 -b -c", {"a": 0, "b": 0, "c": 1}, 4),
    "the rest of a split block is free": ("a3 -a b1 c1 d1 -b -c -d", {"b": 0, "c": 1, "d": 2}, 3),
    "the smallest block that fits": ("a4 b1 c1 d1 -a -c e1 f4 -b -d -e -f", {"e": 5, "f": 0}, 7),
    "free neighbours join, left then right": ("a1 b1 c1 -a -b d2 -c -d", {"d": 0}, 3),
    "free neighbours join, right then left": ("a1 b1 c1 -b -a d2 -c -d", {"d": 0}, 3),
    "both neighbours join": ("a1 b1 c1 d1 -a -c -b e3 -d -e", {"e": 0}, 4),
    "the last block grows": ("a1 b1 -b c3 -a -c", {"c": 1}, 4),
    "a block in the middle does not grow": ("a1 b1 -a c2 -b -c", {"c": 2}, 4),
}


@pytest.mark.parametrize(
    ("program", "begins", "lines"), ALLOCATIONS.values(), ids=list(ALLOCATIONS)
)
def test_where_values_go(program: str, begins: dict[str, int], lines: int) -> None:
    inputs, values, outputs, order = [], {}, [], []
    for word in program.split():
        if word[0] == "-":
            outputs.append(ops.sum(values[word[1]]))
            order.append(outputs[-1])
        else:
            inputs.append(arg(word, 2, 16 * int(word[1])))
            order.append(ops.sum(inputs[-1], 0))
            values[word[0]] = order[-1]
    plan = plan_memory(Graph(inputs, outputs), tuple(order))
    assert problems(plan) == []
    assert {name: slot_of(plan, values[name]).offset for name in begins} == {
        name: 64 * line for name, line in begins.items()
    }
    assert plan.arena_bytes == 64 * lines


def test_an_operand_that_is_needed_later_keeps_its_place() -> None:
    x = arg("x", 100)
    a = ops.exp(x)
    b = ops.tanh(a)
    plan = make_plan(Graph([x], [ops.sum(b) + ops.sum(a)]))
    assert problems(plan) == []
    assert slot_of(plan, a).offset != slot_of(plan, b).offset


NOT_IN_PLACE: dict[str, Callable[[Node], Node]] = {
    "a matrix product": lambda a: a @ a,
    "a transposed operand beside it": lambda a: a + ops.permute(a),
    "another dtype of that width": lambda a: ops.cast(a, np.int32),
    "a result that is larger": lambda a: a + ops.reshape(a, (4, 1, 4)),
    "a reduction of the same type": lambda a: ops.sum(ops.reshape(a, (1, 4, 4)), 0),
}


@pytest.mark.parametrize("expression", NOT_IN_PLACE.values(), ids=list(NOT_IN_PLACE))
def test_not_in_place(expression: Callable[[Node], Node]) -> None:
    x = arg("x", 4, 4)
    a = ops.exp(x)
    b = expression(a)
    plan = make_plan(Graph([x], [ops.sum(b)]))
    assert problems(plan) == []
    assert slot_of(plan, a).offset != slot_of(plan, b).offset


def test_in_place_of_either_operand() -> None:
    x, y = arg("x", 100), arg("y", 100)
    for expression in (lambda a, y: a - y, lambda a, y: y - a):
        a = ops.exp(x)
        b = expression(a, y)
        plan = make_plan(Graph([x, y], [ops.sum(b)]))
        assert problems(plan) == []
        assert slot_of(plan, a).offset == slot_of(plan, b).offset


def test_what_the_caller_gets_is_not_in_the_arena() -> None:
    x = arg("x", 2, 3)
    a = ops.exp(x)
    outputs = [a, ops.permute(a), ops.reshape(a, (6,)), x, ops.as_constant([1.0]), a]
    plan = make_plan(Graph([x], outputs))
    assert problems(plan) == []
    places = [plan.slots[i].place for i in plan.outputs]
    assert places == [
        Place.OUTPUT,
        Place.OUTPUT,
        Place.OUTPUT,
        Place.INPUT,
        Place.CONSTANT,
        Place.OUTPUT,
    ]
    assert plan.arena_bytes == 0


def test_a_reshape_of_a_transpose_is_copied() -> None:
    x = arg("x", 2, 3)
    turned = ops.permute(ops.exp(x))
    flat = ops.reshape(turned, (6,))
    again = ops.reshape(flat, (2, 3))
    plan = make_plan(Graph([x], [again * 2.0]))
    assert problems(plan) == []
    assert slot_of(plan, turned).place is Place.VIEW
    assert slot_of(plan, flat).place is Place.ARENA
    assert slot_of(plan, again).place is Place.VIEW


def test_unused_nodes_have_a_place_for_their_step_only() -> None:
    x = arg("x", 100)
    graph = Graph([x], [ops.sum(x)], unused=[ops.exp(x), ops.tanh(x), ops.sqrt(x)])
    plan = make_plan(graph)
    assert problems(plan) == []
    assert plan.arena_bytes == 448


def test_empty_arrays_have_places_too() -> None:
    x = arg("x", 0, 3)
    plan = make_plan(Graph([x], [ops.sum(ops.exp(ops.tanh(x)), 0)]))
    assert problems(plan) == []


def test_the_table_names_the_bytes() -> None:
    x = arg("x", 10, 10)
    table = str(make_plan(Graph([x], [x @ x @ x])))
    assert "arena 0..400" in table
    assert "arena 448 bytes; without reuse 448" in table


# Plans that are broken on purpose: the checker has to find the fault ------------------------------


def sound() -> Plan:
    """A plan with all there is: views, values in place, effects, constants, several lifetimes."""
    x, w = arg("x", 8, 8), arg("w", 8, 8)
    draws = [ops.random_uniform((8, 8), 0.0, 1.0, np.float32) for _ in range(2)]
    a = ops.exp(x @ w + draws[0])
    b = ops.permute(a) @ w
    c = ops.reshape(ops.permute(b), (64,))
    d = ops.tanh(c) * 2.0
    outputs = [ops.sum(d) + ops.sum(a), ops.reshape(d, (8, 8)) @ draws[1]]
    return make_plan(Graph([x, w], outputs, effects=draws))


def changed(plan: Plan, number: int, **fields: object) -> Plan:
    """`plan` with one slot changed."""
    slots = list(plan.slots)
    slots[number] = replace(slots[number], **fields)  # type: ignore[arg-type]
    return replace(plan, slots=tuple(slots))


def arena(plan: Plan) -> list[int]:
    return [i for i, slot in enumerate(plan.slots) if slot.place is Place.ARENA]


def last_of(plan: Plan, op_name: str) -> int:
    return [i for i, slot in enumerate(plan.slots) if slot.node.op.name == op_name][-1]


def test_the_sound_plan_has_no_problem() -> None:
    plan = sound()
    assert problems(plan) == []
    assert {slot.place for slot in plan.slots} == set(Place) - {Place.HANDED_BACK}
    assert len(arena(plan)) > 6


def test_every_planted_overlap_is_found() -> None:
    # Any value moved onto any other that is alive together with it, also by its last line only.
    plan = replace(sound(), arena_bytes=10**6)
    planted = 0
    for i, j in permutations(arena(plan), 2):
        a, b = plan.slots[i], plan.slots[j]
        if max(a.start, b.start) >= min(a.end, b.end):
            continue
        assert b.offset is not None
        for offset in {b.offset, b.offset + max(0, b.nbytes - 64)}:
            found = problems(changed(plan, i, offset=offset))
            assert any("both alive" in problem for problem in found), (i, j, offset)
            planted += 1
    assert planted > 20


def test_in_place_by_an_op_that_is_not_elementwise_is_found() -> None:
    x = arg("x", 8, 8)
    a = ops.exp(x)
    b = a @ a
    plan = make_plan(Graph([x], [ops.sum(b)]))
    moved = changed(plan, plan.slots.index(slot_of(plan, b)), offset=slot_of(plan, a).offset)
    assert problems(moved) == ["step 1 overwrites its operand in slot 1 while it reads it"]


def test_in_place_beside_a_view_of_the_operand_is_found() -> None:
    x = arg("x", 8, 8)
    a = ops.exp(x)
    b = a + ops.permute(a)
    plan = make_plan(Graph([x], [ops.sum(b)]))
    moved = changed(plan, plan.slots.index(slot_of(plan, b)), offset=slot_of(plan, a).offset)
    assert problems(moved) == ["step 2 overwrites its operand in slot 1 while it reads it"]


def test_in_place_a_line_further_is_found() -> None:
    x = arg("x", 32)
    a = ops.exp(x)
    b = ops.tanh(a)
    plan = make_plan(Graph([x], [ops.sum(b)]))
    moved = changed(plan, plan.slots.index(slot_of(plan, b)), offset=64)
    assert "step 1 overwrites its operand in slot 1 while it reads it" in problems(
        replace(moved, arena_bytes=192)
    )


FAULTS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "arena too small": (lambda p: replace(p, arena_bytes=64), "lies outside of the arena"),
    "before the arena": (lambda p: changed(p, arena(p)[0], offset=-64), "outside of the arena"),
    "not aligned": (lambda p: changed(p, arena(p)[0], offset=4), "is not aligned"),
    "too few bytes": (lambda p: changed(p, arena(p)[0], nbytes=4), "has 4 bytes for"),
    "said to live too short": (lambda p: changed(p, arena(p)[0], end=0), "is said to live from"),
    "said to start late": (lambda p: changed(p, arena(p)[0], start=99), "is said to live from"),
    "no offset": (lambda p: changed(p, arena(p)[0], offset=None), "an offset and no place"),
    "output said to go": (lambda p: changed(p, p.outputs[0], end=3), "is not kept for the caller"),
    "output in the arena": (
        lambda p: changed(p, p.outputs[0], place=Place.ARENA, offset=0),
        "would be overwritten by the next run",
    ),
    "output is a view": (
        lambda p: changed(p, p.outputs[0], place=Place.VIEW),
        "would be overwritten by the next run",
    ),
    "input in the arena": (
        lambda p: changed(p, p.inputs[0], place=Place.ARENA, offset=0, end=99),
        "is a leaf in the place arena",
    ),
    "constant handed in": (
        lambda p: changed(p, last_of(p, "constant"), place=Place.INPUT),
        "is a leaf in the place input",
    ),
    "computed value given": (
        lambda p: changed(p, arena(p)[0], place=Place.CONSTANT, offset=None),
        "is computed and has the place constant",
    ),
    "a strided reshape is no view": (
        lambda p: changed(p, _copied_reshape(p), place=Place.VIEW, offset=None),
        "looks at strided memory as if it were contiguous",
    ),
    "a product is no view": (
        lambda p: changed(p, last_of(p, "tanh"), place=Place.VIEW, offset=None),
        "computes something and has the place of a view",
    ),
    "steps out of order": (
        lambda p: replace(p, steps=p.steps[::-1]),
        "reads what is not written yet",
    ),
    "effects out of order": (lambda p: _swapped_effects(p), "the effects are out of order"),
    "a step too few": (lambda p: replace(p, steps=p.steps[1:]), "the steps are not the graph's"),
    "a step twice": (
        lambda p: replace(p, steps=(*p.steps, p.steps[-1])),
        "writes a slot for the second time",
    ),
    "outputs exchanged": (lambda p: replace(p, outputs=p.outputs[::-1]), "the outputs are not"),
    "inputs exchanged": (lambda p: replace(p, inputs=p.inputs[::-1]), "the inputs are not"),
    "operands exchanged": (lambda p: _swapped_operands(p), "does not read its node's operands"),
    "a slot too few": (
        lambda p: replace(p, slots=(*p.slots[:-1], p.slots[0])),
        "the slots are not those",
    ),
}


def _copied_reshape(plan: Plan) -> int:
    (number,) = [i for i in arena(plan) if plan.slots[i].node.op.name == "reshape"]
    return number


def _swapped_effects(plan: Plan) -> Plan:
    i, j = [n for n, step in enumerate(plan.steps) if step.node.op.name == "random_uniform"]
    steps = list(plan.steps)
    steps[i], steps[j] = steps[j], steps[i]
    return replace(plan, steps=tuple(steps))


def _swapped_operands(plan: Plan) -> Plan:
    (first, *_) = [n for n, step in enumerate(plan.steps) if step.node.op.name == "matmul"]
    steps = list(plan.steps)
    steps[first] = replace(steps[first], inputs=steps[first].inputs[::-1])
    return replace(plan, steps=tuple(steps))


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=list(FAULTS))
def test_a_planted_fault_is_found(fault: Callable[[Plan], Plan], message: str) -> None:
    assert any(message in problem for problem in problems(fault(sound())))


# Packed in place, and shared out ------------------------------------------------------------------


def _packed(more: Callable[[list[Node], Node], list[Node]]) -> Plan:
    x = arg("x", 6)
    parts = [ops.exp(x), ops.tanh(x), ops.sqrt(x)]
    whole = ops.pack(*parts)
    plan = make_plan(Graph([x], more(parts, whole)))
    assert problems(plan) == []
    return plan


def _in_place(plan: Plan) -> tuple[bool, ...]:
    (step,) = [step for step in plan.steps if step.node.op.name == "pack"]
    return plan.in_place(step)


PACKED: dict[str, tuple[Callable[[list[Node], Node], list[Node]], tuple[bool, ...]]] = {
    "read no more": (lambda parts, whole: [ops.sum(whole)], (True, True, True)),
    "read later": (
        lambda parts, whole: [ops.sum(-whole) * parts[1]],
        (True, True, True),
    ),
    "beside a part": (
        lambda parts, whole: [ops.sum(ops.unpack(-whole, 6, (6,)) + parts[1])],
        (True, True, True),
    ),
    "an output": (lambda parts, whole: [whole], (True, True, True)),
    "parts are outputs": (lambda parts, whole: [parts[2], ops.sum(whole)], (True, True, True)),
    "an output as its parts are": (lambda parts, whole: [parts[2], whole], (True, True, False)),
    "shared out": (
        lambda parts, whole: [ops.unpack(whole, 6, (2, 6)), ops.unpack(whole, 0, (6,))],
        (True, True, True),
    ),
    "shared out in part": (
        lambda parts, whole: [ops.unpack(whole, 6, (6,)), ops.unpack(whole, 0, (6,))],
        (True, True, True),
    ),
    "shared out twice": (
        lambda parts, whole: [ops.unpack(whole, 0, (18,)), ops.unpack(whole, 6, (6,))],
        (True, True, True),
    ),
}


@pytest.mark.parametrize(("more", "expected"), PACKED.values(), ids=list(PACKED))
def test_packed_in_place(
    more: Callable[[list[Node], Node], list[Node]], expected: tuple[bool, ...]
) -> None:
    plan = _packed(more)
    assert _in_place(plan) == expected
    arrays = [np.arange(6, dtype=np.float32)]
    run = Executor(plan)
    results = run(arrays)
    run([arrays[0] + 1])
    for a, b in zip(results, interpret(plan.graph, arrays), strict=True):
        np.testing.assert_array_equal(a, b)
    for i, a in enumerate(results):
        assert not any(np.shares_memory(a, b) for b in results[:i])
        a[...] = 0  # the caller's own


def test_a_part_is_packed_in_place_once() -> None:
    x = arg("x", 6)
    part = ops.exp(x)
    plan = make_plan(Graph([x], [ops.sum(ops.pack(part, part)) + ops.sum(ops.pack(x, part, x))]))
    assert problems(plan) == []
    flags = [plan.in_place(step) for step in plan.steps if step.node.op.name == "pack"]
    assert sorted(flags) == [(False, False, False), (True, False)]
    a = np.arange(6, dtype=np.float32)
    (result,) = Executor(plan)([a])
    assert result == interpret(plan.graph, [a])[0]


def test_what_outputs_share_out_is_allocated_once() -> None:
    plan = _packed(PACKED["shared out"][0])
    assert [plan.slots[i].place for i in plan.outputs] == [Place.VIEW, Place.VIEW]
    assert Executor(plan).source.count("= new") == 1
    for case in ("shared out in part", "shared out twice"):
        plan = _packed(PACKED[case][0])
        assert [plan.slots[i].place for i in plan.outputs] == [Place.OUTPUT, Place.OUTPUT]


PACKED_FAULTS: dict[str, tuple[str, Callable[[Plan, int, int], Plan], str]] = {
    "in another place": (
        "read no more",
        lambda p, part, whole: changed(p, part, offset=(p.slots[part].offset or 0) + 4),
        "is not where slot",
    ),
    "in an array that is no pack": (
        "read later",
        lambda p, part, whole: changed(p, part, inside=p.outputs[0]),
        "is not where slot",
    ),
    "kept too short": (
        "read later",
        lambda p, part, whole: changed(p, whole, start=p.slots[whole].start + 1),
        "is said to live from",
    ),
    "a share that another output covers": (
        "shared out twice",
        lambda p, part, whole: replace(
            changed(p, whole, place=Place.OUTPUT, offset=None, end=len(p.steps)),
            slots=tuple(
                replace(s, place=Place.VIEW) if i in p.outputs else s for i, s in enumerate(p.slots)
            ),
        ),
        "share memory",
    ),
    "a view of the arena handed out": (
        "shared out in part",
        lambda p, part, whole: changed(p, p.outputs[0], place=Place.VIEW),
        "would be overwritten by the next run",
    ),
}


@pytest.mark.parametrize(
    ("case", "fault", "message"), PACKED_FAULTS.values(), ids=list(PACKED_FAULTS)
)
def test_a_planted_fault_in_packing_is_found(
    case: str, fault: Callable[[Plan, int, int], Plan], message: str
) -> None:
    plan = _packed(PACKED[case][0])
    part, whole = last_of(plan, "tanh"), last_of(plan, "pack")
    assert any(message in problem for problem in problems(fault(plan, part, whole)))


# Handed back --------------------------------------------------------------------------------------


def _parameters(count: int = 3, more: bool = False) -> Plan:
    """Parameters (6,) that are packed, updated, and handed out again."""
    params = [arg(f"p{i}", 6) for i in range(count)]
    new = ops.pack(*params) * 2.0
    outputs = ops.unpack_all(new, [(6,)] * count)
    return make_plan(Graph(params, [*outputs, *([ops.sum(new)] if more else [])]))


def test_parameters_that_come_back_need_no_arena() -> None:
    for plan in (_parameters(), _parameters(more=True)):
        assert problems(plan) == []
        (back,) = plan.handed_back
        assert plan.slots[back.packed].place is Place.HANDED_BACK
        assert [plan.slots[i].node for i in back.parts] == list(plan.graph.outputs[:3])
        assert plan.arena_bytes == 0


def test_what_is_not_handed_out_in_a_row_is_packed() -> None:
    params = [arg("a", 6), arg("b", 2, 3)]
    new = ops.pack(*params) * 2.0
    shapes: list[tuple[int, ...]] = [(6,), (2, 3)]
    for outputs in (
        ops.unpack_all(new, shapes[::-1]),  # the other way around
        ops.unpack_all(new, shapes)[:1],  # not all of them
        [new],
    ):
        plan = make_plan(Graph(params, outputs))
        assert problems(plan) == []
        assert plan.handed_back == ()


HANDED_BACK_FAULTS: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "parts in another order": (
        lambda p: replace(
            p, handed_back=(replace(p.handed_back[0], parts=p.handed_back[0].parts[::-1]),)
        ),
        "is not the next part",
    ),
    "not all parts": (
        lambda p: replace(
            p, handed_back=(replace(p.handed_back[0], parts=p.handed_back[0].parts[:2]),)
        ),
        "packs other types",
    ),
    "nobody hands it back": (lambda p: replace(p, handed_back=()), "nothing says by whom"),
    "handed out again": (
        lambda p: replace(p, outputs=(*p.outputs, p.handed_back[0].packed)),
        "would be overwritten",
    ),
}


@pytest.mark.parametrize(
    ("fault", "message"), HANDED_BACK_FAULTS.values(), ids=list(HANDED_BACK_FAULTS)
)
def test_a_planted_fault_in_what_is_handed_back_is_found(
    fault: Callable[[Plan], Plan], message: str
) -> None:
    assert any(message in problem for problem in problems(fault(_parameters())))

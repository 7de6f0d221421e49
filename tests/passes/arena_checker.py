"""A checker for memory plans that trusts nothing the planner says about lifetimes.

It works out from the steps alone when each value is written and last read, through views too, and
then looks for values that share bytes while both are needed.
"""

from itertools import combinations

from needle_ir.ir import CONSTANT, INPUT, Place, Plan, Trait

GIVEN = (Place.INPUT, Place.CONSTANT)


def problems(plan: Plan) -> list[str]:
    """What is wrong with `plan`, in words; nothing where it is sound."""
    return [*_structure(plan), *_places(plan), *_layout(plan), *_lifetimes(plan)]


def _structure(plan: Plan) -> list[str]:
    """Every node of the graph has one slot, and one step if it computes something."""
    found = []
    slots, graph = plan.slots, plan.graph
    if {slot.node for slot in slots} != set(graph.nodes) or len(slots) != len(graph.nodes):
        found.append("the slots are not those of the graph's nodes")
    computed = [node for node in graph.nodes if node.op not in (INPUT, CONSTANT)]
    if sorted(map(id, computed)) != sorted(id(step.node) for step in plan.steps):
        found.append("the steps are not the graph's nodes, each once")
    written = {i for i, slot in enumerate(slots) if slot.place in GIVEN}
    for number, step in enumerate(plan.steps):
        if tuple(slots[i].node for i in step.inputs) != step.node.inputs:
            found.append(f"step {number} does not read its node's operands")
        if slots[step.output].node is not step.node:
            found.append(f"step {number} writes the slot of another node")
        if not written.issuperset(step.inputs):
            found.append(f"step {number} reads what is not written yet")
        if step.output in written:
            found.append(f"step {number} writes a slot for the second time, or one that is given")
        written.add(step.output)
    if tuple(step.node for step in plan.steps if step.node.op.has(Trait.EFFECT)) != graph.effects:
        found.append("the effects are out of order")
    if tuple(slots[i].node for i in plan.inputs) != graph.inputs:
        found.append("the inputs are not the graph's")
    if tuple(slots[i].node for i in plan.outputs) != graph.outputs:
        found.append("the outputs are not the graph's")
    return found


def _places(plan: Plan) -> list[str]:
    """Values lie inside of the arena, on its grid; what the caller gets lies outside."""
    found = []
    for number, slot in enumerate(plan.slots):
        leaf = {INPUT: Place.INPUT, CONSTANT: Place.CONSTANT}.get(slot.node.op)
        if slot.nbytes != slot.node.type.nbytes:
            found.append(f"slot {number} has {slot.nbytes} bytes for {slot.node.type}")
        if leaf is not None and slot.place is not leaf:
            found.append(f"slot {number} is a leaf in the place {slot.place.value}")
        if leaf is None and slot.place in GIVEN:
            found.append(f"slot {number} is computed and has the place {slot.place.value}")
        if (slot.place is Place.ARENA or slot.inside is not None) != (slot.offset is not None):
            found.append(f"slot {number} has an offset and no place in the arena, or none in it")
        elif slot.place is Place.ARENA and slot.offset is not None:
            if slot.offset < 0 or slot.offset + slot.nbytes > plan.arena_bytes:
                found.append(f"slot {number} lies outside of the arena")
            if slot.offset % (slot.node.dtype.itemsize if slot.inside is not None else 64):
                found.append(f"slot {number} is not aligned")
        if slot.inside is not None and not _is_part(plan, number, slot.inside):
            found.append(f"slot {number} is not where slot {slot.inside} packs it")
    return [*found, *_handed_out(plan), *_handed_back(plan)]


def _is_part(plan: Plan, number: int, whole: int) -> bool:
    """Whether the slot holds an operand of a pack, at that operand's place in the result."""
    part, result = plan.slots[number], plan.slots[whole]
    if result.node.op.name != "pack" or result.place is not part.place or result.inside is not None:
        return False
    position = result.offset or 0
    places = []
    for operand in result.node.inputs:
        places.append((operand, position))
        position += operand.type.nbytes
    return (part.node, part.offset) in places


def _handed_out(plan: Plan) -> list[str]:
    """What the caller gets is allocated in this run, and no two outputs share a byte of it."""
    found = []
    steps = {step.output: step for step in plan.steps}
    taken: dict[int, list[tuple[int, int, int]]] = {}
    for number in dict.fromkeys(plan.outputs):
        slot = plan.slots[number]
        memory, start = number, 0
        if slot.place is Place.VIEW and slot.node.op.name == "unpack":
            memory = steps[number].inputs[0]
            start = slot.node.attrs["start"] * slot.node.dtype.itemsize
        elif slot.inside is not None:
            memory, start = slot.inside, slot.offset or 0
        if plan.slots[memory].place in (Place.ARENA, Place.VIEW, Place.HANDED_BACK):
            found.append(f"output {number} would be overwritten by the next run")
        for other, first, last in taken.setdefault(memory, []):
            if start < last and first < start + slot.nbytes:
                found.append(f"outputs {other} and {number} share memory")
        taken[memory].append((number, start, start + slot.nbytes))
    return found


def _handed_back(plan: Plan) -> list[str]:
    """A pack that is looked for has parts to be found: of the types of its operands, in a row."""
    found = []
    steps = {step.output: step for step in plan.steps}
    looked_for = [i for i, slot in enumerate(plan.slots) if slot.place is Place.HANDED_BACK]
    if sorted(looked_for) != sorted(back.packed for back in plan.handed_back):
        found.append("a slot is handed back, and nothing says by whom; or the other way around")
    for back in plan.handed_back:
        pack, parts = steps[back.packed], [steps[i] for i in back.parts]
        if any(plan.slots[i].place is not Place.INPUT for i in pack.inputs):
            found.append(f"slot {back.packed} packs what no caller gave")
        if [x.type for x in pack.node.inputs] != [x.node.type for x in parts]:
            found.append(f"slot {back.packed} packs other types than are handed out")
        position = parts[0].node.attrs["start"]
        for step in parts:
            if step.inputs != (back.whole,) or step.node.attrs["start"] != position:
                found.append(f"slot {step.output} is not the next part of slot {back.whole}")
            position += step.node.type.size
    return found


def _layout(plan: Plan) -> list[str]:
    """A view is made of a view op; one that keeps elements in a row needs them in a row."""
    found = []
    contiguous = dict.fromkeys(range(len(plan.slots)), True)
    for number, step in enumerate(plan.steps):
        if plan.slots[step.output].place is not Place.VIEW:
            continue
        if not step.node.op.has(Trait.VIEW):
            found.append(f"step {number} computes something and has the place of a view")
        dense = step.node.op.has(Trait.DENSE)
        if dense and not contiguous[step.inputs[0]]:
            found.append(f"step {number} looks at strided memory as if it were contiguous")
        contiguous[step.output] = dense
    return found


def _lifetimes(plan: Plan) -> list[str]:
    slots, found = plan.slots, []
    memory = {i: i for i in range(len(slots))}  # the slot whose bytes hold each slot's value
    writer: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, step in enumerate(plan.steps):
        if slots[step.output].place is Place.VIEW:
            memory[step.output] = memory[step.inputs[0]]
        else:
            writer[step.output] = last[step.output] = number
        for i in (*step.inputs, step.output):
            last[memory[i]] = number

    # An array that holds a part before it is packed is in use from then on.
    first, final = dict(writer), dict(last)
    for i, slot in enumerate(slots):
        if slot.inside is not None:
            first[slot.inside] = min(first[slot.inside], writer[i])
            final[slot.inside] = max(final[slot.inside], last[i])
    arena = [i for i in writer if slots[i].place is Place.ARENA and slots[i].offset is not None]
    for i in arena:
        if (slots[i].start, slots[i].end) != (first[i], final[i]):
            found.append(f"slot {i} is said to live from {slots[i].start} to {slots[i].end}")
    for i in {memory[i] for i in plan.outputs} & writer.keys():
        if (slots[i].start, slots[i].end) != (first[i], len(plan.steps)):
            found.append(f"output {i} is not kept for the caller")
    for a, b in combinations(sorted(arena, key=writer.__getitem__), 2):
        if not _share_bytes(plan, a, b) or writer[b] > last[a]:
            continue
        if slots[a].inside == b:
            continue  # the same bytes, in their place
        if writer[b] < last[a]:
            found.append(f"slots {a} and {b} share bytes at step {writer[b]}, both alive")
        elif not _in_place(plan, writer[b], a, memory):
            found.append(f"step {writer[b]} overwrites its operand in slot {a} while it reads it")
    return found


def _share_bytes(plan: Plan, a: int, b: int) -> bool:
    first, second = plan.slots[a], plan.slots[b]
    assert first.offset is not None
    assert second.offset is not None
    start = max(first.offset, second.offset)
    return start < min(first.offset + first.nbytes, second.offset + second.nbytes)


def _in_place(plan: Plan, number: int, operand: int, memory: dict[int, int]) -> bool:
    """Whether the step may write over `operand`: element by element, exactly on top of it."""
    step = plan.steps[number]
    old, new = plan.slots[operand], plan.slots[step.output]
    readers = [i for i in step.inputs if operand in (memory[i], plan.slots[memory[i]].inside)]
    return (
        (step.node.op.has(Trait.ELEMENTWISE) or step.node.op.name == "fused")
        and old.node.type == new.node.type
        and old.offset == new.offset
        and all(i == operand for i in readers)
    )

"""The plan as plain data: the steps, where every value lies and for how long."""

from typing import Any

from needle_ir.explanation.stages import Planning
from needle_ir.ir import Node, Place


def plan_data(planning: Planning, names: dict[Node, str]) -> dict[str, Any]:
    """The steps, and the slots: name, place, bytes, first and last step, offset, and the slot
    that they lie inside of. Offsets and steps are -1 where there are none.
    """
    plan = planning.plan
    step, peak = plan.peak
    numbers = {id(slot): number for number, slot in enumerate(plan.slots)}
    by_place = {
        place.value: sum(x.nbytes for x in plan.slots if x.place is place and x.inside is None)
        for place in (Place.INPUT, Place.CONSTANT, Place.OUTPUT)
    }
    return {
        "seconds": planning.seconds,
        "arena": plan.arena_bytes,
        "naive": plan.naive_bytes,
        "peak": peak,
        "peak_step": step,
        "alive": [numbers[id(slot)] for slot in plan.alive_at(step)],
        "places": by_place,
        "steps": [[names[step.node], step.output] for step in plan.steps],
        "slots": [
            [
                names[slot.node],
                slot.place.value,
                slot.nbytes,
                slot.start,
                slot.end,
                -1 if slot.offset is None else slot.offset,
                -1 if slot.inside is None else slot.inside,
            ]
            for slot in plan.slots
        ],
    }

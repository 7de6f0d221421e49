"""An explanation as JSON. The fields are part of the interface: docs/inspection.md lists them."""

import json
from collections.abc import Sequence
from typing import Any

from needle_ir.explanation.changes import Line
from needle_ir.explanation.stages import Planning, Stage
from needle_ir.ir import Origin

VERSION = 1


def as_json(
    pipeline: str,
    stages: Sequence[Stage],
    shown: Sequence[Stage],
    planning: Planning | None,
    rule: str | None,
    full: bool,
) -> str:
    """The stages, and the changes of those that are `shown`; with `full`, all their lines."""
    graph = stages[0].graph
    return json.dumps(
        {
            "version": VERSION,
            "graph": graph.name,
            "pipeline": pipeline,
            "stages": [_stage(x, x in shown, rule, full) for x in stages],
            "plan": None if planning is None else _plan(planning),
        },
        indent=2,
        ensure_ascii=False,
    )


def _stage(stage: Stage, shown: bool, rule: str | None, full: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "number": stage.number,
        "pass": stage.name,
        "text": stage.text,
        "seconds": stage.seconds,
        "nodes_before": len((stage.before or stage.graph).nodes),
        "nodes": len(stage.graph.nodes),
        "flops": stage.cost.flops,
        "bytes_moved": stage.cost.bytes_moved,
        "peak_bytes": stage.peak_bytes,
        "rules": dict(stage.rules),
    }
    if shown:
        hunks = [hunk for hunk in stage.hunks if rule is None or rule in hunk.rules]
        result["changes"] = [
            {"rules": dict(hunk.rules), "lines": [_line(line) for line in hunk.lines]}
            for hunk in hunks
        ]
        if full and stage.change is not None:
            result["lines"] = [_line(line) for line in stage.change.whole()]
    return result


def _line(line: Line) -> dict[str, Any]:
    return {
        "sign": line.kind.value,
        "value": line.name,
        "text": line.text,
        "op": line.node.op.name,
        "type": str(line.node.type),
        "source": None if line.origin is None else _source(line.origin),
    }


def _source(origin: Origin) -> dict[str, Any]:
    return {
        "file": origin.filename,
        "line": origin.line,
        "function": origin.code.co_name,
        "text": origin.text,
        "module": origin.module,
        "phase": origin.phase,
    }


def _plan(planning: Planning) -> dict[str, Any]:
    plan = planning.plan
    return {
        "seconds": planning.seconds,
        "steps": len(plan.steps),
        "arena_bytes": plan.arena_bytes,
        "naive_bytes": plan.naive_bytes,
        "peak_bytes": plan.peak[1],
    }

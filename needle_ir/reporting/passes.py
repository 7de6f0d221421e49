"""The stages of a pipeline as plain data: costs, rewrites, diffs, and who comes from whom."""

from collections import defaultdict, deque
from collections.abc import Hashable
from typing import Any

from needle_ir.explanation import Stage
from needle_ir.explanation.changes import Hunk, Kind, Line
from needle_ir.explanation.naming import Names
from needle_ir.ir import Node
from needle_ir.reporting.lineage import lineage
from needle_ir.reporting.sources import Sources
from needle_ir.reporting.values import Values
from needle_ir.viz import Change

_SIGNS = {Kind.SAME: 0, Kind.ADDED: 1, Kind.REMOVED: 2, Kind.REPLACED: 3}


def stage_data(stage: Stage, values: Values, sources: Sources) -> dict[str, Any]:
    """A stage: what the page shows of a pass, without its pictures."""
    result: dict[str, Any] = {
        "name": stage.name,
        "text": stage.text,
        "seconds": stage.seconds,
        "nodes": len(stage.graph.nodes),
        "flops": stage.cost.flops,
        "bytes": stage.cost.bytes_moved,
        "peak": stage.peak_bytes,
        "rules": dict(stage.rules.most_common()),
    }
    if stage.before is stage.graph:
        return result
    result |= {
        "rows": values.of_graph(stage.graph, stage.names),
        "inputs": [stage.names[node] for node in stage.graph.inputs],
        "outputs": [stage.names[node] for node in stage.graph.outputs],
        "effects": [stage.names[node] for node in stage.graph.effects],
    }
    if stage.change is not None:
        result |= {
            "hunks": [_hunk(hunk, stage, values, sources) for hunk in stage.hunks],
            "diff": [_line(line, stage, values) for line in stage.change.whole()],
            "from": lineage(stage),
        }
    return result


def drawn_change(stage: Stage) -> Change:
    """What the pass of a stage changed, for a picture: a value is the same where it kept its name
    and still does the same.
    """
    assert stage.before is not None
    assert stage.transition is not None
    # Equal constants share a name, which is their number: so there may be several nodes of a key.
    now: dict[Hashable, deque[Node]] = defaultdict(deque)
    for node in stage.graph.nodes:
        now[_identity(node, stage.transition.after)].append(node)
    known: dict[Node, Node] = {}
    for old in stage.before.nodes:
        found = now.get(_identity(old, stage.transition.before))
        if found:
            known[old] = found.popleft()
    return Change(stage.before, stage.graph, known)


def _identity(node: Node, names: Names) -> Hashable:
    return (names[node], node.op, node.attrs.key, node.type)


def _hunk(hunk: Hunk, stage: Stage, values: Values, sources: Sources) -> dict[str, Any]:
    origin = next(iter(hunk.origins), None)
    return {
        "rules": dict(hunk.rules),
        "place": sources.add(origin),
        "lines": [_line(line, stage, values) for line in hunk.lines],
    }


def _line(line: Line, stage: Stage, values: Values) -> list[Any]:
    """A line of a diff: a sign and a row, or which value stands for which now."""
    assert stage.transition is not None
    sign = _SIGNS[line.kind]
    if line.kind is Kind.REPLACED:
        return [sign, line.name, stage.transition.now(line.name)]
    old = line.kind is Kind.REMOVED
    return [sign, values.add(line.node, stage.transition.before if old else stage.names)]


def is_changed(stage: Stage) -> bool:
    """Whether there is a picture of a stage: of the first one, and of what changed something."""
    return stage.before is not stage.graph

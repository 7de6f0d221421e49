"""The report of an explanation: a table of the passes, then what each one changed."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from needle_ir.explanation.changes import Hunk, Kind, Line
from needle_ir.explanation.stages import Planning, Stage
from needle_ir.ir import Graph, Origin

# A pass that changes more lines than this is summed up by module, unless all is asked for.
_LONGEST_CHANGE = 60
_LONGEST_CELL = 64
_STYLES = {
    Kind.REMOVED: "red",
    Kind.REPLACED: "yellow",
    Kind.ADDED: "green",
    Kind.SAME: "",
}
_SOURCE = "cyan"
_HEADING = "bold"
_FAINT = "dim"
_COMMENT_COLUMN = 84
_UNITS = "kMGTPE"


class ReportLine(NamedTuple):
    """A line of the report, and its style on a terminal with colours."""

    plain: str
    style: str = ""


def report(
    stages: Sequence[Stage],
    shown: Sequence[Stage],
    planning: Planning | None,
    rule: str | None,
    full: bool,
) -> list[ReportLine]:
    """The table of `stages` and the changes of those that are `shown`."""
    lines = [ReportLine(_headline(stages)), ReportLine(""), *table(stages, planning)]
    for stage in shown:
        lines += changes(stage, rule, full)
    return lines


def _headline(stages: Sequence[Stage]) -> str:
    first, last = stages[0], stages[-1]
    seconds = sum(stage.seconds for stage in stages)
    return (
        f"@{first.graph.name}: {len(first.graph.nodes)} nodes recorded, {len(last.graph.nodes)} "
        f"after {len(stages) - 1} passes in {seconds * 1e3:.1f} ms"
    )


def table(stages: Sequence[Stage], planning: Planning | None) -> Iterator[ReportLine]:
    """The stages, a line each: time, nodes, costs, rules; then the plan."""
    rows = [("#", "pass", "ms", "nodes", "FLOPs", "bytes moved", "peak bytes", "rewrites")]
    for stage in stages:
        rows.append(
            (
                str(stage.number),
                stage.text,
                f"{stage.seconds * 1e3:.2f}" if stage.number else "",
                str(len(stage.graph.nodes)),
                amount(stage.cost.flops),
                amount(stage.cost.bytes_moved),
                amount(stage.peak_bytes),
                _cut(rewrites(stage)),
            )
        )
    if planning is not None:
        rows.append(("", "plan", f"{planning.seconds * 1e3:.2f}", "", "", "", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for i, row in enumerate(rows):
        cells = [
            f"{cell:<{width}}" if column in (1, len(row) - 1) else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ReportLine("  ".join(cells).rstrip(), "" if i else _HEADING)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def changes(stage: Stage, rule: str | None, full: bool) -> Iterator[ReportLine]:
    """What the pass of `stage` changed; with `rule`, what this rule did of it."""
    chosen = [hunk for hunk in stage.hunks if rule is None or rule in hunk.rules]
    if not chosen:
        return
    counts = Counter(line.kind for hunk in chosen for line in hunk.lines)
    summary = f"{counts[Kind.REMOVED]} gone, {counts[Kind.ADDED]} new"
    told = f"; {rewrites(stage)}" if stage.rules else ""
    yield ReportLine("")
    yield ReportLine(f"{stage.number}  {stage.text}: {summary}{told}", _HEADING)
    if full and rule is None:
        yield from _whole(stage)
        return
    alike = _alike(chosen)
    if not full and sum(len(hunks[0].lines) for hunks in alike) > _LONGEST_CHANGE:
        yield from _by_module(chosen)
        return
    for hunks in alike if not full else [[hunk] for hunk in chosen]:
        yield from _hunk(hunks[0])
        if len(hunks) > 1:
            places = "place" if len(hunks) == 2 else "places"
            yield ReportLine(
                f"     the same at {len(hunks) - 1} more {places}{_where(hunks[1:])}", _FAINT
            )


def rewrites(stage: Stage) -> str:
    """The rules that were applied and how often, those applied most first."""
    return ", ".join(f"{rule} ×{count}" for rule, count in stage.rules.most_common())


def amount(number: int) -> str:
    """A count in three digits with a unit: `12.3 M`."""
    if number < 1000:
        return str(number)
    thousands = min(int(math.log10(number * 1.0005)) // 3, len(_UNITS))
    return f"{number / 1000**thousands:.3g} {_UNITS[thousands - 1]}"


# One change ---------------------------------------------------------------------------------------


def _hunk(hunk: Hunk) -> Iterator[ReportLine]:
    origin = next(iter(hunk.origins), None)
    rules = ", ".join(f"{rule} ×{n}" if n > 1 else rule for rule, n in hunk.rules.items())
    heading = [part for part in (rules, _place(origin)) if part]
    if heading:
        yield ReportLine(f"   {', '.join(heading)}", _SOURCE)
    if origin is not None and origin.text:
        yield ReportLine(f"     | {origin.text}", _SOURCE)
    yield from _lines(hunk.lines, _place(origin))


def _whole(stage: Stage) -> Iterator[ReportLine]:
    assert stage.change is not None
    yield ReportLine(f"   {_signature(stage.graph, stage)}")
    yield from _lines(stage.change.whole(), "")
    returned = ", ".join(stage.names[node] for node in stage.graph.outputs)
    yield ReportLine(f"       return {returned}")


def _lines(lines: Iterable[Line], heading: str) -> Iterator[ReportLine]:
    """The lines, each with its place where that is not the one in the heading."""
    for line in lines:
        text = f"     {line.kind.value} {line.text}"
        place = _place(line.origin)
        if place and place != heading and line.kind is not Kind.REPLACED:
            text = f"{text:<{_COMMENT_COLUMN}}  # {place}"
        yield ReportLine(text, _STYLES[line.kind])


def _place(origin: Origin | None) -> str:
    if origin is None:
        return ""
    module = f", {origin.module}" if origin.module else ""
    phase = f", {origin.phase}" if origin.phase != "forward" else ""
    return f"{origin}{module}{phase}"


def _signature(graph: Graph, stage: Stage) -> str:
    inputs = ", ".join(f"{stage.names[node]}: {node.type}" for node in graph.inputs)
    return f"@{graph.name}({inputs})"


# Many changes -------------------------------------------------------------------------------------


def _alike(hunks: Iterable[Hunk]) -> list[list[Hunk]]:
    """Changes that are the same but for the names: at one line of the program, in several modules
    or in several turns of a loop.
    """
    groups: dict[object, list[Hunk]] = {}
    for hunk in hunks:
        origins = tuple((x.filename, x.line) for x in hunk.origins)
        ops = tuple((line.kind, line.node.op, line.node.attrs.keys()) for line in hunk.lines)
        key = (tuple(hunk.rules), origins[:1], tuple((kind, op) for kind, op, _ in ops))
        groups.setdefault(key, []).append(hunk)
    return [*groups.values()]


def _where(hunks: Iterable[Hunk]) -> str:
    modules = Counter(_pattern(hunk.origins[0].module) for hunk in hunks if hunk.origins)
    del modules[""]
    shown = ", ".join(f"{module} ×{n}" if n > 1 else module for module, n in modules.items())
    return f": {shown}" if shown else ""


def _by_module(hunks: Iterable[Hunk]) -> Iterator[ReportLine]:
    """A line for each module, modules of the same numbers and ops on one line."""
    gone: dict[str, Counter[str]] = {}
    came: dict[str, Counter[str]] = {}
    for hunk in hunks:
        for line in hunk.lines:
            module = line.origin.module if line.origin is not None else ""
            gone.setdefault(module, Counter())
            came.setdefault(module, Counter())
            if line.kind in (Kind.REMOVED, Kind.ADDED):
                (gone if line.kind is Kind.REMOVED else came)[module][line.node.op.name] += 1
    rows: dict[tuple[str, str, str], int] = {}
    for module in gone:
        row = (_pattern(module) or "(no module)", _ops(gone[module]), _ops(came[module]))
        rows[row] = rows.get(row, 0) + 1
    names = {row: f"{row[0]} ×{n}" if n > 1 else row[0] for row, n in rows.items()}
    yield ReportLine("   summed up by module; full shows every line", _FAINT)
    for row, name in names.items():
        yield ReportLine(f"     {name}")
        for sign, ops, style in (
            ("-", row[1], _STYLES[Kind.REMOVED]),
            ("+", row[2], _STYLES[Kind.ADDED]),
        ):
            if ops:
                yield ReportLine(f"       {sign} {ops}", style)


def _ops(counts: Counter[str]) -> str:
    """`12 add, 3 exp`, those that come up most first."""
    total = f"{counts.total()}: " if len(counts) > 1 else ""
    return total + ", ".join(f"{n} {op}" for op, n in counts.most_common())


def _pattern(module: str) -> str:
    """A module's path without its numbers: `blocks.*.norm1`."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", module)

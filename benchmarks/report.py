"""What was measured, as tables and as JSON."""

import datetime
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.contender import CONTENDERS
from benchmarks.cores import describe_machine, removed_variables
from benchmarks.measure import Comparison, Outcome, median_ratio
from benchmarks.tables import Table


def step_table(comparison: Comparison, reference: str) -> Table:
    """Contender by contender: a step, the first step from a cold process, and ratios.

    Ratios are medians over the rounds, with the quartiles in parentheses.
    """
    c = comparison.configuration
    cores = f"{comparison.cores} core{'s' if comparison.cores > 1 else ''}"
    load = "" if comparison.load is None else f", load average {comparison.load:g}"
    title = f"{c.name}: hidden {c.hidden}, {c.blocks} blocks, batch {c.batch}, {cores}{load}"
    beside = f"beside {CONTENDERS[reference].label}"
    columns = ("contender", "step, ms", beside, "first step, s", beside, "of it: import", "build",
               "first step")  # fmt: skip
    base = comparison.outcomes[reference]
    rows = [_step_row(outcome, base) for outcome in comparison.outcomes.values()]
    return Table(title, columns, tuple(rows))


def _in_one_line(reason: str) -> str:
    """The line of a message, or of a traceback, that names the error."""
    lines = reason.splitlines()
    return next(
        (x for x in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", x)), lines[-1]
    )


def _step_row(outcome: Outcome, base: Outcome) -> tuple[str, ...]:
    label = CONTENDERS[outcome.contender].label
    reason = _in_one_line(outcome.reason) if outcome.reason else ""
    if not outcome.first:
        return (label, "", "", reason, "", "", "", "")
    phases = [
        f"{statistics.median(x[name] for x in outcome.phases):.2f}" for name in outcome.phases[0]
    ]
    steps = f"{1e3 * statistics.median(outcome.steps):.2f}" if outcome.steps else reason
    return (
        label,
        steps,
        _ratio(outcome.steps, base.steps),
        f"{statistics.median(outcome.first):.2f}",
        _ratio(outcome.first, base.first),
        *phases,
    )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    if not ours or not theirs:
        return ""
    ratio = median_ratio(ours, theirs)
    if len(ours) != len(theirs) or len(ours) < 4:
        return f"{ratio:.2f}"
    low, _, high = statistics.quantiles([a / b for a, b in zip(ours, theirs, strict=True)], n=4)
    return f"{ratio:.2f} ({low:.2f}…{high:.2f})"


def fact_table(comparisons: Sequence[Comparison]) -> Table:
    """What each contender used: version, BLAS and its kernels, random generator."""
    names = ("version", "BLAS", "random numbers")
    rows: dict[tuple[str, ...], None] = {}
    for comparison in comparisons:
        for outcome in comparison.outcomes.values():
            if outcome.facts:
                label = CONTENDERS[outcome.contender].label
                rows[(label, *[outcome.facts[name] for name in names])] = None
    return Table("What was used", ("contender", *names), tuple(rows), left=4)


def memory_table(comparisons: Sequence[Comparison]) -> Table:
    """Bytes of a step: temporaries, what they would be without reuse, results in new memory."""
    names = ("temporaries", "without reuse", "new results")
    rows = [
        (
            comparison.name,
            CONTENDERS[outcome.contender].label,
            *[f"{outcome.memory[name]:,}" if name in outcome.memory else "" for name in names],
        )
        for comparison in comparisons
        for outcome in comparison.outcomes.values()
        if outcome.memory
    ]
    return Table("Bytes of a step", ("configuration", "contender", *names), tuple(rows), left=2)


def preface(removed: Sequence[str] | None = None) -> str:
    """Date, machine, and which variables were taken out of the environment: those that are given,
    or those that `environment` leaves out.
    """
    names = removed_variables() if removed is None else removed
    today = datetime.date.today().isoformat()
    listed = ", ".join(names) or "none were set"
    return f"{today}, {describe_machine()}. Variables that tune, removed: {listed}."


def as_json(comparisons: Sequence[Comparison], settings: Any) -> dict[str, Any]:
    """All that was measured."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": describe_machine(),
        "removed_variables": removed_variables(),
        "settings": asdict(settings),
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }

"""Measures needle_ir beside NumPy in under a minute and compares with baseline.json.

Fails where a ratio is worse than the stored one by more than a quarter, twice in a row.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # What is measured is this checkout, not a needle_ir that is installed.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.configurations import CONFIGURATIONS
from benchmarks.contender import CONTENDERS
from benchmarks.cores import describe_machine, environment, load_average, pick_cores, pin
from benchmarks.measure import Settings, compare, median_ratio
from benchmarks.processes import ROOT
from benchmarks.tables import Table, new_console, print_tables
from needle_ir.viz.atomic import write_text

BASELINE = Path(__file__).resolve().parent / "baseline.json"
WORSE = 1.25
# Many short turns: what else the machine does then falls on all contenders alike.
SETTINGS = Settings(rounds=40, turn_seconds=0.06, starts=1, limit=60.0)
IMPORTS = 13
RATIOS = {
    "jit": "default step, jit, over NumPy by hand",
    "recording": "what recording adds to it, over NumPy by hand",
    "import": "import needle_ir over import numpy",
}


class IncompleteError(Exception):
    """A contender did not run, so there is no ratio."""


def measure() -> dict[str, float]:
    """The ratios by the names in RATIOS. Raises IncompleteError."""
    contenders = [CONTENDERS[name] for name in ("numpy", "needle-jit", "needle-eager")]
    outcomes = compare(CONFIGURATIONS["default"], 1, contenders, SETTINGS).outcomes
    reasons = [outcome.reason for outcome in outcomes.values() if outcome.reason]
    if reasons:
        raise IncompleteError("\n".join(reasons))
    by_hand, jit, eager = (outcome.steps for outcome in outcomes.values())
    recording = [b - a for a, b in zip(jit, eager, strict=True)]
    pairs = [(import_seconds("needle_ir"), import_seconds("numpy")) for _ in range(IMPORTS)]
    imports = [[pair[i] for pair in pairs[1:]] for i in (0, 1)]
    ratios = (
        median_ratio(jit, by_hand),
        median_ratio(recording, by_hand),
        median_ratio(*imports),
    )
    return {name: round(ratio, 3) for name, ratio in zip(RATIOS, ratios, strict=True)}


def import_seconds(module: str) -> float:
    """How long a fresh interpreter takes to import `module`. The first call compiles bytecode."""
    code = (
        "from time import perf_counter\n"
        f"start = perf_counter()\nimport {module}\nprint(perf_counter() - start)"
    )
    with tempfile.TemporaryDirectory() as scratch:
        child = subprocess.run(
            [sys.executable, "-c", code],
            cwd=scratch,
            env=environment(1, ROOT, Path(scratch)),
            capture_output=True,
            text=True,
            timeout=60,
        )
    if child.returncode:
        raise IncompleteError(f"import {module} failed:\n{child.stderr}")
    return float(child.stdout)


def worsened(now: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """The names of the ratios that are worse than before by more than a quarter."""
    return [name for name, ratio in now.items() if ratio > WORSE * before[name]]


def best_of(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """The lower one of each ratio: what a machine does besides only makes them worse."""
    return {name: min(first[name], second[name]) for name in first}


def read_baseline(path: Path) -> dict[str, Any]:
    """The stored ratios, with date and machine. Raises ValueError where they are not those here."""
    baseline: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if set(baseline["ratios"]) != set(RATIOS):
        raise ValueError(f"{path} holds other ratios; make it anew with --write-baseline")
    return baseline


def write_baseline(machine: str, ratios: Mapping[str, float]) -> None:
    """Store the ratios, with today's date."""
    today = datetime.date.today().isoformat()
    content = {"date": today, "machine": machine, "ratios": ratios}
    write_text(BASELINE, json.dumps(content, indent=1) + "\n")


def table(now: Mapping[str, float], before: Mapping[str, float]) -> Table:
    """The ratios of now and before, and which are worse."""
    worse = worsened(now, before)
    rows = [
        (
            text,
            f"{now[name]:.2f}",
            f"{before[name]:.2f}",
            f"{now[name] / before[name] - 1:+.0%}",
            "worse" if name in worse else "",
        )
        for name, text in RATIOS.items()
    ]
    return Table("Ratios", ("what", "now", "baseline", "change", ""), tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code: 1 where a ratio is worse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write-baseline", action="store_true", help=f"store what is measured in {BASELINE.name}"
    )
    options = parser.parse_args(arguments)
    console = new_console()
    machine = describe_machine()
    pin(pick_cores(1))
    console.print(f"{machine}, load average {load_average()}")
    try:
        if options.write_baseline:
            write_baseline(machine, measure())
        baseline = read_baseline(BASELINE)
        if baseline["machine"] != machine:
            console.print(f"The baseline is from another machine: {baseline['machine']}.")
        before = baseline["ratios"]
        now = before if options.write_baseline else measure()
        if worsened(now, before):
            console.print(f"Worse at first: {', '.join(worsened(now, before))}. Once more.")
            now = best_of(now, measure())
    except (IncompleteError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print_tables([table(now, before)], console)
    if not worsened(now, before):
        return 0
    print(
        f"More than {WORSE - 1:.0%} worse than {baseline['date']}. Where this is meant: "
        f"python benchmarks/{Path(__file__).name} --write-baseline",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())

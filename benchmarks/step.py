"""Measures a training step of needle_ir beside PyTorch, JAX and NumPy by hand.

Every contender runs in a process of its own, on the same cores, without variables that tune BLAS,
and takes turns with the others. The medians and their ratios are printed.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # What is measured is this checkout, not a needle_ir that is installed.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.agreement import check_agreement
from benchmarks.configurations import CONFIGURATIONS, Configuration
from benchmarks.contender import CONTENDERS
from benchmarks.cores import usable_cores
from benchmarks.measure import Comparison, Settings, compare
from benchmarks.report import as_json, fact_table, memory_table, preface, step_table
from benchmarks.tables import markdown, new_console, print_tables, replace_section
from benchmarks.targets import target_table
from needle_ir.viz.atomic import write_text

ALL = (*CONFIGURATIONS, "default:2", "hidden-512:2", "hidden-1000:2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns its exit code: 1 where a contender failed or disagreed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    contenders = [CONTENDERS[name] for name in options.contenders]
    if options.reference not in options.contenders:
        parser.error(f"the reference {options.reference} is not one of the contenders")
    if options.python is not None and not Path(options.python).is_file():
        parser.error(f"there is no interpreter {options.python}")
    configurations = [c for name in options.config for c in (ALL if name == "all" else (name,))]
    runs = [_configuration(name) for name in dict.fromkeys(configurations)]
    if any(cores > len(usable_cores()) for _, cores in runs):
        parser.error(f"this process may use {len(usable_cores())} cores")
    settings = Settings(
        rounds=options.rounds,
        turn_seconds=options.turn_seconds,
        starts=options.starts,
        limit=options.limit,
        peer_python=options.python or sys.executable,
    )
    console = new_console()
    if options.check:
        with console.status("") as status:
            table, agrees = check_agreement(runs, contenders, settings, status.update)
        print_tables([table], console)
        return 0 if agrees else 1

    console.print(preface())
    comparisons: list[Comparison] = []
    for configuration, cores in runs:
        with console.status("") as status:
            comparisons.append(compare(configuration, cores, contenders, settings, status.update))
        print_tables([step_table(comparisons[-1], options.reference)], console)
    results = {comparison.name: comparison for comparison in comparisons}
    last = [fact_table(comparisons), memory_table(comparisons), target_table(results)]
    print_tables(last, console)
    if options.json is not None:
        write_text(options.json, json.dumps(as_json(comparisons, settings), indent=1) + "\n")
    if options.markdown is not None:
        tables = [step_table(comparison, options.reference) for comparison in comparisons]
        page = f"{preface()}\n\n{markdown([last[-1], *tables, *last[:-1]])}"
        replace_section(options.markdown, "step", page)
    return _report_failures(comparisons)


def _report_failures(comparisons: Sequence[Comparison]) -> int:
    failed = [
        (comparison.name, outcome.reason)
        for comparison in comparisons
        for outcome in comparison.outcomes.values()
        if outcome.failed
    ]
    for name, reason in failed:
        print(f"{name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _configuration(name: str) -> tuple[Configuration, int]:
    """A configuration and a number of cores from a text such as `default` or `default:2`."""
    named, _, cores = name.partition(":")
    return CONFIGURATIONS[named], int(cores or 1)


def _checked_configuration(name: str) -> str:
    named, colon, cores = name.partition(":")
    wrong_cores = colon and not (cores.isdecimal() and int(cores) > 0)
    if name != "all" and (named not in CONFIGURATIONS or wrong_cores):
        raise argparse.ArgumentTypeError(
            f"{name!r} is none of all, {', '.join(CONFIGURATIONS)}, nor one of these with a number "
            "of cores, such as default:2"
        )
    return name


def _positive(kind: type[int] | type[float]) -> object:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    read.__name__ = "positive number"  # what argparse calls it
    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    defaults = Settings()
    add(
        "--config",
        nargs="+",
        default=["default"],
        type=_checked_configuration,
        metavar="NAME[:CORES]",
        help=f"{', '.join(CONFIGURATIONS)}; on one core, or on CORES; or all (default: default)",
    )
    add(
        "--contenders",
        nargs="+",
        default=list(CONTENDERS),
        choices=list(CONTENDERS),
        metavar="NAME",
        help=f"any of {', '.join(CONTENDERS)} (default: all)",
    )
    add(
        "--reference",
        default="numpy",
        choices=list(CONTENDERS),
        metavar="NAME",
        help="the contender that ratios are taken to (default: numpy)",
    )
    add(
        "--python",
        metavar="PATH",
        help="the interpreter that has PyTorch and JAX (default: this one)",
    )
    numbers = (
        ("--rounds", int, defaults.rounds, "how often each contender takes a turn"),
        ("--turn-seconds", float, defaults.turn_seconds, "how long a turn is"),
        ("--starts", int, defaults.starts, "how often each contender is started"),
        ("--limit", float, defaults.limit, "seconds after which a contender is given up"),
    )
    for name, kind, default, text in numbers:
        add(name, type=_positive(kind), default=default, help=f"{text} (default: {default})")
    add("--check", action="store_true", help="compare the first losses instead, without dropout")
    add("--json", type=Path, metavar="FILE", help="write all that was measured to FILE")
    add(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="put the tables into FILE, between its lines `begin step` and `end step`",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

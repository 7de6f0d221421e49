"""Run passes on a graph in the text form, and print the graph that they make.

FILE.nir is what `print(graph)` shows (`graph.format(full=True)` where there are large constants),
or a .txt file of `dump_graphs`. `-` is stdin, so that commands can be chained:

    needle-ir opt -p "lower, simplify, cse" loss.nir
    needle-ir opt -p lower loss.nir --full-constants | needle-ir opt -p "cse, dce" - --verify-each

Without -p the graph is checked and printed. -p default runs the default pipeline.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from needle_ir.agreement import Reference, run_nodes, runnable
from needle_ir.cli import CommandError
from needle_ir.cli.graph_file import (
    add_input_arguments,
    add_load_argument,
    input_sets,
    load_composites,
    passes_of,
    read_graph,
)
from needle_ir.cli.output import print_plain
from needle_ir.ir import (
    Array,
    Graph,
    Instrument,
    OpError,
    Pass,
    VerificationError,
    inherit_origin,
)
from needle_ir.passes import Progress, Verify, run_pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `needle-ir opt`."""
    parser.add_argument("file", metavar="FILE.nir", help="the graph; - is stdin")
    parser.add_argument("-p", "--pipeline", default="", help="the passes, such as 'cse, dce'")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the graph there, not to stdout"
    )
    parser.add_argument(
        "--full-constants",
        action="store_true",
        help="print constants of more than 8 elements too, and whole paths in comments",
    )
    parser.add_argument(
        "--verify-each", action="store_true", help="check the graph after every pass"
    )
    parser.add_argument(
        "--print-after-change",
        action="store_true",
        help="print the graph to stderr after every pass that changed it",
    )
    parser.add_argument(
        "--numeric-check",
        action="store_true",
        help="run the graph after every pass; an error names the pass that changed the numbers",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random inputs and draws (default 0)"
    )
    add_input_arguments(parser)
    add_load_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Run the passes. Raises CommandError where one fails, or a check does."""
    passes = passes_of(options.pipeline)
    load_composites(options)
    graph, values = read_graph(options.file)
    progress = Progress(passes)
    instruments: list[Instrument] = [progress]
    if options.print_after_change:
        instruments.append(_PrintAfterChange(progress, options.full_constants))
    if options.verify_each:
        instruments.append(Verify())
    check = _NumericCheck(progress, options.seed)
    if options.numeric_check:
        check.sets = input_sets(graph, options, values)
        instruments.append(check)
    try:
        with inherit_origin(None):  # what a pass adds is of no line of this program
            result = run_pipeline(graph, passes, instruments)
    except CommandError:
        raise
    except VerificationError as error:  # it names the pass
        raise CommandError(str(error)) from None
    except OpError as error:
        raise CommandError(f"{progress}: {error}") from None
    except Exception as error:
        raise CommandError(f"{progress} failed\n{traceback.format_exc()}") from error
    if options.numeric_check:
        print(f"# numeric check: {check}", file=sys.stderr)
    text = result.format(full=options.full_constants)
    if options.output is None:
        print_plain(text)
        return 0
    try:
        Path(options.output).write_text(f"{text}\n", "utf-8")
    except OSError as error:
        raise CommandError(f"{options.output} can not be written: {error}") from None
    return 0


class _PrintAfterChange:
    """Prints to stderr, as mlir-opt does, so that stdout is a graph. The heads are comments."""

    def __init__(self, progress: Progress, full: bool):
        self._progress = progress
        self._full = full

    def start(self, graph: Graph) -> None:
        """Nothing has changed yet."""

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Print what the pass made."""
        if after is before:
            return
        nodes = f"{len(before.nodes)} -> {len(after.nodes)} nodes"
        head = f"# after {self._progress.last}: {1e3 * seconds:.2f} ms, {nodes}"
        print(f"{head}\n{after.format(full=self._full)}", file=sys.stderr)


class _NumericCheck:
    """Runs the graph after every pass that changed it, and compares with the first one."""

    def __init__(self, progress: Progress, seed: int):
        self.sets: list[list[Array]] = []
        self._progress = progress
        self._seed = seed
        self._references: list[Reference] = []
        self._changes = 0
        self._bits = True

    def start(self, graph: Graph) -> None:
        """Run the graph as it was read."""
        try:
            self._references = [Reference(graph, arrays, self._seed) for arrays in self.sets]
        except Exception as error:
            raise CommandError(
                "the graph fails on these inputs before any pass; --npz FILE gives others\n"
                f"    {type(error).__name__}: {error}"
            ) from error

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Raise CommandError where the numbers are others than those of the graph that was read."""
        if after is before:
            return
        self._changes += 1
        for reference in self._references:
            found = self._run(after, reference.arrays)
            differences = reference.differences(found)
            self._bits = self._bits and not differences
            wrong = [str(x) for x in differences if x.count]
            if wrong:
                shown = "\n    ".join(wrong)
                raise CommandError(
                    f"{self._progress.last}, changed the numbers\n    {shown}\n"
                    "needle-ir bisect names the rewrite"
                )

    def _run(self, graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
        try:
            return run_nodes(runnable(graph), arrays, self._seed)
        except Exception as error:
            raise CommandError(
                f"the graph fails after {self._progress.last}: {type(error).__name__}: {error}\n"
                "needle-ir bisect names the rewrite"
            ) from error

    def __str__(self) -> str:
        """What was found, where nothing was wrong."""
        same = "to the bit" if self._bits else "up to rounding"
        sets = "1 set of inputs" if len(self.sets) == 1 else f"{len(self.sets)} sets of inputs"
        changes = "1 change" if self._changes == 1 else f"{self._changes} changes"
        return f"the same numbers {same} after {changes}, on {sets}"

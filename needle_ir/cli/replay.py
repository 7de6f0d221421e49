"""Run again what the compiler failed on.

FILE is a failure file, which the note below an error names. The graph in it is compiled with its
pipeline and run: on the values in the file, or on random inputs.

    needle-ir replay /tmp/needle_ir-crashes-1000/needle_ir-0123456789ab.nir

The exit status is 1 where it fails again, with the traceback, and 0 where it does not any more.
"""

import argparse
import sys
import traceback

from needle_ir.cli import CommandError
from needle_ir.cli.graph_file import add_load_argument, load_composites, passes_of, read_text
from needle_ir.cli.output import print_plain
from needle_ir.failures import Failure, rerun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `needle-ir replay`."""
    parser.add_argument("file", metavar="FILE", help="a failure file; - is stdin")
    parser.add_argument("-p", "--pipeline", help="other passes than those in the file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random inputs (default 0)")
    add_load_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Run it again. Raises CommandError for a file that is none, or a pass that is not known."""
    load_composites(options)
    try:
        failure = Failure.read(read_text(options.file))
    except ValueError as error:
        notes = getattr(error, "__notes__", ())
        raise CommandError("\n".join([f"{options.file}: {error}", *notes])) from None
    try:
        passes = passes_of(failure.pipeline if options.pipeline is None else options.pipeline)
    except CommandError as error:
        raise CommandError(
            f"{error}\na pass of your own is not in the file: "
            "call needle_ir.replay(FILE, pipeline=[…]), or leave it out with -p"
        ) from None
    values = "the values in the file" if failure.values is not None else "random inputs"
    print_plain(
        f"it failed ({failure.stage}): {failure.error}\n"
        f"with {failure.versions}\nit runs again on {values}"
    )
    try:
        rerun(failure, passes, options.seed)
    except Exception:
        print(traceback.format_exc(), end="", file=sys.stderr)
        return 1
    print_plain("it does not fail any more")
    return 0

"""Write what the compiler makes of a function as one page of HTML to look through.

The page has the graph after each pass, the rewrites, the memory of the plan and a profile. It needs
no network and no server. For the profile the program runs a few times on the arguments; nothing
is assigned. Without required arguments the function is traced as it is; for others give --input or
--args:

    needle-ir report train.py:loss --input 'f32[32,784]' --input 'i64[32]:10' -o report.html
"""

import argparse
from pathlib import Path

from needle_ir.cli import CommandError
from needle_ir.cli.target import add_target_arguments, load_target
from needle_ir.compiler import read_pipeline
from needle_ir.reporting import TIMEOUT, report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `needle-ir report`."""
    add_target_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page to write (default report.html)",
    )
    parser.add_argument("-p", "--pipeline", help="the passes, such as 'lower, cse, dce'")
    parser.add_argument(
        "--no-profile",
        action="store_true",
        help="do not run the program: no profile",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="the longest that Graphviz may take for one picture (default %(default)g); what takes "
        "longer is laid out without it",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page. Raises CommandError for a bad pipeline, and where it can not be written."""
    try:
        pipeline = None if options.pipeline is None else read_pipeline(options.pipeline)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if not options.timeout > 0:
        raise CommandError(f"--timeout {options.timeout:g}: expected seconds above 0")
    if not options.output.parent.is_dir():
        raise CommandError(f"there is no folder {options.output.parent} to write to")
    target = load_target(options)
    with target.running():
        made = report(
            target.value,
            *target.args,
            path=None,
            pipeline=pipeline,
            profile=not options.no_profile,
            timeout=options.timeout,
        )
    try:
        made.write(options.output)
    except OSError as error:
        raise CommandError(f"{options.output} can not be written: {error.strerror}") from None
    for note in made.notes:
        print(f"  {note}")
    print(f"wrote {options.output} ({len(made.html.encode()) / 1e6:.2f} MB)")
    return 0

"""Show what each pass makes of a function: time, rewrites, costs, and what changed.

The function is traced, not run. Without required arguments it is traced as it is; for others give
--input or --args:

    needle-ir explain train.py:loss --input 'f32[32,784]' --input 'i64[32]:10' --until stabilize
"""

import argparse
import sys
from collections.abc import Sequence

from needle_ir.cli import CommandError
from needle_ir.cli.output import print_plain
from needle_ir.cli.target import add_target_arguments, load_target
from needle_ir.compiler import read_pipeline
from needle_ir.explanation import explain
from needle_ir.explanation.report import ReportLine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `needle-ir explain`."""
    add_target_arguments(parser)
    parser.add_argument("-p", "--pipeline", help="the passes, such as 'lower, cse, dce'")
    parser.add_argument(
        "--pass", dest="only", metavar="NAME", help="show the changes of this pass (name or number)"
    )
    parser.add_argument("--until", metavar="NAME", help="end with this pass (name or number)")
    parser.add_argument("--rule", metavar="NAME", help="show what this rule changed")
    parser.add_argument("--full", action="store_true", help="show whole graphs and every line")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/inspection.md)")


def run(options: argparse.Namespace) -> int:
    """Explain the target. Raises CommandError for a pass or a rule that is not there."""
    selected = {key: getattr(options, key) for key in ("only", "until", "rule", "full")}
    try:
        pipeline = None if options.pipeline is None else read_pipeline(options.pipeline)
    except ValueError as error:
        raise CommandError(str(error)) from None
    target = load_target(options)
    with target.running():
        explanation = explain(target.value, *target.args, pipeline=pipeline)
    try:
        if options.json:
            print_plain(explanation.to_json(**selected))
        elif sys.stdout.isatty():
            _print_coloured(explanation.lines(**selected))
        else:
            print_plain(explanation.show(**selected))
    except ValueError as error:
        raise CommandError(str(error)) from None
    return 0


def _print_coloured(lines: Sequence[ReportLine]) -> None:
    from rich.console import Console
    from rich.text import Text

    text = Text("\n").join(Text(line.plain, line.style) for line in lines)
    Console().print(text, soft_wrap=True)

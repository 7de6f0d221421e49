"""The command-line tool `needle-ir`: one module a subcommand."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

# In the order of `--help`. A module has `add_arguments(parser)`, `run(args) -> exit status` and a
# docstring: its first line is the summary, the rest the description, with an example.
COMMANDS: tuple[str, ...] = (
    "explain",
    "report",
    "dot",
    "profile",
    "opt",
    "bisect",
    "replay",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool. Returns its exit status: 0, or 1 after an error that stderr names."""
    parser = argparse.ArgumentParser(prog="needle-ir", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"{__name__}.{name}")
        summary, _, description = (module.__doc__ or "").partition("\n")
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary}\n{description}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        status: int = args.run(args)
    except CommandError as error:
        print(f"needle-ir {args.command}: {error}", file=sys.stderr)
        return 1
    return status


class CommandError(Exception):
    """What a command can not do, said so that the user can mend it."""

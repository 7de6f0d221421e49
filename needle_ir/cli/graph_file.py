"""A graph in a text file on the command line: FILE.nir, its pipeline, the inputs to run it on."""

import argparse
import sys
import zipfile
from pathlib import Path

from needle_ir.cli import CommandError
from needle_ir.cli.target import load_module
from needle_ir.compiler import read_pipeline
from needle_ir.failures import values_in
from needle_ir.ir import Array, Graph, ParseError, Pass, parse
from needle_ir.random_inputs import Floats, load_inputs, random_inputs


def add_load_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that `load_composites` reads."""
    parser.add_argument(
        "--load",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a Python file that defines composites which the graph has; once for each",
    )


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `input_sets` reads."""
    parser.add_argument(
        "--npz", metavar="FILE", help="run on these arrays: named as the inputs, or arr_0, arr_1 …"
    )


def load_composites(options: argparse.Namespace) -> None:
    """Import the files that define composites. Raises CommandError where one fails."""
    for name in options.load:
        file = Path(name)
        if not file.is_file():
            raise CommandError(f"there is no file {file}")
        load_module(file)


def read_text(name: str) -> str:
    """The text of a file, or of stdin for `-`. Raises CommandError where there is none."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name} can not be read: {error}") from None


def read_graph(name: str) -> tuple[Graph, tuple[Array, ...] | None]:
    """The graph in a file, or on stdin for `-`, and the inputs in it if it is a failure file that
    has them. Raises CommandError for what is no graph.
    """
    text = read_text(name)
    try:
        return parse(text), values_in(text)
    except ParseError as error:
        raise CommandError(f"{'stdin' if name == '-' else name}: {error}") from None


def passes_of(text: str | None) -> list[Pass]:
    """The passes of a pipeline on the command line; `default`, or none, is the default one.

    Raises CommandError for a pass or an option that is not there.
    """
    try:
        return read_pipeline(None if text == "default" else text)
    except ValueError as error:
        raise CommandError(str(error)) from None


def input_sets(
    graph: Graph, options: argparse.Namespace, values: tuple[Array, ...] | None = None
) -> list[list[Array]]:
    """The inputs to run on: those of --npz, else `values`, else random ones, once normal and once
    positive.

    Raises CommandError for a file that does not fit.
    """
    if options.npz is None and values is not None:
        return [[*values]]
    if options.npz is None:
        return [random_inputs(graph, options.seed, floats) for floats in Floats]
    try:
        return [load_inputs(graph, Path(options.npz))]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CommandError(f"--npz {options.npz}: {error}") from None

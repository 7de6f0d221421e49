"""Name the rewrite of a pipeline that first changes what a graph computes.

The graph is one in the text form, or what a function in a Python file records. It runs on random
inputs of its types, on those of --npz, or on the arguments that --input and --args give. The
numbers are compared with those of the graph run node by node without the pipeline:

    needle-ir bisect -p "lower, simplify{fast_math=true}, cse" loss.nir
    needle-ir bisect train.py:loss --input 'f32[32,784]' --input 'i64[32]:10'

The exit status is 0 where there is no difference but rounding, and 1 where something is at fault.
"""

import argparse

from needle_ir.bisection import Bisection, bisect
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
from needle_ir.cli.target import Target, add_target_arguments, load_target
from needle_ir.ir import Array, Graph
from needle_ir.pytree import flatten
from needle_ir.tracing import argument_arrays, record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `needle-ir bisect`."""
    add_target_arguments(
        parser, "FILE.nir|FILE.py:FUNCTION", "a graph in the text form (- is stdin), or "
    )
    parser.add_argument("-p", "--pipeline", help="the passes; without it the default ones")
    add_input_arguments(parser)
    add_load_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Bisect. Raises CommandError for what can not be read, and for a graph that fails anyway."""
    passes = passes_of(options.pipeline)
    load_composites(options)
    if ".py:" in options.target or options.target.endswith(".py"):
        target = load_target(options)
        with target.running():
            graph, sets = _recorded(target, options)
    else:
        if options.inputs or options.args is not None:
            raise CommandError("--input and --args are for functions; a graph takes --npz")
        graph, values = read_graph(options.target)
        sets = input_sets(graph, options, values)
    found = Bisection("same")
    for arrays in sets:
        try:
            result = bisect(graph, arrays, passes, seed=options.seed)
        except RuntimeError as error:
            raise CommandError(str(error)) from None
        found = result if result.found or found.verdict == "same" else found
        if found.found:
            break
    print_plain(str(found))
    return 1 if found.found else 0


def _recorded(target: Target, options: argparse.Namespace) -> tuple[Graph, list[list[Array]]]:
    """The graph of a function, and the arrays that it runs on: its arguments' and what it reads."""
    if isinstance(target.value, Graph):
        return target.value, input_sets(target.value, options)
    recording = record(target.value, (target.args, {}))
    if options.npz is not None:
        return recording.graph, input_sets(recording.graph, options)
    leaves, _ = flatten((target.args, {}))
    return recording.graph, [recording.gather(argument_arrays(leaves))]

"""Draw a function's graph, what a pass changed, its plan, or where its time goes.

The function is traced, not run, unless there is --profile. Without -o the DOT text is printed.
An .svg always comes out; .png and .pdf need Graphviz's dot program:

    needle-ir dot train.py:loss --input 'f32[32,784]' --input 'i64[32]:10' -o loss.svg
    needle-ir dot train.py:train_step --args batch --pass autodiff --level module -o autodiff.svg
    needle-ir dot train.py:train_step --args batch --plan | dot -Tpdf > plan.pdf
"""

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path

from needle_ir.cli import CommandError
from needle_ir.cli.output import print_plain
from needle_ir.cli.profile import RUNS, measure, pipeline_of
from needle_ir.cli.target import Target, add_target_arguments, load_target
from needle_ir.compiler import Pipeline
from needle_ir.explanation import own_pipeline
from needle_ir.jit import Compiled, compile
from needle_ir.viz import LEVELS, Change, DotError, Drawable, picture_format, save_picture, to_dot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `needle-ir dot`."""
    add_target_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the file to write: .svg, .png, .pdf, .dot or .gv; without it DOT is printed",
    )
    parser.add_argument(
        "-p",
        "--pipeline",
        help="draw the graph after these passes, such as 'lower, cse, dce'; with --pass, --plan or "
        "--profile the pipeline to use",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--pass", dest="only", metavar="NAME", help="draw what this pass changed (name or number)"
    )
    what.add_argument("--plan", action="store_true", help="draw the plan: steps, buffers, reuse")
    what.add_argument(
        "--profile",
        action="store_true",
        help=f"run it {RUNS} times and draw where the time goes",
    )
    parser.add_argument(
        "--level",
        choices=LEVELS,
        help="what one box is: a module, a node with its composites closed, a primitive op, or a "
        "kernel (default: composite; for a plan kernel)",
    )
    parser.add_argument(
        "--collapse",
        action="append",
        metavar="MODULE",
        help="draw this module as one box, such as blocks.0; once for each",
    )
    parser.add_argument("--title", help="the heading instead of the graph's name")
    parser.add_argument("--no-legend", dest="legend", action="store_false", help="no legend")


def run(options: argparse.Namespace) -> int:
    """Draw the target. Raises CommandError for what is not there or can not be written."""
    try:
        format = None if options.output is None else picture_format(options.output)
    except ValueError as error:
        raise CommandError(str(error)) from None
    pipeline = pipeline_of(options)
    target = load_target(options)
    if options.collapse:
        _check_modules(target, options.collapse)
    drawable = _drawable(target, pipeline, options)
    how = {key: getattr(options, key) for key in ("level", "collapse", "title", "legend")}
    try:
        if format is None:
            print_plain(to_dot(drawable, **how).source.rstrip("\n"))
            return 0
        save_picture(drawable, options.output, report=_tell, **how)
    except DotError as error:
        hint = "; an .svg comes out without it" if format in ("png", "pdf") else ""
        raise CommandError(f"{options.output} can not be drawn: {error}{hint}") from None
    except OSError as error:
        raise CommandError(f"{options.output} can not be written: {error.strerror}") from None
    return 0


def _tell(note: str) -> None:
    print(f"needle-ir dot: {note}", file=sys.stderr)


def _check_modules(target: Target, names: Sequence[str]) -> None:
    """Refuse modules that the target does not run."""
    with target.running():
        graph = target.graph()
    there: set[str] = set()
    for module in {node.origin.module for node in graph.nodes if node.origin is not None}:
        there.update(accumulate(module.split("."), "{}.{}".format))
    for name in names:
        if name not in there:
            near = get_close_matches(name, there) or sorted(filter(None, there))
            known = f"; there are {', '.join(near)}" if near else ", nor any other"
            raise CommandError(f"there is no module {name!r} to collapse{known}")


def _drawable(target: Target, pipeline: Pipeline | None, options: argparse.Namespace) -> Drawable:
    if options.profile:
        return measure(target, RUNS, pipeline, options.seed)
    with target.running():
        graph = target.graph()
        if pipeline is None and not options.plan and options.only is None:
            return graph
        compiled = compile(graph, pipeline=pipeline or own_pipeline(target.value))
    if options.plan:
        return compiled.plan
    return compiled.graph if options.only is None else _change(compiled, options.only)


def _change(compiled: Compiled, wanted: str) -> Change:
    """What the pass of a name or a number changed."""
    stages = compiled.stages
    found = [i for i in range(1, len(stages)) if wanted in (stages[i].name, str(i))]
    if not found:
        names = ", ".join(dict.fromkeys(stage.name for stage in stages[1:]))
        raise CommandError(
            f"no pass {wanted!r} here; the passes are {names}, and 1 to {len(stages) - 1}"
        )
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise CommandError(f"{wanted!r} is {len(found)} passes: give one of the numbers {numbers}")
    (i,) = found
    return Change(stages[i - 1].graph, stages[i].graph)

"""Run a function and show where the time goes: by kernel, by module and by source line.

The function is called once to compile it, which is not measured, and then --runs times. A graph is
run on random numbers. The trace is for chrome://tracing or ui.perfetto.dev:

    needle-ir profile train.py:loss --input 'f32[512,784]' --input 'i64[512]:10' --runs 20
    needle-ir profile train.py:train_step --args batch --by line --trace trace.json
"""

import argparse
import json
from pathlib import Path

import numpy as np

from needle_ir.cli import CommandError
from needle_ir.cli.output import print_plain
from needle_ir.cli.target import Target, add_target_arguments, load_target
from needle_ir.compiler import Pipeline, read_pipeline
from needle_ir.ir import Graph
from needle_ir.jit import Compiled, compile
from needle_ir.machine import copy_rates, peak_gflops
from needle_ir.profiler import Profile, Row, profile
from needle_ir.random_inputs import random_array
from needle_ir.realize import sync

TABLES = ("kernel", "module", "line", "phase")
RUNS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `needle-ir profile`."""
    add_target_arguments(parser)
    parser.add_argument("-p", "--pipeline", help="the passes, such as 'lower, cse, dce'")
    parser.add_argument(
        "--runs", type=int, default=RUNS, metavar="N", help=f"measured calls (default {RUNS})"
    )
    parser.add_argument("--by", choices=TABLES, help="show this table alone")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write a Chrome trace (JSON)")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/inspection.md)")


def run(options: argparse.Namespace) -> int:
    """Profile the target. Raises CommandError for what can not be run or written."""
    if options.runs < 1:
        raise CommandError(f"--runs {options.runs}: at least one")
    pipeline = pipeline_of(options)
    target = load_target(options)
    profile = measure(target, options.runs, pipeline, options.seed)
    if options.trace is not None:
        try:
            profile.write_trace(options.trace)
        except OSError as error:
            raise CommandError(f"{options.trace} can not be written: {error.strerror}") from None
    print_plain(_as_json(profile, options) if options.json else profile.show(options.by))
    return 0


def pipeline_of(options: argparse.Namespace) -> Pipeline | None:
    """The pipeline that `-p` names; None without it. Raises CommandError for no such pipeline."""
    try:
        return None if options.pipeline is None else read_pipeline(options.pipeline)
    except ValueError as error:
        raise CommandError(str(error)) from None


def measure(target: Target, runs: int, pipeline: Pipeline | None, seed: int) -> Profile:
    """The profile of some calls of a target, after one that compiles it.

    A graph gets random numbers of its inputs' types. With a pipeline a function is compiled as a
    whole; without one it runs as it is, and what it records is computed at the end of each call.
    """
    call, args = target.value, target.args
    with target.running():
        if isinstance(call, Graph):
            numbers = np.random.default_rng(seed)
            args = tuple(random_array(node.type, numbers) for node in call.inputs)
            call = compile(call, pipeline=pipeline)
        elif pipeline is not None:
            if isinstance(call, Compiled):
                raise CommandError(f"{target.name} is compiled already; -p is for a function")
            call = compile(call, *args, pipeline=pipeline)
        kept = call(*args)
        sync()
        with profile(show=False) as result:
            for _ in range(runs):
                kept = call(*args)  # noqa: F841  # what nobody holds would not be computed
                sync()
    if not result.calls:
        raise CommandError(f"{target.name} runs no kernel: there is nothing to measure")
    return result


def _as_json(profile: Profile, options: argparse.Namespace) -> str:
    tables = {
        "kernel": profile.by_kernel,
        "module": profile.by_module,
        "line": profile.by_line,
        "phase": profile.by_phase,
    }
    return json.dumps(
        {
            "version": 1,
            "runs": options.runs,
            "seconds": profile.seconds,
            "kernel_seconds": profile.kernel_seconds,
            "compile_seconds": profile.compile_seconds,
            "peak_gflops": peak_gflops(),
            "copies": [{"bytes_moved": n, "gbps": rate} for n, rate in copy_rates()],
            **{
                f"by_{name}": [_row(row) for row in rows()]
                for name, rows in tables.items()
                if options.by in (None, name)
            },
        },
        indent=1,
    )


def _row(row: Row) -> dict[str, str | int | float]:
    return {
        "name": row.name,
        "calls": row.calls,
        "seconds": row.seconds,
        "flops": row.flops,
        "bytes_moved": row.bytes_moved,
        "gflops": row.gflops,
        "gbps": row.gbps,
        "of_peak": row.of_peak,
    }

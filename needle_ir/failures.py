"""Failure files: what the compiler failed on, in one file that `needle-ir replay` runs again.

A file is the graph in the text form, with all of its constants, below comments that say what
failed, in which pass, with which pipeline and versions. So `needle-ir opt` and `bisect` read it.
"""

import base64
import hashlib
import io
import os
import platform
import re
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from needle_ir.ir import (
    CONSTANT,
    Array,
    Graph,
    OpError,
    ParseError,
    Pass,
    inherit_origin,
    parse,
)
from needle_ir.ops import COMPOSITES
from needle_ir.ops.cluster import FUSED
from needle_ir.runtime import MissingKernelError

if TYPE_CHECKING:
    from needle_ir.compiler import Pipeline

DIRECTORY = "NEEDLE_IR_CRASHES"  # the environment variable: where to write; empty for nowhere
VALUES = "NEEDLE_IR_CRASH_VALUES"  # set to 1: the inputs' values are written as well
MAX_FILES = 20
MAX_BYTES = 64 << 20  # of constants, or of values, in one file

# Errors that a program makes, that a user's own instruments make, or that were asked for.
_NO_FAILURES = (OpError, MissingKernelError, FloatingPointError, OSError)
# These a program can make with its numbers: they are failures where the graph run node by node does
# not raise them as well.
_MAY_BE_THE_PROGRAMS = (IndexError, ValueError, ArithmeticError)

_HEADER = re.compile(r"# (?P<key>[a-z]+): (?P<value>.*)")


class _Reporting(threading.local):
    on = True


_reporting = _Reporting()


@contextmanager
def without_files() -> Iterator[None]:
    """Write no failure file for what this thread compiles and runs inside."""
    outer = _reporting.on
    _reporting.on = False
    try:
        yield
    finally:
        _reporting.on = outer


def report_failure(
    error: Exception,
    graph: Graph,
    passes: Sequence[Pass],
    stage: str,
    arrays: Sequence[Array] | None = None,
) -> None:
    """Write what failed to a file, and add a note to `error` that says how to run it again.

    Nothing is written for an error that the program made: a shape or a dtype that does not fit, an
    op without a derivative or a kernel, a NaN that `debug_nans` found; nor for one of the file
    system. `arrays` are the inputs, where the program was running. Whatever goes wrong here is told
    in the note: the error stays what it was.
    """
    directory = _directory()
    if directory is None or not _reporting.on or isinstance(error, _NO_FAILURES):
        return
    if any(note.startswith("needle_ir") for note in getattr(error, "__notes__", ())):
        return  # it was written where it was raised first
    try:
        if arrays is not None and _is_the_programs(error, graph, arrays):
            return
        path = _write(directory, _file_text(error, graph, passes, stage, arrays))
    except Exception as second:
        error.add_note(f"needle_ir could not write a failure file: {second}")
        return
    error.add_note(
        f"needle_ir failed ({stage}); what it failed on is in {path}\n"
        f"run it again with: needle-ir replay {path}"
    )


@dataclass(frozen=True)
class Failure:
    """What a failure file holds.

    `error`, `stage`, `pipeline` and `versions` are texts; `values` are the inputs, None where they
    were not written.
    """

    graph: Graph
    error: str
    stage: str
    pipeline: str
    versions: str
    values: tuple[Array, ...] | None

    @classmethod
    def read(cls, text: str) -> "Failure":
        """The failure in a text. Raises ValueError for one that is no failure file."""
        header = _header(text)
        missing = {"error", "stage", "pipeline", "versions"} - header.keys()
        if missing:
            raise ValueError(f"this is no failure file: it lacks {', '.join(sorted(missing))}")
        try:
            graph = parse(text)
        except ParseError as error:
            if "composites" in header:
                error.add_note(f"the program defined {header['composites']}")
            raise
        return cls(
            graph=graph,
            error=header["error"],
            stage=header["stage"],
            pipeline=header["pipeline"],
            versions=header["versions"],
            values=values_in(text),
        )


def values_in(text: str) -> tuple[Array, ...] | None:
    """The values of the inputs in a failure file, None where it, or any other text, has none."""
    data = _header(text).get("values")
    if data is None:
        return None
    with np.load(io.BytesIO(base64.b64decode(data))) as archive:
        return tuple([archive[f"arr_{i}"] for i in range(len(archive.files))])


def _header(text: str) -> dict[str, str]:
    """What the comments above the graph say."""
    header: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        match = _HEADER.fullmatch(line)
        if match is not None:
            header[match["key"]] = match["value"]
    return header


def replay(
    path: str | Path, *, pipeline: "Pipeline | None" = None, seed: int = 0
) -> tuple[Array, ...]:
    """Compile and run the graph of a failure file again.

    It runs on the values in the file, or on random inputs of `seed`, normal and then positive ones.
    Returns the outputs where nothing fails any more; else what failed is raised once more.
    `pipeline` takes the place of the one in the file: that is needed where a pass of it is not one
    of the library, since a file has only names. Raises ValueError for a file that is no failure
    file, and for a pass in it that is not known.
    """
    failure = Failure.read(Path(path).read_text("utf-8"))
    return rerun(failure, pipeline, seed)


def rerun(failure: Failure, pipeline: "Pipeline | None" = None, seed: int = 0) -> tuple[Array, ...]:
    """As `replay`, for a file that was read."""
    from needle_ir.compiler import compile_graph, read_pipeline
    from needle_ir.random_inputs import Floats, random_inputs

    graph = failure.graph
    passes = read_pipeline(failure.pipeline if pipeline is None else pipeline)
    sets: list[Sequence[Array]] = [random_inputs(graph, seed, floats) for floats in Floats]
    if failure.values is not None:
        sets = [failure.values]
    with without_files(), inherit_origin(None):
        program = compile_graph(graph, passes)
        results = [program(arrays) for arrays in sets]
    return results[0]


def _directory() -> Path | None:
    wanted = os.environ.get(DIRECTORY)
    if wanted is not None:
        return Path(wanted) if wanted else None
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"needle_ir-crashes-{user}"


def _is_the_programs(error: Exception, graph: Graph, arrays: Sequence[Array]) -> bool:
    """Whether the graph raises the same without the pipeline and without a plan."""
    if not isinstance(error, _MAY_BE_THE_PROGRAMS):
        return False
    from needle_ir.agreement import run_nodes, runnable

    try:
        run_nodes(runnable(graph), arrays, seed=0)
    except Exception as second:
        return type(second) is type(error)
    return False


def _file_text(
    error: Exception,
    graph: Graph,
    passes: Sequence[Pass],
    stage: str,
    arrays: Sequence[Array] | None,
) -> str:
    constants = sum(node.type.nbytes for node in graph.nodes if node.op is CONSTANT)
    if constants > MAX_BYTES:
        raise ValueError(f"the constants of the graph take {constants:,} bytes")
    from needle_ir import __version__
    from needle_ir.passes import format_pipeline

    versions = f"needle_ir {__version__}, numpy {np.__version__}, "
    versions += f"python {platform.python_version()}, {platform.platform(terse=True)}"
    lines = [
        "# A failure of needle_ir. Run it again with: needle-ir replay THIS_FILE",
        f"# error: {_one_line(f'{type(error).__name__}: {error}')}",
        f"# stage: {stage}",
        f"# pipeline: {_one_line(format_pipeline(passes))}",
        f"# versions: {versions}",
    ]
    composites = _composites(graph)
    if composites:
        lines.append(f"# composites: {', '.join(composites)}")
    if arrays is not None and os.environ.get(VALUES) == "1":
        lines.append(f"# values: {_written_values(arrays)}")
    frames = traceback.format_tb(error.__traceback__)
    lines += [f"#     {line.rstrip()}" for frame in frames for line in frame.splitlines()]
    return "\n".join([*lines, graph.format(full=True), ""])


def _composites(graph: Graph) -> list[str]:
    """The composites that are not of the library, and where they are defined."""
    library = set(COMPOSITES.values())
    found = dict.fromkeys(x.op for x in graph.nodes if x.op.decompose and x.op not in library)
    codes = {op: getattr(op.decompose, "__code__", None) for op in found if op is not FUSED}
    return [
        _one_line(f"{op.name} in {code.co_filename}:{code.co_firstlineno}")
        for op, code in codes.items()
        if code is not None
    ]


def _one_line(text: str) -> str:
    return " | ".join(text.splitlines())


def _written_values(arrays: Sequence[Array]) -> str:
    size = sum(x.nbytes for x in arrays)
    if size > MAX_BYTES:
        raise ValueError(f"the inputs take {size:,} bytes; unset {VALUES} to leave them out")
    file = io.BytesIO()
    np.savez_compressed(file, *arrays)
    return base64.b64encode(file.getvalue()).decode()


def _write(directory: Path, text: str) -> Path:
    """Write a file that is there as a whole or not at all; the oldest ones go.

    The same failure is the same file. Only the user may read it: it holds paths, and maybe values.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to somebody else")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    path = directory / f"needle_ir-{digest}.nir"
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    with suppress(FileNotFoundError):  # another process may remove old files as well
        files = sorted(directory.glob("needle_ir-*.nir"), key=lambda x: x.stat().st_mtime)
        for old in files[:-MAX_FILES]:
            old.unlink()
    return path

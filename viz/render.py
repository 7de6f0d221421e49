"""Pictures by the `dot` program of Graphviz, within a time limit."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from needle_ir.viz.atomic import write_text

if TYPE_CHECKING:
    import graphviz

TIMEOUT = 20.0
_PNG_DPI = "144"  # text of 9 points is 18 pixels high


class DotError(Exception):
    """The `dot` program made no picture. The message says why."""


class DotMissingError(DotError):
    """The `dot` program is not installed, or not on the search path."""


class DotTimeoutError(DotError):
    """The layout took longer than its limit."""


def render_svg(
    dot: "graphviz.Digraph", path: str | os.PathLike[str], timeout: float = TIMEOUT
) -> None:
    """Lay `dot` out and write it to `path` as SVG, whole or not at all.

    Raises DotMissingError where the `dot` program is not found, DotTimeoutError where it takes
    longer than `timeout` seconds, DotError with its own words where it fails, OSError where `path`
    can not be written.
    """
    write_text(Path(path), dot_svg(dot, timeout))


def dot_svg(dot: "graphviz.Digraph", timeout: float = TIMEOUT) -> str:
    """The SVG text that the `dot` program makes of `dot`. Raises what `render_svg` raises."""
    return dot_picture(dot, "svg", timeout).decode()


def dot_picture(dot: "graphviz.Digraph", format: str, timeout: float = TIMEOUT) -> bytes:
    """What the `dot` program makes of `dot` in one of its formats: `svg`, `png`, `pdf` …

    Raises what `render_svg` raises, but no OSError.
    """
    program = shutil.which("dot")
    if program is None:
        raise DotMissingError("the dot program of Graphviz is not installed or not on the PATH")
    with (
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as picture,
        tempfile.TemporaryFile() as errors,
    ):
        source.write(dot.source.encode())
        source.seek(0)
        # Files, not pipes: a child of `dot` that outlives it could hold a pipe open for ever.
        process = subprocess.Popen(
            [program, f"-T{format}", *([f"-Gdpi={_PNG_DPI}"] if format == "png" else [])],
            stdin=source,
            stdout=picture,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise DotTimeoutError(f"the layout took longer than {timeout:g} s") from None
        finally:
            _end(process)
        if status != 0:
            errors.seek(0)
            words = " ".join(errors.read().decode(errors="replace").split())
            raise DotError(f"dot ended with status {status}: {words or 'it said nothing'}")
        picture.seek(0)
        return picture.read()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill `process`, and where the system has process groups, what it started."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()

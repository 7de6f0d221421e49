"""An instrument that writes down the graph after every pass, as text and as pictures."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from needle_ir.ir import Graph, Pass, print_graph
from needle_ir.viz.atomic import write_text
from needle_ir.viz.changes import changes
from needle_ir.viz.dot import to_dot
from needle_ir.viz.render import DotError, DotMissingError, DotTimeoutError, render_svg

if TYPE_CHECKING:
    import graphviz

_OWN_NAME = re.compile(r"(\d\d|[1-9]\d\d)-[A-Za-z0-9_.-]+\.(txt|dot|svg)")
_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


class GraphDumper:
    """Writes a compilation into `directory`: `00-recorded.txt`, `00-recorded.dot`, `01-lower.txt` …

    A `.txt` has the text form under the name of the pass, the node counts and the time. A `.dot`
    has the picture with the new nodes marked. With `svg` and the `dot` program of Graphviz there
    is an `.svg` too, unless its layout takes longer than `timeout` seconds. What could not be laid
    out is told to `report`, one line each time, and the dump goes on.

    The directory is made where there is none. Every dump first removes the numbered files of the
    one before, and no other files.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        svg: bool = True,
        report: Callable[[str], object] = _to_stderr,
        timeout: float = 20.0,
    ):
        self.directory = Path(directory)
        self._svg = svg
        self._report = report
        self._timeout = timeout
        self._number = 0
        self._too_large: int | None = None

    def start(self, graph: Graph) -> None:
        """Begin a new dump with the graph as it was recorded.

        Raises NotADirectoryError where the directory's name is a file's, OSError where it can not
        be made or written to.
        """
        self._make_directory()
        self._number = 0
        self._too_large = None
        self._write("recorded", "as it was recorded", graph, None)

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Write down the graph that `pass_` made of `before` in `seconds`."""
        self._number += 1
        self._write(pass_.name, f"after {pass_.name}, {seconds * 1e3:.2f} ms", after, before)

    def _make_directory(self) -> None:
        if self.directory.exists() and not self.directory.is_dir():
            raise NotADirectoryError(
                f"graphs can not be dumped into {self.directory}: it is a file, not a directory"
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            if _OWN_NAME.fullmatch(path.name) and path.is_file():
                path.unlink()

    def _write(self, name: str, head: str, graph: Graph, before: Graph | None) -> None:
        stem = f"{self._number:02d}-{_NO_FILE_NAME.sub('_', name)}"
        counts = f"{len(graph.nodes)} nodes"
        if before is not None:
            counts = f"{len(before.nodes)} -> {counts}: {changes(before, graph)}"
        text = f"# {stem}: {head}\n# {counts}\n{print_graph(graph)}\n"
        write_text(self.directory / f"{stem}.txt", text)
        dot = to_dot(graph, before=before, title=f"{stem} @{graph.name}")
        write_text(self.directory / f"{stem}.dot", dot.source)
        if self._svg and (self._too_large is None or len(graph.nodes) < self._too_large):
            self._lay_out(stem, dot, len(graph.nodes))

    def _lay_out(self, stem: str, dot: "graphviz.Digraph", size: int) -> None:
        try:
            render_svg(dot, self.directory / f"{stem}.svg", self._timeout)
        except DotMissingError as error:
            self._svg = False
            self._report(f"no svg files in {self.directory}: {error}")
        except DotTimeoutError as error:
            self._too_large = size
            self._report(f"no {stem}.svg, nor one of {size} nodes or more after it: {error}")
        except DotError as error:
            self._report(f"no {stem}.svg: {error}")

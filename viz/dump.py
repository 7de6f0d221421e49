"""An instrument that writes down the graph after every pass, as text and as pictures."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from needle_ir.ir import Graph, Pass, print_graph
from needle_ir.viz.atomic import write_text
from needle_ir.viz.change import Change
from needle_ir.viz.dot import dot_of
from needle_ir.viz.draw import draw
from needle_ir.viz.picture import make_picture, to_stderr
from needle_ir.viz.render import TIMEOUT, DotMissingError, DotTimeoutError
from needle_ir.viz.subject import Drawable, Level, check_level

_OWN_FOLDER = re.compile(r"\d{2,}-[A-Za-z0-9_.-]+")
_OWN_FILE = re.compile(r"\d{2,}-[A-Za-z0-9_.-]+\.(txt|dot|svg)")
_NO_FILE_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class GraphDumper:
    """Writes compilations into `directory`, each into a numbered folder of its own:
    `00-train_step/00-recorded.txt`, `00-train_step/00-recorded.dot`, `00-train_step/01-lower.txt` …

    A `.txt` has the text form under the name of the pass, the node counts and the time. A `.dot`
    has the picture at `level`, with what the pass changed marked. With `svg` there is an `.svg`
    too: see `to_svg` for what it is where `dot` is missing or takes longer than `timeout` seconds.
    What differs from the `.dot` is told to `report`, a missing `dot` once.

    The directory is made where there is none. Before its first folder, a dumper removes what an
    earlier one wrote there, and no other files.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        level: Level | None = None,
        svg: bool = True,
        report: Callable[[str], object] = to_stderr,
        timeout: float = TIMEOUT,
    ):
        self.directory = Path(directory)
        self._level = None if level is None else check_level(level)
        self._svg = svg
        self._report = report
        self._timeout = timeout
        self._compilations = 0
        self._passes = 0
        self._folder = self.directory
        self._told_missing = False
        self._too_large: int | None = None  # nodes of a graph whose layout took too long

    def start(self, graph: Graph) -> None:
        """Begin a new folder with the graph as it was recorded.

        Raises NotADirectoryError where the directory's name is a file's, OSError where it can not
        be made or written to.
        """
        if self._compilations == 0:
            self._make_directory()
        self._folder = self.directory / f"{self._compilations:02d}-{_file_name(graph.name)}"
        self._folder.mkdir(exist_ok=True)
        self._compilations += 1
        self._passes = 0
        self._write("recorded", "as it was recorded", graph, None)

    def after(self, pass_: Pass, before: Graph, after: Graph, seconds: float) -> None:
        """Write down the graph that `pass_` made of `before` in `seconds`."""
        self._passes += 1
        self._write(pass_.name, f"after {pass_.name}, {seconds * 1e3:.2f} ms", after, before)

    def _make_directory(self) -> None:
        if self.directory.exists() and not self.directory.is_dir():
            raise NotADirectoryError(
                f"graphs can not be dumped into {self.directory}: it is a file, not a directory"
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        for folder in self.directory.iterdir():
            if not _OWN_FOLDER.fullmatch(folder.name) or not folder.is_dir():
                continue
            for path in folder.iterdir():
                if _OWN_FILE.fullmatch(path.name) and path.is_file():
                    path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()

    def _write(self, name: str, head: str, graph: Graph, before: Graph | None) -> None:
        stem = f"{self._passes:02d}-{_file_name(name)}"
        counts = f"{len(graph.nodes)} nodes"
        drawable: Drawable = graph
        if before is not None:
            drawable = change = Change(before, graph)
            counts = f"{len(before.nodes)} -> {counts}: {change}"
        # `needle-ir opt` reads the file where no constant is elided.
        shown = print_graph(graph, max_constant=64)
        text = f"# {stem}: {head}\n# {counts}\n{shown}\n"
        write_text(self._folder / f"{stem}.txt", text)
        title = f"{stem} @{graph.name}"
        drawing = draw(drawable, level=self._level, title=title)
        write_text(self._folder / f"{stem}.dot", dot_of(drawing).source)
        if self._svg:
            self._draw(stem, drawable, title, len(graph.nodes))

    def _draw(self, stem: str, drawable: Drawable, title: str, size: int) -> None:
        is_too_large = self._too_large is not None and size >= self._too_large
        level: Level | None = "module" if is_too_large else self._level
        picture = make_picture(
            lambda shown: draw(drawable, level=shown, title=title), level, self._timeout
        )
        write_text(self._folder / f"{stem}.svg", picture.svg)
        if isinstance(picture.trouble, DotMissingError):
            if not self._told_missing:
                self._report(f"svg files in {self.directory} are {picture.notes[0]}")
            self._told_missing = True
            return
        for note in picture.notes:
            self._report(f"{self._folder.name}/{stem}.svg is {note}")
        if isinstance(picture.trouble, DotTimeoutError) and not is_too_large:
            self._too_large = size
            self._report(f"so are pictures of {size} nodes or more after it")


def _file_name(text: str) -> str:
    return _NO_FILE_NAME.sub("_", text)

"""Where values were written: places in the user's program, with the lines around them."""

import linecache
import os
from pathlib import Path
from typing import Any

from needle_ir.ir import Origin

_AROUND = 6  # lines before and after
_LONGEST = 300  # characters of a line


class Sources:
    """Places in the user's program, each with a number, and the lines that they need."""

    def __init__(self) -> None:
        self.places: list[list[Any]] = []  # file, line, function, module, phase
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._files: dict[str, dict[int, str]] = {}
        self._file_numbers: dict[str, int] = {}

    def add(self, origin: Origin | None) -> int:
        """The number of a place, -1 where there is none."""
        if origin is None:
            return -1
        key = (origin.code, origin.line, origin.module, origin.phase)
        if key not in self._numbers:
            self._numbers[key] = len(self.places)
            file = self._file(origin.filename, origin.line)
            self.places.append(
                [file, origin.line, origin.code.co_name, origin.module, origin.phase]
            )
        return self._numbers[key]

    def files(self) -> list[list[Any]]:
        """The files: their name, and their lines by number."""
        return [[_shown(name), lines] for name, lines in self._files.items()]

    def _file(self, name: str, line: int) -> int:
        lines = self._files.setdefault(name, {})
        found = linecache.getlines(name)
        for number in range(max(line - _AROUND, 1), min(line + _AROUND, len(found)) + 1):
            text = found[number - 1].rstrip("\n")
            lines[number] = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
        return self._file_numbers.setdefault(name, len(self._file_numbers))


def _shown(name: str) -> str:
    """A file's name as seen from the working directory, where it is below it."""
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(os.getcwd()):
        return str(path.relative_to(os.getcwd()))
    return name

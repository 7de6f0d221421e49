"""Where a node comes from: the user's line, the module path, the phase of training."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

# Modules, not paths: in a checkout `needle_ir.passes` lies beside the folder `needle_ir/`.
_PACKAGE = __name__.partition(".")[0] + "."


class Origin(NamedTuple):
    """Where a node was recorded: an instruction of the user's code, and under which module.

    File and line are worked out only when asked for: recording runs in every training step,
    reading its lines does not. `phase` is `forward`, `backward` or `update`.
    """

    code: CodeType
    instruction: int
    module: str
    phase: str

    @property
    def filename(self) -> str:
        """The path of the file, as the code object has it."""
        return self.code.co_filename

    @property
    def line(self) -> int:
        """The line number, counted from 1."""
        return _line_of(self.code, self.instruction)

    def __str__(self) -> str:
        return f"{Path(self.filename).name}:{self.line} in {self.code.co_name}"


@lru_cache(maxsize=4096)
def _line_of(code: CodeType, instruction: int) -> int:
    line = next(islice(code.co_positions(), instruction // 2, None))[0]
    return code.co_firstlineno if line is None else line


class _Ambient(threading.local):
    """The scope that recording stands in, one per thread."""

    module = ""
    phase = "forward"
    inherits = False
    inherited: Origin | None = None


_ambient = _Ambient()


def capture_origin() -> Origin | None:
    """The origin of a node that is being made now.

    Inside `inherit_origin` it is the inherited one, otherwise the first frame outside of this
    package. None where there is no such frame.
    """
    if _ambient.inherits:
        return _ambient.inherited
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return None
    return Origin(frame.f_code, frame.f_lasti, _ambient.module, _ambient.phase)


@contextmanager
def inherit_origin(origin: Origin | None, phase: str | None = None) -> Iterator[None]:
    """Give every node made inside the origin of the node it is made from."""
    if origin is not None and phase is not None:
        origin = origin._replace(phase=phase)
    outer = (_ambient.inherits, _ambient.inherited)
    _ambient.inherits, _ambient.inherited = True, origin
    try:
        yield
    finally:
        _ambient.inherits, _ambient.inherited = outer


@contextmanager
def scope(module: str | None = None, phase: str | None = None) -> Iterator[None]:
    """Record what is made inside under a module path, in a phase, or both."""
    outer = (_ambient.module, _ambient.phase)
    if module is not None:
        _ambient.module = module
    if phase is not None:
        _ambient.phase = phase
    try:
        yield
    finally:
        _ambient.module, _ambient.phase = outer

"""Where a node comes from: the user's line, the module path, the phase of training."""

import linecache
import sys
import threading
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

# Modules, not paths: in a checkout `needle_ir.passes` lies beside the folder `needle_ir/`.
_PACKAGE = __name__.partition(".")[0] + "."


class WrittenCode(NamedTuple):
    """What a text tells of the code that recorded a node, under the names of a code object."""

    co_filename: str
    co_firstlineno: int
    co_name: str


class Origin(NamedTuple):
    """Where a node was recorded: an instruction of the user's code, and under which module.

    File and line are worked out only when asked for: recording runs in every training step,
    reading its lines does not. `phase` is `forward`, `backward` or `update`. A node that was read
    from a text has only the line that is written there.
    """

    code: CodeType | WrittenCode
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
        if isinstance(self.code, WrittenCode):
            return self.code.co_firstlineno
        return _line_of(self.code, self.instruction)

    @property
    def text(self) -> str:
        """The source line itself, empty where the source is not at hand."""
        if isinstance(self.code, WrittenCode) and not Path(self.filename).is_absolute():
            return ""  # any file may have that name
        return linecache.getline(self.filename, self.line).strip()

    def __str__(self) -> str:
        return f"{_file_name(self.filename)}:{self.line} in {self.code.co_name}"


@lru_cache(maxsize=4096)
def written_origin(filename: str, line: int, function: str, module: str, phase: str) -> Origin:
    """The origin that a text names. Equal words give one and the same code."""
    return Origin(_written_code(filename, line, function), 0, module, phase)


@lru_cache(maxsize=4096)
def _written_code(filename: str, line: int, function: str) -> WrittenCode:
    return WrittenCode(filename, line, function)


# Whether code that was met is of this package, by id: hashing code reads all of its instructions.
# The objects are kept, so that no other one gets their id.
_met: dict[int, tuple[bool, CodeType]] = {}
_MET_CAPACITY = 4096


@lru_cache(maxsize=256)
def _file_name(path: str) -> str:
    return Path(path).name


@lru_cache(maxsize=4096)
def _line_of(code: CodeType, instruction: int) -> int:
    line = next(islice(code.co_positions(), instruction // 2, None))[0]
    return code.co_firstlineno if line is None else line


# Where recording stands: the module path, the phase, whether the origin is inherited, and the
# origin if it is known. It is known where it is inherited, None included, and within a call of a
# layer of this package.
Scope = tuple[str, str, bool, Origin | None]


class Here:
    """The scope of one thread."""

    __slots__ = ("scope",)

    def __init__(self) -> None:
        self.scope: Scope = ("", "forward", False, None)


class _Thread(threading.local):
    # An attribute of a thread's own takes several times as long as one of an object.
    def __init__(self) -> None:
        self.here = Here()


_thread = _Thread()
_new_tuple = tuple.__new__


def here() -> Here:
    """Where this thread records."""
    return _thread.here


def capture_origin(here: Here | None = None) -> Origin | None:
    """The origin of a node that is being made now, by the thread whose scope is given.

    Inside `inherit_origin` it is the inherited one, otherwise the first frame outside of this
    package. None where there is no such frame.
    """
    module, phase, inherits, origin = (here or _thread.here).scope
    if inherits or origin is not None:
        return origin
    return _origin_of(sys._getframe(1), module, phase)


def is_of_package(module: str) -> bool:
    """Whether a module by this name is one of this package."""
    return module.startswith(_PACKAGE)


def _origin_of(frame: FrameType | None, module: str, phase: str) -> Origin | None:
    """The innermost frame outside of this package, from `frame` on."""
    while frame is not None:
        code = frame.f_code
        is_own, _ = _met.get(id(code)) or _meet(frame)
        if not is_own:
            # As Origin(...) does it, which takes twice as long.
            return _new_tuple(Origin, (code, frame.f_lasti, module, phase))
        frame = frame.f_back
    return None


def _meet(frame: FrameType) -> tuple[bool, CodeType]:
    """Note whether the code of a frame is of this package."""
    if len(_met) >= _MET_CAPACITY:  # as where a program makes code without end
        _met.clear()
    code = frame.f_code
    found = _met[id(code)] = is_of_package(frame.f_globals.get("__name__", "")), code
    return found


def scope_of_call(outer: Scope, module: str, of_package: bool) -> Scope:
    """The scope within the call of a module, which the caller of this function is called for.

    What a layer of this package records has the origin of the call: it is looked for once.
    """
    _, phase, inherits, origin = outer
    if not inherits:
        if not of_package:
            origin = None
        elif origin is None:
            origin = _origin_of(sys._getframe(2), module, phase)
        else:
            origin = _new_tuple(Origin, (origin.code, origin.instruction, module, phase))
    return module, phase, inherits, origin


class inherit_origin:  # noqa: N801 - a context manager is called like a function
    """Give every node made inside of the `with` the origin of the node it is made from."""

    __slots__ = ("_here", "_origin", "_outer")

    def __init__(self, origin: Origin | None, phase: str | None = None):
        if origin is not None and phase is not None:
            origin = origin._replace(phase=phase)
        self._origin = origin

    def __enter__(self) -> None:
        self._here = _thread.here
        self._outer = module, phase, _, _ = self._here.scope
        self._here.scope = module, phase, True, self._origin

    def __exit__(self, *error: object) -> None:
        self._here.scope = self._outer


class scope:  # noqa: N801
    """Record what is made inside of the `with` under a module path, in a phase, or both."""

    __slots__ = ("_here", "_module", "_outer", "_phase")

    def __init__(self, module: str | None = None, phase: str | None = None):
        self._module = module
        self._phase = phase

    def __enter__(self) -> None:
        self._here = _thread.here
        self._outer = module, phase, inherits, origin = self._here.scope
        module = module if self._module is None else self._module
        phase = phase if self._phase is None else self._phase
        if origin is not None and not inherits:
            origin = _new_tuple(Origin, (origin.code, origin.instruction, module, phase))
        self._here.scope = module, phase, inherits, origin

    def __exit__(self, *error: object) -> None:
        self._here.scope = self._outer

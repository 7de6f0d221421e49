"""FILE:FUNCTION on the command line: a function in a user's file, and the arguments to give it."""

import argparse
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import needle_ir
from needle_ir import passes, runtime
from needle_ir.cli import CommandError
from needle_ir.ir import Array, DTypeError, Graph, TensorType, as_dtype
from needle_ir.jit import Compiled, JitFunction, trace
from needle_ir.nn import Module
from needle_ir.random_inputs import random_array
from needle_ir.tensor import Tensor

_TYPE = re.compile(r"(?P<dtype>[a-z]+\d*)\[(?P<shape>[\d,\s]*)\](?::(?P<below>\d+))?")
# In a checkout, the packages lie in several folders.
_OURS = [Path(package.__path__[0]).resolve() for package in (needle_ir, passes, runtime)]
_DTYPES = {"f": "float", "i": "int", "u": "uint"}


@dataclass(frozen=True)
class Target:
    """What FILE:FUNCTION stands for: something to call or a graph, and arguments for it."""

    file: Path
    name: str
    value: Any
    args: tuple[Any, ...]

    def graph(self) -> Graph:
        """The graph as it was recorded: a function is traced, not run."""
        if isinstance(self.value, Graph):
            return self.value
        if isinstance(self.value, Compiled):
            return self.value.stages[0].graph
        return trace(self.value, *self.args)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Turn an error that the user's code makes inside into a CommandError with its lines."""
        with _errors_of(self.file, f"{self.name} failed"):
            yield


def add_target_arguments(
    parser: argparse.ArgumentParser,
    metavar: str = "FILE:FUNCTION|FILE.nir",
    others: str = "a graph in the text form, or ",
) -> None:
    """The arguments that `load_target` reads. A command that takes `others` as well says so."""
    parser.add_argument(
        "target",
        metavar=metavar,
        help=f"{others}a function, a module, a jitted function or a graph in a Python file",
    )
    parser.add_argument(
        "--input",
        dest="inputs",
        action="append",
        default=[],
        metavar="TYPE",
        help="an argument of random numbers, such as 'f32[4,8]'; 'i64[4]:10' for integers below "
        "10 (without a limit: below 2); once for each argument",
    )
    parser.add_argument(
        "--args",
        metavar="NAME",
        help="the arguments: a tuple in the file, or a function there that returns one",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random numbers (default 0)"
    )


def load_target(options: argparse.Namespace) -> Target:
    """The function that the command line names, with its arguments; or the graph in a text file.

    A Python file is loaded as a module of its own name, with its folder on the module path, as for
    a script. Raises CommandError where there is no such file or function, the file fails, or the
    arguments do not fit.
    """
    if options.target.endswith(".nir"):
        return _graph_in_text(options)
    path, colon, name = options.target.rpartition(":")
    file = Path(path if colon else options.target)
    if file.suffix != ".py" or not name or not colon:
        raise CommandError(
            f"{options.target!r}: write FILE:FUNCTION, such as train.py:step, or FILE.nir"
        )
    if not file.is_file():
        raise CommandError(f"there is no file {file}")
    if options.inputs and options.args is not None:
        raise CommandError("give the arguments either by --input or by --args, not both")
    module = load_module(file)
    value = _lookup(module, file, name)
    if isinstance(value, type) or not (callable(value) or isinstance(value, Graph)):
        kind = "a class" if isinstance(value, type) else f"of type {type(value).__name__}"
        raise CommandError(f"{name} in {file} is {kind}; name a function, a module or a graph")
    if options.args is not None:
        args = _arguments(module, file, options.args)
    else:
        numbers = np.random.default_rng(options.seed)
        args = tuple(
            Tensor(array_of_type(text, numbers), requires_grad=False) for text in options.inputs
        )
    _check(value, name, args)
    return Target(file, name, value, args)


def _graph_in_text(options: argparse.Namespace) -> Target:
    """The graph in a text file, which takes no arguments."""
    from needle_ir.cli.graph_file import read_graph

    if options.inputs or options.args is not None:
        raise CommandError(f"{options.target} is a graph: it has types and takes no arguments")
    graph, _ = read_graph(options.target)
    return Target(Path(options.target), graph.name, graph, ())


def array_of_type(text: str, numbers: np.random.Generator) -> Array:
    """Random numbers of a type in the text form, such as `f32[4,8]`: normal floats, integers from
    0 up to a limit (`i64[4]:10`), which is 2 by default, or booleans.

    Raises CommandError for a text that is no type.
    """
    match = _TYPE.fullmatch(text.strip())
    if match is None:
        raise CommandError(f"{text!r} is no type; write it like f32[4,8] or i64[4]:10")
    name = re.sub(r"^([fiu])(\d+)$", lambda m: _DTYPES[m[1]] + m[2], match["dtype"])
    try:
        dtype = as_dtype(name)
    except DTypeError as error:
        raise CommandError(f"{text!r}: {error}") from None
    shape = tuple(int(dim) for dim in match["shape"].split(",") if dim.strip())
    below = 2 if match["below"] is None else int(match["below"])
    if match["below"] is not None:
        if dtype.kind not in "iu":
            raise CommandError(f"{text!r}: a limit is for integers")
        largest = np.iinfo(dtype).max
        if not 1 <= below <= largest:
            raise CommandError(f"{text!r}: the limit must be at least 1 and at most {largest}")
    return random_array(TensorType(shape, dtype), numbers, below)


def load_module(file: Path) -> ModuleType:
    """The module in a user's file. Raises CommandError where it can not be loaded."""
    name = file.stem
    if name in sys.modules:
        raise CommandError(
            f"{file} has the name of the module {name!r}, which is in use: rename it"
        )
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules[name] = module
    try:
        with _errors_of(file, f"{file} can not be loaded"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _lookup(module: ModuleType, file: Path, name: str) -> Any:
    """What a dotted name stands for in a module."""
    value: Any = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            there = [key for key, x in vars(module).items() if _is_target(key, x, module)]
            known = f"; it has {', '.join(there)}" if there else ""
            raise CommandError(f"there is no {name} in {file}{known}") from None
    return value


def _is_target(name: str, value: Any, module: ModuleType) -> bool:
    """Whether a name in a file is worth naming: what it imports is not."""
    if name.startswith("_") or isinstance(value, type | ModuleType):
        return False
    if inspect.isroutine(value):
        return getattr(value, "__module__", None) == module.__name__
    return isinstance(value, Graph | JitFunction | Module)


def _arguments(module: ModuleType, file: Path, name: str) -> tuple[Any, ...]:
    value = _lookup(module, file, name)
    if callable(value):
        with _errors_of(file, f"{name} failed"):
            value = value()
    if not isinstance(value, tuple | list):
        raise CommandError(
            f"{name} in {file} gives {type(value).__name__}; --args takes a tuple of arguments"
        )
    return tuple(value)


def _check(value: Any, name: str, args: Sequence[Any]) -> None:
    """Refuse arguments that a function does not take, and say what it takes."""
    if isinstance(value, Graph):
        if args:
            raise CommandError(f"{name} is a graph, which takes no arguments")
        return
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        takes = ", ".join(map(str, signature.parameters.values())) or "no arguments"
        raise CommandError(
            f"{name} takes {takes}, and was given {len(args)} ({error}); pass one --input for "
            "each, such as --input 'f32[4,8]', or --args NAME for a tuple in the file"
        ) from None


@contextmanager
def _errors_of(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except CommandError:
        raise
    except SystemExit as error:
        raise CommandError(
            f"{what}: it exits; put what it runs below `if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        shown = traceback.TracebackException.from_exception(error, compact=True)
        frames = [*dropwhile(lambda x: x.filename != str(file.resolve()), shown.stack)]
        if not frames and not isinstance(error, SyntaxError):
            raise  # it is not the user's
        shown.stack = traceback.StackSummary.from_list([x for x in frames if not _is_ours(x)])
        shown.__cause__ = shown.__context__ = None
        raise CommandError(f"{what}\n{''.join(shown.format()).rstrip()}") from error


def _is_ours(frame: traceback.FrameSummary) -> bool:
    """Whether a frame runs code of this package, or of the import system."""
    path = Path(frame.filename)
    return frame.filename.startswith("<frozen ") or any(folder in path.parents for folder in _OURS)

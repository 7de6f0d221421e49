"""The source of an executor: how its lines are cut into functions, and how these are compiled."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from needle_ir.ir import Node
from needle_ir.runtime.inline import keep_lines

# Lines of source, and the node whose kernel each calls.
Written = list[tuple[str, Node | None]]

# Python's compiler keeps 5 KB for each line of a function until it is done with all of them. One
# function of 69,000 lines takes 380 MB, and 1.9 times as long as its lines in functions of 400.
MOST_LINES = 400
_BETWEEN = "\n\n"  # two functions


@dataclass(frozen=True)
class Function:
    """A function: its name, and all of its lines."""

    name: str
    lines: Written

    @property
    def text(self) -> str:
        """Its source."""
        return "".join([f"{line}\n" for line, _ in self.lines])


def function(
    name: str, parameters: Iterable[str], lines: Written, results: Iterable[str] = ()
) -> Function:
    """A function of these lines that returns a tuple of `results`."""
    head = f"def {name}({', '.join(parameters)}):"
    body: Written = [(f"    {line}", node) for line, node in lines]
    return Function(name, [(head, None), *body, (f"    return ({_row(results)})", None)])


@dataclass(eq=False)
class _Part:
    """Lines of a body, the names that they read of the rest, and those that the rest reads."""

    lines: Written = field(default_factory=list)
    takes: dict[str, None] = field(default_factory=dict)
    gives: dict[str, None] = field(default_factory=dict)


class Body:
    """The lines of a function, written in order; many are cut into functions that it calls.

    Each of these is given the local names that it reads of what stands before it, and returns
    those that are read behind it. Names that are neither parameters nor assigned are global.
    """

    def __init__(self, parameters: Sequence[str]):
        self._parameters = parameters
        self._parts = [_Part()]
        # Where each local name is assigned: None for parameters.
        self._home: dict[str, _Part | None] = dict.fromkeys(parameters)

    def assign(self, names: Iterable[str]) -> None:
        """Say that the next lines assign these names."""
        self._home.update(dict.fromkeys(names, self._parts[-1]))

    def write(self, lines: Written, names: Iterable[str]) -> None:
        """Add lines, in which no other local names stand than these."""
        part = self._parts[-1]
        part.lines += lines
        for name in names:
            home = self._home.get(name, part)
            if home is not part:
                part.takes[name] = None
                if home is not None:
                    home.gives[name] = None
        if len(part.lines) >= MOST_LINES:
            self._parts.append(_Part())

    def functions(self, name: str, results: Sequence[str]) -> list[Function]:
        """The function of this name that returns `results`, and those that it calls."""
        first, *rest = self._parts
        if not rest:
            return [function(name, self._parameters, first.lines, results)]
        for result in results:
            home = self._home.get(result)
            if home is not None:
                home.gives[result] = None
        calls: Written = []
        parts: list[Function] = []
        for number, part in enumerate(self._parts):
            parts.append(function(f"{name}_{number}", part.takes, part.lines, part.gives))
            results_of_part = f"{_row(part.gives)}= " if part.gives else ""
            calls.append((f"{results_of_part}{name}_{number}({', '.join(part.takes)})", None))
        return [function(name, self._parameters, calls, results), *parts]


class Source:
    """Functions that call each other, one after the other in one text."""

    def __init__(self, functions: Sequence[Function]):
        self._functions = functions
        self._texts = [function.text for function in functions]
        self.text = _BETWEEN.join(self._texts)

    def nodes(self) -> list[Node | None]:
        """For each line of the text the node whose kernel it calls."""
        found: list[Node | None] = []
        for function in self._functions:
            found += [node for _, node in function.lines]
            found += [None] * len(_BETWEEN)
        return found

    def define(self, filename: str, bound: Mapping[str, Any]) -> Callable[..., Any]:
        """The first of the functions, with `bound` for global names. A traceback through one of
        them shows its line as one of `filename`.
        """
        keep_lines(self.text, filename)
        namespace = dict(bound)
        line = 1
        for function, text in zip(self._functions, self._texts, strict=True):
            exec(compile(text, filename, "exec"), namespace)
            made = namespace[function.name]
            made.__code__ = made.__code__.replace(co_firstlineno=line)
            line += len(function.lines) + len(_BETWEEN)
        first: Callable[..., Any] = namespace[self._functions[0].name]
        return first


def _row(names: Iterable[str]) -> str:
    return "".join([f"{name}, " for name in names])

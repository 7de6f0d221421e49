"""Kernels that are lines of Python: the executor writes them into its own source."""

import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from needle_ir.ir import Array, Node

Kernel = Callable[..., Any]


@dataclass(frozen=True)
class Lines:
    """Lines of Python with names in braces, which whoever writes them out fills in.

    `{x0}`, `{x1}` … are the operands' arrays and `{out}` the result's; `{bits0}` and `{bits_out}`
    are the same arrays looked at as integers of that size. Other names are those of `bound`.
    """

    text: str
    bound: Mapping[str, Any] = field(default_factory=dict)

    def fill(self, names: Mapping[str, str]) -> list[str]:
        """The lines with `names` in the braces."""
        return self.text.format_map(names).splitlines()


@dataclass(frozen=True)
class Inline:
    """A row of the kernel table that says which lines compute a node."""

    lines: Callable[[Node], Lines]

    def __call__(self, node: Node) -> Kernel:
        """The lines as a function of the operands' arrays and the result's."""
        lines = self.lines(node)
        function = _function(lines.text, len(node.inputs), tuple(lines.bound))
        kernel: Kernel = function(*lines.bound.values())
        return kernel


def bits_dtype(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """The integers with as many bits as `dtype`."""
    return np.dtype(f"i{dtype.itemsize}")


def as_bits(array: Array) -> Array:
    """The array looked at as integers."""
    return array.view(bits_dtype(array.dtype))


class ByName(dict[str, str]):
    """Names for the braces of `Lines`; `{bits…}` are made of the array's own name."""

    def __missing__(self, key: str) -> str:
        kind, of = key[:4], key[4:]
        if kind != "bits":
            raise KeyError(key)
        return f"as_bits({self['out' if of == '_out' else 'x' + of]})"


@lru_cache(maxsize=4096)
def _function(text: str, operands: int, bound: tuple[str, ...]) -> Callable[..., Kernel]:
    names = [*[f"x{i}" for i in range(operands)], "out"]
    body = Lines(text).fill(ByName({name: name for name in (*names, *bound)}))
    source = "".join(
        [
            f"def bind({', '.join(bound)}):\n",
            f"    def kernel({', '.join(names)}):\n",
            *[f"        {line}\n" for line in body or ["pass"]],
            "    return kernel\n",
        ]
    )
    filename = "<needle_ir kernel>"
    keep_lines(source, filename)
    namespace: dict[str, Any] = {"as_bits": as_bits}
    exec(compile(source, filename, "exec"), namespace)
    bind: Callable[..., Kernel] = namespace["bind"]
    return bind


def keep_lines(source: str, filename: str) -> None:
    """Let tracebacks show the lines of a file that does not exist."""
    lines = source.splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)

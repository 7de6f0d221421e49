"""The values of attributes and constants, read from the text form."""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from needle_ir.ir.errors import DTypeError
from needle_ir.ir.graph import Graph
from needle_ir.ir.lexer import Lexer
from needle_ir.ir.node import Array
from needle_ir.ir.types import DType, TensorType, named_dtype

# Lists and graphs inside of each other, in a text that is meant well, are few.
MAX_DEPTH = 100

_WORDS: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "inf": float("inf"),
    "nan": float("nan"),
}


def read_name(lexer: Lexer, what: str) -> str:
    """A plain name, or one in quotes."""
    return read_string(lexer) if lexer.kind == "string" else lexer.read("name", what)


def read_string(lexer: Lexer) -> str:
    """A string in quotes, with JSON's escapes."""
    start, word = lexer.start, lexer.read("string", "a string in quotes")
    try:
        text: str = json.loads(word)
    except json.JSONDecodeError as error:
        lexer.fail(f"the string can not be read: {error.msg}; escapes are those of JSON", start)
    return text


def read_type(lexer: Lexer) -> TensorType:
    """A tensor type, such as `f32[2,3]`."""
    start, word = lexer.start, lexer.read("type", "a type, such as f32[2,3]")
    name, _, dims = word[:-1].partition("[")
    try:
        dtype = named_dtype(name)
        shape = tuple(map(int, dims.split(","))) if dims.strip() else ()
    except DTypeError as error:
        lexer.fail(str(error), start)
    except ValueError:
        lexer.fail(f"{word} is no type: its shape is not a list of lengths", start)
    return TensorType(shape, dtype)


def read_value(lexer: Lexer, read_graph: Callable[[int], Graph], depth: int = 0) -> Any:
    """The value of an attribute. `read_graph(depth)` reads a graph inside."""
    check_depth(lexer, depth)
    start = lexer.start
    if lexer.kind == "number":
        return _number(lexer)
    if lexer.kind == "string":
        return read_string(lexer)
    if lexer.kind == "type":
        return _in_brackets(lexer, read_type(lexer))
    if lexer.take("["):
        items = []
        while not lexer.take("]"):
            items.append(read_value(lexer, read_graph, depth + 1))
            if not lexer.at("]"):
                lexer.expect(",", "`,` or `]`")
        return tuple(items)
    if lexer.at("graph"):
        return read_graph(depth + 1)
    refuse_elided(lexer)
    if lexer.kind != "name":
        lexer.missing("the value of an attribute")
    word = lexer.advance()
    if word in _WORDS:
        return _WORDS[word]
    try:
        dtype = named_dtype(word)
    except DTypeError:
        lexer.fail(
            f"`{word}` is no value: a value is a number, true, false, none, inf, nan, a string in "
            "quotes, a dtype, an array such as f32[2]([0.5, 1.0]), a list of values, or a graph",
            start,
        )
    return _in_brackets(lexer, TensorType((), dtype))[()] if lexer.at("(") else dtype


def check_depth(lexer: Lexer, depth: int) -> None:
    """Refuse what is nested so deep that reading it would end in a RecursionError."""
    if depth > MAX_DEPTH:
        lexer.fail(f"nested deeper than {MAX_DEPTH} levels")


def _in_brackets(lexer: Lexer, type: TensorType) -> Array:
    lexer.expect("(", f"`(` and the elements of an array of {type}")
    array = Elements(lexer).array(type)
    lexer.expect(")")
    return array


def _number(lexer: Lexer) -> int | float:
    start, word = lexer.start, lexer.advance()
    if "x" in word:
        lexer.fail(f"{word} gives the bits of a float in an array; it is no value elsewhere", start)
    try:
        return int(word) if word.removeprefix("-").isdigit() else float(word)
    except ValueError as error:  # Python reads no integer of more than 4,300 digits
        lexer.fail(str(error), start)


def refuse_elided(lexer: Lexer) -> None:
    """Say of `<9 elements>` what it is."""
    if lexer.at("<"):
        end = lexer.text.find(">", lexer.start) + 1
        shown = lexer.text[lexer.start : end or lexer.start + 1]
        lexer.fail(
            f"`{shown}` was left out when this was printed; print the graph in full, "
            "with graph.format(full=True) or --full-constants"
        )


class Elements:
    """The elements of an array as they are written. Their type may follow later in the text.

    They are a nested list of words with their places, or base64.
    """

    def __init__(self, lexer: Lexer):
        self._lexer = lexer
        self._data: str | None = None
        self._start = lexer.start
        self._words: Any = None
        if lexer.take("base64"):
            self._data = lexer.read("string", "a string of base64")[1:-1]
        else:
            self._words = self._read(0)

    def array(self, type: TensorType) -> Array:
        """The array of this type. Raises ParseError where the elements do not fit it."""
        if self._data is None:
            flat: list[Any] = []
            self._flatten(self._words, type, 0, flat)
            return np.array(flat, type.dtype).reshape(type.shape)
        try:
            data = base64.b64decode(self._data, validate=True)
        except binascii.Error as error:
            self._lexer.fail(f"this is no base64: {error}", self._start)
        if len(data) != type.nbytes:
            self._lexer.fail(f"{type} has {type.nbytes} bytes, these are {len(data)}", self._start)
        array = np.frombuffer(data, type.dtype.newbyteorder("<")).reshape(type.shape)
        return array.astype(type.dtype)

    def _read(self, depth: int) -> Any:
        lexer = self._lexer
        check_depth(lexer, depth)
        start = lexer.start
        if lexer.take("["):
            items: list[Any] = []
            while not lexer.take("]"):
                items.append(self._read(depth + 1))
                if not lexer.at("]"):
                    lexer.expect(",", "`,` or `]`")
            return (start, items)
        refuse_elided(lexer)
        if lexer.kind not in ("number", "name"):
            lexer.missing("a number, true, false, or a list of these")
        return (start, lexer.advance())

    def _flatten(self, words: Any, type: TensorType, axis: int, flat: list[Any]) -> None:
        start, content = words
        if axis == type.ndim:
            if isinstance(content, list):
                self._lexer.fail(f"an element of {type} is no list", start)
            flat.append(self._element(content, type.dtype, start))
            return
        if not isinstance(content, list) or len(content) != type.shape[axis]:
            found = f"a list of {len(content)}" if isinstance(content, list) else f"`{content}`"
            wanted = f"a list of {type.shape[axis]}"
            self._lexer.fail(f"axis {axis} of {type} needs {wanted}, this is {found}", start)
        for item in content:
            self._flatten(item, type, axis + 1, flat)

    def _element(self, word: str, dtype: DType, start: int) -> Any:
        try:
            return _PARSERS[dtype.kind](word, dtype)
        except (ValueError, KeyError, ArithmeticError):
            self._lexer.fail(f"`{word}` is no {dtype.name}", start)


def _float(word: str, dtype: DType) -> Any:
    if word in ("inf", "-inf", "nan"):
        return dtype.type(float(word))
    if "x" not in word:
        with np.errstate(over="raise"):
            number = dtype.type(float(word))
        if not np.isfinite(number):
            raise OverflowError
        return number
    bits = bytes.fromhex(word.removeprefix("0x"))
    if len(bits) != dtype.itemsize:
        raise ValueError
    return np.frombuffer(bits[::-1], dtype.newbyteorder("<"))[0].astype(dtype)


def _integer(word: str, dtype: DType) -> Any:
    value, limits = int(word), np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise ValueError
    return value


# By the kind of the dtype.
_PARSERS: dict[str, Callable[[str, DType], Any]] = {
    "f": _float,
    "i": _integer,
    "u": _integer,
    "b": lambda word, dtype: {"true": True, "false": False}[word],
}

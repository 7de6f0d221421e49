"""The words of the text form, one at a time, and errors that name a place in it."""

import re
from typing import NoReturn

_TOKEN = re.compile(
    r"""[ \t\r]*(?:
      (?P<value>%[A-Za-z0-9_.]+)
    | (?P<type>[a-z]+[0-9]*\[[0-9, ]*\])
    | (?P<name>[A-Za-z_][A-Za-z0-9_.]*)
    | (?P<number>-?(?:0x[0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf\b))
    | (?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*")
    | (?P<mark>->|[()\[\]{}:,=@<>])
    | (?P<newline>\n)
    | (?P<comment>\#[^\n]*)
    | (?P<end>\Z)
    | (?P<bad>.)
    )""",
    re.VERBOSE | re.ASCII,
)
# How much of a line is shown on either side of an error: constants can be long.
_SHOWN = 60


class ParseError(ValueError):
    """A text that is no graph.

    `reason` says what is wrong and what to do, `line` and `column` where, both counted from 1. The
    message shows the line as well.
    """

    def __init__(self, reason: str, text: str, position: int):
        begin = text.rfind("\n", 0, position) + 1
        end = text.find("\n", position)
        self.reason = reason
        self.line = text.count("\n", 0, position) + 1
        self.column = position - begin + 1
        left = max(begin, position - _SHOWN)
        right = min(len(text) if end < 0 else end, position + _SHOWN)
        shown = text[left:right].replace("\t", " ")
        lead = len(shown) - len(shown.lstrip())
        super().__init__(
            f"line {self.line}, column {self.column}: {reason}\n"
            f"    {shown.strip()}\n"
            f"    {' ' * (position - left - lead)}^"
        )


class Lexer:
    """A text, and the word in it that is to be read next.

    `kind` is the word's kind, `word` its text and `start` its place. `comment` is the comment that
    stands behind the word before, on the same line; empty where there is none.
    """

    def __init__(self, text: str):
        self.text = text
        self.kind = self.word = self.comment = ""
        self.start = self._end = 0
        self.advance()

    def advance(self) -> str:
        """Go on to the next word. Returns the one that is left."""
        left = self.word
        self.comment = ""
        position, same_line = self._end, True
        while True:
            match = _TOKEN.match(self.text, position)
            assert match is not None
            kind = match.lastgroup
            assert kind is not None
            position = match.end()
            if kind == "newline":
                same_line = False
            elif kind == "comment":
                if same_line:
                    self.comment = match[kind][1:].strip()
            else:
                break
        self.kind, self.word = kind, match[kind]
        self.start, self._end = match.start(kind), position
        if kind == "bad":
            self.fail(
                "the string is not closed on its line"
                if self.word == '"'
                else f"{self.word!r} has no meaning here"
            )
        return left

    def at(self, word: str) -> bool:
        """Whether this mark or name is next."""
        return self.word == word and self.kind in ("mark", "name")

    def take(self, word: str) -> bool:
        """Read this mark or name if it is next."""
        if not self.at(word):
            return False
        self.advance()
        return True

    def expect(self, word: str, what: str = "") -> None:
        """Read this mark or name. Raises ParseError where another word is next."""
        if not self.take(word):
            self.missing(what or f"`{word}`")

    def read(self, kind: str, what: str) -> str:
        """Read a word of this kind and return it. Raises ParseError where it is of another one."""
        if self.kind != kind:
            self.missing(what)
        return self.advance()

    def missing(self, what: str) -> NoReturn:
        """Raise ParseError: something else is expected here."""
        word = self.word if len(self.word) <= 2 * _SHOWN else f"{self.word[:_SHOWN]}…"
        found = f"`{word}`" if self.kind != "end" else "the end of the text"
        self.fail(f"expected {what}, found {found}")

    def fail(self, reason: str, start: int | None = None) -> NoReturn:
        """Raise ParseError, at the next word or where `start` says."""
        raise ParseError(reason, self.text, self.start if start is None else start)

"""Pipelines: lists of passes, their text form, and the manager that runs them."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from needle_ir.ir import Graph, Instrument, Pass, RewriteInstrument, watch_rewrites

_ITEM = re.compile(r"\s*([a-z_][a-z0-9_-]*)\s*(?:\{([^{}]*)\})?\s*(?:,|$)")


def run_pipeline(
    graph: Graph, passes: Iterable[Pass], instruments: Sequence[Instrument] = ()
) -> Graph:
    """Run `passes` in order, with `instruments` looking on."""
    for instrument in instruments:
        instrument.start(graph)
    rewrite_instruments = [x for x in instruments if isinstance(x, RewriteInstrument)]
    for pass_ in passes:
        watchers = [partial(instrument.rewrite, pass_) for instrument in rewrite_instruments]
        started = time.perf_counter()
        with watch_rewrites(*watchers):
            result = pass_.run(graph)
        seconds = time.perf_counter() - started
        for instrument in instruments:
            instrument.after(pass_, graph, result, seconds)
        graph = result
    return graph


def format_pipeline(passes: Iterable[Pass]) -> str:
    """The text form of a pipeline: `lower{keep_vjp=true}, fold, cse`.

    Options are the fields of the pass, where it is a dataclass, that are shown in its repr and
    differ from their defaults.
    """
    return ", ".join(map(_format_pass, passes))


def parse_pipeline(
    pipeline: str | Iterable[str | Pass], table: Mapping[str, Callable[..., Pass]]
) -> list[Pass]:
    """The passes of a pipeline: a text, or a list of texts and passes.

    `table` makes a pass of its name and its options; a text may name the passes that stand there.
    Raises ValueError, with the place, for an unknown pass, an unknown option or a bad value.
    """
    passes: list[Pass] = []
    for part in [pipeline] if isinstance(pipeline, str) else pipeline:
        passes += _parse_text(part, table) if isinstance(part, str) else [part]
    return passes


def _parse_text(text: str, table: Mapping[str, Callable[..., Pass]]) -> list[Pass]:
    passes: list[Pass] = []
    position = 0
    while position < len(text):
        item = _ITEM.match(text, position)
        if item is None:
            raise ValueError(f"pipeline {text!r}: can not read it at {text[position:]!r}")
        name, options = item.group(1), item.group(2)
        if name not in table:
            import difflib

            near = difflib.get_close_matches(name, table, n=2)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            raise ValueError(f"no pass {name!r}; {meant}the passes are {', '.join(sorted(table))}")
        values = _parse_options(options or "")
        try:
            pass_ = table[name](**values)
        except TypeError as error:
            raise ValueError(f"pass {name!r}: {error}") from None
        _check_kinds(pass_, values)
        passes.append(pass_)
        position = item.end()
    return passes


def _format_pass(pass_: Any) -> str:
    shown = [
        f"{field.name}={_format_value(getattr(pass_, field.name))}"
        for field in (fields(pass_) if is_dataclass(pass_) else ())
        if field.repr and getattr(pass_, field.name) != field.default
    ]
    return f"{pass_.name}{{{', '.join(shown)}}}" if shown else str(pass_.name)


def _format_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse_options(text: str) -> dict[str, bool | int]:
    options: dict[str, bool | int] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = map(str.strip, part.partition("="))
        if value in ("true", "false"):
            options[name] = value == "true"
        elif equals and value.isdecimal():
            options[name] = int(value)
        else:
            raise ValueError(f"option {part!r}: write name=true, name=false or name=NUMBER")
    return options


def _check_kinds(pass_: Any, options: Mapping[str, bool | int]) -> None:
    """Refuse a number for an option that is true or false by default, and the other way round."""
    for field in fields(pass_) if is_dataclass(pass_) else ():
        if field.name in options and isinstance(field.default, bool | int):
            value = options[field.name]
            if isinstance(value, bool) != isinstance(field.default, bool):
                raise ValueError(
                    f"pass {pass_.name!r}: option {field.name}={_format_value(value)}; "
                    f"its values are like {_format_value(field.default)}"
                )

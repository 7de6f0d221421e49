"""One self-contained page of HTML: its text is put together here from plain data.

The files `*.js` are its script, `page.css` its looks, `page.html` its frame.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from needle_ir.viz.page.picture import MAX_BOXES, Limits, PagePicture, page_picture

__all__ = ["MAX_BOXES", "Limits", "PagePicture", "page", "page_picture"]

# In this order they are one script.
_SCRIPTS = (
    "elements.js",
    "data.js",
    "place.js",
    "links.js",
    "picture.js",
    "passes.js",
    "value.js",
    "memory.js",
    "profile.js",
    "search.js",
    "main.js",
)
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def page(title: str, data: Mapping[str, Any], pictures: Mapping[str, Mapping[str, Any]]) -> str:
    """The page as HTML text.

    `data` is everything but the pictures, which are unpacked one by one when they are looked at.
    The page asks no network for anything, and its policy forbids it to: it runs this script and
    uses this style sheet, and nothing else. Raises ValueError for data that JSON can not hold.
    """
    style, script = _asset("page.css"), _script()
    parts = {
        "title": escape(title),
        "policy": (
            f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        "style": style,
        "script": script,
        "data": "\n".join(
            f'<script type="text/plain" id="{escape(id)}">{_packed(value)}</script>'
            for id, value in {"data": data, **pictures}.items()
        ),
    }
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], _asset("page.html"))


def _packed(value: Mapping[str, Any]) -> str:
    """`value` as JSON, deflated, in base64: no text in it can be taken for HTML."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _script() -> str:
    body = "\n".join(_asset(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{body}\n}})();\n'


@cache
def _asset(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")

"""What a page holds, unpacked as its script unpacks it."""

import base64
import json
import re
import zlib

PACKED = re.compile(r'<script type="text/plain" id="([\w-]+)">([^<]*)</script>')


def held_in(html):
    """The data of a page, and its pictures by id."""
    found = {
        id: json.loads(zlib.decompress(base64.b64decode(text))) for id, text in PACKED.findall(html)
    }
    return found.pop("data"), found

"""How a notebook shows what has a text form, and what can be drawn."""

from collections.abc import Callable, Collection
from typing import Any, ClassVar


class Representable:
    """Something that a notebook shows as its text, and as a picture where there is one."""

    __slots__ = ()

    # What is shown besides the text, by MIME type; None where there is nothing. The IR draws
    # nothing, so the functions stand in a table which `needle_ir` fills.
    REPRESENTATIONS: ClassVar[dict[str, Callable[[Any], str | None]]] = {}

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, str]:
        """What a notebook shows, by MIME type: the text form, and each of REPRESENTATIONS."""
        table: dict[str, Callable[[Any], str | None]] = {"text/plain": str, **self.REPRESENTATIONS}
        shown = {
            mime: show(self)
            for mime, show in table.items()
            if (include is None or mime in include) and mime not in (exclude or ())
        }
        return {mime: text for mime, text in shown.items() if text is not None}

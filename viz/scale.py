"""Scales: bytes to the width of a line, a share to a colour, numbers to short text."""

from math import log10

# Paul Tol's YlOrBr scheme (SRON/EPS/TN/09-002) up to where dark text is readable on it.
_HEAT = ("#ffffff", "#fff7bc", "#fee391", "#fec44f", "#fb9a29", "#f58a2c")
# Pale steps from his smooth rainbow: where in the arena a buffer begins.
_ARENA = ("#d7c8e8", "#c2cdf0", "#b9e0ee", "#c4e8d0", "#e0eec0", "#f7e7b4", "#f8cfb0")

_THIN, _THICK = 0.6, 4.0
_SMALL = 64  # bytes that are drawn thin; each tenfold adds _PER_DECADE
_PER_DECADE = 0.45


def edge_width(nbytes: int) -> float:
    """The width of an edge, in points: the same for the same bytes in every picture."""
    width = _THIN + _PER_DECADE * log10(max(nbytes, _SMALL) / _SMALL)
    return round(min(width, _THICK), 1)


def heat_colour(share: float) -> str:
    """The fill for a share, from 0 to 1, of the longest time."""
    return _on_ramp(_HEAT, share)


def arena_colour(share: float) -> str:
    """The fill for a place in the arena, from 0 at its start to 1 at its end."""
    return _on_ramp(_ARENA, share)


def bytes_text(nbytes: int) -> str:
    """Bytes in three digits: `512 B`, `25.6 kB`, `1.23 MB`. A kB is 1,000 bytes."""
    return _scaled(nbytes, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")))


def seconds_text(seconds: float) -> str:
    """Seconds in three digits: `1.23 ms`."""
    return _scaled(seconds, ((1, "s"), (1e-3, "ms"), (1e-6, "µs")))


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    if value == 0:
        return f"0 {units[-1][1]}"
    size, unit = next((row for row in units if value >= row[0]), units[-1])
    number = value / size
    digits = max(0, 2 - int(log10(number))) if number >= 1 else 2
    if number == int(number) and number < 1000:
        return f"{int(number)} {unit}"
    return f"{number:,.{digits}f} {unit}"


def _on_ramp(ramp: tuple[str, ...], share: float) -> str:
    position = min(max(share, 0.0), 1.0) * (len(ramp) - 1)
    lower = min(int(position), len(ramp) - 2)
    weight = position - lower
    ends = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in ramp[lower : lower + 2]]
    return "#" + "".join(f"{round(a + (b - a) * weight):02x}" for a, b in zip(*ends, strict=True))

"""Sizes and times as people write them. A unit is required: 16 of what, nobody can tell."""

import math
import re

MB = 10**6
_SIZES = {
    "b": 1,
    "kb": 10**3,
    "mb": MB,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_TIMES = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_SIZE = re.compile(rf"{_NUMBER}\s*([A-Za-z]+)\Z")
_TIME = re.compile(rf"(?:{_NUMBER}\s*([A-Za-z]+)\s*)+\Z")
_TIME_PART = re.compile(rf"{_NUMBER}\s*([A-Za-z]+)")


def megabytes(text: object) -> int:
    """`16GB` as 16000 MB (10^6 bytes), rounded up; binary units too: `16GiB`.

    Raises:
        ValueError: no size, or no unit; the message tells how to write it.
    """
    found = _SIZE.match(text.strip()) if isinstance(text, str) else None
    if found is None or found[2].lower() not in _SIZES:
        raise ValueError(f"{text!r} is no size with a unit; write for example 500MB, 16GB or 16GiB")
    exact = float(found[1]) * _SIZES[found[2].lower()] / MB
    return math.ceil(round(exact, 9))


def seconds(text: object) -> int:
    """`6h`, `1h30m`, `90 min` or `1.5d` in seconds, rounded up.

    Raises:
        ValueError: no time, or no unit; the message tells how to write it.
    """
    parts = _TIME_PART.findall(text) if isinstance(text, str) and _TIME.match(text.strip()) else []
    if not parts or any(unit.lower() not in _TIMES for _, unit in parts):
        raise ValueError(f"{text!r} is no time with a unit; write for example 30min, 6h or 1h30m")
    return math.ceil(round(sum(float(number) * _TIMES[unit.lower()] for number, unit in parts), 9))

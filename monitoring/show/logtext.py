"""Log lines for a page: ANSI colours become classes, and nothing else of a line is believed."""

import re

from markupsafe import Markup, escape

_CODES = re.compile(r"\x1b\[([0-9;]*)m")
#: Other escape sequences, and what cannot be shown.
_OTHER = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")
_ERROR = re.compile(r"\b(?:ERROR|CRITICAL|FATAL|Traceback|Segmentation fault|Killed)\b|(?:Error|Exception)\b|\berror:")
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def is_error(line: str) -> bool:
    """Whether a line tells of an error, by its words."""
    return _ERROR.search(line) is not None


def coloured(line: str) -> Markup:
    """The line, escaped, with spans of class `ansi-<colour>` and `ansi-bold` where its ANSI codes say so."""
    if "\x1b" not in line:
        return escape(_OTHER.sub("", line))
    told, classes, last = Markup(""), set[str](), 0
    for code in _CODES.finditer(line):
        told += _span(line[last : code.start()], classes)
        classes = _after(classes, code[1])
        last = code.end()
    return told + _span(line[last:], classes)


def _span(text: str, classes: set[str]) -> Markup:
    clean = escape(_OTHER.sub("", text))
    if not classes or not clean:
        return clean
    return Markup('<span class="{}">{}</span>').format(" ".join(sorted(classes)), clean)


def _after(classes: set[str], code: str) -> set[str]:
    found = set(classes)
    for part in (code or "0").split(";"):
        number = int(part or 0) if len(part) < 4 else -1  # a longer one means nothing
        if number in (0, 39):
            found = set() if number == 0 else {each for each in found if each == "ansi-bold"}
        elif number == 1:
            found.add("ansi-bold")
        elif 30 <= number <= 37 or 90 <= number <= 97:
            found = {each for each in found if each == "ansi-bold"} | {f"ansi-{COLOURS[number % 10]}"}
    return found

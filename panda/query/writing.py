"""A tree becomes text again: what `read` makes of the text is the same tree."""

import re
from datetime import UTC, datetime

from panda.query.tree import Ago, And, Expression, Not, Op, Or, Pattern, Span, Value
from panda.query.values import NONE, UNIT_S

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+%=-]+\Z")
_PLAIN_PATTERN = re.compile(r"[^\s,()\"']+[^\s,()]*\Z")


def write(expression: Expression) -> str:
    """The text of a filter, as short as `read` needs it."""
    if isinstance(expression, And):
        return " ".join(_inside(part, (And, Or)) for part in expression.parts)
    if isinstance(expression, Or):
        return " or ".join(_inside(part, (Or,)) for part in expression.parts)
    if isinstance(expression, Not):
        return f"not {_inside(expression.part, (And, Or))}"
    values = ",".join(_value(value) for value in expression.values)
    return f"{expression.field.name}{':' if expression.op is Op.IS else expression.op}{values}"


def _inside(part: Expression, in_brackets: tuple[type, ...]) -> str:
    return f"({write(part)})" if isinstance(part, in_brackets) else write(part)


def _value(value: Value) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return word(value)
    if isinstance(value, Pattern):
        if not _PLAIN_PATTERN.match(value.text) or "*" not in value.text:
            raise ValueError(f"{value.text!r} cannot be written as a pattern")
        return value.text
    if isinstance(value, Ago):
        return _duration(value.seconds)
    if isinstance(value, Span):
        return f"{_instant(value.since) if value.since else ''}/{_instant(value.until) if value.until else ''}"
    return _instant(value) if isinstance(value, datetime) else repr(value)


def word(text: str) -> str:
    """A text as a value: in quotes where `read` would take it for something else."""
    return text if _PLAIN.match(text) and text != NONE else quoted(text)


def quoted(text: str) -> str:
    """A value as `read` takes it, whatever stands in it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _duration(seconds: int) -> str:
    unit = next(unit for unit in reversed(UNIT_S) if seconds % UNIT_S[unit] == 0)
    return f"{seconds // UNIT_S[unit]}{unit}"


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")

"""One value of a test, as its field's kind reads it."""

import math
import re
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches

from panda.query.fields import Field, Kind
from panda.query.tree import Ago, Op, Pattern, Span, Value

NONE = "none"
FLAGS = {"true": True, "yes": True, "false": False, "no": False}
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
#: Whole numbers are PostgreSQL's bigint.
MAX_WHOLE = 2**63 - 1
#: A hundred years; beyond it an instant may not exist.
MAX_AGO_S = 100 * 366 * 86_400
#: Stars of one pattern; each one more is a longer search.
MAX_STARS = 10
#: Digits of a number; longer ones take time to read and are never meant.
MAX_DIGITS = 40

_WHOLE = re.compile(r"-?[0-9]+\Z")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?\Z")
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME_LIKE = re.compile(r"[0-9TZ:.+-]{1,40}\Z")
#: Kinds that have an order.
_ORDERED = (Kind.WHOLE, Kind.NUMBER, Kind.TIME)


def value_of(field: Field, op: Op, text: str, *, is_quoted: bool) -> Value:
    """The value that `text` means for `field`. Raises ValueError with a sentence."""
    is_equality = op in (Op.IS, Op.IS_NOT)
    if not is_equality and field.kind not in _ORDERED:
        raise ValueError(f"{field.name} has no order; use {field.name}:VALUE or {field.name}!=VALUE")
    if not is_quoted and text == NONE and (field.is_nullable or field.kind in _ORDERED):
        if not field.is_nullable:
            raise ValueError(f"{field.name} always has a value")
        if not is_equality:
            raise ValueError(f"{NONE} is neither above nor below anything")
        return None
    if field.kind in (Kind.TEXT, Kind.WORDS):
        return _text(field, text, is_quoted)
    if field.kind is Kind.WORD:
        return _word(field, text)
    if field.kind is Kind.FLAG:
        return _flag(field, text)
    if field.kind is Kind.WHOLE:
        return _whole(field, text)
    if field.kind is Kind.NUMBER:
        return _number(field, text)
    return _span(field, text) if is_equality else _instant(field, text)


def _text(field: Field, text: str, is_quoted: bool) -> Value:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a value holds characters that cannot be stored")
    if is_quoted or "*" not in text:
        return text
    if field.kind is Kind.WORDS:
        raise ValueError(f"{field.name} is compared with whole words, without *")
    if text.count("*") > MAX_STARS:
        raise ValueError(f"a pattern has at most {MAX_STARS} stars")
    return Pattern(text)


def _word(field: Field, text: str) -> str:
    word = text.lower()
    if word not in field.words:
        near = get_close_matches(word, field.words, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(field.words)}"
        raise ValueError(f"{text[:60]!r} is no {field.name}; {hint}")
    return word


def _flag(field: Field, text: str) -> bool:
    if text.lower() not in FLAGS:
        raise ValueError(f"{field.name} is true or false")
    return FLAGS[text.lower()]


def _whole(field: Field, text: str) -> int:
    if len(text) > MAX_DIGITS or not _WHOLE.match(text) or abs(int(text)) > MAX_WHOLE:
        raise ValueError(f"{field.name} is a whole number, not {text[:30]!r}")
    return int(text)


def _number(field: Field, text: str) -> float:
    if len(text) > MAX_DIGITS or not _NUMBER.match(text) or not math.isfinite(float(text)):
        raise ValueError(f"{field.name} is a number, not {text[:30]!r}")
    return float(text)


def _span(field: Field, text: str) -> Value:
    """A duration (`24h`), an interval (`A/B`, either may be missing), a day, an instant."""
    duration = _DURATION.match(text)
    if duration:
        seconds = int(duration[1]) * UNIT_S[duration[2]]
        if seconds > MAX_AGO_S:
            raise ValueError(f"{text} is longer than a hundred years")
        return Ago(seconds)
    since, slash, until = text.partition("/")
    if slash:
        if not since and not until:
            raise ValueError("an interval has a beginning or an end")
        span = Span(_instant(field, since) if since else None, _instant(field, until) if until else None)
        if span.since is not None and span.until is not None and span.until <= span.since:
            raise ValueError("the interval ends before it begins")
        return span
    at = _instant(field, text)
    if not _DATE.match(text):
        return at
    try:
        return Span(at, at + timedelta(days=1))
    except OverflowError:
        return Span(at, None)


def _instant(field: Field, text: str) -> datetime:
    """An instant of ISO 8601; without a zone it is UTC."""
    if _DURATION.match(text):
        raise ValueError(f"write {field.name}:{text} for the last {text}, {field.name}!={text} for before that")
    problem = ValueError(f"{text[:40]!r} is no time; write 24h, 7d, 2026-11-20, 2026-11-20T08:30Z or FROM/TO")
    if not _TIME_LIKE.match(text):
        raise problem
    try:
        if _DATE.match(text):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise problem from None

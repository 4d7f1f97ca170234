"""Query parameters, checked: a number in its range, a word of a list, a cursor."""

from collections.abc import Mapping, Sequence
from typing import Any

import falcon

from panda.api.errors import BadRequest
from panda.errors import UnknownName
from panda.jobs.queries import MAX_PAGE

MAX_ID = 2**62


def whole_number(low: int, high: int, about: str) -> dict[str, Any]:
    """The schema of a number in a query, as `whole` reads it."""
    return {"type": "integer", "minimum": low, "maximum": high, "description": about}


#: A cursor that is a name.
NAME: dict[str, Any] = {"type": "string", "description": "The cursor of the page before."}
#: What a parameter means wherever nothing else is said of it: its schema, and a sentence.
SCHEMAS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "after": ({"type": "integer", "minimum": 1, "maximum": MAX_ID}, "The cursor of the page before."),
    "attempt": ({"type": "integer", "minimum": 1, "maximum": 10_000}, "Which attempt; none: the newest."),
    "by": ({"type": "string"}, "Fields to count by, with commas between them; up to three."),
    "before": ({"type": "integer", "minimum": 1, "maximum": MAX_ID}, "The cursor of the page before."),
    "job": ({"type": "integer", "minimum": 1, "maximum": MAX_ID}, "This job alone."),
    "fields": ({"type": "string"}, "Only these fields of each, with commas between them."),
    "filter": (
        {"type": "string", "maxLength": 8_000},
        "What has to hold, as in `status:failed site:HOL* changed:24h`; see the page on filters.",
    ),
    "format": ({"enum": ["json", "csv"]}, "The same as `Accept`."),
    "jobset": ({"type": "integer", "minimum": 1, "maximum": MAX_ID}, "Jobs of this job set."),
    "limit": ({"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, "Items of a page."),
    "mine": ({"type": "string", "enum": ["true", "false"]}, "`true`: only what belongs to the caller."),
    "owner": ({"type": "string"}, "What belongs to this user."),
    "queue": ({"type": "string"}, "What is at this queue."),
    "sort": ({"type": "string"}, "An order that an index serves; with `-` before it: from the end."),
    "status": ({"type": "string"}, "One status, or several with commas between them."),
    "storage": ({"type": "string"}, "The storage; none: the only one."),
    "who": ({"type": "string"}, "Deeds of this one."),
}


def whole(req: falcon.Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number from `low` to `high`. Raises BadRequest."""
    found = optional_whole(req, name, low, high)
    return default if found is None else found


def optional_whole(req: falcon.Request, name: str, low: int, high: int) -> int | None:
    """The same, or None where it is not given. Raises BadRequest."""
    text = word(req, name)
    if text is None:
        return None
    digits = text.removeprefix("-")
    number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None
    if number is None or not low <= number <= high:
        raise BadRequest(f"{text[:30]!r} is no whole number from {low} to {high}", where=name)
    return number


def word(req: falcon.Request, name: str) -> str | None:
    """One value; an empty one is none. Raises BadRequest: it stands there more than once."""
    value = req.params.get(name)
    if isinstance(value, list):
        raise BadRequest("stands there more than once", where=name)
    return value or None


def words(req: falcon.Request, name: str, known: Sequence[str]) -> list[str]:
    """Values out of `known`, with commas between them or repeated. Raises UnknownName."""
    value = req.params.get(name) or []
    found = [each for text in (value if isinstance(value, list) else [value]) for each in text.split(",") if each]
    for each in found:
        if each not in known:
            raise UnknownName(name, each[:60], list(known), where=name)
    return found


def page_limit(req: falcon.Request, default: int = 100) -> int:
    """`limit`: 1 to MAX_PAGE."""
    return whole(req, "limit", default, 1, MAX_PAGE)

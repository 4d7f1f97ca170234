"""Query parameters, checked: a number in its range, a word of a list, a cursor."""

from collections.abc import Sequence

import falcon

from panda.api.errors import BadRequest
from panda.errors import UnknownName
from panda.jobs.queries import MAX_PAGE

MAX_ID = 2**62


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


def after_id(req: falcon.Request) -> int | None:
    """`after`: the id that the page before ended with."""
    return optional_whole(req, "after", 1, MAX_ID)

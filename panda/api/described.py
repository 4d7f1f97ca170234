"""What each responder says of its messages, beside `access`, which says who may call it.

`openapi` makes the description of the whole face from these marks, the routes and the structs; a test walks
all routes for one, and the API's own tests hold every answer against it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

Responder = TypeVar("Responder", bound=Callable[..., None])
Schema = Mapping[str, Any]
"""A JSON schema."""


class Page(NamedTuple):
    """A list: `{"data": […], "page": {"next": cursor}}`."""

    item: type[msgspec.Struct]
    is_list: bool = False
    """It takes `fields` and gives CSV as well (`panda.api.listing`)."""


class Raw(NamedTuple):
    """Bytes of a media type."""

    media: str


Message = type[msgspec.Struct] | Page | Raw


class Description(NamedTuple):
    """`gives` is None for an answer without a body; `problems` are codes by HTTP status."""

    gives: Message | None
    statuses: tuple[int, ...]
    takes: type[msgspec.Struct] | Raw | None
    takes_nothing_too: bool
    headers: tuple[str, ...]
    parameters: Mapping[str, Schema]
    problems: Mapping[int, frozenset[str]]


def gives(
    message: Message | None,
    *,
    status: int | tuple[int, ...] = 200,
    takes: type[msgspec.Struct] | Raw | None = None,
    takes_nothing_too: bool = False,
    headers: tuple[str, ...] = (),
    parameters: Mapping[str, Schema] | None = None,
    problems: Mapping[int, str] | None = None,
) -> Callable[[Responder], Responder]:
    """What comes back, and what goes in.

    Args:
        status: of an answer that is no problem.
        takes: the body; `takes_nothing_too`: it may be left out.
        headers: names of `openapi.HEADERS` that are read here.
        parameters: schemas of query parameters that differ from those of `parameters.SCHEMAS`.
        problems: codes by HTTP status, words of one string; those that every call of its kind may meet
            (`openapi.problems_of`) are left out.
    """
    statuses = status if isinstance(status, tuple) else (status,)
    codes = {number: frozenset(words.split()) for number, words in (problems or {}).items()}
    description = Description(message, statuses, takes, takes_nothing_too, headers, parameters or {}, codes)

    def mark(responder: Responder) -> Responder:
        responder.description = description  # type: ignore[attr-defined]
        return responder

    return mark


def description_of(responder: Any) -> Description | None:
    """The mark of a responder; None: it has none."""
    found: Description | None = getattr(responder, "description", None)
    return found

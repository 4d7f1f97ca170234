"""What every list of /v1 has in common: filter, page, order, fields, JSON or CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import falcon
import msgspec

from panda.api.answers import show_page
from panda.api.errors import BadRequest
from panda.api.parameters import MAX_ID, optional_whole, page_limit, word
from panda.db import lists
from panda.db.lists import MAX_PAGE, Noun
from panda.db.session import Begin
from panda.errors import NotFound, UnknownName
from panda.query import EVERYTHING, Expression, all_of, equal_to, read

#: Query parameters of every list.
LIST = ("filter", "after", "limit", "fields", "sort", "format")
#: Cursors of lists, whatever they are made of.
CURSOR: dict[str, Any] = {"type": "string", "description": "The cursor of the page before."}
#: What a list refuses with.
LIST_PROBLEMS = {
    400: "bad_filter bad_cursor",
    422: "unknown_field unknown_sort unserved_sort",
}
#: Query parameters of a list that is short and known as a whole, and what it refuses with.
SHORT_LIST = ("after", "limit", "fields", "format")
SHORT_LIST_PROBLEMS = {422: "unknown_field"}
CSV = "text/csv"


class Asked(NamedTuple):
    """What was asked of a list. `fields` is None for all of them."""

    expression: Expression
    after: str | None
    limit: int
    sort: str | None
    fields: tuple[str, ...] | None
    is_csv: bool


def asked_of(req: falcon.Request, noun: Noun, item: type[msgspec.Struct], default: int = 100) -> Asked:
    """What a request asks of a list of `noun`.

    Raises:
        BadFilter, BadRequest. UnknownName: `unknown_field`.
    """
    return Asked(
        filter_of(req, noun),
        word(req, "after"),
        page_limit(req, default),
        word(req, "sort"),
        _fields(req, item),
        wants_csv(req),
    )


def filter_of(req: falcon.Request, noun: Noun) -> Expression:
    """The `filter` of a request; without one: everything. Raises BadFilter."""
    value = req.params.get("filter")
    # A comma in it is the filter's own, not that of a list of parameters.
    text = ",".join(value) if isinstance(value, list) else value or ""
    return read(text, noun.fields)


def of_owner(noun: Noun, owner: str | None) -> Expression:
    """Narrowed to what is `owner`'s; None: to nothing."""
    field = noun.fields.find("owner")
    return EVERYTHING if owner is None or field is None else equal_to(field, owner)


def show_list(
    begin: Begin,
    req: falcon.Request,
    resp: falcon.Response,
    noun: Noun,
    item: type[msgspec.Struct],
    *,
    also: Expression = EVERYTHING,
    make: Callable[[Any], msgspec.Struct] | None = None,
    default: int = 100,
) -> None:
    """A page of `noun` as the request wants it.

    Args:
        also: what has to hold whatever the filter says.
        make: a row becomes an item; none: by its columns.
    """
    asked = asked_of(req, noun, item, default)
    with begin() as connection:
        page = lists.page(
            connection, noun, all_of(also, asked.expression), after=asked.after, limit=asked.limit, sort=asked.sort
        )
    items = [make(row) if make else item(**row._asdict()) for row in page.items]
    _show(req, resp, item, items, page.next, asked.fields, asked.is_csv)


def show_short_list(
    req: falcon.Request, resp: falcon.Response, item: type[msgspec.Struct], found: Sequence[msgspec.Struct]
) -> None:
    """A page of a list that is known as a whole, in its own order; without `limit` as much as a page may hold. The
    cursor is how many came before: what changes between two pages may be seen twice, or not.

    Raises:
        BadRequest. UnknownName: `unknown_field`.
    """
    begin, limit = optional_whole(req, "after", 1, MAX_ID) or 0, page_limit(req, MAX_PAGE)
    fields, is_csv = _fields(req, item), wants_csv(req)
    end = begin + limit
    _show(req, resp, item, found[begin:end], end if end < len(found) else None, fields, is_csv)


def _show(
    req: falcon.Request,
    resp: falcon.Response,
    item: type[msgspec.Struct],
    items: Sequence[msgspec.Struct],
    following: int | str | None,
    fields: tuple[str, ...] | None,
    is_csv: bool,
) -> None:
    if following is not None:
        resp.append_header("Link", f'<{_following(req, following)}>; rel="next"')
    if is_csv:
        names = fields or tuple(field.name for field in msgspec.structs.fields(item))
        show_csv(resp, names, [[getattr(each, name) for name in names] for each in items])
    elif fields is not None:
        show_page(resp, [{name: getattr(each, name) for name in fields} for each in items], following)
    else:
        show_page(resp, items, following)


def found_one(begin: Begin, noun: Noun, identity: str | int) -> Any:
    """The row of that identity. Raises NotFound."""
    with begin() as connection:
        row = lists.one(connection, noun, identity)
    if row is None:
        raise NotFound(noun.name, str(identity)[:100])
    return row


def wants_csv(req: falcon.Request) -> bool:
    """Whether CSV was asked for. Raises BadRequest: in no format that there is."""
    asked = word(req, "format")
    if asked not in (None, "json", "csv"):
        raise BadRequest("json or csv", where="format")
    if asked is not None:
        return asked == "csv"
    # What is said first and plainly counts; browsers and scripts that say `*/*` get JSON.
    return bool(req.env.get("HTTP_ACCEPT", "").partition(",")[0].partition(";")[0].strip().lower() == CSV)


def show_csv(resp: falcon.Response, names: Sequence[str], values: Sequence[Sequence[Any]]) -> None:
    """RFC 4180, with a header. Lists have blanks between their words; what is deeper is JSON."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_cell(value) for value in row] for row in values)
    resp.content_type = f"{CSV}; charset=utf-8"
    resp.set_header("X-Content-Type-Options", "nosniff")
    resp.append_header("Vary", "Accept")
    resp.data = text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return " ".join(str(each) for each in value)
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode().strip('"')


def _fields(req: falcon.Request, item: type[msgspec.Struct]) -> tuple[str, ...] | None:
    value = req.params.get("fields")
    if not value:
        return None
    given = [each.strip() for text in (value if isinstance(value, list) else [value]) for each in text.split(",")]
    known = [field.name for field in msgspec.structs.fields(item)]
    for each in given:
        if each not in known:
            raise UnknownName("field", each[:60], known, where="fields")
    return tuple(dict.fromkeys(given))


def _following(req: falcon.Request, cursor: int | str) -> str:
    given = [(name, value) for name, values in req.params.items() if name != "after"
             for value in (values if isinstance(values, list) else [values])]  # fmt: skip
    return f"{quote(req.path)}?{urlencode([*given, ('after', str(cursor))])}"

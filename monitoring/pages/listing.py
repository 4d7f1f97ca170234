"""What every page that lists something has: the filter language in its address and in its field, and bounded pages.

A page is a view of the API's list: the same noun, the same parser, the same walk along an index. The address says the
filter as text (`q=`, or `filter=` as for the API) or as pairs (`status=failed&owner!=anna`), `sort`, `after`, `limit`
and, for a program, `fields`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.page import Page, session_of
from monitoring.reads.queries import Facts
from monitoring.show import looks, render, tables
from panda.auth import policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.db import lists
from panda.db.lists import Noun
from panda.errors import Invalid, UnknownName
from panda.query import (
    EVERYTHING,
    Ago,
    And,
    Comparison,
    Expression,
    Fields,
    Op,
    all_of,
    equal_to,
    read,
    read_pair,
    write,
)

#: What the address of a list may say beside its filter; `before` stands in older links.
WORDS = frozenset({"q", "filter", "add", "edit", "sort", "after", "before", "limit", "fields", "json", "csv", "done"})
#: Rows of the table that a list is as CSV, and windows of its noun that a filter may look through for them.
CSV_ROWS, CSV_WINDOWS = 10_000, 60
#: Windows that a page looks through while nothing fits.
WINDOWS = 3
#: A span of time that finds nothing is made so much wider.
WIDER = 7


@dataclass(frozen=True)
class Listing:
    """A noun as a page lists it."""

    noun: Noun
    path: str
    key: str
    """Of the rows in the data of the page."""
    verb: str
    """The command that lists the same."""
    example: str
    """What stands in the empty field."""
    option: str = "--filter "
    """What stands before the filter in that command."""
    default: str = ""
    """What is asked for where an address says nothing; `q=` takes it away."""
    is_mixed: bool = False
    """Where an address says nothing, the page shows a choice of its own; `q=` asks for everything."""
    sort: str = ""
    """The order where an address says none."""
    size: int = 50
    within: Expression = EVERYTHING
    """What holds for all of this page: for the files of one dataset, its name."""


@dataclass(frozen=True)
class Asked:
    """What the address of a list says."""

    listing: Listing
    expression: Expression
    sort: str
    after: str | None
    limit: int
    fields: tuple[str, ...] | None
    kept: tuple[tuple[str, str], ...] = ()
    """Words of the page's own, which its links keep."""
    is_editing: bool = False
    is_said: bool = True
    """Whether the address says a filter, an empty one too."""

    @property
    def q(self) -> str:
        """The filter as text."""
        return write(self.expression)

    @property
    def chips(self) -> list[tuple[str, str]]:
        """Each thing that the filter says, and the link that takes it away."""
        parts = parts_of(self.expression)
        return [(write(part), self.link(all_of(*(o for o in parts if o is not part)))) for part in parts]

    @property
    def wider(self) -> list[tuple[str, str]]:
        """What would find more, and the link to it: a longer time, or one thing less."""
        parts, found = parts_of(self.expression), []
        for part in parts:
            others = [other for other in parts if other is not part]
            if isinstance(part, Comparison) and part.op is Op.IS and isinstance(part.values[0], Ago):
                longer = replace(part, values=(Ago(part.values[0].seconds * WIDER),))
                found.append((write(longer), self.link(all_of(*others, longer))))
            found.append((f"without {write(part)}", self.link(all_of(*others))))
        return found

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """What the form of the filter sends along."""
        return [*self.kept, *([("sort", self.sort)] if self.sort != self.listing.sort else [])]

    @property
    def edit_link(self) -> str:
        return self.link(self.expression, edit="1")

    @property
    def first_link(self) -> str:
        return self.link(self.expression)

    @property
    def all_link(self) -> str:
        return self.link(EVERYTHING)

    @property
    def orders(self) -> list[tuple[str, str, bool]]:
        """Orders that this list may have: word, link, whether it is the one that it has."""
        noun, narrowed = self.listing.noun, all_of(self.listing.within, self.expression)
        if noun.walk(narrowed).order is not None:
            return []
        order, descending = lists.order_of(noun, noun.walk(narrowed), self.sort)
        return [
            (f"{name} {'↓' if falls else '↑'}", self.link(self.expression, sort=f"{'-' if falls else ''}{name}"),
             each is order and falls is descending)
            for name, each in noun.orders.items() for falls in (each.newest_first, not each.newest_first)
        ]  # fmt: skip

    @property
    def is_newest_first(self) -> bool:
        """Whether the newest rows come first."""
        narrowed = all_of(self.listing.within, self.expression)
        order, descending = lists.order_of(self.listing.noun, self.listing.noun.walk(narrowed), sort_of(self))
        return order.newest_first and descending

    @property
    def cli(self) -> str:
        """The command that lists the same."""
        said = write(all_of(self.listing.within, self.expression))
        is_told = said or self.listing.default or (self.listing.is_mixed and self.is_said)
        text = f" {self.listing.option}{_shell(said)}" if is_told else ""
        return self.listing.verb + text + (f" --sort {self.sort}" if self.sort else "")

    def link(self, expression: Expression, **more: str) -> str:
        """The same list with another filter, from its beginning."""
        said = write(expression)
        q = [("q", said)] if said or self.listing.default or self.listing.is_mixed else []
        hidden = [pair for pair in self.hidden if pair[0] not in more]
        return _address(self.listing.path, [*q, *hidden, *more.items()])

    def next_link(self, cursor: int | str | None, **more: str) -> str:
        """Where the list goes on; "": it does not."""
        if cursor is None:
            return ""
        limit = {} if self.limit == self.listing.size else {"limit": str(self.limit)}
        return self.link(self.expression, **limit, after=str(cursor), **more)


class Found(NamedTuple):
    """Rows that fit, and the cursor to go on after."""

    items: list[Facts]
    next: int | str | None


def ask(
    req: falcon.Request,
    listing: Listing,
    columns: Sequence[str] = (),
    own: Sequence[str] = (),
    views: Callable[[str], str] = str,
) -> Asked:
    """What a request asks of a list.

    Args:
        columns: of the list, for `fields`. own: words of the page's own, kept in its links.
        views: puts the reader's views into a text.
    Raises:
        UnknownName: `unknown_filter`, `unknown_sort`, `unknown_field`. BadFilter. Invalid: `limit`, `bad_cursor`.
    """
    words = WORDS | {*own}
    expression = expression_of(req, listing.noun.fields, words, views)
    is_said = any(name not in words or name in ("q", "filter", "add") for name, _ in _pairs(req))
    if not is_said and listing.default:
        expression = read(listing.default, listing.noun.fields)
    pairs = dict(_pairs(req))
    asked = Asked(
        listing,
        expression,
        pairs.get("sort", "").replace(" ", "+").removeprefix("+") or listing.sort,
        pairs.get("after") or pairs.get("before") or None,
        _limit(pairs.get("limit", ""), listing.size),
        _fields(req, columns),
        tuple((name, value) for name, value in _pairs(req) if name in own),
        "edit" in pairs,
        is_said,
    )
    walk = listing.noun.walk(all_of(listing.within, expression))
    order, _ = lists.order_of(listing.noun, walk, asked.sort if asked.sort != listing.sort else None)
    if asked.after is not None:
        order.key(asked.after)
    return asked


def expression_of(
    req: falcon.Request, fields: Fields, words: frozenset[str], views: Callable[[str], str] = str
) -> Expression:
    """The filter of an address: its text, what is added to it, and its pairs; `words` are none of it.

    Raises:
        UnknownName: `unknown_filter`. BadFilter: it cannot be meant.
    """
    said = _pairs(req)
    texts = [read(views(value), fields) for name, value in said if name in ("q", "filter", "add")]
    return all_of(*(p for t in texts for p in parts_of(t)), *(
        part for name, value in said if name not in words for part in parts_of(read_pair(name, value, fields))
    ))  # fmt: skip


def parts_of(expression: Expression) -> tuple[Expression, ...]:
    """What has to hold, thing by thing."""
    return expression.parts if isinstance(expression, And) else (expression,)


def owned(identity: Identity, action: Action, expression: Expression, fields: Fields) -> Expression:
    """The filter, narrowed to what this person may do that to. Raises Forbidden: somebody else's were asked for."""
    field = fields.find("owner")
    named = [p.values for p in parts_of(expression) if isinstance(p, Comparison) and p.field is field and p.op is Op.IS]
    asked = str(named[0][0]) if len(named) == 1 and len(named[0]) == 1 and isinstance(named[0][0], str) else None
    owner = policy.scope(identity, action, asked)
    if owner is None or asked == owner or field is None:
        return expression
    return all_of(equal_to(field, owner), expression)


def found(connection: Connection, asked: Asked, mine: Expression, n_windows: int = WINDOWS) -> Found:
    """The page of a list. It may be short, even empty, and still have a next one: `n_windows` were looked through.

    Args:
        mine: the filter, as far as the reader may see.
    """
    narrowed = all_of(asked.listing.within, mine)
    items: list[Facts] = []
    after: int | str | None = asked.after
    for _ in range(n_windows):
        page = lists.page(
            connection, asked.listing.noun, narrowed, after=None if after is None else str(after),
            limit=asked.limit - len(items), sort=sort_of(asked),
        )  # fmt: skip
        items, after = items + [row._asdict() for row in page.items], page.next
        if after is None or items:
            break
    return Found(items, after)


def sort_of(asked: Asked) -> str | None:
    """The order to ask for; None: the only one that the way of this filter has."""
    walk = asked.listing.noun.walk(all_of(asked.listing.within, asked.expression))
    return None if walk.order is not None and asked.sort == asked.listing.sort else asked.sort or None


class ListPage(Page):
    """A page that is a list of one noun."""

    def _list(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        template: str,
        asked: Asked,
        mine: Expression,
        make: Callable[[Facts], Facts] = dict,
        add: Callable[[Connection, list[Facts]], list[Facts]] | None = None,
        data: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Answer with the list as a page, as JSON or as CSV.

        Args:
            mine: the filter, as far as the reader may see. make: a row becomes what the page shows of it; {}: nothing.
            add: what a page shows of its rows besides, asked for all of them at once; the table is without.
            data: what the page shows beside. more: for the template alone.
        """
        if render.wants_csv(req):
            self._table(req, resp, template, asked, mine, make)
            return
        block = self._parts.reader.block(lambda c: found(c, asked, mine))
        items, onward = block.value or Found([], None)
        only = asked.fields if render.wants_json(req) else None
        shown = [made for row in items if (made := make(row))]
        if add is not None:
            shown = self._parts.reader.block(lambda c: add(c, shown)).value or shown
        rows = [picked(row, only) for row in shown]
        told = {
            asked.listing.key: rows,
            "next": onward,
            "trouble": block.trouble,
            "q": asked.q,
            "sort": asked.sort,
            **(data or {}),
        }
        is_whole = onward is None and asked.after is None
        first = "next" if asked.after else "newest" if asked.is_newest_first else "first"
        word = "CSV" if is_whole else f"CSV, {first} {looks.count(CSV_ROWS)}"
        self._answer(
            req, resp, template, told, self._now(), csv=asked.listing.key, asked=asked,
            next_link=asked.next_link(onward), csv_word=word, **more,
        )  # fmt: skip

    def _table(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        template: str,
        asked: Asked,
        mine: Expression,
        make: Callable[[Facts], Facts] = dict,
    ) -> None:
        """Everything that fits, down to a bound; then `Link` says where it goes on. Each page is a transaction."""
        listed: list[Facts] = []
        here = asked
        most = min(CSV_ROWS, asked.limit) if req.get_param("limit") else CSV_ROWS
        for _ in range(CSV_WINDOWS):
            here = replace(here, limit=min(lists.MAX_PAGE, most - len(listed)))
            items, after = self._parts.reader.ask(partial(found, asked=here, mine=mine, n_windows=1))
            listed += [shown for row in items if (shown := make(row))]
            here = replace(here, after=None if after is None else str(after))
            if after is None or len(listed) >= most:
                break
        if here.after is not None:
            fields = {"fields": ",".join(asked.fields)} if asked.fields else {}
            resp.append_link(asked.next_link(here.after, csv="", **fields), "next")
        render.answer_csv(resp, listed, asked.fields or tables.COLUMNS[template])

    def _mine(self, req: falcon.Request, action: Action, asked: Asked) -> Expression:
        """What is asked for, as far as this reader may see it. Raises Forbidden."""
        return owned(session_of(req).identity, action, asked.expression, asked.listing.noun.fields)


def picked(row: Facts, fields: Sequence[str] | None) -> Facts:
    """A row with these fields; None: with all of them."""
    return row if fields is None else {name: row.get(name) for name in fields}


def _pairs(req: falcon.Request) -> list[tuple[str, str]]:
    """The query as it stands: Falcon would join what is said twice, and cut at commas."""
    return parse_qsl(req.query_string, keep_blank_values=True)


def _limit(text: str, size: int) -> int:
    if not text:
        return size
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 0 < int(text) <= lists.MAX_PAGE):
        raise Invalid(f"wants a number from 1 to {lists.MAX_PAGE}", where="limit")
    return int(text)


def _fields(req: falcon.Request, known: Sequence[str]) -> tuple[str, ...] | None:
    given = [word.strip() for name, value in _pairs(req) if name == "fields" for word in value.split(",")]
    for word in filter(None, given):
        if word not in known:
            raise UnknownName("field", word[:60], list(known), where="fields")
    return tuple(dict.fromkeys(filter(None, given))) or None


def _address(path: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

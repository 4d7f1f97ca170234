"""Lists of every noun, page by page, by the key of an index; and counts, window by window.

A page walks an index from where the last one ended, looks at no more than a window of rows, and stops at the
first `limit` that fit: whatever a filter says, its cost is bounded. A page may thus be short, even empty, and
still have a next one. Statements are put together from constants of ours; what a caller says is always bound.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.errors import Invalid, UnknownName
from panda.query import EVERYTHING, Expression, Fields, condition

MAX_PAGE = 500
#: Groups that one count tells apart.
MAX_GROUPS = 500

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Order:
    """An order that an index serves: by columns of the row, all in one direction."""

    columns: tuple[str, ...]
    kinds: tuple[str, ...] = ("bigint",)
    """PostgreSQL's names of their types."""
    newest_first: bool = True
    """Without a sign in `sort`: descending."""
    separator: str = "/"
    """Between the parts of a cursor."""

    def key(self, cursor: str) -> Key:
        """The key that a cursor stands for. Raises Invalid (`bad_cursor`)."""
        parts = cursor.split(self.separator, len(self.columns) - 1) if len(self.columns) > 1 else [cursor]
        key = tuple(_read(part, kind) for part, kind in zip(parts, self.kinds, strict=False))
        if len(key) != len(self.columns) or None in key:
            raise Invalid(f"{cursor[:40]!r} is no cursor of this list", where="after", code="bad_cursor")
        return key

    def cursor(self, key: Sequence[Any]) -> int | str:
        """What a client sends back as `after`."""
        if len(key) == 1:
            return int(key[0]) if self.kinds[0] != "text" else str(key[0])
        return self.separator.join(str(part) for part in key)


@dataclass(frozen=True)
class Walk:
    """A way through the rows of a noun, along an index of each table.

    `where` narrows the tables by a slim table or by what an index holds; in it `{beyond}`, `{towards}` and
    `{window}` are the page's bound, order and window by PandaID."""

    tables: tuple[str, ...]
    equal: tuple[tuple[str, str], ...] = ()
    """(column, value in SQL) of what stands before the key in the index, as in `(("owner", "%(w_owner)s"),)`."""
    negative: bool = False
    """The index holds the negative of the key."""
    where: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    order: Order | None = None
    """The one order that this walk has; None: that of the noun."""


@dataclass(frozen=True)
class Noun:
    """What can be listed."""

    name: str
    fields: Fields
    columns: str
    """Of the row `r` that fields speak of; each table of a walk has them."""
    identity: tuple[str, ...]
    """Columns that tell one from another; `show` finds it by the first."""
    orders: Mapping[str, Order]
    """By the word that `sort` takes; the first is the one without `sort`."""
    walk: Callable[[Expression], Walk]
    show: str
    """A statement for what is shown of those whose (first) identity is among `%(ids)s`, in any order."""
    window: int = 5_000


class Page(NamedTuple):
    """`next`: the `after` of the page that follows; None: that was all."""

    items: list[Any]
    next: int | str | None


class Counts(NamedTuple):
    """Rows that fit, by group; `down_to` is the key that the window ended with, None: everything was looked at."""

    groups: list[tuple[tuple[Any, ...], int]]
    down_to: Key | None


class Scan(NamedTuple):
    """Ids of rows that fit, in the order of the walk; `next` is the key to go on after, None at the end."""

    ids: list[Key]
    next: Key | None


def page(
    connection: Connection,
    noun: Noun,
    expression: Expression = EVERYTHING,
    *,
    after: str | None = None,
    limit: int = 100,
    sort: str | None = None,
) -> Page:
    """A page of `noun`.

    Args:
        sort: a word of `noun.orders`, with `-` (descending) or `+` before it; none: the noun's own order.
    Raises:
        Invalid: `bad_cursor`. UnknownName: `unknown_sort`.
    """
    order, descending = order_of(noun, noun.walk(expression), sort)
    key = order.key(after) if after else None
    found = scan(
        connection, noun, expression, order=order, descending=descending, after=key, limit=min(limit, MAX_PAGE)
    )
    cursor = None if found.next is None else order.cursor(found.next)
    if not found.ids:
        return Page([], cursor)
    firsts = sorted({each[0] for each in found.ids})
    identity = attrgetter(*noun.identity)
    shown = {identity(row): row for row in rows(connection, noun.show, {"ids": firsts})}
    wanted = [each if len(each) > 1 else each[0] for each in found.ids]
    return Page([shown[each] for each in wanted if each in shown], cursor)


def one(connection: Connection, noun: Noun, identity: Any) -> Row[Any] | None:
    """The row of that identity as a list shows it; None: there is none."""
    found = rows(connection, noun.show, {"ids": [identity]})
    return found[0] if found else None


def scan(
    connection: Connection,
    noun: Noun,
    expression: Expression,
    *,
    order: Order | None = None,
    descending: bool = True,
    after: Key | None = None,
    limit: int,
    window: int | None = None,
) -> Scan:
    """The next ids that fit; at most `limit` of them, from at most a window of rows."""
    order = order or next(iter(noun.orders.values()))
    window = window or noun.window
    walk = noun.walk(expression)
    fits = condition(expression)
    n_ids = len(noun.identity)
    told = ", ".join([*(f"i{i}" for i in range(n_ids)), *(f"k{i}" for i in range(len(order.columns)))])
    found = rows(
        connection,
        f"""
WITH scanned AS MATERIALIZED (
    {_scanned(noun, walk, order, descending, after is not None, window, f"{fits.sql} AS fits")}),
fitting AS MATERIALIZED (SELECT {told} FROM scanned WHERE fits LIMIT %(limit)s)
SELECT {told}, false AS is_end FROM fitting
UNION ALL (SELECT {told}, true FROM scanned WHERE (SELECT count(*) FROM fitting) < %(limit)s
    OFFSET {window - 1} LIMIT 1)
""",
        {**fits.values, **walk.values, **_bounds(after), "limit": limit},
    )
    fitting = [row for row in found if not row.is_end]
    last = found[-1] if len(found) > len(fitting) else fitting[-1] if len(fitting) == limit else None
    return Scan([tuple(row[:n_ids]) for row in fitting], None if last is None else tuple(last[n_ids:-1]))


def counts(
    connection: Connection,
    noun: Noun,
    expression: Expression,
    by: Sequence[str],
    *,
    after: Key | None = None,
    window: int,
) -> Counts:
    """How many of the next `window` rows fit, by the fields `by`; the largest groups first."""
    order = next(iter(noun.orders.values()))
    walk = noun.walk(expression)
    fits = condition(expression)
    groups = [f"g{i}" for i in range(len(by))]
    keys = [f"k{i}" for i in range(len(order.columns))]
    told = [f"{fits.sql} AS fits", *(f"{noun.fields[name].sql} AS {g}" for name, g in zip(by, groups, strict=True))]
    counted = [*groups, "count(*) AS n", *(f"NULL::{kind}" for kind in order.kinds)]
    ended = [*(["NULL"] * len(groups)), "NULL", *keys]
    found = rows(
        connection,
        f"""
WITH scanned AS MATERIALIZED ({_scanned(noun, walk, order, True, after is not None, window, ", ".join(told))})
(SELECT {", ".join(counted)}
FROM scanned WHERE fits GROUP BY {", ".join(groups) or "()"} ORDER BY n DESC LIMIT {MAX_GROUPS})
UNION ALL (SELECT {", ".join(ended)} FROM scanned OFFSET {window - 1} LIMIT 1)
""",
        {**fits.values, **walk.values, **_bounds(after)},
    )
    n = len(groups)
    told_groups = [(tuple(row[:n]), int(row.n)) for row in found if row.n is not None]
    ends = [tuple(row[n + 1 :]) for row in found if row.n is None]
    return Counts([each for each in told_groups if each[1]], ends[0] if ends else None)


def order_of(noun: Noun, walk: Walk, sort: str | None) -> tuple[Order, bool]:
    """The order that `sort` asks for, and whether it descends. Raises UnknownName, Invalid (`unserved_sort`)."""
    if not sort:
        order = walk.order or next(iter(noun.orders.values()))
        return order, order.newest_first
    if walk.order is not None:
        message = f"what this filter finds comes by {', '.join(walk.order.columns)}"
        raise Invalid(message, where="sort", code="unserved_sort")
    name = sort.removeprefix("-").removeprefix("+")
    if name not in noun.orders:
        raise UnknownName("sort", name[:60], list(noun.orders), where="sort")
    return noun.orders[name], sort.startswith("-")


def _scanned(noun: Noun, walk: Walk, order: Order, descending: bool, is_after: bool, window: int, told: str) -> str:
    """A window of rows along the index: id, key, and what is told of each. Rows come when they are asked for."""
    arms = " UNION ALL ".join(
        f"({_arm(noun, walk, table, order, descending, is_after, window)})" for table in walk.tables
    )
    direction = "DESC" if descending else "ASC"
    keys = ", ".join(f"r.{column} AS k{i}" for i, column in enumerate(order.columns))
    by = ", ".join(f"r.{column} {direction}" for column in order.columns)
    ids = ", ".join(f"r.{column} AS i{i}" for i, column in enumerate(noun.identity))
    return f"SELECT {ids}, {keys}, {told} FROM ({arms}) r ORDER BY {by} LIMIT {window}"


def _arm(noun: Noun, walk: Walk, table: str, order: Order, descending: bool, is_after: bool, window: int) -> str:
    falls = descending is not walk.negative
    sign = "-" if walk.negative else ""
    before = [column for column, _ in walk.equal]
    columns = [*before, *(f"{sign}{column}" if walk.negative else column for column in order.columns)]
    marks = [value for _, value in walk.equal]
    keys = [f"{sign}%(k{i})s::{kind}" for i, kind in enumerate(order.kinds)] if is_after else []
    clauses = []
    if marks or keys:
        compared = "<" if falls else ">"
        beyond = compared if keys else f"{compared}="
        compare = columns[: len(marks) + len(keys)]
        clauses.append(f"({', '.join(compare)}) {beyond} ({', '.join(marks + keys)})")
        # The other end of what is equal: a mere `=` leaves the planner the choice of another index.
        clauses += [f"{column} {'>=' if falls else '<='} {mark}" for column, mark in zip(before, marks, strict=True)]
    if walk.where:
        beyond = f"panda_id {'<' if descending else '>'} %(k0)s" if is_after else "true"
        towards = f"panda_id {'DESC' if descending else 'ASC'}"
        clauses.append(walk.where.format(beyond=beyond, towards=towards, window=window))
    where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
    by = ", ".join(f"{column} {'DESC' if falls else 'ASC'}" for column in columns)
    return f"SELECT {noun.columns} FROM {table}{where} ORDER BY {by} LIMIT {window}"


def _bounds(after: Key | None) -> dict[str, Any]:
    return {f"k{i}": part for i, part in enumerate(after or ())}


def _read(part: str, kind: str) -> Any:
    if kind == "text":
        return part if "\x00" not in part else None
    is_number = part.isascii() and part.isdigit() and len(part) < 19
    return int(part) if is_number and (kind != "smallint" or int(part) < 2**15) else None

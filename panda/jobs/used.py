"""What was used, by whom, for whom or where, over days; from the daily roll-up, which is some seconds late.

Told as sums of the whole time, or as a series: a row for each day, week or month, and for each name in it.
"""

from datetime import date
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.errors import Invalid, UnknownName

#: Days that can be looked back at.
MOST_DAYS = 3_660
#: Rows of one answer: a series of years by user is no list for anybody.
MOST_ROWS = 100_000
#: What a sum can be told by: where its word stands.
GROUPS = {
    "user": "u.owner",
    "group": "u.working_group",
    "share": "u.share",
    "queue": "u.queue",
    "site": "coalesce((SELECT site FROM queues WHERE name = u.queue), '')",
    "kind": "u.kind",
}
#: By no name, but by time alone.
DAY = "day"
#: What a row of a series is of: the word of date_trunc. Weeks begin on Monday, all in UTC.
BINS = (DAY, "week", "month")
#: What is summed; `_s` in seconds, `_bytes` in bytes, `n_failed` in attempts, the others in jobs.
MEASURES = ("core_s", "cpu_s", "wall_s", "n_finished", "n_failed", "n_cancelled", "in_bytes", "out_bytes")

#: Bytes of all in ten years may be more than fit into 64 bits.
_MOST = 2**63 - 1
_ADDED = ", ".join(
    f"sum({name})::float8 AS {name}" if name.endswith("_s") else f"least(sum({name}), {_MOST})::bigint AS {name}"
    for name in MEASURES
)
#: A site is looked up once for each queue and day, not for each row of the roll-up: so the inner sum comes first.
_CHOSEN = f"""
    SELECT {{by}}u.day, {_ADDED} FROM usage_all u
    WHERE u.day > ((SELECT panda_now()) - make_interval(days => %(days)s))::date
        AND (%(owner)s::text IS NULL OR u.owner = %(owner)s) AND (%(kind)s::text IS NULL OR u.kind = %(kind)s)
        AND (%(group)s::text IS NULL OR u.working_group = %(group)s)
        AND (%(share)s::text IS NULL OR u.share = %(share)s) AND (%(queue)s::text IS NULL OR u.queue = %(queue)s)
        AND (%(site)s::text IS NULL OR u.queue = ANY(ARRAY(SELECT name FROM queues WHERE site = %(site)s)))
    GROUP BY {{by}}u.day"""
_BIN = "CASE WHEN %(bin)s::text IS NOT NULL THEN date_trunc(%(bin)s, u.day::timestamp)::date END"
_SUMS = f"""
SELECT {{name}} AS name, {_BIN} AS day, {_ADDED}
FROM ({_CHOSEN}) u
GROUP BY 1, 2 ORDER BY 2, core_s DESC, 1 LIMIT {MOST_ROWS + 1}
"""
_COLUMN = {"site": "u.queue", DAY: ""} | {name: where for name, where in GROUPS.items() if name != "site"}


def _by(name: str) -> str:
    return f"{_COLUMN[name]}, " if _COLUMN[name] else ""


SUMS = {name: _SUMS.format(name=where, by=_by(name)) for name, where in GROUPS.items()}
BY_DAY = f"""
SELECT day::text AS name, day, {_ADDED}
FROM (SELECT date_trunc(%(bin)s, u.day::timestamp)::date AS day, {", ".join(MEASURES)}
    FROM ({_CHOSEN.format(by="")}) u) u
GROUP BY 2 ORDER BY 2
"""
#: `named` are told apart, in the order of a page; what is left is `is_rest`.
_SERIES = f"""
SELECT CASE WHEN {{name}} = ANY(%(named)s::text[]) THEN {{name}} ELSE '' END AS name,
    {{name}} <> ALL(%(named)s::text[]) AS is_rest, date_trunc(%(bin)s, u.day::timestamp)::date AS day, {_ADDED}
FROM ({_CHOSEN}) u
GROUP BY 1, 2, 3 ORDER BY 3, 2, 1
"""
SERIES = {name: _SERIES.format(name=where, by=_by(name)) for name, where in GROUPS.items()}
TODAY = "SELECT (SELECT panda_now())::date AS day"


class Only(NamedTuple):
    """What a sum is restricted to; None: not by this."""

    owner: str | None = None
    group: str | None = None
    """A working group."""
    share: str | None = None
    queue: str | None = None
    site: str | None = None
    kind: str | None = None


ALL_OF_IT = Only()


def sums(connection: Connection, by: str, days: int, only: Only = ALL_OF_IT, bin: str | None = None) -> list[Row[Any]]:
    """The sums of the last `days` days, today's among them; most core time first.

    Args:
        by: a word of GROUPS, or DAY. bin: a word of BINS for a series, in order of time; None: one sum of the whole
            time (by DAY: one for each day).
    Returns: rows with `name` (empty: at no queue or site, of no group, of a kind that nobody wrote down), `day` (the
        first of the bin, which may lie before the time that is summed; None: the whole time) and MEASURES.
    Raises:
        UnknownName: `unknown_group`, `unknown_bin`. Invalid: `too_wide`, more than `MOST_ROWS`.
    """
    if by not in GROUPS and by != DAY:
        raise UnknownName("group", by[:60], [*GROUPS, DAY], where="by")
    if bin is not None and bin not in BINS:
        raise UnknownName("bin", bin[:60], list(BINS), where="bin")
    asked = {"days": days, "bin": bin, **only._asdict()}
    if by == DAY:
        return rows(connection, BY_DAY, {**asked, "bin": bin or DAY})
    found = rows(connection, SUMS[by], asked)
    if len(found) > MOST_ROWS:
        message = f"these are more than {MOST_ROWS} rows; ask for fewer days, longer bins or less of it"
        raise Invalid(message, where="days", code="too_wide")
    return found


def series(connection: Connection, by: str, days: int, only: Only, bin: str, named: list[str]) -> list[Row[Any]]:
    """A series of `named` alone, by day and name; the last of a day, `is_rest`, is what all others used together."""
    asked = {"days": days, "bin": bin, "named": named, **only._asdict()}
    return rows(connection, SERIES[by], asked)


def today(connection: Connection) -> date:
    """The last day that sums are of."""
    day: date = rows(connection, TODAY)[0].day
    return day

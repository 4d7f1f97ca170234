"""How often each error code comes, and whether that is more than usual. From roll-ups."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from monitoring.reads.blocks import Memory, Reader
from monitoring.reads.queries import Facts, facts, now
from panda.query import EVERYTHING, Cost, Expression, Field, Fields, Kind, condition

#: A code rises when its last hours bring more than this many times what its week brought.
RISING = 3.0
#: What failures can be asked by: of the fields of jobs those that the roll-up has.
FIELDS = Fields(
    Field("error", Kind.TEXT, "r.error_code", "`component:word`", aliases=("error_code",)),
    Field("failed_stage", Kind.TEXT, "r.failed_stage", "where the attempt failed", aliases=("stage",)),
    Field("queue", Kind.TEXT, "nullif(r.queue, '')", is_nullable=True),
    Field("site", Kind.TEXT, "(SELECT q.site FROM queues q WHERE q.name = r.queue)", "", Cost.PROBE, is_nullable=True),
)
#: By code and stage: the period, and its newest three hours. From roll-ups.
_CODES = """
SELECT error_code, failed_stage, sum(n)::bigint AS n, sum(wall_s)::float8 AS wall_s,
    count(DISTINCT queue) FILTER (WHERE queue <> '') AS n_queues, max(queue) AS queue,
    coalesce(sum(n) FILTER (WHERE hour > (SELECT panda_now()) - interval '3 hours'), 0)::float8 / 3 AS per_hour,
    max(hour) AS last_at
FROM error_hours r WHERE hour > (SELECT panda_now()) - make_interval(hours => %(hours)s) AND {fits}
GROUP BY error_code, failed_stage ORDER BY n DESC LIMIT 200
"""
CODES = _CODES.replace("{fits}", "true")
#: The week as a measure; it changes slowly, so it is remembered for minutes.
WEEK = """
SELECT error_code, failed_stage, sum(n)::float8 / 168 AS per_hour, min(hour) AS first_at FROM error_hours
WHERE hour > (SELECT panda_now()) - interval '7 days' GROUP BY error_code, failed_stage
"""
WEEK_S = 600.0
_TREND = """
SELECT error_code, failed_stage, date_bin(make_interval(hours => %(bin_h)s), hour, timestamptz 'epoch') AS bin,
    sum(n)::bigint AS n
FROM error_hours r WHERE hour > (SELECT panda_now()) - make_interval(hours => %(hours)s) AND {fits}
GROUP BY 1, 2, 3
"""
TREND = _TREND.replace("{fits}", "true")
_MATRIX = """
SELECT queue, error_code, sum(n)::bigint AS n FROM error_hours r
WHERE hour > (SELECT panda_now()) - make_interval(hours => %(hours)s) AND queue <> '' AND {fits}
GROUP BY queue, error_code ORDER BY n DESC LIMIT 400
"""
MATRIX = _MATRIX.replace("{fits}", "true")


def week(reader: Reader, memory: Memory) -> dict[tuple[str, str], Facts]:
    """By code and stage: failures per hour in a week, and the first hour. Remembered for minutes."""

    def ask() -> dict[tuple[str, str], Facts]:
        found = reader.block(lambda c: facts(c, WEEK)).value or []
        return {(row["error_code"], row["failed_stage"]): row for row in found}

    return memory.of("errors of the week", ask, WEEK_S, WEEK_S)


def trends(
    connection: Connection, hours: int, expression: Expression = EVERYTHING
) -> dict[tuple[str, str], dict[datetime, int]]:
    """By code and stage: failures in each bin of the period, at least a day of it."""
    found: dict[tuple[str, str], dict[datetime, int]] = {}
    span = max(hours, 24)
    for row in _asked(connection, TREND, _TREND, expression, hours=span, bin_h=max(1, span // 24)):
        found.setdefault((row["error_code"], row["failed_stage"]), {})[row["bin"]] = row["n"]
    return found


def bins_of(until: datetime, hours: int, bin_h: int) -> list[datetime]:
    """The beginnings of all pieces of a period, as `date_bin` cuts them, ascending; those without failures too."""
    last = int(until.timestamp()) // (3600 * bin_h)
    return [datetime.fromtimestamp(3600 * bin_h * k, UTC) for k in range(last - hours // bin_h + 1, last + 1)]


def by_queue(connection: Connection, hours: int, expression: Expression = EVERYTHING) -> list[Facts]:
    """Failures by queue and code."""
    return _asked(connection, MATRIX, _MATRIX, expression, hours=hours)


def _asked(connection: Connection, whole: str, part: str, expression: Expression, **values: Any) -> list[Facts]:
    """The answer about everything, or about what fits: the roll-up has no more rows than codes, queues and hours."""
    if expression == EVERYTHING:
        return facts(connection, whole, values)
    fits = condition(expression)
    return facts(connection, part.replace("{fits}", fits.sql), {**values, **fits.values})


def listed(
    connection: Connection, hours: int, week: dict[tuple[str, str], Facts], expression: Expression = EVERYTHING
) -> list[Facts]:
    """Codes with their trend, and a mark: `new` (not a day old), `rising`, or none; marked ones with
    the hour since which that is so."""
    found = _asked(connection, CODES, _CODES, expression, hours=hours)
    by_code = trends(connection, hours, expression)
    bin_h = max(1, max(hours, 24) // 24)
    bins = bins_of(now(connection), max(hours, 24), bin_h)
    newest = max((row["last_at"] for row in found), default=None)
    for row in found:
        key = (row["error_code"], row["failed_stage"])
        row["trend"] = [by_code.get(key, {}).get(at, 0) for at in bins]
        before = week.get(key)
        is_new = before is None or (newest is not None and before["first_at"] > newest - timedelta(hours=24))
        rises = before is not None and row["per_hour"] > RISING * max(before["per_hour"], 0.05)
        row["mark"] = "new" if is_new else "rising" if rises else ""
        usual = RISING * max(before["per_hour"], 0.05) * bin_h if before is not None else 0.0
        risen = next((at for at in bins if by_code.get(key, {}).get(at, 0) > usual), None)
        first: datetime | None = before["first_at"] if before is not None else None
        row["since"] = (first or risen) if is_new else risen if rises else None
    return found

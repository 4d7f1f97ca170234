"""When core hours are used up at the present rate, and when there are some again. Pure, but for what was used.

The period slides: what was used counts for `period_days`, and then no more. So nothing begins anew on one day; there is
room again when enough of what was used lies that far back.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows

#: The rate is that of so many days, today's among them.
RATE_DAYS = 7

DAYS = """
SELECT owner, day, core_s / 3600 AS core_hours, (SELECT panda_now())::date AS today FROM owner_days
WHERE day > ((SELECT panda_now()) - make_interval(days => %(days)s))::date AND owner = ANY(%(owners)s)
"""
TODAY = "SELECT (SELECT panda_now())::date AS today"


class Outlook(NamedTuple):
    """What becomes of somebody's core hours."""

    period_days: int
    """What was used counts for so long."""
    per_day: float
    """Core hours, on the mean of the last days."""
    used_up_on: date | None
    """At this rate; None: never, or they are already."""
    room_on: date | None
    """Used up: when there are some again if nothing more is used. None: there are some, or it will not be."""


def outlook(days: Mapping[date, float], used: float, limit: float, today: date, period_days: int) -> Outlook:
    """What becomes of `used` core hours of `limit`.

    Args:
        days: core hours by day. used: within the period until now, with what runs.
    """
    span = min(RATE_DAYS, period_days)
    earlier = sum(hours for day, hours in days.items() if day < today)
    of_today = max(days.get(today, 0.0), used - earlier)  # with what runs now, which no day has yet
    recent = sum(hours for day, hours in days.items() if today - timedelta(days=span) < day < today)
    per_day = (recent + of_today) / span
    used_up_on = room_on = None
    for ahead in range(1, period_days + 1):
        then = today + timedelta(days=ahead)
        left = used - sum(hours for day, hours in days.items() if day + timedelta(days=period_days) <= then)
        if used < limit and used_up_on is None and left + per_day * ahead >= limit:
            used_up_on = then
        if used >= limit and room_on is None and left < limit:
            room_on = then
    return Outlook(period_days, round(per_day, 3), used_up_on, room_on)


def days_of(
    connection: Connection, owners: Sequence[str], period_days: int
) -> tuple[date, dict[str, dict[date, float]]]:
    """Today, and the core hours of each of these owners by day, within the period."""
    found = rows(connection, DAYS, {"owners": list(owners), "days": period_days})
    by_owner: dict[str, dict[date, float]] = {}
    for row in found:
        by_owner.setdefault(row.owner, {})[row.day] = row.core_hours
    return (found[0].today if found else rows(connection, TODAY)[0].today), by_owner


def together(by_owner: Mapping[str, Mapping[date, float]], owners: Sequence[str]) -> dict[date, float]:
    """Core hours by day of several owners."""
    total: dict[date, float] = {}
    for owner in owners:
        for day, hours in by_owner.get(owner, {}).items():
            total[day] = total.get(day, 0.0) + hours
    return total

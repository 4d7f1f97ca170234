"""How owners stand to their quotas: for people, for `panda why`, and for those who start pilots."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.jobs import share_usage
from panda.jobs.quotas import forecast, picture
from panda.jobs.quotas.forecast import Outlook
from panda.jobs.quotas.rules import BAN, USER, Bound, Picture, Rooms, Used

#: Jobs that are accepted and have not ended, and how many of these are held back, of each of these owners.
OPEN = """
SELECT o.owner, coalesce(s.n_open, 0) AS n_open, coalesce(s.n_held, 0) AS n_held
FROM unnest(%(owners)s::text[]) AS o(owner), LATERAL (
    SELECT sum(n_open)::bigint AS n_open,
        sum(CASE WHEN held_at IS NOT NULL THEN least(n_open, n_jobs - n_admitted) ELSE 0 END)::bigint AS n_held
    FROM jobsets WHERE owner = o.owner AND ended_at IS NULL) s
"""
CORES = "SELECT cores FROM shapes WHERE shape_id = %(shape_id)s"


class Level(NamedTuple):
    """One limit, and what stands against it. `limit` None: any number."""

    used: float
    limit: float | None


class Standing(NamedTuple):
    """How somebody stands to one of the quotas that bind them."""

    subject: str
    queued_jobs: Level
    running_jobs: Level
    running_cores: Level
    core_hours: Level
    beyond: str
    n_held: int
    """Jobs that are held back until there is room."""
    outlook: Outlook | None
    """Of the core hours; None: any number."""


class Hours(NamedTuple):
    """Core hours of somebody who has a limit of them."""

    subject: str
    used: float
    limit: float
    outlook: Outlook


class Block(NamedTuple):
    """What keeps jobs of somebody waiting."""

    because: str
    subject: str
    """Whose quota it is; of somebody who is banned, the user."""
    limit: str
    """Which limit of it; or `ban`."""
    is_limited: bool
    """It is so tight because an operator limited them."""


class Report(NamedTuple):
    """Everything about one owner."""

    owner: str
    banned: str | None
    """Why; None: they are not."""
    limited: str | None
    standings: list[Standing]
    throttled: str
    """What keeps their ready jobs from being started; "": nothing does."""
    used: Used


def rooms(connection: Connection, known: Picture) -> Rooms:
    """What is left of everybody's running quotas, as of the last count."""
    owners = share_usage.current(connection, by_owner=True).owners
    return Rooms(known, owners or {})


def throttled(connection: Connection, owner: str, shape_id: int) -> Block | None:
    """What keeps an owner's ready jobs of this shape from being started, as of now; None: nothing does."""
    known = picture.fresh(connection)
    if not known.is_watched(owner):
        return None
    found = rows(connection, CORES, {"shape_id": shape_id})
    room = rooms(connection, known).left(owner, found[0].cores if found else 1)
    if not room.because:
        return None
    return Block(room.because, room.subject, room.limit, _is_limited(known, owner, room.subject, room.limit))


def held_back(connection: Connection, owner: str) -> list[Block]:
    """The quotas of queued jobs that an owner's jobs are held back by, as of now; none: they go on in a moment."""
    known = picture.fresh(connection)
    running = share_usage.current(connection, by_owner=True).owners or {}
    found = []
    for bound in known.bounds(owner):
        if bound.queued_jobs is not None:
            n_queued, _ = queued(connection, bound.owners, running)
            because = f"{bound.subject} has {n_queued:,} of {bound.queued_jobs:,} jobs queued"
            is_limited = _is_limited(known, owner, bound.subject, "queued_jobs")
            found.append(Block(because, bound.subject, "queued_jobs", is_limited))
    return found


def _is_limited(known: Picture, owner: str, subject: str, limit: str) -> bool:
    return limit != BAN and any(
        bound.subject == subject and known.is_of_the_limited(bound, limit) for bound in known.bounds(owner)
    )


def full(connection: Connection) -> list[str]:
    """Owners who may not start one more job now, by name: no pilot is needed for them."""
    known = picture.current(connection)
    if not known.watches:
        return []
    owners = share_usage.current(connection, by_owner=True).owners or {}
    left = Rooms(known, owners)
    candidates = {*known.watched, *(owners if known.watches_everybody else ())}
    return sorted(owner for owner in candidates if left.left(owner).because)


def queued(connection: Connection, owners: tuple[str, ...], running: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Jobs of these owners together that no pilot has and that are not held back; and those that are."""
    found = rows(connection, OPEN, {"owners": list(owners)})
    n_running = sum(running[owner][0] for owner in owners if owner in running)
    n_held = sum(row.n_held for row in found)
    return max(0, sum(row.n_open for row in found) - n_held - n_running), n_held


def report(connection: Connection, owner: str, period_days: int) -> Report:
    """How an owner stands to everything that binds them. `period_days`: of core hours."""
    known = picture.fresh(connection)
    running = share_usage.lately(connection, 0.0, by_owner=True).owners or {}
    left = Rooms(known, running)
    held = known.held.get(owner)
    own = known.own(owner)
    bounds = [own, *(bound for bound in known.bounds(owner) if bound.subject != own.subject)]
    hours = {each.subject: each.outlook for each in _hours(connection, bounds, left, period_days)}
    return Report(
        owner,
        held.banned if held else None,
        held.limited if held else None,
        [_standing(connection, bound, left, running, hours.get(bound.subject)) for bound in bounds],
        left.left(owner).because,
        known.used.get(owner, Used()),
    )


def core_hours(connection: Connection, period_days: int, owner: str | None = None) -> list[Hours]:
    """How those stand who have a limit of core hours: an owner and their groups; None: everybody. The fullest first."""
    known = picture.fresh(connection)
    if owner is not None:
        found = [*known.bounds(owner)]
    else:
        named = {quota.name for quota in known.quotas.values() if quota.kind == USER}
        everybody = sorted(named | {name for quota in known.quotas.values() for name in quota.members} | {*known.used})
        found = list({bound.subject: bound for name in everybody for bound in known.bounds(name)}.values())
    hours = _hours(connection, found, Rooms(known, {}), period_days)
    return sorted(hours, key=lambda each: (-each.used / each.limit, each.subject))


def _hours(connection: Connection, bounds: Sequence[Bound], rooms: Rooms, period_days: int) -> list[Hours]:
    bounds = [bound for bound in bounds if bound.core_hours is not None]
    if not bounds:
        return []
    owners = sorted({owner for bound in bounds for owner in bound.owners})
    today, by_owner = forecast.days_of(connection, owners, period_days)
    found = []
    for bound in bounds:
        used, limit = rooms.used_of(bound), bound.core_hours or 0.0
        days = forecast.together(by_owner, bound.owners)
        found.append(
            Hours(bound.subject, round(used, 3), limit, forecast.outlook(days, used, limit, today, period_days))
        )
    return found


def _standing(
    connection: Connection, bound: Bound, left: Rooms, running: Mapping[str, tuple[int, int]], outlook: Outlook | None
) -> Standing:
    n_queued, n_held = queued(connection, bound.owners, running)
    jobs, cores = left.running_of(bound)
    return Standing(
        bound.subject,
        Level(n_queued, bound.queued_jobs),
        Level(jobs, bound.running_jobs),
        Level(cores, bound.running_cores),
        Level(round(left.used_of(bound), 3), bound.core_hours),
        bound.beyond,
        n_held,
        outlook,
    )

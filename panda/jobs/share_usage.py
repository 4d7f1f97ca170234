"""How many cores each share runs, and how each stands to its part.

A share's running cores are those of the jobs that hold a lease. Nobody keeps a counter of them: they are counted,
leases with their jobs, by whichever process finds the last count old (a dispatcher, or the clock), and everybody
reads the answer from one row. So no claim and no report writes anything for it, no row is hot, and a count is never
wrong for longer than the next one needs. A count takes 2 µs per lease (0.5 ms for 200 leases, 180 ms for 100,000).
The next one is due after `REST` times that: a tenth of one core at most goes into it, in the whole system, however
large it is.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.jobs import shares

#: A count is good for so many times what it took, and for `FLOOR_S` at least.
REST = 10
FLOOR_S = 0.02
#: A count that takes longer is left to the clock: nobody waits for it who only looks, unless the clock missed so many.
DEAR_S, MISSED = 0.1, 10
#: A dispatcher that counted within so many counts' time, and within `SEEN_S`, hands out jobs.
SEEN_COUNTS = 20
SEEN_S = 10
#: Ready jobs of a share that are counted for those who look; more are not told apart.
MAX_READY = 10_000

_GOOD_FOR = f"greatest({FLOOR_S}, {REST} * took_s)"
DUE = f"""
SELECT panda_now() AS at FROM share_usage
WHERE panda_now() NOT BETWEEN counted_at AND counted_at + make_interval(secs => {_GOOD_FOR})
    OR (%(by_owner)s AND owners IS NULL) FOR UPDATE SKIP LOCKED
"""
COUNT = """
SELECT c.share, sum(c.n * s.cores)::bigint AS cores
FROM (SELECT j.share, j.shape_id, count(*) AS n
    FROM leases l, LATERAL (SELECT share, shape_id FROM jobs WHERE panda_id = l.panda_id OFFSET 0) j
    GROUP BY j.share, j.shape_id) c,
    LATERAL (SELECT cores FROM shapes WHERE shape_id = c.shape_id OFFSET 0) s
GROUP BY c.share
"""
#: The same, told apart by owner as well: where quotas want to know.
COUNT_BY_OWNER = """
SELECT c.share, c.owner, sum(c.n)::bigint AS jobs, sum(c.n * s.cores)::bigint AS cores
FROM (SELECT j.share, j.owner, j.shape_id, count(*) AS n
    FROM leases l, LATERAL (SELECT share, owner, shape_id FROM jobs WHERE panda_id = l.panda_id OFFSET 0) j
    GROUP BY j.share, j.owner, j.shape_id) c,
    LATERAL (SELECT cores FROM shapes WHERE shape_id = c.shape_id OFFSET 0) s
GROUP BY c.share, c.owner
"""
KEEP = f"""
UPDATE share_usage SET counted_at = %(at)s, took_s = extract(epoch FROM panda_now() - %(at)s), cores = %(cores)s,
    owners = %(owners)s,
    dealers = (SELECT coalesce(jsonb_object_agg(name, at), '{{}}')
        FROM jsonb_each(dealers || CASE WHEN %(by)s::text IS NULL THEN '{{}}'
            ELSE jsonb_build_object(%(by)s::text, extract(epoch FROM %(at)s)) END) AS d(name, at)
        WHERE at::float8 > extract(epoch FROM %(at)s) - greatest({SEEN_S}, {SEEN_COUNTS} * {_GOOD_FOR}))
"""
READ = f"""
SELECT cores, CASE WHEN %(by_owner)s THEN owners END AS owners, owners IS NOT NULL AS has_owners,
    extract(epoch FROM panda_now() - counted_at)::float8 AS age_s, ({_GOOD_FOR})::float8 AS good_for_s,
    (SELECT count(*) FROM jsonb_object_keys(dealers)) AS n_dealers
FROM share_usage
"""
#: A skip scan over the claim index: one probe per distinct pair, however many jobs stand behind it.
_WAITING = """
RECURSIVE waiting AS (
    (SELECT queue, share FROM ready WHERE (queue, share) > ('', '') ORDER BY queue, share LIMIT 1)
    UNION ALL
    SELECT n.queue, n.share FROM waiting w, LATERAL (
        SELECT queue, share FROM ready WHERE (queue, share) > (w.queue, w.share) ORDER BY queue, share LIMIT 1) n)
"""
WAITING_PAIRS = f"WITH {_WAITING} SELECT queue, share FROM waiting"
WAITING_JOBS = f"""
WITH {_WAITING}
SELECT w.share, n.n_ready
FROM (SELECT share, array_agg(queue) AS queues FROM waiting GROUP BY share) w, LATERAL (
    SELECT count(*) AS n_ready FROM (
        SELECT 1 FROM unnest(w.queues) AS q(queue), LATERAL (
            SELECT 1 FROM ready WHERE queue = q.queue AND share = w.share LIMIT {MAX_READY}) r
        LIMIT {MAX_READY}) counted) n
"""


class Count(NamedTuple):
    """Running cores by the name that jobs give."""

    cores: Mapping[str, int]
    age_s: float
    good_for_s: float
    """At this age they are counted anew."""
    n_dealers: int
    """Processes that hand out jobs."""
    owners: Mapping[str, tuple[int, int]] | None
    """Running jobs and cores by owner; None: they were not asked for, or not counted."""
    has_owners: bool


class Standing(NamedTuple):
    """A share as people see it."""

    name: str
    parent: str | None
    kind: str
    """`share` (jobs may name it), `group` (it has shares below it) or `stray` (jobs name it, the tree does not)."""
    weight: float
    part: float
    """Of all running cores, 0 to 1; 0: nothing of it runs or is ready."""
    running_cores: int
    n_ready: int
    """At most `MAX_READY` of each share that jobs name."""
    deficit_cores: float
    """Cores that it runs below its part; negative: above it."""


class Position(NamedTuple):
    """A share in the eyes of one of its jobs that waits for a pilot."""

    part: float
    running_cores: int
    all_cores: int
    ahead: list[str]
    """Shares with jobs ready at the same queue whose turn comes first."""


def current(connection: Connection, dealer: str | None = None, *, by_owner: bool = False) -> Count:
    """The last count; if it is old and nobody else counts at this moment, a new one.

    Args:
        dealer: the process that asks, if it hands out jobs.
        by_owner: tell what each owner runs, too; None in the moment in which somebody else counts without that.
    """
    last = _last(connection, by_owner)
    if 0 <= last.age_s <= last.good_for_s and (last.owners is not None or not by_owner):
        return last
    due = rows(connection, DUE, {"by_owner": by_owner})
    if due:  # whoever wanted to know the owners wants it again soon
        cores, owners = _counted(connection, by_owner or last.has_owners)
        run(
            connection,
            KEEP,
            {"at": due[0].at, "cores": _text(cores), "owners": None if owners is None else _text(owners), "by": dealer},
        )
    return _last(connection, by_owner)


def lately(connection: Connection, age_s: float = 5.0, *, by_owner: bool = False) -> Count:
    """For those who look: the last count, while it is not older than this, or a good deal older if a new one is dear.
    The clock counts too (tick `fold`), so that there is one although one share alone is served, and of owners once
    somebody wanted to know them."""
    last = _last(connection, by_owner)
    patience = MISSED if last.good_for_s > REST * DEAR_S else 2
    is_good = 0 <= last.age_s <= max(age_s, patience * last.good_for_s)
    return last if is_good and (last.owners is not None or not by_owner) else current(connection, by_owner=by_owner)


def _counted(connection: Connection, by_owner: bool) -> tuple[dict[str, int], dict[str, tuple[int, int]] | None]:
    """Cores by share; jobs and cores by owner, where they are wanted."""
    if not by_owner:
        return {row.share: row.cores for row in rows(connection, COUNT)}, None
    cores: dict[str, int] = {}
    owners: dict[str, tuple[int, int]] = {}
    for row in rows(connection, COUNT_BY_OWNER):
        cores[row.share] = cores.get(row.share, 0) + row.cores
        was = owners.get(row.owner, (0, 0))
        owners[row.owner] = (was[0] + row.jobs, was[1] + row.cores)
    return cores, owners


def _text(counts: Mapping[str, Any]) -> str:
    return msgspec.json.encode(counts).decode()


def _last(connection: Connection, by_owner: bool) -> Count:
    [row] = rows(connection, READ, {"by_owner": by_owner})
    owners = None if row.owners is None else {owner: (jobs, cores) for owner, (jobs, cores) in row.owners.items()}
    return Count(row.cores, row.age_s, row.good_for_s, row.n_dealers, owners, row.has_owners)


def standings(connection: Connection) -> list[Standing]:
    """Every share, each one followed by those below it; then the strays."""
    tree, cores = shares.tree(connection), lately(connection).cores
    ready: dict[str, int] = {row.share: row.n_ready for row in rows(connection, WAITING_JOBS)}
    active = sorted(cores.keys() | ready.keys())
    parts, running, waiting = tree.parts(active), tree.load(cores), tree.load(ready)
    n_cores = sum(cores.values())

    def standing(key: str, name: str, parent: str | None, kind: str, weight: float) -> Standing:
        part, n_running = parts.get(key, 0.0), int(running.get(key, 0))
        return Standing(
            name, parent, kind, weight, round(part, 6), n_running, int(waiting.get(key, 0)),
            round(part * n_cores - n_running, 2),
        )  # fmt: skip

    found = [
        standing(each.name, each.name, each.parent, "group" if tree.below(each.name) else "share", each.weight)
        for each in tree.walk()
    ]
    strays = [name for name in active if tree.is_stray(name)]
    return found + [standing(tree.branch(name), name, None, "stray", tree.stray_weight) for name in strays]


def position(connection: Connection, share: str, queue: str) -> Position:
    """How `share` stands, and whose turn at `queue` comes first."""
    tree, cores = shares.tree(connection), current(connection).cores
    waiting = [(row.queue, row.share) for row in rows(connection, WAITING_PAIRS)]
    here = {share, *(other for place, other in waiting if place == queue)}
    load, branch = tree.load(cores), tree.branch(share)
    order = tree.order(here, load)
    parts = tree.parts({share, *cores, *(other for _, other in waiting)})
    return Position(round(parts[branch], 6), int(load.get(branch, 0)), sum(cores.values()), order[: order.index(share)])

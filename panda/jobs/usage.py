"""What running attempts use, point by point, as the heartbeats of their pilots tell.

One row per attempt, with at most MOST_POINTS points: when it is full every second point goes, and from then on only
every second heartbeat is kept, and so on. So a job of a week has as many points as one of an hour.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import NotFound

MOST_POINTS = 200

REMEMBER = f"""
INSERT INTO job_usage AS u (panda_id, attempt_nr, seen, every, points)
SELECT s.panda_id, s.attempt_nr, 1, 1, jsonb_build_array(s.point)
FROM (SELECT t.panda_id, t.attempt_nr, jsonb_build_array(round(extract(epoch FROM panda_now())), t.wall_s, t.cpu_s,
        t.rss_mb, t.read_mb, t.written_mb, t.disk_mb, t.n_processes) AS point
    FROM unnest(%(panda_ids)s::bigint[], %(attempts)s::int[], %(wall_s)s::real[], %(cpu_s)s::real[], %(rss_mb)s::int[],
        %(read_mb)s::bigint[], %(written_mb)s::bigint[], %(disk_mb)s::bigint[], %(n_processes)s::int[])
        AS t(panda_id, attempt_nr, wall_s, cpu_s, rss_mb, read_mb, written_mb, disk_mb, n_processes)
    ORDER BY 1) s
ON CONFLICT (panda_id, attempt_nr) DO UPDATE SET
    seen = u.seen + 1,
    every = CASE WHEN u.seen %% u.every = 0 AND jsonb_array_length(u.points) >= {MOST_POINTS}
        THEN u.every * 2 ELSE u.every END,
    points = CASE
        WHEN u.seen %% u.every <> 0 THEN u.points
        WHEN jsonb_array_length(u.points) < {MOST_POINTS} THEN u.points || excluded.points
        ELSE (SELECT jsonb_agg(point ORDER BY nr) FROM jsonb_array_elements(u.points) WITH ORDINALITY AS t(point, nr)
            WHERE nr %% 2 = 1) || excluded.points END
"""
NEWEST = """
SELECT attempt_nr, every, points FROM job_usage
WHERE panda_id = %(panda_id)s AND attempt_nr = coalesce(%(attempt_nr)s, attempt_nr) ORDER BY attempt_nr DESC LIMIT 1
"""
ATTEMPT = """
SELECT attempt_nr FROM jobs WHERE panda_id = %(panda_id)s
UNION ALL SELECT attempt_nr FROM jobs_archive WHERE panda_id = %(panda_id)s
"""


class Sample(NamedTuple):
    """One heartbeat. Times in seconds, sizes in MB (10^6 bytes); None: the pilot does not know."""

    panda_id: int
    attempt_nr: int
    wall_s: float
    cpu_s: float | None
    rss_mb: int | None
    read_mb: int | None
    written_mb: int | None
    disk_mb: int | None
    n_processes: int | None


class Point(NamedTuple):
    """A point of the curves."""

    at: datetime
    wall_s: float | None
    cpu_s: float | None
    rss_mb: int | None
    read_mb: int | None
    written_mb: int | None
    disk_mb: int | None
    n_processes: int | None


class Curve(NamedTuple):
    """An attempt's points; `every`: how many heartbeats each stands for."""

    attempt_nr: int
    every: int
    points: list[Point]


def remember(connection: Connection, samples: Sequence[Sample]) -> None:
    """Add a point to each of these attempts; one statement for all."""
    if samples:
        columns = list(zip(*samples, strict=True))
        names = ("panda_ids", "attempts", *Sample._fields[2:])
        run(connection, REMEMBER, {name: list(column) for name, column in zip(names, columns, strict=True)})


def curve(connection: Connection, panda_id: int, attempt_nr: int | None) -> Curve:
    """The points of an attempt (the newest that has any), in order; none for a job that ran too briefly.

    Raises:
        NotFound: there is no such job, or it has no such attempt.
    """
    found = rows(connection, NEWEST, {"panda_id": panda_id, "attempt_nr": attempt_nr})
    if found:
        points = [Point(datetime.fromtimestamp(each[0], UTC), *each[1:]) for each in found[0].points]
        return Curve(found[0].attempt_nr, found[0].every, points)
    known = rows(connection, ATTEMPT, {"panda_id": panda_id})
    if not known:
        raise NotFound("job", str(panda_id))
    if attempt_nr is not None and attempt_nr > known[0].attempt_nr:
        raise NotFound(f"attempt of job {panda_id}", str(attempt_nr))
    return Curve(attempt_nr or known[0].attempt_nr, 1, [])

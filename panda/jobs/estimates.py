"""When a ready job will start, and how good such estimates were.

A job starts when those before it in its share have started, at the pace at which its queue started jobs in the last
hour, of which its share gets its part. That is one number; how wide around it the answer must be is learnt: a clock
keeps such predictions for a few waiting jobs each minute and looks later what became of them. So each estimate comes
with the measured part of past ones that were right.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows, run
from panda.jobs import shares
from panda.jobs.line import MAX_POSITION, Place
from panda.jobs.share_tree import Tree
from panda.names import counted

#: The pace of a queue is that of so many seconds.
PACE_S = 3_600
#: Predictions that one look makes, from the newest jobs of so many kinds at most; and that it compares.
MADE, KINDS, COMPARED = 10, 500, 500
#: The newest predictions that the spread and the coverage are measured on.
MEASURED = 1_000
#: With fewer than this nothing is learnt yet, and the first guess holds: a fifth to five times as long.
ENOUGH = 20
FIRST_SPREAD = (0.2, 5.0)
#: The middle part of past answers that an estimate spans.
LOW, HIGH = 0.1, 0.9
#: Longer waits are not told apart, in seconds.
FOREVER_S = 30 * 86_400.0

STARTS = """
SELECT queue, sum(n)::int AS n FROM queue_starts
WHERE queue = ANY(%(queues)s) AND bucket > (SELECT panda_now()) - make_interval(secs => %(pace_s)s) GROUP BY queue
"""
SHARES_READY = """
WITH RECURSIVE here AS (
    (SELECT share FROM ready WHERE queue = %(queue)s ORDER BY queue, share LIMIT 1)
    UNION ALL
    SELECT n.share FROM here h, LATERAL (
        SELECT share FROM ready WHERE queue = %(queue)s AND share > h.share ORDER BY queue, share LIMIT 1) n)
SELECT share FROM here
"""
#: The kinds of ready jobs, found with a skip scan; of some of them the newest job, and how many come before it.
SAMPLE = f"""
WITH RECURSIVE kinds AS (
    (SELECT queue, share, who, shape_id, 1 AS nr FROM ready ORDER BY queue, share, who, shape_id LIMIT 1)
    UNION ALL
    SELECT n.queue, n.share, n.who, n.shape_id, k.nr + 1 FROM kinds k, LATERAL (
        SELECT queue, share, who, shape_id FROM ready
        WHERE (queue, share, who, shape_id) > (k.queue, k.share, k.who, k.shape_id)
        ORDER BY queue, share, who, shape_id LIMIT 1) n
    WHERE k.nr < {KINDS}),
drawn AS (SELECT * FROM kinds ORDER BY random() LIMIT {MADE}),
newest AS (
    SELECT s.queue, s.share, r.panda_id, r.rank FROM drawn s, LATERAL (
        SELECT panda_id, rank FROM ready
        WHERE queue = s.queue AND share = s.share AND who = s.who AND shape_id = s.shape_id
        ORDER BY queue DESC, share DESC, who DESC, shape_id DESC, rank DESC LIMIT 1) r
    WHERE NOT EXISTS (SELECT FROM start_predictions p WHERE p.panda_id = r.panda_id))
SELECT n.queue, n.share, n.panda_id, sum(b.n)::int AS n_before,
    ARRAY(SELECT DISTINCT share FROM kinds k WHERE k.queue = n.queue) AS shares
FROM newest n JOIN kinds k ON k.queue = n.queue AND k.share = n.share, LATERAL (
    SELECT count(*) AS n FROM (
        SELECT 1 FROM ready WHERE queue = k.queue AND share = k.share AND who = k.who AND shape_id = k.shape_id
            AND rank <= n.rank AND panda_id <> n.panda_id LIMIT {MAX_POSITION}) others) b
GROUP BY n.queue, n.share, n.panda_id
"""
KEEP = """
INSERT INTO start_predictions (panda_id, made_at, looked_at, queue, base_s, low_at, high_at)
SELECT panda_id, panda_now(), panda_now(), queue, base_s, panda_now() + make_interval(secs => base_s * %(low)s),
    panda_now() + make_interval(secs => base_s * %(high)s)
FROM unnest(%(panda_ids)s::bigint[], %(queues)s::text[], %(bases)s::float8[]) AS t(panda_id, queue, base_s)
ON CONFLICT DO NOTHING
"""
#: What became of them: `is_gone` if the job never started there.
LOOK = f"""
SELECT p.panda_id, CASE WHEN j.computing_site = p.queue THEN j.sent_at WHEN j.status IS NULL
        AND a.computing_site = p.queue THEN a.sent_at END AS started_at,
    coalesce(j.status = 'activated' AND j.computing_site = p.queue, false) AS is_waiting
FROM (SELECT panda_id, queue FROM start_predictions WHERE started_at IS NULL AND NOT is_gone
        ORDER BY looked_at LIMIT {COMPARED}) p
    LEFT JOIN LATERAL (SELECT status, sent_at, computing_site FROM jobs WHERE panda_id = p.panda_id OFFSET 0) j ON true
    LEFT JOIN LATERAL (SELECT sent_at, computing_site FROM jobs_archive WHERE panda_id = p.panda_id OFFSET 0) a ON true
"""
COMPARE = """
UPDATE start_predictions p SET looked_at = panda_now(), started_at = t.started_at, is_gone = t.is_gone
FROM unnest(%(panda_ids)s::bigint[], %(starts)s::timestamptz[], %(gone)s::boolean[]) AS t(panda_id, started_at, is_gone)
WHERE p.panda_id = t.panda_id AND p.panda_id = ANY(%(panda_ids)s)
"""
PAST = f"""
SELECT base_s, extract(epoch FROM coalesce(started_at, (SELECT panda_now())) - made_at)::float8 AS took_s,
    started_at IS NOT NULL AS has_started, coalesce(started_at BETWEEN low_at AND high_at, false) AS was_right,
    started_at IS NULL AND high_at < (SELECT panda_now()) AS is_overdue
FROM (SELECT * FROM start_predictions WHERE NOT is_gone ORDER BY made_at DESC LIMIT {MEASURED}) p
"""
TIDY = "DELETE FROM start_predictions WHERE made_at < panda_now() - interval '14 days'"
NOW = "SELECT panda_now() AS now"


class Measured(NamedTuple):
    """What past predictions teach."""

    spread: tuple[float, float]
    """How much sooner and later than predicted jobs start: two factors."""
    coverage: float | None
    """The part of past estimates that were right; None: too few were compared."""
    n_compared: int


class Estimate(NamedTuple):
    """When a job will start; and how often such estimates were right."""

    earliest_at: datetime
    latest_at: datetime
    coverage: float | None
    n_compared: int
    because: str


def estimate(connection: Connection, queue: str, share: str, place: Place) -> Estimate | None:
    """When a ready job will start; None: nothing started at its queue in the last hour, so nothing can be told."""
    found = rows(connection, STARTS, {"queues": [queue], "pace_s": float(PACE_S)})
    n_starts = found[0].n if found else 0
    here = {share, *(row.share for row in rows(connection, SHARES_READY, {"queue": queue}))}
    part = part_of(shares.tree(connection), share, here)
    base_s = seconds(place.n_alike + place.n_others, n_starts, part)
    if base_s is None:
        return None
    now: datetime = rows(connection, NOW)[0].now
    measured = measure(connection)
    low, high = (timedelta(seconds=min(FOREVER_S, base_s * factor)) for factor in measured.spread)
    its = "" if part > 0.999 else f", of which share {share} gets {part:.0%}"
    n = place.n_alike + place.n_others
    ahead = f"{counted(n, 'job')} of its share {'comes' if n == 1 else 'come'} before it"
    because = f"{ahead}; {counted(n_starts, 'job')} started there in the last hour{its}"
    return Estimate(now + low, now + high, measured.coverage, measured.n_compared, because)


def part_of(tree: Tree, share: str, here: Collection[str]) -> float:
    """The part of a queue's starts that a share gets while these shares have jobs ready there."""
    return tree.parts(here)[tree.branch(share)]


def seconds(n_before: int, n_starts: int, part: float) -> float | None:
    """Until a job starts, at the pace of the last hour; None: there was none."""
    if not n_starts or part <= 0:
        return None
    return min(FOREVER_S, (n_before + 1) * PACE_S / (n_starts * part))


def predict(connection: Connection) -> int:
    """Keep predictions for some of the jobs that wait now. Returns how many. A clock calls it."""
    samples = rows(connection, SAMPLE)
    if not samples:
        return 0
    queues = sorted({row.queue for row in samples})
    starts = {row.queue: row.n for row in rows(connection, STARTS, {"queues": queues, "pace_s": float(PACE_S)})}
    tree = shares.tree(connection)
    bases = [
        (row, seconds(row.n_before, starts.get(row.queue, 0), part_of(tree, row.share, {row.share, *row.shares})))
        for row in samples
    ]
    kept = [(row, base_s) for row, base_s in bases if base_s is not None]
    if kept:
        low, high = measure(connection).spread
        values = {"panda_ids": [row.panda_id for row, _ in kept], "queues": [row.queue for row, _ in kept]}
        run(connection, KEEP, values | {"bases": [base_s for _, base_s in kept], "low": low, "high": high})
    return len(kept)


def compare(connection: Connection) -> int:
    """Look what became of the predictions that were looked at longest ago. Returns of how many something did."""
    found = rows(connection, LOOK)
    if found:
        run(
            connection,
            COMPARE,
            {"panda_ids": [row.panda_id for row in found], "starts": [row.started_at for row in found],
             "gone": [_is_gone(row) for row in found]},
        )  # fmt: skip
    return sum(row.started_at is not None or _is_gone(row) for row in found)


def measure(connection: Connection) -> Measured:
    """What the newest predictions teach."""
    return learnt(rows(connection, PAST))


def learnt(past: Sequence[Row[Any]]) -> Measured:
    """What predictions teach: rows with `base_s`, `took_s`, `has_started`, `was_right`, `is_overdue`.

    A job that still waits, longer than it should, counts with the time that it has waited."""
    told = [row for row in past if row.has_started or row.is_overdue]
    if len(told) < ENOUGH:
        return Measured(FIRST_SPREAD, None, len(told))
    factors = sorted(row.took_s / max(row.base_s, 1.0) for row in told)
    low = factors[int(LOW * (len(factors) - 1))]
    high = factors[int(HIGH * (len(factors) - 1))]
    coverage = sum(row.was_right for row in told) / len(told)
    return Measured((low, max(high, 2 * low)), coverage, len(told))


def forget_old(connection: Connection) -> None:
    """Predictions of more than two weeks ago."""
    run(connection, TIDY)


def _is_gone(row: Row[Any]) -> bool:
    return row.started_at is None and not row.is_waiting

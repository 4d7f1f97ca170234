"""What owners used: with decay, for the order of their jobs, and within a period, for their core hours.

The accounting has the core seconds of each owner and day (`owner_days`, folded from what archived jobs used); what runs
now counts with what it has run so far. From these the clock makes one row per owner anew, once in `EVERY_S`: nothing is
carried on from the last time, so nothing can drift.

An owner's part of everything that was used, what was used `half_life_h` ago counting half, costs them points of
priority: `usage_points` for the one who used everything, in proportion for the others. It moves the rank that a job
gets when it becomes ready (`ready`), so the jobs of somebody who used little go before those of somebody who used
much, by minutes, and waiting still raises everybody.
"""

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.jobs.due import PRIORITY_MS
from panda.jobs.quotas import picture
from panda.settings import Quotas

EVERY_S = 60.0
#: After so many half-lives nothing is left of what was used that is worth a look.
HALF_LIVES = 10

IS_DUE = """
SELECT NOT EXISTS (SELECT FROM tick_leases
    WHERE name = 'usage_history' AND last_run_at > panda_now() - make_interval(secs => %(every_s)s)) AS is_due
"""
NOTE = """
INSERT INTO tick_leases (name, lease_until, holder, last_run_at) VALUES ('usage_history', panda_now(), '', panda_now())
ON CONFLICT (name) DO UPDATE SET last_run_at = excluded.last_run_at
"""
#: Core seconds of everything that runs now, by owner: every lease.
RUNNING = """
SELECT j.owner, sum(s.cores * greatest(0, extract(epoch FROM panda_now() - coalesce(j.started_at, j.sent_at))))::float8
    AS core_s
FROM leases l, LATERAL (SELECT owner, shape_id, started_at, sent_at FROM jobs WHERE panda_id = l.panda_id OFFSET 0) j,
    LATERAL (SELECT cores FROM shapes WHERE shape_id = j.shape_id OFFSET 0) s
GROUP BY j.owner
"""
#: A day counts as if everything had been used in its middle.
MAKE = f"""
WITH spans AS (
    SELECT owner, core_s, extract(epoch FROM panda_now() - (day::timestamp AT TIME ZONE 'UTC' + interval '12 hours'))
        AS age_s
    FROM owner_days WHERE day > ((SELECT panda_now()) AT TIME ZONE 'UTC')::date - %(horizon_days)s::int
    UNION ALL SELECT owner, core_s, 0 FROM unnest(%(owners)s::text[], %(core_s)s::float8[]) AS r(owner, core_s)),
sums AS (
    SELECT owner, sum(core_s * 0.5 ^ (greatest(age_s, 0) / %(half_life_s)s))::float8 AS decayed,
        (sum(core_s) FILTER (WHERE age_s < %(period_s)s))::float8 AS in_period
    FROM spans GROUP BY owner),
parts AS (
    SELECT owner, coalesce(decayed / nullif(sum(decayed) OVER (), 0), 0) AS part, coalesce(in_period, 0) AS in_period
    FROM sums),
gone AS (DELETE FROM owner_usage WHERE owner <> ALL(ARRAY(SELECT owner FROM parts)))
INSERT INTO owner_usage AS u (owner, part, late_ms, core_hours, at)
SELECT owner, part, round(part * %(points)s * {PRIORITY_MS}), in_period / 3600, panda_now() FROM parts ORDER BY owner
ON CONFLICT (owner) DO UPDATE SET part = excluded.part, late_ms = excluded.late_ms, core_hours = excluded.core_hours,
    at = excluded.at
"""
FORGET = """
DELETE FROM owner_days WHERE day < ((SELECT panda_now()) AT TIME ZONE 'UTC')::date - %(horizon_days)s::int
"""


def make(connection: Connection, quotas: Quotas) -> None:
    """What everybody used, as it stands now."""
    running = rows(connection, RUNNING)
    run(
        connection,
        MAKE,
        {"owners": [row.owner for row in running], "core_s": [row.core_s for row in running],
         "half_life_s": quotas.half_life_h * 3600.0, "period_s": quotas.period_days * 86_400.0,
         "horizon_days": horizon_days(quotas), "points": float(quotas.usage_points)},
    )  # fmt: skip
    run(connection, FORGET, {"horizon_days": horizon_days(quotas)})
    picture.forget()


def make_if_due(connection: Connection, quotas: Quotas) -> bool:
    """The same, if the last time was `EVERY_S` ago. Returns whether it was."""
    if not rows(connection, IS_DUE, {"every_s": EVERY_S})[0].is_due:
        return False
    make(connection, quotas)
    run(connection, NOTE)
    return True


def horizon_days(quotas: Quotas) -> int:
    """Days that are looked back on."""
    return 2 + max(int(quotas.half_life_h * HALF_LIVES / 24), quotas.period_days)

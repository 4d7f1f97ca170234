"""Why the jobs of a set have not ended: they are put together by what they wait for, and one of each kind is explained.

A set of a million jobs is not walked: its range of PandaIDs is cut into stripes, and of each the first live jobs are
looked at. A set of at most `STRIPES * WIDTH` jobs is seen whole; of a larger one every part, so that no kind is missed
because it comes late.
"""

from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.brokerage.explaining import Explanation, explain
from panda.db.session import rows
from panda.errors import NotFound
from panda.settings import Settings
from panda.states import FINAL

#: Stripes of a set, and jobs of each that are looked at.
STRIPES, WIDTH = 40, 250
#: Kinds that are explained, the largest first; and jobs of each that are named.
KINDS, NAMED = 10, 5

SET = """
SELECT jobset_id, owner, first_panda_id, n_jobs, n_expanded, n_open FROM jobsets WHERE jobset_id = %(jobset_id)s
"""
#: Decisions of brokerage that are compared, the newest.
DECISIONS = 200

#: What tells kinds apart: for who waits for a queue the size and what brokerage said, numbers aside; for who waits for
#: a pilot the queue and the size, for data the queue; for all others what they wait for, or their stage.
KINDS_OF = f"""
WITH seen AS MATERIALIZED (
    SELECT j.panda_id, j.status, j.computing_site, j.shape_id, j.decision_id
    FROM generate_series(0, {STRIPES} - 1) AS nr, LATERAL (
        SELECT panda_id, jobset_id, status, computing_site, shape_id, decision_id FROM jobs
        WHERE panda_id >= %(first)s + nr * %(step)s::bigint
            AND panda_id < least(%(first)s + (nr + 1) * %(step)s::bigint, %(first)s + %(n_jobs)s)
        ORDER BY panda_id LIMIT {WIDTH}) j
    WHERE j.jobset_id = %(jobset_id)s AND j.status <> ALL(%(final)s)),
said AS MATERIALIZED (
    SELECT decision_id, md5(regexp_replace(funnel::text, '[0-9]+', '#', 'g')) AS words FROM brokerage_decisions
    WHERE decision_id = ANY(ARRAY(
        SELECT DISTINCT decision_id FROM seen WHERE status = 'defined' AND decision_id IS NOT NULL
        ORDER BY decision_id DESC LIMIT {DECISIONS}))),
waiting AS (
    SELECT s.*, d.waits_for, d.stage
    FROM seen s, LATERAL (SELECT stage, waits_for FROM job_due WHERE panda_id = s.panda_id OFFSET 0) d)
SELECT w.status, w.waits_for, CASE WHEN w.waits_for IN ('pilot', 'data') THEN w.computing_site END AS queue,
    count(*)::int AS n, min(w.panda_id) AS first, (array_agg(w.panda_id ORDER BY w.panda_id))[1:{NAMED}] AS panda_ids
FROM waiting w LEFT JOIN said ON w.waits_for = 'queue' AND said.decision_id = w.decision_id
GROUP BY w.status, w.waits_for, 3, CASE WHEN w.waits_for IS NULL THEN w.stage END,
    CASE WHEN w.waits_for IN ('pilot', 'queue') THEN w.shape_id END, said.words
ORDER BY n DESC, first
"""


class Group(NamedTuple):
    """Jobs that are where they are for the same reason."""

    n: int
    """Of those that were looked at."""
    status: str
    waits_for: str | None
    queue: str | None
    panda_ids: list[int]
    """The first ones."""
    explanation: Explanation
    """Of the first one."""


class SetExplanation(NamedTuple):
    """What a job set waits for."""

    jobset_id: int
    owner: str
    n_open: int
    n_not_made: int
    """Jobs that are accepted, and not made yet."""
    n_seen: int
    """Live jobs that have not ended and were looked at."""
    is_whole: bool
    """All were looked at; else some of every part of the set."""
    groups: list[Group]
    """The largest first."""
    n_more: int
    """Jobs of further kinds, among those that were looked at."""


def explain_set(connection: Connection, jobset_id: int, settings: Settings) -> SetExplanation:
    """Why the jobs of a set have not ended. Raises NotFound."""
    found = rows(connection, SET, {"jobset_id": jobset_id})
    if not found:
        raise NotFound("job set", jobset_id)
    jobset = found[0]
    step = max(WIDTH, -(-jobset.n_jobs // STRIPES))
    kinds = rows(
        connection,
        KINDS_OF,
        {"jobset_id": jobset_id, "first": jobset.first_panda_id, "n_jobs": jobset.n_jobs, "step": step,
         "final": [str(each) for each in sorted(FINAL)]},
    )  # fmt: skip
    groups = [
        Group(kind.n, kind.status, kind.waits_for, kind.queue, list(kind.panda_ids),
              explain(connection, kind.first, settings))
        for kind in kinds[:KINDS]
    ]  # fmt: skip
    return SetExplanation(
        jobset_id, jobset.owner, jobset.n_open, jobset.n_jobs - jobset.n_expanded, sum(kind.n for kind in kinds),
        step <= WIDTH, groups, sum(kind.n for kind in kinds[KINDS:]),
    )  # fmt: skip

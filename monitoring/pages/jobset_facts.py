"""What the pages of job sets ask beyond the ledger: when the set ends at its pace, its jobs over time, why some failed.

All of it is of the newest jobs of the set, a bounded number in each table.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlencode

from sqlalchemy.engine import Connection

from monitoring.reads.queries import Facts, facts
from monitoring.show import codes, looks
from panda.jobs.nouns import JOB_FIELDS
from panda.query import And, equal_to, write

#: Ends that tell the pace, and how old they may be; fewer than `ENOUGH` tell nothing.
PACE_ENDS, PACE_S, ENOUGH = 200, 3_600, 5
#: Points of the picture.
BINS = 60
#: Bottom first: word -> colour.
SERIES = {"finished": "finished", "failed": "failed", "cancelled": "cancelled", "running": "running",
          "waiting": "activated"}  # fmt: skip

#: Of each set the newest jobs that were archived: how many ended lately, and since when.
PACES = """
SELECT s.jobset_id, count(*) AS n, extract(epoch FROM (SELECT panda_now()) - min(a.ended_at))::float8 AS within_s,
    extract(epoch FROM (SELECT panda_now()) - max(a.ended_at))::float8 AS silent_s
FROM unnest(%(jobset_ids)s::bigint[]) AS s(jobset_id), LATERAL (
    SELECT ended_at FROM jobs_archive WHERE jobset_id = s.jobset_id ORDER BY jobset_id, -panda_id LIMIT %(ends)s) AS a
WHERE a.ended_at > (SELECT panda_now()) - make_interval(secs => %(pace_s)s)
GROUP BY s.jobset_id
"""
#: What came and went in each bin. A job waits until its payload starts.
OVER_TIME = """
SELECT floor(extract(epoch FROM m.at - %(start)s::timestamptz) / %(bin_s)s)::int AS bin, m.word, sum(m.n)::int AS n
FROM (
    (SELECT status, created_at, started_at, ended_at FROM jobs
        WHERE jobset_id = %(jobset_id)s ORDER BY jobset_id, -panda_id LIMIT %(sample)s)
    UNION ALL
    (SELECT status, created_at, started_at, ended_at FROM jobs_archive
        WHERE jobset_id = %(jobset_id)s ORDER BY jobset_id, -panda_id LIMIT %(sample)s)) AS j,
LATERAL (SELECT
    CASE WHEN status IN ('finished', 'failed', 'cancelled', 'closed') THEN ended_at END AS ended,
    CASE WHEN status NOT IN ('pending', 'defined', 'assigned', 'activated', 'sent')
        THEN started_at END AS started) AS t,
LATERAL (VALUES (j.created_at, 'waiting', 1), (t.started, 'waiting', -1), (t.started, 'running', 1),
    (t.ended, CASE WHEN t.started IS NULL THEN 'waiting' ELSE 'running' END, -1),
    (t.ended, CASE WHEN j.status = 'closed' THEN 'cancelled' ELSE j.status END, 1)) AS m(at, word, n)
WHERE m.at IS NOT NULL GROUP BY 1, 2
"""
#: `n_resting` of them may be tried again.
FAILURES = """
SELECT error_code, failed_stage, count(*) AS n, count(*) FILTER (WHERE rests) AS n_resting,
    max(error_message) AS message, max(panda_id) AS panda_id
FROM (
    (SELECT true AS rests, status, error_code, failed_stage, error_message, panda_id FROM jobs
        WHERE jobset_id = %(jobset_id)s ORDER BY jobset_id, -panda_id LIMIT %(sample)s)
    UNION ALL
    (SELECT false, status, error_code, failed_stage, error_message, panda_id FROM jobs_archive
        WHERE jobset_id = %(jobset_id)s ORDER BY jobset_id, -panda_id LIMIT %(sample)s)) AS newest
WHERE status = 'failed' GROUP BY 1, 2 ORDER BY n DESC, 1, 2 LIMIT 20
"""


def with_etas(connection: Connection, jobsets: Sequence[Facts]) -> list[Facts]:
    """Each set with `eta_s`, seconds until its last job ends if it goes on as in the last hour; None: nobody knows."""
    moving = [each["jobset_id"] for each in jobsets if each["n_open"]]
    asked = {"jobset_ids": moving, "ends": PACE_ENDS, "pace_s": PACE_S}
    paces = {row["jobset_id"]: row for row in facts(connection, PACES, asked)} if moving else {}
    return [{**each, "eta_s": _eta(each, paces.get(each["jobset_id"]))} for each in jobsets]


def _eta(jobset: Facts, pace: Facts | None) -> float | None:
    """What failed and rests is not among the archived ends: the pace is raised by its part of all ends. Where nothing
    ended for a while it takes as long again at least: the last ones may be stuck."""
    if pace is None or pace["n"] < ENOUGH or pace["within_s"] <= 0:
        return None
    others = jobset["n_finished"] + jobset["n_cancelled"]
    raised = (others + jobset["n_failed"]) / others if others else 1.0
    return max(float(pace["silent_s"]), float(jobset["n_open"] * pace["within_s"] / (pace["n"] * raised)))


def over_time(connection: Connection, jobset: Facts, sample: int, now: datetime) -> Facts:
    """The jobs by what they did: `times`, `series` (word, colour, values; bottom first), `start`, `end`, `bin_s`."""
    start: datetime = jobset["created_at"]
    end: datetime = max(jobset["ended_at"] or now, start + timedelta(seconds=BINS))
    bin_s = (end - start).total_seconds() / BINS
    asked = {"jobset_id": jobset["jobset_id"], "sample": sample, "start": start, "bin_s": bin_s}
    moved: dict[str, list[int]] = {word: [0] * BINS for word in SERIES}
    for row in facts(connection, OVER_TIME, asked):
        moved[row["word"]][min(BINS - 1, max(0, row["bin"]))] += row["n"]
    values = {word: [0.0, *_summed(found)] for word, found in moved.items()}
    times = [start + timedelta(seconds=bin_s * k) for k in range(BINS + 1)]
    return {"times": times, "series": [(word, SERIES[word], values[word]) for word in SERIES], "start": start,
            "end": end, "bin_s": bin_s}  # fmt: skip


def _summed(moved: Sequence[int]) -> list[float]:
    total, found = 0, []
    for n in moved:
        total += n
        found.append(float(max(0, total)))
    return found


def failures(connection: Connection, jobset_id: int, sample: int) -> list[Facts]:
    """Failed jobs by code: `n`, `n_resting`, an example, and where they are listed and tried again."""
    found = facts(connection, FAILURES, {"jobset_id": jobset_id, "sample": sample})
    for row in found:
        parts = [equal_to(JOB_FIELDS["jobset"], jobset_id), equal_to(JOB_FIELDS["status"], "failed")]
        if row["error_code"]:
            parts.append(equal_to(JOB_FIELDS["error"], row["error_code"]))
        asked = urlencode({"q": write(And(tuple(parts)))})
        row["meaning"] = codes.meaning(row["error_code"])
        row["jobs_link"], row["retry_link"] = f"/jobs?{asked}", f"/jobs/bulk/retry?{asked}"
        row["stage"] = looks.STAGE_TITLE.get(row["failed_stage"], row["failed_stage"] or looks.UNKNOWN)
    return found

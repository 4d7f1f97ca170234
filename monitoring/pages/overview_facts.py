"""The overview: what runs, what waits, what fails, and whether every part is alive."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from sqlalchemy.engine import Connection

from monitoring.health import Health
from monitoring.reads import queries, site_queries
from monitoring.reads.blocks import Block, Memory, Reader
from monitoring.reads.queries import Facts
from monitoring.show.looks import ACTIVE, JOB, STATUSES_OF
from panda.jobs import pilots_alive, share_usage
from panda.jobs.nouns import JOB_FIELDS
from panda.query import equal_to, write
from panda.states import JobStatus, Stage

#: Hours that the page may look back.
PERIODS = (3, 24, 168, 720)
#: While nobody asks: of numbers. The chart shows the smallest span that holds all there is, from an hour on.
USUAL = 24
BINS = 72
#: Longer spans read one minute of each bin; shorter ones the mean of all.
ALL_MINUTES_H = 24
IN_PILOTS = (JobStatus.SENT, JobStatus.STARTING, JobStatus.RUNNING)
#: The commonest errors change slowly: for so long they are shown while they are counted anew behind.
ERRORS_STALE_S = 20.0


def now_here() -> datetime:
    """Our own clock, for a page that has to show something while the database is away."""
    return datetime.now(UTC)


def overview(
    reader: Reader, health: Health, memory: Memory, *, hours: int | None, retry_window_s: int
) -> dict[str, Any]:
    """Everything that the page and its JSON hold, block by block.

    Args:
        hours: one of PERIODS; None: `USUAL`, and a chart that fits a young installation.
    """
    span = hours or USUAL
    charted = reader.block(lambda c: chart(c, hours))
    lines_h = charted.value["hours"] if charted.value else span
    counts = reader.block(lambda c: queries.facts(c, queries.COUNTS))
    pilots = reader.block(lambda c: queries.facts(c, pilots_alive.PILOTS))
    has_jobsets = reader.block(lambda c: bool(queries.facts(c, queries.HAS_JOBSETS)[0]["has"]))
    return {
        "is_first_run": has_jobsets.value is False,
        "health": health.parts(pilots.value),
        "jobs": _mapped(counts, queries.by_status),
        "hours": span,
        "kpis": kpis(reader, counts, pilots, span, lines_h),
        "stages": reader.block(lambda c: stages(c, counts.value)),
        "chart": charted,
        "errors": memory.of(
            ("overview errors", span),
            lambda: reader.block(lambda c: errors(c, retry_window_s, span)),
            stale_s=ERRORS_STALE_S,
        ),
        "queues": reader.block(lambda c: with_failures(c, queues(c, counts.value, pilots.value))),
        "incidents": reader.block(lambda c: queries.facts(c, queries.INCIDENTS, {"span_s": 7 * 86_400, "n": 6})),
    }


def _mapped(block: Block[list[Facts]], change: Any) -> Block[Any]:
    return Block(None if block.value is None else change(block.value), block.trouble)


def kpis(
    reader: Reader, counts: Block[list[Facts]], pilots: Block[list[Facts]], hours: int, lines_h: int
) -> dict[str, Any]:
    """Six numbers, each a block or a plain value; `ended` is of so many hours, the sparklines of `lines_h`."""
    now = None if counts.value is None else queries.by_status(counts.value)
    cores = reader.block(lambda c: sum(share_usage.lately(c).cores.values()))
    return {
        "running": None if now is None else sum(now.get(status, 0) for status in IN_PILOTS),
        "ready": None if now is None else now.get(JobStatus.ACTIVATED, 0),
        "waiting_for_data": None if now is None else now.get(JobStatus.ASSIGNED, 0),
        "cores_in_use": cores,
        "cores_of_pilots": None if pilots.value is None else sum(row["cores"] or 0 for row in pilots.value),
        "ended": reader.block(lambda c: _ended(c, now, hours)),
        "time_to_start": reader.block(_time_to_start),
        "lines": reader.block(lambda c: _lines(c, lines_h)),
    }


def _ended(connection: Connection, now: dict[str, int] | None, hours: int) -> Facts:
    """finished: jobs of the period. failed: attempts that failed in it, as the errors count them: a job that was
    retried no longer counts as failed, its attempt does. failure_rate: of both."""
    if now is None:
        return {"finished": None, "failed": None, "failure_rate": None}
    asked = {"hours": hours}
    is_old = queries.facts(connection, queries.IS_SO_OLD, asked)[0]["is_so"]
    before = {row["status"]: row["n"] for row in queries.facts(connection, queries.BEFORE, asked)} if is_old else {}
    finished = max(0, now.get(JobStatus.FINISHED, 0) - before.get(JobStatus.FINISHED, 0))
    failed: int = queries.facts(connection, queries.N_FAILED, asked)[0]["n"]
    return {"finished": finished, "failed": failed, "failure_rate": _rate(finished, failed)}


def _rate(finished: float, failed: float) -> float | None:
    return failed / (finished + failed) if finished + failed else None


def _time_to_start(connection: Connection) -> Facts:
    """Of the newest jobs that ended: from submission to start, and how long they ran. `starts`: the former, oldest
    first, for a sparkline."""
    found = queries.facts(connection, queries.TIME_TO_START)[0]
    p, wall = found["p"] or [None, None], found["wall"] or [None, None]
    return {"p50_s": p[0], "p95_s": p[1], "n": found["n"], "wall_p50_s": wall[0], "wall_p95_s": wall[1],
            "starts": found["starts"] or []}  # fmt: skip


def _lines(connection: Connection, hours: int) -> dict[str, list[float]]:
    """Points of the sparklines, oldest first."""
    _, values = _binned(connection, hours * 3_600, max(60, hours * 3_600 // BINS))
    running = [sum(values[s][k] for s in IN_PILOTS) for k in range(len(values[JobStatus.RUNNING]))]
    finished, rate = _growth(values[JobStatus.FINISHED]), _rates(connection, hours)
    return {"running": running, "ready": values[JobStatus.ACTIVATED], "finished": finished, "failure_rate": rate}


def _rates(connection: Connection, hours: int) -> list[float]:
    """Of each piece of the period, of whole hours: attempts that failed, of those and the jobs that finished."""
    bin_s = max(3_600, hours // 24 * 3_600)
    asked = {"hours": hours, "bin_s": bin_s}
    failed = {row["bin"]: row["n"] for row in queries.facts(connection, queries.FAILED_BY_BIN, asked)}
    times, values = _binned(connection, hours * 3_600, bin_s)
    finished = dict(zip(times[1:], _growth(values[JobStatus.FINISHED]), strict=True))
    return [_rate(finished.get(at, 0.0), failed.get(at, 0)) or 0.0 for at in times[1:]]


def _growth(totals: Sequence[float]) -> list[float]:
    return [max(0.0, b - a) for a, b in pairwise(totals)]


def _binned(connection: Connection, span_s: int, bin_s: int) -> tuple[list[datetime], dict[str, list[float]]]:
    """The bins that there are, ascending, and for every status a value in each."""
    sql = queries.HISTORY if span_s <= ALL_MINUTES_H * 3_600 else queries.LONG_HISTORY
    found = queries.facts(connection, sql, {"span_s": span_s, "bin_s": bin_s})
    times = sorted({row["bin"] for row in found})
    place = {at: k for k, at in enumerate(times)}
    values = {str(status): [0.0] * len(times) for status in JobStatus}
    for row in found:
        if row["status"] in values:
            values[row["status"]][place[row["bin"]]] = max(0.0, row["n"])
    return times, values


def chart(connection: Connection, hours: int | None) -> Facts:
    """Jobs on their way, by status: `times`, `series` (word, colour, values; bottom first), `start`, `end`."""
    known = queries.facts(connection, queries.SPAN)[0]
    if hours is None:
        age_s = 0 if known["first"] is None else (known["now"] - known["first"]).total_seconds()
        hours = next((period for period in (1, *PERIODS) if age_s <= period * 3600), USUAL)
        hours = min(hours, USUAL)
    bin_s = max(60, hours * 3600 // BINS)
    times, values = _binned(connection, hours * 3600, bin_s)
    return {
        "hours": hours,
        "bin_s": bin_s,
        "start": known["now"] - timedelta(hours=hours),
        "end": known["now"],
        "times": times,
        "series": [(str(status), JOB[status].colour, values[status]) for status in ACTIVE],
    }


def stages(connection: Connection, counts: list[Facts] | None) -> list[Facts]:
    """One row per stage: jobs there now (None for `archive`), rate, mean time, failures of the last hour."""
    ran = {row["stage"]: row for row in queries.facts(connection, queries.STAGES)}
    now = None if counts is None else queries.by_status(counts)
    found = []
    for stage in Stage:
        run = ran.get(stage, {})
        jobs = None if now is None else sum(now.get(status, 0) for status in STATUSES_OF[stage])
        found.append(
            {
                "stage": str(stage),
                "jobs": run.get("n", 0) if stage is Stage.ARCHIVE else jobs,
                "statuses": [str(status) for status in STATUSES_OF[stage]],
                "per_minute": run.get("per_minute", 0.0),
                "mean_ms": run.get("mean_ms"),
                "max_ms": run.get("max_ms"),
                "failed": run.get("n_failed", 0),
                "jobs_link": _jobs_of(stage),
                "failed_link": f"/jobs?{urlencode({'q': f'status:failed failed_stage:{stage} changed:1h'})}",
            }
        )
    return found


def _jobs_of(stage: Stage) -> str:
    """To the list of what stands there now."""
    statuses = (JobStatus.FINISHED,) if stage is Stage.ARCHIVE else STATUSES_OF[stage]
    return "/jobs?" + urlencode({"q": write(equal_to(JOB_FIELDS["status"], *map(str, statuses)))})


def errors(connection: Connection, retry_window_s: int, hours: int) -> list[Facts]:
    """The commonest failures of the period, each with a `trend` in a dozen pieces of it, oldest first."""
    found = queries.facts(connection, queries.ERRORS, {"window_s": retry_window_s, "hours": hours})
    known = {(row["error_code"], row["failed_stage"]): row for row in found}
    n_bins = min(hours, queries.ERROR_BINS)
    for row in found:
        row["trend"] = [0] * n_bins
    asked = {"codes": [row["error_code"] for row in found], "hours": hours, "bin_s": hours * 3_600 / n_bins}
    for point in queries.facts(connection, queries.ERROR_TREND, asked):
        failure = known.get((point["error_code"], point["failed_stage"]))
        if failure is not None:
            failure["trend"][-1 - min(max(point["ago"], 0), n_bins - 1)] += point["n"]
    return found


def queues(connection: Connection, counts: list[Facts] | None, pilots: list[Facts] | None) -> list[Facts]:
    """Queues with their jobs by status, the busiest first."""
    jobs = queries.by_queue(counts or [])
    seen = {row["queue"]: row for row in pilots or []}
    found = queries.facts(connection, queries.QUEUES)
    for queue in found:
        mine = jobs.get(queue["name"], {})
        queue["jobs"] = {status: n for status, n in mine.items() if n}
        queue["running"] = sum(mine.get(status, 0) for status in IN_PILOTS)
        queue["ready"] = mine.get(JobStatus.ACTIVATED, 0)
        queue["pilots"] = seen.get(queue["name"], {}).get("n", 0)
        queue["pilot_cores_now"] = seen.get(queue["name"], {}).get("cores", 0)
    return sorted(found, key=lambda q: (-q["running"] - q["ready"], q["name"]))


def with_failures(connection: Connection, queues: list[Facts]) -> list[Facts]:
    """Each queue with `n_failed`, `n_ended` and `failure_rate` of the last 24 h (whole days for what ended)."""
    failed = {row["queue"]: row["n"] for row in queries.facts(connection, site_queries.FAILED_BY_QUEUE)}
    ended = {row["queue"]: row for row in queries.facts(connection, site_queries.ENDED_BY_QUEUE)}
    for queue in queues:
        day = ended.get(queue["name"], {})
        n_failed, n_good = failed.get(queue["name"], 0), day.get("n_finished", 0)
        queue["n_failed"], queue["n_finished"] = n_failed, n_good
        queue["failure_rate"] = n_failed / (n_failed + n_good) if n_failed + n_good else None
        queue["cpu_s"], queue["core_s"] = day.get("cpu_s") or 0.0, day.get("core_s") or 0.0
        queue["cpu_efficiency"] = day["cpu_s"] / day["core_s"] if day.get("core_s") else None
    return queues

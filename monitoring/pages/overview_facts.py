"""The overview: what runs, what waits, what fails, and whether every part is alive."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy.engine import Connection

from monitoring.health import Health
from monitoring.reads import queries
from monitoring.reads.blocks import Block, Memory, Reader
from monitoring.reads.queries import Facts
from monitoring.show.looks import ACTIVE, JOB, STATUSES_OF
from panda.jobs import pilots_alive, share_usage
from panda.states import JobStatus, Stage

#: Hours that the chart may show; the smallest that holds all there is comes first by itself.
PERIODS = (1, 3, 24, 168)
BINS = 72
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
        hours: period of the chart, one of PERIODS; None: the smallest that fits.
    """
    counts = reader.block(lambda c: queries.facts(c, queries.COUNTS))
    pilots = reader.block(lambda c: queries.facts(c, pilots_alive.PILOTS))
    has_jobsets = reader.block(lambda c: bool(queries.facts(c, queries.HAS_JOBSETS)[0]["has"]))
    return {
        "is_first_run": has_jobsets.value is False,
        "health": health.parts(pilots.value),
        "jobs": _mapped(counts, queries.by_status),
        "kpis": kpis(reader, counts, pilots),
        "stages": reader.block(lambda c: stages(c, counts.value)),
        "chart": reader.block(lambda c: chart(c, hours)),
        "errors": memory.of(
            "overview errors", lambda: reader.block(lambda c: errors(c, retry_window_s)), stale_s=ERRORS_STALE_S
        ),
        "queues": reader.block(lambda c: queues(c, counts.value, pilots.value)),
        "incidents": reader.block(lambda c: queries.facts(c, queries.INCIDENTS, {"span_s": 7 * 86_400, "n": 6})),
    }


def _mapped(block: Block[list[Facts]], change: Any) -> Block[Any]:
    return Block(None if block.value is None else change(block.value), block.trouble)


def kpis(reader: Reader, counts: Block[list[Facts]], pilots: Block[list[Facts]]) -> dict[str, Any]:
    """Six numbers, each a block or a plain value; sparklines over the last 24 h, in bins of 20 minutes."""
    now = None if counts.value is None else queries.by_status(counts.value)
    cores = reader.block(lambda c: sum(share_usage.lately(c).cores.values()))
    day = reader.block(lambda c: _ended_in_a_day(c, now))
    start = reader.block(_time_to_start)
    return {
        "running": None if now is None else sum(now.get(status, 0) for status in IN_PILOTS),
        "ready": None if now is None else now.get(JobStatus.ACTIVATED, 0),
        "waiting_for_data": None if now is None else now.get(JobStatus.ASSIGNED, 0),
        "cores_in_use": cores,
        "cores_of_pilots": None if pilots.value is None else sum(row["cores"] or 0 for row in pilots.value),
        "day": day,
        "time_to_start": start,
        "lines": reader.block(_lines),
    }


def _ended_in_a_day(connection: Connection, now: dict[str, int] | None) -> Facts:
    """finished: jobs of the last 24 h. failed: attempts that failed then, as the errors count them: a job that was
    retried no longer counts as failed, its attempt does. failure_rate: of both."""
    if now is None:
        return {"finished": None, "failed": None, "failure_rate": None}
    is_old = queries.facts(connection, queries.IS_A_DAY_OLD)[0]["is_so"]
    before = {row["status"]: row["n"] for row in queries.facts(connection, queries.DAY_AGO)} if is_old else {}
    finished = max(0, now.get(JobStatus.FINISHED, 0) - before.get(JobStatus.FINISHED, 0))
    failed: int = queries.facts(connection, queries.N_FAILED)[0]["n"]
    return {"finished": finished, "failed": failed, "failure_rate": _rate(finished, failed)}


def _rate(finished: float, failed: float) -> float | None:
    return failed / (finished + failed) if finished + failed else None


def _time_to_start(connection: Connection) -> Facts:
    found = queries.facts(connection, queries.TIME_TO_START)[0]
    p = found["p"] or [None, None]
    return {"p50_s": p[0], "p95_s": p[1], "n": found["n"]}


def _lines(connection: Connection) -> dict[str, list[float]]:
    """Points of the sparklines, oldest first."""
    _, values = _binned(connection, 86_400, 1_200)
    running = [sum(values[s][k] for s in IN_PILOTS) for k in range(len(values[JobStatus.RUNNING]))]
    finished, rate = _growth(values[JobStatus.FINISHED]), _rates(connection)
    return {"running": running, "ready": values[JobStatus.ACTIVATED], "finished": finished, "failure_rate": rate}


def _rates(connection: Connection) -> list[float]:
    """Of each hour of the last day: attempts that failed, of those and the jobs that finished."""
    failed = {row["hour"]: row["n"] for row in queries.facts(connection, queries.FAILED_BY_HOUR)}
    times, values = _binned(connection, 86_400, 3_600)
    finished = dict(zip(times[1:], _growth(values[JobStatus.FINISHED]), strict=True))
    return [_rate(finished.get(at, 0.0), failed.get(at, 0)) or 0.0 for at in times[1:]]


def _growth(totals: Sequence[float]) -> list[float]:
    return [max(0.0, b - a) for a, b in pairwise(totals)]


def _binned(connection: Connection, span_s: int, bin_s: int) -> tuple[list[datetime], dict[str, list[float]]]:
    """The bins that there are, ascending, and for every status a value in each."""
    found = queries.facts(connection, queries.HISTORY, {"span_s": span_s, "bin_s": bin_s})
    times = sorted({row["bin"] for row in found})
    place = {at: k for k, at in enumerate(times)}
    values = {str(status): [0.0] * len(times) for status in JobStatus}
    for row in found:
        values.setdefault(row["status"], [0.0] * len(times))[place[row["bin"]]] = row["n"]
    return times, values


def chart(connection: Connection, hours: int | None) -> Facts:
    """Jobs on their way, by status: `times`, `series` (word, colour, values; bottom first), `start`, `end`."""
    known = queries.facts(connection, queries.SPAN)[0]
    if hours is None:
        age_s = 0 if known["first"] is None else (known["now"] - known["first"]).total_seconds()
        hours = next((period for period in PERIODS if age_s <= period * 3600), PERIODS[-1])
        hours = min(hours, 24)
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
            }
        )
    return found


def errors(connection: Connection, retry_window_s: int) -> list[Facts]:
    """The commonest failures of the last 24 h, each with a `trend` of two-hour bins, oldest first."""
    found = queries.facts(connection, queries.ERRORS, {"window_s": retry_window_s})
    known = {(row["error_code"], row["failed_stage"]): row for row in found}
    for row in found:
        row["trend"] = [0] * queries.ERROR_BINS
    for point in queries.facts(connection, queries.ERROR_TREND, {"codes": [row["error_code"] for row in found]}):
        failure = known.get((point["error_code"], point["failed_stage"]))
        if failure is not None:
            failure["trend"][-1 - min(max(point["ago"], 0), queries.ERROR_BINS - 1)] += point["n"]
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

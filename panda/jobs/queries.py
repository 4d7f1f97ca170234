"""Every question that is asked about jobs and job sets, named. Nothing here locks or writes.

A job is in `jobs` or in `jobs_archive`; one statement asks both, so a job on its way to the archive is
seen once. Lists of jobs and job sets are made by `panda.db.lists` from what `nouns` says of them.
"""

from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.errors import NotFound
from panda.settings import Engine
from panda.states import FINAL, JobSetStatus, JobStatus

MAX_PAGE = 500
#: Rows that one page of a filtered list looks at.
WINDOW = 20_000

#: What a job shows of itself. `{0}` is `jobs` or `jobs_archive`.
_FACTS = """
SELECT j.panda_id, j.jobset_id, j.name, j.owner, j.status, d.stage, d.waits_for, d.due_at, j.attempt_nr,
    j.max_attempts, j.priority, j.share, s.cores, s.memory_mb, s.disk_mb, s.walltime_s, s.gpus, s.tags,
    j.computing_site AS queue, q.site, j.pilot_id, j.node, j.failed_stage, j.error_code, j.error_message, j.exit_code,
    j.wall_s, j.cpu_s, j.max_rss_mb, j.created_at, j.changed_at, j.started_at, j.ended_at, j.kill_requested_at,
    j.kill_delivered_at, j.kill_confirmed_at, {2} AS kill_state,
    j.parent_id, {1} AS archived, j.spec -> 'command' AS command
FROM (SELECT * FROM {0} WHERE panda_id = ANY(%(panda_ids)s) OFFSET 0) j JOIN shapes s USING (shape_id)
    LEFT JOIN LATERAL (SELECT * FROM job_due WHERE panda_id = j.panda_id OFFSET 0) d ON true
    LEFT JOIN queues q ON q.name = j.computing_site
"""
#: `overtaken`: the job ended by itself before the kill reached it.
KILL_STATE = """CASE WHEN j.kill_requested_at IS NULL THEN NULL
        WHEN j.kill_confirmed_at IS NOT NULL THEN 'confirmed'
        WHEN j.status IN ('finished', 'failed', 'closed') THEN 'overtaken'
        WHEN j.status = 'cancelled' OR j.kill_requested_at < (SELECT panda_now()) - interval '10 minutes'
            THEN 'unconfirmed'
        WHEN j.kill_delivered_at IS NOT NULL THEN 'delivered' ELSE 'requested' END"""
JOBS = (
    f"{_FACTS.format('jobs', 'false', KILL_STATE)} UNION ALL {_FACTS.format('jobs_archive', 'true', KILL_STATE)}"
    " ORDER BY panda_id DESC"
)
SPENT = """
SELECT j.status, j.max_attempts - j.attempt_nr AS attempts, d.waits_for, d.deliveries, d.tries
FROM jobs j, LATERAL (SELECT * FROM job_due WHERE panda_id = j.panda_id OFFSET 0) d
WHERE j.panda_id = ANY(%(panda_ids)s)
"""
#: The same for a page of a list.
JOBS_SHOWN = JOBS.replace("%(panda_ids)s", "%(ids)s")
#: A larger number could not even be asked for.
LARGEST_ID = 2**63 - 1
OWNERS = """
SELECT panda_id, owner FROM jobs WHERE panda_id = ANY(%(panda_ids)s)
UNION ALL SELECT panda_id, owner FROM jobs_archive WHERE panda_id = ANY(%(panda_ids)s)
"""
UNEXPANDED = """
SELECT jobset_id, name, owner, created_at, n_jobs, n_expanded, cancel_requested_at FROM jobsets
WHERE n_expanded < n_jobs AND first_panda_id <= %(panda_id)s AND %(panda_id)s < first_panda_id + n_jobs
"""

EVENTS = """
SELECT at, was, now, attempt_nr, stage, by, reason, chain_id FROM job_events
WHERE panda_id = %(panda_id)s ORDER BY event_id
"""
FILES = """
SELECT kind, lfn, did AS dataset, status, size_bytes, adler32, attempt_nr FROM job_files
WHERE panda_id = %(panda_id)s AND (kind, lfn) > (%(kind)s, %(lfn)s) ORDER BY kind, lfn LIMIT %(limit)s
"""
ATTEMPTS = """
SELECT attempt_nr, from_stage, queue, pilot_id, node, created_at, started_at, ended_at, outcome, failed_stage,
    error_code, error_message, exit_code, wall_s, cpu_s, max_rss_mb
FROM attempts WHERE panda_id = %(panda_id)s
UNION ALL SELECT attempt_nr, from_stage, computing_site, pilot_id, node, sent_at, started_at, NULL, NULL, NULL,
    NULL, NULL, exit_code, wall_s, cpu_s, max_rss_mb
FROM jobs WHERE panda_id = %(panda_id)s AND sent_at IS NOT NULL
    AND status IN ('sent', 'starting', 'running', 'holding', 'transferring')
ORDER BY attempt_nr
"""
LOGS = """
SELECT name, attempt_nr, size_bytes, changed_at FROM job_logs
WHERE panda_id = %(panda_id)s ORDER BY attempt_nr, name
"""

#: A set's status, of its row `s`.
JOBSET_STATUS = f"""(CASE WHEN s.n_open > 0 AND s.open_parents > 0 THEN '{JobSetStatus.PENDING}'
        WHEN s.n_open > 0 THEN '{JobSetStatus.RUNNING}'
        WHEN s.n_failed > 0 THEN '{JobSetStatus.FAILED}'
        WHEN s.n_cancelled > 0 THEN '{JobSetStatus.CANCELLED}' ELSE '{JobSetStatus.FINISHED}' END)"""
_JOBSET = f"""
SELECT s.jobset_id, s.name, s.owner, s.share, s.created_at, s.ended_at, s.first_panda_id, s.n_jobs, s.n_expanded,
    s.n_open, s.n_finished, s.n_failed, s.n_cancelled, s.on_parent_failure, s.open_parents, s.cancel_requested_at,
    {JOBSET_STATUS} AS status, coalesce(o.scope || ':' || o.name, '') AS output_dataset,
    ARRAY(SELECT p.parent_id FROM jobset_parents p WHERE p.jobset_id = s.jobset_id ORDER BY 1) AS depends_on,
    (SELECT jsonb_object_agg(l.status, l.n) FROM (SELECT j.status, count(*) AS n FROM (
        SELECT status FROM jobs WHERE jobset_id = s.jobset_id AND s.n_open > 0
        ORDER BY jobset_id, -panda_id LIMIT {{0}}) j GROUP BY j.status) AS l) AS live
FROM jobsets s LEFT JOIN datasets o ON o.dataset_id = s.output_dataset_id
"""
#: Live jobs of one set that a list counts.
COUNTED_IN_LISTS = 20_000
JOBSET = f"{_JOBSET.format('ALL')} WHERE s.jobset_id = %(jobset_id)s"
JOBSETS_SHOWN = f"{_JOBSET.format(COUNTED_IN_LISTS)} WHERE s.jobset_id = ANY(%(ids)s)"
JOBSET_OWNER = "SELECT owner FROM jobsets WHERE jobset_id = %(jobset_id)s"

#: Beyond every id.
END = 2**62
#: Live, and a pilot has not taken it.
_WAITING = (JobStatus.PENDING, JobStatus.DEFINED, JobStatus.ASSIGNED, JobStatus.ACTIVATED)
#: From the pilot's claim to the end.
_RUNNING = (JobStatus.SENT, JobStatus.STARTING, JobStatus.RUNNING, JobStatus.HOLDING, JobStatus.TRANSFERRING)


class NotExpanded(NotFound):
    """The PandaID was promised to a job set; its job is made in a moment."""

    code = "not_expanded"

    def __init__(self, panda_id: int, jobset: Row[Any]) -> None:
        super().__init__("job", panda_id)
        self.args = (f"job {panda_id} of job set {jobset.jobset_id} is accepted and will be made in a moment",)
        self.jobset = jobset


class FilePage(NamedTuple):
    """A job's files by kind and name. `next`: give it as `after` for the page that follows; None: that was all."""

    items: list[Row[Any]]
    next: str | None


class JobSetFacts(NamedTuple):
    """A job set's row, and its ledger: accepted is the sum of all the others."""

    row: Row[Any]
    ledger: dict[str, int]
    by_status: dict[str, int]


def job(connection: Connection, panda_id: int) -> Row[Any]:
    """One job, live or archived.

    Raises:
        NotFound: there is none. NotExpanded: there will be.
    """
    found, jobset = made_or_promised(connection, JOBS, panda_id)
    if found is None:
        raise NotExpanded(panda_id, jobset) if jobset else NotFound("job", panda_id)
    return found


def failures_left(connection: Connection, panda_id: int, engine: Engine) -> int:
    """How many more times something of this job may go wrong before it fails for good: its one budget.

    While a stage has it, that is a worker that dies or a body that raises; afterwards an attempt of a pilot."""
    found = rows(connection, SPENT, {"panda_ids": [panda_id]})
    if not found or found[0].status in FINAL:
        return 0
    spent = found[0]
    if spent.waits_for is not None:
        return int(max(0, spent.attempts))
    return int(max(0, min(engine.max_deliveries - spent.deliveries, engine.max_tries - 1 - spent.tries)))


def owner_of(connection: Connection, panda_id: int) -> str:
    """Whose job it is. Raises NotFound; NotExpanded is answered with its set's owner."""
    found, jobset = made_or_promised(connection, OWNERS, panda_id)
    if found is None and jobset is None:
        raise NotFound("job", panda_id)
    return str((found or jobset).owner)  # type: ignore[union-attr]


def check_made(connection: Connection, panda_id: int) -> None:
    """Nothing can be done to a job that is promised and not made yet. Raises NotExpanded."""
    found, jobset = made_or_promised(connection, OWNERS, panda_id)
    if found is None and jobset is not None:
        raise NotExpanded(panda_id, jobset)


def made_or_promised(connection: Connection, sql: str, panda_id: int) -> tuple[Row[Any] | None, Row[Any] | None]:
    """The job as `sql` tells it; if it is not made yet, the job set that was promised it; or neither.

    A job that is made between the two looks is found by a third."""
    if panda_id > LARGEST_ID:
        return None, None
    values = {"panda_ids": [panda_id], "panda_id": panda_id}
    found = rows(connection, sql, values)
    jobset = None if found else unexpanded(connection, panda_id)
    if not found and jobset is None:
        found = rows(connection, sql, values)
    return (found[0] if found else None), jobset


def unexpanded(connection: Connection, panda_id: int) -> Row[Any] | None:
    """The job set that was promised this PandaID, while its expansion is under way."""
    found = rows(connection, UNEXPANDED, {"panda_id": panda_id})
    return found[0] if found else None


def events(connection: Connection, panda_id: int) -> list[Row[Any]]:
    """Every move of a job, in order."""
    return rows(connection, EVENTS, {"panda_id": panda_id})


def files(connection: Connection, panda_id: int, *, after: str = "", limit: int = MAX_PAGE) -> FilePage:
    """A page of a job's inputs and outputs; `after` is `kind/lfn`."""
    kind, _, lfn = after.partition("/")
    values = {"panda_id": panda_id, "kind": kind, "lfn": lfn, "limit": min(limit, MAX_PAGE)}
    found = rows(connection, FILES, values)
    full = len(found) == values["limit"]
    return FilePage(found, f"{found[-1].kind}/{found[-1].lfn}" if full else None)


def attempts(connection: Connection, panda_id: int) -> list[Row[Any]]:
    """Every attempt of a job that a pilot or an end has reached, in order."""
    return rows(connection, ATTEMPTS, {"panda_id": panda_id})


def attempt(connection: Connection, panda_id: int, attempt_nr: int) -> Row[Any]:
    """One of them. Raises NotFound."""
    found = [row for row in attempts(connection, panda_id) if row.attempt_nr == attempt_nr]
    if not found:
        raise NotFound("attempt", f"{attempt_nr} of job {panda_id}")
    return found[0]


def logs(connection: Connection, panda_id: int) -> list[Row[Any]]:
    """The logs that there are, of every attempt."""
    return rows(connection, LOGS, {"panda_id": panda_id})


def jobset(connection: Connection, jobset_id: int) -> JobSetFacts:
    """One job set with its ledger. Raises NotFound."""
    found = rows(connection, JOBSET, {"jobset_id": jobset_id})
    if not found:
        raise NotFound("job set", jobset_id)
    return with_ledger(found[0])


def jobset_owner(connection: Connection, jobset_id: int) -> str:
    """Whose job set it is. Raises NotFound."""
    found = rows(connection, JOBSET_OWNER, {"jobset_id": jobset_id})
    if not found:
        raise NotFound("job set", jobset_id)
    return str(found[0].owner)


def with_ledger(row: Row[Any]) -> JobSetFacts:
    """A set's ledger from its row. Of a set with very many live jobs a list counts the newest; the others are
    taken to wait."""
    live: dict[str, int] = row.live or {}
    by_status: dict[str, int] = {status: live[status] for status in (*_WAITING, *_RUNNING) if live.get(status)}
    n_beyond = max(0, row.n_open - (row.n_jobs - row.n_expanded) - sum(live.values())) if _is_cut(live) else 0
    ended = {"finished": row.n_finished, "failed": row.n_failed, "cancelled": row.n_cancelled}
    by_status |= {status: n for status, n in ended.items() if n}
    ledger = {
        "accepted": row.n_jobs,
        "unexpanded": row.n_jobs - row.n_expanded,
        "waiting": sum(live.get(status, 0) for status in _WAITING) + n_beyond,
        "running": sum(live.get(status, 0) for status in _RUNNING),
        **ended,
    }
    return JobSetFacts(row, ledger, by_status)


def _is_cut(live: dict[str, int]) -> bool:
    return sum(live.values()) == COUNTED_IN_LISTS

"""Every question that is asked about jobs and job sets, named. Nothing here locks or writes.

A job is in `jobs` or in `jobs_archive`; one statement asks both, so a job on its way to the archive is
seen once. Lists are pages by key: `after` is the last id of the page before. A list that must filter by
what no index holds looks at `WINDOW` rows per page and says where it stopped: a page may be short, even
empty, and still have a next one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.errors import NotFound
from panda.states import JobSetStatus, JobStatus

MAX_PAGE = 500
#: Rows that one page of a filtered list looks at.
WINDOW = 20_000

#: What a job shows of itself. `{0}` is `jobs` or `jobs_archive`.
_FACTS = """
SELECT j.panda_id, j.jobset_id, j.name, j.owner, j.status, d.stage, d.waits_for, d.due_at, j.attempt_nr,
    j.max_attempts, j.priority, j.share, s.cores, s.memory_mb, s.disk_mb, s.walltime_s, s.tags,
    j.computing_site AS queue, q.site, j.pilot_id, j.node, j.failed_stage, j.error_code, j.error_message, j.exit_code,
    j.wall_s, j.cpu_s, j.max_rss_mb, j.created_at, j.changed_at, j.started_at, j.ended_at, j.kill_requested_at,
    j.parent_id, {1} AS archived, j.spec -> 'command' AS command
FROM {0} j JOIN shapes s USING (shape_id) LEFT JOIN job_due d USING (panda_id)
    LEFT JOIN queues q ON q.name = j.computing_site
WHERE j.panda_id = ANY(%(panda_ids)s)
"""
JOBS = f"{_FACTS.format('jobs', 'false')} UNION ALL {_FACTS.format('jobs_archive', 'true')} ORDER BY panda_id DESC"
OWNERS = """
SELECT panda_id, owner FROM jobs WHERE panda_id = ANY(%(panda_ids)s)
UNION ALL SELECT panda_id, owner FROM jobs_archive WHERE panda_id = ANY(%(panda_ids)s)
"""
UNEXPANDED = """
SELECT jobset_id, name, owner, created_at, n_jobs, n_expanded, cancel_requested_at FROM jobsets
WHERE n_expanded < n_jobs AND first_panda_id <= %(panda_id)s AND %(panda_id)s < first_panda_id + n_jobs
"""

#: The newest ids below `after`, by an index that the ORDER BY leaves the planner no other choice than: with
#: an equality it may walk the primary key instead, and for an owner without jobs that is every row there is.
_SCANS = {
    "all": """
SELECT panda_id, status, computing_site, owner FROM {0}
WHERE panda_id < %(after)s ORDER BY panda_id DESC LIMIT {1}
""",
    "owner": """
SELECT panda_id, status, computing_site, owner FROM {0}
WHERE (owner, -panda_id) > (%(owner)s, -%(after)s) AND owner <= %(owner)s ORDER BY owner, -panda_id LIMIT {1}
""",
    "jobset": """
SELECT panda_id, status, computing_site, owner FROM {0}
WHERE (jobset_id, -panda_id) > (%(jobset_id)s, -%(after)s) AND jobset_id <= %(jobset_id)s
ORDER BY jobset_id, -panda_id LIMIT {1}
""",
}
_LIST = """
WITH scanned AS MATERIALIZED (
    SELECT * FROM (({0}) UNION ALL ({1})) AS both_places ORDER BY panda_id DESC LIMIT {2}),
fitting AS (
    SELECT panda_id FROM scanned
    WHERE status = ANY(%(statuses)s) AND (%(queue)s::text IS NULL OR computing_site = %(queue)s)
        AND (%(owner)s::text IS NULL OR owner = %(owner)s)
    ORDER BY panda_id DESC LIMIT %(limit)s)
SELECT (SELECT array_agg(panda_id) FROM fitting) AS panda_ids,
    (SELECT count(*) FROM scanned) AS n_scanned, (SELECT min(panda_id) FROM scanned) AS last_scanned
"""


def _list_by(by: str, window: int) -> str:
    scans = [_SCANS[by].format(table, window) for table in ("jobs", "jobs_archive")]
    return _LIST.format(*scans, window)


#: By what an index holds; and whether rows are left out by something else, so that a page has to look further.
LISTS = {
    (by, is_filtered): _list_by(by, WINDOW if is_filtered else MAX_PAGE)
    for by in _SCANS
    for is_filtered in (False, True)
}

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
FROM attempts WHERE panda_id = %(panda_id)s ORDER BY attempt_nr
"""
LOGS = """
SELECT name, attempt_nr, size_bytes, changed_at FROM job_logs
WHERE panda_id = %(panda_id)s ORDER BY attempt_nr, name
"""

_JOBSET = f"""
SELECT s.jobset_id, s.name, s.owner, s.share, s.created_at, s.ended_at, s.first_panda_id, s.n_jobs, s.n_expanded,
    s.n_open, s.n_finished, s.n_failed, s.n_cancelled, s.on_parent_failure, s.open_parents, s.cancel_requested_at,
    CASE WHEN s.n_open > 0 AND s.open_parents > 0 THEN '{JobSetStatus.PENDING}'
        WHEN s.n_open > 0 THEN '{JobSetStatus.RUNNING}'
        WHEN s.n_failed > 0 THEN '{JobSetStatus.FAILED}'
        WHEN s.n_cancelled > 0 THEN '{JobSetStatus.CANCELLED}' ELSE '{JobSetStatus.FINISHED}' END AS status,
    coalesce(o.scope || ':' || o.name, '') AS output_dataset,
    ARRAY(SELECT p.parent_id FROM jobset_parents p WHERE p.jobset_id = s.jobset_id ORDER BY 1) AS depends_on,
    (SELECT jsonb_object_agg(l.status, l.n) FROM (SELECT j.status, count(*) AS n FROM jobs j
        WHERE j.jobset_id = s.jobset_id AND s.n_open > 0 GROUP BY j.status) AS l) AS live
FROM jobsets s LEFT JOIN datasets o ON o.dataset_id = s.output_dataset_id
"""
JOBSET = f"{_JOBSET} WHERE s.jobset_id = %(jobset_id)s"
JOBSETS = f"{_JOBSET} WHERE s.jobset_id < %(after)s ORDER BY s.jobset_id DESC LIMIT %(limit)s"
JOBSETS_OF_OWNER = f"""
{_JOBSET} WHERE s.owner = %(owner)s AND s.jobset_id < %(after)s ORDER BY s.jobset_id DESC LIMIT %(limit)s
"""
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


class JobPage(NamedTuple):
    """Jobs, newest first. `next`: give it as `after` for the page that follows; None: that was all."""

    items: list[Row[Any]]
    next: int | None


class FilePage(NamedTuple):
    """A job's files by kind and name. `next` as above."""

    items: list[Row[Any]]
    next: str | None


class JobSetFacts(NamedTuple):
    """A job set's row, and its ledger: accepted is the sum of all the others."""

    row: Row[Any]
    ledger: dict[str, int]
    by_status: dict[str, int]


class JobSetPage(NamedTuple):
    """Job sets, newest first. `next` as above."""

    items: list[JobSetFacts]
    next: int | None


def job(connection: Connection, panda_id: int) -> Row[Any]:
    """One job, live or archived.

    Raises:
        NotFound: there is none. NotExpanded: there will be.
    """
    found, jobset = made_or_promised(connection, JOBS, panda_id)
    if found is None:
        raise NotExpanded(panda_id, jobset) if jobset else NotFound("job", panda_id)
    return found


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


def jobs(
    connection: Connection,
    *,
    statuses: Sequence[str] = (),
    jobset_id: int | None = None,
    owner: str | None = None,
    queue: str | None = None,
    after: int | None = None,
    limit: int = 100,
) -> JobPage:
    """A page of the jobs that fit every filter, newest first. No status: any."""
    values = {
        "statuses": list(statuses) or list(JobStatus),
        "jobset_id": jobset_id,
        "owner": owner,
        "queue": queue,
        "after": after or END,
        "limit": min(limit, MAX_PAGE),
    }
    by = "jobset" if jobset_id is not None else "owner" if owner is not None else "all"
    is_filtered = bool(statuses) or queue is not None or (by == "jobset" and owner is not None)
    page = rows(connection, LISTS[by, is_filtered], values)[0]
    panda_ids: list[int] = page.panda_ids or []
    found = rows(connection, JOBS, {"panda_ids": panda_ids}) if panda_ids else []
    if len(panda_ids) == values["limit"]:
        return JobPage(found, panda_ids[-1])
    return JobPage(found, page.last_scanned if is_filtered and page.n_scanned == WINDOW else None)


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


def logs(connection: Connection, panda_id: int) -> list[Row[Any]]:
    """The logs that there are, of every attempt."""
    return rows(connection, LOGS, {"panda_id": panda_id})


def jobset(connection: Connection, jobset_id: int) -> JobSetFacts:
    """One job set with its ledger. Raises NotFound."""
    found = rows(connection, JOBSET, {"jobset_id": jobset_id})
    if not found:
        raise NotFound("job set", jobset_id)
    return _with_ledger(found[0])


def jobset_owner(connection: Connection, jobset_id: int) -> str:
    """Whose job set it is. Raises NotFound."""
    found = rows(connection, JOBSET_OWNER, {"jobset_id": jobset_id})
    if not found:
        raise NotFound("job set", jobset_id)
    return str(found[0].owner)


def jobsets(
    connection: Connection, *, owner: str | None = None, after: int | None = None, limit: int = 50
) -> JobSetPage:
    """A page of job sets, newest first; of everybody without an owner."""
    values = {"owner": owner, "after": after or END, "limit": min(limit, MAX_PAGE)}
    found = rows(connection, JOBSETS if owner is None else JOBSETS_OF_OWNER, values)
    full = len(found) == values["limit"]
    return JobSetPage([_with_ledger(row) for row in found], found[-1].jobset_id if full else None)


def _with_ledger(row: Row[Any]) -> JobSetFacts:
    live: dict[str, int] = row.live or {}
    by_status: dict[str, int] = {status: live[status] for status in (*_WAITING, *_RUNNING) if live.get(status)}
    ended = {"finished": row.n_finished, "failed": row.n_failed, "cancelled": row.n_cancelled}
    by_status |= {status: n for status, n in ended.items() if n}
    ledger = {
        "accepted": row.n_jobs,
        "unexpanded": row.n_jobs - row.n_expanded,
        "waiting": sum(live.get(status, 0) for status in _WAITING),
        "running": sum(live.get(status, 0) for status in _RUNNING),
        **ended,
    }
    return JobSetFacts(row, ledger, by_status)

"""Every question that the overview, the lists and the frame ask. Named for their answers.

None of them walks through `jobs`: totals come from folded counters, lists follow a primary key or an
index and look at a bounded number of rows, whatever the filter.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from panda.db.session import rows

Facts = dict[str, Any]

NOW = "SELECT panda_now() AS now"

COUNTS = """
SELECT status, queue, sum(n)::bigint AS n
FROM (SELECT status, queue, n FROM job_counts UNION ALL SELECT status, queue, n FROM job_count_deltas) AS counted
GROUP BY status, queue HAVING sum(n) <> 0
"""
SPAN = """
SELECT min(at) AS first, panda_now() AS now FROM count_history WHERE at > (SELECT panda_now()) - interval '30 days'
"""
HISTORY = """
SELECT date_bin(make_interval(secs => %(bin_s)s), at, timestamptz 'epoch') AS bin, status, avg(n)::float8 AS n
FROM count_history WHERE at > (SELECT panda_now()) - make_interval(secs => %(span_s)s)
GROUP BY bin, status ORDER BY bin
"""
#: The same of weeks: of each bin its first minute, so that a month costs no more than a day.
LONG_HISTORY = """
SELECT b.at AS bin, h.status, h.n::float8 AS n
FROM generate_series(date_bin(make_interval(secs => %(bin_s)s),
        (SELECT panda_now()) - make_interval(secs => %(span_s)s), timestamptz 'epoch'),
    (SELECT panda_now()), make_interval(secs => %(bin_s)s)) AS b(at),
LATERAL (SELECT at FROM count_history WHERE at >= b.at AND at < b.at + make_interval(secs => %(bin_s)s)
    ORDER BY at LIMIT 1) AS first
CROSS JOIN LATERAL (SELECT status, n FROM count_history WHERE at = first.at OFFSET 0) AS h ORDER BY b.at
"""
#: A total that never shrinks, then and now: what ended in between. What is not written down for a minute was nothing.
BEFORE = """
SELECT status, n FROM count_history
WHERE at = (SELECT min(at) FROM count_history WHERE at > (SELECT panda_now()) - make_interval(hours => %(hours)s))
"""
#: A younger installation began with nothing.
IS_SO_OLD = """
SELECT EXISTS (SELECT 1 FROM count_history
    WHERE at <= (SELECT panda_now()) - make_interval(hours => %(hours)s)) AS is_so
"""
#: Of the newest jobs that ended: how long from their submission to the start of their payload, and how long that took.
TIME_TO_START = """
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY wait_s) AS p,
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY wall_s) AS wall, count(*) AS n,
    (array_agg(wait_s ORDER BY started_at) FILTER (WHERE nr %% 8 = 1))::float8[] AS starts
FROM (SELECT started_at, extract(epoch FROM started_at - created_at)::float8 AS wait_s, wall_s,
        row_number() OVER (ORDER BY started_at) AS nr
    FROM (SELECT started_at, created_at, wall_s FROM jobs_archive ORDER BY panda_id DESC LIMIT 500) AS newest
    WHERE started_at IS NOT NULL) AS started
"""
STAGES = """
SELECT stage, sum(n)::bigint AS n, sum(n_failed)::bigint AS n_failed,
    sum(busy_ms)::float8 / nullif(sum(n), 0) AS mean_ms, max(max_ms) AS max_ms,
    coalesce(sum(n) FILTER (WHERE minute > (SELECT panda_now()) - interval '6 minutes'), 0)::float8 / 5 AS per_minute
FROM stage_runs WHERE minute > (SELECT panda_now()) - interval '1 hour' GROUP BY stage
"""
#: From roll-ups, as the page of errors counts them. What is said comes from the newest job that rests with the code,
#: else from the newest archived one: failed jobs rest until their retry window ends, the deadline of their wait.
ERRORS = """
WITH top AS (
    SELECT error_code, failed_stage, sum(n)::bigint AS n, count(DISTINCT queue) FILTER (WHERE queue <> '') AS n_queues,
        max(queue) AS queue
    FROM error_hours WHERE hour > (SELECT panda_now()) - make_interval(hours => %(hours)s)
    GROUP BY 1, 2 ORDER BY n DESC LIMIT 8),
resting AS (
    SELECT DISTINCT ON (j.error_code, j.failed_stage) j.error_code, j.failed_stage, j.error_message, j.panda_id
    FROM (SELECT panda_id FROM job_due WHERE waits_for IS NOT NULL AND waits_for = 'operator'
            AND due_at > (SELECT panda_now()) + make_interval(secs => %(window_s)s - 3600 * %(hours)s)
            ORDER BY due_at DESC LIMIT 1000) AS r,
        LATERAL (SELECT * FROM jobs WHERE panda_id = r.panda_id OFFSET 0) AS j
    WHERE j.status = 'failed' ORDER BY 1, 2, 4 DESC)
SELECT top.error_code, top.failed_stage, top.n, top.n_queues, top.queue,
    coalesce(resting.error_message, archived.error_message) AS message,
    coalesce(resting.panda_id, archived.panda_id) AS panda_id
FROM top
LEFT JOIN resting ON resting.error_code = top.error_code AND resting.failed_stage = top.failed_stage
LEFT JOIN LATERAL (
    SELECT panda_id, error_message FROM jobs_archive
    WHERE resting.panda_id IS NULL AND status = 'failed' AND error_code = top.error_code
        AND ended_at > (SELECT panda_now()) - make_interval(hours => %(hours)s)
    ORDER BY error_code, ended_at DESC LIMIT 1) AS archived ON true
ORDER BY top.n DESC, top.error_code
"""
#: Attempts that failed in a period; those of the hour that is cut by its beginning do not count.
FAILED_BY_BIN = """
SELECT date_bin(make_interval(secs => %(bin_s)s), hour, timestamptz 'epoch') AS bin, sum(n)::bigint AS n
FROM error_hours WHERE hour > (SELECT panda_now()) - make_interval(hours => %(hours)s) GROUP BY bin ORDER BY bin
"""
N_FAILED = """
SELECT coalesce(sum(n), 0)::bigint AS n FROM error_hours
WHERE hour > (SELECT panda_now()) - make_interval(hours => %(hours)s)
"""
ERROR_TREND = """
SELECT error_code, failed_stage, floor(extract(epoch FROM (SELECT panda_now()) - hour) / %(bin_s)s)::int AS ago,
    sum(n)::bigint AS n
FROM error_hours WHERE hour > (SELECT panda_now()) - make_interval(hours => %(hours)s)
    AND error_code = ANY(%(codes)s)
GROUP BY 1, 2, 3
"""
ERROR_BINS = 12  #: pieces of the period, of an hour at least

INCIDENTS = """
SELECT incident_id, component, level, message, n, first_at, last_at FROM incidents
WHERE last_at > (SELECT panda_now()) - make_interval(secs => %(span_s)s) ORDER BY last_at DESC LIMIT %(n)s
"""
N_INCIDENTS = """
SELECT count(*) AS n FROM (SELECT 1 FROM incidents WHERE last_at > (SELECT panda_now()) - interval '7 days'
    AND acknowledged_at IS NULL AND closed_at IS NULL LIMIT 1000) AS unanswered
"""
#: How far behind the relay is: the oldest row that could run now, and how many are due, up to 10,001.
RELAY = """
SELECT extract(epoch FROM panda_now() - least(
        (SELECT due_at FROM job_due WHERE waits_for IS NULL AND final ORDER BY due_at LIMIT 1),
        (SELECT due_at FROM job_due WHERE waits_for IS NULL AND NOT final ORDER BY due_at LIMIT 1)
    ))::float8 AS behind_s,
    (SELECT count(*) FROM (
        SELECT 1 FROM job_due WHERE waits_for IS NULL AND final AND due_at < (SELECT panda_now())
        UNION ALL SELECT 1 FROM job_due WHERE waits_for IS NULL AND NOT final AND due_at < (SELECT panda_now())
        LIMIT 10001) AS due) AS n_due
"""
TRANSFERS = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE status = 'queued' LIMIT 10001) AS q) AS n_queued,
    (SELECT count(*) FROM (SELECT 1 FROM transfers WHERE status = 'moving' LIMIT 10001) AS m) AS n_moving,
    extract(epoch FROM panda_now()
        - (SELECT due_at FROM transfers WHERE status = 'queued' ORDER BY due_at LIMIT 1))::float8 AS behind_s
"""
TICKS = "SELECT extract(epoch FROM panda_now() - max(last_run_at))::float8 AS ago_s, count(*) AS n FROM tick_leases"
DATABASE = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS n_connections,
    current_setting('max_connections')::int AS n_allowed
"""
HAS_JOBSETS = "SELECT EXISTS (SELECT 1 FROM jobsets) AS has"

QUEUES = """
SELECT q.name, q.site, q.status, q.status_reason, q.status_by, q.status_at, q.status_until, q.storage, q.cores,
    q.memory_mb, q.disk_mb, q.walltime_s, q.tags, q.submitter, q.max_pilots, q.pilot_cores, s.cloud, s.description
FROM queues q JOIN sites s ON s.name = q.site ORDER BY q.site, q.name LIMIT 2000
"""
N_QUEUES = "SELECT count(*) AS n FROM queues"
_STORAGES = """
SELECT s.name, s.site, s.kind, s.stager, s.status, s.limit_mb, p.free_bytes, p.total_bytes, p.room_bytes,
    p.full_because, (SELECT sum(u.n_bytes) FROM storage_use u WHERE u.storage = s.name)::bigint AS used_bytes
FROM storages s LEFT JOIN storage_space p ON p.storage = s.name
"""
STORAGES = f"{_STORAGES} ORDER BY s.site, s.name LIMIT 2000"
STORAGES_OF = f"{_STORAGES} WHERE s.site = %(site)s ORDER BY s.name LIMIT 500"

JOBSET_COLUMNS = """jobset_id, name, owner, share, first_panda_id, n_jobs, n_expanded, n_open, n_finished, n_failed,
    n_cancelled, open_parents, released_at, created_at, ended_at, cancel_requested_at"""
JOBSETS = f"""
SELECT {JOBSET_COLUMNS} FROM jobsets WHERE jobset_id < %(before)s ORDER BY jobset_id DESC LIMIT %(n)s
"""
JOBSETS_OF_OWNER = f"""
SELECT {JOBSET_COLUMNS} FROM jobsets WHERE owner = %(owner)s AND jobset_id < %(before)s
ORDER BY jobset_id DESC LIMIT %(n)s
"""

#: Of that name, among the newest.
JOBSETS_NAMED = f"""
SELECT {JOBSET_COLUMNS} FROM (
    SELECT * FROM jobsets WHERE jobset_id < %(before)s ORDER BY jobset_id DESC LIMIT 5000) AS newest
WHERE name = %(name)s ORDER BY jobset_id DESC LIMIT %(n)s
"""
JOBSETS_OF_OWNER_NAMED = f"""
SELECT {JOBSET_COLUMNS} FROM (
    SELECT * FROM jobsets WHERE owner = %(owner)s AND jobset_id < %(before)s
    ORDER BY owner DESC, jobset_id DESC LIMIT 5000) AS newest
WHERE name = %(name)s ORDER BY jobset_id DESC LIMIT %(n)s
"""

#: A list looks at no more than this many rows in each table, then says so and offers to go on.
LOOK_AT = 20_000
BIGGEST = 2**62

LIST_COLUMNS = """panda_id, jobset_id, name, owner, status, attempt_nr, max_attempts, computing_site, failed_stage,
    error_code, error_message, wall_s, created_at, changed_at, started_at, ended_at"""

#: (SELECT … FROM a table, newest first, a window of it), then the filter. `down_to` is where the window ended.
JOBS_LIST = """
WITH live AS (
    SELECT {columns}, shape_id FROM jobs WHERE {below} {live} ORDER BY {newest} LIMIT %(look_at)s),
archived AS (
    SELECT {columns}, shape_id FROM jobs_archive WHERE {below} {archived}
    ORDER BY {newest} LIMIT %(look_at)s),
looked AS (
    SELECT greatest(
        (SELECT CASE WHEN count(*) < %(look_at)s THEN 0 ELSE min(panda_id) END FROM live),
        (SELECT CASE WHEN count(*) < %(look_at)s THEN 0 ELSE min(panda_id) END FROM archived)) AS down_to)
SELECT found.*, looked.down_to FROM looked LEFT JOIN LATERAL (
    SELECT * FROM (SELECT * FROM live UNION ALL SELECT * FROM archived) AS both_tables
    WHERE panda_id >= looked.down_to
    AND (%(status)s::text IS NULL OR status = %(status)s) AND (%(queue)s::text IS NULL OR computing_site = %(queue)s)
    AND (%(error)s::text IS NULL OR error_code = %(error)s)
    ORDER BY panda_id DESC LIMIT %(n)s) AS found ON true
"""


#: The primary key holds the PandaID, the indexes by job set and by owner hold its negative.
_BY_ID = {"below": "panda_id < %(before)s", "newest": "panda_id DESC"}
_BY_NEGATIVE = {"below": "-panda_id > -%(before)s::bigint", "newest": "-panda_id"}


def _list(live: str, archived: str, order: dict[str, str] = _BY_ID) -> str:
    return JOBS_LIST.format(columns=LIST_COLUMNS, live=live, archived=archived, **order)


_BOTH = {"jobset": "AND jobset_id = %(jobset_id)s", "owner": "AND owner = %(owner)s"}
LISTS = {name: _list(clause, clause, _BY_NEGATIVE) for name, clause in _BOTH.items()} | {"all": _list("", "")}
_AMONG = """AND panda_id = ANY(ARRAY(
    SELECT panda_id FROM {0} WHERE panda_id < %(before)s ORDER BY panda_id DESC LIMIT %(look_at)s))"""
#: What a pilot holds, or may take, stands in a slim table of its own: no window is needed.
LISTS["leased"] = _list(_AMONG.format("leases"), "AND false")
LISTS["ready"] = _list(_AMONG.format("ready"), "AND false")


def facts(connection: Connection, sql: str, values: dict[str, Any] | None = None) -> list[Facts]:
    """Rows as plain dictionaries."""
    return [row._asdict() for row in rows(connection, sql, values)]


def now(connection: Connection) -> datetime:
    """The database's clock, which is the only one that decides anything."""
    at: datetime = rows(connection, NOW)[0].now
    return at


def by_status(counts: Sequence[Facts]) -> dict[str, int]:
    """Jobs in each status, from `COUNTS`; never below zero while deltas are on their way."""
    total: dict[str, int] = {}
    for each in counts:
        total[each["status"]] = total.get(each["status"], 0) + each["n"]
    return {status: max(0, n) for status, n in total.items()}


def by_queue(counts: Sequence[Facts]) -> dict[str, dict[str, int]]:
    """queue -> status -> jobs, from `COUNTS`."""
    found: dict[str, dict[str, int]] = {}
    for each in counts:
        found.setdefault(each["queue"], {})[each["status"]] = max(0, each["n"])
    return found


def jobsets(connection: Connection, owner: str | None, before: int, n: int, name: str | None = None) -> list[Facts]:
    """Job sets below `before`, newest first. Those of a name are looked for among the newest 5,000."""
    if name is None:
        sql = JOBSETS if owner is None else JOBSETS_OF_OWNER
    else:
        sql = JOBSETS_NAMED if owner is None else JOBSETS_OF_OWNER_NAMED
    return facts(connection, sql, {"owner": owner, "before": before, "n": n, "name": name})


def jobs(
    connection: Connection,
    *,
    status: str | None = None,
    queue: str | None = None,
    error: str | None = None,
    jobset_id: int | None = None,
    owner: str | None = None,
    before: int = BIGGEST,
    n: int = 50,
) -> tuple[list[Facts], int | None, bool]:
    """Jobs with a PandaID below `before`, newest first.

    Returns: at most `n` jobs; the PandaID to go on below, None at the end; whether the search stopped
    because it had looked at `LOOK_AT` rows.
    """
    kind = "all"
    if jobset_id is not None:
        kind = "jobset"
    elif owner is not None:
        kind = "owner"
    elif status in ("sent", "starting", "running"):
        kind = "leased"
    elif status == "activated":
        kind = "ready"
    asked = {"status": status, "queue": queue, "error": error, "jobset_id": jobset_id, "owner": owner}
    answer = facts(connection, LISTS[kind], asked | {"before": before, "n": n + 1, "look_at": LOOK_AT})
    down_to: int = answer[0]["down_to"] or 0
    found = [row for row in answer if row["panda_id"] is not None]
    for row in found:
        del row["down_to"], row["shape_id"]
    if len(found) > n:
        return found[:n], found[n - 1]["panda_id"], False
    return found, down_to or None, down_to > 0

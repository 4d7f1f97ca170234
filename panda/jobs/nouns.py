"""Jobs, job sets and attempts as they can be listed: fields, orders, and the index that each filter walks."""

from typing import Any

from panda.db.lists import Noun, Order, Walk
from panda.jobs import queries
from panda.jobs.kinds import KIND
from panda.query import Cost, Expression, Field, Fields, Kind, words_of
from panda.states import FINAL, LEASED, JobSetStatus, JobStatus, Stage, Wait

_LIVE = frozenset(JobStatus) - FINAL


def _due(column: str) -> str:
    return f"(SELECT d.{column} FROM job_due d WHERE d.panda_id = r.panda_id)"


def _shape(column: str) -> str:
    return f"(SELECT s.{column} FROM shapes s WHERE s.shape_id = r.shape_id)"


def _word(column: str, words: Any, about: str = "", **more: Any) -> Field:
    return Field(column, Kind.WORD, more.pop("sql", f"r.{column}"), about, words=tuple(map(str, words)), **more)


SITE = Field(
    "site",
    Kind.TEXT,
    "(SELECT q.site FROM queues q WHERE q.name = r.computing_site)",
    "site of the queue",
    Cost.PROBE,
    is_nullable=True,
)
RESULT = (
    Field("pilot", Kind.TEXT, "r.pilot_id", "pilot of the newest attempt", is_nullable=True),
    Field("node", Kind.TEXT, "r.node", "machine of the newest attempt", is_nullable=True),
    _word("failed_stage", Stage, "where the newest attempt failed", is_nullable=True),
    Field("error", Kind.TEXT, "r.error_code", "`component:word`", is_nullable=True, aliases=("error_code",)),
    Field("message", Kind.TEXT, "r.error_message", is_nullable=True, aliases=("error_message",)),
    Field("exit_code", Kind.WHOLE, "r.exit_code", is_nullable=True),
    Field("wall", Kind.NUMBER, "r.wall_s", "seconds", is_nullable=True, aliases=("wall_s",)),
    Field("cpu", Kind.NUMBER, "r.cpu_s", "seconds", is_nullable=True, aliases=("cpu_s",)),
    Field("rss", Kind.WHOLE, "r.max_rss_mb", "most memory, in MB", is_nullable=True, aliases=("max_rss_mb",)),
    Field("created", Kind.TIME, "r.created_at", aliases=("created_at",)),
    Field("started", Kind.TIME, "r.started_at", is_nullable=True, aliases=("started_at",)),
    Field("ended", Kind.TIME, "r.ended_at", is_nullable=True, aliases=("ended_at",)),
)
_KIND = f"(SELECT {KIND} FROM jobsets s WHERE s.jobset_id = r.jobset_id)"
JOB_FIELDS = Fields(
    Field("panda_id", Kind.WHOLE, "r.panda_id", cost=Cost.INDEX, aliases=("id", "job")),
    Field("jobset", Kind.WHOLE, "r.jobset_id", cost=Cost.INDEX, aliases=("set", "jobset_id")),
    Field("owner", Kind.TEXT, "r.owner", cost=Cost.INDEX, aliases=("user",)),
    _word("status", JobStatus, "live ones are found without a look at the archive", aliases=("state",)),
    Field("name", Kind.TEXT, "r.name"),
    Field("kind", Kind.TEXT, _KIND, "analysis, production, …", Cost.PROBE),
    Field("queue", Kind.TEXT, "r.computing_site", is_nullable=True),
    SITE,
    Field("share", Kind.TEXT, "r.share"),
    Field("priority", Kind.WHOLE, "r.priority"),
    Field("attempt", Kind.WHOLE, "r.attempt_nr", aliases=("attempt_nr",)),
    Field("max_attempts", Kind.WHOLE, "r.max_attempts"),
    _word("stage", Stage, "what it needs next", sql=_due("stage"), cost=Cost.PROBE, is_nullable=True),
    _word("waits_for", Wait, "what it waits for", sql=_due("waits_for"), cost=Cost.PROBE, is_nullable=True),
    Field("cores", Kind.WHOLE, _shape("cores"), cost=Cost.PROBE),
    Field("memory", Kind.WHOLE, _shape("memory_mb"), "in MB", Cost.PROBE, aliases=("memory_mb",)),
    Field("disk", Kind.WHOLE, _shape("disk_mb"), "in MB", Cost.PROBE, aliases=("disk_mb",)),
    Field("walltime", Kind.WHOLE, _shape("walltime_s"), "seconds asked for", Cost.PROBE, aliases=("walltime_s",)),
    Field("tag", Kind.WORDS, _shape("tags"), cost=Cost.PROBE, aliases=("tags",)),
    *RESULT,
    Field("changed", Kind.TIME, "r.changed_at", aliases=("changed_at",)),
    Field("killed", Kind.TIME, "r.kill_requested_at", "its end was asked for", is_nullable=True),
    Field("parent", Kind.WHOLE, "r.parent_id", is_nullable=True, aliases=("parent_id",)),
    Field(
        "archived",
        Kind.FLAG,
        "(NOT EXISTS (SELECT FROM jobs l WHERE l.panda_id = r.panda_id))",
        cost=Cost.INDEX,
    ),
)
JOB_COLUMNS = """panda_id, jobset_id, parent_id, name, owner, share, priority, status, attempt_nr, max_attempts,
    shape_id, computing_site, pilot_id, node, failed_stage, error_code, error_message, exit_code, wall_s, cpu_s,
    max_rss_mb, created_at, changed_at, started_at, ended_at, kill_requested_at"""
#: What a pilot holds, or may take, stands in a slim table of its own.
_SLIM = "panda_id = ANY(ARRAY(SELECT panda_id FROM {0} WHERE {{beyond}} ORDER BY {{towards}} LIMIT {{window}}))"


def walk_jobs(expression: Expression) -> Walk:
    """The shortest way to the jobs that an expression may mean."""
    statuses = words_of(expression, "status")
    tables = _tables(statuses, words_of(expression, "archived"))
    panda_ids = words_of(expression, "panda_id")
    if panda_ids is not None:
        return Walk(tables, where="panda_id = ANY(%(w_ids)s::bigint[])", values={"w_ids": list(panda_ids)})
    for name, column in (("jobset", "jobset_id"), ("owner", "owner")):
        found = words_of(expression, name)
        if found is not None and len(found) == 1:
            return Walk(tables, equal=((column, "%(w_equal)s"),), negative=True, values={"w_equal": found[0]})
    if statuses is not None and LEASED.issuperset(statuses):
        return Walk(("jobs",), where=_SLIM.format("leases"))
    if statuses is not None and set(statuses) == {JobStatus.ACTIVATED}:
        return Walk(("jobs",), where=_SLIM.format("ready"))
    return Walk(tables)


def _tables(statuses: Any, archived: Any) -> tuple[str, ...]:
    """A job that is not final is live; one that failed is, as long as it may be retried."""
    if (statuses is not None and _LIVE.issuperset(statuses)) or archived in ([False], [0]):
        return ("jobs",)
    return ("jobs_archive",) if archived in ([True], [1]) else ("jobs", "jobs_archive")


JOBS = Noun(
    name="job",
    fields=JOB_FIELDS,
    columns=JOB_COLUMNS,
    identity=("panda_id",),
    orders={"panda_id": Order(("panda_id",))},
    walk=walk_jobs,
    show=queries.JOBS_SHOWN,
    window=queries.WINDOW,
)
#: Fields that jobs can be counted by.
GROUPS = ("status", "site", "queue", "owner", "share", "jobset", "error", "failed_stage", "node", "attempt", "kind",
          "cores", "memory", "priority", "stage", "waits_for", "archived")  # fmt: skip

_GROUP = "nullif(coalesce(r.working_group, r.document->>'working_group'), '')"
JOBSET_FIELDS = Fields(
    Field("jobset", Kind.WHOLE, "r.jobset_id", cost=Cost.INDEX, aliases=("id", "set", "jobset_id")),
    Field("owner", Kind.TEXT, "r.owner", cost=Cost.INDEX, aliases=("user",)),
    Field("name", Kind.TEXT, "r.name"),
    _word("status", JobSetStatus, sql=queries.JOBSET_STATUS.replace("s.", "r."), aliases=("state",)),
    Field("kind", Kind.TEXT, KIND.replace("s.", "r."), "analysis, production, …"),
    Field("group", Kind.TEXT, _GROUP, "the working group that it is for", is_nullable=True, aliases=("working_group",)),
    Field("share", Kind.TEXT, "r.share"),
    Field("n_jobs", Kind.WHOLE, "r.n_jobs", aliases=("jobs",)),
    Field("open", Kind.WHOLE, "r.n_open", "jobs that have not ended", aliases=("n_open",)),
    Field("finished", Kind.WHOLE, "r.n_finished", aliases=("n_finished",)),
    Field("failed", Kind.WHOLE, "r.n_failed", aliases=("n_failed",)),
    Field("cancelled", Kind.WHOLE, "r.n_cancelled", aliases=("n_cancelled",)),
    Field("created", Kind.TIME, "r.created_at", aliases=("created_at",)),
    Field("ended", Kind.TIME, "r.ended_at", is_nullable=True, aliases=("ended_at",)),
)


_THESE_SETS = """(SELECT x.* FROM unnest(%(w_ids)s::bigint[]) AS w(jobset_id),
    LATERAL (SELECT * FROM jobsets s WHERE s.jobset_id = w.jobset_id OFFSET 0) x) these"""


def walk_jobsets(expression: Expression) -> Walk:
    """By owner, if there is one."""
    ids, owners = words_of(expression, "jobset"), words_of(expression, "owner")
    if ids is not None:
        return Walk((_THESE_SETS,), values={"w_ids": list(dict.fromkeys(ids))})
    if owners is not None and len(owners) == 1:
        return Walk(("jobsets",), equal=(("owner", "%(w_owner)s"),), values={"w_owner": owners[0]})
    return Walk(("jobsets",))


JOBSETS = Noun(
    name="job set",
    fields=JOBSET_FIELDS,
    columns="""jobset_id, owner, name, kind, working_group, document, share, n_jobs, n_open, n_finished, n_failed,
    n_cancelled, open_parents, created_at, ended_at""",
    identity=("jobset_id",),
    orders={"jobset_id": Order(("jobset_id",))},
    walk=walk_jobsets,
    show=queries.JOBSETS_SHOWN,
)

_OWNER = """(SELECT o.owner FROM jobs o WHERE o.panda_id = r.panda_id
    UNION ALL SELECT o.owner FROM jobs_archive o WHERE o.panda_id = r.panda_id LIMIT 1)"""
ATTEMPTS_SHOWN = """
SELECT panda_id, attempt_nr, from_stage, queue, pilot_id, node, created_at, started_at, ended_at, outcome, failed_stage,
    error_code, error_message, exit_code, wall_s, cpu_s, max_rss_mb
FROM attempts WHERE panda_id = ANY(%(ids)s)
"""
ATTEMPT_FIELDS = Fields(
    Field("panda_id", Kind.WHOLE, "r.panda_id", cost=Cost.INDEX, aliases=("job",)),
    Field("attempt", Kind.WHOLE, "r.attempt_nr", aliases=("attempt_nr",)),
    Field("owner", Kind.TEXT, _OWNER, cost=Cost.PROBE, aliases=("user",)),
    _word("from_stage", Stage, "where it started"),
    Field("outcome", Kind.TEXT, "r.outcome", "finished, failed or cancelled", is_nullable=True, aliases=("status",)),
    Field("queue", Kind.TEXT, "r.queue", is_nullable=True),
    Field("site", Kind.TEXT, "(SELECT q.site FROM queues q WHERE q.name = r.queue)", "", Cost.PROBE, is_nullable=True),
    *RESULT,
)


def walk_attempts(expression: Expression) -> Walk:
    """By job, if there is one."""
    ids = words_of(expression, "panda_id")
    if ids is not None:
        return Walk(("attempts",), where="panda_id = ANY(%(w_ids)s::bigint[])", values={"w_ids": list(ids)})
    return Walk(("attempts",))


ATTEMPTS = Noun(
    name="attempt",
    fields=ATTEMPT_FIELDS,
    columns="""panda_id, attempt_nr, from_stage, queue, pilot_id, node, created_at, started_at, ended_at, outcome,
    failed_stage, error_code, error_message, exit_code, wall_s, cpu_s, max_rss_mb""",
    identity=("panda_id", "attempt_nr"),
    orders={"panda_id": Order(("panda_id", "attempt_nr"), ("bigint", "smallint"))},
    walk=walk_attempts,
    show=ATTEMPTS_SHOWN,
)

ACTIONS_SHOWN = """
SELECT action_id, action, stage, priority, said AS filter, owner, asked_by, reason, status, note, n_previewed, n_done,
    n_refused, refused, created_at, confirmed_at, ended_at
FROM bulk_actions WHERE action_id = ANY(%(ids)s)
"""
ACTIONS = Noun(
    name="action",
    fields=Fields(
        Field("action_id", Kind.WHOLE, "r.action_id", aliases=("id",)),
        _word("action", ("retry", "cancel", "priority", "hold", "release", "rebroker")),
        _word("status", ("previewed", "running", "done", "stopped"), aliases=("state",)),
        Field("by", Kind.TEXT, "r.asked_by", "who asked for it", aliases=("owner", "user", "asked_by")),
        Field("reason", Kind.TEXT, "r.reason"),
        Field("created", Kind.TIME, "r.created_at", aliases=("created_at",)),
        Field("ended", Kind.TIME, "r.ended_at", is_nullable=True, aliases=("ended_at",)),
    ),
    columns="action_id, action, status, asked_by, reason, created_at, ended_at",
    identity=("action_id",),
    orders={"action_id": Order(("action_id",))},
    walk=lambda _: Walk(("bulk_actions",)),
    show=ACTIONS_SHOWN,
)

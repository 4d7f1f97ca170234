"""What a retry of many jobs comes to, before anybody confirms it: what runs again, what it costs, what is lost."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from monitoring.reads.blocks import Reader
from monitoring.reads.queries import facts
from monitoring.show import looks
from panda.db import lists
from panda.jobs import retry
from panda.jobs.nouns import JOB_FIELDS, JOBS
from panda.query import Expression, all_of, equal_to
from panda.states import RETRY_STATUS, JobStatus, Stage

#: Jobs that are looked at one by one; of more the rest is reckoned from these.
LOOK_AT = 10_000
WINDOWS = 8
#: Reasons that a sheet tells.
WHYS = 4

PLAN = """
SELECT coalesce(j.failed_stage, 'dispatch') AS failed_stage, count(*) AS n, count(DISTINCT j.owner) AS n_owners,
    coalesce(sum(j.wall_s * s.cores), 0)::float8 AS core_s, count(*) FILTER (WHERE j.wall_s IS NULL) AS n_unknown,
    sum(s.walltime_s * s.cores)::float8 AS most_core_s
FROM jobs j, LATERAL (SELECT cores, walltime_s FROM shapes WHERE shape_id = j.shape_id OFFSET 0) AS s
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.status = 'failed' GROUP BY 1
"""
#: Outputs that the failed attempts wrote and nobody published.
WRITTEN = """
SELECT coalesce(j.failed_stage, 'dispatch') AS failed_stage, count(*) AS n,
    coalesce(sum(f.size_bytes), 0)::bigint AS n_bytes
FROM (SELECT panda_id, lfn, size_bytes FROM job_files WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output'
        AND status = 'written' OFFSET 0) AS f,
    LATERAL (SELECT failed_stage FROM jobs WHERE panda_id = f.panda_id OFFSET 0) AS j
GROUP BY 1
"""
#: Job sets that wait for the sets of these jobs.
CHILDREN = """
SELECT DISTINCT p.jobset_id
FROM (SELECT DISTINCT jobset_id FROM (
        SELECT jobset_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) OFFSET 0) AS j) AS s,
    LATERAL (SELECT jobset_id FROM jobset_parents WHERE parent_id = s.jobset_id OFFSET 0) AS p
ORDER BY 1 LIMIT 20
"""


class Plan(NamedTuple):
    """Of `n_looked` jobs. Times in core-seconds, sizes in bytes. What will be refused counts in `refused` alone."""

    n_looked: int
    starts: dict[Stage, int]
    core_s: float
    """What the last attempts took."""
    most_core_s: float
    """What the new ones may take: their wall time on their cores."""
    n_again: int
    """Jobs whose payload runs again."""
    n_unknown: int
    """Jobs whose last attempt never told what it used."""
    n_outputs: int
    n_bytes: int
    children: list[int]
    n_owners: int
    refused: dict[int, str]
    """Why not, by PandaID: what the retry itself would say now."""

    @property
    def does_nothing(self) -> bool:
        """None of those that were looked at would run again."""
        return not self.starts


def start_after(failed_stage: str | None) -> Stage:
    """Where the retry of a job starts when nobody says otherwise."""
    failed = Stage(failed_stage) if failed_stage else Stage.BROKER
    if failed is Stage.ARCHIVE:
        return Stage.STAGE_OUT
    return failed if failed in RETRY_STATUS else Stage.BROKER


def failed_among(connection: Connection, expression: Expression) -> list[int]:
    """The newest failed live jobs that fit, at most `LOOK_AT`."""
    wanted = all_of(
        expression, equal_to(JOB_FIELDS["status"], JobStatus.FAILED), equal_to(JOB_FIELDS["archived"], False)
    )
    found: list[int] = []
    after = None
    for _ in range(WINDOWS):
        scan = lists.scan(connection, JOBS, wanted, after=after, limit=LOOK_AT - len(found))
        found += [key[0] for key in scan.ids]
        after = scan.next
        if after is None or len(found) >= LOOK_AT:
            break
    return found


def plan_of(connection: Connection, panda_ids: Sequence[int], stage: Stage | None) -> Plan:
    """What a retry of these failed jobs comes to. `stage`: where all of them start; None: where each one failed."""
    good, refused = retry.foresee(connection, panda_ids, stage)
    asked = {"panda_ids": sorted(panda_id for members in good.values() for panda_id in members)}
    starts: Counter[Stage] = Counter()
    core_s, most_core_s, n_again, n_unknown, n_owners = 0.0, 0.0, 0, 0, 0
    for row in facts(connection, PLAN, asked):
        start = stage or start_after(row["failed_stage"])
        starts[start] += row["n"]
        n_owners = max(n_owners, row["n_owners"])
        if start is not Stage.STAGE_OUT:
            core_s, most_core_s = core_s + row["core_s"], most_core_s + row["most_core_s"]
            n_again, n_unknown = n_again + row["n"], n_unknown + row["n_unknown"]
    lost = [
        row for row in facts(connection, WRITTEN, asked)
        if (stage or start_after(row["failed_stage"])) is not Stage.STAGE_OUT
    ]  # fmt: skip
    return Plan(
        len(set(panda_ids)), dict(starts), core_s, most_core_s, n_again, n_unknown, sum(row["n"] for row in lost),
        sum(row["n_bytes"] for row in lost), [row["jobset_id"] for row in facts(connection, CHILDREN, asked)], n_owners,
        refused,
    )  # fmt: skip


def told(plan: Plan, n: int) -> list[tuple[str, str]]:
    """The plan for a sheet: (word, what there is to say). `n`: all jobs that the retry reaches."""
    part = max(1.0, n / plan.n_looked) if plan.n_looked else 1.0
    about = "about " if part > 1 else ""
    starts = sorted(plan.starts.items())
    runs = "; ".join(f"{about}{looks.count(round(k * part))} from {looks.STAGE_TITLE[stage].lower()}"
                     for stage, k in starts)  # fmt: skip
    cost = _cost(plan, part, about) if plan.n_again else "nothing: no payload runs again"
    lost = "nothing"
    if plan.n_outputs:
        size = looks.size(plan.n_bytes * part)
        lost = f"{about}{looks.several(plan.n_outputs * part, 'output')} written and not published ({size})"
    whys = Counter(plan.refused.values()).most_common(WHYS)
    found = [("Runs again", runs or "nothing")]
    found += [(f"Refused: {about}{looks.count(round(k * part))}", why) for why, k in whys]
    found += [("It costs", cost), ("Invalidated", lost)]
    if plan.children:
        found.append(("Sets that wait for them", ", ".join(map(str, plan.children))))
    if part > 1:
        found.append(("Reckoned from", f"the {looks.count(plan.n_looked)} newest of them"))
    return found


def _cost(plan: Plan, part: float, about: str) -> str:
    """What a new attempt takes nobody knows: what the last one took is told, and how much it may take."""
    most = f"at most {about}{looks.hours(plan.most_core_s * part)} of core time (wall time times cores)"
    n_known = plan.n_again - plan.n_unknown
    if not n_known:
        return f"{most}; what the last attempt{'s' if plan.n_again > 1 else ''} took was never told"
    unknown = f"; {looks.count(plan.n_unknown)} never told what they took" if plan.n_unknown else ""
    last = f"the last attempt{'s' if n_known > 1 else ''} took {about}{looks.hours(plan.core_s * part)}"
    return f"{most}; {last}{unknown}"


def of_filter(reader: Reader, expression: Expression, stage: Stage | None) -> Plan:
    """The plan for what a filter finds."""
    return reader.ask(lambda c: plan_of(c, failed_among(c, expression), stage))

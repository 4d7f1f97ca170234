"""A job set's ledger, its end, and the sets that wait for it.

The counters of a set change on its locked row in the transaction that brings its jobs to their end, so
accepted = open + finished + failed + cancelled holds at every commit (a constraint says so). Rows are
locked in ascending order, after everything else (law 5).
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import NotFound
from panda.states import JobStatus

LOCK = "SELECT jobset_id, ended_at FROM jobsets WHERE jobset_id = ANY(%(ids)s) ORDER BY jobset_id FOR UPDATE"
EXIST = "SELECT jobset_id FROM jobsets WHERE jobset_id = ANY(%(ids)s)"
JOBSETS_OF = """
SELECT jobset_id, count(*) AS n FROM (SELECT jobset_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) OFFSET 0) j
GROUP BY jobset_id ORDER BY jobset_id
"""
SETTLE = """
UPDATE jobsets s SET n_open = n_open - c.n,
    n_finished = n_finished + CASE WHEN %(status)s::text = 'finished' THEN c.n ELSE 0 END,
    n_failed = n_failed + CASE WHEN %(status)s::text = 'failed' THEN c.n ELSE 0 END,
    n_cancelled = n_cancelled + CASE WHEN %(status)s::text IN ('cancelled', 'closed') THEN c.n ELSE 0 END,
    ended_at = CASE WHEN n_open = c.n THEN panda_now() END
FROM unnest(%(ids)s::bigint[], %(counts)s::int[]) AS c(jobset_id, n)
WHERE s.jobset_id = c.jobset_id
RETURNING s.jobset_id, s.n_open
"""
#: A cancellation that was carried out does not hit what a person opens again; under way, it refuses a retry.
REOPEN = """
UPDATE jobsets s SET n_open = n_open + c.n, n_failed = n_failed - c.n, ended_at = NULL,
    cancel_requested_at = CASE WHEN ended_at IS NULL THEN cancel_requested_at END
FROM unnest(%(ids)s::bigint[], %(counts)s::int[]) AS c(jobset_id, n)
WHERE s.jobset_id = c.jobset_id
"""
#: A submission that names the dataset locks it too, so the next statement sees every set that writes there.
LOCK_DATASETS = """
SELECT dataset_id FROM datasets
WHERE dataset_id IN (SELECT output_dataset_id FROM jobsets WHERE jobset_id = ANY(%(ids)s))
    AND jobset_id IS NOT NULL AND status = 'open'
ORDER BY dataset_id FOR UPDATE
"""
CLOSE_DATASETS = """
UPDATE datasets d SET status = 'closed', closed_at = panda_now()
WHERE d.dataset_id = ANY(%(dataset_ids)s) AND NOT EXISTS (
    SELECT FROM jobsets s WHERE s.output_dataset_id = d.dataset_id AND (s.ended_at IS NULL OR s.n_failed > 0))
"""
#: Children whose parent ended well, or that run all the same: one parent less, exactly once.
PARENT_DONE = """
WITH done AS (
    UPDATE jobset_parents p SET done_at = panda_now() FROM jobsets parent, jobsets child
    WHERE p.parent_id = ANY(%(parents)s) AND p.jobset_id = ANY(%(children)s) AND p.done_at IS NULL
        AND parent.jobset_id = p.parent_id AND child.jobset_id = p.jobset_id AND parent.ended_at IS NOT NULL
        AND (parent.n_finished = parent.n_jobs OR child.on_parent_failure = 'run')
    RETURNING p.jobset_id),
counted AS (SELECT jobset_id, count(*) AS n FROM done GROUP BY jobset_id)
UPDATE jobsets s SET open_parents = open_parents - c.n FROM counted c WHERE s.jobset_id = c.jobset_id
"""
PARENT_FAILED = """
UPDATE jobsets s SET cancel_requested_at = panda_now(), cancel_by = 'engine',
    cancel_reason = 'job set ' || p.parent_id || ' did not finish'
FROM jobset_parents p JOIN jobsets parent ON parent.jobset_id = p.parent_id
WHERE p.parent_id = ANY(%(parents)s) AND p.jobset_id = ANY(%(children)s) AND p.done_at IS NULL
    AND parent.ended_at IS NOT NULL AND parent.n_finished < parent.n_jobs AND s.jobset_id = p.jobset_id
    AND s.on_parent_failure = 'cancel' AND s.cancel_requested_at IS NULL AND s.ended_at IS NULL
"""
#: Parents that ended otherwise than well keep a child of theirs no longer.
UNFINISHED = """
SELECT p.parent_id FROM jobset_parents p JOIN jobsets parent ON parent.jobset_id = p.parent_id
WHERE p.jobset_id = %(jobset_id)s AND p.done_at IS NULL AND parent.ended_at IS NOT NULL
"""
PASS_OVER = """
WITH done AS (
    UPDATE jobset_parents p SET done_at = panda_now() FROM jobsets parent
    WHERE p.jobset_id = %(jobset_id)s AND p.parent_id = ANY(%(parents)s) AND p.done_at IS NULL
        AND parent.jobset_id = p.parent_id AND parent.ended_at IS NOT NULL
    RETURNING p.parent_id)
UPDATE jobsets SET open_parents = open_parents - (SELECT count(*) FROM done)
WHERE jobset_id = %(jobset_id)s AND ended_at IS NULL RETURNING (SELECT count(*) FROM done) AS n
"""
CHILDREN = "SELECT DISTINCT jobset_id FROM jobset_parents WHERE parent_id = ANY(%(parents)s) ORDER BY jobset_id"


def check_exist(connection: Connection, jobset_ids: Sequence[int]) -> None:
    """The sets that a new one names must be there before it is: so a circle cannot be written down.

    Raises:
        NotFound: one is not.
    """
    if not jobset_ids:
        return
    found = {row.jobset_id for row in rows(connection, EXIST, {"ids": list(jobset_ids)})}
    for jobset_id in jobset_ids:
        if jobset_id not in found:
            raise NotFound("job set", jobset_id)


def lock_parents(connection: Connection, jobset_ids: Sequence[int]) -> None:
    """Lock the sets that a new one depends on, ascending: none of them ends before it is their child."""
    _lock(connection, jobset_ids)


def apply_ended_parents(connection: Connection, child: int, parents: Sequence[int]) -> None:
    """What parents that ended before their child came mean for it. The parents are locked."""
    _tell(connection, parents, [child])


def settle(connection: Connection, panda_ids: Sequence[int], status: JobStatus) -> None:
    """Jobs reached a final status: count them, and end the sets that this was the last job of.

    The jobs' rows are still in `jobs`; the caller holds their `job_due` rows."""
    settle_counted(connection, _per_set(connection, panda_ids), status)


def settle_counted(connection: Connection, per_set: Mapping[int, int], status: JobStatus) -> None:
    """The same for so many jobs of each set."""
    if not per_set:
        return
    _lock(connection, per_set)
    done = rows(connection, SETTLE, {"status": status, "ids": list(per_set), "counts": list(per_set.values())})
    ended = sorted(row.jobset_id for row in done if row.n_open == 0)
    if ended:
        _end(connection, ended)


def reopen(connection: Connection, panda_ids: Sequence[int]) -> None:
    """Failed jobs got a new attempt: their sets count them as open again."""
    per_set = _per_set(connection, panda_ids)
    if per_set:
        _lock(connection, per_set)
        run(connection, REOPEN, {"ids": list(per_set), "counts": list(per_set.values())})


def pass_over_parents(connection: Connection, jobset_id: int) -> int:
    """A set runs although these parents, which have ended, did not finish. Returns how many they are.

    Those that have not ended are still waited for. The caller locks nothing after it (law 5)."""
    parents = [row.parent_id for row in rows(connection, UNFINISHED, {"jobset_id": jobset_id})]
    if not parents:
        return 0
    _lock(connection, [*parents, jobset_id])
    return int(sum(row.n for row in rows(connection, PASS_OVER, {"jobset_id": jobset_id, "parents": parents})))


def _per_set(connection: Connection, panda_ids: Sequence[int]) -> Mapping[int, int]:
    if not panda_ids:
        return {}
    return {row.jobset_id: row.n for row in rows(connection, JOBSETS_OF, {"panda_ids": list(panda_ids)})}


def _lock(connection: Connection, jobset_ids: Iterable[int]) -> None:
    rows(connection, LOCK, {"ids": sorted(jobset_ids)})


def _end(connection: Connection, ended: Sequence[int]) -> None:
    dataset_ids = [row.dataset_id for row in rows(connection, LOCK_DATASETS, {"ids": list(ended)})]
    if dataset_ids:
        run(connection, CLOSE_DATASETS, {"dataset_ids": dataset_ids})
    children = [row.jobset_id for row in rows(connection, CHILDREN, {"parents": list(ended)})]
    if children:
        _lock(connection, children)
        _tell(connection, ended, children)


def _tell(connection: Connection, parents: Sequence[int], children: Sequence[int]) -> None:
    family = {"parents": list(parents), "children": list(children)}
    run(connection, PARENT_DONE, family)
    run(connection, PARENT_FAILED, family)

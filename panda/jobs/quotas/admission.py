"""Job sets with more jobs than their owner may have queued: refused, or held back and let in as there is room.

What is queued is told by the ledgers of the owner's open sets, less what their pilots run: no counter is kept, so none
can leak. A submission that a quota may concern waits for others of the same owners, so two of them cannot both find
the last room.

A set that is held is expanded like any other; its jobs wait for `quota` from `n_admitted` on, and the clock lets
them in, in order, one owner after another.
"""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import Begin, rows, run
from panda.errors import Conflict
from panda.jobs import due, expansion, share_usage
from panda.jobs.quotas import picture, standing
from panda.jobs.quotas.rules import HOLD, Bound

#: Jobs of one set that one transaction lets in.
CHUNK = 5_000
#: Sets that are held, of which one round takes the oldest of each owner.
LOOKED_AT = 1_000

#: Submissions, and the clock, count for a subject one after another.
LOCK = "SELECT pg_advisory_xact_lock(7000006, hashtext(subject)) FROM unnest(%(subjects)s::text[]) AS s(subject)"
HELD = f"""
SELECT DISTINCT ON (owner) owner, jobset_id FROM (
    SELECT owner, jobset_id FROM jobsets WHERE held_at IS NOT NULL AND released_at IS NOT NULL
        AND cancel_requested_at IS NULL ORDER BY owner, jobset_id LIMIT {LOOKED_AT}) held
ORDER BY owner, jobset_id
"""
#: Nothing of these is left to let in.
OVER = "UPDATE jobsets SET held_at = NULL WHERE held_at IS NOT NULL AND ended_at IS NOT NULL"
ONE_ADMITTER = "SELECT pg_try_advisory_xact_lock(7000007, %(jobset_id)s::int) AS mine"
CURSOR = """
SELECT jobset_id, owner, share, first_panda_id, n_jobs, n_expanded, n_admitted FROM jobsets
WHERE jobset_id = %(jobset_id)s AND held_at IS NOT NULL AND released_at IS NOT NULL
"""
LOCK_HELD = """
SELECT panda_id FROM job_due
WHERE panda_id >= %(first)s AND panda_id < %(end)s AND waits_for = 'quota' ORDER BY panda_id FOR UPDATE
"""
ADMITTED = """
UPDATE jobsets SET n_admitted = %(n)s, held_at = CASE WHEN %(n)s::int < n_jobs THEN held_at END
WHERE jobset_id = %(jobset_id)s
"""
#: Of jobs whose wait ran out: those that were let in, or whose set is not held any more.
FORGOTTEN = """
SELECT j.panda_id
FROM (SELECT panda_id, jobset_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) OFFSET 0) j,
    LATERAL (SELECT held_at, first_panda_id, n_admitted FROM jobsets WHERE jobset_id = j.jobset_id OFFSET 0) s
WHERE s.held_at IS NULL OR j.panda_id < s.first_panda_id + s.n_admitted
ORDER BY j.panda_id
"""


def check(connection: Connection, owner: str, n_jobs: int) -> bool:
    """Whether a set of `n_jobs` has to be held back. Costs nothing where no quota of queued jobs binds its owner.

    Raises:
        Conflict: `over_quota`: it is refused.
    """
    known = picture.current(connection)
    if not known.restricts_queued:
        return False
    bounds = [bound for bound in known.bounds(owner) if bound.queued_jobs is not None]
    if not bounds:
        return False
    _lock(connection, bounds)
    holds = False
    running = share_usage.current(connection, by_owner=True).owners or {}
    for bound in bounds:
        n_queued, n_held = standing.queued(connection, bound.owners, running)
        if n_queued + n_held + n_jobs <= (bound.queued_jobs or 0):
            continue
        if bound.beyond != HOLD:
            raise Conflict(
                f"{bound.subject} has {n_queued + n_held:,} jobs queued and may have {bound.queued_jobs:,}; "
                f"this set has {n_jobs:,} more",
                code="over_quota",
            )
        holds = True
    return holds


def admit(begin: Begin) -> int:
    """Let in jobs of held sets, a chunk of the oldest one of each owner, each in a transaction. Returns how many."""
    with begin() as connection:
        run(connection, OVER)
        found = rows(connection, HELD)
    n = 0
    for row in found:
        with begin() as connection:
            n += _admit(connection, row.jobset_id)
    return n


def look_again(connection: Connection, panda_ids: Sequence[int]) -> None:
    """Their wait for `quota` ran out: who was forgotten goes on, the others wait on. The caller holds their rows."""
    forgotten = [row.panda_id for row in rows(connection, FORGOTTEN, {"panda_ids": list(panda_ids)})]
    due.wake(connection, forgotten)
    due.extend(connection, [i for i in panda_ids if i not in forgotten], for_s=expansion.QUOTA_WAIT_S)


def _admit(connection: Connection, jobset_id: int) -> int:
    if not rows(connection, ONE_ADMITTER, {"jobset_id": jobset_id})[0].mine:
        return 0
    found = rows(connection, CURSOR, {"jobset_id": jobset_id})
    if not found:
        return 0
    jobset = found[0]
    n = min(jobset.n_expanded - jobset.n_admitted, CHUNK, _room(connection, jobset.owner))
    if n <= 0:
        return 0
    first = jobset.first_panda_id + jobset.n_admitted
    panda_ids = [row.panda_id for row in rows(connection, LOCK_HELD, {"first": first, "end": first + n})]
    run(connection, ADMITTED, {"n": jobset.n_admitted + n, "jobset_id": jobset_id})
    expansion.set_free(connection, jobset, panda_ids, first)
    return int(n)


def _room(connection: Connection, owner: str) -> int:
    """Jobs that an owner may have queued beside those that are."""
    bounds = [bound for bound in picture.fresh(connection).bounds(owner) if bound.queued_jobs is not None]
    if not bounds:
        return CHUNK
    _lock(connection, bounds)
    running = share_usage.current(connection, by_owner=True).owners or {}
    return min((bound.queued_jobs or 0) - standing.queued(connection, bound.owners, running)[0] for bound in bounds)


def _lock(connection: Connection, bounds: Sequence[Bound]) -> None:
    rows(connection, LOCK, {"subjects": sorted(bound.subject for bound in bounds)})

"""A pilot asks for work: one transaction for 1..n jobs, each with a lease of its own.

A pilot that did not get our answer asks again with the same request id and gets the same jobs, with new
tokens; the old ones open nothing any more.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from threading import BoundedSemaphore
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.db.session import Begin, once, rows, run
from panda.dispatcher import matching
from panda.dispatcher.links import links_of
from panda.dispatcher.matching import Fit
from panda.dispatcher.tally import GOT, tally
from panda.dispatcher.words import AcquireReply, AcquireRequest, PilotJob
from panda.errors import Conflict
from panda.metrics import Times
from panda.settings import Settings

PILOT = "SELECT queue, last_request_id, last_panda_ids FROM pilots WHERE pilot_id = %(pilot_id)s FOR UPDATE"
#: A new pilot has no row to lock: of its requests at once the first one claims, the others find what it got.
NEW = "SELECT pg_advisory_xact_lock(hashtextextended(%(pilot_id)s, 7000005))"
SEEN = """
INSERT INTO pilots AS p (pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at, last_request_id,
    last_panda_ids, n_jobs, nothing_because)
VALUES (%(pilot_id)s, %(queue)s, %(node)s, %(version)s, %(cores)s, %(memory_mb)s, panda_now(), panda_now(),
    %(request_id)s, %(panda_ids)s, %(n)s, %(because)s)
ON CONFLICT (pilot_id) DO UPDATE SET last_seen_at = panda_now(), node = excluded.node,
    last_request_id = excluded.last_request_id, last_panda_ids = excluded.last_panda_ids,
    n_jobs = p.n_jobs + excluded.n_jobs, nothing_because = excluded.nothing_because
"""
#: Jobs of an answer that was lost: still with this pilot, which has not said a word about them yet.
AGAIN = """
WITH renewed AS (
    UPDATE leases l SET token_hash = t.token_hash, lease_until = panda_now() + make_interval(secs => %(lease_s)s)
    FROM unnest(%(panda_ids)s::bigint[], %(hashes)s::bytea[]) WITH ORDINALITY AS t(panda_id, token_hash, nr)
    WHERE l.panda_id = ANY(%(panda_ids)s) AND l.panda_id = t.panda_id AND l.pilot_id = %(pilot_id)s
        AND EXISTS (SELECT FROM jobs j WHERE j.panda_id = l.panda_id AND j.status = 'sent' OFFSET 0)
    RETURNING l.panda_id, t.nr)
SELECT j.panda_id, j.attempt_nr, j.n_inputs, j.n_outputs, j.spec, r.nr, s.cores, s.memory_mb, s.disk_mb, s.walltime_s,
    s.gpus
FROM renewed r, LATERAL (SELECT * FROM jobs WHERE panda_id = r.panda_id OFFSET 0) j JOIN shapes s USING (shape_id)
ORDER BY r.nr
"""
#: Of this process: how long it took to find jobs for a pilot, or that there are none; without the wait of a long poll.
took = Times("panda_dispatch_seconds", "How long this process took to answer a pilot that asked for work.")
#: Between two looks of a long poll.
POLL_S = 0.1
#: Long polls that one process keeps waiting; a pilot beyond them is answered at once.
_long_polls = BoundedSemaphore(4)


def new_token() -> str:
    """What the pilot must show with each report on its attempt."""
    return secrets.token_urlsafe(24)


def acquire(
    begin: Begin, request: AcquireRequest, settings: Settings, token: Callable[[], str] = new_token
) -> AcquireReply:
    """Jobs for a pilot; an empty list when nothing fits before `wait_s` has passed.

    Args:
        token: makes the token of a lease; for pilots that keep none of their own, see panda.upstream.
    Raises:
        NotFound: there is no such queue.
        Conflict: `pilot_moved`: the pilot's id was seen at another queue.
    """
    began_at = time.perf_counter()
    jobs = _once(begin, request, settings, token)
    took.add(time.perf_counter() - began_at)
    wait_s = min(request.wait_s, settings.dispatcher.max_wait_s)
    if not jobs and wait_s > 0 and _long_polls.acquire(blocking=False):
        try:
            until = time.monotonic() + wait_s
            while not jobs and time.monotonic() < until:
                time.sleep(POLL_S)
                jobs = _once(begin, request, settings, token, is_poll=True)
        finally:
            _long_polls.release()
    matching.renew(begin)
    tally.write_if_due(begin)
    return AcquireReply(jobs=jobs, heartbeat_s=settings.dispatcher.heartbeat_s, lease_s=settings.dispatcher.lease_s)


def _once(
    begin: Begin, request: AcquireRequest, settings: Settings, token: Callable[[], str], *, is_poll: bool = False
) -> list[PilotJob]:
    n = min(request.n, settings.dispatcher.max_jobs_per_claim)
    lease_s = settings.dispatcher.lease_s
    if not is_poll:
        with once(begin) as connection:
            claimed = _at_once(connection, request, [token() for _ in range(n)], lease_s)
            if claimed:
                return _payloads(connection, request.queue, claimed)
    with begin() as connection:
        known = rows(connection, PILOT, {"pilot_id": request.pilot_id})
        if not known:
            rows(connection, NEW, {"pilot_id": request.pilot_id})
            known = rows(connection, PILOT, {"pilot_id": request.pilot_id})
        if known and known[0].queue != request.queue:
            raise Conflict(f"pilot {request.pilot_id} belongs to queue {known[0].queue}", code="pilot_moved")
        if is_poll and (not known or known[0].last_request_id != request.request_id):
            return []  # the pilot said goodbye, or asks anew: nobody reads this answer
        if known and known[0].last_request_id == request.request_id and known[0].last_panda_ids:
            return _again(connection, request, known[0].last_panda_ids, lease_s)
        tokens = [token() for _ in range(n)]
        claimed, because = _claim(connection, request, tokens, lease_s, is_poll=is_poll)
        if claimed or not is_poll:
            _remember(connection, request, [row.panda_id for row, _ in claimed], because)
        return _payloads(connection, request.queue, claimed)


def _at_once(
    connection: Connection, request: AcquireRequest, tokens: Sequence[str], lease_s: int
) -> list[tuple[Row[Any], str]]:
    """What most claims come to: it is one share's turn. Nothing, if it is not as simple as that."""
    fit = matching.fitting(matching.offer_of(connection, request.queue), request)
    if fit.is_watched:
        if not matching.knows_owners():
            return []  # to look anew wants a transaction
        fit = matching.allowed(connection, fit)
    tokens = tokens[: matching.room(request.queue, len(tokens))]
    if not fit.by_share or not matching.knows_shares(fit.by_share):
        return []
    shares = list(matching.turns(connection, fit.by_share, len(tokens)))
    if len(shares) != 1:
        return []
    [share] = shares
    hashes = [_hash(token) for token in tokens]
    got = matching.claim(connection, request, share, fit.by_share[share], hashes, lease_s, at_once=True)
    if got:
        _count(request, GOT, fit)
    return [(row, tokens[row.nr - 1]) for row in got]


def _claim(
    connection: Connection, request: AcquireRequest, tokens: Sequence[str], lease_s: int, *, is_poll: bool
) -> tuple[list[tuple[Row[Any], str]], str | None]:
    """Rows with their tokens; and, if there are none, why."""
    claimed: list[tuple[Row[Any], str]] = []
    for anew in (False, True):
        found = matching.fitting(matching.offer_of(connection, request.queue, anew=anew), request)
        if found.is_watched:
            found = matching.allowed(connection, found)
        fit = dict(found.by_share)
        allowed = tokens[: matching.room(request.queue, len(tokens))]
        while fit and len(claimed) < len(allowed):
            for share, n in matching.turns(connection, fit, len(allowed) - len(claimed)).items():
                given = allowed[len(claimed) : len(claimed) + n]
                got = matching.claim(connection, request, share, fit[share], [_hash(t) for t in given], lease_s)
                claimed += [(row, given[row.nr - 1]) for row in got]
                if len(got) < n:
                    del fit[share]  # it has no more; the others make up for it
        if claimed:
            break
    if claimed or not is_poll:  # a long poll is one ask, however often it looks
        _count(request, GOT if claimed else found.outcome, found)
    return claimed, None if claimed else found.because or "other pilots were quicker"


def _count(request: AcquireRequest, outcome: str, fit: Fit) -> None:
    misfits = {(each.pair.shape_id, each.word, each.has) for each in fit.misfits}  # of one shape, several owners' jobs
    tally.ask(request.queue, outcome, misfits)


def _again(connection: Connection, request: AcquireRequest, panda_ids: Sequence[int], lease_s: int) -> list[PilotJob]:
    tokens = [new_token() for _ in panda_ids]
    renewed = rows(
        connection,
        AGAIN,
        {"panda_ids": list(panda_ids), "hashes": [_hash(t) for t in tokens], "pilot_id": request.pilot_id,
         "lease_s": float(lease_s)},
    )  # fmt: skip
    return _payloads(connection, request.queue, [(row, tokens[row.nr - 1]) for row in renewed])


def _remember(connection: Connection, request: AcquireRequest, panda_ids: list[int], because: str | None) -> None:
    run(
        connection,
        SEEN,
        {"pilot_id": request.pilot_id, "queue": request.queue, "node": request.node, "version": request.version,
         "cores": request.cores, "memory_mb": request.memory_mb, "request_id": request.request_id,
         "panda_ids": panda_ids, "n": len(panda_ids), "because": because},
    )  # fmt: skip


def _payloads(connection: Connection, queue: str, claimed: Sequence[tuple[Row[Any], str]]) -> list[PilotJob]:
    with_files = {row.panda_id: row.walltime_s for row, _ in claimed if row.n_inputs or row.n_outputs}
    direct = {row.panda_id for row, _ in claimed if row.spec.get("direct_read")}
    links = links_of(connection, queue, with_files, direct)
    return [
        PilotJob(
            panda_id=row.panda_id,
            attempt_nr=row.attempt_nr,
            token=token,
            command=row.spec["command"],
            env=row.spec["env"],
            sandbox=row.spec["sandbox"],
            cores=row.cores,
            memory_mb=row.memory_mb,
            disk_mb=row.disk_mb,
            walltime_s=row.walltime_s,
            gpus=row.gpus,
            inputs=links[row.panda_id][0],
            outputs=links[row.panda_id][1],
        )
        for row, token in claimed
    ]


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

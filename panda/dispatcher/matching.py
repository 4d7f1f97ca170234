"""Which ready jobs a pilot may take, and the claim itself.

A pilot tells what it has free. The distinct (share, shape) pairs of its queue that have ready jobs are
few whatever the number of jobs; those that fit are asked for their best rank with one index probe each,
so a claim costs the same with ten jobs queued and with ten million, and jobs that do not fit are never
looked at. Source of the design: performance.md's measurements of a slim claim table.

Of which shares, `shares` says; a second share costs a second statement, a third one a third, and there it ends.
Where quotas bind owners, their jobs stand apart in the index, and a pair is of one owner: whole owners who have enough
are passed over (`quotas`). Of many pairs those whose best job is first are asked, `MOST_PAIRS` at most.
Anti-starvation: among the shapes of a share that fit, the best rank wins, whatever its size; a pilot with many cores
therefore takes a waiting many-core job before younger small ones.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection, Row

from panda.db.session import Begin, rows
from panda.dispatcher.quotas import allowance
from panda.dispatcher.shares import balance
from panda.dispatcher.tally import NOTHING_FITS, NOTHING_READY, OFFLINE, OVER_QUOTA, PAUSED, QUICKER
from panda.dispatcher.words import AcquireRequest
from panda.errors import NotFound
from panda.jobs import switches
from panda.jobs.quotas import picture as quota_picture
from panda.jobs.switches import Picture, What
from panda.names import amount, amount_of

#: `room`: jobs that may still be started, by the caps of the queue and of its site; null: any number. What runs is only
#: counted where there is a cap.
QUEUE = """
SELECT q.status, q.status_reason, q.site, (
        SELECT max(ends_at) FROM downtimes d
        WHERE d.ends_at > (SELECT panda_now()) AND d.starts_at <= (SELECT panda_now())
            AND ((d.kind = 'queue' AND d.target = q.name) OR (d.kind = 'site' AND d.target = q.site))) AS down_until,
    least(CASE WHEN q.max_running > 0 THEN q.max_running - (
            SELECT coalesce(sum(n), 0) FROM (SELECT status, queue, n FROM job_counts UNION ALL TABLE job_count_deltas) c
            WHERE c.queue = q.name AND c.status IN ('sent', 'starting', 'running')) END,
        CASE WHEN t.max_running > 0 THEN t.max_running - (
            SELECT coalesce(sum(n), 0) FROM (SELECT status, queue, n FROM job_counts UNION ALL TABLE job_count_deltas) c
            WHERE c.queue = ANY(ARRAY(SELECT name FROM queues WHERE site = q.site))
                AND c.status IN ('sent', 'starting', 'running')) END)::int AS room
FROM queues q JOIN sites t ON t.name = q.site WHERE q.name = %(queue)s
"""
#: A skip scan over the claim index: one probe per distinct pair, however many jobs stand behind it.
PAIRS = """
WITH RECURSIVE pairs AS (
    (SELECT share, who, shape_id, rank FROM ready WHERE queue = %(queue)s ORDER BY share, who, shape_id, rank LIMIT 1)
    UNION ALL
    SELECT n.* FROM pairs p, LATERAL (
        SELECT share, who, shape_id, rank FROM ready
        WHERE queue = %(queue)s AND (share, who, shape_id) > (p.share, p.who, p.shape_id)
        ORDER BY share, who, shape_id, rank LIMIT 1) n)
SELECT p.share, p.who, p.rank, s.shape_id, s.cores, s.memory_mb, s.disk_mb, s.walltime_s, s.gpus, s.tags
FROM pairs p JOIN shapes s USING (shape_id)
"""
_CLAIM = """
WITH {known} best AS (
    SELECT r.panda_id, r.rank
    FROM unnest(%(whos)s::text[], %(shapes)s::int[], %(mosts)s::int[]) AS s(who, shape_id, most), LATERAL (
        SELECT panda_id, rank FROM ready
        WHERE queue = %(queue)s AND share = %(share)s AND who = s.who AND shape_id = s.shape_id
        ORDER BY rank LIMIT s.most FOR UPDATE SKIP LOCKED) r
    {may} ORDER BY r.rank LIMIT %(n)s),
mine AS (
    SELECT panda_id FROM job_due WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM best))
        AND stage = 'dispatch' AND (waits_for IS NULL OR waits_for = 'pilot')
    ORDER BY panda_id FOR UPDATE SKIP LOCKED),
unready AS (DELETE FROM ready WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM mine))),
due AS (
    UPDATE job_due SET stage = 'stage_out', final = true, waits_for = 'lease', deliveries = 0, tries = 0,
        due_at = panda_now() + make_interval(secs => %(lease_s)s)
    WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM mine))),
moved AS (
    UPDATE jobs SET status = 'sent', changed_at = panda_now(), sent_at = panda_now(), pilot_id = %(pilot_id)s,
        node = %(node)s
    WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM mine)) AND status = 'activated'
    RETURNING panda_id, attempt_nr, owner, shape_id, n_inputs, n_outputs, spec),
numbered AS (SELECT *, row_number() OVER (ORDER BY panda_id) AS nr FROM moved),
leased AS (
    INSERT INTO leases (panda_id, attempt_nr, token_hash, pilot_id, lease_until, reported_at)
    SELECT panda_id, attempt_nr, (%(hashes)s::bytea[])[nr], %(pilot_id)s,
        panda_now() + make_interval(secs => %(lease_s)s), panda_now()
    FROM numbered),
events AS (
    INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by, reason)
    SELECT panda_id, panda_now(), 'activated', 'sent', attempt_nr, 'dispatch', 'dispatcher', %(pilot_id)s FROM moved),
counted AS (
    INSERT INTO job_count_deltas (status, queue, n)
    SELECT 'activated', %(queue)s, -count(*) FROM moved HAVING count(*) > 0
    UNION ALL SELECT 'sent', %(queue)s, count(*) FROM moved HAVING count(*) > 0){seen}
SELECT m.panda_id, m.attempt_nr, m.owner, m.n_inputs, m.n_outputs, m.spec, m.nr, s.cores, s.memory_mb, s.disk_mb,
    s.walltime_s, s.gpus
FROM numbered m, LATERAL (SELECT * FROM shapes WHERE shape_id = m.shape_id OFFSET 0) s ORDER BY m.nr
"""
CLAIM = _CLAIM.format(known="", may="", seen="")
#: The same for a pilot that is known and asks anew, and a note of what it got: all of an acquisition in one statement.
#: A request that was answered before finds its answer in `pilots`, and claims nothing here.
CLAIM_AT_ONCE = _CLAIM.format(
    known="known AS (SELECT queue, last_request_id FROM pilots WHERE pilot_id = %(pilot_id)s FOR UPDATE),",
    may="""WHERE EXISTS (
        SELECT FROM known WHERE queue = %(queue)s AND last_request_id IS DISTINCT FROM %(request_id)s)""",
    seen=""",
seen AS (
    UPDATE pilots SET last_seen_at = panda_now(), node = %(node)s, last_request_id = %(request_id)s,
        last_panda_ids = ARRAY(SELECT panda_id FROM moved ORDER BY panda_id),
        n_jobs = n_jobs + (SELECT count(*) FROM moved), nothing_because = NULL
    WHERE pilot_id = %(pilot_id)s AND EXISTS (SELECT FROM moved))""",
)

#: Seconds that a process trusts its picture of a queue's pairs; a claim that comes back short looks anew.
TRUST_S = 0.5


#: Pairs of one share that a claim asks: each is a probe of the index.
MOST_PAIRS = 32


class Pair(NamedTuple):
    """A share that has ready jobs of a shape; where a quota binds their owner, the jobs of one owner."""

    share: str
    who: str
    """The owner; "": nobody's quota binds these."""
    rank: int
    """Of the job that comes first, when the pair was seen."""
    shape_id: int
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    gpus: int
    tags: frozenset[str]


class Offer(NamedTuple):
    """What a queue has, as of `seen_at` (monotonic seconds)."""

    status: str
    pairs: list[Pair]
    seen_at: float
    site: str = ""
    pauses: Picture = Picture()
    """What operators and rules paused."""
    closed: str = ""
    """Why no pilot gets a job here; empty: they may."""
    room: int | None = None
    """Jobs that could be started when it was seen; None: any number."""


_offers: dict[str, Offer] = {}
#: Jobs that this process handed out since it looked.
_given: dict[str, int] = {}
_lock = Lock()


def offer_of(connection: Connection, queue: str, *, anew: bool = False) -> Offer:
    """The pairs of a queue that have ready jobs, at most `TRUST_S` old.

    Raises:
        NotFound: there is no such queue.
    """
    known = _offers.get(queue)
    if known and not anew and time.monotonic() - known.seen_at < TRUST_S:
        return known
    found = rows(connection, QUEUE, {"queue": queue})
    if not found:
        raise NotFound("queue", queue)
    pairs = [
        Pair(
            r.share, r.who, r.rank, r.shape_id, r.cores, r.memory_mb, r.disk_mb, r.walltime_s, r.gpus, frozenset(r.tags)
        )
        for r in rows(connection, PAIRS, {"queue": queue})
    ]
    seen = found[0]
    pauses = switches.picture(connection)
    fresh = Offer(seen.status, pairs, time.monotonic(), seen.site, pauses, _closed(seen), seen.room)
    with _lock:
        _offers[queue] = fresh
        _given[queue] = 0
    return fresh


def _closed(queue: Row[Any]) -> str:
    because = f" ({queue.status_reason})" if queue.status_reason else ""
    if queue.status == "offline":
        return f"the queue is offline{because}"
    return "" if queue.down_until is None else f"the queue is in downtime until {queue.down_until:%Y-%m-%d %H:%M} UTC"


def room(queue: str, n: int) -> int:
    """How many of `n` jobs a pilot of this queue may get, by the caps of queue and site. What other processes handed
    out since this one looked is not known here: a cap may be passed by as much as that."""
    offer = _offers.get(queue)
    if offer is None or offer.room is None:
        return n
    return max(0, min(n, offer.room - _given.get(queue, 0)))


def forget() -> None:
    """Drop this process's picture of queues, shares and quotas: something changed that a pilot must see at once."""
    with _lock:
        _offers.clear()
    balance.forget()
    switches.forget()
    allowance.forget()
    quota_picture.forget()


class Misfit(NamedTuple):
    """What a pilot has too little of for jobs of a shape. `word`: cores, memory_mb, disk_mb, walltime_s, gpus, tags."""

    pair: Pair
    word: str
    has: int
    lacking: str = ""
    """The tags that it does not offer."""

    def __str__(self) -> str:
        if self.word == "tags":
            return f"needs {self.lacking}"
        needed = getattr(self.pair, self.word)
        left = " left" if self.word == "walltime_s" else ""
        return f"needs {amount_of(self.word, needed)}, the pilot has {amount(self.word, self.has)}{left}"


#: Kinds of jobs that the answer to a pilot spells out.
_TOLD = 3


class Fit(NamedTuple):
    """What of an offer a pilot can take."""

    by_share: dict[str, list[Pair]]
    misfits: list[Misfit]
    outcome: str
    """Of the ask, if nothing is taken: a word of `tally`."""
    closed: str = ""
    """Why nothing is handed out at all, whatever is ready."""
    full: str = ""
    """Why owners of jobs that fit may not start more of them, if nothing is left but these."""

    @property
    def is_watched(self) -> bool:
        """Whether a quota binds the owner of any of the jobs that fit."""
        return any(pair.who for pairs in self.by_share.values() for pair in pairs)

    @property
    def because(self) -> str | None:
        """Why nothing fits, in words; None: something does."""
        if self.by_share:
            return None
        if self.closed or self.full:
            return self.closed or self.full
        if not self.misfits:
            return "the queue has no ready job"
        told = list(dict.fromkeys(map(str, self.misfits)))
        more = f"; and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        return "; ".join(told[:_TOLD]) + more


def misfit(pair: Pair, request: AcquireRequest, tags: frozenset[str]) -> Misfit | None:
    """Why a pilot cannot run jobs of this shape; None: it can."""
    if pair.cores > request.cores:
        return Misfit(pair, "cores", request.cores)
    if pair.memory_mb > request.memory_mb:
        return Misfit(pair, "memory_mb", request.memory_mb)
    if pair.disk_mb > request.disk_mb:
        return Misfit(pair, "disk_mb", request.disk_mb)
    if pair.walltime_s > request.walltime_s:
        return Misfit(pair, "walltime_s", request.walltime_s)
    if pair.gpus > request.gpus:
        return Misfit(pair, "gpus", request.gpus)
    if not pair.tags <= tags:
        return Misfit(pair, "tags", 0, ", ".join(sorted(pair.tags - tags)))
    return None


def fitting(offer: Offer, request: AcquireRequest) -> Fit:
    """The pairs that fit, by share, and what is too much for the others."""
    if offer.closed:
        return Fit({}, [], OFFLINE, offer.closed)
    if offer.room is not None and not room(request.queue, 1):
        return Fit({}, [], PAUSED, "as many jobs run here as may, by the cap of the queue or its site")
    paused = offer.pauses.why(What.DISPATCH, site=offer.site, queue=request.queue, node=request.node)
    if paused:
        return Fit({}, [], PAUSED, paused)
    tags = frozenset(request.tags)
    fit: dict[str, list[Pair]] = {}
    misfits: list[Misfit] = []
    for pair in offer.pairs:
        why_not = misfit(pair, request, tags)
        if why_not is None:
            fit.setdefault(pair.share, []).append(pair)
        else:
            misfits.append(why_not)
    return Fit(fit, misfits, QUICKER if fit else NOTHING_FITS if misfits else NOTHING_READY)


def allowed(connection: Connection, fit: Fit) -> Fit:
    """Those of the pairs whose owners may start one more job; and why not the others, if that leaves none."""
    may: dict[str, list[Pair]] = {}
    full = ""
    for share, pairs in fit.by_share.items():
        for pair in pairs:
            if pair.who:
                refusal = allowance.left(connection, pair.who, pair.cores).because
                if refusal:
                    full = refusal
                    continue
            may.setdefault(share, []).append(pair)
    return fit._replace(by_share=may) if may else fit._replace(by_share=may, outcome=OVER_QUOTA, full=full)


def knows_owners() -> bool:
    """Whether `allowed` answers now without a look into the database."""
    return allowance.is_fresh


def knows_shares(fit: Mapping[str, Sequence[Pair]]) -> bool:
    """Whether `turns` answers now without a look into the database."""
    return len(fit) == 1 or balance.is_fresh


def renew(begin: Begin) -> None:
    """Look anew at what runs, in the background, where this process went by an old count."""
    balance.renew(begin)
    allowance.renew(begin)


def turns(connection: Connection, fit: Mapping[str, Sequence[Pair]], n: int) -> dict[str, int]:
    """How many of `n` jobs to ask each share for, in this order. Until they are seen, a share's jobs are taken
    to be as wide as its shapes are on average."""
    cores = {share: sum(pair.cores for pair in pairs) / len(pairs) for share, pairs in fit.items()}
    return balance.deal(connection, cores, n)


def claim(
    connection: Connection,
    request: AcquireRequest,
    share: str,
    pairs: Sequence[Pair],
    hashes: Sequence[bytes],
    lease_s: int,
    *,
    at_once: bool = False,
) -> list[Row[Any]]:
    """Give the pilot up to `len(hashes)` jobs of one share: one statement, whatever their number.

    A second dispatcher skips the rows that this one holds; a job whose `job_due` row is held by someone
    else (a kill, the sweeper) is left. `nr` of a row tells which of `hashes` (from 1) its lease got.

    Args:
        at_once: look the pilot up and remember what it got in the same statement; nothing is claimed for a pilot
            that is new or of another queue, or for a request that was answered before.
    """
    n = len(hashes)
    is_watched = any(pair.who for pair in pairs)
    if is_watched or len(pairs) > MOST_PAIRS:
        pairs = sorted(pairs, key=lambda pair: pair.rank)[:MOST_PAIRS]
    mosts = allowance.allot(connection, [(p.who, p.cores) for p in pairs], n) if is_watched else [n] * len(pairs)
    values = {
        "queue": request.queue, "share": share, "whos": [pair.who for pair in pairs],
        "shapes": [pair.shape_id for pair in pairs], "mosts": mosts, "n": n, "hashes": list(hashes),
        "pilot_id": request.pilot_id, "node": request.node, "lease_s": float(lease_s),
    }  # fmt: skip
    if at_once:
        values["request_id"] = request.request_id
    got = rows(connection, CLAIM_AT_ONCE if at_once else CLAIM, values)
    if got:
        balance.gave(share, sum(row.cores for row in got))
        with _lock:
            _given[request.queue] = _given.get(request.queue, 0) + len(got)
        if is_watched:
            _note_owners({pair.who for pair in pairs}, got)
    return got


def _note_owners(watched: Collection[str], got: Sequence[Row[Any]]) -> None:
    for owner in watched:
        cores = [row.cores for row in got if row.owner == owner]
        if cores:
            allowance.gave(owner, len(cores), sum(cores))

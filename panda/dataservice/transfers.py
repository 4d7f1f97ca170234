"""Files on their way between storages: who needs them, who moves them, what happens when they arrive.

A transfer's row is queued, then moving under a lease that its mover renews, then done or failed. Bytes
move outside of any transaction. A mover that dies loses nothing: the lease ends, the transfer is queued
again, and whoever takes it next finds what was achieved. `tries` counts takers and tells them apart.
"""

import errno
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.dataservice import recalls, waiting
from panda.dataservice.admission import NEAREST
from panda.dataservice.catalog import place_replicas
from panda.dataservice.movers.base import Content, Place, Underway, WrongContent
from panda.dataservice.storage import mover_of
from panda.db.session import Begin, asynchronous, rows, run
from panda.errors import PandaError, Unavailable
from panda.jobs import meters
from panda.jobs.downs import STORAGES_DOWN
from panda.logs import Log
from panda.settings import Settings
from panda.states import Stage

log = Log("panda.transfers")

#: What the path of a copy ends with.
_OF_COPY = re.compile(r"@t\d+$")
#: Wait after the first failure; twice as long after each further one, up to `LONGEST_BACK_OFF_S`.
BACK_OFF_S = 2.0
LONGEST_BACK_OFF_S = 300.0

#: Whether the file of a row `f` of `job_files` is at the storage of its job's queue.
_STATUS = """
(SELECT CASE WHEN EXISTS (SELECT FROM replicas r
            WHERE r.file_id = f.file_id AND r.storage = ANY(q.storage || q.read_storages)
                AND r.going_at IS NULL OFFSET 0)
        THEN 'ready' ELSE 'missing' END
    FROM (SELECT computing_site FROM jobs WHERE panda_id = f.panda_id OFFSET 0) j
    JOIN queues q ON q.name = j.computing_site)
"""
INPUT_STATUS = f"""
UPDATE job_files f SET status = {_STATUS}
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'input' AND file_id IS NOT NULL AND status <> {_STATUS}
"""
WITH_INPUTS = "SELECT panda_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND n_inputs > 0 ORDER BY panda_id"
#: One transfer, locked; then whether it is what was expected. Asked for both at once, PostgreSQL may look
#: through everything that is moving.
_HELD = "WITH held AS (SELECT * FROM transfers WHERE transfer_id = %(transfer_id)s FOR UPDATE)"
#: A message may come twice; whoever sets the source first carries.
TAKE = f"""
{_HELD}
UPDATE transfers SET source = coalesce(planned, ''), tries = tries + 1,
    lease_until = panda_now() + make_interval(secs => %(lease_s)s)
WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM held WHERE status = 'moving' AND source IS NULL))
RETURNING tries, source
"""
#: What is to be moved, and from where: the nearest storage first.
SOURCES = f"""
SELECT t.transfer_id, t.file_id, t.destination, t.error, t.owner IS NULL AND NOT t.is_ruled AS is_copy,
    d.scope || ':' || d.name || '/' || f.lfn AS file, f.size_bytes, f.adler32,
    o.kind AS to_kind, o.root AS to_root, o.status AS to_status,
    s.name AS source, s.kind AS from_kind, s.root AS from_root, r.path, s.stager,
    (SELECT status FROM recalls WHERE file_id = t.file_id AND storage = s.name OFFSET 0) AS recall_status,
    (SELECT error FROM recalls WHERE file_id = t.file_id AND storage = s.name OFFSET 0) AS recall_error
FROM (SELECT * FROM transfers WHERE transfer_id = %(transfer_id)s OFFSET 0) t
CROSS JOIN LATERAL (SELECT * FROM files WHERE file_id = t.file_id OFFSET 0) f
CROSS JOIN LATERAL (SELECT * FROM datasets WHERE dataset_id = f.dataset_id OFFSET 0) d
JOIN storages o ON o.name = t.destination JOIN sites os ON os.name = o.site
LEFT JOIN (LATERAL (SELECT * FROM replicas WHERE file_id = t.file_id OFFSET 0) r
    JOIN storages s ON s.name = r.storage AND s.status = 'online'
    JOIN sites ss ON ss.name = s.site) ON s.name = t.destination OR s.name <> ALL({STORAGES_DOWN})
LEFT JOIN links l ON l.source = ss.name AND l.destination = os.name
ORDER BY {NEAREST}
"""
SET_SOURCE = "UPDATE transfers SET source = %(source)s WHERE transfer_id = %(transfer_id)s"
_MINE = "transfer_id = ANY(ARRAY(SELECT transfer_id FROM held WHERE status = 'moving' AND tries = %(tries)s))"
RENEW = f"""
{_HELD}
UPDATE transfers SET lease_until = panda_now() + make_interval(secs => %(lease_s)s) WHERE {_MINE}
"""
HOLD = """
SELECT status, tries, owner IS NULL AND NOT is_ruled AS is_copy FROM transfers
WHERE transfer_id = %(transfer_id)s FOR UPDATE
"""
BACK_OFF = f"""
{_HELD}
UPDATE transfers SET status = 'queued', source = NULL, lease_until = NULL, error = %(error)s,
    due_at = panda_now() + make_interval(secs => %(for_s)s)
WHERE {_MINE}
"""
#: It is no try. The number is the carrier's own, so nobody else can mistake it for theirs: whoever takes it next counts
#: on from there.
POSTPONE = f"""
{_HELD}
UPDATE transfers SET status = 'queued', source = NULL, lease_until = NULL, error = %(error)s, tries = tries - 1,
    due_at = panda_now() + make_interval(secs => %(for_s)s)
WHERE {_MINE}
"""
END = f"""
{_HELD}
UPDATE transfers SET status = %(status)s, error = %(error)s, lease_until = NULL, ended_at = panda_now()
WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM held WHERE status IN ('queued', 'moving')))
    AND NOT EXISTS (SELECT FROM transfer_waiters w WHERE w.transfer_id = %(transfer_id)s OFFSET 0)
"""
REQUEUE = f"""
WITH late AS (
    SELECT transfer_id, coalesce(nullif(source, ''), planned, '') AS source, destination FROM transfers
    WHERE status = 'moving' AND lease_until < (SELECT panda_now())
    ORDER BY lease_until LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
counted AS (
    INSERT INTO meter_deltas (meter, labels, n)
    SELECT '{meters.TRANSFER}', ARRAY[source, destination, 'mover_silent'], count(*) FROM late
    GROUP BY source, destination)
UPDATE transfers SET status = 'queued', source = NULL, lease_until = NULL, due_at = panda_now(),
    error = 'its mover went silent'
WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM late))
"""
#: Sent, and taken by nobody yet.
RESEND = """
UPDATE transfers SET status = 'queued', lease_until = NULL, due_at = panda_now()
WHERE status = 'moving' AND source IS NULL
"""
#: Of the transfers that come next, those without a waiter that still waits: killed, retried, archived.
_IS_WANTED = """
(t.is_ruled OR EXISTS (SELECT FROM transfer_waiters w,
        LATERAL (SELECT waits_for FROM job_due WHERE panda_id = w.panda_id OFFSET 0) d
    WHERE w.transfer_id = t.transfer_id AND d.waits_for = 'data' OFFSET 0))
"""
UNWANTED = f"""
SELECT t.transfer_id FROM transfers t
WHERE t.transfer_id = ANY(ARRAY(
        SELECT transfer_id FROM transfers WHERE status = 'queued' ORDER BY due_at LIMIT %(limit)s))
    AND NOT {_IS_WANTED}
ORDER BY t.transfer_id FOR UPDATE SKIP LOCKED
"""
#: A second look under the lock: a job may have attached just before it.
FORGET = f"""
WITH held AS (
    SELECT transfer_id, status FROM transfers WHERE transfer_id = ANY(%(transfer_ids)s)
    ORDER BY transfer_id FOR UPDATE),
forgotten AS (
    DELETE FROM transfers t WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM held WHERE status = 'queued'))
        AND NOT {_IS_WANTED}
    RETURNING transfer_id),
released AS (DELETE FROM transfer_waiters WHERE transfer_id = ANY(ARRAY(SELECT transfer_id FROM forgotten)))
SELECT transfer_id FROM forgotten
"""
LATE = """
SELECT w.panda_id, d.scope || ':' || d.name || '/' || f.lfn AS file, t.destination, t.error
FROM unnest(%(panda_ids)s::bigint[]) AS i(panda_id),
    LATERAL (SELECT * FROM transfer_waiters WHERE panda_id = i.panda_id OFFSET 0) w,
    LATERAL (SELECT * FROM transfers WHERE transfer_id = w.transfer_id OFFSET 0) t,
    LATERAL (SELECT * FROM files WHERE file_id = t.file_id OFFSET 0) f,
    LATERAL (SELECT * FROM datasets WHERE dataset_id = f.dataset_id OFFSET 0) d
ORDER BY w.panda_id, file
"""


class Superseded(PandaError):
    """Our lease ran out and somebody else moves this file now."""

    code = "superseded"


def request_inputs(connection: Connection, panda_ids: Sequence[int], *, deadline_s: float) -> list[int]:
    """Bring the inputs of assigned jobs to the storages of their queues.

    The caller holds their rows of `job_due`. Jobs that lack a file are parked for at most `deadline_s`
    seconds; the last of their transfers makes them due for `activate`.

    Returns: the PandaIDs whose inputs are all in place, ascending.
    """
    with_inputs = [row.panda_id for row in rows(connection, WITH_INPUTS, {"panda_ids": list(panda_ids)})]
    if not with_inputs:
        return sorted(panda_ids)
    waiting_ids = waiting.await_files(
        connection, waiting.INPUTS_WANTED, with_inputs, stage=Stage.ACTIVATE, deadline_s=deadline_s
    )
    run(connection, INPUT_STATUS, {"panda_ids": with_inputs})
    return sorted(set(panda_ids) - set(waiting_ids))


def carry_out(begin: Begin, transfer_ids: Sequence[int], settings: Settings) -> list[tuple[int, str]]:
    """Move files, one after the other, and wake the jobs whose last file it was.

    Safe to run twice, also at the same time: each transfer has one carrier.

    Returns: PandaIDs that wait in vain, because every try failed, each with a sentence. The caller ends
    their attempts; if it dies before, the wait for data ends within half a minute and the sweeper does.
    """
    hopeless: list[tuple[int, str]] = []
    for transfer_id in transfer_ids:
        carrier = _take(begin, transfer_id, settings)
        if carrier is not None:
            hopeless += carrier.carry()
    return hopeless


def requeue_expired(connection: Connection, limit: int = 1_000) -> int:
    """Transfers whose mover went silent may be taken again. Returns how many."""
    return run(connection, REQUEUE, {"limit": limit})


def resend_all(connection: Connection) -> int:
    """What was sent and no mover took is due again: Redis was erased, or a worker died. Returns how many."""
    return run(connection, RESEND)


def forget_unwanted(connection: Connection, limit: int = 1_000) -> int:
    """Drop those of the next `limit` queued transfers that no job waits for any more. Returns how many."""
    unwanted = [row.transfer_id for row in rows(connection, UNWANTED, {"limit": limit})]
    return len(rows(connection, FORGET, {"transfer_ids": unwanted})) if unwanted else 0


def deadline_passed(connection: Connection, panda_ids: Sequence[int]) -> dict[int, str]:
    """What jobs whose wait for data has ended still lack, by PandaID, in a sentence."""
    lacking: dict[int, list[Row[Any]]] = {}
    for row in rows(connection, LATE, {"panda_ids": list(panda_ids)}):
        lacking.setdefault(row.panda_id, []).append(row)
    return {panda_id: _late_sentence(lacking.get(panda_id, [])) for panda_id in panda_ids}


class _Carrier:
    """One try at one transfer. Its transactions may be lost in a crash of PostgreSQL: then the lease of
    the transfer ends, and the next carrier finds the file or brings it again."""

    def __init__(self, begin: Begin, sources: Sequence[Row[Any]], tries: int, settings: Settings) -> None:
        self._begin = begin
        self._what = sources[0]
        replicas = [row for row in sources if row.source is not None]
        #: An earlier carrier brought it there, and died before it could wake anybody.
        self._is_there = any(row.source == self._what.destination for row in replicas)
        #: Another replica at every try.
        self._source = replicas[(tries - 1) % len(replicas)] if replicas else None
        self._tries = tries
        self._settings = settings.data
        self._key = {"transfer_id": self._what.transfer_id, "tries": tries}
        self._renewed = time.monotonic()

    @property
    def source_name(self) -> str:
        """The storage that it is brought from; empty: there is none."""
        return self._source.source if self._source is not None else ""

    def carry(self) -> list[tuple[int, str]]:
        """Move, then wake; or back off; or give up: then the PandaIDs that wait in vain, with a sentence."""
        try:
            return self._carry()
        except Superseded:
            log.info("transfer is somebody else's now", transfer_id=self._what.transfer_id)
            return []

    def _carry(self) -> list[tuple[int, str]]:
        if not self._is_there:
            if self._tries > self._settings.transfer_tries:
                return self._give_up(self._what.error or "its movers died")
            try:
                self._move()
            except Superseded:
                raise
            except Underway as underway:
                with self._begin() as connection:
                    values = {"error": str(underway)[:2000], "for_s": underway.look_again_s}
                    run(connection, POSTPONE, self._key | values)
                return []
            except (OSError, PandaError) as problem:
                return self._failed(_words(problem), _code(problem))
        self._wake()
        return []

    def _move(self) -> None:
        source = self._source
        if self._what.to_status != "online":
            raise Unavailable(f"storage {self._what.destination} is {self._what.to_status}")
        if source is None:
            raise Unavailable("it has no replica on a storage that is online and not in downtime")
        if source.stager and source.recall_status != "online":
            raise Unavailable(f"tape {source.source}: {source.recall_error or 'the file is not online'}")
        original = Place(source.from_root, source.path)
        arrival = Place(self._what.to_root, _path_there(source.path, self._what))
        expected = Content(self._what.size_bytes, self._what.adler32)
        _copy(source.from_kind, original, self._what.to_kind, arrival, expected, self._keep_lease)
        with self._begin() as connection:
            asynchronous(connection)
            # Who attached before now will be woken; who comes later finds the file.
            is_copy = all(row.is_copy for row in rows(connection, HOLD, self._key))
            place = (self._what.file_id, self._what.destination, arrival.path)
            place_replicas(connection, [place], is_copy=is_copy)

    def _keep_lease(self) -> None:
        if time.monotonic() - self._renewed < self._settings.transfer_lease_s / 3:
            return
        with self._begin() as connection:
            renewed = run(connection, RENEW, self._key | {"lease_s": float(self._settings.transfer_lease_s)})
        if not renewed:
            raise Superseded("another mover has this transfer now")
        self._renewed = time.monotonic()

    def _wake(self) -> None:
        ended = False
        while not ended:
            with self._begin() as connection:
                asynchronous(connection)
                n = waiting.count_down(connection, self._what.transfer_id)
                ended = n < waiting.CHUNK and self._end(connection, "done", None)

    def _failed(self, problem: str, code: str) -> list[tuple[int, str]]:
        log.warning("transfer failed", transfer_id=self._what.transfer_id, tries=self._tries, problem=problem)
        with self._begin() as connection:
            asynchronous(connection)
            self._count(connection, code)
            if self._source is not None and self._source.stager:
                recalls.forget_failed(connection, (self._what.file_id, self.source_name))
        if self._tries >= self._settings.transfer_tries:
            return self._give_up(problem)
        for_s = min(LONGEST_BACK_OFF_S, BACK_OFF_S * 2 ** (self._tries - 1))
        with self._begin() as connection:
            run(connection, BACK_OFF, self._key | {"error": problem[:2000], "for_s": for_s})
        return []

    def _give_up(self, problem: str) -> list[tuple[int, str]]:
        times = self._settings.transfer_tries
        why = f"{self._what.file} could not be brought to {self._what.destination} in {times} tries: {problem}"
        hopeless: list[tuple[int, str]] = []
        ended = False
        while not ended:
            with self._begin() as connection:
                n, panda_ids = waiting.give_up(connection, self._what.transfer_id, why)
                self._insist(connection)
                ended = n < waiting.CHUNK and self._end(connection, "failed", problem[:2000])
            hopeless += [(panda_id, why) for panda_id in panda_ids]
        return hopeless

    def _insist(self, connection: Connection) -> None:
        """Only the newest carrier may give up. Raises Superseded, and so undoes what it did."""
        held = rows(connection, HOLD, self._key)
        if not held or (held[0].status, held[0].tries) != ("moving", self._tries):
            raise Superseded("another mover has this transfer now")

    def _end(self, connection: Connection, status: str, error: str | None) -> bool:
        """End the transfer unless a job attached to it at the last moment. Returns whether it has ended.

        The lock comes first, in a statement of its own: only the next one sees who attached meanwhile."""
        held = rows(connection, HOLD, self._key)
        if not held or held[0].status not in ("queued", "moving"):
            return True
        has_ended = run(connection, END, self._key | {"status": status, "error": error}) == 1
        if has_ended and status == "done":
            self._count(connection)
        return has_ended

    def _count(self, connection: Connection, code: str = meters.DONE) -> None:
        n_bytes = 0 if code else self._what.size_bytes
        meters.count_transfer(connection, self.source_name, self._what.destination, code=code, size_bytes=n_bytes)


def _take(begin: Begin, transfer_id: int, settings: Settings) -> _Carrier | None:
    """Who carries this transfer now; None: somebody else does, or nobody needs to."""
    with begin() as connection:
        asynchronous(connection)
        lease_s = float(settings.data.transfer_lease_s)
        taken = rows(connection, TAKE, {"transfer_id": transfer_id, "lease_s": lease_s})
        if not taken:
            return None
        carrier = _Carrier(begin, rows(connection, SOURCES, {"transfer_id": transfer_id}), taken[0].tries, settings)
        if carrier.source_name != taken[0].source:  # the plan is older
            run(connection, SET_SOURCE, {"transfer_id": transfer_id, "source": carrier.source_name})
    return carrier


def _copy(
    from_kind: str, source: Place, to_kind: str, destination: Place, expected: Content, tick: Callable[[], None]
) -> None:
    mover = mover_of(to_kind)
    if from_kind == to_kind:
        mover.copy(source, destination, expected, tick)
        return
    draft = Place(destination.root, f"{destination.path}@{time.monotonic_ns()}")
    try:
        with mover_of(from_kind).open(source) as stream:
            mover.write(draft, stream, expected.size_bytes + 1, tick)
        found = mover.measure(draft, tick)
        if found != expected:
            raise WrongContent(source, found, expected)
        mover.rename(draft, destination.path)
    finally:
        with suppress(OSError):
            mover.remove(draft)


def _path_there(path: str, what: Row[Any]) -> str:
    """A file has the same path wherever it is kept. A copy has one of its own (`lfn@t7`, by its transfer), so that
    bringing it again never meets the deletion of an earlier one."""
    plain = _OF_COPY.sub("", path)
    return f"{plain}@t{what.transfer_id}" if what.is_copy else plain


def _code(problem: Exception) -> str:
    """What went wrong, of a short list: an error of ours, or of the system (`enospc`)."""
    if isinstance(problem, PandaError):
        return problem.code
    return errno.errorcode.get(getattr(problem, "errno", None) or 0, "os_error").lower()


def _words(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.strerror}: {problem.filename}"
    return str(problem)


def _late_sentence(lacking: Sequence[Row[Any]]) -> str:
    if not lacking:
        return "its files were not in place in time"
    first = lacking[0]
    others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    because = f" ({first.error})" if first.error else ""
    return f"{first.file}{others} did not reach {first.destination} in time{because}"

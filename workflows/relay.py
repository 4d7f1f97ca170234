"""The relay: runnable rows become chains. The one road from the database to Celery.

Each turn it expands or releases a chunk of a job set, advances what operators asked for, claims runnable
rows and sends them in groups. It sleeps until a notice or for `poll_s`. Any number of relays may run; when
one dies its rows are due again after `resend_s`. It keeps few groups outstanding in each lane, so Redis
holds seconds of work; and it is the one module that knows Redis beyond Celery: a mark there tells whether
it was erased.
"""

import secrets
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import psycopg
from kombu.exceptions import OperationalError as RedisDown
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from panda import collector, incident_log, logs
from panda.dataservice import admission, transfers
from panda.db.session import Begin, once, rows
from panda.jobs import expansion, kill, relaying
from panda.jobs.submission import CHANNEL
from panda.logs import Log
from panda.settings import Settings, current
from workflows.app import DATA, FINAL, STAGES, app, begin
from workflows.chain import chain_from
from workflows.transfer import transfer

log = Log("panda.relay")

EPOCH_KEY = "panda:epoch"
#: What there is to do, told by the indexes that each step would use: one statement for a turn without work. Of a lane
#: that fills up for a moment nothing is asked: where all is sent, that means to pass by all of it.
LOOK = """
SELECT EXISTS (SELECT FROM jobsets WHERE n_expanded < n_jobs) AS expand,
    EXISTS (SELECT FROM jobsets WHERE released_at IS NULL AND open_parents = 0 AND n_expanded > n_released) AS release,
    EXISTS (SELECT FROM jobsets WHERE cancel_requested_at IS NOT NULL AND ended_at IS NULL) AS cancel,
    %(may_final)s::boolean AND EXISTS (SELECT FROM job_due WHERE waits_for IS NULL AND final
        AND (deliveries = 0 OR due_at <= (SELECT panda_now()))) AS final,
    %(may_stages)s::boolean AND EXISTS (SELECT FROM job_due WHERE waits_for IS NULL AND NOT final
        AND (deliveries = 0 OR due_at <= (SELECT panda_now()))) AS stages,
    EXISTS (SELECT FROM transfers WHERE status = 'queued' AND due_at <= (SELECT panda_now())) AS data
"""
#: Between two looks at Redis' mark.
EPOCH_S = 1.0
#: A relay that had nothing to do for so long looks so many times less often; a notice wakes it all the same.
QUIET_S, QUIET_TIMES = 2.0, 4
#: After a store refused us.
PAUSE_S = 0.5
REDIS_PROBLEMS = (RedisDown, RedisError, ConnectionError, OSError)
DATABASE_PROBLEMS = (psycopg.OperationalError, OperationalError, PoolTimeout)
#: A step that raises for a reason of its own rests so long; twice as long each further time.
FIRST_REST_S, LONGEST_REST_S = 0.5, 30.0


class _Rest(NamedTuple):
    rest_s: float
    until: float  #: monotonic seconds


class Relay:
    """One relay. `turn()` does everything once; `run()` turns until it is told to stop."""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings
        self._redis = Redis.from_url(settings.store.redis_client_url, socket_timeout=5, socket_connect_timeout=5)
        self._epoch_seen_at = 0.0
        self._send_after = dict.fromkeys((FINAL, STAGES), 0.0)
        self._rests: dict[str, _Rest] = {}
        self._stopped = False
        self._unsure = True  # what an earlier relay sent may be lost

    def stop(self, *_: Any) -> None:
        """Finish this turn, then leave."""
        self._stopped = True

    def run(self) -> None:
        """Turn until stopped. Survives the loss of either store."""
        while not self._stopped:
            try:
                with psycopg.connect(self._settings.store.database_url, autocommit=True, connect_timeout=5) as listener:
                    listener.execute(f"LISTEN {CHANNEL}")
                    self._run_with(listener)
            except DATABASE_PROBLEMS as problem:
                log.warning("the database is away", problem=str(problem).split("\n")[0])
                self._unsure = True
                time.sleep(PAUSE_S)
            except Exception:  # the relay is the one road: it says so and goes on
                log.exception("a turn of the relay failed")
                self._unsure = True
                time.sleep(PAUSE_S)

    def _run_with(self, listener: psycopg.Connection[Any]) -> None:
        poll_s, worked_at = self._settings.engine.poll_s, time.monotonic()
        while not self._stopped:
            if self.turn():
                worked_at = time.monotonic()
                continue
            is_quiet = time.monotonic() - worked_at > QUIET_S
            for _notice in listener.notifies(timeout=poll_s * QUIET_TIMES if is_quiet else poll_s, stop_after=1):
                pass

    def turn(self) -> bool:
        """One turn. Returns whether anything was done."""
        may = {"may_final": self._may_send(FINAL), "may_stages": self._may_send(STAGES)}
        with once(self._begin) as connection:
            [there] = rows(connection, LOOK, may)
        engine = self._settings.engine
        worked = there.expand and self._step("expand", lambda: expansion.expand(self._begin, engine))
        worked |= there.release and self._step("release", lambda: self._in_one(expansion.release_chunk, engine))
        worked |= there.cancel and self._step("cancel", lambda: self._in_one(kill.cancel_chunk))
        try:
            with app.pool.acquire(block=True) as redis:
                self._watch_epoch()
                worked |= there.final and self._step("final", lambda: self._send_groups(redis, FINAL))
                if there.stages or there.expand or there.release:
                    worked |= self._step("stages", lambda: self._send_groups(redis, STAGES))
                worked |= there.data and self._step("data", lambda: self._send_transfers(redis))
        except REDIS_PROBLEMS as problem:
            log.warning("Redis is away", problem=repr(problem))
            self._unsure = True
            time.sleep(PAUSE_S)
        return worked

    def _step(self, name: str, work: Callable[[], int]) -> bool:
        """One step of a turn. What raises for a reason of its own rests, and the other steps go on.

        Returns whether anything was done; a store that is away is the whole turn's matter, and rises."""
        rest = self._rests.get(name)
        if rest and time.monotonic() < rest.until:
            return False
        try:
            worked = work() > 0
        except REDIS_PROBLEMS:
            raise
        except Exception as problem:
            if _is_away(problem):
                raise
            rest_s = min(LONGEST_REST_S, 2 * rest.rest_s) if rest else FIRST_REST_S
            self._rests[name] = _Rest(rest_s, time.monotonic() + rest_s)
            self._unsure = True  # what it had claimed may not be sent
            log.exception("a step of the relay failed; the others go on", step=name, rest_s=rest_s)
            return False
        self._rests.pop(name, None)
        return worked

    def _in_one(self, piece: Callable[..., int], *more: Any) -> int:
        """A piece of work in one transaction."""
        with self._begin() as connection:
            return piece(connection, *more)

    def _watch_epoch(self) -> None:
        """Redis without our mark was erased: everything sent is made due at once (law 4)."""
        if time.monotonic() - self._epoch_seen_at < EPOCH_S and not self._unsure:
            return
        mark = cast(bytes | None, self._redis.get(EPOCH_KEY))
        new_mark = ""
        with self._begin() as connection:
            if mark is None or mark.decode() != relaying.redis_epoch(connection):
                new_mark = secrets.token_hex(8)
                n = relaying.new_epoch(connection, new_mark)
                n_transfers = transfers.resend_all(connection)
                tell = log.warning if n or n_transfers else log.info  # at the first start nothing was ever sent
                tell("Redis was erased; all that was sent is due again", jobs=n, transfers=n_transfers)
            elif self._unsure:
                relaying.resend_waiting(connection)
                transfers.resend_all(connection)
        if new_mark:  # after the commit: dying in between only repeats it
            # Only a new one: writing back the one that we saw would hide that Redis was erased since.
            self._redis.set(EPOCH_KEY, new_mark)
        self._epoch_seen_at = time.monotonic()
        self._unsure = False

    def _room(self, redis: Any, lane: str) -> int:
        """Groups that may still be sent down a lane."""
        waiting: int = redis.default_channel.queue_declare(lane).message_count
        return max(0, self._settings.engine.window_groups - waiting)

    def _may_send(self, lane: str) -> bool:
        return time.monotonic() >= self._send_after[lane]

    def _send_groups(self, redis: Any, lane: str) -> bool:
        """Send what is runnable in a lane. A lane that was emptied fills up for a moment before it is
        emptied again: a message costs the same with one job in it and with hundreds."""
        if not self._may_send(lane):
            return False
        room = self._room(redis, lane)
        if not room:
            return False
        with self._begin() as connection:
            groups = relaying.claim_groups(connection, self._settings.engine, final=lane == FINAL, n_groups=room)
        if groups and len(groups) < room:
            engine = self._settings.engine
            self._send_after[lane] = time.monotonic() + (engine.gather_final_s if lane == FINAL else engine.gather_s)
        for group in groups:
            chain_from(group.stage, group.panda_ids).apply_async(connection=redis)
        return bool(groups)

    def _send_transfers(self, redis: Any) -> bool:
        room = self._room(redis, DATA)
        if not room:
            return False
        batch = self._settings.data.batch_transfers
        with self._begin() as connection:
            ids = admission.due_ids(connection, room * batch, self._settings.engine.resend_s)
        for start in range(0, len(ids), batch):
            transfer.apply_async((ids[start : start + batch],), connection=redis)
        return bool(ids)


def _is_away(problem: Exception) -> bool:
    """Whether a store went away, rather than refused this one piece of work."""
    if isinstance(problem, DBAPIError):
        has_no_state = getattr(problem.orig, "sqlstate", None) is None
        return problem.connection_invalidated or (isinstance(problem, OperationalError) and has_no_state)
    return isinstance(problem, DATABASE_PROBLEMS)


def main() -> None:
    """`python -m workflows.relay`"""
    logs.setup()
    incident_log.install("relay", current())
    relay = Relay(begin(), current())
    signal.signal(signal.SIGTERM, relay.stop)
    signal.signal(signal.SIGINT, relay.stop)
    collector.spare()
    log.info("relay started")
    relay.run()


if __name__ == "__main__":
    main()

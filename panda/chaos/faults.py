"""The faults, by name, each with its number in the design's list. Each undoes itself before it returns."""

import hashlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from panda.chaos.ask import Line
from panda.chaos.pilots import PlayedPilot
from panda.chaos.proxy import FAIR, Proxy, Weather
from panda.chaos.system import SETTINGS, System, descendants
from panda.settings import REDIS_KEY_PREFIX, client_url

LEASE_S = float(str(SETTINGS["dispatcher_lease_s"]))
LANES = ("final", "stages", "ticks", "data")


JUMP = """
DO $$ BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION panda_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS %%L',
        (SELECT prosrc || ' + make_interval(hours => 1)' FROM pg_proc WHERE proname = 'panda_now'));
END $$
"""


@dataclass
class Lab:
    """What a fault may lay hands on."""

    system: System
    proxy: Proxy
    pilots: Sequence[PlayedPilot]
    line: Line
    """Straight to the API, as an admin."""
    random: random.Random
    stop: Event

    def redis(self) -> Redis:
        """A connection to Redis of a fault's own."""
        return Redis.from_url(client_url(self.system.redis_url), socket_timeout=5, socket_connect_timeout=5)

    def wait(self, seconds: float) -> None:
        """Let time pass; less when the lab closes."""
        self.stop.wait(seconds)


class NotPossible(Exception):
    """There is nothing to break right now, or not on this machine; the fault is told as skipped."""


Inject = Callable[[Lab], None]


@dataclass(frozen=True)
class Fault:
    name: str
    number: str
    """F1 to F40 of the design's list."""
    inject: Inject


def _kill(pids: Sequence[int], number: int = signal.SIGKILL) -> None:
    if not pids:
        raise NotPossible("nothing of the kind runs")
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def _standing_still(pids: Sequence[int]) -> Iterator[None]:
    """These processes stand still meanwhile."""
    _kill(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def kill(name: str) -> Inject:
    """kill -9 of one process of the Procfile, or of a store."""

    def inject(lab: Lab) -> None:
        _kill(lab.system.below(name)[:1])

    return inject


def kill_child(name: str) -> Inject:
    """kill -9 of something that a process started: a worker of the API, a pool child, a backend."""

    def inject(lab: Lab) -> None:
        children = lab.system.below(name)[1:]
        _kill([lab.random.choice(children)] if children else [])

    return inject


def stop(name: str, seconds: float) -> Inject:
    """A process and its children stand still, then go on: it hangs instead of refusing."""

    def inject(lab: Lab) -> None:
        with _standing_still(lab.system.below(name)):
            lab.wait(seconds)

    return inject


def kill_backend(lab: Lab) -> None:
    """PostgreSQL answers the death of one backend with the end of all, and recovers."""
    found = lab.system.query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' ORDER BY random()")
    _kill([found[0].pid] if found else [])


def terminate_connections(lab: Lab) -> None:
    lab.system.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'panda' AND pid <> pg_backend_pid()"
    )


def kill_pilot(lab: Lab) -> None:
    pilots = list(lab.system.pilots().values())
    _kill([lab.random.choice(pilots)] if pilots else [])


def stop_pilot(lab: Lab) -> None:
    pilots = list(lab.system.pilots().values())
    with _standing_still([lab.random.choice(pilots)] if pilots else []):
        lab.wait(LEASE_S + 3)


def kill_payload(lab: Lab) -> None:
    payloads = [child for pilot in lab.system.pilots().values() for child in descendants(pilot)]
    _kill([lab.random.choice(payloads)] if payloads else [])


def silent_pilots(lab: Lab) -> None:
    """Half of the played pilots fall silent for longer than their leases, then report as if nothing had been."""
    some = list(lab.pilots)[::2]
    for pilot in some:
        pilot.is_silent.set()
    lab.wait(LEASE_S + 4)
    for pilot in some:
        pilot.is_silent.clear()


def erase_redis(lab: Lab) -> None:
    with lab.redis() as redis:
        redis.flushall()


def lose_messages(lab: Lab) -> None:
    """Messages that wait in Redis are gone."""
    with lab.redis() as redis:
        for lane in LANES:
            while redis.rpop(f"{REDIS_KEY_PREFIX}{lane}") and lab.random.random() < 0.8:
                pass


def duplicate_messages(lab: Lab) -> None:
    """Messages come twice, the second time late and in another order."""
    taken: list[tuple[str, bytes]] = []
    with lab.redis() as redis:
        for _ in range(20):
            for lane in LANES:
                key = f"{REDIS_KEY_PREFIX}{lane}"
                found = redis.lrange(key, 0, 5)
                taken += [(key, message) for message in found if isinstance(message, bytes)]
            time.sleep(0.02)
        if not taken:
            raise NotPossible("no message waited")
        lab.wait(1.0)
        lab.random.shuffle(taken)
        for key, message in taken:
            redis.lpush(key, message)


def bad_messages(lab: Lab) -> None:
    """Messages that are none, or name a task that does not exist."""
    with lab.redis() as redis:
        redis.lpush(f"{REDIS_KEY_PREFIX}stages", b"this is no message")
        redis.lpush(f"{REDIS_KEY_PREFIX}stages", b'{"body": "e30=", "headers": {}, "properties": {}}')


def redis_full(lab: Lab) -> None:
    """Redis takes nothing any more: out of memory, and no key may go."""
    with lab.redis() as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", "1mb")
        try:
            lab.wait(5)
        finally:
            redis.config_set("maxmemory", "0")


def lock_tables(lab: Lab) -> None:
    """Somebody holds a lock on what every job passes through: the database is slow for all."""
    with psycopg.connect(lab.system.database_url, connect_timeout=5) as holder:
        holder.execute("LOCK TABLE job_due IN ACCESS EXCLUSIVE MODE")
        lab.wait(4)


def jump_ahead(lab: Lab) -> None:
    """The one clock jumps by an hour, for good: every lease has run out."""
    lab.system.query(JUMP)


def weather(what: Weather, seconds: float) -> Inject:
    """The network between clients, played pilots and the API misbehaves for a while."""

    def inject(lab: Lab) -> None:
        lab.proxy.weather = what
        try:
            lab.wait(seconds)
        finally:
            lab.proxy.weather = FAIR

    return inject


def full_disk(lab: Lab) -> None:
    """The disk of logs and sandboxes is full for a while."""
    if not lab.system.has_small_disk:
        raise NotPossible("no disk of its own could be mounted")
    filler = lab.system.folder / "spool" / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    lab.wait(4)
    filler.unlink()


def half_upload(lab: Lab) -> None:
    """A client goes away in the middle of a sandbox; then the name must not exist."""
    content = lab.random.randbytes(200_000)
    name = hashlib.sha256(content).hexdigest()
    with suppress(OSError), socket.create_connection((lab.line.host, lab.line.port), timeout=5) as line:
        head = f"PUT /v1/sandboxes/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lab.system.token}\r\n"
        line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:70_000])
    lab.wait(1)
    if lab.line.json("GET", f"/v1/sandboxes/{name}").is_ok:
        raise AssertionError(f"half of sandbox {name} is taken for the whole")


def close_queue(lab: Lab) -> None:
    """A queue goes offline under its jobs, and comes back."""
    lab.line.json("POST", "/v1/queues/PLAYED-Q/status", {"status": "offline", "reason": "chaos"})
    lab.wait(3)
    open_queue_again(lab.line)


def open_queue_again(line: Line) -> None:
    """Whatever was cut short: the queue is open."""
    for _ in range(60):
        if line.json("POST", "/v1/queues/PLAYED-Q/status", {"status": "online", "reason": "chaos is over"}).is_ok:
            return
        time.sleep(1)


FAULTS: tuple[Fault, ...] = (
    Fault("kill-api", "F1", kill("api")),
    Fault("kill-api-worker", "F1", kill_child("api")),
    Fault("kill-pool-child", "F2", kill_child("stages")),
    Fault("kill-stage-worker", "F3", kill("stages")),
    Fault("kill-data-worker", "F3", kill("data")),
    Fault("kill-relay", "F3", kill("relay")),
    Fault("kill-beat", "F31", kill("beat")),
    Fault("kill-harvester", "F3", kill("pilots")),
    Fault("kill-monitor", "F3", kill("monitor")),
    Fault("stop-stage-worker", "F4", stop("stages", 4)),
    Fault("stop-stage-worker-beyond-visibility", "F5", stop("stages", 18)),
    Fault("stop-api", "F8", stop("api", 4)),
    Fault("stop-relay", "F5", stop("relay", 4)),
    Fault("stop-beat", "F31", stop("beat", 8)),
    Fault("stop-data-worker", "F5", stop("data", 4)),
    Fault("kill-redis", "F6", kill("redis")),
    Fault("stop-redis", "F8", stop("redis", 6)),
    Fault("erase-redis", "F9", erase_redis),
    Fault("redis-out-of-memory", "F10", redis_full),
    Fault("kill-database-backend", "F11", kill_backend),
    Fault("kill-database", "F11", kill("postgres")),
    Fault("stop-database", "F11", stop("postgres", 4)),
    Fault("cut-database-connections", "F12", terminate_connections),
    Fault("lock-held", "F13", lock_tables),
    Fault("kill-pilot", "F15", kill_pilot),
    Fault("kill-payload", "F27", kill_payload),
    Fault("stop-pilot-beyond-lease", "F16", stop_pilot),
    Fault("silent-pilots", "F16", silent_pilots),
    Fault("lost-answers", "F19", weather(Weather(lost_answers=0.3), 4)),
    Fault("cut-requests", "F20", weather(Weather(cut=0.3), 4)),
    Fault("partition", "F21", weather(Weather(hold=True), 4)),
    Fault("partition-beyond-lease", "F21", weather(Weather(hold=True), LEASE_S + 4)),
    Fault("slow-network", "F22", weather(Weather(delay_s=0.4), 4)),
    Fault("one-byte-chunks", "F22", weather(Weather(chunk_bytes=7), 3)),
    Fault("busy-server", "F14", weather(Weather(busy=0.5), 3)),
    Fault("clock-jumps-an-hour", "F23", jump_ahead),
    Fault("full-disk", "F24", full_disk),
    Fault("half-upload", "F1", half_upload),
    Fault("bad-messages", "F29", bad_messages),
    Fault("duplicate-messages", "F5", duplicate_messages),
    Fault("lost-messages", "F4", lose_messages),
    Fault("queue-offline", "F34", close_queue),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
#: A store that is being broken refuses the fault itself; it was broken all the same.
REFUSED = (psycopg.Error, RedisError, OSError)

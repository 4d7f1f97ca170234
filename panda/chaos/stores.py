"""Faults of the two stores: they forget, repeat, refuse, hang, lock, lie about the time."""

import shutil
import threading
import time
from contextlib import suppress

import psycopg

from panda.chaos.lab import Lab, NotPossible, send, standing_still
from panda.settings import REDIS_KEY_PREFIX

LANES = ("final", "stages", "ticks", "data")

JUMP = """
DO $$ BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION panda_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS %%L',
        (SELECT prosrc || ' + make_interval(hours => 1)' FROM pg_proc WHERE proname = 'panda_now'));
END $$
"""
BACKENDS = """
SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random()
"""
CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
#: Of one job, which is still to come, no move on the road may be written.
POISON = """
CREATE OR REPLACE FUNCTION chaos_poison() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'this row is poison'; END $$;
CREATE OR REPLACE TRIGGER chaos_poison BEFORE UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.panda_id = {0} AND NEW.status IN ('defined', 'assigned', 'activated'))
    EXECUTE FUNCTION chaos_poison();
"""
CURE = "DROP TRIGGER IF EXISTS chaos_poison ON jobs"
NEWEST_ID = "SELECT last_value::bigint AS panda_id FROM panda_id_seq"
UNDER_WAY = "SELECT panda_id FROM job_due WHERE waits_for IS NULL ORDER BY panda_id DESC LIMIT 60"


def erase_redis(lab: Lab) -> None:
    """FLUSHALL."""
    with lab.redis() as redis:
        redis.flushall()


def lose_redis_files(lab: Lab) -> None:
    """Redis dies, and its files are gone when it comes back."""
    _exchange_files(lab, is_empty=True)


def stale_redis(lab: Lab) -> None:
    """Redis dies, and what comes back is as it was some seconds ago: a failover to a replica that lagged behind."""
    _exchange_files(lab, is_empty=False)


def _exchange_files(lab: Lab, *, is_empty: bool) -> None:
    data = lab.system.folder / "redis" / "data"
    if not data.is_dir():
        raise NotPossible("this Redis is not ours")
    then, gone = data.with_name("data.then"), data.with_name("data.gone")
    for folder in (then, gone):
        shutil.rmtree(folder, ignore_errors=True)
    if is_empty:
        then.mkdir(mode=0o700)
    else:
        shutil.copytree(data, then)
        lab.wait(3)
    data.rename(gone)  # the server goes on with the files that it has open
    then.rename(data)
    send(lab.system.below("redis")[:1])
    shutil.rmtree(gone, ignore_errors=True)


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


def cut_redis_connections(lab: Lab) -> None:
    """Every connection to Redis is closed by the other side."""
    with lab.redis() as redis:
        for kind in ("normal", "pubsub"):
            redis.client_kill_filter(_type=kind, skipme=True)


def kill_backend(lab: Lab) -> None:
    """PostgreSQL answers the death of one backend with the end of all, and recovers."""
    send(_backends(lab)[:1])


def hang_backends(lab: Lab) -> None:
    """Half of the connections to the database hang, with whatever they have locked; the others do not."""
    found = _backends(lab)
    with standing_still(found[: (len(found) + 1) // 2]):
        lab.wait(3)


def _backends(lab: Lab) -> list[int]:
    """Pids of all that serve a connection to the database, in any order.

    Raises NotPossible: it is not the lab's own, and its pids are perhaps another machine's."""
    if not lab.system.pid("postgres"):
        raise NotPossible("this database is not ours, or does not run")
    return [row.pid for row in lab.system.query(BACKENDS)]


def cut_connections(lab: Lab) -> None:
    """Every connection to the database is closed by the other side, in whatever it did."""
    lab.system.query(CUT)


def lock_tables(lab: Lab) -> None:
    """Somebody holds a lock on what every job passes through: the database is slow for all."""
    with psycopg.connect(lab.system.database_url, connect_timeout=5) as holder:
        holder.execute("LOCK TABLE job_due IN ACCESS EXCLUSIVE MODE")
        lab.wait(4)


def deadlocks(lab: Lab) -> None:
    """Two people lock jobs in the wrong order, again and again; of two that wait for each other the database ends
    the one that notices first, which is never them."""
    until = time.monotonic() + 4
    people = [threading.Thread(target=_lock_downwards, args=(lab, until), daemon=True) for _ in range(2)]
    for each in people:
        each.start()
    for each in people:
        each.join(20)


def _lock_downwards(lab: Lab, until: float) -> None:
    while time.monotonic() < until and not lab.stop.is_set():
        with suppress(psycopg.Error), psycopg.connect(lab.system.database_url, connect_timeout=5) as person:
            person.execute("SET deadlock_timeout = '3s'")
            person.execute("SET statement_timeout = '4s'")
            ids = [row[0] for row in person.execute(UNDER_WAY).fetchall()]
            for panda_id in ids:
                person.execute("SELECT FROM job_due WHERE panda_id = %s FOR UPDATE", [panda_id])
        time.sleep(0.05)


def poison_row(lab: Lab) -> None:
    """One row among many makes every statement that moves it fail."""
    at = int(lab.system.query(NEWEST_ID)[0].panda_id) + 40
    with psycopg.connect(lab.system.database_url, connect_timeout=5, autocommit=True) as owner:
        owner.execute("SET lock_timeout = '4s'")
        owner.execute(POISON.format(at).encode())
    try:
        lab.wait(4)
    finally:
        cure(lab)


def cure(lab: Lab) -> None:
    """No row is poison any more; whatever becomes of the database meanwhile."""
    for _ in range(60):
        with suppress(psycopg.Error):
            lab.system.query(CURE)
            return
        time.sleep(1)


def jump_ahead(lab: Lab) -> None:
    """The one clock jumps by an hour, for good: every lease has run out."""
    lab.system.query(JUMP)

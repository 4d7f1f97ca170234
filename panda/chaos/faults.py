"""The faults of the lab, by name, each with its number in the catalogue. Each undoes itself before it returns."""

import psycopg
from redis.exceptions import RedisError

from panda.chaos import people, places, processes, stores
from panda.chaos.lab import Fault
from panda.chaos.proxy import Weather

FAULTS: tuple[Fault, ...] = (
    Fault("kill-api", "F1", processes.kill("api")),
    Fault("kill-api-worker", "F1", processes.kill_child("api")),
    Fault("kill-pool-child", "F2", processes.kill_child("stages")),
    Fault("kill-stage-worker", "F3", processes.kill("stages")),
    Fault("kill-data-worker", "F3", processes.kill("data")),
    Fault("kill-relay", "F3", processes.kill("relay")),
    Fault("kill-beat", "F31", processes.kill("beat")),
    Fault("kill-harvester", "F3", processes.kill("pilots")),
    Fault("kill-monitor", "F3", processes.kill("monitor")),
    Fault("stop-stage-worker", "F4", processes.stop("stages", 4)),
    Fault("stop-stage-worker-beyond-visibility", "F5", processes.stop("stages", 18)),
    Fault("stop-api", "F8", processes.stop("api", 4)),
    Fault("stop-relay", "F5", processes.stop("relay", 4)),
    Fault("stop-beat", "F31", processes.stop("beat", 8)),
    Fault("stop-data-worker", "F5", processes.stop("data", 4)),
    Fault("kill-redis", "F6", processes.kill("redis")),
    Fault("stop-redis", "F8", processes.stop("redis", 6)),
    Fault("erase-redis", "F9", stores.erase_redis),
    Fault("redis-out-of-memory", "F10", stores.redis_full),
    Fault("kill-database-backend", "F11", stores.kill_backend),
    Fault("kill-database", "F11", processes.kill("postgres")),
    Fault("stop-database", "F11", processes.stop("postgres", 4)),
    Fault("cut-database-connections", "F12", stores.cut_connections),
    Fault("lock-held", "F13", stores.lock_tables),
    Fault("kill-pilot", "F15", people.kill_pilot),
    Fault("kill-payload", "F27", people.kill_payload),
    Fault("stop-pilot-beyond-lease", "F16", people.stop_pilot),
    Fault("silent-pilots", "F16", people.silent_pilots),
    Fault("lost-answers", "F19", places.weather(Weather(lost_answers=0.3), 4)),
    Fault("cut-requests", "F20", places.weather(Weather(cut=0.3), 4)),
    Fault("partition", "F21", places.weather(Weather(hold=True), 4)),
    Fault("partition-beyond-lease", "F21", places.weather(Weather(hold=True), people.LEASE_S + 4)),
    Fault("slow-network", "F22", places.weather(Weather(delay_s=0.4), 4)),
    Fault("one-byte-chunks", "F22", places.weather(Weather(chunk_bytes=7), 3)),
    Fault("busy-server", "F14", places.weather(Weather(busy=0.5), 3)),
    Fault("clock-jumps-an-hour", "F23", stores.jump_ahead),
    Fault("full-disk", "F24", places.full_disk("spool", 4)),
    Fault("half-upload", "F1", people.half_upload),
    Fault("bad-messages", "F29", stores.bad_messages),
    Fault("duplicate-messages", "F5", stores.duplicate_messages),
    Fault("lost-messages", "F4", stores.lose_messages),
    Fault("queue-offline", "F34", people.close_queue),
    Fault("lost-redis-files", "F7", stores.lose_redis_files),
    Fault("stale-redis", "F39", stores.stale_redis),
    Fault("cut-redis-connections", "F21", stores.cut_redis_connections),
    Fault("hang-half-of-the-backends", "F21", stores.hang_backends),
    Fault("deadlocks", "F13", stores.deadlocks),
    Fault("poison-row", "F35", stores.poison_row),
    Fault("crowd-of-pilots", "F17", people.crowd),
    Fault("contradicting-people", "F33", people.contradict),
    Fault("nonsense", "F28", people.nonsense),
    Fault("few-file-handles", "F26", processes.few_handles),
    Fault("little-memory", "F26", processes.little_memory),
    Fault("rolling-restart", "F32", processes.rolling_restart),
    Fault("read-only-disk", "F25", places.read_only_disk),
    Fault("full-redis-disk", "F24", places.full_disk("redis", 4)),
    Fault("full-database-disk", "F24", places.full_disk("postgres", 3)),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
#: A store that is being broken refuses the fault itself; it was broken all the same.
REFUSED = (psycopg.Error, RedisError, OSError)

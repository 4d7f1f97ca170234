"""Is each part alive, and one number about it. Each probe answers within about a second, or says why not."""

import http.client
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import redis
from sqlalchemy.engine import Connection

from monitoring.celery_side import CeleryView
from monitoring.reads import queries
from monitoring.reads.blocks import Reader
from monitoring.show.looks import count, duration, size
from panda.settings import REDIS_KEY_PREFIX, Settings, client_url

PROBE_S = 1.0
#: What `workflows.app` calls them; faces never import each other.
LANES = ("final", "stages", "data", "ticks")
RELAY_LATE_S, TICKS_LATE_S, TRANSFERS_LATE_S = 5.0, 120.0, 60.0


@dataclass(frozen=True)
class Part:
    """A cell of the health strip. `state`: ok, warn, down or unknown."""

    name: str
    state: str
    told: str
    link: str = ""
    since: datetime | None = None
    """When this process saw it come into that state; None: it was so when it looked first."""


class Health:
    """Probes the parts of one installation."""

    def __init__(self, settings: Settings, reader: Reader, celery: CeleryView) -> None:
        self._settings, self._reader, self._celery = settings, reader, celery
        url = settings.store.redis_url
        self._redis = (
            redis.Redis.from_url(client_url(url), socket_timeout=PROBE_S, socket_connect_timeout=PROBE_S)
            if url
            else None
        )
        self._seen: dict[str, tuple[str, datetime | None]] = {}
        self._guard = threading.Lock()

    def parts(self, pilots: Sequence[queries.Facts] | None) -> list[Part]:
        """The strip, left to right. `pilots`: rows of `pilots_alive.PILOTS`, None if they could not be read."""
        found = [
            self._api(),
            self._database(),
            self._redis_part(),
            self._workers(),
            self._relay(),
            self._ticks(),
            _pilots(pilots),
            self._transfers(),
        ]
        return [replace(part, since=self._since(part)) for part in found]

    def _since(self, part: Part) -> datetime | None:
        now = datetime.now(UTC)  # for people; what is measured here is this process's own look
        with self._guard:
            state, since = self._seen.get(part.name, (part.state, None))
            if state != part.state:
                since = now
            self._seen[part.name] = (part.state, since)
            return since

    def lanes(self) -> dict[str, int | None]:
        """Messages that wait in each Celery lane; None while Redis does not answer."""
        if self._redis is None:
            return dict.fromkeys(LANES)
        try:
            return {lane: int(self._redis.llen(REDIS_KEY_PREFIX + lane)) for lane in LANES}
        except (redis.RedisError, OSError):
            return dict.fromkeys(LANES)

    def _api(self) -> Part:
        host = self._settings.api.host
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1"
        connection = http.client.HTTPConnection(host, self._settings.api.port, timeout=PROBE_S)
        try:
            connection.request("GET", "/readyz")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return Part("API", "down", "does not answer")
        finally:
            connection.close()
        return (
            Part("API", "ok", f"port {self._settings.api.port}")
            if status < 400
            else Part("API", "warn", f"not ready ({status})")
        )

    def _database(self) -> Part:
        found = self._reader.block(lambda c: queries.facts(c, queries.DATABASE)[0])
        if found.value is None:
            return Part("Database", "down", found.trouble or "")
        used, allowed = found.value["n_connections"], found.value["n_allowed"]
        return Part("Database", "warn" if used > 0.85 * allowed else "ok", f"{used} of {allowed} sessions")

    def _redis_part(self) -> Part:
        if self._redis is None:
            return Part("Redis", "unknown", "none is named")
        try:
            used = self._redis.info("memory").get("used_memory")
        except (redis.RedisError, OSError):
            return Part("Redis", "down", "does not answer; jobs wait")
        return Part("Redis", "ok", f"{size(used)} in use")

    def _workers(self) -> Part:
        workers = self._celery.workers()
        alive = [worker for worker in workers if worker.is_alive]
        if not workers:
            return Part("Celery", "unknown", "no events yet", "/flower/")
        active = sum(worker.n_active for worker in alive)
        told = f"{len(alive)} worker{'s' if len(alive) != 1 else ''} · {active} busy"
        return Part("Celery", "ok" if alive else "down", told, "/flower/")

    def _relay(self) -> Part:
        found = self._reader.block(lambda c: queries.facts(c, queries.RELAY)[0])
        if found.value is None:
            return Part("Relay", "down", found.trouble or "")
        behind, n_due = found.value["behind_s"], found.value["n_due"]
        if not n_due or behind is None:
            return Part("Relay", "ok", "nothing due")
        told = f"{_capped(n_due)} due · {duration(behind)} late"
        return Part("Relay", "warn" if behind > RELAY_LATE_S else "ok", told)

    def _ticks(self) -> Part:
        found = self._reader.block(lambda c: queries.facts(c, queries.TICKS)[0])
        if found.value is None:
            return Part("Beat", "down", found.trouble or "")
        if found.value["ago_s"] is None:
            return Part("Beat", "unknown", "no tick yet")
        ago_s = found.value["ago_s"]
        return Part("Beat", "warn" if ago_s > TICKS_LATE_S else "ok", f"{duration(ago_s)} ago")

    def _transfers(self) -> Part:
        def ask(connection: Connection) -> queries.Facts:
            return queries.facts(connection, queries.TRANSFERS)[0]

        found = self._reader.block(ask)
        if found.value is None:
            return Part("Transfers", "down", found.trouble or "")
        queued, moving, behind = (found.value[key] for key in ("n_queued", "n_moving", "behind_s"))
        if not queued and not moving:
            return Part("Transfers", "ok", "none on the way")
        late = behind is not None and behind > TRANSFERS_LATE_S
        return Part("Transfers", "warn" if late else "ok", f"{_capped(moving)} moving · {_capped(queued)} queued")


def _pilots(found: Sequence[queries.Facts] | None) -> Part:
    if found is None:
        return Part("Pilots", "unknown", "unavailable")
    n, cores = sum(row["n"] for row in found), sum(row["cores"] or 0 for row in found)
    return Part("Pilots", "ok" if n else "unknown", f"{count(n)} · {count(cores)} cores" if n else "none alive")


def _capped(n: int) -> str:
    return "> 10,000" if n > 10_000 else count(n)

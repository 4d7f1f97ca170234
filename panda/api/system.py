"""The service itself: is it alive, is it ready, who am I, and tokens for others."""

from typing import Any

import falcon
import msgspec
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from panda import __version__
from panda.api import schemas
from panda.api.access import allowed, public
from panda.api.answers import show
from panda.api.body import Body
from panda.auth import audit_log, tokens
from panda.auth.policy import Action
from panda.db.migrate import is_current
from panda.db.session import Begin
from panda.logs import Log
from panda.settings import client_url

log = Log("panda.api")

LINKS = {
    "jobsets": "/v1/jobsets",
    "jobs": "/v1/jobs",
    "datasets": "/v1/datasets",
    "queues": "/v1/queues",
    "sites": "/v1/sites",
    "storages": "/v1/storages",
    "whoami": "/v1/whoami",
    "healthz": "/healthz",
    "readyz": "/readyz",
}
#: Seconds that Redis has for an answer.
REDIS_TIMEOUT_S = 1.0


class RootResource:
    """/"""

    @public()
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        show(resp, {"name": "PanDA", "version": __version__, "links": LINKS})


class AliveResource:
    """/healthz"""

    @public()
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """This process answers; nothing else is looked at."""
        show(resp, {"status": "ok"})


class ReadyResource:
    """/readyz"""

    def __init__(self, begin: Begin, redis_url: str) -> None:
        self._begin = begin
        self._redis = _redis_at(redis_url)
        self._is_migrated = False

    @public()
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Which part is down. Without Redis jobs are accepted and wait: that is `degraded`, not `down`."""
        parts = {"database": "ok", "migrations": "ok", "redis": self._redis_state()}
        try:
            with self._begin() as connection:
                # The revision is compared until it fits once; a newer database never goes back.
                self._is_migrated = self._is_migrated or is_current(connection)
                connection.exec_driver_sql("SELECT 1")
        except SQLAlchemyError as problem:
            log.warning("database unavailable", problem=type(problem).__name__)
            parts |= {"database": "down", "migrations": "unknown"}
        else:
            if not self._is_migrated:
                parts["migrations"] = "behind"
        is_up = parts["database"] == "ok" and parts["migrations"] == "ok"
        status = "down" if not is_up else "degraded" if parts["redis"] == "down" else "ok"
        if not is_up:
            resp.status = falcon.HTTP_503
            resp.set_header("Retry-After", "2")
        show(resp, schemas.Ready(status=status, parts=parts))

    def _redis_state(self) -> str:
        if self._redis is None:
            return "not configured"
        try:
            self._redis.ping()
        except (RedisError, OSError):
            return "down"
        return "ok"


class WhoAmIResource:
    """/v1/whoami"""

    @allowed(Action.WHO_AM_I)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        identity = req.context.identity
        show(resp, schemas.WhoAmI(subject=identity.subject, roles=sorted(identity.roles), queue=identity.queue))


class TokensResource:
    """/v1/tokens"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.TokenRequest, max_mb)

    @allowed(Action.CREATE_TOKEN)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a token for somebody, who becomes a user with these roles if they are none yet."""
        asked = self._body.read(req)
        facts: dict[str, Any] = msgspec.to_builtins(asked)
        with self._begin() as connection:
            plain = tokens.create(connection, asked.owner, asked.roles, asked.label, asked.ttl_s, queue=asked.queue)
            audit_log.record(
                connection, req.context.identity.subject, "create_token", asked.owner, facts=facts,
                request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_201
        resp.set_header("Cache-Control", "no-store")
        show(resp, schemas.TokenCreated(token=plain, owner=asked.owner, roles=asked.roles))


def _redis_at(url: str) -> "Redis | None":
    """A client for an address as Celery writes it; it connects at its first question."""
    if not url:
        return None
    return Redis.from_url(client_url(url), socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S)

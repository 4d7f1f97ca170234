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
from panda.api.described import Page, gives
from panda.api.listing import LIST, LIST_PROBLEMS, of_owner, show_list
from panda.api.parameters import word
from panda.auth import audit_log, policy, tokens
from panda.auth.nouns import TOKENS, USERS
from panda.auth.policy import Action
from panda.db import lists
from panda.db.migrate import is_current
from panda.db.session import Begin
from panda.jobs import gauges
from panda.logs import Log
from panda.names import checked
from panda.settings import Settings, client_url

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
    "openapi": "/openapi.json",
    "docs": "/docs",
}
#: What is said of a part when jobs wait because of it; one that was not seen yet may be about to start.
NOT_WELL = frozenset({"down", "late", "silent", "not seen"})
#: Seconds that Redis has for an answer.
REDIS_TIMEOUT_S = 1.0


class RootResource:
    """/"""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @public()
    @gives(schemas.Root)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Name, version, links; `monitor` is the address of the pages."""
        links = {**LINKS, "monitor": self._monitor(req)}
        show(resp, {"name": "PanDA", "version": __version__, "links": links})

    def _monitor(self, req: falcon.Request) -> str:
        """As the settings say; else on the same host, where it listens on all addresses."""
        monitor = self._settings.monitor
        if monitor.url:
            return monitor.url.rstrip("/")
        host = req.host if monitor.host in ("", "0.0.0.0", "::") else monitor.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._settings.monitor_port}"


class AliveResource:
    """/healthz"""

    @public()
    @gives(schemas.Alive)
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
    @gives(schemas.Ready, status=(200, 503))
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Which part is down. Without Redis, relay, beat or workers jobs are accepted and wait: `degraded`,
        also as long as these were not seen since the installation began."""
        parts = {"database": "ok", "migrations": "ok", "redis": self._redis_state()}
        parts |= dict.fromkeys(("relay", "beat", "workers"), "unknown")
        try:
            with self._begin() as connection:
                # The revision is compared until it fits once; a newer database never goes back.
                self._is_migrated = self._is_migrated or is_current(connection)
                if self._is_migrated:
                    parts |= gauges.parts(connection)
        except SQLAlchemyError as problem:
            log.warning("database unavailable", problem=type(problem).__name__)
            parts |= {"database": "down", "migrations": "unknown"}
        else:
            if not self._is_migrated:
                parts["migrations"] = "behind"
        is_up = parts["database"] == "ok" and parts["migrations"] == "ok"
        status = "down" if not is_up else "ok" if NOT_WELL.isdisjoint(parts.values()) else "degraded"
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
    @gives(schemas.WhoAmI)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Who the caller is, with which roles."""
        identity = req.context.identity
        show(resp, schemas.WhoAmI(subject=identity.subject, roles=sorted(identity.roles), queue=identity.queue))


class TokensResource:
    """/v1/tokens"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.TokenRequest, max_mb)

    @allowed(Action.CREATE_TOKEN)
    @gives(
        schemas.TokenCreated,
        status=201,
        takes=schemas.TokenRequest,
        problems={422: "bad_name queue_without_pilot unknown_role unknown_queue"},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a token for somebody, who becomes a user with these roles if they are none yet: `user_made` says so."""
        asked = self._body.read(req)
        facts: dict[str, Any] = msgspec.to_builtins(asked)
        with self._begin() as connection:
            if asked.queue:
                tokens.require_queue(connection, asked.queue)
            is_new = lists.one(connection, USERS, checked(asked.owner, "owner")) is None
            plain = tokens.create(connection, asked.owner, asked.roles, asked.label, asked.ttl_s, queue=asked.queue)
            audit_log.record(
                connection, req.context.identity.subject, "create_token", asked.owner, facts=facts,
                request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_201
        resp.set_header("Cache-Control", "no-store")
        show(resp, schemas.TokenCreated(token=plain, owner=asked.owner, roles=asked.roles, user_made=is_new))

    @allowed(Action.READ_TOKENS, *LIST, "owner")
    @gives(Page(schemas.Token, is_list=True), problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Tokens that fit, newest first. Neither they nor their hashes are told, only what they are for."""
        owner = policy.scope(req.context.identity, Action.READ_TOKENS, word(req, "owner"))
        show_list(self._begin, req, resp, TOKENS, schemas.Token, also=of_owner(TOKENS, owner))


def _redis_at(url: str) -> "Redis | None":
    """A client for an address as Celery writes it; it connects at its first question."""
    if not url:
        return None
    return Redis.from_url(client_url(url), socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S)

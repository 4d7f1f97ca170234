"""The routes: one per call, each with its own mark of who may make it."""

from dataclasses import replace
from functools import cache
from typing import Any

import falcon

from panda.auth.access import ANY_PARAMETER, allowed, public
from panda.auth.identity import Identity, Role
from panda.db.session import Begin, rows
from panda.errors import Forbidden, PandaError, Unauthenticated, Unavailable
from panda.jobs.spool import Spool
from panda.settings import LOOPBACK, Settings
from panda.upstream import faces
from panda.upstream.calls import Asked, Call, House
from panda.upstream.faces import Answer
from panda.upstream.files import CacheResource, TrfResource
from panda.upstream.sites import DdmEndpointsResource, SchedconfigResource
from panda.upstream.table import LEGACY_CALLS, V1_CALLS
from panda.upstream.wire import words_of

App = falcon.App[falcon.Request, falcon.Response]

#: Who a caller without a token is, where the operator lets them in.
GUEST = Identity("anonymous", frozenset({Role.USER, Role.PILOT}))
#: Signs of a proxy: the caller is not on this machine.
FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
LEASE_TOKEN = """
INSERT INTO engine_state (key, value) VALUES ('upstream.lease_token', gen_random_uuid()::text || gen_random_uuid())
ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING value
"""


def install(app: App, begin: Begin, settings: Settings, spool: Spool) -> None:
    """Mount everything on `app`; nothing, where `[upstream] enabled` does not say so."""
    if not settings.upstream.enabled:
        return
    leases = replace(settings.dispatcher, lease_s=settings.upstream.lease_s)
    house = House(begin, replace(settings, dispatcher=leases), spool, _lease_token(begin))
    app.add_middleware(Entrance(settings.upstream.anonymous))
    for call in LEGACY_CALLS:
        app.add_route(f"{faces.LEGACY}{call.name}", _resource(call, house, _answer_legacy))
    for call in V1_CALLS:
        for version in ("v1", "1", "latest"):
            app.add_route(f"/api/{version}/{call.name}", _resource(call, house, _answer_v1))
    app.add_route("/cache/schedconfig/{name}", SchedconfigResource(house))
    app.add_route("/cache/ddmendpoints.json", DdmEndpointsResource(house))
    app.add_route("/cache/{name}", CacheResource(house))
    app.add_route("/trf/user/{name}", TrfResource(house))


class Entrance:
    """Falcon middleware: the face of errors, and who a caller without a token is."""

    def __init__(self, lets_guests_in: bool) -> None:
        self._lets_guests_in = lets_guests_in

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not req.path.startswith((faces.LEGACY, faces.V1)):
            return
        req.context.face = faces.tell
        is_near = req.env.get("REMOTE_ADDR") in LOOPBACK and not any(name in req.env for name in FORWARDED)
        if self._lets_guests_in and is_near:
            req.context.guest = GUEST


def _lease_token(begin: Begin) -> Any:
    @cache
    def token() -> str:
        with begin() as connection:
            return str(rows(connection, LEASE_TOKEN)[0].value)

    return token


def _resource(call: Call, house: House, answer: Any) -> Any:
    """A Falcon resource for one call. It answers GET and POST: what the other one hears, upstream decides."""

    def respond(self: Any, req: falcon.Request, resp: falcon.Response) -> None:
        answer(call, house, req, resp)

    respond.__doc__ = call.handler.__doc__
    respond.__wrapped__ = call.handler  # type: ignore[attr-defined]
    mark = allowed(call.action, ANY_PARAMETER) if call.action else public(ANY_PARAMETER)
    return type("CallResource", (), {"on_get": mark(respond), "on_post": mark(respond)})()


def _asked(house: House, req: falcon.Request, words: dict[str, Any]) -> Asked:
    identity = getattr(req.context, "identity", None) or Identity("nobody", frozenset())
    return Asked(identity, words, req, house)


def _answer_v1(call: Call, house: House, req: falcon.Request, resp: falcon.Response) -> None:
    if req.method != call.verb:
        faces.show_v1(resp, Answer(None, f"expecting {call.verb}, received {req.method}", False))
        return
    try:
        words = words_of(req, house.settings.api.max_body_mb * 1_000_000)
        said = call.handler(_asked(house, req, words))
    except Unavailable:
        raise
    except PandaError as problem:
        said = Answer(None, str(problem), False)
    faces.show_v1(resp, said if isinstance(said, Answer) else Answer(said))


def _answer_legacy(call: Call, house: House, req: falcon.Request, resp: falcon.Response) -> None:
    try:
        words = words_of(req, house.settings.api.max_body_mb * 1_000_000)
        words = {call.renames.get(name, name): value for name, value in words.items()}
        said = call.handler(_asked(house, req, words))
    except Unavailable:
        raise
    except (Forbidden, Unauthenticated) as problem:
        said = {"StatusCode": faces.DENIED, "errorDialog": str(problem)}
    except PandaError as problem:
        said = {"StatusCode": faces.FAILED, "errorDialog": str(problem)}
    if isinstance(said, Answer):
        said = said.message if said.data is None else said.data
    faces.show_legacy(req, resp, said)

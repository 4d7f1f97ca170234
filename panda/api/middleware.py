"""The gate: a name for each request, the caller's identity, leave to call.

It runs once per request, and for a pilot whose token is remembered it touches no database.
"""

import os
import re
from typing import Any

import falcon

from panda.api.errors import BadRequest
from panda.api.rates import Strangers
from panda.auth import policy
from panda.auth.access import ANY_PARAMETER, Access, access_of
from panda.auth.identity import Identity
from panda.auth.tokens import Verifier
from panda.errors import Forbidden, Unauthenticated, UnknownName

#: A request id of a client's that we take over.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
BEARER = "bearer "


class Gate:
    """Falcon middleware."""

    def __init__(self, verify: Verifier, strangers: Strangers) -> None:
        self._verify, self._strangers = verify, strangers

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = req.env.get("HTTP_X_REQUEST_ID", "")
        request_id = given if REQUEST_ID.match(given) else os.urandom(8).hex()
        req.context.request_id = request_id
        resp.set_header("X-Request-Id", request_id)
        if "\x00" in req.path:
            raise BadRequest("a path holds no NUL")

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: Any, params: dict[str, Any]
    ) -> None:
        """Raises Unauthenticated, TooManyRequests, Forbidden, UnknownName (`unknown_parameter`)."""
        responder = getattr(resource, f"on_{req.method.lower()}", None)
        if responder is None:  # Falcon answers 405, and OPTIONS, by itself
            return
        access = access_of(responder)
        if access is None:
            raise Forbidden("nobody", f"call {req.method} {req.path}")
        if access.action is not None:
            try:
                identity = self._identity(req)
            except Unauthenticated:
                self._strangers.count(req)
                raise
            policy.require(identity, access.action)
            req.context.identity = identity
        if req.query_string and ANY_PARAMETER not in access.parameters:
            _check_parameters(req, access)

    def _identity(self, req: falcon.Request) -> Identity:
        guest: Identity | None = getattr(req.context, "guest", None)  # who callers without a token are, if anybody
        return guest if guest is not None and "HTTP_AUTHORIZATION" not in req.env else self._verify(_token(req))


def _token(req: falcon.Request) -> str:
    given: str = req.env.get("HTTP_AUTHORIZATION", "")
    if not given:
        raise Unauthenticated("a token is needed: Authorization: Bearer …")
    if given[: len(BEARER)].lower() != BEARER:
        raise Unauthenticated("only `Authorization: Bearer …` is understood")
    return given[len(BEARER) :].strip()


def _check_parameters(req: falcon.Request, access: Access) -> None:
    for name, value in req.params.items():
        if name not in access.parameters:
            raise UnknownName("parameter", name, sorted(access.parameters))
        if any("\x00" in each for each in (value if isinstance(value, list) else [value])):
            raise BadRequest("a parameter holds no NUL", where=name)

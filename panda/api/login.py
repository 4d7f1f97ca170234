"""/v1/login: a token of an issuer becomes one of ours, for commands that run for hours."""

import falcon

from panda.api import schemas
from panda.api.access import allowed, public
from panda.api.answers import show
from panda.api.described import gives
from panda.auth import audit_log, tokens
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.errors import Conflict
from panda.settings import Oidc

LABEL = "panda login"


class LoginResource:
    """/v1/login"""

    def __init__(self, begin: Begin, oidc: Oidc) -> None:
        self._begin = begin
        self._oidc = oidc

    @public()
    @gives(schemas.LoginWays)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Where people log in; nothing, where there is no issuer and admins give out tokens."""
        oidc = self._oidc
        if not oidc.issuer or not oidc.client_id:
            show(resp, schemas.LoginWays(issuer=None, client_id=None, audience=None, scope=None))
            return
        show(
            resp,
            schemas.LoginWays(issuer=oidc.issuer, client_id=oidc.client_id, audience=oidc.audience, scope=oidc.scope),
        )

    @allowed(Action.LOG_IN)
    @gives(schemas.LoggedIn, status=201, problems={409: "not_vouched"})
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """A token of ours for who comes with one of the issuer's; with the same roles, as long as they have them.

        409 `not_vouched`: the token that came is ours already."""
        identity = req.context.identity
        if identity.issuer is None:
            raise Conflict("this token is one of ours already", code="not_vouched")
        roles = sorted(map(str, identity.roles))
        ttl_s = self._oidc.token_ttl_s
        with self._begin() as connection:
            plain = tokens.create(connection, identity.subject, roles, LABEL, ttl_s)
            token_id = tokens.id_of(connection, plain)
            audit_log.record(
                connection, identity.subject, "log_in", identity.subject,
                facts={"issuer": identity.issuer, "token_id": token_id}, request_id=req.context.request_id,
            )  # fmt: skip
        resp.status = falcon.HTTP_201
        resp.set_header("Cache-Control", "no-store")
        show(
            resp,
            schemas.LoggedIn(token=plain, token_id=token_id, owner=identity.subject, roles=roles, ttl_s=ttl_s),
        )

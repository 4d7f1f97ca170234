"""Tokens: which there are, a new one (shown once), and the end of one."""

from dataclasses import replace
from urllib.parse import urlencode

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.acting import Deed, Field, Sheet, SheetPage, carry_out, deed_of, whole
from monitoring.pages.listing import Listing, ListPage, ask
from monitoring.pages.page import session_of
from monitoring.show import tables
from panda.auth import audit_log, nouns, policy, tokens, users
from panda.auth.identity import Role
from panda.auth.policy import Action
from panda.errors import Invalid
from panda.query import all_of, equal_to, write

FIELDS = nouns.TOKENS.fields
#: The newest; of one person, or of everybody.
TOKENS = """
SELECT token_id, owner, label, roles, created_at, expires_at, revoked_at,
    expires_at < (SELECT panda_now()) AS is_over
FROM (SELECT * FROM tokens ORDER BY token_id DESC LIMIT 5000) AS newest
WHERE (%(owner)s::text IS NULL OR owner = %(owner)s) AND (%(all)s OR revoked_at IS NULL)
ORDER BY token_id DESC LIMIT %(n)s
"""
SPANS = (("7776000", "90 days"), ("2592000", "30 days"), ("604800", "7 days"), ("31536000", "1 year"), ("", "for ever"))


#: As pages show them.
LISTED = """
SELECT token_id, owner, label, roles, created_at, expires_at, revoked_at,
    coalesce(expires_at < (SELECT panda_now()), false) AS is_over
FROM tokens WHERE token_id = ANY(%(ids)s)
"""
LISTING = Listing(
    replace(nouns.TOKENS, show=LISTED), "/tokens", "tokens", "panda token list",
    "owner:anna role:pilot label:*north* revoked:none expires:none", default="revoked:none", size=100,
)  # fmt: skip


class Tokens(ListPage):
    """/tokens?q=; `all` in older links: ended ones too."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        listing = replace(LISTING, default="") if "all" in req.params else LISTING
        asked = ask(req, listing, tables.COLUMNS["tokens.html"], ("all",))
        mine = self._mine(req, Action.READ_TOKENS, asked)
        self._list(req, resp, "tokens.html", asked, mine)


class NewToken(SheetPage):
    """/tokens/new?owner=&role=&queue=&label="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        session = session_of(req)
        policy.require(session.identity, Action.CREATE_TOKEN)
        roles = [(str(role), str(role)) for role in Role]
        sheet = Sheet(
            "New token", "Make it", "/tokens",
            fields=[
                Field("owner", "For", value=req.get_param("owner") or session.subject, required=True,
                      help="Who does not exist yet becomes a user with this role."),
                Field("role", "Role", value=req.get_param("role") or "user", options=roles),
                Field("queue", "Queue", value=req.get_param("queue") or "",
                      help="A pilot's token may be bound to one queue; empty: any."),
                Field("label", "Label", value=req.get_param("label") or "", help="What it is for."),
                Field("ttl_s", "Good for", options=list(SPANS)),
            ],
            warnings=["It is shown once, here; only its hash is kept."],
            cli="panda token create NAME --role ROLE --ttl 90d",
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        session = session_of(req)
        policy.require(session.identity, Action.CREATE_TOKEN)
        deed = deed_of(req)
        made: list[str] = []

        def act(connection: Connection, deed: Deed) -> str:
            form, ttl = deed.form, deed.form.get("ttl_s", "")
            for_s = whole(ttl)
            if ttl and for_s is None:
                raise Invalid("wants seconds", where="ttl_s")
            words = {name: form.get(name, "").strip() for name in ("owner", "role", "queue", "label")}
            if words["queue"]:
                tokens.require_queue(connection, words["queue"])
            made.append(
                tokens.create(
                    connection, words["owner"], [words["role"]], words["label"], for_s,
                    queue=words["queue"],
                )
            )  # fmt: skip
            audit_log.record(
                connection, deed.who, "create_token", words["owner"], reason=deed.reason,
                facts={**words, "ttl_s": ttl}, request_id=deed.request_id,
            )  # fmt: skip
            return f"A token for {words['owner']} was made; it was shown once."

        with self._parts.begin() as connection:
            told = carry_out(connection, deed, act)
        self._parts.memory.forget()
        if not made:  # the form was sent twice
            self._done(req, resp, deed, told, "/tokens")
            return
        data = {"token": made[0], "owner": deed.form.get("owner", ""), "role": deed.form.get("role", "")}
        self._answer(req, resp, "token.html", data, self._now(), topics="")


class RevokeToken(SheetPage):
    """/tokens/{token_id}/revoke"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, token_id: int) -> None:
        owner = self._parts.reader.ask(lambda c: users.owner_of_token(c, token_id))
        policy.require(session_of(req).identity, Action.REVOKE_TOKEN, owner)
        sheet = Sheet(
            f"End token {token_id}", "End it", _of(owner),
            facts=[("Of", owner)], warnings=["Whoever uses it is refused within five seconds."], is_dangerous=True,
            cli=f"panda token revoke {token_id}",
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response, token_id: int) -> None:
        identity = session_of(req).identity
        owner = self._parts.reader.ask(lambda c: users.owner_of_token(c, token_id))
        policy.require(identity, Action.REVOKE_TOKEN, owner)

        def act(connection: Connection, deed: Deed) -> str:
            was_good = users.revoke(connection, token_id, by=deed.who, reason=deed.reason, request_id=deed.request_id)
            return f"Token {token_id} is ended." if was_good else f"Token {token_id} had ended before."

        self._act(req, resp, act, _of(owner))


def _of(owner: str) -> str:
    """The list of somebody's tokens that are good."""
    return "/tokens?" + urlencode(
        {"q": write(all_of(equal_to(FIELDS["owner"], owner), equal_to(FIELDS["revoked"], None)))}
    )

"""What somebody keeps for themselves: views, rules for notices, and the feed that these make."""

import shlex

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.acting import Deed, Field, Sheet, SheetPage
from monitoring.pages.page import session_of
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import Invalid
from panda.jobs import notices, views


class SaveView(SheetPage):
    """/me/views/new?q="""

    needs_reason = False

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.KEEP_VIEWS)
        sheet = Sheet(
            "Save a view", "Save it", "/me#views", needs_reason=False,
            fields=[Field("name", "Name", required=True, help="Letters, digits, '.', '_' and '-'. @NAME then stands "
                          "for the filter, here and in commands."),
                    Field("filter", "Filter", value=req.get_param("q") or "", required=True)],
            cli="panda views save NAME 'FILTER'",
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.KEEP_VIEWS)

        def act(connection: Connection, deed: Deed) -> str:
            name = deed.form.get("name", "").strip()
            views.save(connection, deed.who, name, deed.form.get("filter", ""))
            return f"@{name} is saved."

        self._act(req, resp, act, "/me")


class ForgetView(SheetPage):
    """/me/views/{name}/forget"""

    needs_reason = False

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        policy.require(session_of(req).identity, Action.KEEP_VIEWS)
        cli = f"panda views forget {shlex.quote(name)}"
        self._ask(req, resp, Sheet(f"Forget view @{name}", "Forget it", "/me", needs_reason=False, cli=cli))

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        policy.require(session_of(req).identity, Action.KEEP_VIEWS)

        def act(connection: Connection, deed: Deed) -> str:
            views.forget(connection, deed.who, name)
            return f"@{name} is forgotten."

        self._act(req, resp, act, "/me")


class AddRule(SheetPage):
    """/me/notices/new"""

    needs_reason = False

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        identity = session_of(req).identity
        policy.require(identity, Action.KEEP_VIEWS)
        may = not identity.roles.isdisjoint(policy.TABLE[Action.READ_INCIDENTS].anyones)
        kinds = [(kind, told) for kind, told in notices.KINDS.items() if may or kind not in notices.FOR_OPERATORS]
        sheet = Sheet(
            "Tell me when …", "Tell me", "/me", needs_reason=False,
            fields=[Field("kind", "When", options=kinds),
                    Field("above_percent", "Share of failed jobs, in percent", kind="number", value="10",
                          help="For sets that fail.")],
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        identity = session_of(req).identity
        policy.require(identity, Action.KEEP_VIEWS)

        def act(connection: Connection, deed: Deed) -> str:
            kind, percent = deed.form.get("kind", ""), deed.form.get("above_percent", "").strip()
            if kind in notices.FOR_OPERATORS:
                policy.require(identity, Action.READ_INCIDENTS)
            if kind == "set_failing" and not (percent.isascii() and percent.isdecimal() and len(percent) < 4):
                raise Invalid("wants a whole number of percent", where="above_percent", code="bad_percent")
            notices.add_rule(connection, deed.who, kind, int(percent) if kind == "set_failing" else None)
            return "You will hear of it here."

        self._act(req, resp, act, "/me")


class DropRule(SheetPage):
    """/me/notices/{rule_id}/drop"""

    needs_reason = False

    def on_get(self, req: falcon.Request, resp: falcon.Response, rule_id: int) -> None:
        policy.require(session_of(req).identity, Action.KEEP_VIEWS)
        self._ask(req, resp, Sheet("Hear of it no more", "No more of it", "/me", needs_reason=False))

    def on_post(self, req: falcon.Request, resp: falcon.Response, rule_id: int) -> None:
        policy.require(session_of(req).identity, Action.KEEP_VIEWS)

        def act(connection: Connection, deed: Deed) -> str:
            notices.drop_rule(connection, deed.who, rule_id)
            return "You will not hear of it any more."

        self._act(req, resp, act, "/me")


class MarkRead(SheetPage):
    """/me/notices/read"""

    needs_reason = False

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.KEEP_VIEWS)

        def act(connection: Connection, deed: Deed) -> str:
            n = notices.mark_read(connection, deed.who)
            return f"{n} notice{'s' if n != 1 else ''} read."

        self._act(req, resp, act, "/me")

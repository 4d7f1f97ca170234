"""My Panda, and the people who use the system."""

import falcon

from monitoring import queries
from monitoring.page import Page, session_of
from monitoring.pages import jobset_facts
from monitoring.queries import facts
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import NotFound

TOKENS = """
SELECT label, roles, created_at, expires_at, revoked_at FROM (
    SELECT * FROM tokens WHERE owner = %(owner)s ORDER BY created_at DESC LIMIT 200) AS mine
WHERE revoked_at IS NULL ORDER BY created_at DESC LIMIT 20
"""
USERS = (
    "SELECT name, roles, created_at, banned_at, ban_reason FROM users WHERE name > %(after)s ORDER BY name LIMIT %(n)s"
)
USER = "SELECT name, roles, created_at, banned_at, ban_reason FROM users WHERE name = %(name)s"
USAGE = """
SELECT day, sum(n_finished)::bigint AS n_finished, sum(n_failed)::bigint AS n_failed, sum(core_s)::float8 AS core_s,
    sum(cpu_s)::float8 AS cpu_s
FROM usage WHERE owner = %(owner)s AND day > ((SELECT panda_now()) - interval '30 days')::date
GROUP BY day ORDER BY day
"""
DATASETS = """
SELECT scope, name, status, n_files, size_bytes, created_at FROM (
    SELECT * FROM datasets ORDER BY dataset_id DESC LIMIT 5000) AS newest
WHERE owner = %(owner)s ORDER BY created_at DESC LIMIT 10
"""
PAGE_SIZE = 100


class Me(Page):
    """/me"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        session = session_of(req)
        self._about(req, resp, session.subject, is_me=True)

    def _about(self, req: falcon.Request, resp: falcon.Response, owner: str, *, is_me: bool) -> None:
        reader, asked = self._parts.reader, {"owner": owner}
        known = reader.ask(lambda c: facts(c, USER, {"name": owner}))
        if not known:
            raise NotFound("user", owner)
        sets = reader.block(lambda c: [jobset_facts(row) for row in queries.jobsets(c, owner, queries.BIGGEST, 20)])
        data = {
            "user": known[0], "jobsets": sets,
            "usage": reader.block(lambda c: facts(c, USAGE, asked)),
            "datasets": reader.block(lambda c: facts(c, DATASETS, asked)),
            "tokens": reader.block(lambda c: facts(c, TOKENS, asked)) if is_me else None,
        }  # fmt: skip
        needs_me = [each for each in sets.value or [] if each["n_failed"] and each["status"] in ("running", "failed")]
        self._answer(req, resp, "me.html", data, self._now(), csv="jobsets", is_me=is_me, needs_me=needs_me,
                     roles=sorted(session_of(req).identity.roles))  # fmt: skip


class User(Me):
    """/users/{name}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str = "") -> None:
        session = session_of(req)
        policy.require(session.identity, Action.READ_JOBS, name)
        self._about(req, resp, name, is_me=name == session.subject)


class Users(Page):
    """/users?after="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.READ_AUDIT)
        after = (req.get_param("after") or "").replace("\x00", "")
        found = self._parts.reader.block(lambda c: facts(c, USERS, {"after": after, "n": PAGE_SIZE + 1}))
        items = (found.value or [])[:PAGE_SIZE]
        onward = items[-1]["name"] if len(found.value or []) > PAGE_SIZE else None
        data = {"users": items, "next": onward, "trouble": found.trouble}
        self._answer(req, resp, "users.html", data, self._now(), csv="users")

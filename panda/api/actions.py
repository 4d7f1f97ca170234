"""/v1/jobs/actions, /v1/actions: one deed for many jobs; previewed, confirmed, carried out by and by."""

from typing import Any

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import LIST, LIST_PROBLEMS, found_one, of_owner, show_list
from panda.api.parameters import word
from panda.auth import policy
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.errors import Conflict
from panda.jobs import bulk
from panda.jobs.bulk import Wish
from panda.jobs.nouns import ACTIONS
from panda.settings import Api
from panda.states import Stage


class JobActionsResource:
    """/v1/jobs/actions"""

    def __init__(self, begin: Begin, limits: Api, max_mb: int) -> None:
        self._begin = begin
        self._limits = limits
        self._body = Body(schemas.JobActionRequest, max_mb)

    @allowed(Action.ACT)
    @gives(
        schemas.JobActionReply,
        status=(200, 202),
        takes=schemas.JobActionRequest,
        problems={
            400: "bad_filter",
            404: "not_found",
            409: "preview_needed preview_expired preview_differs count_not_confirmed",
            422: "bad_exclude bad_name bad_priority bad_stage no_filter too_wide unknown_place",
        },
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Do one thing to every live job that fits: retry it, cancel it, give it another priority,
        broker it anew.

        First with `dry_run`: the answer tells how many jobs it reaches, the first of them, what is left alone and
        why, and a token. Then the same again with `token` (and `count`, the number that was told, if it is large):
        202, and the action goes on by itself; `GET /v1/actions/{action_id}` tells how far it is. Whoever may act on
        their own jobs alone reaches only these.
        """
        asked = self._body.read(req)
        owner = policy.scope(req.context.identity, Action.ACT, None)
        stage = Stage(asked.stage) if asked.stage else None
        by = req.context.identity.subject
        wish = Wish(asked.action, asked.filter, stage, asked.priority, by, owner, asked.reason, tuple(asked.exclude))
        if asked.dry_run:
            found = bulk.preview(self._begin, wish, self._limits)
            show(resp, _previewed(found))
            return
        if not asked.token:
            raise Conflict(
                "look first: send it with `dry_run`, then with the `token` of the answer", code="preview_needed"
            )
        with self._begin() as connection:
            action = bulk.confirm(
                connection, wish, asked.token, asked.count, self._limits, request_id=req.context.request_id
            )
        resp.status = falcon.HTTP_202
        resp.set_header("Location", f"/v1/actions/{action.action_id}")
        show(resp, schemas.JobActionReply(action_id=action.action_id, n=action.n_previewed, status=action.status))


class ActionsResource:
    """/v1/actions"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_ACTIONS, *LIST, "owner")
    @gives(Page(schemas.JobAction, is_list=True), problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Actions on many jobs that fit, newest first; `owner` is who asked for them."""
        owner = policy.scope(req.context.identity, Action.READ_ACTIONS, word(req, "owner"))
        show_list(self._begin, req, resp, ACTIONS, schemas.JobAction, also=of_owner(ACTIONS, owner))


class ActionResource:
    """/v1/actions/{action_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_ACTIONS)
    @gives(schemas.JobAction)
    def on_get(self, req: falcon.Request, resp: falcon.Response, action_id: int) -> None:
        """How far an action is."""
        found = found_one(self._begin, ACTIONS, action_id)
        policy.require(req.context.identity, Action.READ_ACTIONS, found.asked_by)
        show(resp, schemas.JobAction(**found._asdict()))


def _previewed(found: Any) -> schemas.JobActionReply:
    return schemas.JobActionReply(
        action_id=found.action_id,
        n=found.n,
        status="previewed",
        token=found.token,
        expires_at=found.expires_at,
        first=[schemas.Job(**row._asdict()) for row in found.first],
        untouched=found.untouched,
        refused=found.refused,
        n_looked=found.n_looked,
    )

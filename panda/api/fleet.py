"""/v1/pilots, /v1/nodes, /v1/attempts: who came for work, from which machines, and how it ended."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.described import Page, gives
from panda.api.listing import CURSOR, LIST, LIST_PROBLEMS, found_one, of_owner, show_list
from panda.api.parameters import word
from panda.auth import policy
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.dispatcher.nouns import NODES, PILOTS
from panda.jobs.nouns import ATTEMPTS


class PilotsResource:
    """/v1/pilots"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_PILOTS, *LIST)
    @gives(Page(schemas.Pilot, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Pilots that fit, by id; those of the last ten minutes with `filter=seen:10m`."""
        show_list(self._begin, req, resp, PILOTS, schemas.Pilot)


class PilotResource:
    """/v1/pilots/{pilot_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_PILOTS)
    @gives(schemas.Pilot)
    def on_get(self, req: falcon.Request, resp: falcon.Response, pilot_id: str) -> None:
        """A pilot, by its id."""
        show(resp, schemas.Pilot(**found_one(self._begin, PILOTS, pilot_id)._asdict()))


class NodesResource:
    """/v1/nodes"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_PILOTS, *LIST)
    @gives(Page(schemas.Node, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Machines that pilots came from and that fit, by name."""
        show_list(self._begin, req, resp, NODES, schemas.Node)


class NodeResource:
    """/v1/nodes/{name}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_PILOTS)
    @gives(schemas.Node)
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """A machine, as its pilots tell of it."""
        show(resp, schemas.Node(**found_one(self._begin, NODES, name)._asdict()))


class AttemptsResource:
    """/v1/attempts"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_JOBS, *LIST, "owner")
    @gives(Page(schemas.JobAttempt, is_list=True), parameters={"after": CURSOR}, problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Attempts that have ended and fit, those of the newest jobs first.

        One that is under way is seen at its job."""
        owner = policy.scope(req.context.identity, Action.READ_JOBS, word(req, "owner"))
        show_list(self._begin, req, resp, ATTEMPTS, schemas.JobAttempt, also=of_owner(ATTEMPTS, owner))

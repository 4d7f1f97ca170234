"""/v1/pilots/{pilot_id}/…: what pilots say of their nodes and of their ends."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import gives
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.dispatcher import notes
from panda.errors import Forbidden
from panda.names import checked


class PilotEnvironmentResource:
    """/v1/pilots/{pilot_id}/environment"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.PilotEnvironment, max_mb)

    @allowed(Action.PILOT)
    @gives(schemas.ServerTime, takes=schemas.PilotEnvironment, problems={422: "bad_name"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, pilot_id: str) -> None:
        """What a pilot found on its node, before it asks for work; the answer tells the time."""
        said = self._body.read(req)
        _check(req.context.identity, pilot_id, said.queue)
        with self._begin() as connection:
            show(resp, schemas.ServerTime(now_s=notes.began(connection, pilot_id, said)))


class PilotEndResource:
    """/v1/pilots/{pilot_id}/end"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.PilotEnd, max_mb)

    @allowed(Action.PILOT)
    @gives(schemas.Affected, takes=schemas.PilotEnd, problems={422: "bad_name"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, pilot_id: str) -> None:
        """A pilot's last words: why it left, and the end of its own log."""
        said = self._body.read(req)
        _check(req.context.identity, pilot_id, said.queue)
        with self._begin() as connection:
            notes.ended(connection, pilot_id, said)
        show(resp, schemas.Affected(n=1))


class PilotNotesResource:
    """/v1/pilots/{pilot_id}/notes"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_PILOT_NOTES)
    @gives(schemas.PilotNotes, problems={404: "not_found"})
    def on_get(self, req: falcon.Request, resp: falcon.Response, pilot_id: str) -> None:
        """What a pilot said of its node, why it left, and the end of its log."""
        with self._begin() as connection:
            found = notes.of(connection, pilot_id)
        show(resp, schemas.PilotNotes(**found._asdict()))


def _check(identity: Identity, pilot_id: str, queue: str) -> None:
    checked(pilot_id, "pilot_id")
    if identity.queue is not None and identity.queue != queue:
        raise Forbidden(identity.subject, f"speak for pilots of queue {queue}; its token is for {identity.queue}")

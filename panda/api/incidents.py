"""/v1/incidents, /v1/audit: what operators should know, and what they did."""

import falcon

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import show
from panda.api.body import Body
from panda.api.described import Page, gives
from panda.api.listing import LIST, LIST_PROBLEMS, found_one, of_owner, show_list
from panda.api.parameters import word
from panda.auth.nouns import AUDIT, INCIDENTS
from panda.auth.policy import Action
from panda.db.session import Begin
from panda.jobs import incidents


class IncidentsResource:
    """/v1/incidents"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.IncidentReports, max_mb)

    @allowed(Action.READ_INCIDENTS, *LIST)
    @gives(Page(schemas.Incident, is_list=True), problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Incidents that fit, newest first."""
        show_list(self._begin, req, resp, INCIDENTS, schemas.Incident)

    @allowed(Action.REPORT_INCIDENT)
    @gives(schemas.Affected, status=202, takes=schemas.IncidentReports)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Write incidents down. Repeats are folded; `n` says how many are new."""
        asked = self._body.read(req)
        found = [incidents.Incident(i.component, i.level, i.key, i.message, i.n, i.context) for i in asked.incidents]
        with self._begin() as connection:
            n_new = incidents.report(connection, found)
        resp.status = falcon.HTTP_202
        show(resp, schemas.Affected(n=n_new))


class IncidentResource:
    """/v1/incidents/{incident_id}"""

    def __init__(self, begin: Begin, max_mb: int) -> None:
        self._begin = begin
        self._body = Body(schemas.IncidentAnswer, max_mb)

    @allowed(Action.READ_INCIDENTS)
    @gives(schemas.Incident)
    def on_get(self, req: falcon.Request, resp: falcon.Response, incident_id: int) -> None:
        """An incident."""
        with self._begin() as connection:
            found = incidents.one(connection, incident_id)
        show(resp, schemas.Incident(**found._asdict()))

    @allowed(Action.ANSWER_INCIDENT)
    @gives(schemas.Incident, takes=schemas.IncidentAnswer, problems={409: "incident_closed"})
    def on_post(self, req: falcon.Request, resp: falcon.Response, incident_id: int) -> None:
        """Say that somebody looks after it, or that it is over. 409 `incident_closed`: it was over already."""
        asked = self._body.read(req)
        with self._begin() as connection:
            incidents.answer(
                connection, incident_id, closes=asked.action == "close", by=req.context.identity.subject,
                comment=asked.comment, request_id=req.context.request_id,
            )  # fmt: skip
            found = incidents.one(connection, incident_id)
        show(resp, schemas.Incident(**found._asdict()))


class AuditResource:
    """/v1/audit"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_AUDIT, *LIST, "who")
    @gives(Page(schemas.AuditEntry, is_list=True), problems=LIST_PROBLEMS)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Deeds that fit, newest first; `who` is short for the same word in `filter`."""
        show_list(self._begin, req, resp, AUDIT, schemas.AuditEntry, also=of_owner(AUDIT, word(req, "who")))


class AuditEntryResource:
    """/v1/audit/{audit_id}"""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    @allowed(Action.READ_AUDIT)
    @gives(schemas.AuditEntry)
    def on_get(self, req: falcon.Request, resp: falcon.Response, audit_id: int) -> None:
        """A deed."""
        show(resp, schemas.AuditEntry(**found_one(self._begin, AUDIT, audit_id)._asdict()))

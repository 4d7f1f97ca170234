"""Incidents: the feed of what operators should know, and who answers for it."""

from typing import Any
from urllib.parse import quote

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.acting import Deed, Field, Sheet, SheetPage
from monitoring.pages.listing import Listing, ListPage, ask
from monitoring.pages.page import Page, session_of
from monitoring.show import looks, tables
from panda.auth import policy
from panda.auth.nouns import INCIDENTS
from panda.auth.policy import Action
from panda.errors import UnknownName
from panda.jobs import incidents

#: Words of a context that name something with a page of its own.
PLACES = {
    "site": ("Site", "/sites/"),
    "queue": ("Queue", "/queues/"),
    "panda_id": ("Job", "/jobs/"),
    "jobset_id": ("Job set", "/jobsets/"),
    "error_code": ("Error code", "/errors/"),
    "code": ("Error code", "/errors/"),
    "pilot_id": ("Pilot", "/pilots/"),
}
ANSWERS = {"acknowledge": "look after it", "close": "close it: it is over"}
LISTING = Listing(
    INCIDENTS, "/incidents", "incidents", "panda incidents", "state:open level:error,critical component:relay last:24h"
)


class Incidents(ListPage):
    """/incidents?q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.READ_INCIDENTS)
        asked = ask(req, LISTING, tables.COLUMNS["incidents.html"])
        self._list(req, resp, "incidents.html", asked, asked.expression, state=state)


class Incident(Page):
    """/incidents/{incident_id}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, incident_id: int) -> None:
        policy.require(session_of(req).identity, Action.READ_INCIDENTS)
        found = self._parts.reader.ask(lambda c: incidents.one(c, incident_id))
        data = {"incident": found._asdict(), "links": links(found.context)}
        self._answer(req, resp, "incident.html", data, self._now(), state=state)


class AnswerIncident(SheetPage):
    """/incidents/{incident_id}/answer"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, incident_id: int) -> None:
        policy.require(session_of(req).identity, Action.ANSWER_INCIDENT)
        found = self._parts.reader.ask(lambda c: incidents.one(c, incident_id))
        closed = found.closed_at is not None
        sheet = Sheet(
            f"Answer incident {incident_id}", "Answer", f"/incidents/{incident_id}",
            facts=[("What", found.message[:300]), ("From", found.component), ("Times", looks.count(found.n))],
            fields=[Field("action", "I", value="acknowledge", options=list(ANSWERS.items()))],
            is_possible=not closed, note=f"{found.closed_by} closed it." if closed else "",
            cli="" if closed else f"panda incidents ack {incident_id} --comment WHY",
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response, incident_id: int) -> None:
        policy.require(session_of(req).identity, Action.ANSWER_INCIDENT)

        def act(connection: Connection, deed: Deed) -> str:
            said = deed.form.get("action", "acknowledge")
            if said not in ANSWERS:
                raise UnknownName("answer", said[:40], list(ANSWERS), where="action")
            closes = said == "close"
            incidents.answer(
                connection, incident_id, closes=closes, by=deed.who, comment=deed.reason, request_id=deed.request_id
            )
            return f"Incident {incident_id} is {'closed' if closes else 'acknowledged'}."

        self._act(req, resp, act, f"/incidents/{incident_id}")


def links(context: Any) -> list[dict[str, str]]:
    """Pages of what a context names: `what`, `name`, `url`."""
    if not isinstance(context, dict):
        return []
    found = {word: str(context[word]) for word in PLACES if context.get(word) not in (None, "")}
    links = [
        {"what": PLACES[word][0], "name": name, "url": PLACES[word][1] + quote(name, safe="")}
        for word, name in found.items()
        if word not in ("panda_id", "jobset_id") or name.isdecimal()
    ]
    if "node" in context and "queue" in found and context["node"]:
        node = str(context["node"])
        links.append(
            {"what": "Node", "name": node, "url": f"/nodes/{quote(found['queue'], safe='')}/{quote(node, safe='')}"}
        )
    return links


def state(incident: dict[str, Any]) -> str:
    """open, acknowledged or closed."""
    if incident["closed_at"] is not None:
        return "closed"
    return "open" if incident["acknowledged_at"] is None else "acknowledged"

"""The switches: brokerage or dispatch paused everywhere, at a site, at a queue; a node taken out of its queue."""

import shlex
from dataclasses import replace
from urllib.parse import quote

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.acting import Deed, Field, Sheet, SheetPage, whole
from monitoring.pages.page import session_of
from monitoring.reads.queries import COUNTS, by_queue, facts
from monitoring.show import looks
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import Invalid
from panda.jobs import switches
from panda.jobs.switches import Place, What
from panda.sites.waking import look_again
from panda.states import JobStatus

MEANS = {
    What.BROKERAGE: "No job is sent to a queue; what is there already goes on.",
    What.DISPATCH: "No pilot gets a job; what runs is left to end.",
}
SPANS = (
    ("", "until somebody resumes it"), ("3600", "1 hour"), ("14400", "4 hours"), ("86400", "1 day"),
    ("604800", "7 days"),
)  # fmt: skip
PLACES = """
SELECT name AS queue, site FROM queues ORDER BY name LIMIT 2000
"""


def place_of(given: dict[str, str]) -> Place:
    """The place that a URL or a form names: `place=site:X`, `place=queue:X`, or its parts.

    Raises:
        Invalid: `bad_place`, it names none. Only a form that says nothing of a place means everywhere.
    """
    said = given.get("place", "")
    kind, _, name = said.partition(":")
    if said and (kind not in ("site", "queue") or not name):
        raise Invalid(f"{said[:60]!r} is no place: write site:NAME or queue:NAME", where="place", code="bad_place")
    parts = {kind: name} if said else {}
    named = {name: given[name] for name in Place._fields if given.get(name)}
    for value in (parts | named).values():
        if not value.isprintable() or len(value) > 300:
            raise Invalid("holds characters that cannot be printed", where="place")
    return Place(**(parts | named))


class PauseSheet(SheetPage):
    """/admin/switches/pause?what=&place="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.SET_SWITCH)
        reader = self._parts.reader
        queues = reader.ask(lambda c: facts(c, PLACES))
        sites = sorted({row["site"] for row in queues})
        places = [("", "everywhere"), *((f"site:{site}", f"site {site}") for site in sites),
                  *((f"queue:{row['queue']}", f"queue {row['queue']}") for row in queues)]  # fmt: skip
        wanted = req.get_param("place") or ""
        if wanted not in dict(places):
            places.append((wanted, place_of({"place": wanted}).words))
        counts = by_queue(reader.ask(lambda c: facts(c, COUNTS)))
        ready = sum(each.get(JobStatus.ACTIVATED, 0) for each in counts.values())
        running = sum(each.get(status, 0) for each in counts.values() for status in ("sent", "starting", "running"))
        sheet = Sheet(
            "Pause brokerage or dispatch", "Pause it", "/admin",
            facts=[("Ready, everywhere", looks.count(ready)), ("Running, everywhere", looks.count(running))],
            fields=[
                Field("what", "Pause", value=req.get_param("what") or "",
                      options=[(str(what), f"{what}: {told}") for what, told in MEANS.items()]),
                Field("place", "Where", value=wanted, options=places),
                Field("for_s", "For", options=list(SPANS)),
            ],
            cli="panda pause WHAT --site SITE --for 4h --reason WHY",
            warnings=["It counts within a second. Jobs keep their place; nothing fails."],
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.SET_SWITCH)
        self._act(req, resp, _pause, "/admin")


class NodePause(SheetPage):
    """/nodes/{queue}/{node}/pause: take a node out."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, queue: str, node: str) -> None:
        policy.require(session_of(req).identity, Action.SET_SWITCH)
        sheet = Sheet(
            f"Take node {node} out", "Take it out", _node(queue, node),
            facts=[("Queue", queue), ("Node", node)],
            fields=[Field("for_s", "For", options=list(SPANS))],
            warnings=["Pilots on this node get no job any more; what they run is left to end. Other nodes go on."],
            cli=f"panda pause dispatch --queue {shlex.quote(queue)} --node {shlex.quote(node)} --reason WHY",
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response, queue: str, node: str) -> None:
        policy.require(session_of(req).identity, Action.SET_SWITCH)
        here = {"what": str(What.DISPATCH), "queue": queue, "node": node}

        def act(connection: Connection, deed: Deed) -> str:
            """Of this node, whatever else the form may say."""
            return _pause(connection, replace(deed, form={**here, "for_s": deed.form.get("for_s", "")}))

        self._act(req, resp, act, _node(queue, node))


def _resumes(given: dict[str, str]) -> str:
    """The command that ends this pause."""
    where = "".join(f" --{name} {shlex.quote(value)}" for name, value in given.items() if name != "what" and value)
    return f"panda resume {shlex.quote(given['what'])}{where} --reason WHY"


class ResumeSheet(SheetPage):
    """/admin/switches/resume?what=&site=&queue=&node="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.SET_SWITCH)
        given = {name: req.get_param(name) or "" for name in ("what", *Place._fields)}
        place = place_of(given)
        known = self._parts.reader.ask(switches.current)
        pause = next((p for p in known if p.what == given["what"] and p.place == place), None)
        facts_ = [("What", given["what"]), ("Where", place.words)]
        if pause is not None:
            facts_ += [("Paused by", pause.by), ("Since", looks.iso(pause.at)), ("Because", pause.reason)]
        sheet = Sheet(
            f"Resume {given['what']}: {place.words}", "Resume it", "/admin", facts=facts_,
            fields=[Field(name, kind="hidden", value=value) for name, value in given.items()],
            cli=_resumes(given), is_possible=pause is not None, note="" if pause is not None else "It is not paused.",
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.SET_SWITCH)

        def act(connection: Connection, deed: Deed) -> str:
            what, place = deed.form.get("what", ""), place_of(deed.form)
            switches.resume(connection, what, place, by=deed.who, reason=deed.reason, request_id=deed.request_id)
            if what == What.BROKERAGE:
                look_again(connection)
            return f"{what.capitalize()} goes on: {place.words}."

        self._act(req, resp, act, "/admin")


def _pause(connection: Connection, deed: Deed) -> str:
    form = deed.form
    what, place, span = form.get("what", ""), place_of(form), form.get("for_s", "")
    for_s = whole(span)
    if span and for_s is None:
        raise Invalid("wants seconds", where="for_s")
    switches.pause(
        connection, what, place, by=deed.who, reason=deed.reason, for_s=for_s,
        request_id=deed.request_id,
    )  # fmt: skip
    done = "is taken out" if place.node else "is paused"
    return (
        f"{place.words[0].upper()}{place.words[1:]} {done}."
        if place.node
        else f"{what.capitalize()} {done}: {place.words}."
    )


def _node(queue: str, node: str) -> str:
    return f"/nodes/{quote(queue, safe='')}/{quote(node, safe='')}"

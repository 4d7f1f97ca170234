"""Hold, release, priority, another brokerage, debug mode: what else is done to one job, each with a sheet.

What a sheet offers and whom it refuses is the engine's word: `bulk.why_not` says whom an action reaches, and the
deed itself runs through the service that the API calls.
"""

import shlex
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages import job_facts
from monitoring.pages.acting import Choice, Deed, Field, Sheet, SheetPage, whole
from monitoring.pages.page import session_of
from monitoring.reads import job_queries
from monitoring.reads.queries import Facts, facts
from monitoring.show import copies, looks
from panda.auth import audit_log, policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.errors import Conflict, Invalid
from panda.jobs import bulk, hold, priority, rebroker
from panda.jobs import places as known_places
from panda.jobs import queries as asked
from panda.settings import Settings
from panda.states import FINAL, JobStatus
from panda.upstream import debugging

MOST_PRIORITY = 10_000


class Offer(NamedTuple):
    """A deed that the page of a job offers. `leave`: the word of `Action` that it needs."""

    verb: str
    word: str
    leave: str


#: In the order of the buttons. The API asks for the same leave.
OFFERS = (
    Offer("hold", "Hold…", "HOLD"),
    Offer("release", "Release…", "HOLD"),
    Offer("priority", "Set priority…", "ACT"),
    Offer("rebroker", "Broker anew…", "RETRY"),
    Offer("debug", "Debug…", "CANCEL"),
)


def why_not(verb: str, job: Facts, waits_for: str | None) -> str | None:
    """Why this cannot be done to the job as it stands; None: it can be."""
    if job["archived_at"] is not None:
        return "it is archived"
    if verb == "debug":
        return f"it is {job['status']} already" if job["status"] in FINAL else None
    if verb == "rebroker" and waits_for in rebroker.WAITS:
        return rebroker.WAITS[waits_for]  # type: ignore[index]
    return bulk.why_not(verb, job["status"], waits_for)


def offers(job: Facts, waits_for: str | None, settings: Settings) -> list[Offer]:
    """What can be done to the job now. Debug mode is upstream's: native pilots send their logs in any case."""
    return [
        offer for offer in OFFERS
        if why_not(offer.verb, job, waits_for) is None and (offer.verb != "debug" or settings.upstream.enabled)
    ]  # fmt: skip


class JobMove(SheetPage, ABC):
    """/jobs/{panda_id}/VERB"""

    verb = ""
    leave = Action.HOLD
    title = "{0}"
    """Of the sheet; `{0}` is the job."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        identity, reader = session_of(req).identity, self._parts.reader
        job = job_facts.find(reader, panda_id)
        policy.require(identity, self.leave, job["owner"])
        due = reader.ask(lambda c: job_queries.one(c, job_queries.DUE, {"panda_id": panda_id}))
        title, back = self.title.format(f"job {panda_id}"), f"/jobs/{panda_id}"
        why = why_not(self.verb, job, due["waits_for"] if due else None)
        if why is None:
            why = self._refused(job, identity)
        if why is not None:
            self._ask(req, resp, Sheet(title, title, back, is_possible=False, note=f"{why[0].upper()}{why[1:]}."))
            return
        self._ask(req, resp, self._sheet(req, job, title, back))

    def on_post(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        identity = session_of(req).identity

        def act(connection: Connection, deed: Deed) -> str:
            policy.require(identity, self.leave, asked.owner_of(connection, panda_id))
            asked.check_made(connection, panda_id)
            told, done = self._do(connection, panda_id, deed)
            audit_log.record(
                connection, deed.who, self.verb, f"job {panda_id}", reason=deed.reason, facts=done,
                request_id=deed.request_id,
            )  # fmt: skip
            return told

        self._act(req, resp, act, f"/jobs/{panda_id}")

    def _refused(self, job: Facts, identity: Identity) -> str | None:
        """Why this person cannot, though others could."""
        return None

    @abstractmethod
    def _sheet(self, req: falcon.Request, job: Facts, title: str, back: str) -> Sheet:
        """What is asked before the deed."""

    @abstractmethod
    def _do(self, connection: Connection, panda_id: int, deed: Deed) -> tuple[str, dict[str, Any]]:
        """What it came to, and facts for the audit log. Raises Conflict, Invalid."""

    def _now_at(self, job: Facts) -> list[tuple[str, str]]:
        """Where it stands, and why."""
        why = job_facts.why(self._parts.reader, job["panda_id"], self._parts.settings)
        told = [("Status", job["status"]), ("Owner", job["owner"]), ("Queue", job["computing_site"] or looks.UNKNOWN)]
        return [*told, ("Now", why.value["summary"])] if why.value else told

    def _checked(self, panda_id: int, refused: dict[int, str]) -> None:
        if panda_id in refused:
            raise Conflict(f"job {panda_id}: {refused[panda_id]}", code=f"cannot_{self.verb}")


class JobHold(JobMove):
    """/jobs/{panda_id}/hold"""

    verb, title = "hold", "Hold {0}"

    def _sheet(self, req: falcon.Request, job: Facts, title: str, back: str) -> Sheet:
        queue = job["computing_site"]
        gives = f"It gives its place at {queue} back and stands" if queue else "It stands"
        return Sheet(
            title, title, back, facts=self._now_at(job),
            warnings=[f"{gives} still until somebody releases it; what an operator holds, an operator releases."],
            cli=f"panda hold {job['panda_id']}", python=copies.of_job("hold", job["panda_id"]),
        )  # fmt: skip

    def _do(self, connection: Connection, panda_id: int, deed: Deed) -> tuple[str, dict[str, Any]]:
        may_all = policy.scope(deed.identity, Action.HOLD, None) is None
        self._checked(
            panda_id, hold.hold(connection, [panda_id], by=deed.who, reason=deed.reason, may_all=may_all).refused
        )
        return f"Job {panda_id} stands still until it is released.", {}


class JobRelease(JobMove):
    """/jobs/{panda_id}/release"""

    verb, title = "release", "Release {0}"

    def _refused(self, job: Facts, identity: Identity) -> str | None:
        held = self._held(job)
        if held is None or policy.scope(identity, Action.HOLD, None) is None:
            return None
        if held["held_by"] in (identity.subject, job["owner"]):
            return None
        return f"it is held by {held['held_by']}, and an operator has to release it"

    def _held(self, job: Facts) -> Facts | None:
        return self._parts.reader.ask(lambda c: job_queries.one(c, job_queries.HOLD, {"panda_id": job["panda_id"]}))

    def _sheet(self, req: falcon.Request, job: Facts, title: str, back: str) -> Sheet:
        held = self._held(job)
        told = [("Status", job["status"]), ("Owner", job["owner"])]
        if held is not None:
            told += [("Held by", held["held_by"]), ("Since", f"{looks.iso(held['held_at'])}"),
                     ("Because", held["reason"] or looks.UNKNOWN)]  # fmt: skip
        is_defined = job["status"] == JobStatus.DEFINED
        goes = "brokerage chooses a queue" if is_defined else "it is defined, or waits on for its parents"
        return Sheet(
            title, title, back, facts=[*told, ("Then", goes)], cli=f"panda release {job['panda_id']}",
            python=copies.of_job("release", job["panda_id"]),
        )  # fmt: skip

    def _do(self, connection: Connection, panda_id: int, deed: Deed) -> tuple[str, dict[str, Any]]:
        may_all = policy.scope(deed.identity, Action.HOLD, None) is None
        self._checked(panda_id, hold.release(connection, [panda_id], by=deed.who, may_all=may_all).refused)
        return f"Job {panda_id} goes on.", {}


class JobPriority(JobMove):
    """/jobs/{panda_id}/priority"""

    verb, title, leave = "priority", "Set the priority of {0}", Action.ACT

    def _sheet(self, req: falcon.Request, job: Facts, title: str, back: str) -> Sheet:
        now = job["priority"]
        field = Field("priority", "New priority", "number", str(now), required=True,
                      help="Larger goes first, within its share. A point is worth a minute of waiting.")  # fmt: skip
        told = [("Priority now", str(now)), ("Share", job["share"]), *self._now_at(job)]
        return Sheet(
            title, "Set the priority", back, facts=told, fields=[field],
            cli=f"panda priority {job['panda_id']} --to {now}",
            python=copies.of_many("priority", f"panda_id:{job['panda_id']}", priority=now),
        )  # fmt: skip

    def _do(self, connection: Connection, panda_id: int, deed: Deed) -> tuple[str, dict[str, Any]]:
        number = priority_of(deed.form.get("priority", ""))
        self._checked(panda_id, priority.set_priority(connection, [panda_id], number)[1])
        return f"Job {panda_id} has priority {number}.", {"priority": number}


class JobRebroker(JobMove):
    """/jobs/{panda_id}/rebroker?exclude="""

    verb, title, leave = "rebroker", "Broker {0} anew", Action.RETRY

    def _sheet(self, req: falcon.Request, job: Facts, title: str, back: str) -> Sheet:
        why = job_facts.why(self._parts.reader, job["panda_id"], self._parts.settings)
        weights = why.value["decision"]["weights"] if why.value else {}
        places = places_of([job])
        kept = req.get_param("exclude") or ""
        kept = kept if kept in dict(places) else ""
        sites = self._sites(list(weights))
        left = [name for name in weights if kept not in (name, sites.get(name))]
        told = [("Status", job["status"]), ("Queue now", job["computing_site"] or looks.UNKNOWN)]
        if weights:
            told += [("Fitted when it was brokered last", ", ".join(list(weights)[:8]))]
            told += [("Of these it may still go to", ", ".join(left[:8]) or "none")] if kept else []
        warnings = ["It leaves its place at its queue; brokerage chooses anew among the queues that are open now."]
        if kept and weights and not left:
            warnings.append("No queue that fitted last time is left: it waits until another one does.")
        exclude = [kept] if kept else []
        more = Field("more", "Nor at", help="Further sites or queues, commas between; * fits anything. For good.")
        return Sheet(
            title, "Broker anew", back, facts=told, warnings=warnings,
            choice=Choice("exclude", "Never again at", kept, places) if len(places) > 1 else None,
            fields=[more],
            cli=f"panda rebroker {job['panda_id']}" + "".join(f" --exclude {shlex.quote(place)}" for place in exclude),
            python=copies.of_job("rebroker", job["panda_id"], exclude=exclude),
        )  # fmt: skip

    def _sites(self, queues: list[str]) -> dict[str, str]:
        found = self._parts.reader.block(lambda c: facts(c, job_queries.SITES_OF, {"queues": queues}))
        return {row["name"]: row["site"] for row in found.value or []}

    def _do(self, connection: Connection, panda_id: int, deed: Deed) -> tuple[str, dict[str, Any]]:
        said = f"{deed.form.get('exclude', '')},{deed.form.get('more', '')}"
        places = list(dict.fromkeys(place for place in (part.strip() for part in said.split(",")) if place))
        rebroker.check_places(places)
        known_places.check_excluded(connection, places)
        _, refused = rebroker.rebroker(connection, [panda_id], exclude=places, by=deed.who, reason=deed.reason)
        self._checked(panda_id, refused)
        kept = f", never again at {', '.join(places)}" if places else ""
        return f"Job {panda_id} is brokered anew{kept}.", {"exclude": places}


class JobDebug(JobMove):
    """/jobs/{panda_id}/debug"""

    verb, title, leave = "debug", "Debug mode of {0}", Action.CANCEL

    def _refused(self, job: Facts, identity: Identity) -> str | None:
        if self._parts.settings.upstream.enabled:
            return None
        return "native pilots send their logs while the payload writes them; debug mode is for upstream's pilots"

    def _sheet(self, req: falcon.Request, job: Facts, title: str, back: str) -> Sheet:
        panda_id = job["panda_id"]
        is_on = self._parts.reader.ask(lambda c: debugging.is_on(c, panda_id))
        told = [("Debug mode now", "on" if is_on else "off"), ("Status", job["status"])]
        effect = (
            "The pilot sends the tail no longer." if is_on else
            "From its next report on upstream's pilot sends the tail of what the payload prints: the log `debug`."
        )  # fmt: skip
        return Sheet(
            title, f"Switch it {'off' if is_on else 'on'}", back, facts=told, warnings=[effect],
            fields=[Field("on", kind="hidden", value="no" if is_on else "yes")],
            python=copies.debug(panda_id, not is_on),
        )  # fmt: skip

    def _do(self, connection: Connection, panda_id: int, deed: Deed) -> tuple[str, dict[str, Any]]:
        if not self._parts.settings.upstream.enabled:
            raise Conflict("debug mode is for upstream's pilots, and none may come here", code="cannot_debug")
        said = deed.form.get("on", "")
        if said not in ("yes", "no"):
            raise Invalid("wants yes or no", where="on", code="bad_flag")
        debugging.switch(connection, panda_id, said == "yes")
        return f"Debug mode of job {panda_id} is {'on' if said == 'yes' else 'off'}.", {"on": said == "yes"}


def priority_of(text: str) -> int:
    """A priority that somebody typed. Raises Invalid (`bad_priority`)."""
    typed = text.strip()
    number = whole(typed.removeprefix("-"))
    if number is None or number > MOST_PRIORITY:
        message = f"wants a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}"
        raise Invalid(message, where="priority", code="bad_priority")
    return -number if typed.startswith("-") else number


def places_of(jobs: list[Facts]) -> list[tuple[str, str]]:
    """Where these jobs are, to be chosen as where they shall not go again; the first choice is nowhere."""
    queues = dict.fromkeys(name for job in jobs if (name := job.get("computing_site") or job.get("queue")))
    sites = dict.fromkeys(job["site"] for job in jobs if job.get("site"))
    found = [("", "no place: its queue weighs less")]
    found += [(name, f"queue {name}") for name in queues]
    return found + [(name, f"all of site {name}") for name in sites if name not in queues]

"""Actions on many jobs from a page: previewed and confirmed through the API's service, then watched."""

from typing import Any
from urllib.parse import urlencode

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages import retry_plan
from monitoring.pages.acting import Choice, Deed, Field, Sheet, SheetPage
from monitoring.pages.job_moves import priority_of
from monitoring.pages.jobs import asked_for, owned, views_of
from monitoring.pages.page import Page, Parts, check_words, session_of
from monitoring.reads.queries import facts
from monitoring.show import looks
from panda.auth import policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.db.session import run
from panda.errors import Invalid, NotFound, UnknownName
from panda.jobs import bulk
from panda.jobs import queries as asked
from panda.jobs.bulk import Wish
from panda.jobs.nouns import JOB_FIELDS
from panda.query import Expression, equal_to, read, write
from panda.states import RETRY_STATUS, Stage

#: The API asks for the same leave: whoever may cancel jobs may move them and their priority.
ACTIONS = {"retry": Action.RETRY, "cancel": Action.CANCEL, "priority": Action.ACT, "rebroker": Action.ACT,
           "hold": Action.HOLD, "release": Action.HOLD}  # fmt: skip
MAX_TICKED = 500
WARNINGS = {
    "cancel": "Running payloads are killed; this cannot be taken back.",
    "rebroker": "They leave their place at their queue; brokerage chooses anew among the queues that are open now.",
    "hold": "They give their queue back and stand still until somebody releases them.",
    "priority": "Larger goes first, within a share. A point is worth a minute of waiting.",
}
TITLES = {"retry": "Retry", "cancel": "Cancel", "priority": "Set the priority of", "rebroker": "Broker anew",
          "hold": "Hold", "release": "Release"}  # fmt: skip
#: What a verb does to a job, for a sentence.
DONE = {"retry": "retried", "cancel": "cancelled", "priority": "given another priority", "rebroker": "brokered anew",
        "hold": "held", "release": "released"}  # fmt: skip

#: The reason is asked for when the preview stands, and is kept with it.
GIVE_REASON = """
UPDATE bulk_actions SET reason = %(reason)s
WHERE action_id = %(action_id)s AND asked_by = %(who)s AND status = 'previewed'
"""
BULK_ACTION = """
SELECT action_id, action, stage, filter, asked_by, reason, status, note, n_previewed, n_done, n_refused, refused,
    created_at, confirmed_at, ended_at
FROM bulk_actions WHERE action_id = %(action_id)s
"""
#: Started by hand lately: the newest rows, whoever asked.
NEWEST = """
SELECT action_id, action, filter, asked_by, reason, status, n_previewed, n_done, n_refused, created_at, ended_at
FROM (SELECT * FROM bulk_actions ORDER BY action_id DESC LIMIT 500) AS newest
WHERE status <> 'previewed' AND (%(who)s::text IS NULL OR asked_by = %(who)s) ORDER BY action_id DESC LIMIT 20
"""


def meant(req: falcon.Request, parts: Parts) -> Expression:
    """What the URL means: `job=…` repeated, or a filter."""
    ticked = [value for value in req.get_param_as_list("job") or [] if value]
    if not ticked:
        return asked_for(req, views_of(parts, session_of(req).subject))
    if len(ticked) > MAX_TICKED or not all(v.isascii() and v.isdecimal() and len(v) < 19 for v in ticked):
        raise Invalid(f"wants numbers of jobs, at most {MAX_TICKED}", where="job")
    return equal_to(JOB_FIELDS["panda_id"], *(int(value) for value in ticked))


def _wish(verb: str, said: str, stage: str, priority: str, identity: Identity, reason: str) -> Wish:
    """Raises UnknownName, Forbidden, Invalid (`bad_stage`, `bad_priority`)."""
    if verb not in ACTIONS:
        raise UnknownName("action", verb, list(ACTIONS))
    if stage and stage not in set(RETRY_STATUS):
        raise Invalid(f"an attempt starts at one of {', '.join(RETRY_STATUS)}", where="stage", code="bad_stage")
    owner = policy.scope(identity, ACTIONS[verb], None)
    number = priority_of(priority) if verb == "priority" else None
    return Wish(verb, said, Stage(stage) if stage else None, number, identity.subject, owner, reason)  # type: ignore[arg-type]


#: Where the attempts of a retry may start.
STARTS = [("", "the stage that each failed in"), *((str(s), looks.STAGE_TITLE[s]) for s in RETRY_STATUS)]


class Previewed(SheetPage):
    """A sheet about many jobs, and the action that it begins: what stood on the sheet, nothing else."""

    def _preview(
        self, req: falcon.Request, resp: falcon.Response, verb: str, expression: Expression, back: str, cli: str = ""
    ) -> None:
        """The sheet. It leaves a row that expires, and does nothing. `cli`: another command than that of the filter."""
        identity, said = session_of(req).identity, write(expression)
        stage, priority = req.get_param("stage") or "", req.get_param("priority") or "0"
        wish = _wish(verb, said, stage, priority, identity, "")
        found = bulk.preview(self._parts.begin, wish, self._parts.settings.api)
        shown = [row._asdict() for row in found.first]
        n, s = looks.count(found.n), "" if found.n == 1 else "s"
        told = [("Jobs", n), ("Filter", said)]
        if verb == "priority":
            told.append(("New priority", priority))
        told += [(f"Left alone: {looks.count(number)}", why) for why, number in list(found.untouched.items())[:4]]
        if verb == "retry" and found.n:
            mine = owned(identity, Action.RETRY, expression)
            told += retry_plan.of_filter(self._parts.reader, mine, wish.stage, found.n)
        listed = f"The first {len(shown)} of {n} are listed." if found.n > len(shown) else ""
        sheet = Sheet(
            f"{TITLES[verb]} {n} job{s}", f"{TITLES[verb]} {n} job{s}", back, facts=told,
            choice=self._start(req, said, stage) if verb == "retry" else None,
            fields=self._fields(found, said, stage, priority), is_possible=found.n > 0, is_dangerous=verb == "cancel",
            warnings=[WARNINGS[verb]] if verb in WARNINGS and found.n else [],
            columns=["Job", "Name", "Queue", "Failed in", "Error", "Attempt"], rows=[_row(row) for row in shown],
            note=listed if found.n else f"No job that fits can be {DONE[verb]}.",
            cli=(cli + _more(verb, stage, priority)) if cli else _cli(verb, said, stage, priority),
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def _start(self, req: falcon.Request, said: str, stage: str) -> Choice:
        """Of a sheet with an address of its own nothing else is said."""
        return Choice("stage", "Start at", stage, STARTS, [("q", said)] if req.params.keys() & {"q", "job"} else [])

    def _fields(self, found: bulk.Preview, said: str, stage: str, priority: str) -> list[Field]:
        hidden = {"said": said, "priority": priority, "token": found.token, "action_id": str(found.action_id)}
        fields = [Field(name, kind="hidden", value=value) for name, value in hidden.items()]
        if found.n > self._parts.settings.api.confirm_above:
            help_ = "So that nobody hits more than they meant to."
            fields.insert(0, Field("number", f"Type {found.n} to confirm", required=True, help=help_))
        return fields

    def _begin_it(self, req: falcon.Request, resp: falcon.Response, verb: str) -> None:
        """Begin what was previewed; the clock carries it out in chunks, and the action's page shows how far it is."""
        identity = session_of(req).identity
        began: list[int] = []

        def act(connection: Connection, deed: Deed) -> str:
            form = deed.form
            words = (form.get("said", ""), form.get("stage", ""), form.get("priority", ""))
            wish = _wish(verb, *words, identity, deed.reason)
            number = form.get("number", "").replace(",", "").strip()
            action_id = int(form["action_id"]) if form.get("action_id", "").isdecimal() else 0
            run(connection, GIVE_REASON, {"reason": deed.reason, "action_id": action_id, "who": deed.who})
            action = bulk.confirm(
                connection, wish, form.get("token", ""), int(number) if number.isdecimal() else None,
                self._parts.settings.api, request_id=deed.request_id,
            )  # fmt: skip
            began.append(action.action_id)
            return f"Action {action.action_id} on {looks.several(action.n_previewed, 'job')} has begun."

        deed_id = self._act(req, resp, act, "/jobs/actions")
        if began and resp.location:
            resp.location = f"/jobs/actions/{began[0]}?{urlencode({'done': deed_id})}"


class Bulk(Previewed):
    """/jobs/bulk/{verb}?q= or ?job=&job=, and &stage="""

    def on_get(self, req: falcon.Request, resp: falcon.Response, verb: str) -> None:
        if verb not in ACTIONS:
            raise UnknownName("action", verb, list(ACTIONS))
        expression = meant(req, self._parts)
        back = "/jobs?" + urlencode({"q": req.get_param("q") or write(expression)})
        self._preview(req, resp, verb, expression, back)

    def on_post(self, req: falcon.Request, resp: falcon.Response, verb: str) -> None:
        self._begin_it(req, resp, verb)


class JobSetRetry(Previewed):
    """/jobsets/{jobset_id}/retry?stage=: its failed jobs."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        self._check(req, jobset_id)
        expression = read(f"jobset:{jobset_id} status:failed", JOB_FIELDS)
        back = f"/jobsets/{jobset_id}"
        self._preview(req, resp, "retry", expression, back, cli=f"panda retry set:{jobset_id}")

    def on_post(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        self._check(req, jobset_id)
        self._begin_it(req, resp, "retry")

    def _check(self, req: falcon.Request, jobset_id: int) -> None:
        """Raises NotFound, Forbidden."""
        found = self._parts.reader.ask(lambda c: asked.jobset(c, jobset_id))
        policy.require(session_of(req).identity, Action.RETRY, found.row.owner)


def _row(job: dict[str, Any]) -> list[str]:
    told = [job["name"], job["queue"], job["failed_stage"], job["error_code"]]
    attempt = f"{job['attempt_nr']}/{job['max_attempts']}"
    return [str(job["panda_id"]), *(word or looks.UNKNOWN for word in told), attempt]


def _cli(verb: str, said: str, stage: str, priority: str) -> str:
    quoted = "'" + said.replace("'", "'\\''") + "'"
    return f"panda {verb} {quoted}{_more(verb, stage, priority)}"


def _more(verb: str, stage: str, priority: str) -> str:
    """The options of a command."""
    return {"retry": f" --stage {stage}" if stage else "", "priority": f" --to {priority}"}.get(verb, "")


class Actions(Page):
    """/jobs/actions: what was begun lately."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req)
        identity = session_of(req).identity
        who = policy.scope(identity, Action.RETRY, None)
        found = self._parts.reader.block(lambda c: facts(c, NEWEST, {"who": who}))
        self._answer(req, resp, "actions.html", {"actions": found}, self._now(), csv="actions")


class ActionPage(Page):
    """/jobs/actions/{action_id}: how far it came."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, action_id: int) -> None:
        identity = session_of(req).identity
        found = self._parts.reader.ask(lambda c: facts(c, BULK_ACTION, {"action_id": action_id}))
        if not found:
            raise NotFound("action", action_id)
        policy.require(identity, Action.RETRY, found[0]["asked_by"])
        action: dict[str, Any] = found[0]
        self._answer(req, resp, "action.html", {"action": action}, self._now(), topics=f"action:{action_id}",
                     jobs_link="/jobs?" + urlencode({"q": without_status(action["filter"])}))  # fmt: skip


def without_status(text: str) -> str:
    """The filter's jobs wherever they stand now."""
    return " ".join(word for word in text.split(" ") if not word.startswith("status:"))

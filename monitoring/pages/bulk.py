"""Actions on many jobs from a page: previewed and confirmed through the API's service, then watched."""

import shlex
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages import retry_plan
from monitoring.pages.acting import Choice, Deed, Field, Sheet, SheetPage, whole
from monitoring.pages.job_moves import places_of, priority_of
from monitoring.pages.jobs import asked_for, views_of
from monitoring.pages.listing import Listing, ListPage, ask, owned
from monitoring.pages.page import Page, Parts, session_of
from monitoring.reads.queries import facts
from monitoring.show import copies, looks, tables
from panda.auth import policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.db.session import run
from panda.errors import Invalid, NotFound, UnknownName
from panda.jobs import bulk
from panda.jobs import queries as asked
from panda.jobs.bulk import Wish
from panda.jobs.nouns import ACTIONS as ACTION_NOUN
from panda.jobs.nouns import JOB_FIELDS
from panda.query import Expression, all_of, equal_to, read, write
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
#: As the list shows them.
SHOWN = """
SELECT action_id, action, filter, asked_by, reason, status, n_previewed, n_done, n_refused, created_at, ended_at
FROM bulk_actions WHERE action_id = ANY(%(ids)s)
"""
LISTING = Listing(
    replace(ACTION_NOUN, show=SHOWN), "/jobs/actions", "actions", "panda actions",
    "by:olga action:retry status:running created:24h", default="status!=previewed",
)  # fmt: skip


def meant(req: falcon.Request, parts: Parts) -> Expression:
    """What the URL means: `job=…` repeated, or a filter."""
    ticked = [value for value in req.get_param_as_list("job") or [] if value]
    if not ticked:
        return asked_for(req, views_of(parts, session_of(req).subject))
    if len(ticked) > MAX_TICKED or not all(v.isascii() and v.isdecimal() and len(v) < 19 for v in ticked):
        raise Invalid(f"wants numbers of jobs, at most {MAX_TICKED}", where="job")
    return equal_to(JOB_FIELDS["panda_id"], *(int(value) for value in ticked))


class Said(NamedTuple):
    """What a sheet says about a deed: the filter, and the words that some deeds have besides, as they were typed."""

    filter: str
    stage: str = ""
    priority: str = ""
    exclude: str = ""

    @property
    def places(self) -> list[str]:
        """Where jobs that are brokered anew must not go."""
        return list(dict.fromkeys(filter(None, (part.strip() for part in self.exclude.split(",")))))


def _wish(verb: str, said: Said, identity: Identity, reason: str) -> Wish:
    """Raises UnknownName, Forbidden, Invalid (`bad_stage`, `bad_priority`)."""
    stage = said.stage
    if verb not in ACTIONS:
        raise UnknownName("action", verb, list(ACTIONS))
    if stage and stage not in set(RETRY_STATUS):
        raise Invalid(f"an attempt starts at one of {', '.join(RETRY_STATUS)}", where="stage", code="bad_stage")
    owner = policy.scope(identity, ACTIONS[verb], None)
    number = priority_of(said.priority) if verb == "priority" else None
    begun = Stage(stage) if stage and verb == "retry" else None
    exclude = tuple(said.places) if verb == "rebroker" else ()
    return Wish(verb, said.filter, begun, number, identity.subject, owner, reason, exclude)  # type: ignore[arg-type]


#: Where the attempts of a retry may start.
STARTS = [("", "the stage that each failed in"), *((str(s), looks.STAGE_TITLE[s]) for s in RETRY_STATUS)]


class Previewed(SheetPage):
    """A sheet about many jobs, and the action that it begins: what stood on the sheet, nothing else."""

    def _preview(
        self, req: falcon.Request, resp: falcon.Response, verb: str, expression: Expression, back: str, cli: str = ""
    ) -> None:
        """The sheet. It leaves a row that expires, and does nothing. `cli`: another command than that of the filter."""
        identity = session_of(req).identity
        words = (req.get_param(name) or "" for name in ("stage", "priority", "exclude"))
        said = Said(write(expression), *words)
        said = said._replace(priority=said.priority or "0")
        wish = _wish(verb, said, identity, "")
        found = bulk.preview(self._parts.begin, wish, self._parts.settings.api)
        shown = [row._asdict() for row in found.first]
        n, s = looks.count(found.n), "" if found.n == 1 else "s"
        mine = owned(identity, ACTIONS[verb], expression, JOB_FIELDS)
        plan = retry_plan.of_filter(self._parts.reader, mine, wish.stage) if verb == "retry" and found.n else None
        columns, rows = _table(verb, wish, shown, plan)
        sheet = Sheet(
            f"{TITLES[verb]} {n} job{s}", f"{TITLES[verb]} {n} job{s}", back,
            facts=self._summary(verb, wish, found, plan),
            choice=self._choice(req, verb, said, shown) if found.n else None,
            fields=self._fields(found, said), is_possible=_is_possible(found, plan), is_dangerous=verb == "cancel",
            warnings=[WARNINGS[verb]] if verb in WARNINGS and found.n else [], columns=columns, rows=rows,
            note=_note(found, verb, plan), more=_reached(expression, verb) if found.n > len(shown) else "",
            cli=(cli + _more(verb, said)) if cli else _cli(verb, said), python=_python(verb, wish),
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def _summary(
        self, verb: str, wish: Wish, found: bulk.Preview, plan: retry_plan.Plan | None
    ) -> list[tuple[str, str]]:
        """What there is to say of all of them."""
        told = [("Jobs", looks.count(found.n)), ("Filter", wish.filter)]
        if verb == "priority":
            told.append(("New priority", str(wish.priority)))
        if wish.exclude:
            told.append(("Never again at", ", ".join(wish.exclude)))
        told += [(f"Left alone: {looks.count(number)}", why) for why, number in list(found.untouched.items())[:4]]
        if plan is not None:
            told += retry_plan.told(plan, found.n)
        return told

    def _choice(self, req: falcon.Request, verb: str, said: Said, shown: list[dict[str, Any]]) -> Choice | None:
        """Of a sheet with an address of its own nothing else is said."""
        kept = [("q", said.filter)] if req.params.keys() & {"q", "job"} else []
        if verb == "retry":
            return Choice("stage", "Start at", said.stage, STARTS, kept)
        if verb != "rebroker":
            return None
        places = places_of(shown)
        if said.exclude and said.exclude not in dict(places):
            places.append((said.exclude, said.exclude))
        return Choice("exclude", "Never again at", said.exclude, places, kept)

    def _fields(self, found: bulk.Preview, said: Said) -> list[Field]:
        hidden = {"said": said.filter, "priority": said.priority, "token": found.token,
                  "action_id": str(found.action_id)}  # fmt: skip
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
            said = Said(*(form.get(name, "") for name in ("said", "stage", "priority", "exclude")))
            wish = _wish(verb, said, identity, deed.reason)
            number = whole(form.get("number", "").replace(",", ""))
            action_id = whole(form.get("action_id", "")) or 0
            run(connection, GIVE_REASON, {"reason": deed.reason, "action_id": action_id, "who": deed.who})
            action = bulk.confirm(
                connection, wish, form.get("token", ""), number, self._parts.settings.api, request_id=deed.request_id,
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


def _is_possible(found: bulk.Preview, plan: retry_plan.Plan | None) -> bool:
    """Whether there is anything to begin: a retry that will refuse every single job is none."""
    if plan is None or found.n > plan.n_looked:
        return found.n > 0
    return not plan.does_nothing


def _note(found: bulk.Preview, verb: str, plan: retry_plan.Plan | None) -> str:
    if not _is_possible(found, plan):
        return f"No job that fits can be {DONE[verb]}{' from there' if found.n else ''}."
    n_shown = len(found.first)
    return f"The first {n_shown} of {looks.count(found.n)} are listed." if found.n > n_shown else ""


def _reached(expression: Expression, verb: str) -> str:
    """The list of every job that the deed reaches now."""
    live = equal_to(JOB_FIELDS["archived"], False)
    return "/jobs?" + urlencode({"q": write(all_of(expression, live, bulk.reachable(verb)))})


def _table(
    verb: str, wish: Wish, shown: list[dict[str, Any]], plan: retry_plan.Plan | None
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of what is listed: of each job what will be another."""
    if verb == "retry":
        columns = ["Job", "Name", "Queue", "Failed in", "Error", "Runs again", "Attempt"]
        refused = plan.refused if plan is not None else {}
        return columns, [_told_of(job, _again(job, wish.stage, refused.get(job["panda_id"]))) for job in shown]
    columns = ["Job", "Name", "Status", "Queue", "Priority"]
    to = f" → {wish.priority}" if verb == "priority" else ""
    return columns, [
        [str(job["panda_id"]), job["name"] or looks.UNKNOWN, job["status"], job["queue"] or looks.UNKNOWN,
         f"{job['priority']}{to}"]
        for job in shown
    ]  # fmt: skip


def _told_of(job: dict[str, Any], again: list[str]) -> list[str]:
    failed_in = looks.STAGE_TITLE.get(job["failed_stage"], job["failed_stage"])
    told = [job["name"], job["queue"], failed_in, job["error_code"]]
    return [str(job["panda_id"]), *(word or looks.UNKNOWN for word in told), *again]


def _again(job: dict[str, Any], stage: Stage | None, why_not: str | None) -> list[str]:
    """The stages that run again, and the number of the attempt; or why it gets none."""
    if why_not is not None:
        return [f"no: {why_not}", str(job["attempt_nr"])]
    start = stage or retry_plan.start_after(job["failed_stage"])
    attempt = f"{job['attempt_nr']} → {job['attempt_nr'] + 1} of {max(job['max_attempts'], job['attempt_nr'] + 1)}"
    return [f"{looks.STAGE_TITLE[start].lower()} …", attempt]


def _cli(verb: str, said: Said) -> str:
    quoted = "'" + said.filter.replace("'", "'\\''") + "'"
    return f"panda {verb} {quoted}{_more(verb, said)}"


def _more(verb: str, said: Said) -> str:
    """The options of a command."""
    options = {
        "retry": f" --stage {said.stage}" if said.stage else "", "priority": f" --to {said.priority}",
        "rebroker": "".join(f" --exclude {shlex.quote(place)}" for place in said.places),
    }  # fmt: skip
    return options.get(verb, "")


def _python(verb: str, wish: Wish) -> str:
    stage = None if wish.stage is None else str(wish.stage)
    return copies.of_many(verb, wish.filter, stage=stage, priority=wish.priority, exclude=list(wish.exclude))


class Actions(ListPage):
    """/jobs/actions?q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = ask(req, LISTING, tables.COLUMNS["actions.html"])
        mine = self._mine(req, Action.READ_ACTIONS, asked)
        self._list(req, resp, "actions.html", asked, mine)


class ActionPage(Page):
    """/jobs/actions/{action_id}: how far it came."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, action_id: int) -> None:
        identity = session_of(req).identity
        found = self._parts.reader.ask(lambda c: facts(c, BULK_ACTION, {"action_id": action_id}))
        if not found:
            raise NotFound("action", action_id)
        policy.require(identity, Action.READ_ACTIONS, found[0]["asked_by"])
        action: dict[str, Any] = found[0]
        self._answer(req, resp, "action.html", {"action": action}, self._now(), topics=f"action:{action_id}",
                     jobs_link="/jobs?" + urlencode({"q": without_status(action["filter"])}))  # fmt: skip


def without_status(text: str) -> str:
    """The filter's jobs wherever they stand now."""
    return " ".join(word for word in text.split(" ") if not word.startswith("status:"))

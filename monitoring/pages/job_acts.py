"""Retry and cancel: one job, or the failed ones of a set. What will happen is shown first."""

from typing import Any

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages import job_facts, retry_plan
from monitoring.pages.acting import Choice, Deed, Field, Sheet, SheetPage, whole
from monitoring.pages.page import session_of
from monitoring.reads.queries import Facts
from monitoring.show import copies, looks
from panda.auth import audit_log, policy
from panda.auth.policy import Action
from panda.db.session import rows
from panda.errors import Conflict, Invalid
from panda.jobs import kill, retry
from panda.jobs import queries as asked
from panda.states import FINAL, PIPELINE, RETRY_STATUS, JobStatus, Stage

ATTEMPT = "SELECT attempt_nr FROM jobs WHERE panda_id = %(panda_id)s"


def starts(job: Facts) -> list[Stage]:
    """Stages at which a new attempt of this failed job may start, the latest that keeps most last."""
    failed = Stage(job["failed_stage"]) if job["failed_stage"] else Stage.DISPATCH
    return [stage for stage in PIPELINE if stage in RETRY_STATUS and PIPELINE.index(stage) <= PIPELINE.index(failed)]


def default_start(job: Facts) -> Stage:
    """Where the retry starts when nobody says otherwise."""
    return retry_plan.start_after(job["failed_stage"])


def runs_again(start: Stage) -> str:
    """The stages that an attempt from `start` on goes through."""
    return " → ".join(looks.STAGE_TITLE[stage] for stage in PIPELINE[PIPELINE.index(start) :])


class JobRetry(SheetPage):
    """/jobs/{panda_id}/retry"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        job = job_facts.find(self._parts.reader, panda_id)
        policy.require(session_of(req).identity, Action.RETRY, job["owner"])
        back = f"/jobs/{panda_id}"
        if job["status"] != JobStatus.FAILED or job["archived_at"] is not None:
            told = "It is archived" if job["archived_at"] else f"It is {job['status']}"
            self._ask(req, resp, Sheet(f"Retry job {panda_id}", "Retry", back, is_possible=False,
                                       note=f"{told}; only a failed job that still rests can be retried."))  # fmt: skip
            return
        wanted = req.get_param("stage") or ""
        possible = starts(job)
        start = Stage(wanted) if wanted in set(possible) else default_start(job)
        where = (
            "a queue is chosen anew"
            if start in (Stage.DEFINE, Stage.BROKER)
            else job["computing_site"] or looks.UNKNOWN
        )
        plan = self._parts.reader.ask(lambda c: retry_plan.plan_of(c, [panda_id], start))
        refused = plan.refused.get(panda_id)
        self._ask(
            req,
            resp,
            Sheet(
                f"Retry job {panda_id}", "Retry", back, is_possible=refused is None,
                note=f"From there it cannot: {refused}." if refused else "",
                fields=[Field("attempt", kind="hidden", value=str(job["attempt_nr"]))],
                facts=[("Runs again", runs_again(start)), ("Where", where),
                       ("Attempt", f"{job['attempt_nr'] + 1} (of {max(job['max_attempts'], job['attempt_nr'] + 1)})"),
                       *retry_plan.told(plan, 1)[1:]],
                choice=Choice("stage", "Start at", str(start), [(str(s), looks.STAGE_TITLE[s]) for s in possible]),
                cli=f"panda retry {panda_id} --stage {start}",
                python=copies.of_job("retry", panda_id, stage=str(start)),
            ),
        )  # fmt: skip

    def on_post(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        identity = session_of(req).identity

        def act(connection: Connection, deed: Deed) -> str:
            policy.require(identity, Action.RETRY, asked.owner_of(connection, panda_id))
            asked.check_made(connection, panda_id)
            stage = _stage(deed)
            found = retry.retry(connection, [panda_id], stage=stage, by=deed.who, reason=deed.reason)
            if panda_id in found.refused:
                raise Conflict(f"job {panda_id}: {found.refused[panda_id]}", code="cannot_retry")
            _check_attempt(connection, panda_id, deed)
            audit_log.record(
                connection, deed.who, "retry", f"job {panda_id}", reason=deed.reason,
                facts={"stage": stage}, request_id=deed.request_id,
            )  # fmt: skip
            return f"Job {panda_id} has a new attempt{f' from {looks.STAGE_TITLE[stage].lower()}' if stage else ''}."

        self._act(req, resp, act, f"/jobs/{panda_id}")


class JobCancel(SheetPage):
    """/jobs/{panda_id}/cancel"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        job = job_facts.find(self._parts.reader, panda_id)
        policy.require(session_of(req).identity, Action.CANCEL, job["owner"])
        back = f"/jobs/{panda_id}"
        if job["status"] in FINAL:
            note = f"It is {job['status']} already."
            self._ask(req, resp, Sheet(f"Cancel job {panda_id}", "Cancel", back, note=note, is_possible=False))
            return
        running = job["status"] in ("sent", "starting", "running")
        facts_ = [("Status", job["status"]), ("Owner", job["owner"]), ("Queue", job["computing_site"] or looks.UNKNOWN)]
        told = "Its pilot hears of it with the next heartbeat and ends the payload." if running else "It ends at once."
        self._ask(
            req, resp,
            Sheet(f"Cancel job {panda_id}", "Cancel the job", back, facts=facts_, warnings=[told], is_dangerous=True,
                  cli=f"panda cancel {panda_id}", python=copies.of_job("cancel", panda_id)),
        )  # fmt: skip

    def on_post(self, req: falcon.Request, resp: falcon.Response, panda_id: int) -> None:
        identity = session_of(req).identity

        def act(connection: Connection, deed: Deed) -> str:
            policy.require(identity, Action.CANCEL, asked.owner_of(connection, panda_id))
            asked.check_made(connection, panda_id)
            found = kill.request(connection, [panda_id], by=deed.who, reason=deed.reason)
            if panda_id in found.refused:
                raise Conflict(f"job {panda_id}: {found.refused[panda_id]}", code="cannot_cancel")
            audit_log.record(
                connection, deed.who, "cancel", f"job {panda_id}", reason=deed.reason, facts={"n": 1},
                request_id=deed.request_id,
            )  # fmt: skip
            return f"The end of job {panda_id} is asked for."

        self._act(req, resp, act, f"/jobs/{panda_id}")


class SetSheet(SheetPage):
    """A sheet about a whole set."""

    def _number_field(self, n: int) -> list[Field]:
        """The blast-radius guard: above `[api] confirm_above` jobs their number has to be typed."""
        if n <= self._parts.settings.api.confirm_above:
            return []
        told = "So that nobody hits more than they meant to."
        return [Field("number", f"Type {n} to confirm", required=True, help=told)]


class JobSetCancel(SetSheet):
    """/jobsets/{jobset_id}/cancel"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        found = self._parts.reader.ask(lambda c: asked.jobset(c, jobset_id))
        policy.require(session_of(req).identity, Action.CANCEL, found.row.owner)
        n_open = found.row.n_open
        sheet = Sheet(
            f"Cancel job set {jobset_id}", "Cancel the set", f"/jobsets/{jobset_id}",
            facts=[("Name", found.row.name), ("Owner", found.row.owner), ("Open jobs", looks.count(n_open)),
                   ("Running", looks.count(found.ledger["running"]))],
            warnings=["Every open job ends; running payloads are killed. What finished stays."],
            fields=self._number_field(n_open), is_possible=n_open > 0, is_dangerous=True,
            note="" if n_open else "No job of this set is open.", cli=f"panda cancel set:{jobset_id}",
            python=copies.of_job("cancel_jobset", jobset_id),
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response, jobset_id: int) -> None:
        identity = session_of(req).identity

        def act(connection: Connection, deed: Deed) -> str:
            row = asked.jobset(connection, jobset_id).row
            policy.require(identity, Action.CANCEL, row.owner)
            check_number(deed, row.n_open, self._parts.settings.api.confirm_above)
            n_open = kill.request_jobset(connection, jobset_id, by=deed.who, reason=deed.reason)
            audit_log.record(
                connection, deed.who, "cancel", f"jobset {jobset_id}", reason=deed.reason, facts={"n": n_open},
                request_id=deed.request_id,
            )  # fmt: skip
            return f"The end of {looks.several(n_open, 'open job')} is asked for; it is carried out in pieces."

        self._act(req, resp, act, f"/jobsets/{jobset_id}")


def check_number(deed: Deed, n: int, above: int) -> None:
    """Above so many jobs the number must have been typed. Raises Invalid (`wrong_number`)."""
    typed = deed.form.get("number", "").replace(",", "").strip()
    if n > above and typed != str(n):
        raise Invalid(f"there are {n} jobs now, and {typed[:20] or 'nothing'!r} was typed", where="number",
                      code="wrong_number")  # fmt: skip


def _check_attempt(connection: Connection, panda_id: int, deed: Deed) -> None:
    """After the new attempt: it must follow the one that the sheet was about. Raises Conflict (`stale_sheet`)."""
    seen = whole(deed.form.get("attempt", ""))
    [job] = rows(connection, ATTEMPT, {"panda_id": panda_id})
    if seen is not None and job.attempt_nr != seen + 1:
        message = f"job {panda_id} failed again since this sheet was made, in attempt {job.attempt_nr - 1}; look anew"
        raise Conflict(message, code="stale_sheet")


def _stage(deed: Deed) -> Stage | None:
    given: Any = deed.form.get("stage", "")
    if given and given not in set(RETRY_STATUS):
        raise Invalid(f"an attempt starts at one of {', '.join(RETRY_STATUS)}", where="stage", code="bad_stage")
    return Stage(given) if given else None

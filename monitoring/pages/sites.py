"""Sites and queues: what they offer, what they do, and the switch with its reason."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages import site_config
from monitoring.pages.acting import Deed, Field, Sheet, SheetPage
from monitoring.pages.listing import Listing, ListPage, ask
from monitoring.pages.overview_facts import queues as with_jobs
from monitoring.pages.overview_facts import with_failures
from monitoring.pages.page import Page, session_of
from monitoring.reads import queries, site_queries
from monitoring.reads.blocks import Block
from monitoring.reads.queries import Facts, facts
from monitoring.show import looks, tables
from panda.auth import policy
from panda.auth.policy import Action
from panda.db.lists import MAX_PAGE
from panda.dispatcher import mismatches
from panda.errors import Forbidden, NotFound, UnknownName
from panda.jobs import pilots_alive
from panda.names import ASKED, amount
from panda.settings import Settings
from panda.sites.nouns import QUEUES
from panda.sites.status import from_now, set_queue_status
from panda.sites.versions import Change, newest_of
from panda.states import JobStatus, QueueStatus

#: What a status of a queue means for its jobs.
MEANS = {
    QueueStatus.ONLINE: "Jobs are brokered here and pilots get them.",
    QueueStatus.TEST: "Only jobs that ask for a queue in test come here.",
    QueueStatus.BROKEROFF: "Nothing new is brokered here; what is here still runs.",
    QueueStatus.OFFLINE: "Nothing is brokered here and no pilot gets a job.",
}

#: Queues of a site whose settings are looked at.
QUEUES_CONFIGURED = 20
#: Their history is long and changes seldom: for so long it is remembered, or until somebody acts.
OVERRIDES_S = 30.0
#: How asks of pilots end (`dispatcher.tally`), in words.
ENDS = {
    "got": "got jobs", "nothing_ready": "nothing was ready", "nothing_fits": "nothing fitted",
    "quicker": "others were quicker", "over_quota": "owners beyond their quota", "paused": "paused",
    "offline": "closed",
}  # fmt: skip
#: After which it goes back by itself, by seconds.
FOR_S = {"": "until somebody changes it", "3600": "an hour", "21600": "6 hours", "86400": "a day", "259200": "3 days",
         "604800": "a week"}  # fmt: skip


LISTING = Listing(
    replace(QUEUES, show=site_queries.NAMES_OF_QUEUES), "/queues", "queues", "panda queues",
    "status:online site:NORTH* cores>=8 tag:gpu memory>=16000", size=MAX_PAGE,
)  # fmt: skip


class Sites(ListPage):
    """/queues?q=, and /sites?q=: queues of every site, and the storages."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.READ_SITES)
        asked = ask(req, replace(LISTING, path=req.path), tables.COLUMNS["queues.html"])
        reader = self._parts.reader

        def make() -> Any:
            counts = reader.block(lambda c: facts(c, queries.COUNTS))
            pilots = reader.block(lambda c: facts(c, pilots_alive.PILOTS))
            found = reader.block(lambda c: with_failures(c, with_jobs(c, counts.value, pilots.value)))
            storages = reader.block(lambda c: facts(c, queries.STORAGES))
            return found, storages

        known, storages = self._parts.memory.of("queues", make)
        by_name = {queue["name"]: queue for queue in known.value or []}
        data = {"storages": storages, **({"trouble": known.trouble} if known.trouble else {})}
        self._list(
            req, resp, "queues.html", asked, asked.expression, lambda row: by_name.get(row["name"], {}), data=data
        )


class Site(Page):
    """/sites/{site}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, site: str) -> None:
        policy.require(session_of(req).identity, Action.READ_SITES)
        reader = self._parts.reader
        known = reader.ask(lambda c: facts(c, site_queries.SITE, {"site": site}))
        if not known:
            raise NotFound("site", site)
        queues = reader.ask(lambda c: facts(c, site_queries.QUEUES_OF, {"site": site}))
        storages = reader.block(lambda c: facts(c, queries.STORAGES_OF, {"site": site}))
        of = {"storages": [storage["name"] for storage in storages.value or []]}
        data = {
            "site": known[0], **self._of(queues), "storages": storages,
            "flows": reader.block(lambda c: facts(c, site_queries.FLOWS, of)),
            "config": reader.block(lambda c: site_config.configuration(c, "site", known[0])),
            "overrides": self._parts.memory.of(
                ("overrides", site), lambda: reader.block(lambda c: _overrides(c, queues)), OVERRIDES_S
            ),
            "deeds": self._deeds(req, [f"site {site}", *(f"queue {queue['name']}" for queue in queues),
                                       *(f"storage {name}" for name in of["storages"])]),
        }  # fmt: skip
        self._answer(req, resp, "site.html", data, self._now(), csv="queues", queue=None,
                     total=summed(data["queues"].value or [], data["fleet"].value or []))  # fmt: skip

    def _deeds(self, req: falcon.Request, targets: list[str]) -> Block[list[Facts]] | None:
        """What people and rules did here, for those who may read the audit log."""
        try:
            policy.require(session_of(req).identity, Action.READ_AUDIT)
        except Forbidden:
            return None
        return self._parts.reader.block(lambda c: facts(c, site_queries.DEEDS_OF, {"targets": targets}))

    def _of(self, queues: list[Facts]) -> dict[str, Any]:
        reader, names = self._parts.reader, [queue["name"] for queue in queues]
        counts = reader.block(lambda c: facts(c, queries.COUNTS))
        pilots = reader.block(lambda c: facts(c, pilots_alive.PILOTS))

        def mine(connection: Connection) -> list[Facts]:
            return with_failures(
                connection, [q for q in with_jobs(connection, counts.value, pilots.value) if q["name"] in names]
            )

        return {
            "queues": reader.block(mine),
            "chart": reader.block(lambda c: chart(c, names)),
            "fleet": reader.block(lambda c: [row for row in facts(c, site_queries.PILOTS) if row["queue"] in names]),
            "errors": reader.block(lambda c: facts(c, site_queries.ERRORS_OF_QUEUE, {"queues": names})),
            "nodes": reader.block(lambda c: facts(c, site_queries.NODES, {"queues": names})),
            "downtimes": reader.block(lambda c: facts(c, site_queries.DOWNTIMES_OF, {"queues": names})),
            "changes": reader.block(lambda c: [_told(*each) for each in newest_of(c, "queue", names, 12)]),
        }


class Queue(Site):
    """/queues/{queue}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, queue: str) -> None:
        policy.require(session_of(req).identity, Action.READ_SITES)
        reader = self._parts.reader
        found = self._find(queue)
        data = {
            "queue": found, **self._of([found]),
            "pilots": reader.block(lambda c: facts(c, site_queries.PILOTS_OF, {"queue": queue})),
            "tests": reader.block(lambda c: facts(c, site_queries.TESTS_OF, {"queue": queue})),
            "ready": reader.block(lambda c: facts(c, site_queries.READY, {"queue": queue})),
            "asks": reader.block(lambda c: facts(c, mismatches.ASKS, {"queue": queue})),
            "misfits": reader.block(lambda c: _needs(facts(c, mismatches.MISFITS, {"queue": queue}))),
            "config": reader.block(lambda c: site_config.configuration(c, "queue", found)),
            "deeds": self._deeds(req, [f"queue {queue}", f"site {found['site']}"]),
        }  # fmt: skip
        self._answer(
            req,
            resp,
            "queue.html",
            data,
            self._now(),
            csv="pilots",
            means=MEANS,
            all_statuses=list(MEANS),
            ends=ENDS,
            nouns=ASKED,
            amount=amount,
        )

    def _find(self, queue: str) -> Facts:
        found = self._parts.reader.ask(lambda c: facts(c, site_queries.QUEUE, {"queue": queue}))
        if not found:
            raise NotFound("queue", queue)
        return found[0]


def _overrides(connection: Connection, queues: Sequence[Facts]) -> list[Facts]:
    """Settings of a site's queues that somebody set by hand, past the file and the imports."""
    return [
        {"queue": queue["name"], **setting}
        for queue in queues[:QUEUES_CONFIGURED]
        for setting in site_config.configuration(connection, "queue", queue)
        if setting["origin"] == "override"
    ]


def _needs(misfits: list[Facts]) -> list[Facts]:
    """With what the jobs need of that of which pilots had too little."""
    return [{**each, "needs": each.get(each["word"])} for each in misfits]


class SetQueue(SheetPage):
    """/queues/{queue}/status"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, queue: str) -> None:
        policy.require(session_of(req).identity, Action.SET_QUEUE)
        reader = self._parts.reader
        found = reader.ask(lambda c: facts(c, site_queries.QUEUE, {"queue": queue}))
        if not found:
            raise NotFound("queue", queue)
        counts = queries.by_queue(reader.ask(lambda c: facts(c, queries.COUNTS))).get(queue, {})
        wanted = req.get_param("to") or ("offline" if found[0]["status"] == "online" else "online")
        if wanted not in set(QueueStatus):
            raise UnknownName("queue status", wanted[:40], list(QueueStatus), where="to")
        running = sum(counts.get(status, 0) for status in (JobStatus.SENT, JobStatus.STARTING, JobStatus.RUNNING))
        ready, coming = counts.get(JobStatus.ACTIVATED, 0), counts.get(JobStatus.ASSIGNED, 0)
        consequence = [MEANS[QueueStatus(wanted)]]
        consequence += consequences(found[0]["status"], wanted, ready, coming, self._parts.settings)
        if running:
            consequence.append(f"{looks.several(running, 'job')} that pilots have will go on to the end.")
        sheet = Sheet(
            f"Status of queue {queue}", "Set the status", f"/queues/{queue}",
            facts=[("Now", found[0]["status"]), ("Because", found[0]["status_reason"] or looks.UNKNOWN),
                   ("Running", looks.count(running)), ("Ready", looks.count(ready))],
            warnings=consequence,
            fields=[Field("status", "New status", value=wanted,
                          options=[(str(s), f"{s}: {MEANS[s]}") for s in QueueStatus]),
                    Field("for_s", "For how long", value="", options=list(FOR_S.items()))],
            cli=f"panda site set {shlex.quote(queue)} {wanted} --reason WHY",
        )  # fmt: skip
        self._ask(req, resp, sheet)

    def on_post(self, req: falcon.Request, resp: falcon.Response, queue: str) -> None:
        policy.require(session_of(req).identity, Action.SET_QUEUE)

        def act(connection: Connection, deed: Deed) -> str:
            status, for_s = deed.form.get("status", ""), deed.form.get("for_s", "")
            if for_s not in FOR_S:
                raise UnknownName("while", for_s[:40], list(FOR_S), where="for_s")
            until = from_now(connection, float(for_s)) if for_s else None
            n_woken = set_queue_status(
                connection, queue, status, by=deed.who, reason=deed.reason, request_id=deed.request_id, until=until
            )
            ends = f" for {FOR_S[for_s]}" if for_s else ""
            return f"Queue {queue} is {status} now{ends}; {looks.count(n_woken)} waiting jobs look for a queue again."

        self._act(req, resp, act, f"/queues/{queue}")


def consequences(now: str, wanted: str, ready: int, coming: int, settings: Settings) -> list[str]:
    """What becomes of the jobs of a queue that no pilot has: what the engine does (`panda.sites.leaving`,
    `panda.brokerage.stalled`, the wait for a pilot). First with the status that is wanted, then with the others."""
    jobs = [looks.several(ready, "ready job")] if ready else []
    jobs += [f"{looks.several(coming, 'job')} whose files are on their way"] if coming else []
    if not jobs:
        return []
    both, after = " and ".join(jobs), looks.duration(settings.brokerage.leave_offline_s)
    wait, stalled = settings.engine.pilot_wait_s, settings.brokerage.leave_stalled_s
    sooner = f", after {looks.duration(stalled)} if another queue would take them" if stalled else ""
    leave = f"after {after} {both} will leave it, unless it is opened before; brokerage looks for another queue, and "
    leave += "where none fits they wait for one."
    stay = f"{both} will stay, and pilots still take them; without a pilot they are brokered again after "
    stay += f"{looks.duration(wait)}{sooner}."
    told = [(("offline",), leave), (("test", "brokeroff"), stay)]
    told.sort(key=lambda each: wanted not in each[0])
    return [
        f"{' or '.join(statuses)}: {words}" for statuses, words in told if now not in statuses or wanted in statuses
    ]


BIN_S = 1_200
#: Queues are counted each five minutes.
YOUNG_H, YOUNG_BIN_S = 3, 300
#: Statuses of the chart, bottom first.
CHARTED = tuple(str(status) for status in looks.ACTIVE if status not in (JobStatus.PENDING, JobStatus.DEFINED))


def chart(connection: Connection, names: Sequence[str]) -> Facts:
    """Jobs at these queues: `times`, `series` (word, colour, values; bottom first), `start`, `end`, `hours`, `bin_s`.
    A day; what is younger than three hours is shown closer."""
    now = queries.now(connection)
    asked = {"queues": list(names), "bin_s": BIN_S}
    hours, found = 24, facts(connection, site_queries.HISTORY, asked)
    if found and now - min(row["bin"] for row in found) < timedelta(hours=YOUNG_H):
        asked["bin_s"] = YOUNG_BIN_S
        hours, found = YOUNG_H, facts(connection, site_queries.HISTORY, asked)
    times = sorted({row["bin"] for row in found})
    values = {(row["bin"], row["status"]): row["n"] for row in found}
    series = [(word, looks.JOB[word].colour, [values.get((at, word), 0.0) for at in times]) for word in CHARTED]
    return {"times": times, "series": series, "start": now - timedelta(hours=hours), "end": now, "hours": hours,
            "bin_s": asked["bin_s"]}  # fmt: skip


def summed(queues: Sequence[Facts], fleet: Sequence[Facts]) -> Facts:
    """A site's queues as one."""
    n_failed, n_good = sum(q["n_failed"] for q in queues), sum(q["n_finished"] for q in queues)
    core_s, cpu_s = sum(q["core_s"] for q in queues), sum(q["cpu_s"] for q in queues)
    return {
        "running": sum(q["running"] for q in queues), "ready": sum(q["ready"] for q in queues),
        "stage_out": sum(q["jobs"].get("holding", 0) + q["jobs"].get("transferring", 0) for q in queues),
        "n_failed": n_failed, "failure_rate": n_failed / (n_failed + n_good) if n_failed + n_good else None,
        "n_finished": n_good, "cpu_efficiency": cpu_s / core_s if core_s else None,
        "cores": sum(q["pilot_cores_now"] or 0 for q in queues), "pilots": sum(row["n_alive"] for row in fleet),
        "idle": sum(row["n_idle"] for row in fleet), "silent": sum(row["n"] - row["n_alive"] for row in fleet),
    }  # fmt: skip


def _told(version: Any, changes: Sequence[Change]) -> Facts:
    """A version as the page lists it: what it did, in a few words, beside who and why."""
    shown = [each for each in changes if each.field not in ("status_reason", "status_by", "status_rule", "status_then")]
    did = [f"{each.field} {_word(each.was)} → {_word(each.now)}" for each in shown if each.field]
    did += [f"{each.name} was {each.change}" for each in shown if not each.field]
    more = f" and {len(did) - 4} more" if len(did) > 4 else ""
    return {**version._asdict(), "did": "; ".join(did[:4]) + more or "reason or author"}


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "nothing"
    return looks.UNKNOWN if value in (None, "") else str(value)

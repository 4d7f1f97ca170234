"""One PanDA server, seen from Python."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

from panda import __version__
from panda.client.actions import Action, Actions
from panda.client.calls import TRIES, Calls, Query, decoded, mapping, segment
from panda.client.datasets import Datasets
from panda.client.environment import DEFAULT_URL, surroundings, timeout_from
from panda.client.errors import ClientError, Invalid, NotFound, Unavailable
from panda.client.events import PATIENCE_S as STREAM_PATIENCE_S
from panda.client.events import POLL_S, Follower
from panda.client.logs import Logs
from panda.client.pages import Pages, one_page, pages
from panda.client.people import Incidents, Logins, Quotas, Tokens, Users
from panda.client.places import Places
from panda.client.replies import (
    Accepted,
    Affected,
    Attempt,
    Dataset,
    Job,
    JobEvent,
    JobFile,
    JobSet,
    JobSetWhy,
    PilotWhy,
    Reply,
    Why,
    parsed,
)
from panda.client.sandbox import Sandbox, pack
from panda.client.transport import CONNECT_S, READ_S, HttpTransport, Transport
from panda.client.waiting import PATIENCE_S, Waited, is_ended, look_at, wait

#: What `find` finds, where, and as what.
NOUNS: dict[str, tuple[str, type[Reply]]] = {
    "jobs": ("/v1/jobs", Job),
    "jobsets": ("/v1/jobsets", JobSet),
    "attempts": ("/v1/attempts", Attempt),
    "actions": ("/v1/actions", Action),
    "datasets": ("/v1/datasets", Dataset),
    "files": ("/v1/files", Reply),
    "transfers": ("/v1/transfers", Reply),
    "queues": ("/v1/queues", Reply),
    "sites": ("/v1/sites", Reply),
    "storages": ("/v1/storages", Reply),
    "pilots": ("/v1/pilots", Reply),
    "nodes": ("/v1/nodes", Reply),
    "users": ("/v1/users", Reply),
    "tokens": ("/v1/tokens", Reply),
    "incidents": ("/v1/incidents", Reply),
    "audit": ("/v1/audit", Reply),
    "versions": ("/v1/site-versions", Reply),
    "downtimes": ("/v1/downtimes", Reply),
    "acts": ("/v1/site-rule-acts", Reply),
}


class Client:
    """Calls to a PanDA server in one person's name. Threads may share it.

    Every method raises children of `ClientError`. Idempotent calls are repeated up to 5 times when the
    connection breaks or the server asks for patience.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str = "",
        *,
        transport: Transport | None = None,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
        ca: str = "",
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`ca`: PEM file of the roots to trust, for https; `transport` stands in for the network."""
        self.url = url.rstrip("/")
        self._calls = Calls(
            transport or HttpTransport(self.url, connect_s=connect_s, read_s=read_s, ca=ca),
            token,
            user_agent=f"panda-client/{__version__}",
            tries=tries,
            sleep=sleep,
        )
        self.datasets = Datasets(self._calls)
        self.actions = Actions(self._calls)
        self.users = Users(self._calls)
        self.tokens = Tokens(self._calls)
        self.quotas = Quotas(self._calls)
        self.logins = Logins(self._calls)
        self.incidents = Incidents(self._calls)
        self.places = Places(self._calls)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        url: str = "",
        profile: str = "",
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Self:
        """A client as the environment says: PANDA_URL, PANDA_TOKEN or PANDA_TOKEN_FILE, PANDA_TIMEOUT
        (seconds to wait for an answer), PANDA_CA (PEM file of the roots to trust), PANDA_PROFILE.

        What is not set comes from the files of settings (see `configuration`) and from what `panda login` kept; then
        from the installation on this machine whose folder is PANDA_DATA_DIR (`./data`).

        Raises:
            Invalid: a value that cannot be meant, a file that cannot be read.
        """
        found = surroundings(environ, url=url, profile=profile)
        return cls(
            found.url.value,
            found.token.value,
            read_s=timeout_from(found.timeout, READ_S),
            ca=found.ca.value,
            tries=tries,
            sleep=sleep,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this thread's connection."""
        self._calls.close()

    # ---- lists ---------------------------------------------------------------------------------

    def find(
        self,
        noun: str,
        filter: str | None = None,
        *,
        sort: str | None = None,
        limit: int | None = None,
        owner: str | None = None,
    ) -> Pages[Any]:
        """Things of a kind that fit, fetched as they are asked for.

        Args:
            noun: jobs, jobsets, attempts, actions, datasets, files, transfers, queues, sites, storages, pilots, nodes,
                users, tokens, incidents, audit, downtimes, versions (of what is known of places) or
                acts (of rules).
            filter: as in `status:failed site:HOL* changed:24h`.
            sort: a field that the server can sort by; `-` before it: descending.
        Raises:
            Invalid: there is no such noun, field or word.
        """
        if noun not in NOUNS:
            raise Invalid(f"there is no list of {noun}; there are: {', '.join(NOUNS)}", code="unknown_noun")
        path, kind = NOUNS[noun]
        return pages(self._calls, path, kind, {"filter": filter or None, "sort": sort, "owner": owner}, limit)

    def counts(self, filter: str | None = None, *, by: Sequence[str] = ("status",)) -> dict[str, Any]:
        """How many jobs fit, by up to three fields: `data`, `n`, and whether that is `exact`."""
        query = {"filter": filter or None, "by": ",".join(by)}
        return mapping(self._calls.get("/v1/jobs/counts", query), "count", data=list, n=int)

    def follow(
        self,
        *,
        job: int | None = None,
        jobset: int | None = None,
        mine: bool = False,
        after: str = "",
        poll_s: float = POLL_S,
        patience_s: float = STREAM_PATIENCE_S,
    ) -> Follower:
        """Moves of jobs as they happen, of one job, of a job set, or of all that I may see; iterate over it.

        A stream that breaks is opened again where it ended; without one, the jobs are looked at every `poll_s`.

        Args:
            after: the `cursor` of an earlier one, to go on from there.
        """
        return Follower(
            self._calls, job=job, jobset=jobset, mine=mine, after=after, poll_s=poll_s, patience_s=patience_s
        )

    # ---- job sets ------------------------------------------------------------------------------

    def submit(self, document: Mapping[str, Any], *, idempotency_key: str = "") -> Accepted:
        """Submit a job set (the document of POST /v1/jobsets).

        A key is made if none is given, so that the repeat after a lost answer gives the same job set.
        Give your own to make a whole program safe to run again.

        Raises:
            Invalid: something in the document cannot be meant; nothing was stored.
            Conflict: the key was used before, for another document.
        """
        headers = {"Idempotency-Key": idempotency_key or os.urandom(16).hex()}
        answer = self._calls.json("POST", "/v1/jobsets", dict(document), headers=headers, idempotent=True)
        return parsed(Accepted, answer)

    def jobsets(
        self, *, owner: str | None = None, filter: str | None = None, limit: int | None = None
    ) -> Pages[JobSet]:
        """Job sets, newest first, fetched as they are asked for."""
        return pages(self._calls, "/v1/jobsets", JobSet, {"owner": owner, "filter": filter}, limit)

    def jobset(self, jobset_id: int) -> JobSet:
        """Raises NotFound."""
        return parsed(JobSet, self._calls.get(f"/v1/jobsets/{jobset_id}"))

    def jobset_jobs(
        self, jobset_id: int, *, status: str | None = None, filter: str | None = None, limit: int | None = None
    ) -> Pages[Job]:
        """The jobs of a set, newest first, fetched as they are asked for."""
        path, query = f"/v1/jobsets/{jobset_id}/jobs", {"status": status, "filter": filter}
        return pages(self._calls, path, Job, query, limit)

    def retry_jobset(self, jobset_id: int, *, stage: str | None = None, reason: str = "") -> Affected:
        """Open a new attempt of every failed job of the set; see `retry`.

        The first of them are reached at once; the others by the action that the answer's `action_id` names.
        """
        path = f"/v1/jobsets/{jobset_id}/retry"
        return parsed(Affected, self._calls.json("POST", path, _retry(stage, reason), headers=_key()))

    def cancel_jobset(self, jobset_id: int, *, reason: str = "") -> Affected:
        """Cancel every job of the set that has not ended."""
        return self._said(f"/v1/jobsets/{jobset_id}/cancel", reason)

    def hold_jobset(self, jobset_id: int, *, reason: str = "") -> Affected:
        """Hold every job of the set that no pilot has; `action_id` is the action that brings those that are left.

        Raises:
            Conflict: `not_expanded`: some of its jobs are not made yet.
        """
        return self._said(f"/v1/jobsets/{jobset_id}/hold", reason)

    def release_jobset(self, jobset_id: int, *, reason: str = "") -> Affected:
        """Let the held jobs of the set go on, and the set itself if parents that did not finish keep it."""
        return self._said(f"/v1/jobsets/{jobset_id}/release", reason)

    # ---- jobs ----------------------------------------------------------------------------------

    def jobs(
        self,
        *,
        status: str | None = None,
        jobset: int | None = None,
        owner: str | None = None,
        queue: str | None = None,
        filter: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Pages[Job]:
        """Jobs that fit, newest first, fetched as they are asked for. `status`: one or more, with commas;
        `filter`: as in `error:stageout:* changed:24h`."""
        query: Query = {
            "status": status,
            "jobset": jobset,
            "owner": owner,
            "queue": queue,
            "filter": filter,
            "sort": sort,
        }
        return pages(self._calls, "/v1/jobs", Job, query, limit)

    def job(self, panda_id: int) -> Job:
        """Raises NotFound."""
        return parsed(Job, self._calls.get(f"/v1/jobs/{panda_id}"))

    def events(self, panda_id: int) -> list[JobEvent]:
        """Every move of the job, oldest first."""
        return one_page(self._calls, f"/v1/jobs/{panda_id}/events", JobEvent)

    def files(self, panda_id: int) -> list[JobFile]:
        """The job's inputs and outputs."""
        return list(pages(self._calls, f"/v1/jobs/{panda_id}/files", JobFile))

    def attempts(self, panda_id: int) -> list[Attempt]:
        """The job's attempts, oldest first."""
        return one_page(self._calls, f"/v1/jobs/{panda_id}/attempts", Attempt)

    def attempt(self, panda_id: int, attempt_nr: int) -> Attempt:
        """One of the job's attempts. Raises NotFound."""
        return parsed(Attempt, self._calls.get(f"/v1/jobs/{panda_id}/attempts/{attempt_nr}"))

    def usage(self, panda_id: int, *, attempt: int | None = None) -> dict[str, Any]:
        """What a job used while it ran: `points`, one per heartbeat, at most 200."""
        return mapping(self._calls.get(f"/v1/jobs/{panda_id}/usage", {"attempt": attempt}), "usage", points=list)

    def used(
        self, *, by: str = "user", days: int = 30, bin: str | None = None, owner: str | None = None,
        group: str | None = None, share: str | None = None, queue: str | None = None, site: str | None = None,
        kind: str | None = None,
    ) -> Pages[Reply]:  # fmt: skip
        """Sums over the last days by user, (working) group, share, queue, site, kind or day; facts in `.raw`: `name`,
        `core_s` and more. `bin`: a series by day, week or month. The others: only what was used by, for or there."""
        only = {"owner": owner, "group": group, "share": share, "queue": queue, "site": site, "kind": kind}
        return pages(self._calls, "/v1/usage", Reply, {"by": by, "days": days, "bin": bin, **only})

    def why(self, panda_id: int) -> Why:
        """Why the job is where it is: its wait, who comes first, what would let it run, what brokerage said."""
        return parsed(Why, self._calls.get(f"/v1/jobs/{panda_id}/why"))

    def why_set(self, jobset_id: int) -> JobSetWhy:
        """Why the jobs of a set have not ended, by what they wait for. Raises NotFound."""
        return parsed(JobSetWhy, self._calls.get(f"/v1/jobsets/{jobset_id}/why"))

    def why_pilot(self, pilot_id: str) -> PilotWhy:
        """Why a pilot got nothing. Raises NotFound."""
        return parsed(PilotWhy, self._calls.get(f"/v1/pilots/{segment(pilot_id)}/why"))

    def logs(self, panda_id: int) -> Logs:
        """The job's logs: `.list()`, `.blocks()`, `.tail()`, `.follow()`."""
        return Logs(self._calls, panda_id, self.job)

    def retry(self, panda_id: int, *, stage: str | None = None, reason: str = "") -> Affected:
        """Open a new attempt of a failed job.

        Args:
            stage: define, broker, stage_in or stage_out; unset: where the last attempt failed.
        Raises:
            Conflict: the job is not failed.
            Unavailable: `code` lost_reply: whether it was done is not known; look at the job.
        """
        path = f"/v1/jobs/{panda_id}/retry"
        return parsed(Affected, self._calls.json("POST", path, _retry(stage, reason), headers=_key()))

    def rebroker(self, panda_id: int, *, exclude: Sequence[str] = (), reason: str = "") -> Affected:
        """Let brokerage look again at a job that no pilot has.

        Args:
            exclude: sites and queues, or patterns of them, that the job is kept from for good.
        Raises:
            Conflict: it runs or has ended, or brokerage has not seen it yet.
        """
        path, document = f"/v1/jobs/{panda_id}/rebroker", {"exclude": list(exclude), "reason": reason}
        return parsed(Affected, self._calls.json("POST", path, document, headers=_key(), idempotent=True))

    def cancel(self, panda_id: int, *, reason: str = "") -> Affected:
        """Cancel a job; a running one hears of it at its pilot's next heartbeat."""
        return self._said(f"/v1/jobs/{panda_id}/cancel", reason)

    def hold(self, panda_id: int, *, reason: str = "") -> Affected:
        """Let a job stand still until it is released. Raises Conflict: a pilot has it, or it has ended."""
        return self._said(f"/v1/jobs/{panda_id}/hold", reason)

    def release(self, panda_id: int, *, reason: str = "") -> Affected:
        """Let a held job go on. Raises Conflict: it is not held, or an operator holds it."""
        return self._said(f"/v1/jobs/{panda_id}/release", reason)

    def _said(self, path: str, reason: str) -> Affected:
        """A deed that does no harm when it is repeated."""
        return parsed(Affected, self._calls.json("POST", path, {"reason": reason}, headers=_key(), idempotent=True))

    def wait(
        self,
        *,
        jobsets: Sequence[int] = (),
        jobs: Sequence[int] = (),
        timeout_s: float | None = None,
        until: Callable[[Waited], bool] = is_ended,
        on_look: Callable[[Waited], None] = lambda _: None,
        patience_s: float = PATIENCE_S,
    ) -> Waited:
        """Wait until these have ended (or `until` holds), looking every 0.2 s at first, then every 2 s.

        Raises:
            WaitTimeout: `timeout_s` passed; the jobs go on.
            Unavailable: the server stayed away for `patience_s`.
        """
        return wait(
            look_at(jobsets, jobs, self.jobset, self.job),
            until=until,
            timeout_s=timeout_s,
            on_look=on_look,
            patience_s=patience_s,
            sleep=self._calls.sleep,
        )

    # ---- sandboxes -----------------------------------------------------------------------------

    def upload_sandbox(self, paths: Sequence[str | Path], base: Path | None = None) -> Sandbox:
        """Pack `paths` (see `sandbox.pack`) and upload them, unless the server has the same bytes.

        The answer's `sha256` is what a job set names as its `sandbox`.
        """
        from tempfile import TemporaryFile

        with TemporaryFile() as packed:
            sandbox = pack(paths, packed, base)
            if not self.has_sandbox(sandbox.sha256):
                headers = {"Content-Type": "application/gzip", "Content-Length": str(sandbox.size_bytes)}
                path = f"/v1/sandboxes/{sandbox.sha256}"
                with self._calls.response("PUT", path, headers=headers, body=lambda: _anew(packed)) as response:
                    response.read()
        return sandbox

    def has_sandbox(self, sha256: str) -> bool:
        """Whether the server keeps a sandbox of this content."""
        try:
            with self._calls.response("HEAD", f"/v1/sandboxes/{sha256}") as response:
                response.read()
        except NotFound:
            return False
        return True

    # ---- places and the rest -------------------------------------------------------------------

    def queues(self, *, filter: str | None = None) -> Pages[Reply]:
        """PanDA queues; facts in `.raw`."""
        return pages(self._calls, "/v1/queues", Reply, {"filter": filter})

    def queue(self, name: str) -> Reply:
        """A queue; facts in `.raw`. Raises NotFound."""
        return parsed(Reply, self._calls.get(f"/v1/queues/{segment(name)}"))

    def mismatches(self, queue: str) -> dict[str, Any]:
        """How the `asks` of pilots at a queue ended in 24 h; `mismatches`: what they had too little of."""
        path = f"/v1/queues/{segment(queue)}/mismatches"
        return mapping(self._calls.get(path), "mismatches", queue=str, asks=list, mismatches=list)

    def sites(self, *, filter: str | None = None) -> Pages[Reply]:
        """Sites; facts in `.raw`."""
        return pages(self._calls, "/v1/sites", Reply, {"filter": filter})

    def storages(self, *, filter: str | None = None) -> Pages[Reply]:
        """Storages; facts in `.raw`."""
        return pages(self._calls, "/v1/storages", Reply, {"filter": filter})

    def set_queue_status(
        self,
        queue: str,
        status: str,
        *,
        reason: str = "",
        until: datetime | None = None,
        then: str | None = None,
        tried: bool = False,
    ) -> dict[str, Any]:
        """Open or close a queue: online, test, brokeroff or offline.

        Args:
            until: when it goes over to `then` by itself; unset `then`: to what it was before.
            tried: only with `test`: test jobs are sent, and when enough succeed it goes online.
        """
        document = {"status": status, "reason": reason, "until": until, "then": then, "tried": tried}
        path = f"/v1/queues/{segment(queue)}/status"
        return mapping(self._calls.json("POST", path, document, idempotent=True), "status", queue=str, status=str)

    def transfers(self, *, filter: str | None = None, limit: int | None = None) -> Pages[Reply]:
        """Files between storages, the newest first; facts in `.raw`. `filter`: as in `status:queued,moving`."""
        return pages(self._calls, "/v1/transfers", Reply, {"filter": filter}, limit)

    def links(self) -> list[Reply]:
        """Queue and throughput from each storage to each other; facts in `.raw`."""
        return one_page(self._calls, "/v1/links", Reply)

    def jobset_datasets(self, jobset_id: int) -> list[Reply]:
        """The set's data, part by part: what it reads, what was brought to sites, what it writes and ships; facts in
        `.raw`. Raises NotFound."""
        return one_page(self._calls, f"/v1/jobsets/{jobset_id}/datasets", Reply)

    def storage_quotas(self, owner: str | None = None) -> Pages[Reply]:
        """How much may be kept where (by `owner`), and how much is; facts in `.raw`."""
        return pages(self._calls, "/v1/storage-quotas", Reply, {"owner": owner})

    def shares(self) -> Pages[Reply]:
        """The tree of shares, each one followed by those below it; facts in `.raw`."""
        return pages(self._calls, "/v1/shares", Reply)

    def set_share_weight(self, share: str, weight: float, *, reason: str) -> dict[str, Any]:
        """Give a share another weight, above 0; `reason` stands in the audit log."""
        document = {"weight": weight, "reason": reason}
        path = f"/v1/shares/{segment(share)}"
        return mapping(self._calls.json("PUT", path, document, idempotent=True), "weight", share=str)

    def add_share(self, share: str, weight: float, *, below: str = "", reason: str) -> dict[str, Any]:
        """Add a share, below another one or at the top. Raises NotFound, Conflict, Invalid."""
        document = {"name": share, "weight": weight, "parent": below, "reason": reason}
        return mapping(self._calls.json("POST", "/v1/shares", document), "parent", share=str)

    def move_share(self, share: str, *, below: str, reason: str) -> dict[str, Any]:
        """Put a share below another one; empty: at the top. Raises NotFound, Invalid."""
        document = {"parent": below, "reason": reason}
        answer = self._calls.json("POST", f"/v1/shares/{segment(share)}/move", document, idempotent=True)
        return mapping(answer, "parent", share=str)

    def remove_share(self, share: str, *, reason: str) -> dict[str, Any]:
        """Take a share away. Raises NotFound, Conflict."""
        answer = self._calls.json("POST", f"/v1/shares/{segment(share)}/remove", {"reason": reason})
        return mapping(answer, "removal", share=str)

    def views(self) -> Pages[Reply]:
        """My saved views, by name; facts in `.raw`."""
        return pages(self._calls, "/v1/views", Reply)

    def save_view(self, name: str, filter: str) -> Affected:
        """Keep a filter of jobs under a name; the one that has it already is replaced."""
        path = f"/v1/views/{segment(name)}"
        return parsed(Affected, self._calls.json("PUT", path, {"filter": filter}, idempotent=True))

    def forget_view(self, name: str) -> Affected:
        """Raises NotFound: there is no such view."""
        return parsed(Affected, self._calls.json("DELETE", f"/v1/views/{segment(name)}"))

    def switches(self) -> Pages[Reply]:
        """What is paused, the newest first; facts in `.raw`."""
        return pages(self._calls, "/v1/switches", Reply)

    def pause(
        self, what: str, *, reason: str, site: str = "", queue: str = "", node: str = "", for_s: float | None = None
    ) -> dict[str, Any]:
        """Pause `brokerage` or `dispatch` at a place; nothing named: everywhere. `for_s`: ends by itself after that."""
        place = {"site": site, "queue": queue, "node": node}
        document = {"paused": True, "reason": reason, **place, **({} if for_s is None else {"for_s": for_s})}
        return mapping(
            self._calls.json("POST", f"/v1/switches/{segment(what)}", document, idempotent=True), "pause", queue=str
        )

    def resume(self, what: str, *, reason: str, site: str = "", queue: str = "", node: str = "") -> dict[str, Any]:
        """End a pause, named as it was made. Raises NotFound: it is not paused."""
        document = {"paused": False, "reason": reason, "site": site, "queue": queue, "node": node}
        return mapping(self._calls.json("POST", f"/v1/switches/{segment(what)}", document), "pause", queue=str)

    def whoami(self) -> dict[str, Any]:
        """Who the server takes the caller for, and the roles."""
        return mapping(self._calls.get("/v1/whoami"), "person", subject=str)

    def create_token(
        self, owner: str, roles: Sequence[str], *, label: str = "", ttl_s: float | None = None, queue: str = ""
    ) -> dict[str, Any]:
        """A token for somebody (admins only); it is shown this once. `queue` binds a pilot's to one queue."""
        return self.tokens.create(owner, roles, label=label, ttl_s=ttl_s, queue=queue)

    def health(self) -> dict[str, Any]:
        """Which part of the server is well: `status` (ok, degraded or down) and `parts`.

        Raises:
            Unavailable: no server answers. A server that is down, and says so, is an answer.
        """
        try:
            with self._calls.response("GET", "/readyz", tries=1) as response:
                return mapping(decoded(response), "health", status=str, parts=dict)
        except Unavailable as problem:
            if "parts" not in problem.problem:
                raise
            return problem.problem

    def is_ready(self) -> bool:
        """Whether the server can do its work now."""
        try:
            return self.health().get("status") in ("ok", "degraded")
        except ClientError:
            return False

    def request(self, method: str, path: str, document: object = None) -> Any:
        """Any call; the JSON answer."""
        headers = _key() if method == "POST" else None
        return self._calls.json(method, path, document, headers=headers)


def _retry(stage: str | None, reason: str) -> dict[str, str]:
    return {"reason": reason} if stage is None else {"stage": stage, "reason": reason}


def _key() -> dict[str, str]:
    return {"Idempotency-Key": os.urandom(16).hex()}


def _anew(packed: BinaryIO) -> BinaryIO:
    """The packed sandbox from its start; the caller may close what it gets."""
    packed.seek(0)
    return os.fdopen(os.dup(packed.fileno()), "rb")

"""What jobs do, as it happens: the server's stream of events, else looks at a list.

A stream that breaks off is opened again where it ended (`Last-Event-ID`): nothing is missed, and what comes
twice is told once. A server that has no stream, or none to spare, is asked for a list now and then instead:
a look sees where a job stands, not each of its moves.
"""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from panda.client.calls import Calls, Query
from panda.client.errors import ClientError, Invalid, NotFound, ServerError, Unauthenticated, Unavailable
from panda.client.pages import pages
from panda.client.replies import Job, Reply, parsed
from panda.client.transport import Response

POLL_S = 5.0
#: Seconds that a server may be away before a stream gives up.
PATIENCE_S = 120.0
LONGEST_PAUSE_S = 10.0
#: Event ids that are remembered, to tell repeats.
REMEMBERED = 10_000
#: A line of a stream that is longer is no event of ours.
LONGEST_LINE = 1 << 20
#: What says that there is no stream here; polling does as well.
NO_STREAM = (404, 405, 406, 501)


class JobMoved(Reply, kw_only=True, frozen=True):
    """A move of a job. `event_id` is 0 where a look at a list has found it."""

    panda_id: int
    now: str
    event_id: int = 0
    jobset_id: int | None = None
    owner: str = ""
    at: datetime | None = None
    was: str | None = None
    attempt_nr: int = 1
    stage: str | None = None
    by: str = ""
    reason: str | None = None


class ServerEvent(NamedTuple):
    """One server-sent event; `kind` "" is a comment, which says that the stream lives."""

    kind: str = ""
    data: str = ""
    cursor: str = ""


class _Broken(Exception):
    """The stream ended; it is opened again."""


class _NoStream(Exception):
    """This server streams nothing now."""


class Follower:
    """What to follow: a job, a job set, or all that the caller may see."""

    def __init__(
        self,
        calls: Calls,
        *,
        job: int | None = None,
        jobset: int | None = None,
        mine: bool = False,
        after: str = "",
        poll_s: float = POLL_S,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`after`: the cursor to go on from; see `cursor`. Raises Invalid: a job and a job set."""
        if job is not None and jobset is not None:
            raise Invalid("follow a job or a job set, not both", code="bad_follow")
        self._calls, self._clock = calls, clock
        self._job, self._jobset, self._mine = job, jobset, mine
        self._poll_s, self._patience_s = poll_s, patience_s
        self._seen: OrderedDict[int, None] = OrderedDict()
        self.cursor = after
        self.is_polling = False

    def __iter__(self) -> Iterator[JobMoved]:
        """Moves, as they happen, for ever.

        Raises:
            Unauthenticated: the token is no longer good. NotFound, Forbidden.
            Unavailable: the server stayed away.
        """
        return (moved for moved in self.ticks() if moved is not None)

    def ticks(self) -> Iterator[JobMoved | None]:
        """The same, with None every few seconds in which nothing happens."""
        seen_at = self._clock()
        n_broken = 0
        while True:
            try:
                for moved in self._streamed():
                    seen_at, n_broken = self._clock(), 0
                    yield moved
            except _NoStream:
                break
            except (_Broken, Unavailable) as problem:
                if self._clock() - seen_at >= self._patience_s:
                    raise Unavailable(f"no stream of events: {problem}", code="lost_stream") from None
                pause_s = min(LONGEST_PAUSE_S, 0.2 * 2**n_broken) * random.uniform(0.5, 1.0)
                n_broken = min(n_broken + 1, 10)
                yield None
                self._calls.sleep(pause_s)
        self.is_polling = True
        yield from self._polled()

    # ---- the stream -----------------------------------------------------------------------------

    def _streamed(self) -> Iterator[JobMoved | None]:
        query: Query = {"job": self._job, "jobset": self._jobset, "mine": "true" if self._mine else None}
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.cursor} if self.cursor else {})
        try:
            with self._calls.response("GET", "/v1/events", query=query, headers=headers, own=True, tries=1) as response:
                if not response.header("Content-Type").startswith("text/event-stream"):
                    raise _NoStream
                for event in server_events(response):
                    yield self._taken(event)
        except ClientError as problem:
            if problem.code == "too_many_streams" or (problem.status in NO_STREAM and not self._is_ours(problem)):
                raise _NoStream from None
            if problem.code == "lost_reply":
                raise _Broken(problem.message) from None
            raise
        raise _Broken("the stream ended")

    def _is_ours(self, problem: ClientError) -> bool:
        """Whether a 404 means the job, or the job set, rather than the stream."""
        return isinstance(problem, NotFound) and (self._job is not None or self._jobset is not None)

    def _taken(self, event: ServerEvent) -> JobMoved | None:
        if event.cursor:
            self.cursor = event.cursor
        if event.kind == "end":
            code = str(_decoded(event.data).get("code") or "")
            raise Unauthenticated("the token is no longer good", code=code, status=401)
        if event.kind != "job":
            return None
        moved = parsed(JobMoved, _decoded(event.data))
        if moved.event_id in self._seen:
            return None
        if moved.event_id:
            self._seen[moved.event_id] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return moved

    # ---- looks ----------------------------------------------------------------------------------

    def _polled(self) -> Iterator[JobMoved | None]:
        """Jobs whose status, or attempt, is another one than at the look before."""
        known: dict[int, tuple[str, int]] = {}
        since: datetime | None = None
        is_first = True
        while True:
            for job in pages(self._calls, "/v1/jobs", Job, self._looked_for(since)):
                before, now = known.get(job.panda_id), (job.status, job.attempt_nr)
                known[job.panda_id] = now
                if job.changed_at is not None:
                    since = job.changed_at if since is None else max(since, job.changed_at)
                if before != now and not is_first:
                    yield _moved(job, before)
            is_first = False
            yield None
            self._calls.sleep(self._poll_s)

    def _looked_for(self, since: datetime | None) -> Query:
        parts = [f"panda_id:{self._job}" if self._job else "", f"jobset:{self._jobset}" if self._jobset else ""]
        if since is not None:
            parts.append(f"changed>={since.isoformat().replace('+00:00', 'Z')}")
        elif self._job is None and self._jobset is None:
            parts.append("changed:1m")
        query: dict[str, str] = {"filter": " ".join(part for part in parts if part)}
        if self._mine:
            who = self._calls.get("/v1/whoami")
            query["owner"] = str(who.get("subject")) if isinstance(who, dict) else ""
        return query


def server_events(response: Response) -> Iterator[ServerEvent]:
    """The events of a stream (WHATWG's text/event-stream), comments too. Raises LostReply, ServerError."""
    kind, cursor, data = "", "", list[str]()
    for line in _lines(response):
        if line.startswith(":"):
            yield ServerEvent()
        elif line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                cursor = value
        elif data:
            yield ServerEvent(kind or "message", "\n".join(data), cursor)
            kind, cursor, data = "", "", []
        else:
            kind = ""


def _lines(response: Response) -> Iterator[str]:
    rest = b""
    while block := response.some():
        *whole, rest = (rest + block).replace(b"\r\n", b"\n").split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise ServerError("the stream of events has a line without an end", code="not_understood")
        yield from (line.decode("utf-8", "replace") for line in whole)


def _decoded(data: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except msgspec.MsgspecError:
        found = None
    if not isinstance(found, dict):
        raise ServerError("the stream of events holds something else", code="not_understood")
    return found


def _moved(job: Job, before: tuple[str, int] | None) -> JobMoved:
    return parsed(
        JobMoved,
        {
            "panda_id": job.panda_id, "now": job.status, "jobset_id": job.jobset_id, "owner": job.owner,
            "at": job.changed_at, "was": before[0] if before else None, "attempt_nr": job.attempt_nr,
            "stage": job.stage,
        },
    )  # fmt: skip

"""/v1/events: what jobs do, as it happens (server-sent events)."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import BoundedSemaphore

import falcon
import msgspec

from panda.api import schemas
from panda.api.access import allowed
from panda.api.answers import ENCODER
from panda.api.described import Raw, gives
from panda.api.endings import endings
from panda.api.errors import BadRequest
from panda.api.parameters import MAX_ID, optional_whole, word
from panda.auth import policy
from panda.auth.policy import Action
from panda.auth.tokens import Verifier
from panda.db.session import Begin
from panda.errors import Forbidden, Invalid, PandaError, Unauthenticated, Unavailable
from panda.jobs import event_feed, queries
from panda.jobs.event_feed import Event, Feed, Listener, Wish

#: A comment goes out after this much silence, so that proxies keep the stream and a client that left is noticed.
KEEP_ALIVE_S = 5.0
#: A client that lost the stream comes again after this.
RETRY_MS = 2_000


class TooManyStreams(Unavailable):
    """This process streams to as many callers as it may."""

    code = "too_many_streams"
    retry_after_s = 10


class EventsResource:
    """/v1/events?jobset=|job=|mine=true"""

    def __init__(self, begin: Begin, verify: Verifier, max_streams: int) -> None:
        self._begin, self._verify = begin, verify
        self._feed = Feed(begin)
        endings.append(self._feed.end)
        self._room = BoundedSemaphore(max_streams)
        self._max_streams = max_streams

    @allowed(Action.READ_JOBS, "jobset", "job", "mine")
    @gives(
        Raw("text/event-stream"),
        headers=("Last-Event-ID",),
        problems={404: "not_found not_expanded", 422: "invalid", 503: "too_many_streams"},
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Moves of jobs as they happen: of a job, of a job set, or of all that the caller may see.

        Server-sent events of kind `job`, each with a JobMoved. `Last-Event-ID` goes on where a stream broke off:
        nothing is missed, a few events may come twice (`event_id` tells). `reset` says that it lies too far back;
        `end`, with a problem's `code`, that the token is no longer good.
        """
        wish, after = _wish(req), _cursor(req)
        if wish.panda_id is not None or wish.jobset_id is not None:
            policy.require(req.context.identity, Action.READ_JOBS, self._owner(wish))
        else:
            wish = replace(wish, owner=policy.scope(req.context.identity, Action.READ_JOBS, wish.owner))
        if not self._room.acquire(blocking=False):
            raise TooManyStreams(f"{self._max_streams} streams are open; try again, or ask for a list")
        try:
            listener = self._feed.listen(wish)
        except BaseException:
            self._room.release()
            raise
        token = req.env["HTTP_AUTHORIZATION"].partition(" ")[2].strip()
        resp.content_type = "text/event-stream; charset=utf-8"
        resp.set_header("Cache-Control", "no-store")
        resp.set_header("X-Accel-Buffering", "no")
        resp.stream = _Stream(self._told(listener, after, token), lambda: self._left(listener))

    def _owner(self, wish: Wish) -> str:
        """Whose the named job or job set is. Raises NotFound."""
        with self._begin() as connection:
            if wish.panda_id is not None:
                return queries.owner_of(connection, wish.panda_id)
            assert wish.jobset_id is not None
            return queries.jobset_owner(connection, wish.jobset_id)

    def _told(self, listener: Listener, after: int | None, token: str) -> Iterator[bytes]:
        yield b"retry: %d\n\n" % RETRY_MS
        replayed: set[int] = set()
        if after is not None:
            if after < listener.started_at - event_feed.MAX_REPLAY:
                yield b"event: reset\ndata: {}\n\n"
                after = listener.started_at
            while after < listener.started_at:
                events, after = event_feed.replay(self._begin, listener.wish, after, listener.started_at)
                replayed |= {event.event_id for event in events}
                if events:
                    yield b"".join(map(_written, events))
        else:
            yield b"id: %d\nevent: start\ndata: {}\n\n" % listener.started_at
        checked_at = time.monotonic()
        while not listener.lost:
            events = [each for each in listener.take(KEEP_ALIVE_S) if each.event_id not in replayed]
            if time.monotonic() - checked_at >= KEEP_ALIVE_S:
                problem = self._refusal(token)
                if problem is not None:
                    yield b"event: end\ndata: %s\n\n" % msgspec.json.encode({"code": problem.code})
                    return
                checked_at = time.monotonic()
            yield b"".join(map(_written, events)) if events else b": still here\n\n"

    def _refusal(self, token: str) -> PandaError | None:
        """Why the stream ends: its token is no longer good. A database that is away ends nothing."""
        try:
            policy.require(self._verify(token), Action.READ_JOBS)
        except (Unauthenticated, Forbidden) as problem:
            return problem
        except Exception:
            return None
        return None

    def _left(self, listener: Listener) -> None:
        self._feed.leave(listener)
        self._room.release()


class _Stream:
    """An iterable whose `close` is called once, whether or not anything of it was taken."""

    def __init__(self, told: Iterator[bytes], when_over: Callable[[], None]) -> None:
        self._told, self._when_over, self._is_over = told, when_over, False

    def __iter__(self) -> Iterator[bytes]:
        return self._told

    def close(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._when_over()


def _wish(req: falcon.Request) -> Wish:
    """What is asked for. Raises BadRequest, Invalid."""
    panda_id, jobset_id = optional_whole(req, "job", 1, MAX_ID), optional_whole(req, "jobset", 1, MAX_ID)
    mine = word(req, "mine")
    if mine not in (None, "true", "false"):
        raise BadRequest("is either true or false", where="mine")
    if panda_id is not None and jobset_id is not None:
        raise Invalid("give a job or a job set, not both", where="job")
    return Wish(panda_id, jobset_id, req.context.identity.subject if mine == "true" else None)


def _cursor(req: falcon.Request) -> int | None:
    given = (req.get_header("Last-Event-ID") or "").strip()
    if not given:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise BadRequest("the id of an event that came before", where="Last-Event-ID")
    return int(given)


def _written(event: Event) -> bytes:
    if not event.frame:
        row = event.facts
        moved = schemas.JobMoved(
            event_id=event.event_id, panda_id=event.panda_id, jobset_id=event.jobset_id, owner=event.owner, at=row.at,
            was=row.was, now=row.now, attempt_nr=row.attempt_nr, stage=row.stage, by=row.by, reason=row.reason,
        )  # fmt: skip
        event.frame = b"id: %d\nevent: job\ndata: %s\n\n" % (event.cursor, ENCODER.encode(moved))
    return event.frame

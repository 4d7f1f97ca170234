"""One call: the token goes with it, what may be repeated is repeated, and a refusal becomes an error.

What may be repeated: a call that is idempotent, after any loss; any call that never reached the server,
or that the server put off (429, 503). Waits double from 0.2 s, with jitter, and honour `Retry-After`.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from panda.client.errors import ClientError, ServerError, Unavailable, from_problem
from panda.client.transport import Body, LostReply, NotSent, Request, Response, Transport

TRIES = 5
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
#: The server did nothing and says so.
PUT_OFF = frozenset({429, 503})
#: Something between us and the server failed; it may have done it.
UNSURE = frozenset({502, 504})
#: What changes nothing.
READING = frozenset({"GET", "HEAD"})

T = TypeVar("T")
Query = Mapping[str, str | int | float | None]


class Calls:
    """Calls to one server in one person's name."""

    def __init__(
        self,
        transport: Transport,
        token: str = "",
        *,
        user_agent: str = "panda-client",
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport, self._token, self._tries = transport, token, tries
        self._user_agent = user_agent
        self.sleep = sleep

    def get(self, path: str, query: Query | None = None) -> Any:
        """The JSON document at `path`."""
        return self.json("GET", path, query=query)

    def json(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
    ) -> Any:
        """Send `document` as JSON, return the JSON answer (None for an empty one)."""
        sent = dict(headers or {})
        body: bytes | None = None
        if document is not None:
            body = msgspec.json.encode(document)
            sent["Content-Type"] = "application/json"
        harmless = is_harmless(method, idempotent)
        request = Request(method, target(path, query), self._headers(sent), body=body, fresh=not harmless)
        return self._tried(request, harmless, decoded)

    @contextmanager
    def response(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        idempotent: bool | None = None,
        own: bool = False,
        tries: int | None = None,
    ) -> Iterator[Response]:
        """The answer, not read yet, of a call that the server granted.

        Args:
            own: on a connection of its own, for an answer that is read while other calls are made.
            tries: at most so many; unset: as often as any call.
            idempotent: whether a repeat does no harm; unset, it goes by the method.
        Raises:
            ClientError: one of its children, for each refusal and for a server that stays away.
        """
        harmless = is_harmless(method, idempotent)
        sent = self._headers(headers)
        request = Request(method, target(path, query), sent, body=body, fresh=not harmless, own=own)
        granted = self._tried(request, harmless, _itself, tries)
        try:
            yield granted
        except LostReply as problem:
            message, wrote = f"the answer broke off: {problem}", method not in READING
            raise Unavailable(message, code="lost_reply", may_be_done=wrote) from problem
        finally:
            granted.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        sent = {"Accept": "application/json", "User-Agent": self._user_agent, **(headers or {})}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        return sent

    def _tried(self, request: Request, harmless: bool, take: Callable[[Response], T], tries: int | None = None) -> T:
        problem: ClientError = Unavailable("no try was made")
        for n_before in range(tries or self._tries):
            if n_before:
                self.sleep(pause_s(n_before, problem))
            try:
                response = self._transport.send(request)
                if response.status < 300:
                    return take(response)
                problem = refusal(response)
            except NotSent as lost:
                problem = Unavailable(f"no server at {lost}", code="no_server")
            except LostReply as lost:
                if not harmless:
                    message = f"the connection broke: {lost}; whether it was done is not known"
                    raise Unavailable(message, code="lost_reply", may_be_done=True) from lost
                wrote = request.method not in READING
                problem = Unavailable(f"the connection broke: {lost}", code="lost_reply", may_be_done=wrote)
            else:
                if response.status not in PUT_OFF and not (harmless and response.status in UNSURE):
                    break
        raise problem


def is_harmless(method: str, said: bool | None) -> bool:
    """Whether a repeat of the call does no harm: as said, else by its method."""
    return method in ("GET", "HEAD", "PUT", "DELETE") if said is None else said


def _itself(response: Response) -> Response:
    return response


def target(path: str, query: Query | None) -> str:
    """`path` with those values of `query` that are set."""
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def segment(name: str | int) -> str:
    """One segment of a path: `name`, with everything quoted but a dataset's colon."""
    return quote(str(name), safe=":")


def pause_s(n_before: int, problem: ClientError) -> float:
    """Seconds until the next try after `n_before` failed ones."""
    try:
        asked_s = float(problem.problem.get("retry_after_s", ""))
    except (TypeError, ValueError):
        asked_s = 0.0
    if asked_s > 0:
        return min(asked_s, LONGEST_RETRY_AFTER_S) + random.uniform(0, 0.1)
    longest_s: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (n_before - 1))
    return longest_s * random.uniform(0.5, 1.0)


def refusal(response: Response) -> ClientError:
    """The error that an answer of 300 or more stands for; reads and closes it.

    A redirect is not followed: the token is for the server that was named, and for no other.
    """
    if response.status < 400:
        place = response.header("Location") or "elsewhere"
        response.close()
        message = f"the server answered {response.status} and sends us to {place[:200]}; that is not followed"
        return ServerError(message, code="redirected", status=response.status)
    try:
        problem = msgspec.json.decode(response.read())
    except (msgspec.MsgspecError, LostReply):
        problem = None
    response.close()
    facts = dict(problem) if isinstance(problem, dict) else {}
    if after := response.header("Retry-After"):
        facts["retry_after_s"] = after
    return from_problem(response.status, facts, response.header("X-Request-Id"))


def mapping(answer: Any, what: str, **needed: type) -> dict[str, Any]:
    """`answer`, if it is a JSON object with these keys, of these types. Raises ServerError."""
    if not isinstance(answer, dict) or not all(isinstance(answer.get(key), kind) for key, kind in needed.items()):
        raise ServerError(f"the answer is no {what}", code="not_understood")
    return answer


def decoded(response: Response) -> Any:
    """The JSON body of an answer, None for an empty one.

    Raises:
        ServerError: it is no JSON; something else than a PanDA server listens there.
    """
    body = response.read()
    response.close()
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError as problem:
        raise ServerError(
            f"the answer is no JSON ({response.header('Content-Type') or 'no type'}); is this a PanDA server?",
            code="not_json",
            status=response.status,
        ) from problem

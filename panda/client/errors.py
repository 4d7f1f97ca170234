"""What a call can end in, one class per kind of answer. Scripts may rely on the classes and on `code`.

A server says what went wrong as problem JSON (RFC 9457); `from_problem` turns it into one of these.
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """The root of everything that the client raises for a call.

    `code` is the server's stable word for the problem, `status` the HTTP status (0: no answer came),
    `request_id` names the request in the server's logs, `problem` is the server's whole answer. `may_be_done`: it was
    no mere reading, and whether it was done is not known.
    """

    default_code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int = 0,
        request_id: str = "",
        problem: Mapping[str, Any] | None = None,
        may_be_done: bool = False,
    ) -> None:
        super().__init__(message)
        self.may_be_done = may_be_done
        self.message = message
        self.code = code or self.default_code
        self.status = status
        self.request_id = request_id
        self.problem = dict(problem or {})


class Invalid(ClientError):
    """The request says something that cannot be meant; nothing was done."""

    default_code = "invalid"


class TooLarge(Invalid):
    """A body, list or expansion beyond the server's limit."""

    default_code = "too_large"


class Unauthenticated(ClientError):
    """No token, or one that is unknown, expired or revoked."""

    default_code = "unauthenticated"


class Forbidden(ClientError):
    """The token is good, its roles do not allow this."""

    default_code = "forbidden"


class NotFound(ClientError):
    """There is no such thing, or the caller may not know of it."""

    default_code = "not_found"


class Conflict(ClientError):
    """The thing is in a state that does not allow this."""

    default_code = "conflict"


class Unavailable(ClientError):
    """No server answered, or it asked for patience, and the retries are used up."""

    default_code = "unavailable"


class ServerError(ClientError):
    """The server failed at this request; its log knows more under `request_id`."""

    default_code = "server_error"


class ChecksumMismatch(ClientError):
    """A file arrived damaged; nothing of it was kept."""

    default_code = "checksum_mismatch"


class WaitTimeout(ClientError):
    """What was waited for did not end in time."""

    default_code = "wait_timeout"


BY_STATUS: dict[int, type[ClientError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    413: TooLarge,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}


def from_problem(status: int, problem: Mapping[str, Any], request_id: str = "") -> ClientError:
    """The error for an HTTP answer `status` of 400 or more with the problem document that came with it."""
    kind = BY_STATUS.get(status) or (ServerError if status >= 500 else Invalid)
    message = problem.get("detail") or problem.get("title") or f"the server answered {status}"
    return kind(
        str(message),
        code=str(problem.get("code") or ""),
        status=status,
        request_id=str(problem.get("request_id") or request_id),
        problem=problem,
    )

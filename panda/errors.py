"""What can go wrong, each with a stable `code` that clients and scripts may rely on.

An error carries its facts as attributes and builds its sentence from them. `api/errors.py`
gives each one a face in HTTP; nothing below the faces knows a status code.
"""

from collections.abc import Sequence
from difflib import get_close_matches


class PandaError(Exception):
    """The root; never raised itself."""

    code = "error"


class Invalid(PandaError):
    """The request says something that cannot be meant. Nothing was done."""

    code = "invalid"

    def __init__(self, message: str, *, where: str = "", code: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.where = where
        if code:
            self.code = code


class UnknownName(Invalid):
    """A name that is not in a closed list; the nearest ones are suggested."""

    def __init__(self, kind: str, name: str, known: Sequence[str], *, where: str = "") -> None:
        known = [str(each) for each in known]
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known)) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}{hint}", where=where, code=f"unknown_{kind.replace(' ', '_')}")


class ConfigError(PandaError):
    """A configuration value is missing, mistyped or out of range."""

    code = "config"


class NotFound(PandaError):
    """There is no such thing, or the caller may not know of it."""

    code = "not_found"

    def __init__(self, kind: str, name: object) -> None:
        super().__init__(f"there is no {kind} {name}")
        self.kind, self.name = kind, name


class Conflict(PandaError):
    """The thing is in a state that does not allow this."""

    code = "conflict"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code


class ForbiddenMove(Conflict):
    """`states.MOVES` has no such arrow. A bug of ours, never of a client."""

    code = "forbidden_move"

    def __init__(self, was: str, to: str) -> None:
        super().__init__(f"a job cannot go from {was} to {to}")
        self.was, self.to = was, to


class StaleLease(Conflict):
    """A pilot reports on an attempt that is no longer its own; its outputs go to quarantine."""

    code = "stale_lease"

    def __init__(self, panda_id: int, attempt_nr: int) -> None:
        super().__init__(f"attempt {attempt_nr} of job {panda_id} is superseded")
        self.panda_id, self.attempt_nr = panda_id, attempt_nr


class Unauthenticated(PandaError):
    """No token, or one that is unknown, expired or revoked."""

    code = "unauthenticated"


class Forbidden(PandaError):
    """The token is good, its roles do not allow this."""

    code = "forbidden"

    def __init__(self, subject: str, action: str) -> None:
        super().__init__(f"{subject} may not {action}")
        self.subject, self.action = subject, action


class TooLarge(PandaError):
    """A body, list or expansion beyond its limit."""

    code = "too_large"


class Unavailable(PandaError):
    """A part that is needed is down; the same request may be sent again."""

    code = "unavailable"
    retry_after_s = 2

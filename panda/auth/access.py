"""What each responder says about who may call it, and with which query parameters.

The gate (`panda.api.middleware`) reads these marks before the responder runs. A responder without a mark
is refused to everybody, and a test walks all routes for one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from panda.auth.policy import Action

Responder = TypeVar("Responder", bound=Callable[..., None])
#: Instead of a parameter's name: whatever comes, for clients that are not ours.
ANY_PARAMETER = "*"


class Access(NamedTuple):
    """`action` is None for what everybody may call, without a token."""

    action: Action | None
    parameters: frozenset[str]


def allowed(action: Action, *parameters: str) -> Callable[[Responder], Responder]:
    """For callers that `policy` allows `action`. Whose things they are is asked inside."""
    return _marked(Access(action, frozenset(parameters)))


def public(*parameters: str) -> Callable[[Responder], Responder]:
    """For everybody, also without a token."""
    return _marked(Access(None, frozenset(parameters)))


def access_of(responder: Any) -> Access | None:
    """The mark of a responder; None: it has none."""
    found: Access | None = getattr(responder, "access", None)
    return found


def _marked(access: Access) -> Callable[[Responder], Responder]:
    def mark(responder: Responder) -> Responder:
        responder.access = access  # type: ignore[attr-defined]
        return responder

    return mark

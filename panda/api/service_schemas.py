"""Messages about people, about the service itself, and those that every call may answer with.

Named in `panda.api.schemas` like all others."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from panda.words import Name, Reply, Request, Text

# ---- every answer ---------------------------------------------------------------------------


class Problem(Reply, kw_only=True):
    """Why a request was refused (RFC 9457). Scripts rely on `status` and `code`; sentences may change."""

    type: str
    """`urn:panda:` and the code."""
    title: str
    status: int
    code: str
    detail: str
    """A sentence for people."""
    where: str | UnsetType = UNSET
    """The field, parameter or header that is meant."""
    size_bytes: int | UnsetType = UNSET
    """With `log_gap`: bytes of the log that are here."""
    request_id: str


class PageEnd(Reply, kw_only=True):
    next: int | str | None
    """Give it as `after` for the page that follows; null: that was all."""


# ---- people and system ----------------------------------------------------------------------


class Root(Reply, kw_only=True):
    name: str
    version: str
    links: dict[str, str]


class Alive(Reply, kw_only=True):
    status: str


class WhoAmI(Reply, kw_only=True):
    subject: str
    roles: list[str]
    queue: str | None
    """A pilot of this queue alone."""


class UserRequest(Request, kw_only=True):
    """POST /v1/users"""

    name: Name
    roles: Annotated[list[Name], Meta(min_length=1, max_length=10)]
    reason: Text = ""


class BanRequest(Request, kw_only=True):
    """POST /v1/users/{name}/ban"""

    reason: Text
    running: Literal["finish", "kill"] | None = None
    """What becomes of their jobs that run; null: as `[quotas] banned_running` says. No waiting one is started."""


class UnbanRequest(Request, kw_only=True):
    """POST /v1/users/{name}/unban"""

    reason: Text


class RevokeRequest(Request, kw_only=True):
    """POST /v1/tokens/{token_id}/revoke, POST /v1/users/{name}/revoke-tokens"""

    reason: Text = ""


class TokenRequest(Request, kw_only=True):
    """POST /v1/tokens"""

    owner: Name
    roles: Annotated[list[Name], Meta(min_length=1, max_length=10)]
    label: Annotated[str, Meta(max_length=200)] = ""
    ttl_s: Annotated[int, Meta(ge=1, le=10 * 366 * 86_400)] | None = None
    """Seconds until it expires; none: never."""
    queue: Annotated[str, Meta(max_length=250)] = ""
    """The one queue that a pilot with this token may serve."""


class Token(Reply, kw_only=True):
    """What a token is for; the token itself was shown once."""

    token_id: int
    owner: str
    label: str
    roles: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class User(Reply, kw_only=True):
    name: str
    roles: list[str]
    created_at: datetime
    banned_at: datetime | None
    ban_reason: str | None
    limited_at: datetime | None
    """They have the smaller quotas of those who are limited."""
    limit_reason: str | None


class TokenCreated(Reply, kw_only=True):
    token: str
    """Shown this once."""
    owner: str
    roles: list[str]
    user_made: bool
    """There was no user of that name; there is one now."""


class LoginWays(Reply, kw_only=True):
    """GET /v1/login: where people get tokens of an issuer, if one is configured."""

    issuer: str | None
    client_id: str | None
    """The public client for the device flow (RFC 8628)."""
    audience: str | None
    scope: str | None


class LoggedIn(Reply, kw_only=True):
    """POST /v1/login"""

    token: str
    """Shown this once."""
    token_id: int
    owner: str
    roles: list[str]
    ttl_s: int


class Ready(Reply, kw_only=True):
    """GET /readyz: `ok`, `degraded` (jobs are accepted, they wait) or `down` (503)."""

    status: str
    parts: dict[str, str]


# ---- incidents and deeds -------------------------------------------------------------------


class IncidentReport(Request, kw_only=True):
    """Something that an operator should know; the same `key` within ten minutes is folded."""

    component: Name
    level: Literal["info", "warning", "error", "critical"]
    key: Name
    message: Annotated[str, Meta(min_length=1, max_length=2_000)]
    n: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1
    context: Annotated[dict[Name, Annotated[str, Meta(max_length=2_000)]], Meta(max_length=50)] = {}


class IncidentReports(Request, kw_only=True):
    """POST /v1/incidents"""

    incidents: Annotated[list[IncidentReport], Meta(min_length=1, max_length=200)]


class IncidentAnswer(Request, kw_only=True):
    """POST /v1/incidents/{incident_id}"""

    action: Literal["acknowledge", "close"]
    comment: Annotated[str, Meta(max_length=2_000)] = ""


class Incident(Reply, kw_only=True):
    incident_id: int
    component: str
    level: str
    key: str
    message: str
    context: dict[str, Any] | list[Any]
    n: int
    first_at: datetime
    last_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    closed_at: datetime | None
    closed_by: str | None
    comment: str


class AuditEntry(Reply, kw_only=True):
    """A deed of somebody with power."""

    audit_id: int
    at: datetime
    who: str
    action: str
    target: str
    reason: str
    facts: dict[str, Any]
    request_id: str | None


# ---- what operators paused ------------------------------------------------------------------


class Switch(Reply, kw_only=True):
    """A pause. `site`, `queue` and `node` are empty where it is wider."""

    what: str
    site: str
    queue: str
    node: str
    by: str
    reason: str
    at: datetime
    until: datetime | None
    """When it ends by itself."""


class SwitchRequest(Request, kw_only=True):
    """POST /v1/switches/{what}"""

    paused: bool
    reason: Text
    site: Annotated[str, Meta(max_length=200)] = ""
    queue: Annotated[str, Meta(max_length=200)] = ""
    node: Annotated[str, Meta(max_length=200)] = ""
    """Of that queue; for `dispatch` alone."""
    for_s: Annotated[float, Meta(gt=0, le=31_622_400)] | None = None
    """Ends by itself after this; none: somebody resumes it."""


class SwitchSet(Reply, kw_only=True):
    what: str
    site: str
    queue: str
    node: str
    paused: bool
    n_woken: int
    """Waiting jobs that brokerage looks at again at once; the others follow."""


# ---- saved views ----------------------------------------------------------------------------


class View(Reply, kw_only=True):
    """A filter of jobs under a name; `@NAME` stands for it."""

    name: str
    filter: str
    created_at: datetime


class ViewRequest(Request, kw_only=True):
    """PUT /v1/views/{name}"""

    filter: Annotated[str, Meta(max_length=4_000)]


class UsageSum(Reply, kw_only=True):
    """What was used under one name in some days."""

    name: str
    """A user, working group, share, queue, site, kind or day, as was asked; empty: of none, or nobody knows."""
    day: date | None
    """The first day of the bin; null: the whole time."""
    n_finished: int
    n_failed: int
    """Attempts; the others are jobs."""
    n_cancelled: int
    wall_s: float
    cpu_s: float
    core_s: float
    """Wall time by cores."""
    in_bytes: int
    """Files that finished jobs read; `out_bytes`: those that they made."""
    out_bytes: int

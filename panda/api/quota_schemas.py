"""What is said about quotas."""

from datetime import date
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from panda.words import Name, Reply, Request, Text

Limit = Annotated[int, Meta(ge=0, le=10**12)]
Hours = Annotated[float, Meta(ge=0, le=10**12)]


class Quota(Reply, kw_only=True):
    """What was set for somebody. null: nothing is said; 0: any number."""

    subject: str
    """`default`, `limited`, `user:NAME` or `group:NAME`."""
    queued_jobs: int | None
    running_jobs: int | None
    running_cores: int | None
    core_hours: float | None
    beyond: str | None
    members: list[str]


class QuotaRequest(Request, kw_only=True):
    """PUT /v1/quotas/{subject}. What is left out stays as it is; null: nothing is said any more."""

    reason: Text
    queued_jobs: Limit | UnsetType | None = UNSET
    running_jobs: Limit | UnsetType | None = UNSET
    running_cores: Limit | UnsetType | None = UNSET
    core_hours: Hours | UnsetType | None = UNSET
    beyond: Literal["refuse", "hold"] | UnsetType | None = UNSET
    members: Annotated[list[Name], Meta(max_length=10_000)] | UnsetType = UNSET


class QuotaClearRequest(Request, kw_only=True):
    """POST /v1/quotas/{subject}/clear"""

    reason: Text


class QuotaCleared(Reply, kw_only=True):
    subject: str
    comes_back: bool
    """The file of quotas names it: the next start brings it back."""


class Level(Reply, kw_only=True):
    used: float
    limit: float | None
    """null: any number."""


class Outlook(Reply, kw_only=True):
    """What becomes of core hours. The period slides: what was used counts for so many days, and then no more."""

    period_days: int
    per_day: float
    """Core hours, on the mean of the last seven days."""
    used_up_on: date | None
    """At this rate; null: never, or they are already."""
    room_on: date | None
    """Used up: when there are some again if nothing more is used."""


class QuotaStanding(Reply, kw_only=True):
    """How somebody stands to one of the quotas that bind them."""

    subject: str
    queued_jobs: Level
    running_jobs: Level
    running_cores: Level
    core_hours: Level
    beyond: str
    """What becomes of a job set with too many jobs: `refuse` or `hold`."""
    n_held: int
    """Jobs that are held back until there is room."""
    outlook: Outlook | None
    """Of the core hours; null: any number."""


class UserQuota(Reply, kw_only=True):
    owner: str
    banned: str | None
    """Why; null: they are not."""
    limited: str | None
    throttled: str
    """What keeps their ready jobs from being started; "": nothing does."""
    quotas: list[QuotaStanding]
    part: float
    """Of all that was used, 0 to 1; what is long ago counts less."""
    late_s: float
    """By that much their jobs stand further back for it, in the order in which jobs are taken."""


class LimitRequest(Request, kw_only=True):
    """POST /v1/users/{name}/limit, POST /v1/users/{name}/unlimit"""

    reason: Text

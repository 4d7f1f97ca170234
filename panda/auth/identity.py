"""Who is asking: a name, and the roles that their token carries."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What somebody is here for; `policy` says what each may do."""

    VIEWER = "viewer"  #: looks at everybody's jobs and at all parts of the system, changes none
    USER = "user"  #: submits jobs and looks after their own
    PRODUCTION = "production"  #: a user who sees everybody's jobs
    PILOT = "pilot"  #: a pilot: takes jobs, reports on them, nothing else
    OPERATOR = "operator"  #: acts on everybody's jobs and on queues
    ADMIN = "admin"  #: an operator who gives out tokens


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose token was verified."""

    subject: str
    roles: frozenset[Role]
    queue: str | None = None
    """A pilot of this queue alone; none: of any queue."""
    issuer: str | None = None
    """Who vouches for them, where the token is not ours."""

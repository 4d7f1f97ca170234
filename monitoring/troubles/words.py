"""A trouble, and the words and links that finders of troubles share."""

from datetime import datetime
from urllib.parse import urlencode

import msgspec

from monitoring.reads.queries import Facts
from monitoring.show.looks import count, several
from monitoring.troubles.seen import Seen

Act = tuple[str, str]
"""What mends it: words and a link to the sheet that asks before it does anything."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """`key` tells one from another for as long as it lasts. `since`: None, before anybody looked."""

    kind: str
    key: str
    title: str
    is_bad: bool = True
    since: datetime | None = None
    hits: str = ""
    told: str = ""
    link: str = ""
    acts: list[Act] = []


def under_way(seen: Seen) -> str:
    """Whom a part that is down hits."""
    return f"{several(seen.n_active, 'job')} on their way"


def silent_s(seen: Seen, since: datetime) -> float:
    """Seconds since then."""
    return (seen.now - since).total_seconds()


def whom(same: list[Facts]) -> str:
    """Jobs and users of these groups, in words."""
    n = sum(row["n"] for row in same)
    owners = sorted({row["owner"] for row in same})
    if not n:
        return ""
    some = ", ".join(owners[:3]) + (", …" if len(owners) > 3 else "")
    named = owners[0] if len(owners) == 1 else f"{len(owners)} users ({some})"
    return f"{count(n)} job{'s' if n > 1 else ''} of {named}"


def bulk_link(verb: str, q: str, **more: str) -> str:
    """To the sheet of an action on what a filter finds."""
    return f"/jobs/bulk/{verb}?" + urlencode({"q": q, **more})

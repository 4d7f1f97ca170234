"""From a command back to the page that shows or does the same: the other direction of "Copy as CLI"."""

import re
import shlex
from urllib.parse import quote, urlencode

from panda.jobs.nouns import JOB_FIELDS
from panda.query import BadFilter, read

#: First word of a command that lists something -> its page; with a name behind it, the page of that one.
PLACES = {
    "queues": "/queues", "sites": "/sites", "datasets": "/datasets", "get": "/datasets", "transfers": "/transfers",
    "users": "/users", "token": "/tokens", "pilots": "/pilots", "storage": "/transfers", "shares": "/usage",
    "incidents": "/incidents", "quota": "/me", "views": "/me", "whoami": "/me",
}  # fmt: skip
#: Those pages that have one for each name.
NAMED = frozenset({"/queues", "/sites", "/datasets", "/users", "/pilots"})
#: Commands about jobs that only look.
LOOKS = frozenset({"jobs", "status", "why", "logs", "wait", "events", "show", "list"})
#: Those that act -> whether one job or set has a sheet for it; all that match a filter have one in any case.
ACTS = {"retry": True, "cancel": True, "hold": False, "release": False, "rebroker": False}
_NUMBER = re.compile(r"(set:)?([0-9]{1,18})\Z")


def page_of(line: str) -> str | None:
    """The address for a line such as `panda retry 'status:failed'`; None: it is no command, or has no page.

    Options are passed over, and what stands behind them."""
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    if len(words) < 2 or words[0] != "panda":
        return None
    verb, named = words[1], []
    for word in words[2:]:
        if word.startswith("-"):
            break
        named.append(word)
    if verb in PLACES:
        place = PLACES[verb]
        return f"{place}/{quote(named[0], safe=':')}" if named and place in NAMED else place
    return _of_jobs(verb, named) if verb in LOOKS or verb in ACTS else None


def _of_jobs(verb: str, named: list[str]) -> str | None:
    if not named:
        return "/jobs" if verb == "jobs" else "/jobsets"
    found = _NUMBER.match(named[0])
    if found is not None:
        page = f"/{'jobsets' if found[1] else 'jobs'}/{found[2]}"
        return f"{page}/{verb}" if ACTS.get(verb) else page
    said = " ".join(named)
    try:
        read(said, JOB_FIELDS)
    except BadFilter:
        return None
    return (f"/jobs/bulk/{verb}?" if verb in ACTS else "/jobs?") + urlencode({"q": said})

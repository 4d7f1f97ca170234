"""From a command back to the page that shows or does the same: the other direction of "Copy as CLI"."""

import re
import shlex
from itertools import pairwise
from urllib.parse import quote, urlencode

from panda.jobs.nouns import JOB_FIELDS
from panda.query import BadFilter, read

#: First word of a command that lists something -> its page; with a name behind it, the page of that one.
PLACES = {
    "queues": "/queues", "sites": "/sites", "datasets": "/datasets", "get": "/datasets", "transfers": "/transfers",
    "users": "/users", "token": "/tokens", "pilots": "/pilots", "storage": "/transfers", "shares": "/usage",
    "incidents": "/incidents", "quota": "/me", "views": "/me", "whoami": "/me", "storages": "/transfers",
    "nodes": "/pilots", "errors": "/errors", "switches": "/admin", "downtimes": "/sites", "audit-log": "/audit",
    "health": "/", "sets": "/jobsets", "actions": "/jobs/actions",
}  # fmt: skip
#: Those pages that have one for each name.
NAMED = frozenset({"/queues", "/sites", "/datasets", "/users", "/pilots", "/jobs/actions"})
#: Commands of which no name is a page of its own, whatever those pages have.
NAMELESS = frozenset({"nodes", "downtimes"})
#: What an operator pauses, and the options that say where.
PAUSES, PLACE = ("brokerage", "dispatch"), ("site", "queue", "node")
#: Commands about jobs that only look.
LOOKS = frozenset({"jobs", "status", "why", "logs", "wait", "events", "show", "list", "debug", "watch"})
#: Those that act; one job has a sheet for each, and so have all that match a filter.
ACTS = frozenset({"retry", "cancel", "hold", "release", "rebroker", "priority"})
#: Those of which a set has a sheet of its own.
OF_SETS = frozenset({"retry", "cancel"})
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
        has_own = bool(named) and place in NAMED and verb not in NAMELESS
        return f"{place}/{quote(named[0], safe=':')}" if has_own else place
    if verb in ("pause", "resume") and named and named[0] in PAUSES:
        return _of_switch(verb, named[0], words)
    return _of_jobs(verb, named) if verb in LOOKS or verb in ACTS else None


def _of_switch(verb: str, what: str, words: list[str]) -> str:
    """The sheet of a pause, or of its end, at the place that the options say."""
    said = dict(pairwise(words)) | dict(word.split("=", 1) for word in words if "=" in word)
    place = {name: said[f"--{name}"] for name in PLACE if f"--{name}" in said}
    if verb == "resume":
        return "/admin/switches/resume?" + urlencode({"what": what, **place})
    if "node" in place:
        node, queue = quote(place["node"], safe=""), quote(place.get("queue", ""), safe="")
        return f"/nodes/{queue}/{node}/pause" if queue else "/pilots"
    where = next((f"{name}:{value}" for name, value in place.items()), "")
    return "/admin/switches/pause?" + urlencode({"what": what, **({"place": where} if where else {})})


def _of_jobs(verb: str, named: list[str]) -> str | None:
    if not named:
        return "/jobs" if verb == "jobs" else "/jobsets"
    found = _NUMBER.match(named[0])
    if found is not None:
        if verb in ACTS and found[1] and verb not in OF_SETS:
            return f"/jobs/bulk/{verb}?" + urlencode({"q": f"jobset:{found[2]}"})
        page = f"/{'jobsets' if found[1] else 'jobs'}/{found[2]}"
        return f"{page}/{verb}" if verb in ACTS else page
    said = " ".join(named)
    try:
        read(said, JOB_FIELDS)
    except BadFilter:
        return None
    return (f"/jobs/bulk/{verb}?" if verb in ACTS else "/jobs?") + urlencode({"q": said})

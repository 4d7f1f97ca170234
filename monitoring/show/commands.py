"""From a command back to the page that shows or does the same: the other direction of "Copy as CLI"."""

import re
import shlex
from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import quote, urlencode

from monitoring.reads import error_rates
from panda.auth.nouns import AUDIT, INCIDENTS, TOKENS, USERS
from panda.dataservice import flow
from panda.dataservice.nouns import DATASETS, FILES
from panda.dispatcher.nouns import PILOTS
from panda.jobs.nouns import ACTIONS, JOB_FIELDS, JOBSET_FIELDS
from panda.query import BadFilter, read
from panda.query import word as as_value
from panda.sites.nouns import QUEUES

#: First word of a command that lists something -> its page; with a name behind it, the page of that one.
PLACES = {
    "queues": "/queues", "sites": "/sites", "datasets": "/datasets", "get": "/datasets", "transfers": "/transfers",
    "users": "/users", "token": "/tokens", "pilots": "/pilots", "storage": "/transfers", "shares": "/usage",
    "incidents": "/incidents", "quota": "/me", "views": "/me", "whoami": "/me", "storages": "/transfers",
    "nodes": "/pilots", "errors": "/errors", "switches": "/admin", "downtimes": "/sites", "audit-log": "/audit",
    "health": "/", "sets": "/jobsets", "actions": "/jobs/actions", "files": "/files",
}  # fmt: skip
#: Those pages that have one for each name.
NAMED = frozenset({"/queues", "/sites", "/datasets", "/users", "/pilots", "/jobs/actions"})
#: Commands of which no name is a page of its own, whatever those pages have.
NAMELESS = frozenset({"nodes", "downtimes"})
#: Pages of lists, whose filter and order are those of the command.
LISTS = {
    "/queues": QUEUES.fields, "/sites": QUEUES.fields, "/datasets": DATASETS.fields, "/files": FILES.fields,
    "/transfers": flow.TRANSFERS.fields, "/users": USERS.fields, "/tokens": TOKENS.fields, "/pilots": PILOTS.fields,
    "/incidents": INCIDENTS.fields, "/audit": AUDIT.fields, "/jobsets": JOBSET_FIELDS, "/jobs/actions": ACTIONS.fields,
    "/errors": error_rates.FIELDS, "/jobs": JOB_FIELDS,
}  # fmt: skip
#: Commands whose list is that of another noun than their page's.
OTHERS = frozenset({"sites", "storage", "storages", "nodes", "downtimes"})
#: What is done to one thing, by its first two words -> the sheet or the page of it.
DEEDS = {
    ("users", "create"): "/tokens/new?owner={}", ("users", "ban"): "/users/{}", ("users", "unban"): "/users/{}",
    ("users", "limit"): "/users/{}", ("users", "unlimit"): "/users/{}", ("users", "revoke-tokens"): "/users/{}",
    ("token", "create"): "/tokens/new?owner={}", ("queue", "show"): "/queues/{}",
    ("token", "revoke"): "/tokens/{}/revoke", ("incidents", "ack"): "/incidents/{}/answer",
    ("incidents", "close"): "/incidents/{}/answer", ("site", "set"): "/queues/{}/status?to={}",
    ("views", "save"): "/me/views/new?q={1}", ("views", "forget"): "/me/views/{}/forget",
}  # fmt: skip
#: What a plot of usage may be asked, as its page has it.
USAGE = {
    "by": frozenset({"user", "group", "share", "queue", "site", "kind"}),
    "days": frozenset({"7", "30", "90", "365"}), "bin": frozenset({"day", "week", "month"}),
}  # fmt: skip
#: Options that restrict it.
USED_BY = ("owner", "group", "share", "queue", "site", "kind")
#: What an operator pauses, and the options that say where.
PAUSES, PLACE = ("brokerage", "dispatch"), ("site", "queue", "node")
#: Commands about jobs that only look.
LOOKS = frozenset({"jobs", "status", "why", "logs", "wait", "events", "show", "list", "debug", "watch"})
#: Those that act; one job has a sheet for each, and so have all that match a filter.
ACTS = frozenset({"retry", "cancel", "hold", "release", "rebroker", "priority"})
#: Those of which a set has a sheet of its own.
OF_SETS = frozenset({"retry", "cancel"})
#: Second words of these commands that are verbs, and no names.
_IS_VERB = {
    "sites": frozenset({"history", "diff", "rollback", "import", "rules", "remove"}),
    "token": frozenset({"list"}),
}
_NUMBER = re.compile(r"(set:)?([0-9]{1,18})\Z")
#: A name as pilots have them; `last`, ranges and filters are none.
_PILOT = re.compile(r"(?!last\Z|[0-9,-]+\Z)[A-Za-z0-9][\w.-]*\Z")


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
    deed = DEEDS.get((verb, named[0])) if named else None
    if deed is not None:
        return _of_deed(deed, named[1:])
    if verb == "usage" and named:
        return _of_jobs("status", named)
    if verb == "usage":
        return _of_usage(words)
    if verb == "count":
        return _of_jobs("jobs", named)
    if verb == "lineage" and len(named) == 2:
        return f"/files/{quote(named[0], safe=':')}/{quote(named[1], safe='')}"
    if verb in PLACES:
        return _of_list(verb, named, words)
    if verb in ("pause", "resume") and named and named[0] in PAUSES:
        return _of_switch(verb, named[0], words)
    if verb == "jobs" and len(named) < 2:
        return _of_filter(named, words)
    if verb == "why" and len(named) == 1 and _PILOT.match(named[0]):
        return f"/pilots/{quote(named[0], safe='')}"
    return _of_jobs(verb, named) if verb in LOOKS or verb in ACTS else None


def command_of(verb: str, fields: Mapping[str, str]) -> str:
    """A command whose filter, its last word, says that each of these fields is this."""
    said = " ".join(f"{name}:{as_value(value)}" for name, value in fields.items())
    return f"{verb} {shlex.quote(said)}"


def _of_deed(deed: str, named: list[str]) -> str | None:
    try:
        return deed.format(*(quote(word, safe="") for word in named))
    except IndexError:
        return None


def _of_list(verb: str, named: list[str], words: list[str]) -> str:
    """The page of a list, with what the command says of it; of one thing, if that has a page."""
    place = PLACES[verb]
    if named and place in NAMED and verb not in NAMELESS and not _IS_VERB.get(verb, frozenset()) & {named[0]}:
        return f"{place}/{quote(named[0], safe=':')}"
    if verb == "errors" and named:
        words = [*words[:2], "--filter", " ".join(named)]
    return place if verb in OTHERS else _filtered(place, words)


def _of_filter(named: list[str], words: list[str]) -> str | None:
    """The list of jobs: its filter is the word behind the verb; one job is its page."""
    if not named or "--filter" in words:
        return _filtered("/jobs", words)
    page, sort = _of_jobs("jobs", named), _options(words).get("--sort")
    return f"{page}&{urlencode({'sort': sort})}" if page and sort and "?" in page else page


def _of_usage(words: list[str]) -> str:
    """The plot of the same sums; what the command says that a plot cannot show is left out."""
    said = _options(words)
    days = said.get("--period", "").removesuffix("d")
    asked = {"by": said.get("--by", ""), "days": days, "bin": said.get("--bin", "")}
    known = {name: value for name, value in asked.items() if value in USAGE[name]}
    known |= {name: said[f"--{name}"] for name in USED_BY if f"--{name}" in said}
    return f"/usage?{urlencode(known)}" if known else "/usage"


def _filtered(place: str, words: list[str]) -> str:
    """The page with the filter and the order of the command; without what it does not understand."""
    said = _options(words)
    text, fields = said.get("--filter"), LISTS.get(place)
    pairs = {}
    if text is not None and fields is not None:
        try:
            read(text, fields)
            pairs["q"] = text
        except BadFilter:
            return place
    if said.get("--sort"):
        pairs["sort"] = said["--sort"]
    return f"{place}?{urlencode(pairs)}" if pairs else place


def _options(words: list[str]) -> dict[str, str]:
    """By option what stands behind it: `--filter X`, or `--filter=X`."""
    return dict(pairwise(words)) | dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)


def _of_switch(verb: str, what: str, words: list[str]) -> str:
    """The sheet of a pause, or of its end, at the place that the options say."""
    said = _options(words)
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

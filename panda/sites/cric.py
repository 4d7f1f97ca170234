"""Queues and storages in the words of CRIC and of upstream's schedconfig, as documents about places.

Two kinds of file: queues by name (`pandaqueues.json`, `schedconfig.all.json`), storages by name
(`ddmendpoints.json`). What upstream leaves open, by 0 or by null, gets a number here, because a queue of ours
states its limits; `ASSUMED` has them. What has no place here (copy tools, resolvers, factories) is left aside.

Source of the words: what upstream's pilot reads (docs/how-to/coming-from-panda.md), and upstream's server, which
takes them from CRIC's `pandaqueue` and `ddmendpoint` queries.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from panda.sites.versions import State
from panda.states import QueueStatus

#: Below a storage's root, before the path that upstream's pilot makes of scope and name: what we tell it, and
#: therefore no part of a root.
PREFIX = "upstream"
#: What is assumed where nothing is said; memory per core.
ASSUMED = {"corecount": 1, "maxrss": 2_000, "maxwdir": 20_000, "maxtime": 4 * 86_400}
#: Upstream's maximal work folder, if only the input is limited: that and so many MB more.
BESIDE_INPUT_MB = 2_000
#: Which of our movers speaks a protocol, and what it calls it.
MOVERS = {
    "file": ("local", ""), "http": ("http", "http"), "https": ("http", "https"), "dav": ("http", "http"),
    "davs": ("http", "https"), "root": ("xrootd", "root"), "roots": ("xrootd", "roots"), "s3+https": ("s3", "s3+https"),
    "s3+http": ("s3", "s3+http"),
}  # fmt: skip
READS, WRITES = ("pr", "read_lan"), ("pw", "write_lan")
USES = ("write_wan", "read_wan", "write_lan", "read_lan", "w", "r")


class Reading(NamedTuple):
    """What was understood, by kind and name; what was not, each in a sentence that begins with the name; and the
    names of what upstream itself calls inactive."""

    given: State
    problems: dict[tuple[str, str], str]
    inactive: list[str]
    status: dict[str, str]
    """Of queues, as upstream has it."""


class _Wrong(Exception):
    """What is wrong with one entry."""


def is_endpoints(document: Mapping[str, Any]) -> bool:
    """Whether these are storages, not queues."""
    entries = [each for each in document.values() if isinstance(each, Mapping)]
    return bool(entries) and all("arprotocols" in each or "rprotocols" in each for each in entries)


def read_queues(document: Mapping[str, Any]) -> Reading:
    """Queues by name, with the sites that they are at."""
    reading = Reading({}, {}, [], {})
    for name, entry in document.items():
        key = ("queue", str(name))
        try:
            if not isinstance(entry, Mapping):
                raise _Wrong("is no object")
            if str(entry.get("state") or "ACTIVE").upper() != "ACTIVE":
                reading.inactive.append(str(name))
                continue
            _same_name(str(name), entry)
            site, cloud = _site(entry)
            known = reading.given.get(("site", site), {}).get("cloud", cloud)
            if cloud and known and cloud != known:
                raise _Wrong(f"is in cloud {cloud}, but another queue of site {site} is in cloud {known}")
            given = _queue(entry) | {"site": site}
            reading.status[str(name)] = _status(entry)
            reading.given[key] = given | {"status": reading.status[str(name)]}
            reading.given.setdefault(("site", site), {}).update({"cloud": cloud} if cloud else {})
        except _Wrong as wrong:
            reading.problems[key] = f"queue {name} {wrong}"
    return reading


def read_endpoints(document: Mapping[str, Any]) -> Reading:
    """Storages by name, with the sites that they are at."""
    reading = Reading({}, {}, [], {})
    for name, entry in document.items():
        try:
            if not isinstance(entry, Mapping):
                raise _Wrong("is no object")
            if str(entry.get("state") or "ACTIVE").upper() != "ACTIVE":
                reading.inactive.append(str(name))
                continue
            site = _text(entry, "site") or _text(entry, "rc_site")
            if not site:
                raise _Wrong("names no site")
            reading.given["storage", str(name)] = {"site": site} | _place(entry)
            reading.given.setdefault(("site", site), {})
        except _Wrong as wrong:
            reading.problems["storage", str(name)] = f"storage {name} {wrong}"
    return reading


def _same_name(name: str, entry: Mapping[str, Any]) -> None:
    for word in ("nickname", "name"):
        said = entry.get(word)
        if said not in (None, "", name):
            raise _Wrong(f"calls itself {said!r} ({word})")


def _site(entry: Mapping[str, Any]) -> tuple[str, str]:
    site = next(
        (found for word in ("atlas_site", "panda_site", "gstat", "rc_site") if (found := _text(entry, word))), ""
    )
    if not site:
        raise _Wrong("names no site")
    return site, _text(entry, "cloud").partition(",")[0].strip()


def _queue(entry: Mapping[str, Any]) -> dict[str, Any]:
    cores = _number(entry, "corecount") or ASSUMED["corecount"]
    input_mb = _number(entry, "maxinputsize")
    given: dict[str, Any] = {
        "cores": cores,
        "memory_mb": _number(entry, "maxrss") or cores * ASSUMED["maxrss"],
        "disk_mb": _number(entry, "maxwdir") or (input_mb + BESIDE_INPUT_MB if input_mb else ASSUMED["maxwdir"]),
        "walltime_s": _number(entry, "maxtime") or ASSUMED["maxtime"],
        "min_memory_mb": _number(entry, "minrss"),
        "min_walltime_s": _number(entry, "mintime"),
        "software": [*_words(entry, "releases"), *(["cvmfs"] if entry.get("is_cvmfs") is True else [])],
        "containers": _containers(entry),
        "vos": [vo for vo in [_text(entry, "vo_name")] if vo],
        "parameters": _parameters(entry),
    }
    corepower = _real(entry, "corepower")
    if corepower:
        given["corepower"] = corepower
    for what in ("memory_mb", "walltime_s"):
        if given[f"min_{what}"] > given[what]:
            raise _Wrong(f"wants at least {given[f'min_{what}']} and has at most {given[what]} ({what})")
    return given | _machine(entry) | _storages(entry)


def _machine(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What its nodes are: from `architectures`, else from `cmtconfig`."""
    given: dict[str, Any] = {"architecture": _text(entry, "cmtconfig").partition("-")[0], "gpus": 0, "gpu_model": ""}
    architectures = entry.get("architectures") or []
    if not isinstance(architectures, list):
        raise _Wrong(f"has architectures that are no list: {architectures!r:.60}")
    for each in architectures:
        if not isinstance(each, Mapping):
            raise _Wrong(f"has an architecture that is no object: {each!r:.60}")
        if each.get("type") == "gpu":
            models = [model for model in _words(each, "model") if model not in ("excl", "any")]
            given |= {"gpus": max(1, _number(each, "count")), "gpu_model": models[0] if models else ""}
        elif names := [name for name in _words(each, "arch") if name not in ("excl", "any")]:
            given["architecture"] = names[0]
    return given


def _storages(entry: Mapping[str, Any]) -> dict[str, Any]:
    activities = entry.get("astorages") or {}
    if not isinstance(activities, Mapping):
        raise _Wrong(f"has astorages that are no object: {activities!r:.60}")
    reads = list(dict.fromkeys(name for activity in READS for name in _words(activities, activity)))
    writes = list(dict.fromkeys(name for activity in WRITES for name in _words(activities, activity)))
    if not reads and not writes:
        raise _Wrong("names no storage (astorages)")
    first = (reads or writes)[0]
    written = (writes or reads)[0]
    return {"storage": first, "read_storages": reads[1:], "write_storage": "" if written == first else written}


def _containers(entry: Mapping[str, Any]) -> list[str]:
    said = _text(entry, "container_type").replace(",", ";").split(";")
    names = [part.partition(":")[0].strip() for part in said if part.strip()]
    return list(dict.fromkeys([*names, *(each for each in _words(entry, "containers") if each != "any")]))


def _parameters(entry: Mapping[str, Any]) -> dict[str, str]:
    said = entry.get("params") or {}
    if not isinstance(said, Mapping):
        raise _Wrong(f"has params that are no object: {said!r:.60}")
    return {str(name): str(value) for name, value in said.items() if isinstance(value, str | int | float | bool)}


def _status(entry: Mapping[str, Any]) -> str:
    status = _text(entry, "status") or "offline"
    if status not in set(QueueStatus):
        raise _Wrong(f"has a status that does not exist: {status!r:.60}")
    return status


def _place(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Mover and root: of the first protocol that one of our movers speaks."""
    protocols = entry.get("arprotocols") or entry.get("rprotocols") or {}
    if not isinstance(protocols, Mapping):
        raise _Wrong(f"has protocols that are no object: {protocols!r:.60}")
    seen: list[str] = []
    for use in USES:
        for protocol in protocols.get(use) or []:
            if not isinstance(protocol, Mapping):
                raise _Wrong(f"has a protocol that is no object: {protocol!r:.60}")
            address, path = _text(protocol, "endpoint"), _text(protocol, "path")
            scheme = urlsplit(address).scheme
            if scheme in MOVERS:
                return _rooted(scheme, address, path)
            seen.append(address)
    raise _Wrong(f"has no protocol that is spoken here: {', '.join(dict.fromkeys(seen)) or 'none'}")


def _rooted(scheme: str, address: str, path: str) -> dict[str, Any]:
    kind, word = MOVERS[scheme]
    folder = "" if path.strip("/") == PREFIX else path.rstrip("/")
    parts = urlsplit(address)
    if kind == "local":
        root = parts.path.rstrip("/") + folder
        if not root.startswith("/"):
            raise _Wrong(f"has no folder: {address}")
        return {"kind": kind, "root": root}
    return {"kind": kind, "root": f"{word}://{parts.netloc}{parts.path.rstrip('/')}{folder}"}


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Wrong(f"has {key} that is no text: {value!r:.60}")
    return value.strip()


def _words(entry: Mapping[str, Any], key: str) -> list[str]:
    value = entry.get(key) or []
    if isinstance(value, str):
        value = [part.strip() for part in value.split("|")]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _Wrong(f"has {key} that is no list of texts: {value!r:.60}")
    return [each for each in value if each]


def _number(entry: Mapping[str, Any], key: str) -> int:
    """A whole number; upstream writes some as text, and nothing as null or as an empty text."""
    return round(_real(entry, key))


def _real(entry: Mapping[str, Any], key: str) -> float:
    value = entry.get(key)
    if value in (None, ""):
        return 0.0
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError):
        raise _Wrong(f"has {key} that is no number: {value!r:.60}") from None
    if not 0 <= number < 2**31:
        raise _Wrong(f"has {key} = {value!r:.60}; it must be 0 or more, and below {2**31}")
    return number

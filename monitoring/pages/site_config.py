"""What is set of a place, and by whom: the default, the file of sites, an import, or somebody's override."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from monitoring.reads.queries import Facts
from monitoring.show import looks
from panda.sites import siteinfo, versions

#: Revisions of a place that are looked through, the newest first.
LOOK_AT = 200
#: Where a version came from -> the word beside the value.
WORDS = {"file": "sites.toml", "import": "import", "collector": "collector", "found": "database"}


class Told(NamedTuple):
    """How a setting is shown."""

    title: str
    unit: str = ""
    """`mb`, `s`: of a number."""
    zero: str = ""
    """What 0, or nothing, means."""


QUEUE = {
    "cores": Told("Cores of a job"),
    "memory_mb": Told("Memory of a job", "mb"),
    "disk_mb": Told("Disk of a job", "mb"),
    "walltime_s": Told("Wall time of a job", "s"),
    "min_cores": Told("Cores at least", zero="any"),
    "min_memory_mb": Told("Memory at least", "mb", "any"),
    "min_walltime_s": Told("Wall time at least", "s", "any"),
    "max_running": Told("Most running jobs", zero="any number"),
    "max_ready": Told("Most ready jobs", zero="any number"),
    "submitter": Told("Pilots from"),
    "max_pilots": Told("Most pilots", zero=looks.UNKNOWN),
    "pilot_cores": Told("Cores of a pilot"),
    "pilot_options": Told("Pilot options", zero="none"),
    "corepower": Told("HS23 of a core"),
    "architecture": Told("Architecture", zero=looks.UNKNOWN),
    "gpus": Told("GPUs", zero="none"),
    "gpu_model": Told("GPU", zero=looks.UNKNOWN),
    "software": Told("Software", zero=looks.UNKNOWN),
    "containers": Told("Containers", zero=looks.UNKNOWN),
    "tags": Told("Tags", zero=looks.UNKNOWN),
    "storage": Told("Reads from"),
    "read_storages": Told("Reads also", zero=looks.UNKNOWN),
    "write_storage": Told("Writes to", zero="where it reads"),
    "second_storage": Told("Writes else to", zero=looks.UNKNOWN),
    "direct_read": Told("Reads in place"),
    "vos": Told("VOs", zero="all"),
    "working_groups": Told("Working groups", zero="all"),
    "requirements": Told("Asks of jobs", zero="nothing"),
    "parameters": Told("Parameters", zero=looks.UNKNOWN),
}
SITE = {
    "cloud": Told("Region"),
    "description": Told("Description", zero=looks.UNKNOWN),
    "max_running": Told("Most running jobs", zero="any number"),
}


def configuration(connection: Connection, kind: str, row: Facts) -> list[Facts]:
    """Each setting of a queue or a site: `name`, `title`, `value` as people read it, `origin` (`default`, a source, or
    `override`), and who set it last, when and why."""
    titles = QUEUE if kind == "queue" else SITE
    usual = _defaults(siteinfo.Queue if kind == "queue" else siteinfo.Site)
    found = versions.newest_of(connection, kind, [row["name"]], LOOK_AT)
    return [
        {"name": name, "title": told.title, "value": _shown(row[name], told), "raw": row[name]}
        | _origin(name, row[name], usual, found)
        for name, told in titles.items()
    ]


def _defaults(place: type) -> dict[str, Any]:
    usual: dict[str, Any] = {}
    for each in fields(place):
        if each.default is not MISSING:
            usual[each.name] = each.default
        elif each.default_factory is not MISSING:
            usual[each.name] = each.default_factory()
    return usual


def _origin(name: str, value: Any, usual: Mapping[str, Any], found: Sequence[Any]) -> Facts:
    """Who touched this setting last. A version in which the whole thing came counts for what is not the default."""
    is_usual = name in usual and (usual[name] == value or not (usual[name] or value))
    for version, changes in found:
        if any(change.field == name for change in changes):
            return _told(version)
        if any(change.field is None and change.change == "added" for change in changes):
            return {"origin": "default", "who": None, "at": None, "why": None} if is_usual else _told(version)
    return {"origin": "default" if is_usual else "older", "who": None, "at": None, "why": None}


def _told(version: Any) -> Facts:
    return {"origin": WORDS.get(version.source, "override"), "who": version.who, "at": version.at, "why": version.why}


def _shown(value: Any, told: Told) -> str:
    if told.zero and not value:
        return told.zero
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if told.unit == "mb":
        return looks.megabytes(value)
    if told.unit == "s":
        return looks.duration(value)
    return f"{value:,}" if isinstance(value, int) else str(value)

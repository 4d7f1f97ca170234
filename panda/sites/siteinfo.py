"""Sites, storages and queues: what a file or a document says of them, and the tables that hold them.

A document is the wish of who runs the installation, the tables are the truth: brokerage, pilots and
movers read the tables. How the one becomes the other: `applying`.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, NewType, get_args, get_origin

import msgspec
from sqlalchemy.engine import Connection, Row

from panda import requirements
from panda.db.session import rows, run
from panda.errors import ConfigError, UnknownName
from panda.names import checked
from panda.requirements import BadRequirement
from panda.states import QueueStatus

#: An instant as PostgreSQL writes it into JSON: ISO 8601 in UTC, whole seconds.
Moment = NewType("Moment", str)
#: Instants beyond these are mistakes.
YEARS = range(2000, 2101)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place with machines and disks under one roof."""

    name: str
    cloud: str = "LOCAL"
    """The region that it belongs to."""
    description: str = ""
    max_running: int = 0
    """Jobs that may run at once at all its queues together; 0: any number."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where a site keeps files."""

    name: str
    site: str
    kind: str = "local"
    """The mover that reads and writes it."""
    root: str
    """Folder or address; a relative folder stands in the data folder."""
    max_transfers: int = 0
    """Transfers that may read from it or write to it at once; 0: any number."""
    limit_mb: int = 0
    """What we may keep there at most; 0: as much as fits."""
    keep_free_mb: int = 0
    """Of what the storage says is free, so much stays free."""
    stager: str = ""
    """It is a tape: the plugin that brings files online. Empty: files can be read as they lie there."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """The way from one site to another. A site is 0 from itself, 10 from others of its cloud, else 20, if nothing
    is said."""

    name: str
    source: str
    destination: str
    distance: int = 10
    """Files are brought from the nearest site that has them."""
    max_transfers: int = 0
    """Transfers that may go this way at once; 0: any number."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A batch of equal nodes at a site, and the largest job that one of them takes."""

    name: str
    site: str
    storage: str
    """Inputs are brought here; outputs are written here unless `write_storage` names another one."""
    read_storages: list[str] = field(default_factory=list)
    """Further storages that its nodes can read."""
    write_storage: str = ""
    second_storage: str = ""
    """Where outputs go if the one for them does not take them."""
    direct_read: bool = False
    """Payloads that ask for it get the addresses of their inputs instead of copies on the node."""
    status: str = "online"
    """Only for a queue that is seen for the first time."""
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    min_cores: int = 0
    """Jobs that need less belong elsewhere; 0: none is too small. The same for the two below."""
    min_memory_mb: int = 0
    min_walltime_s: int = 0
    corepower: float = 10.0
    """How fast a core is, in HS23; wall times are meant for a core of 10."""
    architecture: str = ""
    """As `uname -m` calls it, e.g. `x86_64`; jobs may ask for the tag `arch:x86_64`. Empty: nothing is said."""
    gpus: int = 0
    """That a job may have; jobs may ask for the tags `gpu` and `gpu:MODEL`."""
    gpu_model: str = ""
    software: list[str] = field(default_factory=list)
    """Installed there, e.g. `ROOT-6.32`; jobs may ask for the tag `software:ROOT-6.32`."""
    containers: list[str] = field(default_factory=list)
    """What can run images there, e.g. `apptainer`; jobs may ask for the tag `container:apptainer`."""
    tags: list[str] = field(default_factory=list)
    vos: list[str] = field(default_factory=list)
    """Virtual organisations that may use it; empty: all."""
    working_groups: list[str] = field(default_factory=list)
    """The same for working groups; `*` stands for any letters."""
    requirements: str = ""
    """What it asks of jobs, in the language of `panda.requirements`."""
    submitter: str = "none"
    """The plugin that starts pilots; `none`: they come by themselves."""
    max_pilots: int = 0
    pilot_cores: int = 1
    pilot_options: list[str] = field(default_factory=list)
    """Further words for the pilot's command line."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Told to upstream's pilots among their queue's `params`."""
    max_ready: int = 0
    """Jobs that may be assigned or activated here at once; 0: any number."""
    max_running: int = 0
    """Jobs that may run here at once; 0: any number."""


@dataclass(frozen=True, kw_only=True)
class Downtime:
    """A time in which a place is not to be used."""

    name: str
    kind: str
    """What it is for: a site, a queue or a storage."""
    target: str
    starts_at: Moment
    ends_at: Moment
    reason: str = ""


@dataclass(frozen=True)
class SiteConfig:
    """A file's content, checked: names are known, references lead somewhere."""

    sites: list[Site] = field(default_factory=list)
    storages: list[Storage] = field(default_factory=list)
    queues: list[Queue] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    downtimes: list[Downtime] = field(default_factory=list)


SECTIONS: Mapping[str, type] = MappingProxyType(
    {"sites": Site, "storages": Storage, "queues": Queue, "links": Link, "downtimes": Downtime}
)
#: The word for one thing of a section, as versions and downtimes have it.
KIND_OF: Mapping[str, str] = MappingProxyType(
    {"sites": "site", "storages": "storage", "queues": "queue", "links": "link", "downtimes": "downtime"}
)
SECTION_OF: Mapping[str, str] = MappingProxyType({kind: section for section, kind in KIND_OF.items()})
#: Settings of which zero or less makes no sense.
_POSITIVE = frozenset({"cores", "memory_mb", "disk_mb", "walltime_s", "pilot_cores", "corepower"})
#: Numbers stay below this.
MOST = 2**31
#: What a downtime can be for.
PLACES = ("site", "queue", "storage")

SYNC_SITES = """
INSERT INTO sites (name, cloud, description, max_running)
SELECT * FROM unnest(%(names)s::text[], %(clouds)s::text[], %(descriptions)s::text[], %(max_running)s::int[])
ON CONFLICT (name) DO UPDATE SET cloud = excluded.cloud, description = excluded.description,
    max_running = excluded.max_running
"""
SYNC_STORAGES = """
INSERT INTO storages (name, site, kind, root, max_transfers, limit_mb, keep_free_mb, stager)
SELECT * FROM unnest(%(names)s::text[], %(sites)s::text[], %(kinds)s::text[], %(roots)s::text[],
    %(max_transfers)s::int[], %(limits)s::int[], %(keep_free)s::int[], %(stagers)s::text[])
ON CONFLICT (name) DO UPDATE SET site = excluded.site, kind = excluded.kind, root = excluded.root,
    max_transfers = excluded.max_transfers, limit_mb = excluded.limit_mb, keep_free_mb = excluded.keep_free_mb,
    stager = excluded.stager
"""
DROP_LINKS = "DELETE FROM links WHERE name = ANY(%(names)s)"
SYNC_LINKS = """
INSERT INTO links (name, source, destination, distance, max_transfers)
SELECT * FROM unnest(%(names)s::text[], %(sources)s::text[], %(destinations)s::text[], %(distances)s::int[],
    %(max_transfers)s::int[])
ON CONFLICT (name) DO UPDATE SET source = excluded.source, destination = excluded.destination,
    distance = excluded.distance, max_transfers = excluded.max_transfers
"""
#: A status is taken for a queue that is new, or that comes back while it was on its way out; else it is `status`'s
#: business.
SYNC_QUEUES = """
INSERT INTO queues AS q (name, site, storage, read_storages, write_storage, second_storage, direct_read, status, cores,
    memory_mb, disk_mb, walltime_s, min_cores, min_memory_mb, min_walltime_s, corepower, architecture, gpus, gpu_model,
    software, containers, tags, vos, working_groups, requirements, submitter, max_pilots, pilot_cores, pilot_options,
    parameters, max_ready, max_running)
SELECT name, site, storage, read_storages, nullif(write_storage, ''), nullif(second_storage, ''), direct_read, status,
    cores, memory_mb, disk_mb, walltime_s,
    min_cores, min_memory_mb, min_walltime_s, corepower, architecture, gpus, gpu_model, software, containers, tags, vos,
    working_groups, requirements, submitter, max_pilots, pilot_cores, pilot_options, parameters, max_ready, max_running
FROM jsonb_populate_recordset(NULL::queues, %(queues)s::jsonb)
ON CONFLICT (name) DO UPDATE SET site = excluded.site, storage = excluded.storage,
    read_storages = excluded.read_storages, write_storage = excluded.write_storage,
    second_storage = excluded.second_storage, direct_read = excluded.direct_read, cores = excluded.cores,
    memory_mb = excluded.memory_mb, disk_mb = excluded.disk_mb, walltime_s = excluded.walltime_s,
    min_cores = excluded.min_cores, min_memory_mb = excluded.min_memory_mb, min_walltime_s = excluded.min_walltime_s,
    corepower = excluded.corepower, architecture = excluded.architecture, gpus = excluded.gpus,
    gpu_model = excluded.gpu_model, software = excluded.software, containers = excluded.containers,
    tags = excluded.tags, vos = excluded.vos, working_groups = excluded.working_groups,
    requirements = excluded.requirements,
    submitter = excluded.submitter, max_pilots = excluded.max_pilots, pilot_cores = excluded.pilot_cores,
    pilot_options = excluded.pilot_options, parameters = excluded.parameters, max_ready = excluded.max_ready,
    max_running = excluded.max_running, removed_at = NULL, empty_since = NULL,
    status = CASE WHEN q.removed_at IS NULL THEN q.status ELSE excluded.status END,
    status_reason = CASE WHEN q.removed_at IS NULL THEN q.status_reason ELSE '' END
"""
SYNC_DOWNTIMES = """
INSERT INTO downtimes (name, kind, target, starts_at, ends_at, reason, made_by)
SELECT name, kind, target, starts_at, ends_at, reason, %(by)s
FROM jsonb_populate_recordset(NULL::downtimes, %(downtimes)s::jsonb)
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, target = excluded.target, starts_at = excluded.starts_at,
    ends_at = excluded.ends_at, reason = excluded.reason, made_by = excluded.made_by, seen_end = false
"""
DROP_DOWNTIMES = "DELETE FROM downtimes WHERE name = ANY(%(names)s)"
QUEUES = """
SELECT q.*, s.cloud FROM queues q JOIN sites s ON s.name = q.site ORDER BY q.name
"""
SITES = "SELECT name, cloud, description, max_running FROM sites ORDER BY name"
STORAGES = "SELECT name, site, kind, root, status, max_transfers FROM storages ORDER BY name"


def load_file(path: Path) -> SiteConfig:
    """What `path` (TOML) says about sites, storages and queues.

    Raises:
        ConfigError: no TOML, a wrong type, a missing or senseless value, a contradiction; names file and key.
        UnknownName: a section, key, site, storage, status, mover or submitter that does not exist.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from problem
    return config_of(document, str(path))


def config_of(
    document: Mapping[str, Any], where: str, *, sites: Iterable[str] = (), storages: Iterable[str] = ()
) -> SiteConfig:
    """What a document says, checked as a file is.

    Args:
        where: what it is called in errors.
        sites, storages: names that it may speak of although they do not stand in it.
    Raises: as `load_file`.
    """
    for section in document:
        if section not in SECTIONS:
            raise UnknownName("section", section, list(SECTIONS), where=where)
    read = {section: _read_section(where, section, document.get(section, {})) for section in SECTIONS}
    config = SiteConfig(**read)
    check(where, config, sites, storages)
    return config


def entry_of(section: str, name: str, given: Mapping[str, Any], where: str) -> Any:
    """One entry of a section. Raises: as `load_file`, for what can be seen of it alone."""
    return _read_entry(where, section, name, given)


def entry_of_row(section: str, name: str, document: Mapping[str, Any], where: str) -> Any:
    """The entry that the document of a row says; what it does not know, because it is older, has its default."""
    return _read_entry(where, section, name, spoken(section, document))


def spoken(section: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What of the document of a row is an entry's."""
    known = {each.name for each in fields(SECTIONS[section])} - {"name"}
    return {key: value for key, value in document.items() if key in known and value is not None}


def document_of(entry: Any) -> dict[str, Any]:
    """An entry without its name."""
    return {key: value for key, value in asdict(entry).items() if key != "name"}


def write_sites(connection: Connection, sites: Sequence[Site]) -> None:
    """Bring these rows up to what is said."""
    run(
        connection,
        SYNC_SITES,
        {"names": [s.name for s in sites], "clouds": [s.cloud for s in sites],
         "descriptions": [s.description for s in sites], "max_running": [s.max_running for s in sites]},
    )  # fmt: skip


def write_storages(connection: Connection, storages: Sequence[Storage]) -> None:
    """Bring these rows up to what is said; roots are absolute, or addresses."""
    run(
        connection,
        SYNC_STORAGES,
        {"names": [s.name for s in storages], "sites": [s.site for s in storages],
         "kinds": [s.kind for s in storages], "roots": [s.root for s in storages],
         "max_transfers": [s.max_transfers for s in storages], "limits": [s.limit_mb for s in storages],
         "keep_free": [s.keep_free_mb for s in storages], "stagers": [s.stager for s in storages]},
    )  # fmt: skip


def write_links(connection: Connection, links: Sequence[Link]) -> None:
    """Bring these rows up to what is said."""
    run(
        connection,
        SYNC_LINKS,
        {"names": [each.name for each in links], "sources": [each.source for each in links],
         "destinations": [each.destination for each in links], "distances": [each.distance for each in links],
         "max_transfers": [each.max_transfers for each in links]},
    )  # fmt: skip


def drop_links(connection: Connection, names: Sequence[str]) -> None:
    """Nothing speaks of a link: one that nobody names any more is gone."""
    run(connection, DROP_LINKS, {"names": list(names)})


def write_downtimes(connection: Connection, downtimes: Sequence[Downtime], *, by: str) -> None:
    """Bring these rows up to what is said, by `by`."""
    values = {"downtimes": msgspec.json.encode([asdict(each) for each in downtimes]).decode(), "by": by}
    run(connection, SYNC_DOWNTIMES, values)


def drop_downtimes(connection: Connection, names: Sequence[str]) -> None:
    """They are not planned any more."""
    run(connection, DROP_DOWNTIMES, {"names": list(names)})


def write_queues(connection: Connection, queues: Sequence[Queue]) -> None:
    """Bring these rows up to what is said; the status only of those that are new."""
    run(connection, SYNC_QUEUES, {"queues": msgspec.json.encode([asdict(queue) for queue in queues]).decode()})


def queues(connection: Connection) -> list[Row[Any]]:
    """Every queue with its limits, its status and why it has it, by name."""
    return rows(connection, QUEUES)


def sites(connection: Connection) -> list[Row[Any]]:
    """Every site: name, cloud, description, by name."""
    return rows(connection, SITES)


def storages(connection: Connection) -> list[Row[Any]]:
    """Every storage: name, site, kind, root, status, max_transfers, by name."""
    return rows(connection, STORAGES)


def check(
    path: str, config: SiteConfig, sites: Iterable[str], storages: Iterable[str], queues: Iterable[str] = ()
) -> None:
    """Whether references lead somewhere, and nothing contradicts itself. Raises: as `load_file`."""
    site_names = sorted({site.name for site in config.sites} | set(sites))
    storage_names = sorted({storage.name for storage in config.storages} | set(storages))
    for storage in config.storages:
        where = f"{path} [storages.{storage.name}]"
        _check_known("site", storage.site, site_names, where)
        _check_known("mover", storage.kind, _installed("panda.movers"), where)
        if storage.stager:
            _check_known("stager", storage.stager, _installed("panda.stagers"), where)
    _check_links(path, config.links, site_names)
    for queue in config.queues:
        where = f"{path} [queues.{queue.name}]"
        _check_known("site", queue.site, site_names, where)
        for name in dict.fromkeys(storages_of(queue)):
            _check_known("storage", name, storage_names, where)
            _check_is_disk(config, name, where)
        _check_known("queue status", queue.status, list(QueueStatus), where)
        _check_known("submitter", queue.submitter, ["none", *_installed("panda.submitters")], where)
        _check_sense(where, queue)
    _check_downtimes(path, config, site_names, storage_names, queues)


def storages_of(queue: Queue) -> list[str]:
    """Every storage that a queue speaks of."""
    named = [queue.storage, *queue.read_storages, queue.write_storage, queue.second_storage]
    return [name for name in named if name]


def _check_is_disk(config: SiteConfig, name: str, where: str) -> None:
    """Jobs read and write at once: what must be brought online first is no place for them."""
    if any(storage.name == name and storage.stager for storage in config.storages):
        raise ConfigError(f"{where}: storage {name} is a tape; jobs need a storage that is always online")


def sorted_out(entries: Iterable[Any]) -> SiteConfig:
    """Entries of any section, by section, in order of name."""
    of_kind: dict[type, list[Any]] = {kind: [] for kind in SECTIONS.values()}
    for entry in sorted(entries, key=lambda entry: str(entry.name)):
        of_kind[type(entry)].append(entry)
    return SiteConfig(*of_kind.values())


def rooted(root: str, data_dir: Path) -> str:
    """An address stays as it is; a relative folder stands in the data folder."""
    return root if "://" in root else str(data_dir.absolute() / root)


def _read_section(path: str, section: str, given: Any) -> list[Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{path}: [{section}] wants tables such as [{section}.NAME]")
    return [_read_entry(path, section, name, entry) for name, entry in given.items()]


def _read_entry(path: str, section: str, name: str, entry: Any) -> Any:
    where = f"{path} [{section}.{name}]"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{path}: [{section}] {name} wants a table, [{section}.{name}]")
    checked(name, where)
    known = {each.name: each for each in fields(SECTIONS[section]) if each.name != "name"}
    for key, value in entry.items():
        if key not in known:
            raise UnknownName("setting", key, list(known), where=where)
        _check_value(where, key, value, known[key].type)
    missing = [
        key for key, each in known.items()
        if each.default is MISSING and each.default_factory is MISSING and key not in entry
    ]  # fmt: skip
    if missing:
        raise ConfigError(f"{where}: {missing[0]} is missing")
    values = {key: moment_of(value, f"{where}: {key}") if known[key].type is Moment else value
              for key, value in entry.items()}  # fmt: skip
    return SECTIONS[section](name=name, **values)


def moment_of(value: Any, where: str) -> Moment:
    """An instant, as a text in ISO 8601 or as TOML has it, with its time zone. Raises ConfigError."""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        if at.tzinfo is None or at.year not in YEARS:
            raise ValueError
        return Moment(at.astimezone(UTC).replace(microsecond=0).isoformat())
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{where} wants a time with its zone, as 2026-01-31T18:00:00Z, got {value!r:.60}") from None


def _check_value(where: str, key: str, value: Any, wanted: Any) -> None:
    if wanted is Moment:
        moment_of(value, f"{where}: {key}")
        return
    kind: Any = get_origin(wanted) or wanted
    allowed: Any = (int, float) if kind is float else kind
    if (isinstance(value, bool) and kind is not bool) or not isinstance(value, allowed):
        raise ConfigError(f"{where}: {key} wants {getattr(wanted, '__name__', wanted)}, got {value!r}")
    if kind is list and not all(isinstance(each, get_args(wanted)[0]) for each in value):
        raise ConfigError(f"{where}: {key} wants a list of strings, got {value!r}")
    if kind is dict and not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise ConfigError(f"{where}: {key} wants strings by name, got {value!r}")
    if kind in (int, float):
        _check_number(where, key, value)
    elif "\\x00" in repr(value):
        raise ConfigError(f"{where}: {key} holds a NUL character")


def _check_number(where: str, key: str, value: float) -> None:
    if not value < MOST:
        raise ConfigError(f"{where}: {key} is {value}; it must be below {MOST}")
    if key in _POSITIVE and not value > 0:
        raise ConfigError(f"{where}: {key} is {value}; it must be above 0")
    if not value >= 0:
        raise ConfigError(f"{where}: {key} is {value}; it must be 0 or more")


def _check_sense(where: str, queue: Queue) -> None:
    """What a queue says of itself must not contradict itself."""
    if queue.submitter != "none" and queue.cores > queue.pilot_cores:
        raise ConfigError(
            f"{where}: cores is {queue.cores}, but no pilot has more than pilot_cores = {queue.pilot_cores}"
        )
    for what in ("cores", "memory_mb", "walltime_s"):
        least, most = getattr(queue, f"min_{what}"), getattr(queue, what)
        if least > most:
            raise ConfigError(f"{where}: min_{what} is {least}, more than {what} = {most}: no job would fit")
    if queue.requirements:
        try:
            requirements.read(queue.requirements)
        except BadRequirement as problem:
            raise ConfigError(f"{where}: requirements: {problem}") from problem
    if queue.second_storage and queue.second_storage == (queue.write_storage or queue.storage):
        raise ConfigError(f"{where}: second_storage is {queue.second_storage!r}, where outputs go in any case")
    if queue.gpu_model and not queue.gpus:
        raise ConfigError(f"{where}: gpu_model is {queue.gpu_model!r}, but gpus is 0")
    for tag in queue.tags:
        if tag.startswith("arch:") and queue.architecture and tag != f"arch:{queue.architecture}":
            raise ConfigError(f"{where}: tags has {tag}, but architecture is {queue.architecture!r}")


def _check_downtimes(
    path: str, config: SiteConfig, sites: Sequence[str], storages: Sequence[str], queues: Iterable[str]
) -> None:
    known = {"site": sites, "storage": storages, "queue": sorted({queue.name for queue in config.queues} | set(queues))}
    for downtime in config.downtimes:
        where = f"{path} [downtimes.{downtime.name}]"
        _check_known("kind", downtime.kind, PLACES, where)
        _check_known(downtime.kind, downtime.target, known[downtime.kind], where)
        if downtime.ends_at <= downtime.starts_at:
            raise ConfigError(f"{where}: ends_at is not later than starts_at = {downtime.starts_at}")


def _check_links(path: str, links: Sequence[Link], site_names: Sequence[str]) -> None:
    named: dict[tuple[str, str], str] = {}
    for link in links:
        where = f"{path} [links.{link.name}]"
        _check_known("site", link.source, site_names, where)
        _check_known("site", link.destination, site_names, where)
        first = named.setdefault((link.source, link.destination), link.name)
        if first != link.name:
            raise ConfigError(f"{where}: [links.{first}] leads from {link.source} to {link.destination} already")


def _check_known(kind: str, name: str, known: Sequence[str], where: str) -> None:
    if name not in known:
        raise UnknownName(kind, name, known, where=where)


def _installed(group: str) -> list[str]:
    return sorted(entry_points(group=group).names)

"""Sites, storages and queues: what `config/sites.toml` says, and what operators change while it runs.

The file is the wish of who runs the installation, the tables are the truth: brokerage, pilots and
movers read the tables. A queue's status comes from the file once, when the queue is first seen;
from then on it belongs to operators.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_origin

from sqlalchemy.engine import Connection, Row

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import ConfigError, Invalid, NotFound, UnknownName
from panda.names import checked
from panda.states import QueueStatus

#: Waiting jobs that one transaction wakes.
WAKE_CHUNK = 5_000
#: Brokerage holds this lock shared from its look at the queues until it has parked what fits none;
#: who changes a queue holds it alone. So no job parks because of a queue that has just opened.
QUEUES_LOCK = 7_000_010


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place with machines and disks under one roof."""

    name: str
    cloud: str = "LOCAL"
    description: str = ""


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
    status: str = "online"
    """Only for a queue that is seen for the first time."""
    cores: int
    memory_mb: int
    disk_mb: int
    walltime_s: int
    tags: list[str]
    submitter: str = "none"
    """The plugin that starts pilots; `none`: they come by themselves."""
    max_pilots: int = 0
    pilot_cores: int = 1
    pilot_options: list[str]
    max_ready: int = 0
    """Jobs that may be assigned or activated here at once; 0: any number."""


@dataclass(frozen=True)
class SiteConfig:
    """A file's content, checked: names are known, references lead somewhere."""

    sites: list[Site]
    storages: list[Storage]
    queues: list[Queue]
    links: list[Link]


SECTIONS: Mapping[str, type] = MappingProxyType({"sites": Site, "storages": Storage, "queues": Queue, "links": Link})
#: Settings that may be left out and are an empty list then.
_LISTS = frozenset({"tags", "pilot_options"})
#: Settings of which zero or less makes no sense.
_POSITIVE = frozenset({"cores", "memory_mb", "disk_mb", "walltime_s", "pilot_cores"})

SYNC_SITES = """
INSERT INTO sites (name, cloud, description)
SELECT * FROM unnest(%(names)s::text[], %(clouds)s::text[], %(descriptions)s::text[])
ON CONFLICT (name) DO UPDATE SET cloud = excluded.cloud, description = excluded.description
"""
SYNC_STORAGES = """
INSERT INTO storages (name, site, kind, root, max_transfers)
SELECT * FROM unnest(%(names)s::text[], %(sites)s::text[], %(kinds)s::text[], %(roots)s::text[],
    %(max_transfers)s::int[])
ON CONFLICT (name) DO UPDATE SET site = excluded.site, kind = excluded.kind, root = excluded.root,
    max_transfers = excluded.max_transfers
"""
#: Nothing speaks of a link: one that the file no longer names is gone.
DROP_LINKS = "DELETE FROM links"
SYNC_LINKS = """
INSERT INTO links (name, source, destination, distance, max_transfers)
SELECT * FROM unnest(%(names)s::text[], %(sources)s::text[], %(destinations)s::text[], %(distances)s::int[],
    %(max_transfers)s::int[])
"""
SYNC_QUEUE = """
INSERT INTO queues (name, site, storage, status, cores, memory_mb, disk_mb, walltime_s, tags, submitter, max_pilots,
    pilot_cores, pilot_options, max_ready)
VALUES (%(name)s, %(site)s, %(storage)s, %(status)s, %(cores)s, %(memory_mb)s, %(disk_mb)s, %(walltime_s)s,
    %(tags)s::text[], %(submitter)s, %(max_pilots)s, %(pilot_cores)s, %(pilot_options)s::text[], %(max_ready)s)
ON CONFLICT (name) DO UPDATE SET site = excluded.site, storage = excluded.storage, cores = excluded.cores,
    memory_mb = excluded.memory_mb, disk_mb = excluded.disk_mb, walltime_s = excluded.walltime_s,
    tags = excluded.tags, submitter = excluded.submitter, max_pilots = excluded.max_pilots,
    pilot_cores = excluded.pilot_cores, pilot_options = excluded.pilot_options, max_ready = excluded.max_ready
"""
QUEUES = """
SELECT q.name, q.site, s.cloud, q.storage, q.status, q.status_reason, q.cores, q.memory_mb, q.disk_mb, q.walltime_s,
    q.tags, q.submitter, q.max_pilots, q.pilot_cores, q.pilot_options, q.max_ready
FROM queues q JOIN sites s ON s.name = q.site ORDER BY q.name
"""
SITES = "SELECT name, cloud, description FROM sites ORDER BY name"
STORAGES = "SELECT name, site, kind, root, status, max_transfers FROM storages ORDER BY name"
LOCK_QUEUES = "SELECT pg_advisory_xact_lock(%(key)s)"
QUEUE_STATUS = "SELECT status FROM queues WHERE name = %(name)s FOR NO KEY UPDATE"
SET_QUEUE_STATUS = "UPDATE queues SET status = %(status)s, status_reason = %(reason)s WHERE name = %(name)s"
START_WAKING = """
INSERT INTO engine_state (key, value) VALUES ('wake_waiting_for_queue_after', '0')
ON CONFLICT (key) DO UPDATE SET value = '0'
"""
WOKEN_SO_FAR = """
SELECT value::bigint AS panda_id FROM engine_state WHERE key = 'wake_waiting_for_queue_after' FOR UPDATE SKIP LOCKED
"""
#: Rows that somebody else holds are skipped: brokerage, which waits for us, is about to see the queue
#: as it is now, and everybody else is about to take the job out of its wait.
WAKE_NEXT = """
WITH next AS (
    SELECT panda_id FROM job_due WHERE waits_for = 'queue' AND panda_id > %(after)s
    ORDER BY panda_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UPDATE job_due SET waits_for = NULL, due_at = panda_now(), deliveries = 0
WHERE panda_id = ANY(ARRAY(SELECT panda_id FROM next))
RETURNING panda_id
"""
KEEP_WAKING = "UPDATE engine_state SET value = %(after)s WHERE key = 'wake_waiting_for_queue_after'"
STOP_WAKING = "DELETE FROM engine_state WHERE key = 'wake_waiting_for_queue_after'"


def load_file(path: Path) -> SiteConfig:
    """What `path` (TOML) says about sites, storages and queues.

    Raises:
        ConfigError: no TOML, a wrong type, a missing or senseless value; names file and key.
        UnknownName: a section, key, site, storage, status, mover or submitter that does not exist.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from problem
    for section in document:
        if section not in SECTIONS:
            raise UnknownName("section", section, list(SECTIONS), where=str(path))
    read = {section: _read_section(path, section, document.get(section, {})) for section in SECTIONS}
    config = SiteConfig(read["sites"], read["storages"], read["queues"], read["links"])
    _check_references(path, config)
    return config


def sync(connection: Connection, config: SiteConfig, data_dir: Path) -> None:
    """Bring the tables up to `config`. What the file no longer names stays: jobs may speak of it."""
    run(connection, LOCK_QUEUES, {"key": QUEUES_LOCK})
    sites = sorted(config.sites, key=lambda site: site.name)
    run(
        connection,
        SYNC_SITES,
        {"names": [s.name for s in sites], "clouds": [s.cloud for s in sites],
         "descriptions": [s.description for s in sites]},
    )  # fmt: skip
    storages = sorted(config.storages, key=lambda storage: storage.name)
    run(
        connection,
        SYNC_STORAGES,
        {"names": [s.name for s in storages], "sites": [s.site for s in storages],
         "kinds": [s.kind for s in storages], "roots": [_rooted(s, data_dir) for s in storages],
         "max_transfers": [s.max_transfers for s in storages]},
    )  # fmt: skip
    _sync_links(connection, config.links)
    for queue in sorted(config.queues, key=lambda queue: queue.name):
        run(connection, SYNC_QUEUE, vars(queue))
    run(connection, START_WAKING)
    wake_waiting_for_queue(connection)


def _sync_links(connection: Connection, links: Sequence[Link]) -> None:
    run(connection, DROP_LINKS)
    run(
        connection,
        SYNC_LINKS,
        {"names": [each.name for each in links], "sources": [each.source for each in links],
         "destinations": [each.destination for each in links], "distances": [each.distance for each in links],
         "max_transfers": [each.max_transfers for each in links]},
    )  # fmt: skip


def queues(connection: Connection) -> list[Row[Any]]:
    """Every queue with its limits, its status and why it has it, by name."""
    return rows(connection, QUEUES)


def sites(connection: Connection) -> list[Row[Any]]:
    """Every site: name, cloud, description, by name."""
    return rows(connection, SITES)


def storages(connection: Connection) -> list[Row[Any]]:
    """Every storage: name, site, kind, root, status, max_transfers, by name."""
    return rows(connection, STORAGES)


def set_queue_status(
    connection: Connection, name: str, status: str, *, by: str, reason: str, request_id: str | None = None
) -> int:
    """Open or close a queue for new jobs, write down who did it, and let waiting jobs look again.

    Returns: how many waiting jobs are runnable now; `wake_waiting_for_queue` brings the rest.
    Raises:
        NotFound: no such queue.
        UnknownName: no such status.
        Invalid: no reason was given.
    """
    if status not in set(QueueStatus):
        raise UnknownName("queue status", status, list(QueueStatus))
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    run(connection, LOCK_QUEUES, {"key": QUEUES_LOCK})
    found = rows(connection, QUEUE_STATUS, {"name": name})
    if not found:
        raise NotFound("queue", name)
    run(connection, SET_QUEUE_STATUS, {"name": name, "status": status, "reason": reason})
    facts = {"was": found[0].status, "now": status}
    record(connection, by, "set_queue_status", f"queue {name}", reason=reason, facts=facts, request_id=request_id)
    run(connection, START_WAKING)
    return wake_waiting_for_queue(connection)


def wake_waiting_for_queue(connection: Connection) -> int:
    """Carry on after a queue changed: the next `WAKE_CHUNK` jobs that wait for one become runnable.

    In order of PandaID, once around, so that a job which parks again is not woken again. A beat
    tick calls it until it returns 0; a second caller at the same time gets 0.
    """
    so_far = rows(connection, WOKEN_SO_FAR)
    if not so_far:
        return 0
    woken = rows(connection, WAKE_NEXT, {"after": so_far[0].panda_id, "limit": WAKE_CHUNK})
    if len(woken) < WAKE_CHUNK:
        run(connection, STOP_WAKING)
    else:
        run(connection, KEEP_WAKING, {"after": str(max(row.panda_id for row in woken))})
    return len(woken)


def _read_section(path: Path, section: str, given: Any) -> list[Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: [{section}] wants tables such as [{section}.NAME]")
    return [_read_entry(path, section, name, entry) for name, entry in given.items()]


def _read_entry(path: Path, section: str, name: str, entry: Any) -> Any:
    where = f"{path} [{section}.{name}]"
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: [{section}] {name} wants a table, [{section}.{name}]")
    checked(name, where)
    known = {each.name: each for each in fields(SECTIONS[section]) if each.name != "name"}
    for key, value in entry.items():
        if key not in known:
            raise UnknownName("setting", key, list(known), where=where)
        _check_value(where, key, value, known[key].type)
    missing = [key for key, each in known.items() if each.default is MISSING and key not in entry and key not in _LISTS]
    if missing:
        raise ConfigError(f"{where}: {missing[0]} is missing")
    empty: dict[str, Any] = {key: [] for key in known if key in _LISTS}
    return SECTIONS[section](name=name, **(empty | entry))


def _check_value(where: str, key: str, value: Any, wanted: Any) -> None:
    kind = get_origin(wanted) or wanted
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"{where}: {key} wants {getattr(wanted, '__name__', wanted)}, got {value!r}")
    if kind is list and not all(isinstance(each, get_args(wanted)[0]) for each in value):
        raise ConfigError(f"{where}: {key} wants a list of strings, got {value!r}")
    if kind is int and value < (1 if key in _POSITIVE else 0):
        raise ConfigError(f"{where}: {key} is {value}; it must be {'above 0' if key in _POSITIVE else '0 or more'}")


def _check_references(path: Path, config: SiteConfig) -> None:
    site_names = [site.name for site in config.sites]
    storage_names = [storage.name for storage in config.storages]
    for storage in config.storages:
        where = f"{path} [storages.{storage.name}]"
        _check_known("site", storage.site, site_names, where)
        _check_known("mover", storage.kind, _installed("panda.movers"), where)
    _check_links(path, config.links, site_names)
    for queue in config.queues:
        where = f"{path} [queues.{queue.name}]"
        _check_known("site", queue.site, site_names, where)
        _check_known("storage", queue.storage, storage_names, where)
        _check_known("queue status", queue.status, list(QueueStatus), where)
        _check_known("submitter", queue.submitter, ["none", *_installed("panda.submitters")], where)
        if queue.submitter != "none" and queue.cores > queue.pilot_cores:
            raise ConfigError(
                f"{where}: cores is {queue.cores}, but no pilot has more than pilot_cores = {queue.pilot_cores}"
            )


def _check_links(path: Path, links: Sequence[Link], site_names: Sequence[str]) -> None:
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


def _rooted(storage: Storage, data_dir: Path) -> str:
    """An address stays as it is; a relative folder stands in the data folder."""
    return storage.root if "://" in storage.root else str(data_dir.absolute() / storage.root)

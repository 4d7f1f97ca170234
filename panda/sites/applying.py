"""What is said of places becomes rows.

A *source* (the file of the installation, a collector) says the same again and again. What it says as it said it
before is left as it is now: so a limit that an operator changed, a version that was rolled back to, or a queue
that was removed stays so until the source itself says something else. An import is said once, and counts.

Whoever says something need not say everything: what is not said of a thing that there is stays as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import ConfigError
from panda.sites import siteinfo
from panda.sites.siteinfo import KIND_OF, SECTION_OF, Link, SiteConfig
from panda.sites.status import write_status
from panda.sites.versions import Deed, Document, Recorded, State, changing
from panda.sites.waking import look_again

#: The source that an installation starts with, and the name that stands for it in versions.
FILE, SITES_TOML = "file", "sites.toml"

#: What is gone when its source no longer names it: nothing speaks of it.
MAY_GO = frozenset({"link", "downtime"})
NONE: Mapping[str, str] = MappingProxyType({})

SAID = "SELECT kind, name, document FROM site_sources WHERE source = %(source)s"
#: A thing has one source, the one that named it last.
REMEMBER = """
INSERT INTO site_sources (kind, name, source, document)
SELECT kind, name, %(source)s, document
FROM unnest(%(kinds)s::text[], %(names)s::text[], %(documents)s::jsonb[]) AS t(kind, name, document)
ON CONFLICT (kind, name) DO UPDATE SET source = excluded.source, document = excluded.document
"""
FORGET = """
DELETE FROM site_sources s USING unnest(%(kinds)s::text[], %(names)s::text[]) AS t(kind, name)
WHERE s.kind = t.kind AND s.name = t.name AND s.source = %(source)s
"""
SAYS = "SELECT kind, name, source FROM site_sources"


def sync(connection: Connection, config: SiteConfig, data_dir: Path) -> Recorded:
    """Bring the tables up to the installation's file. What it no longer names stays: jobs may speak of it.

    Raises:
        ConfigError: together with what was changed at run time it contradicts itself.
    """
    given = said_by(config)
    return apply(connection, given, data_dir, Deed(SITES_TOML, "file", "read at the start"), source=FILE)


def said_by(config: SiteConfig) -> State:
    """A whole file as documents: what it leaves out it says too, by the default."""
    return {
        (KIND_OF[section], entry.name): siteinfo.document_of(entry)
        for section in KIND_OF
        for entry in getattr(config, section)
    }


def apply(
    connection: Connection,
    given: State,
    data_dir: Path,
    deed: Deed,
    *,
    source: str | None = None,
    where: str = "",
    statuses: Mapping[str, str] = NONE,
) -> Recorded:
    """Bring the tables up to what is said.

    Args:
        given: by kind and name the values that are said.
        source: who says it, again and again; None: it is said once.
        where: what it is called in errors.
        statuses: of queues that there are; a new one has the status that its document says in any case.
    Raises:
        ConfigError, UnknownName, Invalid: it cannot be meant, or contradicts itself or what there is.
    """
    with changing(connection, deed) as recorded:
        put(connection, recorded.before, given, data_dir, deed, source=source, where=where, statuses=statuses)
    if recorded.changes:
        look_again(connection)
    return recorded


def put(
    connection: Connection,
    before: State,
    given: State,
    data_dir: Path,
    deed: Deed,
    *,
    source: str | None = None,
    where: str = "",
    statuses: Mapping[str, str] = NONE,
) -> None:
    """The same within somebody's change of places; `before` is what there is."""
    where = where or deed.who
    said = said_before(connection, source)
    given = {key: _settled(where, key, document, data_dir) for key, document in given.items()}
    wanted = {key: _wanted(where, key, given[key], before.get(key), said.get(key)) for key in given}
    entries = {key: entry for key, entry in wanted.items() if entry is not None}
    gone = [key for key in said.keys() - given.keys() if key[0] in MAY_GO]
    _check(where, entries.values(), before, gone)
    changed = [entry for key, entry in entries.items() if _differs(entry, before.get(key))]
    write(connection, changed, gone, by=deed.who)
    _set_statuses(connection, statuses, before, deed)
    if source is not None:
        _remember(connection, source, given, sorted(said.keys() - given.keys()))


def said_before(connection: Connection, source: str | None) -> State:
    """What a source said last; nothing, if there is none."""
    if source is None:
        return {}
    return {(row.kind, row.name): row.document for row in rows(connection, SAID, {"source": source})}


def sources(connection: Connection) -> dict[tuple[str, str], str]:
    """Which source names a thing, by kind and name."""
    return {(row.kind, row.name): row.source for row in rows(connection, SAYS)}


def write(connection: Connection, entries: Iterable[Any], gone: Sequence[tuple[str, str]], *, by: str) -> None:
    """Rows for entries of any section, and the end of things that may go; the caller changes places, and checked
    them."""
    config = siteinfo.sorted_out(entries)
    siteinfo.write_sites(connection, config.sites)
    siteinfo.write_storages(connection, config.storages)
    dropped = [name for kind, name in gone if kind == "link"]
    siteinfo.drop_links(connection, [*dropped, *(link.name for link in config.links)])  # two may have changed places
    siteinfo.write_links(connection, config.links)
    siteinfo.write_queues(connection, config.queues)
    siteinfo.drop_downtimes(connection, [name for kind, name in gone if kind == "downtime"])
    siteinfo.write_downtimes(connection, config.downtimes, by=by)


def _settled(where: str, key: tuple[str, str], document: Document, data_dir: Path) -> Document:
    """What can be said in several ways is said in the one that rows have."""
    if key[0] == "storage" and isinstance(document.get("root"), str):
        return document | {"root": siteinfo.rooted(document["root"], data_dir)}
    if key[0] == "downtime":
        moments = [what for what in ("starts_at", "ends_at") if what in document]
        names = {what: f"{where} [downtimes.{key[1]}]: {what}" for what in moments}
        return document | {what: siteinfo.moment_of(document[what], names[what]) for what in moments}
    return document


def _wanted(where: str, key: tuple[str, str], given: Document, now: Document | None, said: Document | None) -> Any:
    """The entry that is wanted of a thing: as it is now where the source says what it said before. None: nothing is
    wanted of it, since it was taken away and the source says nothing new."""
    kind, name = key
    is_there = now is not None and not now.get("removed_at")
    if not is_there and said == given:
        return None
    values: Document = {}
    if now is not None and is_there:
        values = siteinfo.spoken(SECTION_OF[kind], now)
    said = said if said is not None and is_there else {}
    values |= {what: value for what, value in given.items() if what not in said or said[what] != value}
    return siteinfo.entry_of(SECTION_OF[kind], name, values, where)


def _differs(entry: Any, now: Document | None) -> bool:
    """Whether the row has to be written. A status is no part of it: that belongs to operators."""
    wanted = siteinfo.document_of(entry)
    if now is None or now.get("removed_at"):
        return True
    return any(wanted[key] != (now.get(key) or type(wanted[key])()) for key in wanted if key != "status")


def names_of(state: Iterable[tuple[str, str]]) -> tuple[list[str], list[str], list[str]]:
    """Sites, storages and queues, by name, of what is known."""
    keys = list(state)
    sites, storages, queues = ([name for of, name in keys if of == kind] for kind in ("site", "storage", "queue"))
    return sites, storages, queues


def _check(where: str, entries: Iterable[Any], before: State, gone: Sequence[tuple[str, str]]) -> None:
    """The state as a whole, which is made of what is said and of what is there, makes sense."""
    config = siteinfo.sorted_out(entries)
    siteinfo.check(where, config, *names_of(before))
    pairs = {(link.source, link.destination): link for link in config.links}
    named = {link.name for link in config.links}
    for (kind, name), document in before.items():
        if kind != "link" or (kind, name) in gone or name in named:
            continue
        link: Link | None = pairs.get((document["source"], document["destination"]))
        if link is not None:
            message = f"link {name} leads from {link.source} to {link.destination} already"
            raise ConfigError(f"{where} [links.{link.name}]: {message}")


def _remember(connection: Connection, source: str, given: State, forgotten: Sequence[tuple[str, str]]) -> None:
    documents = [msgspec.json.encode(document).decode() for document in given.values()]
    keys = {"kinds": [kind for kind, _ in given], "names": [name for _, name in given]}
    run(connection, REMEMBER, keys | {"source": source, "documents": documents})
    gone = {"kinds": [kind for kind, _ in forgotten], "names": [name for _, name in forgotten]}
    run(connection, FORGET, gone | {"source": source})


def _set_statuses(connection: Connection, statuses: Mapping[str, str], before: State, deed: Deed) -> None:
    """Give queues that there were before the status that is said."""
    for name, status in sorted(statuses.items()):
        was = before.get(("queue", name), {}).get("status", status)
        if was != status:
            write_status(connection, name, status, by=deed.who, reason=deed.why)
            facts = {"was": was, "now": status}
            record(connection, deed.who, "set_queue_status", f"queue {name}", reason=deed.why, facts=facts)

"""A document about places becomes rows.

A *source* (the file of the installation, a collector) says the same again and again. What it says as it said it
before is left as it is now: so a limit that an operator changed, a version that was rolled back to, or a queue
that was removed stays so until the source itself says something else. An import is said once, and counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import ConfigError
from panda.sites import siteinfo
from panda.sites.siteinfo import KIND_OF, Link, SiteConfig
from panda.sites.versions import Deed, Document, Recorded, State, changing
from panda.sites.waking import look_again

#: The source that an installation starts with, and the name that stands for it in versions.
FILE, SITES_TOML = "file", "sites.toml"

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


def sync(connection: Connection, config: SiteConfig, data_dir: Path) -> Recorded:
    """Bring the tables up to the installation's file. What it no longer names stays: jobs may speak of it.

    Raises:
        ConfigError: together with what was changed at run time it contradicts itself.
    """
    return apply(connection, config, data_dir, Deed(SITES_TOML, "file", "read at the start"), source=FILE)


def apply(
    connection: Connection, config: SiteConfig, data_dir: Path, deed: Deed, *, source: str | None = None
) -> Recorded:
    """Bring the tables up to a document.

    Args:
        source: who says it, again and again; None: it is said once.
    Raises: as `sync`.
    """
    where = deed.who if source == FILE else "the document"
    with changing(connection, deed) as recorded:
        before, said = recorded.before, _said(connection, source)
        entries = _entries(config, data_dir)
        wanted = {key: _merged(entry, before.get(key), said.get(key)) for key, entry in entries.items()}
        wanted = {key: entry for key, entry in wanted.items() if entry is not None}
        gone = [name for kind, name in said.keys() - entries.keys() if kind == "link"]
        _check(where, wanted, before, gone)
        _write(connection, {key: entry for key, entry in wanted.items() if _differs(entry, before.get(key))}, gone)
        if source is not None:
            _remember(connection, source, entries, sorted(said.keys() - entries.keys()))
    if recorded.changes:
        look_again(connection)
    return recorded


def _entries(config: SiteConfig, data_dir: Path) -> dict[tuple[str, str], Any]:
    storages = [replace(storage, root=siteinfo.rooted(storage, data_dir)) for storage in config.storages]
    sections: Mapping[str, Sequence[Any]] = {
        "sites": config.sites, "storages": storages, "links": config.links, "queues": config.queues
    }  # fmt: skip
    return {(KIND_OF[section], entry.name): entry for section, entries in sections.items() for entry in entries}


def _merged(entry: Any, now: Document | None, said: Document | None) -> Any:
    """What is wanted of a thing: as it is now where the source says what it said before. None: as before, nothing."""
    if said is None:
        return entry
    wanted = siteinfo.document_of(entry)
    if now is None or now.get("removed_at"):
        return None if said == wanted else entry
    kept = {key: now[key] for key in wanted if key in said and said[key] == wanted[key] and now.get(key) is not None}
    return replace(entry, **kept)


def _differs(entry: Any, now: Document | None) -> bool:
    """Whether the row has to be written. A status is no part of it: that belongs to operators."""
    wanted = siteinfo.document_of(entry)
    if now is None or now.get("removed_at"):
        return True
    return any(wanted[key] != (now.get(key) or type(wanted[key])()) for key in wanted if key != "status")


def _check(where: str, wanted: Mapping[tuple[str, str], Any], before: State, gone: Sequence[str]) -> None:
    """The state as a whole, which is made of what is said and of what is there, makes sense."""
    of_kind: dict[str, list[Any]] = {kind: [] for kind in KIND_OF.values()}
    for (kind, _), entry in wanted.items():
        of_kind[kind].append(entry)
    config = SiteConfig(of_kind["site"], of_kind["storage"], of_kind["queue"], of_kind["link"])
    there = {kind: [name for of, name in before if of == kind] for kind in ("site", "storage")}
    siteinfo.check(where, config, there["site"], there["storage"])
    pairs = {(link.source, link.destination): link for link in config.links}
    for (kind, name), document in before.items():
        if kind != "link" or name in gone or (kind, name) in wanted:
            continue
        link: Link | None = pairs.get((document["source"], document["destination"]))
        if link is not None:
            message = f"link {name} leads from {link.source} to {link.destination} already"
            raise ConfigError(f"{where} [links.{link.name}]: {message}")


def _write(connection: Connection, entries: Mapping[tuple[str, str], Any], gone: Sequence[str]) -> None:
    of_kind: dict[str, list[Any]] = {kind: [] for kind in KIND_OF.values()}
    for kind, name in sorted(entries):
        of_kind[kind].append(entries[kind, name])
    siteinfo.write_sites(connection, of_kind["site"])
    siteinfo.write_storages(connection, of_kind["storage"])
    siteinfo.drop_links(connection, [*gone, *(link.name for link in of_kind["link"])])  # two may have changed places
    siteinfo.write_links(connection, of_kind["link"])
    siteinfo.write_queues(connection, of_kind["queue"])


def _said(connection: Connection, source: str | None) -> State:
    if source is None:
        return {}
    return {(row.kind, row.name): row.document for row in rows(connection, SAID, {"source": source})}


def _remember(
    connection: Connection, source: str, entries: Mapping[tuple[str, str], Any], forgotten: Sequence[tuple[str, str]]
) -> None:
    documents = [msgspec.json.encode(siteinfo.document_of(entry)).decode() for entry in entries.values()]
    keys = {"kinds": [kind for kind, _ in entries], "names": [name for _, name in entries]}
    run(connection, REMEMBER, keys | {"source": source, "documents": documents})
    gone = {"kinds": [kind for kind, _ in forgotten], "names": [name for _, name in forgotten]}
    run(connection, FORGET, gone | {"source": source})

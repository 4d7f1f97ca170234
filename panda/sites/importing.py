"""Documents about places from outside: said once, whole or not at all, and in a dry run if wanted.

Each is either written as `sites.toml` is (as TOML, or as JSON of the same shape), or in CRIC's words (`cric`).
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.engine import Connection

from panda.auth.audit_log import record
from panda.errors import ConfigError, Invalid, UnknownName
from panda.sites import cric
from panda.sites.applying import NONE, apply
from panda.sites.cric import Reading
from panda.sites.siteinfo import KIND_OF, SECTIONS
from panda.sites.versions import Deed, Recorded, State

#: Problems that one error spells out.
TOLD = 10


class Imported(NamedTuple):
    """What an import changed; `inactive`: names that were left aside, because upstream calls them inactive."""

    recorded: Recorded
    n_things: int
    inactive: list[str]


def parsed(raw: bytes, name: str) -> Mapping[str, Any]:
    """The document in a file: JSON, or TOML if its name says so. Raises Invalid (`bad_document`)."""
    try:
        text = raw.decode("utf-8")
        document: Any = tomllib.loads(text) if name.endswith(".toml") else msgspec.json.decode(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError, RecursionError) as problem:
        raise Invalid(f"it cannot be read: {problem}", where=name, code="bad_document") from problem
    if not isinstance(document, Mapping):
        raise Invalid("it is no object", where=name, code="bad_document")
    return document


def read(documents: Sequence[Mapping[str, Any]]) -> Reading:
    """What documents say together, with what cannot be meant of it.

    Raises:
        Invalid: `bad_document`: two of them speak of one thing; UnknownName: a section that does not exist.
    """
    whole = Reading({}, {}, [], {})
    for document in documents:
        each = _read_one(document)
        for key, given in each.given.items():
            known = whole.given.setdefault(key, {})
            for what in known.keys() & given.keys():
                if known[what] != given[what]:
                    message = f"{key[0]} {key[1]} stands there twice, with another {what}"
                    raise Invalid(message, where="documents", code="bad_document")
            whole.given[key] = known | given
        whole.problems.update(each.problems)
        whole.inactive.extend(each.inactive)
        whole.status.update(each.status)
    return whole


def import_documents(
    connection: Connection,
    documents: Sequence[Mapping[str, Any]],
    data_dir: Path,
    *,
    by: str,
    reason: str,
    with_status: bool = False,
    request_id: str | None = None,
) -> Imported:
    """Take over what documents say; what they do not say of a thing that there is stays.

    Args:
        with_status: of queues that there are, too; a new one has the status that its document says in any case.
    Raises:
        Invalid: `no_reason`; `bad_document`; `bad_site_data`: something cannot be meant, or contradicts itself or
            what there is; the first ten such things are named. Nothing is done then.
    """
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    reading = read(documents)
    problems = list(reading.problems.values())
    if problems:
        more = f"; and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
        raise Invalid("; ".join(problems[:TOLD]) + more, where="documents", code="bad_site_data")
    statuses = reading.status if with_status else {}
    deed = Deed(by, "import", reason, request_id)
    recorded = _take_over(connection, reading.given, data_dir, deed, statuses=statuses)
    facts = {"version": recorded.version_id, "n": len(recorded.changes)}
    record(connection, by, "import_sites", "sites", reason=reason, facts=facts, request_id=request_id)
    return Imported(recorded, len(reading.given), reading.inactive)


def _read_one(document: Mapping[str, Any]) -> Reading:
    if is_ours(document):
        return _ours(document)
    return cric.read_endpoints(document) if cric.is_endpoints(document) else cric.read_queues(document)


def is_ours(document: Mapping[str, Any]) -> bool:
    """Whether it has the shape of `sites.toml`, and not that of CRIC's files, whose keys are names."""
    return any(section in SECTIONS for section in document)


def _take_over(
    connection: Connection,
    given: State,
    data_dir: Path,
    deed: Deed,
    *,
    statuses: Mapping[str, str] = NONE,
) -> Recorded:
    """`apply`, for documents that did not come from a file of ours. Raises Invalid (`bad_site_data`)."""
    try:
        return apply(connection, given, data_dir, deed, where="documents", statuses=statuses)
    except (ConfigError, UnknownName) as problem:
        raise Invalid(str(problem), code="bad_site_data") from problem


def _ours(document: Mapping[str, Any]) -> Reading:
    reading = Reading({}, {}, [], {})
    for section, entries in document.items():
        if section not in SECTIONS:
            raise UnknownName("section", str(section)[:60], list(SECTIONS), where="documents")
        if not isinstance(entries, Mapping) or not all(isinstance(each, Mapping) for each in entries.values()):
            message = f"{section} wants an object of objects, by name"
            raise Invalid(message, where="documents", code="bad_document")
        for name, entry in entries.items():
            reading.given[KIND_OF[section], str(name)] = dict(entry)
            if section == "queues" and isinstance(entry.get("status"), str):
                reading.status[str(name)] = entry["status"]
    return reading

"""Documents about places that are read again and again, from files or over HTTP.

The last good state stays whatever comes: an answer that cannot be had or read, that names nothing, or that has lost
too many queues changes nothing and raises an incident. One entry that cannot be meant leaves what was known of it,
and is named in an incident. What the installation's own file names is not the collector's.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import urllib3
from sqlalchemy.engine import Connection
from urllib3.exceptions import HTTPError

from panda.db.session import Begin, rows, run
from panda.errors import Conflict, PandaError, Unavailable
from panda.jobs import incidents
from panda.jobs.incidents import Incident
from panda.sites import applying, importing, removing, siteinfo
from panda.sites.cric import Reading
from panda.sites.importing import TOLD
from panda.sites.siteinfo import SECTION_OF
from panda.sites.versions import Deed, Document, State, changing
from panda.sites.waking import look_again

SOURCE, COMPONENT = "collector", "collector"
MAX_BYTES = 50_000_000
#: Of all documents together, in seconds; the clock's ticks have half a minute.
WITHIN_S = 15.0
MAX_REDIRECTS = 3
#: Queues speak of storages, and these of sites.
PLACES_FIRST = ("site", "storage", "queue", "link", "downtime")

#: Whoever asks first when it is due marks it; the others find the mark.
DUE = """
INSERT INTO engine_state AS e (key, value) VALUES ('sites.collected', panda_now()::text)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
WHERE e.value::timestamptz <= panda_now() - make_interval(secs => %(every_s)s)
RETURNING key
"""
TELL = """
INSERT INTO engine_state (key, value) VALUES ('sites.collect_result', %(told)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""


class Collected(NamedTuple):
    """What came of one read; `problem`: why nothing did."""

    n_changes: int
    problems: list[str]
    problem: str = ""


def collect_if_due(begin: Begin, source: str, data_dir: Path, *, every_s: float, **how: Any) -> Collected | None:
    """`collect`, if nobody did for `every_s` seconds. Called by the clock."""
    if not source.strip():
        return None
    with begin() as connection:
        if not rows(connection, DUE, {"every_s": float(every_s)}):
            return None
    return collect(begin, source, data_dir, **how)


def collect(begin: Begin, source: str, data_dir: Path, *, gone_percent: int, with_status: bool = False) -> Collected:
    """Read the documents of `source` (see `[sites] collect_from`) and take over what is new. Never raises for what
    others did; tells in an incident."""
    try:
        reading = importing.read([fetched(each, data_dir) for each in _named(source)])
        with begin() as connection:
            collected = _take_over(connection, reading, data_dir, source, gone_percent, with_status)
    except PandaError as problem:
        collected = Collected(0, [], str(problem))
    with begin() as connection:
        _tell(connection, source, collected)
    return collected


def fetched(name: str, data_dir: Path) -> Mapping[str, Any]:
    """The document behind a file name or an address.

    Raises:
        Unavailable: it cannot be had. Invalid: `bad_document`: it cannot be read.
    """
    if name.startswith(("http://", "https://")):
        return importing.parsed(_downloaded(name), name)
    try:
        raw = (data_dir / name.removeprefix("file://")).read_bytes()
    except OSError as problem:
        raise Unavailable(f"{name}: {problem.strerror}") from problem
    return importing.parsed(raw, name)


def _named(source: str) -> list[str]:
    return [each.strip() for each in source.split(",") if each.strip()]


def _downloaded(url: str) -> bytes:
    until = time.monotonic() + WITHIN_S
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5, read=10), retries=urllib3.Retry(0, redirect=MAX_REDIRECTS)
    )
    try:
        answer = pool.request("GET", url, headers={"Accept": "application/json"}, preload_content=False)
        if answer.status != 200:
            raise Unavailable(f"{url} answered {answer.status}")
        blocks: list[bytes] = []
        n_bytes = 0
        for block in answer.stream(1 << 16):
            blocks.append(block)
            n_bytes += len(block)
            if n_bytes > MAX_BYTES or time.monotonic() > until:
                raise Unavailable(f"{url} sends more than {MAX_BYTES} bytes, or takes more than {WITHIN_S:g} s")
        return b"".join(blocks)
    except HTTPError as problem:
        raise Unavailable(f"{url}: {type(problem).__name__}") from problem
    finally:
        pool.clear()


def _take_over(
    connection: Connection, reading: Reading, data_dir: Path, source: str, gone_percent: int, with_status: bool
) -> Collected:
    deed = Deed(COMPONENT, "collector", f"read from {source}")
    statuses = reading.status if with_status else applying.NONE
    with changing(connection, deed) as recorded:  # one change: what is new, and what is gone
        now, said = recorded.before, applying.said_before(connection, SOURCE)
        given, problems = _good(connection, reading, now, said)
        gone = _gone(said, given, gone_percent)
        applying.put(
            connection, now, given, data_dir, deed, source=SOURCE, where="documents",
            statuses={name: status for name, status in statuses.items() if ("queue", name) in given},
        )  # fmt: skip
        for name in gone:
            if ("queue", name) in now and not now["queue", name].get("removed_at"):
                removing.take_away(connection, name, by=COMPONENT, reason=f"{source} no longer names it")
    if recorded.changes:
        look_again(connection)
    return Collected(len(recorded.changes), problems)


def _good(connection: Connection, reading: Reading, now: State, said: State) -> tuple[State, list[str]]:
    """What can be taken over; and what cannot, in sentences: there the last good entry stands."""
    owners = applying.sources(connection)
    problems = dict(reading.problems)
    given: State = {}
    for key, document in sorted(reading.given.items(), key=lambda each: PLACES_FIRST.index(each[0][0])):
        if owners.get(key, SOURCE) != SOURCE:
            continue
        try:
            _check(key, document, now, given)
            given[key] = document
        except PandaError as problem:
            problems[key] = str(problem)
    given |= {key: said[key] for key in problems if key in said}
    return given, [problems[key] for key in sorted(problems)]


def _check(key: tuple[str, str], document: Document, now: State, given: State) -> None:
    """An entry by itself makes sense, and what it speaks of is there. Raises ConfigError, UnknownName, Invalid."""
    section = SECTION_OF[key[0]]
    whole = siteinfo.spoken(section, now.get(key, {})) | document
    entry = siteinfo.entry_of(section, key[1], whole, "documents")
    siteinfo.check("documents", siteinfo.sorted_out([entry]), *applying.names_of(now.keys() | given.keys()))


def _gone(said: State, given: State, gone_percent: int) -> list[str]:
    """Queues that the source no longer names. Raises Conflict: too many, or there is no queue at all."""
    before = [name for kind, name in said if kind == "queue"]
    gone = sorted(name for name in before if ("queue", name) not in given)
    if not any(kind == "queue" for kind, _ in given):
        raise Conflict("it names no queue that can be taken over")
    if len(gone) * 100 > len(before) * gone_percent:
        message = f"it no longer names {len(gone)} of {len(before)} queues, among them {', '.join(gone[:5])}"
        raise Conflict(f"{message}; more than {gone_percent} % are not believed")
    return gone


def _tell(connection: Connection, source: str, collected: Collected) -> None:
    found: list[Incident] = []
    if collected.problem:
        message = f"{source} is not taken over, the last good state stays: {collected.problem}"
        found.append(Incident(COMPONENT, "error", "collector: no answer", message[:2000]))
    if collected.problems:
        more = f"; and {len(collected.problems) - TOLD} more" if len(collected.problems) > TOLD else ""
        message = f"what was known of these stays: {'; '.join(collected.problems[:TOLD])}{more}"
        found.append(Incident(COMPONENT, "warning", "collector: entries", message[:2000]))
    if found:
        incidents.report(connection, found)
    run(connection, TELL, {"told": msgspec.json.encode(collected._asdict()).decode()})

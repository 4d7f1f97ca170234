"""Back to what was known at a version: a change like any other, so it can be rolled back too."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.auth.audit_log import record
from panda.db.session import run
from panda.errors import ConfigError, Invalid, UnknownName
from panda.sites import applying, removing, siteinfo
from panda.sites.siteinfo import SECTION_OF
from panda.sites.status import write_status
from panda.sites.versions import Deed, Document, Recorded, State, changing, state_at
from panda.sites.waking import look_again

SET_STORAGE = "UPDATE storages SET status = %(status)s WHERE name = %(name)s"


class Rolled(NamedTuple):
    """`kept`: sites and storages that were not known then, and stay, since files may lie there."""

    recorded: Recorded
    kept: list[str]


def roll_back(
    connection: Connection,
    version_id: int,
    *,
    by: str,
    reason: str,
    names: Sequence[str] = (),
    with_status: bool = False,
    request_id: str | None = None,
) -> Rolled:
    """Make places what they were when that version had been made.

    A queue that was not known then is taken away as `removing` does it.

    Args:
        names: of the things that are meant; none: all.
        with_status: what operators and rules said since then about queues and storages is undone as well.
    Raises:
        NotFound: no such version. UnknownName: `unknown_thing`: nothing of that name was or is known.
        Invalid: `no_reason`; `bad_site_data`: it cannot be any more what it was then.
    """
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    with changing(connection, Deed(by, "rollback", f"back to version {version_id}: {reason}", request_id)) as recorded:
        now, then = recorded.before, state_at(connection, version_id)
        _check_names(names, then, now)
        wanted = {key: document for key, document in then.items() if not names or key[1] in names}
        new = [key for key in sorted(now.keys() - then.keys()) if not names or key[1] in names]
        _write(connection, wanted, now, [key for key in new if key[0] in applying.MAY_GO], by)
        for kind, name in new:
            if kind == "queue" and not now[kind, name].get("removed_at"):
                removing.take_away(connection, name, by=by, reason=f"version {version_id} did not know it")
        if with_status:
            _restore_statuses(connection, wanted, now, by, f"as at version {version_id}")
    look_again(connection)
    facts = {"version": recorded.version_id, "n": len(recorded.changes), "names": list(names)}
    target = f"site version {version_id}"
    record(connection, by, "roll_back_sites", target, reason=reason, facts=facts, request_id=request_id)
    return Rolled(recorded, [name for kind, name in new if kind in ("site", "storage")])


def _check_names(names: Sequence[str], then: State, now: State) -> None:
    known = sorted({name for _, name in then.keys() | now.keys()})
    for name in names:
        if name not in known:
            raise UnknownName("thing", name, known, where="names")


def _write(connection: Connection, wanted: State, now: State, gone: Sequence[tuple[str, str]], by: str) -> None:
    """Raises Invalid: it cannot be any more what it was."""
    differing = {key: document for key, document in wanted.items() if key[0] in SECTION_OF and document != now.get(key)}
    try:
        entries = [
            siteinfo.entry_of_row(SECTION_OF[kind], name, document, "the version")
            for (kind, name), document in differing.items()
        ]
        siteinfo.check("the version", siteinfo.sorted_out(entries), *applying.names_of(now))
    except (ConfigError, UnknownName) as problem:
        raise Invalid(str(problem), code="bad_site_data") from problem
    applying.write(connection, entries, gone, by=by)


def _restore_statuses(connection: Connection, wanted: State, now: State, by: str, why: str) -> None:
    for (kind, name), document in sorted(wanted.items()):
        current: Document = now.get((kind, name), {})
        if kind == "storage" and document["status"] != current.get("status"):
            run(connection, SET_STORAGE, {"name": name, "status": document["status"]})
        if kind == "queue" and document["status"] != current.get("status"):
            reason = f"{why}: {document['status_reason']}" if document["status_reason"] else why
            write_status(connection, name, document["status"], by=by, reason=reason)
            facts = {"was": current.get("status"), "now": document["status"]}
            record(connection, by, "set_queue_status", f"queue {name}", reason=reason, facts=facts)

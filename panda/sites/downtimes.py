"""Planned times in which a site, a queue or a storage is not to be used.

Brokerage sends nothing there while one lasts, nor shortly before it what would not be done in time (the criterion
`downtime`); pilots get no jobs. They come from the installation's file, from imports, or from an operator.
"""

from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from panda.auth.audit_log import record
from panda.db.session import rows
from panda.errors import ConfigError, Conflict, Invalid, NotFound, UnknownName
from panda.names import checked
from panda.sites import applying, siteinfo
from panda.sites.siteinfo import Downtime
from panda.sites.status import check_ahead
from panda.sites.versions import Deed, Document, Recorded, State, changing
from panda.sites.waking import lock_queues, look_again

NOW = "SELECT panda_now() AS at"
ENDED = "SELECT 1 FROM downtimes WHERE ends_at <= panda_now() AND NOT seen_end LIMIT 1"
SEEN = "UPDATE downtimes SET seen_end = true WHERE ends_at <= panda_now() AND NOT seen_end RETURNING name"


def plan(
    connection: Connection,
    *,
    kind: str,
    target: str,
    ends_at: datetime,
    by: str,
    reason: str,
    starts_at: datetime | None = None,
    name: str = "",
    request_id: str | None = None,
) -> str:
    """Plan a downtime.

    Args:
        kind: site, queue or storage. starts_at: None: now. name: none: made of target and start.
    Returns: its name.
    Raises:
        Invalid: `no_reason`; `bad_downtime`: no such target, an end that has passed or comes before the start.
        Conflict: `downtime_exists`.
    """
    _check_reason(reason)
    starts_at = starts_at or rows(connection, NOW)[0].at
    name = checked(name or f"{target}-{starts_at:%Y%m%dT%H%M}"[:250], "name")
    document = {"kind": kind, "target": target, "starts_at": starts_at, "ends_at": ends_at, "reason": reason}
    with changing(connection, Deed(by, "http", reason, request_id)) as recorded:
        if ("downtime", name) in recorded.before:
            raise Conflict(f"there is a downtime {name} already", code="downtime_exists")
        _write(connection, name, document, recorded.before, by)
    _concluded(connection, recorded, "plan_downtime", name, document, by=by, reason=reason, request_id=request_id)
    return name


def change(
    connection: Connection,
    name: str,
    *,
    by: str,
    reason: str,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    request_id: str | None = None,
) -> None:
    """Give a downtime another start or end; None: as it is.

    Raises:
        NotFound. Invalid: as `plan`.
    """
    _check_reason(reason)
    with changing(connection, Deed(by, "http", reason, request_id)) as recorded:
        was = recorded.before.get(("downtime", name))
        if was is None:
            raise NotFound("downtime", name)
        said = {"starts_at": starts_at, "ends_at": ends_at}
        document = was | {what: at for what, at in said.items() if at is not None}
        _write(connection, name, document, recorded.before, by)
    _concluded(connection, recorded, "change_downtime", name, document, by=by, reason=reason, request_id=request_id)


def cancel(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None = None) -> None:
    """It does not take place, or is over; who and why stays in the history.

    Raises:
        NotFound. Invalid: `no_reason`.
    """
    _check_reason(reason)
    with changing(connection, Deed(by, "http", reason, request_id)) as recorded:
        was = recorded.before.get(("downtime", name))
        if was is None:
            raise NotFound("downtime", name)
        siteinfo.drop_downtimes(connection, [name])
    _concluded(connection, recorded, "cancel_downtime", name, was, by=by, reason=reason, request_id=request_id)


def see_ends(connection: Connection) -> int:
    """Downtimes that have ended since the last look: jobs that wait for a queue look again. Called by the clock.

    Returns: how many ended.
    """
    if not rows(connection, ENDED):
        return 0
    lock_queues(connection)
    ended = rows(connection, SEEN)
    look_again(connection)
    return len(ended)


def _write(connection: Connection, name: str, document: Document, before: State, by: str) -> None:
    where = f"downtime {name}"
    try:
        moments = {what: siteinfo.moment_of(document[what], what) for what in ("starts_at", "ends_at")}
        check_ahead(connection, datetime.fromisoformat(moments["ends_at"]), "ends_at", "bad_downtime")
        entry: Downtime = siteinfo.entry_of_row("downtimes", name, document | moments, where)
        siteinfo.check(where, siteinfo.sorted_out([entry]), *applying.names_of(before))
    except (ConfigError, UnknownName) as problem:
        raise Invalid(str(problem), code="bad_downtime") from problem
    siteinfo.write_downtimes(connection, [entry], by=by)


def _concluded(
    connection: Connection,
    recorded: Recorded,
    action: str,
    name: str,
    document: Document,
    *,
    by: str,
    reason: str,
    request_id: str | None,
) -> None:
    facts: dict[str, Any] = {what: document[what] for what in ("kind", "target", "starts_at", "ends_at")}
    facts["version"] = recorded.version_id
    record(connection, by, action, f"downtime {name}", reason=reason, facts=facts, request_id=request_id)
    look_again(connection)


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")

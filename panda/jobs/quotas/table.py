"""Quotas in the database: what the file says, and what operators change while it runs.

As with shares, the table is the truth. At each start what is new or changed in the file is taken over; what an
operator set stays until the file says something else of it than before.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import Invalid, NotFound
from panda.jobs.quotas import picture
from panda.jobs.quotas.file import MOST
from panda.jobs.quotas.rules import GROUP, HOLD, REFUSE, Limits, Quota, subject_parts
from panda.names import checked

_COLUMNS = "subject, queued_jobs, running_jobs, running_cores, core_hours, beyond, members"
_NEW = """jsonb_to_recordset(%(quotas)s::jsonb) AS n(subject text, queued_jobs bigint, running_jobs bigint,
    running_cores bigint, core_hours double precision, beyond text, members text[])"""
_VALUES = """queued_jobs = excluded.queued_jobs, running_jobs = excluded.running_jobs,
    running_cores = excluded.running_cores, core_hours = excluded.core_hours, beyond = excluded.beyond,
    members = excluded.members"""
SYNC = f"""
INSERT INTO quotas AS q ({_COLUMNS}, file_says)
SELECT {_COLUMNS}, to_jsonb(n) FROM {_NEW} ORDER BY subject
ON CONFLICT (subject) DO UPDATE SET {_VALUES}, file_says = excluded.file_says
    WHERE q.file_says IS DISTINCT FROM excluded.file_says
"""
FORGET = "DELETE FROM quotas WHERE file_says IS NOT NULL AND subject <> ALL(%(subjects)s)"
SET = f"""
INSERT INTO quotas AS q ({_COLUMNS}) SELECT {_COLUMNS} FROM {_NEW}
ON CONFLICT (subject) DO UPDATE SET {_VALUES}
"""
CLEAR = "DELETE FROM quotas WHERE subject = %(subject)s RETURNING file_says IS NOT NULL AS is_in_file"
ALL = f"SELECT {_COLUMNS} FROM quotas ORDER BY subject"
ONE = f"SELECT {_COLUMNS} FROM quotas WHERE subject = %(subject)s FOR NO KEY UPDATE"
CHANGED = "UPDATE quota_walk SET changed_at = panda_now()"
#: Nobody may want to know any more what each owner runs; who does asks for a count.
UNCOUNTED = "UPDATE share_usage SET owners = NULL"


def sync(connection: Connection, quotas: Sequence[Quota]) -> None:
    """Bring the table up to the file. What was set at run time stays where the file says what it said."""
    n = run(connection, SYNC, {"quotas": _text([_row(quota) for quota in quotas])})
    n += run(connection, FORGET, {"subjects": [quota.subject for quota in quotas]})
    if n:
        changed(connection)


def changed(connection: Connection) -> None:
    """A quota, a ban or a limit is another one: the ready jobs that it is about are marked anew by the clock."""
    run(connection, CHANGED)
    run(connection, UNCOUNTED)
    picture.forget()


def all_of_them(connection: Connection) -> list[Row[Any]]:
    """Every quota that was set, by subject."""
    return rows(connection, ALL)


def set_quota(
    connection: Connection, subject: str, values: Mapping[str, Any], *, by: str, reason: str,
    request_id: str | None = None,
) -> Row[Any]:  # fmt: skip
    """Change what was set for somebody, and write down who did it. Processes know within a second.

    Args:
        values: limits, `beyond`, `members` by name; what is not named stays. None: nothing is said any more.
    Returns: the row as it is now.
    Raises:
        Invalid: `unknown_subject`, `bad_name`, `bad_quota`, `no_members`, `no_reason`.
    """
    kind, name = subject_parts(subject)
    if name:
        checked(name, "subject")
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    found = rows(connection, ONE, {"subject": subject})
    was = found[0]._asdict() if found else {"subject": subject} | dict.fromkeys((*Limits._fields, "beyond"))
    now = {"members": [], **was, **values}
    _check(kind, now)
    run(connection, SET, {"quotas": _text([now])})
    changed(connection)
    facts = {"was": {key: was[key] for key in values if key in was}, "now": dict(values)}
    record(connection, by, "set_quota", f"quota {subject}", reason=reason, facts=facts, request_id=request_id)
    return rows(connection, ONE, {"subject": subject})[0]


def clear(connection: Connection, subject: str, *, by: str, reason: str, request_id: str | None = None) -> bool:
    """Take away what was set for somebody. Returns whether the file names it, so that the next start brings it back.

    Raises:
        NotFound: nothing was. Invalid: `unknown_subject`, `no_reason`.
    """
    subject_parts(subject)
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    was = rows(connection, ONE, {"subject": subject})
    gone = rows(connection, CLEAR, {"subject": subject})
    if not gone:
        raise NotFound("quota", subject)
    changed(connection)
    facts = {"was": was[0]._asdict()}
    record(connection, by, "clear_quota", f"quota {subject}", reason=reason, facts=facts, request_id=request_id)
    return bool(gone[0].is_in_file)


def _check(kind: str, now: Mapping[str, Any]) -> None:
    for field in Limits._fields:
        value = now[field]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_whole = field == "core_hours" or isinstance(value, int)
        if value is not None and not (is_number and is_whole and 0 <= value <= MOST):
            raise Invalid(f"{value!r} is no limit from 0 (any number) to {MOST:,}", where=field, code="bad_quota")
    if now["beyond"] not in (None, REFUSE, HOLD):
        raise Invalid(f"write {REFUSE} or {HOLD}", where="beyond", code="bad_quota")
    if kind == GROUP and not now["members"]:
        raise Invalid("a group needs members", where="members", code="no_members")
    if kind != GROUP and now["members"]:
        raise Invalid("only groups have members", where="members", code="bad_quota")
    for member in now["members"]:
        checked(member, "members")


def _row(quota: Quota) -> dict[str, Any]:
    return {"subject": quota.subject, **quota.limits._asdict(), "beyond": quota.beyond, "members": list(quota.members)}


def _text(document: Any) -> str:
    return msgspec.json.encode(document).decode()

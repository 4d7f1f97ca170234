"""What a process knows of quotas: one statement, at most once in `TRUST_S`.

So a submission, a claim or a stage costs nothing for them, and what an operator changes counts a second later.
"""

import time
from threading import Lock
from weakref import WeakKeyDictionary

from sqlalchemy.engine import Connection, Engine

from panda.db.session import rows
from panda.jobs.quotas.rules import Held, Limits, Picture, Quota, Used, subject_parts

#: Seconds that a process trusts its picture.
TRUST_S = 1.0
#: Somebody who used less than this part of everything stands no further back for it.
LITTLE = 0.002

PICTURE = f"""
SELECT
    (SELECT coalesce(jsonb_agg(to_jsonb(q) - 'file_says' ORDER BY subject), '[]') FROM quotas q) AS quotas,
    (SELECT coalesce(jsonb_object_agg(name, jsonb_build_array(
            CASE WHEN banned_at IS NOT NULL THEN coalesce(ban_reason, '') END,
            CASE WHEN limited_at IS NOT NULL THEN coalesce(limit_reason, '') END)), '{{}}')
        FROM users WHERE banned_at IS NOT NULL OR limited_at IS NOT NULL) AS held,
    (SELECT coalesce(jsonb_object_agg(owner, jsonb_build_array(part, late_ms, core_hours)), '{{}}')
        FROM owner_usage WHERE part >= {LITTLE}
            OR EXISTS (SELECT FROM quotas WHERE core_hours > 0)) AS used
"""

_known: WeakKeyDictionary[Engine, tuple[float, Picture]] = WeakKeyDictionary()
_lock = Lock()


def current(connection: Connection) -> Picture:
    """All quotas, at most `TRUST_S` old."""
    known = _known.get(connection.engine)
    if known is not None and time.monotonic() < known[0]:
        return known[1]
    picture = fresh(connection)
    with _lock:
        _known[connection.engine] = (time.monotonic() + TRUST_S, picture)
    return picture


def fresh(connection: Connection) -> Picture:
    """All quotas as they are now."""
    [row] = rows(connection, PICTURE)
    return Picture(
        [_quota(each) for each in row.quotas],
        {name: Held(*reasons) for name, reasons in row.held.items()},
        {owner: Used(part, int(late_ms), core_hours) for owner, (part, late_ms, core_hours) in row.used.items()},
    )


def forget() -> None:
    """Look anew: something changed that must count at once."""
    with _lock:
        _known.clear()


def _quota(found: dict[str, object]) -> Quota:
    kind, name = subject_parts(str(found["subject"]))
    limits = Limits(*(found[field] for field in Limits._fields))  # type: ignore[arg-type]
    return Quota(kind, name, limits, found["beyond"], tuple(found["members"]))  # type: ignore[arg-type]

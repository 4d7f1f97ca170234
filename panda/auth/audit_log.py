"""What people of power did: one row per deed, in the transaction of the deed. Append only."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.db.session import rows, run

RECORD = """
INSERT INTO audit_log (at, who, action, target, reason, facts, request_id)
VALUES (panda_now(), %(who)s, %(action)s, %(target)s, %(reason)s, %(facts)s, %(request_id)s)
"""
NEWEST = """
SELECT audit_id, at, who, action, target, reason, facts, request_id FROM audit_log
WHERE audit_id < %(before)s ORDER BY audit_id DESC LIMIT %(limit)s
"""
NEWEST_OF = """
SELECT audit_id, at, who, action, target, reason, facts, request_id FROM audit_log
WHERE who = %(who)s AND audit_id < %(before)s ORDER BY who, audit_id DESC LIMIT %(limit)s
"""


def record(
    connection: Connection,
    who: str,
    action: str,
    target: str,
    *,
    reason: str = "",
    facts: Mapping[str, Any] | None = None,
    request_id: str | None = None,
) -> None:
    """Write down that `who` did `action` (a word, e.g. `retry`) to `target` (e.g. `jobset 7`)."""
    run(
        connection,
        RECORD,
        {"who": who, "action": action, "target": target, "reason": reason,
         "facts": msgspec.json.encode(facts or {}).decode(), "request_id": request_id},
    )  # fmt: skip


def newest(connection: Connection, *, who: str | None = None, before: int = 2**62, limit: int = 50) -> list[Row[Any]]:
    """Deeds below `before`, newest first; of everybody, or of `who`."""
    values = {"who": who, "before": before, "limit": limit}
    return rows(connection, NEWEST_OF if who is not None else NEWEST, values)

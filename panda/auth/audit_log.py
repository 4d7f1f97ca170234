"""What people of power did: one row per deed, in the transaction of the deed. Append only."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from panda.db.session import run

RECORD = """
INSERT INTO audit_log (at, who, action, target, reason, facts, request_id)
VALUES (panda_now(), %(who)s, %(action)s, %(target)s, %(reason)s, %(facts)s, %(request_id)s)
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

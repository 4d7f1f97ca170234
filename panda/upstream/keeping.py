"""Every word that upstream's pilot says of an attempt is kept, also those that the engine has no use for."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from panda.db.session import Begin, once, rows, run
from panda.errors import Invalid
from panda.upstream.words import LONGEST

KEEP = """
INSERT INTO upstream_reports AS r (panda_id, attempt_nr, fields, changed_at)
SELECT %(panda_id)s, %(attempt_nr)s, %(fields)s, panda_now()
WHERE EXISTS (SELECT 1 FROM leases WHERE panda_id = %(panda_id)s AND attempt_nr = %(attempt_nr)s)
ON CONFLICT (panda_id, attempt_nr) DO UPDATE SET fields = r.fields || excluded.fields, changed_at = panda_now()
"""
NEWEST = """
SELECT DISTINCT ON (panda_id) panda_id, attempt_nr, fields FROM upstream_reports
WHERE panda_id = ANY(%(panda_ids)s) ORDER BY panda_id, attempt_nr DESC
"""
#: Longest word that is kept, where no table says otherwise: job reports and file lists are large.
MAX_CHARACTERS = 1_000_000
#: Words of one report; more are no pilot's.
MAX_WORDS = 200


def keep(begin: Begin, panda_id: int, attempt_nr: int, words: Mapping[str, Any]) -> None:
    """Write down what is new, while the attempt is under way."""
    kept = {name[:100]: _short(name, value) for name, value in list(words.items())[:MAX_WORDS]}
    with once(begin) as connection:
        fields = msgspec.json.encode(kept).decode()
        run(connection, KEEP, {"panda_id": panda_id, "attempt_nr": attempt_nr, "fields": fields})


def newest(connection: Connection, panda_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What was said of the newest attempt that somebody reported on, by PandaID."""
    return {row.panda_id: row.fields for row in rows(connection, NEWEST, {"panda_ids": list(panda_ids)})}


def whole(value: Any, where: str) -> int:
    """A whole number that came as a number or as text; nothing is 0. Raises Invalid: it is neither."""
    if value in (None, "", "NULL", "None"):
        return 0
    found = number(value)
    if found is None or abs(found) >= 2**62:
        raise Invalid(f"{str(value)[:60]!r} is no whole number", where=where)
    return int(str(value)) if str(value).lstrip("-").isdecimal() else int(found)


def number(value: Any) -> float | None:
    """A number that came as a number or as text; None: it is none, and is left out."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) and abs(found) < 1e18 else None


def small(value: Any) -> int | None:
    """A whole number of 32 bits; what is larger becomes the largest. None: it is no number."""
    found = number(value)
    return None if found is None else max(-(2**31), min(2**31 - 1, int(found)))


def _short(name: str, value: Any) -> Any:
    return value[: LONGEST.get(name, MAX_CHARACTERS)] if isinstance(value, str) else value

"""What pilots say of themselves: their node when they begin, their end, and the last of their own log."""

from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.db.session import asynchronous, rows, run
from panda.dispatcher.words import PilotEnd, PilotEnvironment
from panda.errors import NotFound

BEGAN = """
INSERT INTO pilot_notes (pilot_id, queue, version, facts, problems, warnings, began_at)
VALUES (%(pilot_id)s, %(queue)s, %(version)s, %(facts)s::jsonb, %(problems)s::jsonb, %(warnings)s::jsonb, panda_now())
ON CONFLICT (pilot_id) DO UPDATE SET queue = excluded.queue, version = excluded.version, facts = excluded.facts,
    problems = excluded.problems, warnings = excluded.warnings, began_at = excluded.began_at,
    ended_at = NULL, exit_code = NULL, why = NULL, log = NULL
"""
ENDED = """
INSERT INTO pilot_notes (pilot_id, queue, version, facts, problems, warnings, began_at, ended_at, exit_code, why, log)
VALUES (%(pilot_id)s, %(queue)s, '', '{}', '[]', '[]', panda_now(), panda_now(), %(exit_code)s, %(why)s, %(log)s)
ON CONFLICT (pilot_id) DO UPDATE SET ended_at = excluded.ended_at, exit_code = excluded.exit_code,
    why = excluded.why, log = excluded.log
"""
#: A request of its that still waits for jobs gets none: there is nobody to run them.
GONE = "UPDATE pilots SET last_request_id = NULL WHERE pilot_id = %(pilot_id)s"
NOW = "SELECT extract(epoch FROM panda_now())::double precision AS now_s"
NOTES = """
SELECT pilot_id, queue, version, facts, problems, warnings, began_at, ended_at, exit_code, why, log
FROM pilot_notes WHERE pilot_id = %(pilot_id)s
"""
#: The log of a pilot is asked for in the days after its end.
OLD = "DELETE FROM pilot_notes WHERE began_at < panda_now() - interval '14 days'"


def began(connection: Connection, pilot_id: str, said: PilotEnvironment) -> float:
    """Write down what a pilot found on its node. Returns the server's time, in seconds since 1970."""
    asynchronous(connection)
    values = {"pilot_id": pilot_id, "queue": said.queue, "version": _clean(said.version)}
    values |= {name: _json(getattr(said, name)) for name in ("facts", "problems", "warnings")}
    run(connection, BEGAN, values)
    now_s: float = rows(connection, NOW)[0].now_s
    return now_s


def ended(connection: Connection, pilot_id: str, said: PilotEnd) -> None:
    """Write down a pilot's last words."""
    asynchronous(connection)
    values = {"pilot_id": pilot_id, "queue": said.queue, "exit_code": said.exit_code}
    run(connection, GONE, values)
    run(connection, ENDED, values | {"why": _clean(said.why), "log": _clean(said.log)})


def of(connection: Connection, pilot_id: str) -> Row[Any]:
    """What a pilot said. Raises NotFound: it never said anything, or long ago."""
    found = rows(connection, NOTES, {"pilot_id": pilot_id})
    if not found:
        raise NotFound("pilot", pilot_id)
    return found[0]


def forget_old(connection: Connection) -> None:
    """Notes of pilots that began two weeks ago."""
    run(connection, OLD)


def _json(value: Any) -> str:
    return msgspec.json.encode(_clean(value)).decode()


def _clean(value: Any) -> Any:
    """PostgreSQL knows no NUL in texts."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_clean(each) for each in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(each) for name, each in value.items()}
    return value

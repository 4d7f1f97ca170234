"""What people hear of: the end of their job sets, failures above a share, incidents. A feed, and rules for it.

The clock looks at the newest things of those who have a rule. A notice has a key that tells what it is about, so a
second look, or a second clock, adds nothing.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Invalid, NotFound, UnknownName

#: kind -> what it tells of.
KINDS = {
    "set_ended": "a job set of mine ended",
    "set_failing": "more jobs of a set of mine fail than this share",
    "incident": "an incident that nobody answered yet",
}
#: Who may hear of incidents is asked for by whoever adds a rule.
FOR_OPERATORS = frozenset({"incident"})

RULES = """
SELECT rule_id, kind, above_percent, created_at FROM notice_rules WHERE owner = %(owner)s ORDER BY rule_id LIMIT 100
"""
ADD = """
INSERT INTO notice_rules (owner, kind, above_percent, created_at)
VALUES (%(owner)s, %(kind)s, %(above_percent)s, panda_now())
ON CONFLICT (owner, kind) DO UPDATE SET above_percent = excluded.above_percent
"""
DROP = "DELETE FROM notice_rules WHERE owner = %(owner)s AND rule_id = %(rule_id)s"
NEWEST = """
SELECT notice_id, at, message, link, read_at FROM notices WHERE owner = %(owner)s
ORDER BY owner DESC, notice_id DESC LIMIT %(limit)s
"""
READ = "UPDATE notices SET read_at = panda_now() WHERE owner = %(owner)s AND read_at IS NULL"
_SETS = """
FROM notice_rules r, LATERAL (
    SELECT jobset_id, name, n_jobs, n_finished, n_failed, n_cancelled, created_at, ended_at FROM jobsets
    WHERE owner = r.owner ORDER BY owner DESC, jobset_id DESC LIMIT 200) s
"""
TELL_ENDED = f"""
INSERT INTO notices (owner, at, key, message, link)
SELECT r.owner, s.ended_at, 'set ' || s.jobset_id || ' ended ' || s.ended_at,
    format('Job set %%s (%%s) ended: %%s finished, %%s failed, %%s cancelled', s.jobset_id, s.name, s.n_finished,
        s.n_failed, s.n_cancelled), '/jobsets/' || s.jobset_id
{_SETS} WHERE r.kind = 'set_ended' AND s.ended_at > greatest(r.created_at, (SELECT panda_now()) - interval '1 day')
ON CONFLICT DO NOTHING
"""
TELL_FAILING = f"""
INSERT INTO notices (owner, at, key, message, link)
SELECT r.owner, panda_now(), 'set ' || s.jobset_id || ' failing',
    format('%%s of %%s jobs of set %%s (%%s) failed', s.n_failed, s.n_jobs, s.jobset_id, s.name),
    '/jobsets/' || s.jobset_id
{_SETS} WHERE r.kind = 'set_failing' AND s.n_failed > 0 AND s.n_failed * 100.0 > r.above_percent * s.n_jobs::float8
    AND coalesce(s.ended_at, panda_now()) > greatest(r.created_at, (SELECT panda_now()) - interval '1 day')
ON CONFLICT DO NOTHING
"""
TELL_INCIDENTS = """
INSERT INTO notices (owner, at, key, message, link)
SELECT r.owner, i.last_at, 'incident ' || i.incident_id, left(format('%%s: %%s', i.component, i.message), 500),
    '/incidents/' || i.incident_id
FROM notice_rules r, (SELECT * FROM incidents ORDER BY last_at DESC LIMIT 200) i
WHERE r.kind = 'incident' AND i.last_at > r.created_at AND i.acknowledged_at IS NULL
    AND i.level IN ('error', 'critical')
ON CONFLICT DO NOTHING
"""


class Rule(NamedTuple):
    """What somebody wants to hear of."""

    rule_id: int
    kind: str
    above_percent: int | None
    created_at: datetime


def rules(connection: Connection, owner: str) -> list[Rule]:
    """Somebody's rules, the oldest first."""
    return [Rule._make(row) for row in rows(connection, RULES, {"owner": owner})]


def add_rule(connection: Connection, owner: str, kind: str, above_percent: int | None = None) -> None:
    """Tell somebody of something from now on; a second rule of a kind replaces the first.

    Raises:
        UnknownName: there is no such kind. Invalid: a share is missing, or goes with another kind.
    """
    if kind not in KINDS:
        raise UnknownName("kind of notice", kind, list(KINDS), where="kind")
    if (above_percent is not None) != (kind == "set_failing") or not 0 <= (above_percent or 0) < 100:
        message = "goes with the kind set_failing, and is from 0 to 99"
        raise Invalid(message, where="above_percent", code="bad_percent")
    run(connection, ADD, {"owner": owner, "kind": kind, "above_percent": above_percent})


def drop_rule(connection: Connection, owner: str, rule_id: int) -> None:
    """Raises NotFound: there is no such rule of theirs."""
    if not run(connection, DROP, {"owner": owner, "rule_id": rule_id}):
        raise NotFound("rule", rule_id)


def newest(connection: Connection, owner: str, limit: int = 20) -> list[dict[str, Any]]:
    """Somebody's feed, the newest first."""
    return [row._asdict() for row in rows(connection, NEWEST, {"owner": owner, "limit": limit})]


def mark_read(connection: Connection, owner: str) -> int:
    """They have seen them all. Returns how many were new."""
    return run(connection, READ, {"owner": owner})


def tell(connection: Connection) -> int:
    """Write down what those who have a rule have not heard of yet. Returns how many notices that made."""
    return sum(run(connection, sql) for sql in (TELL_ENDED, TELL_FAILING, TELL_INCIDENTS))

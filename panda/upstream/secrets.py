"""Small secrets of users: what they store by name, and what a job that asks for them brings to its node."""

from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.db.session import rows, run
from panda.errors import TooLarge

ALL = "SELECT key, value FROM upstream_secrets WHERE owner = %(owner)s ORDER BY key"
STORE = """
INSERT INTO upstream_secrets (owner, key, value) VALUES (%(owner)s, %(key)s, %(value)s)
ON CONFLICT (owner, key) DO UPDATE SET value = excluded.value
"""
FORGET = "DELETE FROM upstream_secrets WHERE owner = %(owner)s AND (%(key)s::text IS NULL OR key = %(key)s)"

MAX_SECRETS, MAX_CHARACTERS = 100, 10_000
#: In a job's specialHandling: it wants its owner's secrets.
WANTED = "us"


def set_one(connection: Connection, owner: str, key: str | None, value: str | None) -> None:
    """Store a secret; without a value it is forgotten, without a key all are. Raises TooLarge."""
    if key is None or value is None:
        run(connection, FORGET, {"owner": owner, "key": key})
        return
    known = of(connection, owner)
    if len(key) + len(value) > MAX_CHARACTERS or (key not in known and len(known) >= MAX_SECRETS):
        raise TooLarge(f"a user has at most {MAX_SECRETS} secrets of {MAX_CHARACTERS} characters")
    run(connection, STORE, {"owner": owner, "key": key, "value": value})


def of(connection: Connection, owner: str) -> dict[str, str]:
    """A user's secrets by name."""
    return {row.key: row.value for row in rows(connection, ALL, {"owner": owner})}


def for_pilot(connection: Connection, facts: Row[Any]) -> dict[str, Any]:
    """The word of getJob that brings them along; nothing for jobs that do not ask."""
    if WANTED not in str(facts.attributes.get("specialHandling") or "").split(","):
        return {}
    found = of(connection, facts.owner)
    return {"secrets": msgspec.json.encode(found).decode()} if found else {}

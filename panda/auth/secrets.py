"""Small secrets of users: what they store by name, and what a job that asks for them brings to its node.

They are sealed (`panda.auth.vault`) before they reach the database, and opened for their owner and their owner's
jobs alone. No log, no event and no description of a job holds one.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from panda.auth import audit_log
from panda.db.session import Begin, rows, run
from panda.errors import TooLarge
from panda.logs import Log

if TYPE_CHECKING:
    from panda.auth.vault import Vault

log = Log("panda.secrets")

ALL = "SELECT key, value FROM upstream_secrets WHERE owner = %(owner)s ORDER BY key"
STORE = """
INSERT INTO upstream_secrets (owner, key, value) VALUES (%(owner)s, %(key)s, %(value)s)
ON CONFLICT (owner, key) DO UPDATE SET value = excluded.value
"""
FORGET = "DELETE FROM upstream_secrets WHERE owner = %(owner)s AND (%(key)s::text IS NULL OR key = %(key)s)"
NEXT = """
SELECT owner, key, value FROM upstream_secrets WHERE (owner, key) > (%(owner)s, %(key)s)
ORDER BY owner, key LIMIT %(limit)s FOR UPDATE
"""

MAX_SECRETS, MAX_CHARACTERS = 100, 10_000
#: Secrets that one transaction seals anew.
CHUNK = 500


@cache
def vault_of(folder: Path) -> "Vault":
    """The vault of a data folder; one per process."""
    made: Vault = import_module("panda.auth.vault").Vault(folder)
    return made


def set_one(connection: Connection, vault: "Vault", owner: str, key: str | None, value: str | None) -> None:
    """Store a secret; without a value it is forgotten, without a key all are. Raises TooLarge, ConfigError."""
    if key is None or value is None:
        run(connection, FORGET, {"owner": owner, "key": key})
        return
    known = {row.key for row in rows(connection, ALL, {"owner": owner})}
    if len(key) + len(value) > MAX_CHARACTERS or (key not in known and len(known) >= MAX_SECRETS):
        raise TooLarge(f"a user has at most {MAX_SECRETS} secrets of {MAX_CHARACTERS} characters")
    run(connection, STORE, {"owner": owner, "key": key, "value": vault.seal(owner, key, value)})


def of(connection: Connection, vault: "Vault", owner: str) -> dict[str, str]:
    """A user's secrets by name. One that cannot be opened (its key is gone) is left out, and the log says which.

    Raises:
        ConfigError: the vault's keys cannot be read.
    """
    found: dict[str, str] = {}
    for row in rows(connection, ALL, {"owner": owner}):
        value = vault.open(owner, row.key, row.value)
        if value is None:
            log.warning("a secret cannot be opened with the keys that are here", owner=owner, name=row.key)
        else:
            found[row.key] = value
    return found


def rotate(begin: Begin, vault: "Vault", *, by: str) -> tuple[int, int]:
    """Seal everything anew with a new key. Returns how many were, and how many could not be opened.

    What breaks off in the middle is finished by the next time: the key before the new one is still there."""
    _seal_anew(begin, vault)  # what still hangs on an older key would be lost with it
    name = vault.renew()
    sealed = _seal_anew(begin, vault)
    with begin() as connection:
        facts = {"n_sealed": sealed[0], "n_lost": sealed[1]}
        audit_log.record(connection, by, "rotate_secrets", f"key {name}", facts=facts)
    return sealed


def _seal_anew(begin: Begin, vault: "Vault") -> tuple[int, int]:
    """Whatever is not sealed with the key that is used now; chunk by chunk, each in a transaction of its own."""
    n_sealed = n_lost = 0
    owner = key = ""
    while True:
        with begin() as chunk:
            found = rows(chunk, NEXT, {"owner": owner, "key": key, "limit": CHUNK})
            for row in found:
                if vault.is_fresh(row.value):
                    continue
                value = vault.open(row.owner, row.key, row.value)
                if value is None:
                    n_lost += 1
                    continue
                values = {"owner": row.owner, "key": row.key, "value": vault.seal(row.owner, row.key, value)}
                run(chunk, STORE, values)
                n_sealed += 1
        if len(found) < CHUNK:
            return n_sealed, n_lost
        owner, key = found[-1].owner, found[-1].key

"""Who is logged in at the web pages, kept so that a monitor that starts anew, or a second one, still knows them.

A row holds hashes alone: of the session's key, which only the browser has, and of the token that opened it. Whether
that token is still good is asked of `tokens` each time. A session that a token of an issuer opened is not kept.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from panda.auth import tokens
from panda.auth.identity import Identity
from panda.db.session import Begin, once, rows, run

KEEP = """
INSERT INTO page_sessions (key_hash, token_hash, seal, until)
VALUES (%(key_hash)s, %(token_hash)s, %(seal)s, panda_now() + make_interval(secs => %(for_s)s))
"""
FIND = """
SELECT token_hash, seal, extract(epoch FROM until - panda_now())::float8 AS left_s FROM page_sessions
WHERE key_hash = %(key_hash)s AND until > panda_now()
"""
DROP = "DELETE FROM page_sessions WHERE key_hash = %(key_hash)s"


@dataclass(frozen=True, slots=True)
class Kept:
    """A session as it was kept. `left_s`: seconds until it ends by itself."""

    identity: Identity
    seal: str
    left_s: float


class Drawer:
    """Where sessions are kept."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    def keep(self, key: str, token: str, seal: str, for_s: float) -> bool:
        """Keep a session that `token` opened. False: its token is an issuer's, so it was not kept."""
        if tokens.is_foreign(token):
            return False
        values = {"key_hash": _hash(key), "token_hash": tokens.hash_of(token), "seal": seal, "for_s": for_s}
        with once(self._begin) as connection:
            run(connection, KEEP, values)
        return True

    def find(self, key: str) -> Kept | None:
        """The session with this key, while it lasts. Raises Unauthenticated: its token opens nothing any more."""
        with once(self._begin) as connection:
            return _find(connection, key)

    def drop(self, key: str) -> None:
        """Forget it."""
        with once(self._begin) as connection:
            run(connection, DROP, {"key_hash": _hash(key)})


def _find(connection: Connection, key: str) -> Kept | None:
    found = rows(connection, FIND, {"key_hash": _hash(key)})
    if not found:
        return None
    identity, _ = tokens.look_up(connection, found[0].token_hash)
    return Kept(identity, found[0].seal, found[0].left_s)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

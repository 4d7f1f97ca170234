"""Tokens: made once, shown once, stored as a hash, looked up at each request.

A verified token is remembered in the process for `REMEMBERED_S`, so that a pilot's request costs no
query here; a token that is revoked, or whose owner is banned, is refused after that time at the latest.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterable

from sqlalchemy.engine import Connection

from panda.auth.identity import Identity, Role
from panda.db.session import Begin, once, rows, run
from panda.errors import Invalid, Unauthenticated, UnknownName
from panda.names import checked

#: Seconds that a verified token is believed without a look at the database.
REMEMBERED_S = 5.0
#: Tokens that one process remembers; all are forgotten when there are more.
REMEMBERED_TOKENS = 10_000
#: Tells a token of ours from other secrets, for people and for scanners.
PREFIX = "panda_"
MAX_LABEL = 200
#: As the API says it.
MOST_TTL_S = 10 * 366 * 86_400

OWNER = """
INSERT INTO users (name, roles, created_at) VALUES (%(owner)s, %(roles)s, panda_now())
ON CONFLICT (name) DO UPDATE SET roles =
    (SELECT array_agg(DISTINCT role ORDER BY role) FROM unnest(users.roles || excluded.roles) AS role)
"""
CREATE = """
INSERT INTO tokens (token_hash, owner, label, roles, created_at, expires_at)
VALUES (%(hash)s, %(owner)s, %(label)s, %(roles)s, panda_now(), panda_now() + make_interval(secs => %(ttl_s)s))
"""
QUEUES = "SELECT name FROM queues WHERE removed_at IS NULL"
ID = "SELECT token_id FROM tokens WHERE token_hash = %(hash)s"
VERIFY = """
SELECT t.owner, t.roles, u.roles AS owner_roles, u.banned_at IS NOT NULL AS is_banned,
    t.revoked_at IS NOT NULL AS is_revoked, extract(epoch FROM t.expires_at - panda_now())::float8 AS left_s
FROM tokens t JOIN users u ON u.name = t.owner WHERE t.token_hash = %(hash)s
"""


def create(
    connection: Connection, owner: str, roles: Iterable[str], label: str, ttl_s: float | None, *, queue: str = ""
) -> str:
    """A new token of `owner`, who becomes a user with these roles if they are not yet.

    Args:
        ttl_s: seconds until it expires; None: never.
        queue: the one queue that a pilot with this token may serve; "": any.
    Returns: the token. It is not stored and cannot be shown again.
    Raises:
        Invalid: no role, a bad name, a label that is too long; `queue_without_pilot`. UnknownName: no such role.
    """
    checked(owner, "owner")
    if len(label) > MAX_LABEL:
        raise Invalid(f"longer than {MAX_LABEL} characters", where="label")
    if ttl_s is not None and not 0 < ttl_s <= MOST_TTL_S:
        raise Invalid("must be above 0, and at most ten years", where="ttl_s")
    wanted = sorted(set(roles))
    for role in wanted:
        if role not in set(Role):
            raise UnknownName("role", role, list(Role), where="roles")
    if not wanted:
        raise Invalid("a token without a role is of no use", where="roles")
    if queue and Role.PILOT not in wanted:
        raise Invalid("only the role pilot is bound to a queue", where="queue", code="queue_without_pilot")
    plain = PREFIX + secrets.token_urlsafe(32)
    run(connection, OWNER, {"owner": owner, "roles": wanted})
    # A role that is bound to a queue is stored as `pilot@QUEUE`.
    bound = [f"{role}@{checked(queue, 'queue')}" if queue and role == Role.PILOT else role for role in wanted]
    run(
        connection,
        CREATE,
        {"hash": hash_of(plain), "owner": owner, "label": label, "roles": bound, "ttl_s": ttl_s},
    )
    return plain


def require_queue(connection: Connection, queue: str) -> None:
    """A token that is bound to a queue that there is not would serve nobody. Raises UnknownName (`unknown_queue`)."""
    known = [row.name for row in rows(connection, QUEUES)]
    if queue not in known:
        raise UnknownName("queue", queue[:60], known, where="queue")


def verify(connection: Connection, plain: str) -> Identity:
    """Whose token this is. Its roles are those that it was made with and its owner still has.

    Raises:
        Unauthenticated: unknown, expired, revoked, or its owner is banned.
    """
    return look_up(connection, hash_of(plain))[0]


Vouched = Callable[[str], tuple[Identity, float]]
"""Whose token of an issuer this is, and for how many seconds it is still good. Raises Unauthenticated, Unavailable."""


class Verifier:
    """`verify` with a memory; one per process."""

    def __init__(self, begin: Begin, vouched: Vouched | None = None) -> None:
        """`vouched`: reads tokens that are not ours."""
        self._begin = begin
        self._vouched = vouched
        self._remembered: dict[bytes, tuple[Identity, float]] = {}

    def __call__(self, plain: str) -> Identity:
        """Raises Unauthenticated."""
        token_hash = hash_of(plain)
        known = self._remembered.get(token_hash)
        if known and time.monotonic() < known[1]:
            return known[0]
        # Python's clock only measures how long ago we looked; whether a token is good, the database says.
        looked_at = time.monotonic()
        if self._vouched is not None and is_foreign(plain):
            identity, left_s = self._vouched(plain)
        else:
            with once(self._begin) as connection:
                identity, left_s = look_up(connection, token_hash)
        if len(self._remembered) >= REMEMBERED_TOKENS:
            self._remembered.clear()
        self._remembered[token_hash] = (identity, looked_at + min(REMEMBERED_S, left_s))
        return identity


def id_of(connection: Connection, plain: str) -> int:
    """The number of a token. Raises Unauthenticated: it is not known."""
    found = rows(connection, ID, {"hash": hash_of(plain)})
    if not found:
        raise Unauthenticated("this token is not known here")
    return int(found[0].token_id)


def is_foreign(plain: str) -> bool:
    """It looks like a JWT, which none of ours does."""
    return not plain.startswith(PREFIX) and plain.count(".") == 2


def hash_of(plain: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(plain.encode("utf-8", "surrogateescape")).digest()


def look_up(connection: Connection, token_hash: bytes) -> tuple[Identity, float]:
    """The identity of the token with this hash, and for how many seconds it is still good.

    Raises:
        Unauthenticated: unknown, expired, revoked, or its owner is banned.
    """
    found = rows(connection, VERIFY, {"hash": token_hash})
    if not found:
        raise Unauthenticated("this token is not known here")
    token = found[0]
    if token.is_revoked:
        raise Unauthenticated("this token was revoked")
    if token.left_s is not None and token.left_s <= 0:
        raise Unauthenticated("this token has expired")
    if token.is_banned:
        raise Unauthenticated(f"{token.owner} is banned")
    split = [role.partition("@") for role in token.roles]
    roles = frozenset(Role(role) for role, _, _ in split if role in token.owner_roles)
    queue = next((queue for _, _, queue in split if queue), None)
    left_s = float("inf") if token.left_s is None else token.left_s
    return Identity(token.owner, roles, queue), left_s

"""Users: made, banned and let in again; and the end of their tokens. Each deed leaves a row in the audit log.

What is taken away here is refused everywhere after `tokens.REMEMBERED_S` at the latest: so long a process
believes a token without a look at the database.
"""

from collections.abc import Iterable

from sqlalchemy.engine import Connection

from panda.auth import audit_log
from panda.auth.identity import Role
from panda.db.session import rows, run
from panda.errors import Conflict, Invalid, NotFound, UnknownName
from panda.names import checked

CREATE = """
INSERT INTO users (name, roles, created_at) VALUES (%(name)s, %(roles)s, panda_now()) ON CONFLICT (name) DO NOTHING
"""
BAN = """
UPDATE users SET banned_at = panda_now(), ban_reason = %(reason)s WHERE name = %(name)s AND banned_at IS NULL
"""
UNBAN = "UPDATE users SET banned_at = NULL, ban_reason = NULL WHERE name = %(name)s AND banned_at IS NOT NULL"
LIMIT = """
UPDATE users SET limited_at = panda_now(), limit_reason = %(reason)s WHERE name = %(name)s AND limited_at IS NULL
"""
UNLIMIT = "UPDATE users SET limited_at = NULL, limit_reason = NULL WHERE name = %(name)s AND limited_at IS NOT NULL"
#: Ready jobs of somebody whose standing changed are marked anew (panda.jobs.quotas.watching).
STANDING_CHANGED = "UPDATE quota_walk SET changed_at = panda_now()"
KNOWN = "SELECT name FROM users WHERE name = %(name)s"
TOKEN = "SELECT owner FROM tokens WHERE token_id = %(token_id)s"
REVOKE = "UPDATE tokens SET revoked_at = panda_now() WHERE token_id = %(token_id)s AND revoked_at IS NULL"
REVOKE_ALL = "UPDATE tokens SET revoked_at = panda_now() WHERE owner = %(name)s AND revoked_at IS NULL"


def create(
    connection: Connection, name: str, roles: Iterable[str], *, by: str, reason: str, request_id: str | None
) -> list[str]:
    """A new user with these roles, which are returned, sorted. Tokens may carry these roles and no others.

    Raises:
        Invalid: a bad name, no role. UnknownName: no such role. Conflict: `user_exists`.
    """
    wanted = sorted(set(roles))
    for role in wanted:
        if role not in set(Role):
            raise UnknownName("role", role, list(Role), where="roles")
    if not run(connection, CREATE, {"name": checked(name, "name"), "roles": wanted}):
        raise Conflict(f"there is a user {name} already", code="user_exists")
    audit_log.record(connection, by, "create_user", name, reason=reason, facts={"roles": wanted}, request_id=request_id)
    return wanted


def ban(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None) -> bool:
    """Refuse every token of a user; none of their jobs is started any more. Returns whether that is new.

    Raises:
        NotFound: there is no such user. Invalid: `no_reason`; `own_account`: they are the caller.
    """
    _check(connection, name, reason)
    if name == by:
        raise Invalid("somebody else has to do that", where="name", code="own_account")
    changed = run(connection, BAN, {"name": name, "reason": reason})
    return _stand(connection, changed, by, "ban", name, reason, request_id)


def unban(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None) -> bool:
    """Let a user in again, with the tokens that they have. Returns whether they were banned.

    Raises:
        NotFound: there is no such user. Invalid: `no_reason`.
    """
    _check(connection, name, reason)
    return _stand(connection, run(connection, UNBAN, {"name": name}), by, "unban", name, reason, request_id)


def limit(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None) -> bool:
    """Give a user the smaller quotas of those who are limited. Returns whether that is new.

    Raises:
        NotFound: there is no such user. Invalid: `no_reason`.
    """
    _check(connection, name, reason)
    changed = run(connection, LIMIT, {"name": name, "reason": reason})
    return _stand(connection, changed, by, "limit", name, reason, request_id)


def unlimit(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None) -> bool:
    """Give a user their own quotas back. Returns whether they were limited.

    Raises:
        NotFound: there is no such user. Invalid: `no_reason`.
    """
    _check(connection, name, reason)
    return _stand(connection, run(connection, UNLIMIT, {"name": name}), by, "unlimit", name, reason, request_id)


def owner_of_token(connection: Connection, token_id: int) -> str:
    """Whose token this is. Raises NotFound."""
    found = rows(connection, TOKEN, {"token_id": token_id})
    if not found:
        raise NotFound("token", token_id)
    return str(found[0].owner)


def revoke(connection: Connection, token_id: int, *, by: str, reason: str, request_id: str | None) -> bool:
    """End a token. Returns whether it was still good."""
    ended = run(connection, REVOKE, {"token_id": token_id})
    return _record(connection, ended, by, "revoke_token", f"token {token_id}", reason, request_id)


def revoke_all(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None) -> int:
    """End every token of a user. Returns how many were still good.

    Raises:
        NotFound: there is no such user.
    """
    if not rows(connection, KNOWN, {"name": name}):
        raise NotFound("user", name)
    n = run(connection, REVOKE_ALL, {"name": name})
    audit_log.record(connection, by, "revoke_tokens", name, reason=reason, facts={"n": n}, request_id=request_id)
    return n


def _check(connection: Connection, name: str, reason: str) -> None:
    if not reason.strip():
        raise Invalid("say why: the next admin will ask", where="reason", code="no_reason")
    if not rows(connection, KNOWN, {"name": name}):
        raise NotFound("user", name)


def _stand(
    connection: Connection, changed: int, by: str, deed: str, name: str, reason: str, request_id: str | None
) -> bool:
    """What their jobs may do is another thing now."""
    if changed:
        run(connection, STANDING_CHANGED)
    return _record(connection, changed, by, deed, name, reason, request_id)


def _record(
    connection: Connection, changed: int, by: str, deed: str, target: str, reason: str, request_id: str | None
) -> bool:
    """The audit row of a deed that changed something."""
    if changed:
        audit_log.record(connection, by, deed, target, reason=reason, request_id=request_id)
    return changed > 0

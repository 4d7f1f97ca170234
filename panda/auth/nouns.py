"""Users, tokens, what was done and what went wrong, as they can be listed. No hash of a token leaves this house."""

from panda.auth.identity import Role
from panda.db.lists import Noun, Order, Walk
from panda.query import Cost, Expression, Field, Fields, Kind, words_of

USERS_SHOWN = """
SELECT name, roles, created_at, banned_at, ban_reason, limited_at, limit_reason FROM users WHERE name = ANY(%(ids)s)
"""
TOKENS_SHOWN = """
SELECT token_id, owner, label, roles, created_at, expires_at, revoked_at FROM tokens WHERE token_id = ANY(%(ids)s)
"""
AUDIT_SHOWN = """
SELECT audit_id, at, who, action, target, reason, facts, request_id FROM audit_log WHERE audit_id = ANY(%(ids)s)
"""
INCIDENTS_SHOWN = """
SELECT incident_id, component, level, key, message, context, n, first_at, last_at, acknowledged_at, acknowledged_by,
    closed_at, closed_by, comment
FROM incidents WHERE incident_id = ANY(%(ids)s)
"""

USERS = Noun(
    name="user",
    fields=Fields(
        Field("name", Kind.TEXT, "r.name", cost=Cost.INDEX, aliases=("user",)),
        Field("role", Kind.WORDS, "r.roles", ", ".join(Role), aliases=("roles",)),
        Field("created", Kind.TIME, "r.created_at", aliases=("created_at",)),
        Field("banned", Kind.TIME, "r.banned_at", is_nullable=True, aliases=("banned_at",)),
        Field("limited", Kind.TIME, "r.limited_at", is_nullable=True, aliases=("limited_at",)),
    ),
    columns="name, roles, created_at, banned_at, limited_at",
    identity=("name",),
    orders={"name": Order(("name",), ("text",), newest_first=False)},
    walk=lambda _: Walk(("users",)),
    show=USERS_SHOWN,
)


def walk_tokens(expression: Expression) -> Walk:
    """By owner, if there is one."""
    owners = words_of(expression, "owner")
    if owners is not None and len(owners) == 1:
        return Walk(("tokens",), equal=(("owner", "%(w_owner)s"),), values={"w_owner": owners[0]})
    return Walk(("tokens",))


TOKENS = Noun(
    name="token",
    fields=Fields(
        Field("token", Kind.WHOLE, "r.token_id", "its number", aliases=("id", "token_id")),
        Field("owner", Kind.TEXT, "r.owner", cost=Cost.INDEX, aliases=("user",)),
        Field("label", Kind.TEXT, "r.label"),
        Field("role", Kind.WORDS, "r.roles", aliases=("roles",)),
        Field("created", Kind.TIME, "r.created_at", aliases=("created_at",)),
        Field("expires", Kind.TIME, "r.expires_at", is_nullable=True, aliases=("expires_at",)),
        Field("revoked", Kind.TIME, "r.revoked_at", is_nullable=True, aliases=("revoked_at",)),
    ),
    columns="token_id, owner, label, roles, created_at, expires_at, revoked_at",
    identity=("token_id",),
    orders={"token_id": Order(("token_id",))},
    walk=walk_tokens,
    show=TOKENS_SHOWN,
)


def walk_audit(expression: Expression) -> Walk:
    """By who did it, if that is said."""
    who = words_of(expression, "who")
    if who is not None and len(who) == 1:
        return Walk(("audit_log",), equal=(("who", "%(w_who)s"),), values={"w_who": who[0]})
    return Walk(("audit_log",))


AUDIT = Noun(
    name="audit row",
    fields=Fields(
        Field("audit", Kind.WHOLE, "r.audit_id", "its number", aliases=("id", "audit_id")),
        Field("at", Kind.TIME, "r.at", aliases=("when",)),
        Field("who", Kind.TEXT, "r.who", cost=Cost.INDEX, aliases=("user", "owner")),
        Field("action", Kind.TEXT, "r.action", "what was done, as in `retry`", aliases=("what",)),
        Field("target", Kind.TEXT, "r.target", "as in `jobset 7`"),
        Field(
            "role", Kind.WORDS, "(SELECT u.roles FROM users u WHERE u.name = r.who)", "that who did it has now",
            Cost.PROBE, aliases=("roles",),
        ),
        Field(
            "outcome", Kind.WORD, "(CASE r.facts ->> 'n' WHEN '0' THEN 'nothing' ELSE 'done' END)",
            "`nothing`: it reached nothing; what was refused was not done, and has no row", words=("done", "nothing"),
        ),
        Field("reason", Kind.TEXT, "r.reason"),
        Field("request", Kind.TEXT, "r.request_id", is_nullable=True, aliases=("request_id",)),
    ),
    columns="audit_id, at, who, action, target, reason, facts, request_id",
    identity=("audit_id",),
    orders={"audit_id": Order(("audit_id",))},
    walk=walk_audit,
    show=AUDIT_SHOWN,
)  # fmt: skip
INCIDENTS = Noun(
    name="incident",
    fields=Fields(
        Field("incident", Kind.WHOLE, "r.incident_id", "its number", aliases=("id", "incident_id")),
        Field("component", Kind.TEXT, "r.component"),
        Field("level", Kind.TEXT, "r.level"),
        Field(
            "state",
            Kind.WORD,
            """(CASE WHEN r.closed_at IS NOT NULL THEN 'closed' WHEN r.acknowledged_at IS NOT NULL THEN 'acknowledged'
                ELSE 'open' END)""",
            "whether somebody looks after it",
            words=("open", "acknowledged", "closed"),
            aliases=("status",),
        ),
        Field("key", Kind.TEXT, "r.key"),
        Field("message", Kind.TEXT, "r.message"),
        Field("n", Kind.WHOLE, "r.n", "how often"),
        Field("first", Kind.TIME, "r.first_at", aliases=("first_at",)),
        Field("last", Kind.TIME, "r.last_at", aliases=("last_at",)),
        Field("acknowledged", Kind.TIME, "r.acknowledged_at", is_nullable=True),
        Field("closed", Kind.TIME, "r.closed_at", is_nullable=True),
    ),
    columns="incident_id, component, level, key, message, n, first_at, last_at, acknowledged_at, closed_at",
    identity=("incident_id",),
    orders={"incident_id": Order(("incident_id",))},
    walk=lambda _: Walk(("incidents",)),
    show=INCIDENTS_SHOWN,
)

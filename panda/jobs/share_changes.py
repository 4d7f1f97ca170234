"""Shares that operators add, move and take away while the installation runs.

What the file said of such a share at that moment is kept. As long as it says no other thing, a start leaves the share
as the operator put it; once it does, the file's word counts again.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import ConfigError, Conflict, Invalid, NotFound
from panda.jobs.share_tree import DEFAULT, Share, Tree
from panda.names import checked

#: Beyond these a weight would only be a mistake.
LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6

#: Others may read; of two who change the tree one waits.
LOCK = "LOCK TABLE shares IN SHARE ROW EXCLUSIVE MODE"
SHARES = "SELECT name, parent, weight, file_weight FROM shares"
#: `{name: [parent, weight]}` as the file had it; null: the file did not know it.
CHANGED = "SELECT value::jsonb AS changed FROM engine_state WHERE key = 'shares.changed'"
REMEMBER = """
INSERT INTO engine_state (key, value) VALUES ('shares.changed', %(value)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
ADD = "INSERT INTO shares (name, parent, weight, file_weight) VALUES (%(name)s, %(parent)s, %(weight)s, %(weight)s)"
MOVE = "UPDATE shares SET parent = %(parent)s WHERE name = %(name)s"
REMOVE = "DELETE FROM shares WHERE name = %(name)s"

Changed = dict[str, list[Any] | None]


def add(
    connection: Connection,
    name: str,
    *,
    parent: str | None,
    weight: float,
    by: str,
    reason: str,
    request_id: str | None = None,
) -> None:
    """A new share, below `parent` or at the top.

    Raises:
        NotFound: no such parent. Conflict: `share_exists`.
        Invalid: `bad_name`; `bad_weight`; `bad_share`: it would stand below the default share; `no_reason`.
    """
    _check_reason(reason)
    checked(name, "name")
    if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
        raise Invalid(f"{weight!r} is no weight above 0 and up to {MOST_WEIGHT:g}", where="weight", code="bad_weight")
    now, _ = _locked(connection)
    if name in now:
        raise Conflict(f"there is a share {name} already", code="share_exists")
    _check_parent(now, parent)
    run(connection, ADD, {"name": name, "parent": parent, "weight": float(weight)})
    changed = changes(connection)
    changed.setdefault(name, None)  # else it was removed before, and the file still has it
    _remember(connection, changed)
    facts = {"parent": parent, "weight": float(weight)}
    record(connection, by, "add_share", f"share {name}", reason=reason, facts=facts, request_id=request_id)


def move(
    connection: Connection, name: str, *, parent: str | None, by: str, reason: str, request_id: str | None = None
) -> str | None:
    """Put a share, with those below it, below another one, or (None) at the top. Returns where it was.

    Raises:
        NotFound: no such share, no such parent.
        Invalid: `bad_share`: it would stand below itself, or below the default share; `no_reason`.
    """
    _check_reason(reason)
    now, file_weights = _locked(connection)
    if name not in now:
        raise NotFound("share", name)
    _check_parent(now, parent)
    was = now[name].parent
    moved = now | {name: now[name]._replace(parent=parent)}
    try:
        Tree(moved.values())
    except ConfigError:
        raise Invalid(f"{name} would stand below itself", where="parent", code="bad_share") from None
    run(connection, MOVE, {"name": name, "parent": parent})
    changed = changes(connection)
    changed.setdefault(name, [was, file_weights[name]])
    _remember(connection, changed)
    facts = {"was": was, "now": parent}
    record(connection, by, "move_share", f"share {name}", reason=reason, facts=facts, request_id=request_id)
    return was


def remove(connection: Connection, name: str, *, by: str, reason: str, request_id: str | None = None) -> None:
    """Take a share away. Jobs that name it still have their turn, as a stray (`share_tree`).

    Raises:
        NotFound. Conflict: `share_in_use`: shares stand below it, or it is the default one.
        Invalid: `no_reason`.
    """
    _check_reason(reason)
    now, file_weights = _locked(connection)
    if name not in now:
        raise NotFound("share", name)
    below = Tree(now.values()).below(name)
    if name == DEFAULT or below:
        why = f"these stand below it: {', '.join(below)}" if below else "job sets that name no share pay with it"
        raise Conflict(f"{name} cannot go: {why}", code="share_in_use")
    run(connection, REMOVE, {"name": name})
    changed = changes(connection)
    if name in changed and changed[name] is None:
        del changed[name]  # the file never knew it
    else:
        changed.setdefault(name, [now[name].parent, file_weights[name]])
    _remember(connection, changed)
    facts = {"parent": now[name].parent, "weight": now[name].weight}
    record(connection, by, "remove_share", f"share {name}", reason=reason, facts=facts, request_id=request_id)


def merged(connection: Connection, shares: Sequence[Share]) -> list[Share]:
    """What the file says, with what operators changed since it last said another thing; each one after its parent.

    Forgets the changes that the file has overtaken. The caller writes the answer."""
    now, _ = _locked(connection)
    said = {share.name: share for share in shares}
    before = changes(connection)
    changed = {
        name: word
        for name, word in before.items()
        if (None if name not in said else [said[name].parent, said[name].weight]) == word
    }
    found = {name: share for name, share in said.items() if name not in changed}
    for name in changed:
        if name in now:
            found[name] = now[name]._replace(weight=said[name].weight if name in said else now[name].weight)
    found = {name: each if each.parent in found else each._replace(parent=None) for name, each in found.items()}
    try:
        tree = Tree(found.values())
        if DEFAULT not in tree.leaves:
            raise ConfigError("the default share has shares below it")
    except ConfigError:  # the file and the operators contradict each other
        changed, tree = {}, Tree(shares)
    if changed != before:
        _remember(connection, changed)
    return list(tree.walk())


def changes(connection: Connection) -> Changed:
    """What the file said of the shares that operators added, moved or took away."""
    found = rows(connection, CHANGED)
    return dict(found[0].changed) if found else {}


def _locked(connection: Connection) -> tuple[dict[str, Share], dict[str, float]]:
    """All shares, and the weights that the file gives them; nobody else changes them until the transaction ends."""
    run(connection, LOCK)
    found = rows(connection, SHARES)
    return (
        {row.name: Share(row.name, row.parent, row.weight) for row in found},
        {row.name: row.file_weight for row in found},
    )


def _remember(connection: Connection, changed: Changed) -> None:
    run(connection, REMEMBER, {"value": json.dumps(changed)})


def _check_parent(now: dict[str, Share], parent: str | None) -> None:
    if parent is None:
        return
    if parent not in now:
        raise NotFound("share", parent)
    if parent == DEFAULT:
        raise Invalid(f"job sets that name no share pay with {DEFAULT}; nothing can stand below it", where="parent",
                      code="bad_share")  # fmt: skip


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")

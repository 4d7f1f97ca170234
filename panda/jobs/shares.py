"""Global shares: what `config/shares.toml` says, and what operators change while it runs.

The file is the wish of who runs the installation, the table is the truth: submissions and dispatchers read the
table. At each start what is new or changed in the file is taken over; a weight that an operator set stays until
the file gives that share another one, and so does a share that was added, moved or taken away (`share_changes`).
A share that is gone from the file takes no new job sets; jobs that name it still have their turn, as a stray
(`share_tree`).
"""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from panda.auth.audit_log import record
from panda.db.session import rows, run
from panda.errors import ConfigError, Invalid, NotFound, UnknownName
from panda.jobs import share_changes
from panda.jobs.share_changes import LEAST_WEIGHT, MOST_WEIGHT
from panda.jobs.share_tree import DEFAULT, Share, Tree
from panda.names import checked

SYNC = """
INSERT INTO shares AS s (name, parent, weight, file_weight)
SELECT name, parent, weight, weight
FROM unnest(%(names)s::text[], %(parents)s::text[], %(weights)s::float8[]) AS t(name, parent, weight)
ON CONFLICT (name) DO UPDATE SET parent = excluded.parent, file_weight = excluded.file_weight,
    weight = CASE WHEN s.file_weight = excluded.file_weight THEN s.weight ELSE excluded.weight END
"""
FORGET = "DELETE FROM shares WHERE name <> ALL(%(names)s)"
SHARES = "SELECT name, parent, weight FROM shares"
LEAF = """
SELECT 1 FROM shares s WHERE s.name = %(name)s AND NOT EXISTS (SELECT 1 FROM shares WHERE parent = s.name)
"""
WEIGHT = "SELECT weight FROM shares WHERE name = %(name)s FOR NO KEY UPDATE"
SET_WEIGHT = "UPDATE shares SET weight = %(weight)s WHERE name = %(name)s"


def load_file(path: Path) -> list[Share]:
    """What `path` (TOML) says: every share, each one before those below it.

    Raises:
        ConfigError: no TOML, a weight that is missing or none, a name that stands twice or below itself, no leaf
            `default`; names file and share.
        UnknownName, Invalid: a key or a section that does not exist; a name that is none.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{path}: {problem}") from problem
    for section in document:
        if section != "shares":
            raise UnknownName("section", section, ["shares"], where=str(path))
    places: dict[str, tuple[str, ...]] = {}
    shares = list(_read(path, document.get("shares", {}), (), places))
    tree = Tree(shares)
    if DEFAULT not in tree.shares:
        raise ConfigError(f"{path}: there is no [shares.{DEFAULT}], which job sets pay with that name no share")
    if DEFAULT not in tree.leaves:
        below = ", ".join(tree.below(DEFAULT))
        raise ConfigError(f"{path}: {DEFAULT} has shares below it ({below}), so no job set could pay with it")
    return shares


def sync(connection: Connection, shares: Sequence[Share]) -> None:
    """Bring the table up to `shares`. What was changed at run time stays where the file says what it said."""
    shares = share_changes.merged(connection, shares)
    names = [share.name for share in shares]
    run(
        connection,
        SYNC,
        {"names": names, "parents": [share.parent for share in shares],
         "weights": [float(share.weight) for share in shares]},
    )  # fmt: skip
    run(connection, FORGET, {"names": names})


def tree(connection: Connection) -> Tree:
    """All shares as they are now."""
    return Tree(Share(row.name, row.parent, row.weight) for row in rows(connection, SHARES))


def check_leaf(connection: Connection, name: str) -> None:
    """Whether job sets may name this share.

    Raises:
        Invalid: `unknown_share`: there is no such share, or it has shares below it.
    """
    if rows(connection, LEAF, {"name": name}):
        return
    now = tree(connection)
    if name in now.shares:
        below = ", ".join(now.below(name))
        raise Invalid(f"{name} has shares below it; name one of them: {below}", where="share", code="unknown_share")
    raise UnknownName("share", name, now.leaves, where="share")


def set_weight(
    connection: Connection, name: str, weight: float, *, by: str, reason: str, request_id: str | None = None
) -> float:
    """Give a share another weight, and write down who did it. Dispatchers know within a second.

    Returns: the weight that it had.
    Raises:
        NotFound: no such share.
        Invalid: `bad_weight`; `no_reason`.
    """
    if not _is_weight(weight):
        raise Invalid(f"{weight!r} is no weight above 0 and up to {MOST_WEIGHT:g}", where="weight", code="bad_weight")
    if not reason.strip():
        raise Invalid("say why: the next shifter will ask", where="reason", code="no_reason")
    found = rows(connection, WEIGHT, {"name": name})
    if not found:
        raise NotFound("share", name)
    was: float = found[0].weight
    run(connection, SET_WEIGHT, {"name": name, "weight": float(weight)})
    facts = {"was": was, "now": float(weight)}
    record(connection, by, "set_share_weight", f"share {name}", reason=reason, facts=facts, request_id=request_id)
    return was


def _read(path: Path, given: Any, above: tuple[str, ...], places: dict[str, tuple[str, ...]]) -> Iterator[Share]:
    """The shares of one table, each followed by those below it; `places` remembers where each name stood."""
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: [shares] wants tables such as [shares.NAME]")
    for name, entry in given.items():
        place = (*above, name)
        where = f"{path} [shares.{'.'.join(place)}]"
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: share {name} wants a table, [shares.{name}] with a weight; got {entry!r}")
        checked(name, where)
        if name in above:
            raise ConfigError(f"{where}: {name} stands below itself")
        if name in places:
            raise ConfigError(f"{where}: there is a share {name} already, [shares.{'.'.join(places[name])}]")
        places[name] = place
        yield Share(name, above[-1] if above else None, _weight_of(where, entry))
        below = {key: value for key, value in entry.items() if isinstance(value, dict)}
        yield from _read(path, below, place, places)


def _weight_of(where: str, entry: dict[str, Any]) -> float:
    """The weight of a share; what else stands in its table are the shares below it, tables as well."""
    for key, value in entry.items():
        if key != "weight" and not isinstance(value, dict):
            raise UnknownName("setting", key, ["weight"], where=where)
    if "weight" not in entry:
        raise ConfigError(f"{where}: weight is missing")
    weight = entry["weight"]
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ConfigError(f"{where}: weight wants a number, got {weight!r}")
    if not _is_weight(weight):
        raise ConfigError(f"{where}: weight is {weight}; it must be above 0 and at most {MOST_WEIGHT:g}")
    return float(weight)


def _is_weight(weight: float) -> bool:
    return LEAST_WEIGHT <= weight <= MOST_WEIGHT

"""The places that a job set or a rebrokerage names: sites, queues and clouds.

A name that nobody has would keep its jobs waiting for ever, or do nothing; a pattern (`NORTH*`) may also mean what
comes later.
"""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from sqlalchemy.engine import Connection

from panda.db.session import rows
from panda.errors import Invalid
from panda.jobs.specs import Brokerage

#: Characters that make a name a pattern.
WILD = frozenset("*?[")
#: Names that are suggested.
NEAREST = 3

UNKNOWN = """
SELECT n.name FROM unnest(%(names)s::text[]) WITH ORDINALITY AS n(name, nr)
WHERE NOT EXISTS (SELECT FROM queues WHERE name = n.name) AND NOT EXISTS (SELECT FROM sites WHERE name = n.name)
    AND NOT EXISTS (SELECT FROM sites WHERE cloud = n.name)
ORDER BY n.nr LIMIT 1
"""
KNOWN = """
SELECT name FROM queues UNION SELECT name FROM sites UNION SELECT cloud FROM sites WHERE cloud <> '' ORDER BY name
"""


def check(connection: Connection, wishes: Brokerage) -> None:
    """Whether there is a site, a queue or a cloud of each name that is no pattern.

    Raises:
        Invalid: `unknown_place`, with the nearest names.
    """
    _refuse_unknown(connection, _named(wishes))


def check_excluded(connection: Connection, exclude: Sequence[str]) -> None:
    """The same for places that a rebrokerage keeps jobs from. Raises Invalid: `unknown_place`."""
    _refuse_unknown(connection, ((f"exclude[{number}]", name) for number, name in enumerate(exclude)))


def _refuse_unknown(connection: Connection, named: Iterable[tuple[str, str]]) -> None:
    where_of: dict[str, str] = {}
    for where, name in named:
        if not WILD & set(name):
            where_of.setdefault(name, where)
    unknown = rows(connection, UNKNOWN, {"names": list(where_of)}) if where_of else []
    if unknown:
        name = unknown[0].name
        raise Invalid(
            f"there is no site, queue or cloud {name!r}; {_nearest(connection, name)}",
            where=where_of[name],
            code="unknown_place",
        )


def _named(wishes: Brokerage) -> Iterator[tuple[str, str]]:
    """(where it stands, the name), without the `!` that excludes."""
    for key, names in (("sites", wishes.sites), ("exclude", wishes.exclude), ("prefer", wishes.prefer)):
        for number, name in enumerate(names):
            yield f"brokerage.{key}[{number}]", name.removeprefix("!") if key == "sites" else name


def _nearest(connection: Connection, name: str) -> str:
    known = {row.name.casefold(): row.name for row in rows(connection, KNOWN)}
    near = [known[each] for each in get_close_matches(name.casefold(), known, n=NEAREST)]
    if not near:
        return "a pattern, as in 'NAME*', may name what comes later"
    return f"did you mean {' or '.join(repr(each) for each in near)}?"

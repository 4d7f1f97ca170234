"""Saved views: a filter of jobs under a name. `@NAME` stands for it, in pages and in what commands select."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import Invalid, NotFound
from panda.jobs.nouns import JOB_FIELDS
from panda.names import checked
from panda.query import read

#: Of one person.
MAX_VIEWS = 100
MAX_FILTER = 4_000

OF = "SELECT name, filter, created_at FROM saved_views WHERE owner = %(owner)s ORDER BY name LIMIT 200"
SAVE = """
INSERT INTO saved_views (owner, name, filter, created_at) VALUES (%(owner)s, %(name)s, %(filter)s, panda_now())
ON CONFLICT (owner, name) DO UPDATE SET filter = excluded.filter, created_at = excluded.created_at
"""
FORGET = "DELETE FROM saved_views WHERE owner = %(owner)s AND name = %(name)s"

#: Words in quotes are left alone.
_NAMED = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w:=<>!,@])@([A-Za-z0-9][\w.-]*)')


class View(NamedTuple):
    """A filter that somebody saved."""

    name: str
    filter: str
    created_at: datetime


def of(connection: Connection, owner: str) -> list[View]:
    """Somebody's views, by name."""
    return [View._make(row) for row in rows(connection, OF, {"owner": owner})]


def save(connection: Connection, owner: str, name: str, text: str) -> None:
    """Keep a filter under a name; one that has the name already is replaced.

    Raises:
        Invalid: `bad_name`, `too_many_views`, an empty filter, or one with a view in it. BadFilter: it cannot be meant.
    """
    checked(name, "name")
    if not text.strip() or len(text) > MAX_FILTER or names(text):
        raise Invalid(f"wants a filter of at most {MAX_FILTER} characters, without views", where="filter")
    read(text, JOB_FIELDS)
    known = of(connection, owner)
    if len(known) >= MAX_VIEWS and name not in {view.name for view in known}:
        raise Invalid(f"nobody has more than {MAX_VIEWS} views", where="name", code="too_many_views")
    run(connection, SAVE, {"owner": owner, "name": name, "filter": text.strip()})


def forget(connection: Connection, owner: str, name: str) -> None:
    """Raises NotFound: there is no such view."""
    if not run(connection, FORGET, {"owner": owner, "name": name}):
        raise NotFound("view", name)


def names(text: str) -> list[str]:
    """Views that a filter names, each once."""
    return list(dict.fromkeys(found[1] for found in _NAMED.finditer(text) if found[1]))


def expanded(text: str, known: Mapping[str, str] | Callable[[], Mapping[str, str]]) -> str:
    """The filter with each `@NAME` replaced by what it stands for, in brackets.

    Args:
        known: filters by name, or what gives them; asked only if there is one to replace.
    Raises:
        NotFound: there is no such view.
    """
    wanted = names(text)
    if not wanted:
        return text
    filters = known() if callable(known) else known
    for name in wanted:
        if name not in filters:
            raise NotFound("view", name)
    return _NAMED.sub(lambda found: f"({filters[found[1]]})" if found[1] else found[0], text)

"""The list of jobs: one filter for the page, its facets, its histogram, its table and what is done to all of it."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.facets import FACETS, LOOK_AT
from monitoring.pages.facets import facets as facets_of
from monitoring.pages.listing import WORDS, Asked, Listing, ListPage, ask, expression_of, parts_of
from monitoring.pages.page import Parts, session_of
from monitoring.reads import queries
from monitoring.reads.queries import Facts, facts
from monitoring.show import copies, looks, render, tables
from panda.auth.policy import Action
from panda.db import lists
from panda.errors import UnknownName
from panda.jobs import views
from panda.jobs.nouns import JOB_FIELDS, JOBS
from panda.query import EVERYTHING, Comparison, Expression, Kind, Op, all_of, equal_to, write
from panda.states import JobStatus

HISTOGRAM_JOBS, BINS = 2_000, 48
LISTING = Listing(
    JOBS, "/jobs", "jobs", "panda jobs",
    "status:failed queue:NORTH* error:pilot:* owner:anna changed:24h priority>=500 @view", option="",
)  # fmt: skip
#: Words of sheets about many jobs: no filter there.
OF_SHEETS = frozenset({"job", "stage", "priority", "exclude", "cols"})

#: Columns that the table may have: title, and class of its head.
COLUMNS = {
    "status": ("Status", ""), "name": ("Name", ""), "set": ("Set", ""), "user": ("User", ""), "share": ("Share", ""),
    "queue": ("Queue", ""), "node": ("Node", ""), "pilot": ("Pilot", ""), "stage": ("Failed in", ""),
    "error": ("Error", ""), "exit": ("Exit", "n"), "ran": ("Ran", "n"), "cpu": ("CPU", "n"), "memory": ("Memory", "n"),
    "priority": ("Priority", "n"), "try": ("Try", "n"), "created": ("Created", "n"), "started": ("Started", "n"),
    "ended": ("Ended", "n"), "changed": ("Changed", "n"),
}  # fmt: skip
DEFAULT_COLUMNS = ("status", "name", "set", "user", "queue", "error", "ran", "try", "changed")

CHANGED = """
SELECT status, changed_at FROM jobs WHERE panda_id = ANY(%(panda_ids)s)
UNION ALL SELECT status, changed_at FROM jobs_archive WHERE panda_id = ANY(%(panda_ids)s)
"""


class Jobs(ListPage):
    """/jobs?q=&add=&cols=&sort=&after="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        with_views = views_of(self._parts, session_of(req).subject)
        asked = ask(req, LISTING, tables.COLUMNS["jobs.html"], ("cols",), with_views)
        mine, expression = self._mine(req, Action.READ_JOBS, asked), asked.expression
        reader, columns = self._parts.reader, columns_of(req)
        if render.wants_csv(req):
            self._table(req, resp, "jobs.html", asked, mine, _job)
            return
        facets = facets_of(reader, mine, _but_status(mine))
        saved = reader.block(lambda c: views.of(c, session_of(req).subject))
        data = {
            "facets": facets, "counts": reader.block(lambda c: queries.by_status(facts(c, queries.COUNTS))),
            "histogram": reader.block(lambda c: _histogram(c, mine)),
        }  # fmt: skip
        self._list(
            req, resp, "jobs.html", asked, mine, _job, data=data, look_at=LOOK_AT, toggle=_toggle(asked),
            without=_without(asked), titles=FACETS, chosen=_chosen(expression), topics="overview", columns=COLUMNS,
            shown_columns=columns, status_alone=_but_status(mine) == EVERYTHING, range_link=_range_link(asked),
            python=copies.of_list(asked.q), views=saved.value or [], keep=_keeper(columns),
        )  # fmt: skip


def asked_for(req: falcon.Request, with_views: Callable[[str], str] = str) -> Expression:
    """The filter that the address of a sheet about many jobs says.

    Args:
        with_views: puts the reader's views into a text: `@NAME` stands for one.
    Raises:
        NotFound: there is no such view.
        UnknownName: a parameter that there is not. BadFilter: a filter that cannot be meant.
    """
    return expression_of(req, JOB_FIELDS, WORDS | OF_SHEETS, with_views)


def columns_of(req: falcon.Request) -> tuple[str, ...]:
    """The columns that the table shall have, in our order. Raises UnknownName."""
    given = req.get_param_as_list("cols") or []
    for name in given:
        if name not in COLUMNS:
            raise UnknownName("column", name, list(COLUMNS), where="cols")
    return tuple(name for name in COLUMNS if name in given) if given else DEFAULT_COLUMNS


def _keeper(columns: tuple[str, ...]) -> Callable[[str], str]:
    """For links to the list: the same link with the columns that somebody chose."""
    said = urlencode([("cols", name) for name in columns]) if columns != DEFAULT_COLUMNS else ""
    return lambda link: f"{link}{'&' if '?' in link else '?'}{said}" if said else link


def views_of(parts: Parts, owner: str) -> Callable[[str], str]:
    """What puts somebody's views into a text, when it names one."""

    def known() -> Mapping[str, str]:
        return {view.name: view.filter for view in parts.reader.ask(lambda c: views.of(c, owner))}

    return lambda text: views.expanded(text, known)


def _job(row: Facts) -> Facts:
    """A row as pages have it."""
    return {**{name: value for name, value in row.items() if name != "queue"}, "computing_site": row["queue"]}


def _but_status(expression: Expression) -> Expression:
    return all_of(*(part for part in parts_of(expression) if not _is_about(part, "status")))


def _histogram(connection: Connection, expression: Expression) -> Facts:
    """When the newest jobs that fit changed last: `bins` of (from, n failed, n others)."""
    ids = [key[0] for key in lists.scan(connection, JOBS, expression, limit=HISTOGRAM_JOBS, window=LOOK_AT).ids]
    rows = facts(connection, CHANGED, {"panda_ids": ids}) if ids else []
    if not rows:
        return {"bins": [], "n": 0}
    start, end = min(row["changed_at"] for row in rows), max(row["changed_at"] for row in rows)
    width = max(timedelta(seconds=1), (end - start) / BINS)
    counted = [[0, 0] for _ in range(BINS)]
    for row in rows:
        counted[min(BINS - 1, (row["changed_at"] - start) // width)][row["status"] != JobStatus.FAILED] += 1
    bins: list[tuple[datetime, int, int]] = [(start + width * k, *pair) for k, pair in enumerate(counted)]
    return {"bins": bins, "n": len(rows), "start": start, "end": end}


def _is_about(part: Expression, name: str) -> bool:
    return isinstance(part, Comparison) and part.field.name == name and part.op is Op.IS


def _chosen(expression: Expression) -> dict[str, list[str]]:
    """Words that are chosen in each facet."""
    return {
        name: [
            str(v)
            for part in parts_of(expression)
            if _is_about(part, name) and isinstance(part, Comparison)
            for v in part.values
        ]
        for name, _ in FACETS
    }


def _toggle(asked: Asked) -> Any:
    """For templates: the link that chooses a word of a facet, or takes it back."""
    chosen = _chosen(asked.expression)

    def link(name: str, word: str) -> str:
        others = tuple(part for part in parts_of(asked.expression) if not _is_about(part, name))
        words = [w for w in chosen[name] if w != word] + ([] if word in chosen[name] else [word])
        return asked.link(all_of(*others, *([_any_of(name, words)] if words else [])))

    return link


def _any_of(name: str, words: list[str]) -> Expression:
    field = JOB_FIELDS[name]
    return equal_to(field, *(int(word) if field.kind is Kind.WHOLE else word for word in words))


def _without(asked: Asked) -> Any:
    """For templates: the link that takes back every word of a facet."""
    return lambda name: asked.link(all_of(*(p for p in parts_of(asked.expression) if not _is_about(p, name))))


def _range_link(asked: Asked) -> Any:
    """For the histogram: the link to what changed in a span, beside what else the filter says. Without instants: with
    marks for them, which a script replaces."""
    others = [p for p in parts_of(asked.expression) if not (isinstance(p, Comparison) and p.field.name == "changed")]
    text = write(all_of(*others))

    def link(since: datetime | None = None, until: datetime | None = None) -> str:
        end = None if until is None else until + timedelta(seconds=1)  # whole seconds, outwards
        first, last = (looks.iso(at) if at else mark for at, mark in ((since, "FROM"), (end, "UNTIL")))
        return "/jobs?" + urlencode([("q", f"{text} changed:{first}/{last}".strip()), *asked.kept])

    return link

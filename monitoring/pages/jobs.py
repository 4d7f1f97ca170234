"""The list of jobs: one filter for the page, its facets, its histogram, its table and what is done to all of it."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.facets import FACETS, LOOK_AT
from monitoring.pages.facets import facets as facets_of
from monitoring.pages.page import Page, Parts, number_of, session_of
from monitoring.reads import queries
from monitoring.reads.queries import Facts, facts
from monitoring.show import copies, looks, render, tables
from panda.auth import policy
from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.db import lists
from panda.errors import UnknownName
from panda.jobs import views
from panda.jobs.nouns import JOB_FIELDS, JOBS
from panda.query import EVERYTHING, And, Comparison, Expression, Kind, Op, all_of, equal_to, read, write
from panda.states import JobStatus

PAGE_SIZE = 50
HISTOGRAM_JOBS, BINS = 2_000, 48
#: Words of older links, and the field that each stands for.
SHORT = {"status": "status", "queue": "queue", "error": "error", "jobset": "jobset", "owner": "owner"}
KNOWN = ("q", "add", "edit", "cols", *SHORT, "before", "json", "csv", "done", "job", "stage", "priority", "exclude")
NOT_FILTERS = frozenset({"json", "csv", "done", "stage", "priority", "exclude", "edit", "cols", "add"})

#: Columns that the table may have: title, and class of its head.
COLUMNS = {
    "status": ("Status", ""), "name": ("Name", ""), "set": ("Set", ""), "user": ("User", ""), "share": ("Share", ""),
    "queue": ("Queue", ""), "node": ("Node", ""), "pilot": ("Pilot", ""), "stage": ("Failed in", ""),
    "error": ("Error", ""), "exit": ("Exit", "n"), "ran": ("Ran", "n"), "cpu": ("CPU", "n"), "memory": ("Memory", "n"),
    "priority": ("Priority", "n"), "try": ("Try", "n"), "created": ("Created", "n"), "started": ("Started", "n"),
    "ended": ("Ended", "n"), "changed": ("Changed", "n"),
}  # fmt: skip
DEFAULT_COLUMNS = ("status", "name", "set", "user", "queue", "error", "ran", "try", "changed")

#: Rows of the table that the list is as CSV, and windows of `JOBS` that a filter may look through for them.
CSV_ROWS, CSV_WINDOWS = 10_000, 60

CHANGED = """
SELECT status, changed_at FROM jobs WHERE panda_id = ANY(%(panda_ids)s)
UNION ALL SELECT status, changed_at FROM jobs_archive WHERE panda_id = ANY(%(panda_ids)s)
"""


class Jobs(Page):
    """/jobs?q=&add=&cols=&before="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        identity = session_of(req).identity
        expression = asked_for(req, views_of(self._parts, identity.subject))
        mine = owned(identity, Action.READ_JOBS, expression)
        before = number_of(req, "before")
        if render.wants_csv(req):
            self._table(req, resp, mine, before)
            return
        reader = self._parts.reader
        found = reader.block(lambda c: _page(c, mine, before))
        items, onward = found.value or ([], None)
        facets = facets_of(reader, mine, _but_status(mine))
        counts = reader.block(lambda c: queries.by_status(facts(c, queries.COUNTS)))
        q = write(expression)
        data = {
            "q": q, "jobs": items, "next": onward, "trouble": found.trouble, "facets": facets,
            "counts": counts, "histogram": reader.block(lambda c: _histogram(c, mine)),
        }  # fmt: skip
        columns = columns_of(req)
        kept = [*([("q", q)] if q else []), *(("cols", c) for c in columns if columns != DEFAULT_COLUMNS)]
        saved = reader.block(lambda c: views.of(c, identity.subject))
        since = "newest" if before is None else "next"
        link = None if onward is None else "/jobs?" + urlencode([*kept, ("before", onward)])
        keep = _keeper(columns)

        def keeping(link: Callable[..., str]) -> Callable[..., str]:
            return lambda *words: keep(link(*words))

        self._answer(
            req, resp, "jobs.html", data, self._now(), csv="jobs", next_link=link, is_first=before is None,
            first_link="/jobs?" + urlencode(kept), look_at=LOOK_AT,
            chips=[(text, keep(link)) for text, link in chips(expression)], toggle=keeping(_toggle(expression)),
            without=keeping(_without(expression)), titles=FACETS, chosen=_chosen(expression),
            cli=_cli(q), python=copies.of_list(q), views=saved.value or [],
            topics="overview", columns=COLUMNS, shown_columns=columns, default_columns=DEFAULT_COLUMNS,
            is_editing=req.get_param("edit") is not None,
            status_alone=_but_status(mine) == EVERYTHING, range_link=keeping(_range_link(expression)), keep=keep,
            csv_word="CSV" if link is None and before is None else f"CSV, {since} {looks.count(CSV_ROWS)}",
        )  # fmt: skip

    def _table(self, req: falcon.Request, resp: falcon.Response, mine: Expression, before: int | None) -> None:
        """Every job that fits, down to a bound; then `Link` says where it goes on. Each page is a transaction."""
        found: list[Facts] = []
        after: int | str | None = before
        for _ in range(CSV_WINDOWS):
            n = min(lists.MAX_PAGE, CSV_ROWS - len(found))
            items, after = self._parts.reader.ask(partial(_page, expression=mine, before=after, limit=n))
            found += items
            if after is None or len(found) >= CSV_ROWS:
                break
        if after is not None:
            resp.append_link("/jobs?" + urlencode({"q": write(mine), "before": after, "csv": ""}), "next")
        render.answer_csv(resp, found, tables.COLUMNS["jobs.html"])


def asked_for(req: falcon.Request, known: Callable[[], Mapping[str, str]] = dict) -> Expression:
    """The filter that a URL says: `q`, and the words of older links.

    Args:
        known: the reader's views, by name: `@NAME` stands for one.
    Raises:
        NotFound: there is no such view.
        UnknownName: a parameter that there is not. BadFilter: a filter that cannot be meant.
    """
    for name in req.params:
        if name not in KNOWN:
            raise UnknownName("filter", name, [known for known in KNOWN if known not in NOT_FILTERS])
    said = [views.expanded(req.get_param(name) or "", known) for name in ("q", "add")]
    parts = [read(text, JOB_FIELDS) for text in said]
    for name, field in SHORT.items():
        value = req.get_param(name)
        if value:
            parts.append(read(f"{field}:{_quoted(value)}", JOB_FIELDS))
    return all_of(*parts)


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


def views_of(parts: Parts, owner: str) -> Callable[[], Mapping[str, str]]:
    """What gives somebody's views, when a filter names one."""
    return lambda: {view.name: view.filter for view in parts.reader.ask(lambda c: views.of(c, owner))}


def owned(identity: Identity, action: Action, expression: Expression) -> Expression:
    """The filter, narrowed to what this person may do that to. Raises Forbidden: somebody else's were asked for."""
    named = [part.values for part in _parts(expression) if isinstance(part, Comparison) and part.field.name == "owner"]
    asked = str(named[0][0]) if len(named) == 1 and len(named[0]) == 1 else None
    owner = policy.scope(identity, action, asked)
    return expression if owner is None or asked == owner else all_of(equal_to(JOB_FIELDS["owner"], owner), expression)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _page(
    connection: Connection, expression: Expression, before: int | str | None, limit: int = PAGE_SIZE
) -> tuple[list[Facts], int | str | None]:
    page = lists.page(connection, JOBS, expression, after=None if before is None else str(before), limit=limit)
    found = [row._asdict() for row in page.items]
    for row in found:
        row["computing_site"] = row.pop("queue")
    return found, page.next


def _but_status(expression: Expression) -> Expression:
    return all_of(*(part for part in _parts(expression) if not _is_about(part, "status")))


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


def _parts(expression: Expression) -> tuple[Expression, ...]:
    return expression.parts if isinstance(expression, And) else (expression,)


def _link(expression: Expression) -> str:
    text = write(expression)
    return "/jobs?" + urlencode({"q": text}) if text else "/jobs"


def chips(expression: Expression) -> list[tuple[str, str]]:
    """Each thing that the filter says, and the link that takes it away."""
    parts = _parts(expression) if expression != EVERYTHING else ()
    return [(write(part), _link(all_of(*(other for other in parts if other is not part)))) for part in parts]


def _is_about(part: Expression, name: str) -> bool:
    return isinstance(part, Comparison) and part.field.name == name and part.op is Op.IS


def _chosen(expression: Expression) -> dict[str, list[str]]:
    """Words that are chosen in each facet."""
    return {
        name: [
            str(v)
            for part in _parts(expression)
            if _is_about(part, name) and isinstance(part, Comparison)
            for v in part.values
        ]
        for name, _ in FACETS
    }


def _toggle(expression: Expression) -> Any:
    """For templates: the link that chooses a word of a facet, or takes it back."""
    chosen = _chosen(expression)

    def link(name: str, word: str) -> str:
        others = tuple(part for part in _parts(expression) if not _is_about(part, name))
        words = [w for w in chosen[name] if w != word] + ([] if word in chosen[name] else [word])
        return _link(all_of(*others, *([_any_of(name, words)] if words else [])))

    return link


def _any_of(name: str, words: list[str]) -> Expression:
    field = JOB_FIELDS[name]
    return equal_to(field, *(int(word) if field.kind is Kind.WHOLE else word for word in words))


def _without(expression: Expression) -> Any:
    """For templates: the link that takes back every word of a facet."""
    return lambda name: _link(all_of(*(part for part in _parts(expression) if not _is_about(part, name))))


def _range_link(expression: Expression) -> Any:
    """For the histogram: the link to what changed in a span, beside what else the filter says. Without instants: with
    marks for them, which a script replaces."""
    others = [
        part for part in _parts(expression) if not (isinstance(part, Comparison) and part.field.name == "changed")
    ]
    text = write(all_of(*others)) if others and expression != EVERYTHING else ""

    def link(since: datetime | None = None, until: datetime | None = None) -> str:
        end = None if until is None else until + timedelta(seconds=1)  # whole seconds, outwards
        first, last = (looks.iso(at) if at else mark for at, mark in ((since, "FROM"), (end, "UNTIL")))
        return "/jobs?" + urlencode({"q": f"{text} changed:{first}/{last}".strip()})

    return link


def _cli(q: str) -> str:
    quoted = q.replace("'", "'\\''")
    return f"panda jobs '{quoted}'" if q else "panda jobs"

"""Usage: what was used, by whom, for whom and where; all from the daily roll-up. The shares and the quotas."""

import shlex
from datetime import date
from typing import Any
from urllib.parse import urlencode

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.page import Page, check_words, session_of
from monitoring.reads.queries import Facts
from monitoring.show import render, usage_plot
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import UnknownName
from panda.jobs import share_usage, used
from panda.jobs.quotas import standing
from panda.jobs.used import Only

MEASURES = {
    "core_s": "core time", "cpu_s": "CPU time", "wall_s": "wall time", "n_finished": "finished jobs",
    "n_failed": "failed attempts", "n_cancelled": "cancelled jobs", "in_bytes": "bytes read", "out_bytes": "bytes made",
}  # fmt: skip
GROUPS = {"user": "user", "group": "working group", "share": "share", "queue": "queue", "site": "site", "kind": "kind"}
PERIODS = (7, 30, 90, 365)
BINS = {"day": "day", "week": "week", "month": "month"}
FORMS = {"stack": "stacked", "lines": "lines", "share": "share of each", "table": "table only"}
#: The largest names are told apart; as many as there are colours, with one for the others.
TOPS = (3, 5, 8)
#: Names that programs get a series of; the others together.
MOST_NAMED = 200
#: What is asked next about a name of each group.
NEXT = {"user": "kind", "group": "user", "share": "user", "queue": "user", "site": "queue", "kind": "user"}
FIELDS = {"owner": "user"} | {name: told for name, told in GROUPS.items() if name != "user"}


class Usage(Page):
    """/usage?measure=&by=&days=&bin=&as=&top=&owner=&group=&share=&queue=&site=&kind="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req, "measure", "by", "days", "bin", "as", "top", *Only._fields)
        asked: Facts = {
            "measure": _word(req, "measure", "core_s", MEASURES), "by": _word(req, "by", "user", GROUPS),
            "days": _number(req, "period", "days", 30, PERIODS), "bin": _word(req, "bin", "day", BINS),
            "as": _word(req, "as", "stack", FORMS), "top": _number(req, "number", "top", TOPS[-1], TOPS),
        }  # fmt: skip
        said = {name: value for name in Only._fields if (value := (req.get_param(name) or "").replace("\x00", ""))}
        only = Only(**said)
        only = only._replace(owner=policy.scope(session_of(req).identity, Action.READ_JOBS, only.owner))
        period_days = self._parts.settings.quotas.period_days
        mine = policy.scope(session_of(req).identity, Action.READ_JOBS, None)
        most = MOST_NAMED if render.is_for_program(req) else asked["top"]
        reader = self._parts.reader
        found = reader.block(lambda c: _sums(c, asked, only, most))
        facts = found.value or {"rows": [], "table": [], "dates": [], "named": []}
        data = {
            **asked, "only": said, **facts, "trouble": found.trouble,
            "shares": reader.block(_standings), "quotas": reader.block(lambda c: _quotas(c, period_days, mine)),
        }  # fmt: skip
        series = usage_plot.arranged(facts["table"], facts["named"], asked["measure"], facts["dates"])
        self._answer(
            req, resp, "usage.html", data, self._now(), csv="table", csv_word=f"CSV by {asked['bin']}",
            measures=MEASURES, groups=GROUPS, periods=PERIODS, bins=BINS, forms=FORMS, tops=TOPS, form=asked["as"],
            plot=usage_plot.plot(series, facts["dates"], asked["measure"], asked["as"], asked["bin"]),
            figure=usage_plot.figure, totals={name: sum(row[name] for row in facts["rows"]) for name in MEASURES},
            period_days=period_days, cli=_command(asked, said), chips=_chips(asked, said),
            narrower=_narrower(asked, said),
            with_measure=lambda name: _link({**asked, "measure": name}, said),
        )  # fmt: skip


def _sums(connection: Connection, asked: Facts, only: Only, most: int) -> Facts:
    """`rows`: sums by name, the largest first; `table`: those of each bin, of the `named` largest and of the rest."""
    measure, by, days, bin = asked["measure"], asked["by"], asked["days"], asked["bin"]
    found = [row._asdict() for row in used.sums(connection, by, days, only)]
    totals = [{name: value for name, value in row.items() if name != "day"} for row in found]
    rows = usage_plot.with_shares(totals, measure)
    named = [row["name"] for row in rows[:most]]
    table = [row._asdict() for row in used.series(connection, by, days, only, bin, named)]
    dates: list[date] = usage_plot.bins(days, bin, used.today(connection))
    return {"rows": rows, "named": named, "table": table, "dates": dates}


def _standings(connection: Connection) -> list[Facts]:
    return [each._asdict() for each in share_usage.standings(connection)]


def _quotas(connection: Connection, period_days: int, owner: str | None) -> list[Facts]:
    found = standing.core_hours(connection, period_days, owner)
    return [{**each._asdict(), "outlook": each.outlook._asdict()} for each in found]


def _link(asked: Facts, said: Facts) -> str:
    return f"/usage?{urlencode({**asked, **said})}"


def _chips(asked: Facts, said: Facts) -> list[tuple[str, str, str]]:
    """What the sums are restricted to: (word, value, link that drops it)."""
    return [
        (FIELDS[name], value, _link(asked, {other: kept for other, kept in said.items() if other != name}))
        for name, value in said.items()
    ]


def _narrower(asked: Facts, said: Facts) -> Any:
    """For the table: the link to what one name used, told by something else."""
    by = asked["by"]
    field = "owner" if by == "user" else by
    return lambda name: _link({**asked, "by": NEXT[by]}, {**said, field: name})


def _command(asked: Facts, said: Facts) -> str:
    words = ["panda", "usage", "--by", asked["by"], "--bin", asked["bin"], "--period", f"{asked['days']}d"]
    for name, value in said.items():
        words += [f"--{name}", value]
    return shlex.join(words)


def _word(req: falcon.Request, name: str, default: str, known: dict[str, Any]) -> str:
    word = req.get_param(name) or default
    if word not in known:
        raise UnknownName(name, word[:60], list(known), where=name)
    return word


def _number(req: falcon.Request, what: str, name: str, default: int, known: tuple[int, ...]) -> int:
    number = req.get_param_as_int(name)
    if number is None:
        return default
    if number not in known:
        raise UnknownName(what, str(number), [str(each) for each in known], where=name)
    return number

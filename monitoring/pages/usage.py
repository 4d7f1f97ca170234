"""Usage: what was used, by whom and where, day by day; all from the daily roll-up. And the shares."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.page import Page, check_words, session_of
from monitoring.reads.queries import Facts, facts
from monitoring.show import looks, pictures
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import UnknownName
from panda.jobs import share_usage

MEASURES = {
    "core_s": "core time", "cpu_s": "CPU time", "wall_s": "wall time", "n_finished": "finished jobs",
    "n_failed": "failed attempts", "n_cancelled": "cancelled jobs",
}  # fmt: skip
GROUPS = {"owner": "user", "share": "share", "queue": "queue", "site": "site"}
PERIODS = (7, 30, 90)
FORMS = {"stack": "stacked", "lines": "lines", "share": "share of each day"}
TOP = 8

_SUMS = ", ".join(f"sum({name})::float8 AS {name}" for name in MEASURES)
_USAGE = f"""
SELECT day, {{group}} AS word, {_SUMS} FROM usage u {{join}}
WHERE day > ((SELECT panda_now()) - make_interval(days => %(days)s))::date
    AND (%(owner)s::text IS NULL OR owner = %(owner)s)
GROUP BY day, word ORDER BY day
"""
USAGE = {
    name: _USAGE.format(
        group="coalesce(q.site, 'no site')" if name == "site" else f"u.{name}",
        join="LEFT JOIN queues q ON q.name = u.queue" if name == "site" else "",
    )
    for name in GROUPS
}
TODAY = "SELECT (SELECT panda_now())::date AS day"


class Usage(Page):
    """/usage?measure=&by=&days=&as="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req, "measure", "by", "days", "as")
        measure = _word(req, "measure", "core_s", MEASURES)
        by = _word(req, "by", "owner", GROUPS)
        days = req.get_param_as_int("days") or 30
        if days not in PERIODS:
            raise UnknownName("period", str(days), [str(period) for period in PERIODS], where="days")
        owner = policy.scope(session_of(req).identity, Action.READ_JOBS, None)
        reader = self._parts.reader
        today: date = reader.ask(lambda c: facts(c, TODAY)[0]["day"])
        found = reader.block(lambda c: facts(c, USAGE[by], {"days": days, "owner": owner}))
        totals, series, dates = arranged(found.value or [], measure, days, today)
        form = _word(req, "as", "stack", FORMS)
        data = {
            "measure": measure, "by": by, "days": days, "as": form, "rows": totals, "series": series, "dates": dates,
            "trouble": found.trouble, "shares": reader.block(_standings),
        }  # fmt: skip
        self._answer(req, resp, "usage.html", data, self._now(), csv="rows", measures=MEASURES, groups=GROUPS,
                     periods=PERIODS, forms=FORMS, form=form, plot=plot(series, dates, measure, form))  # fmt: skip


def _standings(connection: Connection) -> list[Facts]:
    return [each._asdict() for each in share_usage.standings(connection)]


#: Units of time, the largest first: (seconds, word).
UNITS = ((3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def plot(series: list[tuple[str, list[float]]], dates: list[date], measure: str, form: str) -> Facts:
    """What is drawn: `x` (seconds since 1970 of each day), `series` (label, colour, values), their `unit`."""
    size, unit = 1.0, ""
    if form == "share":
        totals = [sum(column) for column in zip(*(values for _, values in series), strict=True)]
        scaled = [[100 * v / t if t else 0.0 for v, t in zip(values, totals, strict=True)] for _, values in series]
        unit = "%"
    else:
        if measure.endswith("_s"):
            top = max((sum(column) for column in zip(*(values for _, values in series), strict=True)), default=0)
            size, unit = next((each for each in UNITS if top >= each[0]), UNITS[-1])
        scaled = [[round(value / size, 3) for value in values] for _, values in series]
    drawn = [
        {"label": word, "colour": pictures.PALETTE[k % len(pictures.PALETTE)], "values": values}
        for k, ((word, _), values) in enumerate(zip(series, scaled, strict=True))
    ]
    days = [int(datetime.combine(day, time(12), UTC).timestamp()) for day in dates]
    return {"x": days, "series": drawn, "unit": unit, "bars": True, "kind": "lines" if form == "lines" else "stack"}


def arranged(
    found: list[Facts], measure: str, days: int, today: date
) -> tuple[list[Facts], list[tuple[str, list[float]]], list[date]]:
    """Totals by word, the largest first; the largest words and `others`, each with a value a day; the days."""
    dates = [today - timedelta(days=days - 1 - k) for k in range(days)]
    place = {day: k for k, day in enumerate(dates)}
    totals: dict[str, Facts] = {}
    daily: dict[str, list[float]] = {}
    for row in found:
        word = row["word"] or looks.UNKNOWN
        total = totals.setdefault(word, {"name": word, **dict.fromkeys(MEASURES, 0.0)})
        for name in MEASURES:
            total[name] += row[name] or 0.0
        if row["day"] in place:
            daily.setdefault(word, [0.0] * days)[place[row["day"]]] += row[measure] or 0.0
    ordered = sorted(totals.values(), key=lambda total: -total[measure])
    whole = sum(total[measure] for total in ordered)
    for total in ordered:
        total["share_of_all"] = total[measure] / whole if whole else None
    series = [(total["name"], daily.get(total["name"], [0.0] * days)) for total in ordered[:TOP]]
    others = [daily.get(total["name"], [0.0] * days) for total in ordered[TOP:]]
    if others:
        series.append(("others", [sum(values) for values in zip(*others, strict=True)]))
    return ordered[:200], series, dates


def _word(req: falcon.Request, name: str, default: str, known: dict[str, Any]) -> str:
    word = req.get_param(name) or default
    if word not in known:
        raise UnknownName(name, word, list(known), where=name)
    return word

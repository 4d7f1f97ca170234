"""What was used as a plot and as tables: places of bins, units, the named and the others. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from monitoring.show import pictures

OTHERS, NONE = "others", "none"
#: Units, the largest first: (size, word), of seconds and of bytes.
UNITS = {
    "_s": ((3_600.0, "h"), (60.0, "min"), (1.0, "s")),
    "_bytes": ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
}

Series = list[tuple[str, list[float]]]


def bins(days: int, bin: str, today: date) -> list[date]:
    """The first day of each bin of the last `days` days; that of the first bin may lie before them."""
    found = [_start(today - timedelta(days=ago), bin) for ago in range(days - 1, -1, -1)]
    return list(dict.fromkeys(found))


def _start(day: date, bin: str) -> date:
    if bin == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if bin == "month" else day


def arranged(found: Sequence[Mapping[str, Any]], named: Sequence[str], measure: str, dates: Sequence[date]) -> Series:
    """A value for each of `dates`: of each name, in this order, and of what is left, if anything is."""
    place = {day: k for k, day in enumerate(dates)}
    by_name: dict[tuple[bool, str], list[float]] = {(False, name): [0.0] * len(dates) for name in named}
    for row in found:
        if row["day"] in place:
            values = by_name.setdefault((row["is_rest"], row["name"]), [0.0] * len(dates))
            values[place[row["day"]]] += row[measure] or 0.0
    return [(OTHERS if is_rest else name or NONE, values) for (is_rest, name), values in by_name.items()]


def plot(series: Series, dates: Sequence[date], measure: str, form: str, bin: str = "day") -> dict[str, Any]:
    """What is drawn: `x` (seconds since 1970 of each bin), `series` (label, colour, values), their `unit`."""
    size, unit = 1.0, ""
    totals = [sum(column) for column in zip(*(values for _, values in series), strict=True)]
    if form == "share":
        scaled = [[100 * v / t if t else 0.0 for v, t in zip(values, totals, strict=True)] for _, values in series]
        unit = "%"
    else:
        ladder = next((each for end, each in UNITS.items() if measure.endswith(end)), ((1.0, ""),))
        size, unit = next((each for each in ladder if max(totals, default=0) >= each[0]), ladder[-1])
        scaled = [[v / size for v in values] for _, values in series]
    drawn = [
        {"label": word, "colour": pictures.PALETTE[k % len(pictures.PALETTE)],
         "values": [float(f"{value:.4g}") for value in values]}
        for k, ((word, _), values) in enumerate(zip(series, scaled, strict=True))
    ]  # fmt: skip
    days = [int(datetime.combine(day, time(), UTC).timestamp()) for day in dates]
    return {
        "x": days, "series": drawn, "unit": unit, "bars": True, "kind": "lines" if form == "lines" else "stack",
        "moment": "{YYYY}-{MM}" if bin == "month" else "{YYYY}-{MM}-{DD}",
    }  # fmt: skip


#: What is smaller is told as "less than this".
LEAST = 0.001


def figure(value: float) -> str:
    """A number of a table, without an exponent."""
    if 0 < abs(value) < LEAST:
        return f"< {LEAST}" if value > 0 else f"> -{LEAST}"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1_000 else f"{value:,.4g}"


def with_shares(totals: Sequence[Mapping[str, Any]], measure: str) -> list[dict[str, Any]]:
    """The sums, the largest first, with the part of all that each is (`share_of_all`; None: nothing was used)."""
    ordered = sorted(totals, key=lambda total: -total[measure])
    whole = sum(total[measure] for total in ordered)
    return [{**total, "share_of_all": total[measure] / whole if whole else None} for total in ordered]

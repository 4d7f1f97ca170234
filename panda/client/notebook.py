"""What a notebook shows of an answer: tables of HTML in which every word of the server is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

COLOURS = {
    "finished": "#2e7d32",
    "failed": "#c62828",
    "cancelled": "#b28704",
    "running": "#1565c0",
    "waiting": "#bdbdbd",
}
#: Characters of one value.
LONGEST = 200


def table(rows: Sequence[Mapping[str, Any]], *, there_is_more: bool = False) -> str:
    """A row for each thing, a column for each field that any of them has a value in."""
    names = list(dict.fromkeys(name for row in rows for name, value in row.items() if value not in (None, "", [], {})))
    if not names:
        return "<p><em>nothing</em></p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in names) + "</tr>" for row in rows)
    more = "<p><em>… and more</em></p>" if there_is_more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def card(kind: str, facts: Mapping[str, Any]) -> str:
    """One thing: a row for each of its fields that has a value; a job set begins with its bar."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(str(name))}</th><td>{_cell(value)}</td></tr>"
        for name, value in facts.items()
        if value not in (None, "", [], {})
    )
    ledger = facts.get("ledger")
    above = bar(ledger) if isinstance(ledger, Mapping) else ""
    return f"<div><strong>{escape(kind)}</strong>{above}<table><tbody>{rows}</tbody></table></div>"


def bar(ledger: Mapping[str, Any]) -> str:
    """A job set's jobs as a bar: as wide as the page, each state its part."""
    counts = {name: n for name in COLOURS if isinstance(n := ledger.get(name), int) and n > 0}
    total = sum(counts.values()) or 1
    parts = "".join(
        f"<span title='{n} {name}' style='display:inline-block;height:100%;width:{100 * n / total:.2f}%;"
        f"background:{COLOURS[name]}'></span>"
        for name, n in counts.items()
    )
    told = ", ".join(f"{n} {name}" for name, n in counts.items()) or "no jobs"
    return f"<div role='img' aria-label='{told}' style='height:1em;max-width:40em;font-size:1em'>{parts}</div>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        text = ", ".join(f"{name}: {each}" for name, each in value.items())
    elif isinstance(value, list):
        text = " ".join(str(each) for each in value)
    else:
        text = str(value)
    return escape(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")

"""A job set's jobs as a bar of text: what is done, what runs, what waits."""

from collections.abc import Mapping
from typing import Any

WIDTH = 20
#: In the order in which they stand in the bar.
CELLS = {"finished": "█", "failed": "✗", "cancelled": "-", "running": "▒", "waiting": "░"}
GLYPHS = {
    "finished": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "closed": "⊘",
    "running": "▶",
    "starting": "▶",
    "sent": "▶",
    "online": "✓",
    "offline": "✗",
}


def counts(ledger: Mapping[str, Any]) -> dict[str, int]:
    """Jobs by what the bar shows; those that are not expanded yet wait."""
    shown = {state: int(ledger.get(state) or 0) for state in CELLS}
    shown["waiting"] += int(ledger.get("unexpanded") or 0)
    return shown


def bar(ledger: Mapping[str, Any], width: int = WIDTH) -> list[tuple[str, str]]:
    """(state, its cells), `width` cells in all; whatever has a job has a cell."""
    present = {state: n for state, n in counts(ledger).items() if n > 0}
    total = sum(present.values())
    if not total:
        return [("waiting", " " * width)]
    lengths = {state: max(1, n * width // total) for state, n in present.items()}
    while (excess := sum(lengths.values()) - width) != 0:
        longest = max(lengths, key=lambda state: lengths[state])
        owed = max(present, key=lambda state: present[state] * width / total - lengths[state])
        lengths[longest if excess > 0 else owed] += -1 if excess > 0 else 1
    return [(state, CELLS[state] * n) for state, n in lengths.items()]

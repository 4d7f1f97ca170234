"""Tables, bars and progress on a terminal. Imports rich; nothing else of the command line does."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from panda.cli.bars import GLYPHS, bar
from panda.cli.show import Column, Item, plain, value_of

COLOURS = {
    "finished": "green",
    "failed": "red",
    "cancelled": "yellow",
    "closed": "yellow",
    "running": "blue",
    "starting": "blue",
    "sent": "blue",
    "holding": "cyan",
    "transferring": "cyan",
    "online": "green",
    "offline": "red",
    "brokeroff": "yellow",
    "test": "yellow",
}


def write_table(items: Iterable[Item], columns: Sequence[Column]) -> None:
    """A table as wide as the terminal at most; words are cut where there is no room, numbers are not."""
    lines = [[cell(value_of(item, column.field), column.kind) for column in columns] for item in items]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        widest = max((line[number].cell_len for line in lines), default=0)
        table.add_column(
            column.head,
            justify="right" if column.kind in ("number", "bytes") else "left",
            overflow="ellipsis",
            no_wrap=True,
            min_width=None if column.kind == "text" else max(widest, len(column.head)),
        )
    for line in lines:
        table.add_row(*line)
    Console().print(table)


def cell(value: Any, kind: str) -> Text:
    """A value as a person reads it."""
    if value is None or value == "":
        return Text("-", style="dim")
    if kind == "status":
        return Text(f"{GLYPHS.get(str(value), '·')} {plain(value)}", style=COLOURS.get(str(value), ""))
    if kind == "time":
        return Text(ago(str(value)))
    if kind == "bytes" and isinstance(value, int):
        return Text(size(value))
    if kind == "bar" and isinstance(value, Mapping):
        return bar_text(value)
    return Text(plain(value))


def bar_text(ledger: Mapping[str, Any]) -> Text:
    """A job set's jobs as a bar of 20 cells."""
    text = Text()
    for state, cells in bar(ledger):
        text.append(cells, style=COLOURS.get(state, "dim"))
    return text


def ago(instant: str) -> str:
    """`3m ago` for an ISO instant; the instant itself if it is none."""
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(instant)).total_seconds()
    except (TypeError, ValueError):
        return plain(instant)
    for unit, n_seconds in (("d", 86400), ("h", 3600), ("m", 60)):
        if abs(seconds) >= n_seconds:
            n = int(abs(seconds) // n_seconds)
            return f"{n}{unit} ago" if seconds > 0 else f"in {n}{unit}"
    return "now" if abs(seconds) < 1 else f"{int(seconds)}s ago" if seconds > 0 else f"in {int(-seconds)}s"


def size(n_bytes: int) -> str:
    """Bytes in the unit that suits them (10^3)."""
    number = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(number) < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return str(n_bytes)

"""The progress of a wait or a transfer: a line that redraws itself on a terminal, else a line per change."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from panda.client import Waited

#: From the beginning of a job's life to its end.
ORDER = (
    "accepted", "pending", "defined", "assigned", "activated", "waiting", "sent", "starting", "running", "holding",
    "transferring", "finished", "failed", "cancelled", "closed",
)  # fmt: skip


def line_of(waited: Waited) -> str:
    """`120/300 ended: 180 running, 118 finished, 2 failed`."""
    counts = waited.by_status
    n_jobs = sum(counts.values())
    n_ended = sum(counts.get(word, 0) for word in ("finished", "failed", "cancelled", "closed"))
    known = [word for word in ORDER if word in counts] + [word for word in counts if word not in ORDER]
    return f"{n_ended}/{n_jobs} ended: {', '.join(f'{counts[word]} {word}' for word in known)}"


@contextmanager
def shown(is_quiet: bool) -> Iterator[Callable[[Waited], None]]:
    """Something that hears each look and shows it on stderr."""
    if is_quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        from panda.cli.live import live_line

        with live_line() as write:
            yield lambda waited: write(line_of(waited))
    else:
        yield _on_change()


def _on_change() -> Callable[[Waited], None]:
    last = ""

    def write(waited: Waited) -> None:
        nonlocal last
        line = line_of(waited)
        if line != last:
            click.echo(line, err=True)
        last = line

    return write


@contextmanager
def bytes_shown(title: str, n_bytes: int) -> Iterator[Callable[[int], None]]:
    """Something that hears how many more bytes have moved; shown on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from panda.cli.live import byte_bar

    with byte_bar(title, n_bytes) as advance:
        yield advance


@contextmanager
def steps_shown(title: str) -> Iterator[Callable[[int, int], None]]:
    """Something that hears how many are done, of how many; shown on stderr, once for each change."""
    last = ""

    def told(n_done: int, n_all: int) -> str:
        return f"{title}: {n_done}/{n_all}" if n_all else f"{title}: {n_done}"

    def write(n_done: int, n_all: int) -> None:
        nonlocal last
        if (line := told(n_done, n_all)) != last:
            click.echo(line, err=True)
        last = line

    if sys.stderr.isatty():
        from panda.cli.live import live_line

        with live_line() as redraw:
            yield lambda n_done, n_all: redraw(told(n_done, n_all))
    else:
        yield write

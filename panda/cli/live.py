"""What redraws itself on a terminal. Imports rich; see `progress`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn


@contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """One line on stderr that is written anew."""
    with Console(stderr=True).status("waiting …") as status:
        yield status.update


@contextmanager
def byte_bar(title: str, n_bytes: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for so many bytes."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=n_bytes)
        yield lambda n: progress.advance(task, n)

"""Leave to change more than one thing: asked for on a terminal, given with --yes elsewhere."""

import sys
from collections.abc import Sequence

import click


def confirm(verb: str, n_jobs: int, names: Sequence[str], *, yes: bool) -> None:
    """Ask before `verb` reaches more than one job.

    Raises:
        click.UsageError: nobody can be asked, and --yes was not given.
        click.Abort: the answer was no.
    """
    if n_jobs <= 1 or yes:
        return
    sample = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    if not sys.stdin.isatty():
        raise click.UsageError(f"{verb} would reach {n_jobs} jobs ({sample}); say --yes if that is meant")
    click.confirm(f"{verb} {n_jobs} jobs ({sample})?", abort=True, err=True)

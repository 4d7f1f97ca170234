"""Leave to change more than one thing: asked for on a terminal, given with --yes elsewhere."""

import sys
from collections.abc import Sequence

import click

from panda.cli import exits
from panda.cli.problems import CommandProblem


def confirm(verb: str, n_jobs: int, names: Sequence[str], *, yes: bool) -> None:
    """Ask before `verb` reaches more than one job.

    Raises:
        click.UsageError: nobody can be asked, and --yes was not given.
        CommandProblem: the answer was no.
    """
    if n_jobs <= 1 or yes:
        return
    sample = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    if not sys.stdin.isatty():
        raise click.UsageError(f"{verb} would reach {n_jobs} jobs ({sample}); say --yes if that is meant")
    if not click.confirm(f"{verb} {n_jobs} jobs ({sample})?", err=True):
        raise CommandProblem("nothing was done", code="not_confirmed", exit_code=exits.ERROR)

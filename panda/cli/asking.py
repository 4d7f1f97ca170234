"""Leave to change more than one thing: asked for on a terminal, given with --yes elsewhere."""

import sys
from collections.abc import Sequence

import click

from panda.cli import exits
from panda.cli.problems import CommandProblem


def confirm(verb: str, n: int, names: Sequence[str], *, yes: bool, things: str = "jobs") -> None:
    """Ask before `verb` reaches more than one job, or thing of another kind.

    Raises:
        click.UsageError: nobody can be asked, and --yes was not given.
        CommandProblem: the answer was no.
    """
    if n <= 1 or yes:
        return
    sample = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    if not sys.stdin.isatty():
        raise click.UsageError(f"{verb} would reach {n} {things} ({sample}); say --yes if that is meant")
    if not click.confirm(f"{verb} {n} {things} ({sample})?", err=True):
        raise CommandProblem("nothing was done", code="not_confirmed", exit_code=exits.ERROR)

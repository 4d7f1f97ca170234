"""`panda keep`, `panda delete`, `panda lineage`: how long a dataset stays, and where its files come from."""

from collections.abc import Sequence
from typing import Any

import click

from panda.cli import columns, units
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb

LINEAGE = (Column("role"), Column("panda_id", "job", "number"), Column("status", kind="status"), Column("dataset"),
           Column("lfn", "file"))  # fmt: skip


@click.command(cls=Verb, examples=("panda keep user.ann:skim.v7 --lifetime 720h", "panda keep user.ann:skim.v7 --pin"))
@click.argument("dataset", metavar="SCOPE:NAME")
@click.option("--lifetime", metavar="TIME", help="Delete it after this, as 90m or 720h; without it: never.")
@click.option("--pin", is_flag=True, help="Keep it whatever else is said; without this a pin is taken off.")
@output_options
def keep(dataset: str, lifetime: str | None, pin: bool, look: Look) -> None:
    """Say how long a dataset is kept."""
    try:
        lifetime_s = None if lifetime is None else float(units.seconds(lifetime))
    except ValueError as problem:
        raise click.UsageError(f"--lifetime: {problem}") from problem
    kept = connect().datasets.keep(dataset, lifetime_s=lifetime_s, pinned=pin)
    emit(look, [kept.raw], columns.DATASETS, columns.dataset_name, single=True)


@click.command(
    cls=Verb, examples=("panda delete user.ann:skim.v6", "panda delete user.ann:skim.v5 user.ann:skim.v6 -q")
)
@click.argument("names", nargs=-1, required=True, metavar="SCOPE:NAME...")
@output_options
def delete(names: Sequence[str], look: Look) -> None:
    """Delete datasets with their files, each as soon as no job reads it any more."""
    client = connect()
    emit(look, (client.datasets.delete(name).raw for name in names), columns.DATASETS, columns.dataset_name)


@click.command(
    cls=Verb,
    examples=("panda lineage user.ann:skim.v7 part.0001.root", "panda lineage user.ann:skim.v7 part.0001.root -o json"),
)
@click.argument("dataset", metavar="SCOPE:NAME")
@click.argument("lfn", metavar="FILE")
@output_options
def lineage(dataset: str, lfn: str, look: Look) -> None:
    """Tell which job wrote a file, from what, and which jobs read it."""
    found = connect().datasets.lineage(dataset, lfn)
    told: list[dict[str, Any]] = [{"role": "written by", "panda_id": found.get("panda_id")}]
    told += [{"role": "made from", **each} for each in found["made_from"]]
    told += [{"role": "read by", **each} for each in found["read_by"]]
    emit(look, told, LINEAGE, lambda item: str(item.get("panda_id") or item.get("lfn") or ""))

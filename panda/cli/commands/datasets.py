"""`panda keep`, `delete`, `replicate`, `container`, `lineage`: how long a dataset stays, where, and what is in it."""

from collections.abc import Sequence
from typing import Any

import click

from panda.cli import columns, units
from panda.cli.session import connect
from panda.cli.show import Column, Look, emit, output_options
from panda.cli.verbs import Verb, VerbGroup

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


@click.command(
    cls=Verb,
    examples=(
        "panda replicate user.ann:skim.v7                   # where it is wanted",
        "panda replicate user.ann:skim.v7 EU-TAPE           # all its files there too",
        "panda replicate user.ann:skim.v7 EU-TAPE --drop    # no more; what is there stays",
    ),
)
@click.argument("dataset", metavar="SCOPE:NAME")
@click.argument("storage", required=False, metavar="[STORAGE]")
@click.option("--drop", is_flag=True, help="Want it there no more.")
@output_options
def replicate(dataset: str, storage: str | None, drop: bool, look: Look) -> None:
    """Have all files of a dataset on a further storage, also those that join it until it closes."""
    if drop and not storage:
        raise click.UsageError("--drop wants a storage")
    client = connect().datasets
    if storage:
        found = client.unwant(dataset, storage) if drop else client.want(dataset, storage)
    else:
        found = client.rules(dataset)
    emit(look, (rule.raw for rule in found), columns.DATASET_RULES, lambda rule: str(rule["storage"]))


@click.group(
    cls=VerbGroup,
    examples=(
        "panda container create user.ann:all",
        "panda container add user.ann:all user.ann:run1 user.ann:run2",
        "panda container remove user.ann:all user.ann:run1",
    ),
)
def container() -> None:
    """Make containers, which hold datasets, and change what they hold."""


@container.command(
    "create", cls=Verb, examples=("panda container create user.ann:all", "panda container create user.ann:2026 -q")
)
@click.argument("name", metavar="SCOPE:NAME")
@output_options
def container_create(name: str, look: Look) -> None:
    """Make an empty container."""
    made = connect().datasets.create_container(name)
    emit(look, [made.raw], columns.DATASETS, columns.dataset_name, single=True)


@container.command(
    "add",
    cls=Verb,
    examples=(
        "panda container add user.ann:all user.ann:run1 user.ann:run2",
        "panda datasets --match 'user.ann:run*' -q | xargs panda container add user.ann:all",
    ),
)
@click.argument("name", metavar="SCOPE:NAME")
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@output_options
def container_add(name: str, datasets: Sequence[str], look: Look) -> None:
    """Put datasets into a container."""
    emit(look, [connect().datasets.add(name, datasets).raw], columns.DATASETS, columns.dataset_name, single=True)


@container.command(
    "remove",
    cls=Verb,
    examples=(
        "panda container remove user.ann:all user.ann:run1",
        "panda container remove user.ann:all user.ann:run2 -q",
    ),
)
@click.argument("name", metavar="SCOPE:NAME")
@click.argument("dataset", metavar="DATASET")
@output_options
def container_remove(name: str, dataset: str, look: Look) -> None:
    """Take a dataset out of a container; the dataset stays."""
    emit(look, [connect().datasets.remove(name, dataset).raw], columns.DATASETS, columns.dataset_name, single=True)

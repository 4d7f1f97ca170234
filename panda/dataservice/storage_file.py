"""What `storage.toml` says: who may keep how much where, and which datasets go where when they close.

Read at every start; what is gone from the file is gone.
"""

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.errors import ConfigError, UnknownName

#: Bytes of an MB.
MB = 1_000_000

DROP_QUOTAS = "DELETE FROM storage_quotas"
SET_QUOTA = """
INSERT INTO storage_quotas (name, owners, storages, owners_like, storages_like, each, limit_bytes)
VALUES (%(name)s, %(owners)s, %(storages)s, %(owners_like)s, %(storages_like)s, %(each)s, %(limit_bytes)s)
"""
DROP_ARCHIVING = "DELETE FROM archiving"
SET_ARCHIVING = "INSERT INTO archiving (name, datasets, storage) VALUES (%(name)s, %(datasets)s, %(storage)s)"
STORAGES = "SELECT name FROM storages ORDER BY name"

Pattern = Annotated[str, Meta(min_length=1, max_length=250, pattern=r"^[A-Za-z0-9._*?-]+$")]
DatasetPattern = Annotated[str, Meta(max_length=501, pattern=r"^[A-Za-z0-9._*?-]+:[A-Za-z0-9._*?-]+$")]


class Quota(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How much some owners may keep on some storages; names may hold `*` and `?`."""

    owners: Annotated[list[Pattern], Meta(min_length=1)]
    storages: Annotated[list[Pattern], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["*"])
    limit_mb: Annotated[int, Meta(ge=0, le=2**40)]
    each: bool = False
    """Every one of the owners has as much, instead of all of them together."""


class Archiving(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Datasets whose name fits go to a storage when they close."""

    datasets: DatasetPattern
    storage: str


class StorageFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A file's content."""

    quotas: dict[str, Quota] = {}
    archiving: dict[str, Archiving] = {}


def load_file(path: Path) -> StorageFile:
    """What `path` (TOML) says. Raises ConfigError: no TOML, an unknown word, a value that cannot be meant."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), StorageFile)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as problem:
        raise ConfigError(f"{path}: {problem}") from problem


def sync(connection: Connection, said: StorageFile) -> None:
    """Bring the tables up to what is said. Raises UnknownName: a rule names a storage that does not exist."""
    storages = [row.name for row in rows(connection, STORAGES)]
    for name, rule in said.archiving.items():
        if rule.storage not in storages:
            raise UnknownName("storage", rule.storage, storages, where=f"storage.toml [archiving.{name}]")
    run(connection, DROP_QUOTAS)
    for name, quota in said.quotas.items():
        likes = {"owners_like": list(map(like, quota.owners)), "storages_like": list(map(like, quota.storages))}
        said_of_it = msgspec.structs.asdict(quota)
        run(connection, SET_QUOTA, said_of_it | likes | {"name": name, "limit_bytes": quota.limit_mb * MB})
    run(connection, DROP_ARCHIVING)
    for name, rule in said.archiving.items():
        values = {"name": name, "datasets": like(rule.datasets), "storage": rule.storage}
        run(connection, SET_ARCHIVING, values)


def like(pattern: str) -> str:
    """A pattern with `*` and `?` as SQL's LIKE has it."""
    return pattern.replace("_", "\\_").replace("*", "%").replace("?", "_")

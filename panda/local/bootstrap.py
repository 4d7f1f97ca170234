"""What a fresh installation needs before its processes start: sites, shares, quotas, the spool, and two tokens.

`DIR/token` opens everything (role admin), `DIR/pilot-token` only a pilot's verbs. Both are made once, and
again when the database does not know them any more.
"""

import os
from pathlib import Path

from sqlalchemy.engine import Connection

from panda.auth import tokens
from panda.auth.identity import Role
from panda.brokerage import policies
from panda.dataservice import storage_file
from panda.db.session import begin_of, make_engine
from panda.errors import Unauthenticated
from panda.jobs import shares
from panda.jobs.quotas import file as quota_file
from panda.jobs.quotas import table as quota_table
from panda.local.shipped import shipped
from panda.settings import Settings
from panda.sites import applying, rules, siteinfo

#: Who a one-machine installation belongs to.
ADMIN, PILOT = "admin", "pilot"


def prepare(settings: Settings) -> None:
    """Load sites, shares and quotas, check brokerage's policies, write the token files. Safe to run at every start.

    Raises:
        ConfigError, UnknownName: the file of sites, of storage, of shares, of quotas or of policies cannot be meant.
    """
    data_dir = settings.data_dir
    # Read first: no transaction waits, idle, for a file of many sites.
    sites = siteinfo.load_file(own_or_shipped(data_dir, "sites.toml"))
    policies.current(settings)
    rules.current(settings)
    storages = storage_file.load_file(own_or_shipped(data_dir, "storage.toml"))
    tree = shares.load_file(own_or_shipped(data_dir, "shares.toml"))
    quotas = quota_file.load_file(own_or_shipped(data_dir, "quotas.toml"))
    engine = make_engine(settings.store.database_url, pool_size=1)
    try:
        with begin_of(engine)() as connection:
            applying.sync(connection, sites, data_dir)
            storage_file.sync(connection, storages)
            shares.sync(connection, tree)
            quota_table.sync(connection, quotas)
            _keep_token(connection, data_dir / "token", ADMIN, [Role.ADMIN, Role.USER])
            _keep_token(connection, data_dir / "pilot-token", PILOT, [Role.PILOT])
    finally:
        engine.dispose()


def own_or_shipped(data_dir: Path, name: str) -> Path:
    """A file of this installation: `DIR/name` if it exists, else the one that comes with PanDA."""
    own = data_dir / name
    return own if own.exists() else shipped(f"config/{name}")


def _keep_token(connection: Connection, file: Path, owner: str, roles: list[Role]) -> None:
    if file.exists():
        try:
            tokens.verify(connection, file.read_text().strip())
            return
        except Unauthenticated:
            pass  # another database than the one that the file was made for
    plain = tokens.create(connection, owner=owner, roles=roles, label=file.name, ttl_s=None)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(plain + "\n")

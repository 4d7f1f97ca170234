"""A real Rucio server on loopback, with SQLite and RSEs that are folders. Runs in a venv of its own that has `rucio`
(`make test-rucio`), never in ours: `python rucio_site.py FOLDER serve PORT`, `… carry fine|broken`, `… tell SCOPE NAME`.

`carry` runs Rucio's own conveyor once: submitter, poller, finisher. Its `mock` transfer tool says of every transfer
that it is done, and moves nothing, so the bytes are copied here in between, where an FTS server would.
"""

import json
import os
import shutil
import sys
from pathlib import Path

RSES = ("NORTH", "SOUTH", "LAYOUT", "LISTED")
SCOPES = ("s", "user.alice")
ACCOUNT = "root"

CONFIG = """
[common]
logdir = {home}
loglevel = WARNING
[client]
rucio_host = http://127.0.0.1:{port}
auth_host = http://127.0.0.1:{port}
account = root
auth_type = userpass
username = ddmlab
password = secret
[database]
default = sqlite:///{home}/rucio.db
[bootstrap]
userpass_identity = ddmlab
userpass_pwd = secret
userpass_email = nobody@example.org
[policy]
permission = generic
schema = generic
lfn2pfn_algorithm_default = hash
[conveyor]
scheme = file
transfertool = mock
[alembic]
cfg = {home}/alembic.ini
"""
ALEMBIC = """
[alembic]
script_location = {migrations}
sqlalchemy.url = sqlite:///{home}/rucio.db
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARN
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(message)s
"""


def main() -> None:
    folder, verb, *more = sys.argv[1:]
    home = Path(folder).absolute()
    os.environ["RUCIO_CONFIG"] = str(home / "rucio.cfg")
    os.environ["HOME"] = str(home)
    if verb == "serve":
        serve(home, int(more[0]))
    elif verb == "tell":
        tell(*more)
    else:
        carry(is_broken=more[0] == "broken")


def serve(home: Path, port: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "rucio.cfg").write_text(CONFIG.format(home=home, port=port))
    import rucio.db.sqla

    migrations = Path(rucio.db.sqla.__file__).parent / "migrate_repo"
    (home / "alembic.ini").write_text(ALEMBIC.format(home=home, migrations=migrations))
    from rucio.db.sqla.util import build_database, create_base_vo, create_root_account

    build_database()
    create_base_vo()
    create_root_account()
    make_places(home)
    from rucio.web.rest.main import application
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", port, application, threaded=True)
    server.serve_forever()


def make_places(home: Path) -> None:
    """Two RSEs between which files may go, one with a layout of its own, one that wants to be told each place."""
    from rucio.common.types import InternalAccount, InternalScope
    from rucio.core import distance, rse, scope
    from rucio.core.account_limit import set_local_account_limit
    from rucio.db.sqla.constants import DatabaseOperationType
    from rucio.db.sqla.session import db_session

    root = InternalAccount(ACCOUNT)
    with db_session(DatabaseOperationType.WRITE) as session:
        for name in SCOPES:
            scope.add_scope(InternalScope(name), root, session=session)
        ids = {}
        for name in RSES:
            ids[name] = rse.add_rse(name, deterministic=name != "LISTED", session=session)
            rights = {"read": 1, "write": 1, "delete": 1, "third_party_copy_read": 1, "third_party_copy_write": 1}
            protocol = {
                "scheme": "file", "hostname": "localhost", "port": 0, "prefix": f"{home}/{name.lower()}/",
                "impl": "rucio.rse.protocols.posix.Default", "domains": {"lan": rights, "wan": rights},
            }  # fmt: skip
            rse.add_protocol(ids[name], protocol, session=session)
            (home / name.lower()).mkdir()
            set_local_account_limit(root, ids[name], 10**12, session=session)
        rse.add_rse_attribute(ids["LAYOUT"], "lfn2pfn_algorithm", "identity", session=session)
        for source, target in (("NORTH", "SOUTH"), ("SOUTH", "NORTH")):
            distance.add_distance(ids[source], ids[target], distance=1, session=session)


def carry(*, is_broken: bool) -> None:
    from rucio.core import request
    from rucio.daemons.conveyor.finisher import finisher
    from rucio.daemons.conveyor.poller import poller
    from rucio.daemons.conveyor.submitter import submitter
    from rucio.db.sqla.constants import RequestState
    from rucio.transfertool import mock

    def submit(tool, transfers, job_params, timeout=None):
        for transfer in transfers:
            source, target = (path_of(url) for url in (transfer.source_url(transfer.sources[0]), transfer.dest_url))
            if not is_broken:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        return "0"

    class Report(mock.MockTransferStatusReport):
        def __init__(self, request_id, external_id):
            super().__init__(request_id, external_id)
            self.state = RequestState.FAILED if is_broken else RequestState.DONE

    mock.MockTransferStatusReport = Report
    mock.MockTransfertool.submit = submit
    if is_broken:
        request.should_retry_request = lambda *_: False
    for daemon, more in ((submitter, {}), (poller, {"older_than": 0}), (finisher, {})):
        daemon(once=True, partition_wait_time=0, **more)


def tell(scope: str, name: str) -> None:
    """What Rucio's released client says of a file."""
    from rucio.client.didclient import DIDClient

    told = DIDClient().get_metadata(scope, name)
    print("told", json.dumps({"size_bytes": told["bytes"], "adler32": told["adler32"]}))


def path_of(url: str) -> str:
    return "/" + url.partition("://")[2].partition("/")[2]


if __name__ == "__main__":
    main()

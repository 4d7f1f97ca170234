"""What a job of upstream's pilot printed becomes a log of ours, so that `panda logs` shows it.

The pilot leaves a tar file with all its logs on the site's storage; payload's output is taken from there, and the tar
file goes. In debug mode the tail comes with each heartbeat, and a failure with the pilot's own last words.
"""

import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from panda.dataservice.movers.base import Place
from panda.dataservice.storage import mover_of
from panda.db.session import rows
from panda.dispatcher.words import Report
from panda.errors import PandaError
from panda.jobs import queries
from panda.jobs.spool import MAX_CHUNK_BYTES
from panda.logs import Log
from panda.upstream import offers
from panda.upstream.calls import House

log = Log("panda.upstream")

STORAGE = """
SELECT s.kind, s.root, coalesce((SELECT files FROM upstream_jobs u WHERE u.panda_id = j.panda_id), '[]') AS files
FROM jobs j JOIN queues q ON q.name = j.computing_site JOIN storages s ON s.name = q.storage
WHERE j.panda_id = ANY(%(panda_ids)s)
"""
#: Members of the pilot's tar file, by the name that they get here.
PAYLOADS = {"payload.stdout": "stdout", "payload.stderr": "stderr"}
#: Largest tar file that is looked into.
MAX_TAR_BYTES = 100_000_000


def keep(house: House, report: Report, words: Mapping[str, Any]) -> None:
    """Store what came with a report. What cannot be had is no reason to refuse the report."""
    try:
        if words.get("stdout"):
            _append(house, report, "debug", f"{words['stdout']}\n".encode())
        if report.status in ("finished", "failed", "cancelled"):
            if words.get("pilotLog"):
                _append(house, report, "pilot", f"{words['pilotLog']}\n".encode())
            _keep_payloads(house, report)
    except (PandaError, OSError, tarfile.TarError, EOFError) as problem:
        log.warning("log not kept", panda_id=report.panda_id, problem=str(problem))


def _append(house: House, report: Report, name: str, chunk: bytes) -> None:
    with house.begin() as connection:
        known = queries.logs(connection, report.panda_id)
        offset = next((r.size_bytes for r in known if (r.name, r.attempt_nr) == (name, report.attempt_nr)), 0)
        house.spool.append_log(
            connection, report.panda_id, report.attempt_nr, name, token=report.token, offset=offset, chunk=chunk
        )


def _keep_payloads(house: House, report: Report) -> None:
    with house.begin() as connection:
        found = rows(connection, STORAGE, {"panda_ids": [report.panda_id]})
    if not found:
        return
    lfn = offers.log_of(report.panda_id, report.attempt_nr, found[0].files)
    place = Place(found[0].root, offers.path_of(report.panda_id, report.attempt_nr, lfn))
    mover = mover_of(found[0].kind)
    try:
        if mover.size(place) > MAX_TAR_BYTES:
            return
        for name, chunk in _printed(mover.open(place)):
            _append(house, report, name, chunk)
    except FileNotFoundError:
        return
    mover.remove(place)


def _printed(stream: Any) -> Iterator[tuple[str, bytes]]:
    with stream, tarfile.open(fileobj=stream, mode="r|gz") as archive:
        for member in archive:
            name = PAYLOADS.get(member.name.rpartition("/")[2])
            file = archive.extractfile(member) if name and member.isfile() else None
            while name and file and (chunk := file.read(MAX_CHUNK_BYTES)):
                yield name, chunk

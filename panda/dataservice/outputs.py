"""What jobs write: where it goes, whether it is what the pilot said, and its way into the catalogue."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy.engine import Connection, Row

from panda.dataservice import catalog, waiting
from panda.dataservice.catalog import FileKey, NewFile
from panda.dataservice.movers.base import Content, Place, still
from panda.dataservice.storage import mover_of, output_path
from panda.db.session import Begin, rows, run
from panda.errors import Conflict
from panda.jobs.transitions import move_many
from panda.names import split_did
from panda.states import JobStatus, Stage

#: A checksum of a larger file would take longer than a stage may; the pilot's word stands for it then,
#: and every later transfer checks it.
CHECKSUM_UP_TO_BYTES = 2_000_000_000

TO_RESERVE = """
SELECT f.panda_id, f.lfn, f.did, j.attempt_nr, q.storage
FROM jobs j JOIN queues q ON q.name = j.computing_site
JOIN job_files f ON f.panda_id = j.panda_id AND f.kind = 'output'
WHERE f.panda_id = ANY(%(panda_ids)s) AND j.n_outputs > 0 AND f.status <> 'registered'
"""
RESERVE = """
UPDATE job_files f SET storage = r.storage, path = r.path, attempt_nr = r.attempt_nr
FROM unnest(%(panda_ids)s::bigint[], %(lfns)s::text[], %(storages)s::text[], %(paths)s::text[],
    %(attempt_nrs)s::smallint[]) AS r(panda_id, lfn, storage, path, attempt_nr)
WHERE f.panda_id = r.panda_id AND f.kind = 'output' AND f.lfn = r.lfn
"""
OUTPUTS = """
SELECT f.panda_id, f.lfn, f.did, f.status, f.size_bytes, f.adler32, f.guid, f.attempt_nr, f.storage, f.path,
    d.dataset_id, d.status AS dataset_status, s.kind, s.root, s.status AS storage_status
FROM jobs j JOIN job_files f ON f.panda_id = j.panda_id AND f.kind = 'output'
LEFT JOIN datasets d ON d.scope = split_part(f.did, ':', 1) AND d.name = split_part(f.did, ':', 2)
LEFT JOIN storages s ON s.name = f.storage
WHERE f.panda_id = ANY(%(panda_ids)s) AND j.n_outputs > 0 AND f.status <> 'registered'
ORDER BY f.panda_id, f.lfn
"""
REGISTERED = """
UPDATE job_files f SET status = 'registered', file_id = r.file_id, dataset_id = r.dataset_id
FROM unnest(%(panda_ids)s::bigint[], %(lfns)s::text[], %(file_ids)s::bigint[], %(dataset_ids)s::bigint[])
    AS r(panda_id, lfn, file_id, dataset_id)
WHERE f.panda_id = r.panda_id AND f.kind = 'output' AND f.lfn = r.lfn
"""
ELSEWHERE = """
SELECT j.panda_id FROM jobs j JOIN jobsets s ON s.jobset_id = j.jobset_id AND s.output_storage IS NOT NULL
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.n_outputs > 0 ORDER BY j.panda_id
"""


def reserve(connection: Connection, panda_ids: Sequence[int]) -> None:
    """Give every output of these jobs its place: the storage of the job's queue, a path of the attempt's own.

    The dispatcher tells the pilot; nothing is written to the storage here."""
    found = rows(connection, TO_RESERVE, {"panda_ids": list(panda_ids)})
    if not found:
        return
    paths = [
        output_path(*split_did(row.did, row.lfn), lfn=row.lfn, panda_id=row.panda_id, attempt_nr=row.attempt_nr)
        for row in found
    ]
    run(
        connection,
        RESERVE,
        {"panda_ids": [r.panda_id for r in found], "lfns": [r.lfn for r in found],
         "storages": [r.storage for r in found], "paths": paths, "attempt_nrs": [r.attempt_nr for r in found]},
    )  # fmt: skip


def verify(begin: Begin, panda_ids: Sequence[int]) -> dict[int, str]:
    """Look at the outputs that pilots reported: on their storage, of that size, with that checksum, and
    free to be registered under their name. Reads files, so it runs outside of any transaction.

    Returns: by PandaID what is wrong, in a sentence, for jobs that cannot finish.
    """
    with begin() as connection:
        outputs = rows(connection, OUTPUTS, {"panda_ids": list(panda_ids)})
        keys = [(row.dataset_id, row.lfn) for row in outputs if row.dataset_id is not None]
        known = catalog.known_files(connection, keys) if keys else {}
    problems: dict[int, str] = {}
    claimed: dict[FileKey, int] = {}
    for row in outputs:
        if row.panda_id in problems:
            continue
        problem = _wrong_name(row, known, claimed) or _wrong_content(row)
        if problem:
            problems[row.panda_id] = problem
    return problems


def register(connection: Connection, panda_ids: Sequence[int], *, deadline_s: float) -> list[int]:
    """Enter verified outputs into the catalogue, then ship those that their job set wants elsewhere.

    The caller holds the jobs' rows of `job_due`. Jobs whose outputs are on their way are `transferring`
    and parked for at most `deadline_s` seconds; their last transfer makes them due for `stage_out`.

    Returns: the PandaIDs whose outputs are where they belong, ascending.
    Raises:
        Conflict: another job took a name since `verify` looked; run again, `verify` says whose it is.
    """
    found = rows(connection, OUTPUTS, {"panda_ids": list(panda_ids)})
    if found:
        files = {(row.panda_id, row.lfn): _new_file(row) for row in found}
        done = catalog.register(connection, list(files.values()))
        for refusal in done.refused.values():
            raise refusal
        run(
            connection,
            REGISTERED,
            {"panda_ids": [i for i, _ in files], "lfns": [lfn for _, lfn in files],
             "file_ids": [done.file_ids[file.key] for file in files.values()],
             "dataset_ids": [file.dataset_id for file in files.values()]},
        )  # fmt: skip
    return ship(connection, panda_ids, deadline_s=deadline_s)


def ship(connection: Connection, panda_ids: Sequence[int], *, deadline_s: float) -> list[int]:
    """Send registered outputs to the storage that their job set names. Returns the PandaIDs that have nothing
    on its way, ascending; the others are parked."""
    elsewhere = [row.panda_id for row in rows(connection, ELSEWHERE, {"panda_ids": list(panda_ids)})]
    if not elsewhere:
        return sorted(panda_ids)
    shipped = waiting.await_files(
        connection, waiting.OUTPUTS_WANTED, elsewhere, stage=Stage.STAGE_OUT, deadline_s=deadline_s
    )
    move_many(connection, shipped, JobStatus.HOLDING, JobStatus.TRANSFERRING, by="stage_out", stage=Stage.STAGE_OUT)
    return sorted(set(panda_ids) - set(shipped))


def _wrong_name(row: Row[Any], known: dict[FileKey, Row[Any]], claimed: dict[FileKey, int]) -> str | None:
    if row.status != "written":
        return f"output {row.lfn} was not written"
    if row.dataset_id is None:
        return f"output dataset {row.did} is in no catalogue"
    there = known.get((row.dataset_id, row.lfn))
    if there is not None:
        return None if catalog.is_same(there, _new_file(row)) else str(catalog.exists(row.did, row.lfn, there))
    if row.dataset_status == "closed":
        return f"output dataset {row.did} is closed"
    first = claimed.setdefault((row.dataset_id, row.lfn), row.panda_id)
    return None if first == row.panda_id else f"job {first} writes {row.lfn} into dataset {row.did} too"


def _wrong_content(row: Row[Any]) -> str | None:
    if row.kind is None or row.path is None:
        return f"output {row.lfn} has no place on any storage"
    if row.storage_status != "online":
        return f"storage {row.storage}, which has output {row.lfn}, is {row.storage_status}"
    expected = Content(row.size_bytes, row.adler32)
    try:
        mover, place = mover_of(row.kind), Place(row.root, row.path)
        if row.size_bytes > CHECKSUM_UP_TO_BYTES:
            found = Content(mover.size(place), row.adler32)
        else:
            found = mover.measure(place, still)
    except FileNotFoundError:
        return f"output {row.lfn} is not on storage {row.storage}"
    except OSError as problem:
        return f"output {row.lfn} cannot be read on storage {row.storage}: {problem.strerror or problem}"
    if found == expected:
        return None
    return (
        f"output {row.lfn} holds {found.size_bytes} bytes with adler32 {found.adler32}, "
        f"the pilot reported {expected.size_bytes} with {expected.adler32}"
    )


def _new_file(row: Row[Any]) -> NewFile:
    if row.dataset_id is None or row.storage is None or row.path is None:
        raise Conflict(f"output {row.lfn} of job {row.panda_id} has no place", code="output_unplaced")
    return NewFile(
        dataset_id=row.dataset_id, lfn=row.lfn, guid=row.guid or str(uuid4()), size_bytes=row.size_bytes,
        adler32=row.adler32, storage=row.storage, path=row.path, panda_id=row.panda_id, attempt_nr=row.attempt_nr,
    )  # fmt: skip

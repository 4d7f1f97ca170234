"""What jobs write: where it goes, whether it is what the pilot said, and its way into the catalogue."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.dataservice import catalog, waiting
from panda.dataservice.catalog import FileKey, NewFile
from panda.dataservice.movers.base import Content, Place, still
from panda.dataservice.storage import keep, mover_of, output_path
from panda.db.session import Begin, rows, run
from panda.errors import Conflict
from panda.jobs.transitions import move_many
from panda.names import split_did
from panda.states import JobStatus, Stage

#: A checksum of a larger file would take longer than a stage may; the pilot's word stands for it then,
#: and every later transfer checks it.
CHECKSUM_UP_TO_BYTES = 2_000_000_000

TO_RESERVE = """
SELECT f.panda_id, f.lfn, f.did, j.attempt_nr, coalesce(q.write_storage, q.storage) AS storage,
    coalesce((SELECT value::int FROM engine_state WHERE key = 'era'), 0) AS era
FROM (SELECT * FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND n_outputs > 0 OFFSET 0) j
JOIN queues q ON q.name = j.computing_site,
    LATERAL (SELECT * FROM job_files
        WHERE panda_id = j.panda_id AND kind = 'output' AND status <> 'registered' OFFSET 0) f
"""
#: `files` holds an object for each output, by the name that `_key` gives it: so every row that is reached by its
#: index finds what is new about it at once.
RESERVE = """
UPDATE job_files SET (storage, path, attempt_nr) = (
    SELECT r.storage, r.path, r.attempt_nr FROM jsonb_to_record(%(files)s::jsonb -> (panda_id || '/' || lfn))
        AS r(storage text, path text, attempt_nr smallint))
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output' AND %(files)s::jsonb ? (panda_id || '/' || lfn)
"""
OUTPUTS = """
SELECT f.panda_id, f.lfn, f.did, f.status, f.size_bytes, f.adler32, f.guid, f.attempt_nr, f.storage, f.path,
    d.dataset_id, d.status AS dataset_status, s.kind, s.root, s.status AS storage_status
FROM (SELECT panda_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND n_outputs > 0 OFFSET 0) j
CROSS JOIN LATERAL (SELECT * FROM job_files
    WHERE panda_id = j.panda_id AND kind = 'output' AND status <> 'registered' OFFSET 0) f
LEFT JOIN LATERAL (SELECT dataset_id, status FROM datasets
    WHERE scope = split_part(f.did, ':', 1) AND name = split_part(f.did, ':', 2) OFFSET 0) d ON true
LEFT JOIN storages s ON s.name = f.storage
ORDER BY f.panda_id, f.lfn
"""
REGISTERED = """
UPDATE job_files SET (status, file_id, dataset_id) = (
    SELECT 'registered', r.file_id, r.dataset_id FROM jsonb_to_record(%(files)s::jsonb -> (panda_id || '/' || lfn))
        AS r(file_id bigint, dataset_id bigint))
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'output' AND %(files)s::jsonb ? (panda_id || '/' || lfn)
"""
ELSEWHERE = """
SELECT j.panda_id
FROM (SELECT panda_id, jobset_id FROM jobs WHERE panda_id = ANY(%(panda_ids)s) AND n_outputs > 0 OFFSET 0) j,
    LATERAL (SELECT FROM jobsets WHERE jobset_id = j.jobset_id AND output_storage IS NOT NULL OFFSET 0) s
ORDER BY j.panda_id
"""


class Away(str):
    """What is wrong now and may pass: the storage does not answer, or is offline."""


class Looked(dict[int, str]):
    """By PandaID what is wrong, in a sentence, for jobs that cannot finish; an `Away` if they may later."""

    def __init__(self, problems: Mapping[int, str], found: Sequence[Row[Any]]) -> None:
        super().__init__(problems)
        self._seen = _facts(found)

    def outdated(self, found: Sequence[Row[Any]]) -> list[int]:
        """Jobs whose outputs are not those that were looked at, ascending: another attempt reported since.

        Args:
            found: `reported` of these jobs as they are now, their rows of `job_due` locked."""
        now = _facts(found)
        return sorted(
            panda_id
            for panda_id in now.keys() | self.keys()
            if not now.get(panda_id, _NONE) <= self._seen.get(panda_id, _NONE)
            or (panda_id in self and now.get(panda_id, _NONE) != self._seen.get(panda_id, _NONE))
        )


_NONE: frozenset[Any] = frozenset()


def reserve(connection: Connection, panda_ids: Sequence[int]) -> None:
    """Give every output of these jobs its place: the storage that its queue writes to, a path of the attempt's own.

    The dispatcher tells the pilot; nothing is written to the storage here."""
    found = rows(connection, TO_RESERVE, {"panda_ids": list(panda_ids)})
    if not found:
        return
    places = {
        _key(row.panda_id, row.lfn): {
            "storage": row.storage,
            "path": output_path(
                *split_did(row.did, row.lfn),
                lfn=row.lfn,
                panda_id=row.panda_id,
                attempt_nr=row.attempt_nr,
                era=row.era,
            ),
            "attempt_nr": row.attempt_nr,
        }
        for row in found
    }
    run(connection, RESERVE, {"panda_ids": sorted({row.panda_id for row in found}), "files": _text(places)})


def verify(begin: Begin, panda_ids: Sequence[int]) -> Looked:
    """Look at the outputs that pilots reported: on their storage, of that size, with that checksum, and
    free to be registered under their name. Reads files, so it runs outside of any transaction."""
    with begin() as connection:
        outputs = reported(connection, panda_ids)
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
    return Looked(problems, outputs)


def reported(connection: Connection, panda_ids: Sequence[int]) -> list[Row[Any]]:
    """The outputs of these jobs that are not registered yet, by PandaID and name."""
    return rows(connection, OUTPUTS, {"panda_ids": list(panda_ids)})


def register(
    connection: Connection, panda_ids: Sequence[int], found: Sequence[Row[Any]], *, deadline_s: float
) -> list[int]:
    """Enter verified outputs (`found`) into the catalogue, then ship those that their job set wants elsewhere.

    The caller holds the jobs' rows of `job_due`. Jobs whose outputs are on their way are `transferring`
    and parked for at most `deadline_s` seconds; their last transfer makes them due for `stage_out`.

    Returns: the PandaIDs whose outputs are where they belong, ascending.
    Raises:
        Conflict: another job took a name since `verify` looked; run again, `verify` says whose it is.
    """
    if found:
        files = {(row.panda_id, row.lfn): _new_file(row) for row in found}
        done = catalog.register(connection, list(files.values()))
        for refusal in done.refused.values():
            raise refusal
        registered = {
            _key(*of): {"file_id": done.file_ids[file.key], "dataset_id": file.dataset_id} for of, file in files.items()
        }
        run(connection, REGISTERED, {"panda_ids": sorted({i for i, _ in files}), "files": _text(registered)})
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


def _facts(found: Sequence[Row[Any]]) -> dict[int, frozenset[Any]]:
    """By PandaID: what makes its outputs what they are."""
    facts: dict[int, set[Any]] = defaultdict(set)
    for row in found:
        facts[row.panda_id].add((row.lfn, row.status, row.size_bytes, row.adler32, row.attempt_nr, row.path))
    return {panda_id: frozenset(each) for panda_id, each in facts.items()}


def _key(panda_id: int, lfn: str) -> str:
    return f"{panda_id}/{lfn}"


def _text(files: Mapping[str, Any]) -> str:
    return msgspec.json.encode(files).decode()


def _wrong_name(row: Row[Any], known: dict[FileKey, Row[Any]], claimed: dict[FileKey, int]) -> str | None:
    if row.status != "written":
        return f"output {row.lfn} was not written"
    if row.dataset_id is None:
        return f"output dataset {row.did} is in no catalogue"
    there = known.get((row.dataset_id, row.lfn))
    if there is not None:
        return None if catalog.is_same(there, _new_file(row)) else str(catalog.exists(row.did, row.lfn, there))
    if row.dataset_status != "open":
        return f"output dataset {row.did} is {row.dataset_status}"
    first = claimed.setdefault((row.dataset_id, row.lfn), row.panda_id)
    return None if first == row.panda_id else f"job {first} writes {row.lfn} into dataset {row.did} too"


def _wrong_content(row: Row[Any]) -> str | None:
    if row.kind is None or row.path is None:
        return f"output {row.lfn} has no place on any storage"
    if row.storage_status != "online":
        return Away(f"storage {row.storage}, which has output {row.lfn}, is {row.storage_status}")
    expected = Content(row.size_bytes, row.adler32)
    try:
        mover, place = mover_of(row.kind), Place(row.root, row.path)
        if row.size_bytes > CHECKSUM_UP_TO_BYTES:
            found = Content(mover.size(place), row.adler32)
        else:
            found = mover.measure(place, still)
        if found == expected:
            keep(mover, place, found)
            return None
    except FileNotFoundError:
        return f"output {row.lfn} is not on storage {row.storage}"
    except OSError as problem:
        return Away(f"output {row.lfn} cannot be read on storage {row.storage}: {problem.strerror or problem}")
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

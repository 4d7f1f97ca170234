"""The catalogue: datasets, the files in them, and where their replicas are.

A dataset's row is the mutex of its names: whoever adds files locks it first, so of two that bring the
same name exactly one wins, and the other is told so.
"""

import errno
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from sqlalchemy.engine import Connection, Row

from panda.dataservice import recalls, space
from panda.dataservice.digests import Hashed, Told
from panda.dataservice.movers.base import Mover, Place, Stream, still
from panda.dataservice.storage import draft_path, file_path, mover_of
from panda.db.session import Begin, rows, run
from panda.errors import Conflict, NotFound, Unavailable
from panda.logs import Log
from panda.names import checked, split_did

log = Log("panda.catalog")

CREATE = """
INSERT INTO datasets (scope, name, owner, jobset_id, created_at)
VALUES (%(scope)s, %(name)s, %(owner)s, %(jobset_id)s, panda_now())
ON CONFLICT (scope, name) DO NOTHING RETURNING dataset_id
"""
#: A container has what its datasets have.
SHOW = """
SELECT d.scope || ':' || d.name AS dataset, d.kind, d.status, d.owner, d.jobset_id, d.created_at, d.pinned,
    d.expires_at, d.n_files + c.n_files AS n_files, d.size_bytes + c.size_bytes AS size_bytes
FROM (SELECT * FROM datasets WHERE scope = %(scope)s AND name = %(name)s OFFSET 0) d, LATERAL (
    SELECT coalesce(sum(m.n_files), 0)::bigint AS n_files, coalesce(sum(m.size_bytes), 0)::bigint AS size_bytes
    FROM dataset_members x JOIN datasets m ON m.dataset_id = x.dataset_id WHERE x.container_id = d.dataset_id) c
"""
FIND = """
SELECT d.dataset_id, d.scope || ':' || d.name AS dataset
FROM unnest(%(scopes)s::text[], %(names)s::text[]) AS w(scope, name) JOIN datasets d USING (scope, name)
"""
DATASETS = """
SELECT scope || ':' || name AS dataset, status, owner, jobset_id, n_files, size_bytes, created_at, pinned,
    expires_at
FROM datasets WHERE (scope, name) > (%(scope)s, %(name)s) ORDER BY scope, name LIMIT %(limit)s
"""
CLOSE = """
UPDATE datasets SET status = 'closed', closed_at = panda_now()
WHERE scope = %(scope)s AND name = %(name)s AND status = 'open'
"""
FREEZE = """
UPDATE datasets SET status = 'frozen', closed_at = coalesce(closed_at, panda_now())
WHERE scope = %(scope)s AND name = %(name)s AND status IN ('open', 'closed')
"""
#: Rules that had all of it look again.
REOPEN = """
WITH opened AS (
    UPDATE datasets SET status = 'open', closed_at = NULL, has_rules = NULL
    WHERE scope = %(scope)s AND name = %(name)s AND status = 'closed' RETURNING dataset_id),
looking AS (
    UPDATE dataset_rules SET done_at = NULL, due_at = panda_now() WHERE dataset_id IN (SELECT dataset_id FROM opened))
SELECT dataset_id FROM opened
"""
FILES = """
SELECT f.lfn, f.size_bytes, f.adler32, f.guid, f.sha256, f.md5,
    ARRAY(SELECT r.storage FROM replicas r WHERE r.file_id = f.file_id ORDER BY r.storage) AS storages
FROM datasets d, LATERAL (
    SELECT * FROM files WHERE dataset_id = d.dataset_id AND lfn > %(after)s ORDER BY lfn LIMIT %(limit)s) f
WHERE d.scope = %(scope)s AND d.name = %(name)s ORDER BY f.lfn
"""
FILE = """
SELECT f.lfn, f.size_bytes, f.adler32, f.guid, f.sha256, f.md5,
    ARRAY(SELECT r.storage FROM replicas r WHERE r.file_id = f.file_id ORDER BY r.storage) AS storages
FROM datasets d, LATERAL (SELECT * FROM files WHERE dataset_id = d.dataset_id AND lfn = %(lfn)s OFFSET 0) f
WHERE d.scope = %(scope)s AND d.name = %(name)s
"""
REPLICAS = """
SELECT s.kind, s.root, r.path, r.file_id, r.storage,
    s.stager <> '' AND NOT EXISTS (SELECT FROM recalls c
        WHERE c.file_id = r.file_id AND c.storage = r.storage AND c.status = 'online' OFFSET 0) AS on_tape
FROM datasets d, LATERAL (SELECT file_id FROM files WHERE dataset_id = d.dataset_id AND lfn = %(lfn)s OFFSET 0) f,
    LATERAL (SELECT file_id, storage, path FROM replicas WHERE file_id = f.file_id OFFSET 0) r, storages s
WHERE d.scope = %(scope)s AND d.name = %(name)s AND s.name = r.storage AND s.status = 'online'
ORDER BY s.stager <> '', s.name
"""
STORAGE = "SELECT kind, root, status FROM storages WHERE name = %(name)s"
LOCK = """
SELECT dataset_id, scope || ':' || name AS dataset, status, kind FROM datasets
WHERE dataset_id = ANY(%(dataset_ids)s) ORDER BY dataset_id FOR NO KEY UPDATE
"""
KNOWN = """
SELECT f.dataset_id, f.lfn, f.file_id, f.size_bytes, f.adler32, f.panda_id
FROM unnest(%(dataset_ids)s::bigint[], %(lfns)s::text[]) AS w(dataset_id, lfn),
    LATERAL (SELECT * FROM files WHERE dataset_id = w.dataset_id AND lfn = w.lfn OFFSET 0) f
"""
REGISTER = """
WITH made AS (
    INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, panda_id, attempt_nr, sha256, created_at)
    SELECT n.*, panda_now() FROM unnest(%(dataset_ids)s::bigint[], %(lfns)s::text[], %(guids)s::text[],
        %(sizes)s::bigint[], %(adler32s)s::text[], %(panda_ids)s::bigint[], %(attempt_nrs)s::smallint[],
        %(sha256s)s::text[]) AS n
    RETURNING file_id, dataset_id, lfn, size_bytes),
counted AS (
    UPDATE datasets d SET n_files = d.n_files + m.n_files, size_bytes = d.size_bytes + m.size_bytes
    FROM (SELECT dataset_id, count(*) AS n_files, sum(size_bytes) AS size_bytes FROM made GROUP BY dataset_id) m
    WHERE d.dataset_id = m.dataset_id)
SELECT file_id, dataset_id, lfn FROM made
"""
#: What comes to lie on a storage is counted at once, for the owner of its dataset; a copy for jobs is nobody's.
PLACE = """
WITH placed AS (
    INSERT INTO replicas (file_id, storage, path, created_at, is_copy, needed_at)
    SELECT r.*, panda_now(), %(is_copy)s, CASE WHEN %(is_copy)s THEN panda_now() END
    FROM unnest(%(file_ids)s::bigint[], %(storages)s::text[], %(paths)s::text[]) AS r
    ON CONFLICT DO NOTHING RETURNING file_id, storage)
INSERT INTO storage_use_deltas (storage, owner, n_files, n_bytes)
SELECT p.storage, CASE WHEN %(is_copy)s THEN '' ELSE d.owner END, count(*), sum(f.size_bytes)
FROM placed p, LATERAL (SELECT dataset_id, size_bytes FROM files WHERE file_id = p.file_id OFFSET 0) f,
    LATERAL (SELECT owner FROM datasets WHERE dataset_id = f.dataset_id OFFSET 0) d
GROUP BY 1, 2
"""
#: Beside the insertion, which is that of all outputs too: nobody says theirs.
NOTE_MD5 = "UPDATE files SET md5 = %(md5)s WHERE file_id = ANY(%(file_ids)s) AND md5 IS NULL"

#: A file's place in the catalogue: dataset_id and lfn.
FileKey = tuple[int, str]


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """A file to register, with its first replica."""

    dataset_id: int
    lfn: str
    guid: str
    size_bytes: int
    adler32: str
    storage: str
    path: str
    panda_id: int | None = None
    """The job that made it; None: a person put it."""
    attempt_nr: int | None = None
    sha256: str | None = None
    """Of what passed through our hands; of outputs nobody says it."""

    @property
    def key(self) -> FileKey:
        return self.dataset_id, self.lfn


@dataclass(frozen=True)
class Registered:
    """What became of files that were to be registered."""

    file_ids: dict[FileKey, int]
    """Those in the catalogue now, also those that were there before with the same content and origin."""
    refused: dict[FileKey, Conflict]
    """The others, and why: `dataset_closed`, `file_exists`."""


UNTOLD = Told()


class OnTape(Unavailable):
    """The file lies on tape; it is being brought online, and can be had then."""

    code = "on_tape"
    retry_after_s = 60


def create(connection: Connection, did: str, *, owner: str, jobset_id: int | None = None) -> int:
    """Make a dataset; making one's own again is no error. Returns its dataset_id.

    Raises:
        Invalid: `did` is no `scope:name`.
        Conflict: it exists and is closed (`dataset_closed`), is going (`dataset_deleting`) or belongs to
            somebody else (`dataset_exists`).
    """
    scope, name = split_did(did, "dataset")
    made = rows(connection, CREATE, {"scope": scope, "name": name, "owner": owner, "jobset_id": jobset_id})
    if made:
        return int(made[0].dataset_id)
    found = show(connection, did)
    if found.owner != owner or found.kind != "dataset":
        raise Conflict(f"{found.kind} {did} belongs to {found.owner}", code="dataset_exists")
    if found.status != "open":
        raise closed(did, found.status)
    return find(connection, [did])[did]


def show(connection: Connection, did: str) -> Row[Any]:
    """One dataset or container: dataset, kind, status, owner, n_files, size_bytes, jobset_id (that made it),
    created_at, pinned, expires_at.

    Raises:
        Invalid: `did` is no `scope:name`.
        NotFound: no such dataset.
    """
    scope, name = split_did(did, "dataset")
    found = rows(connection, SHOW, {"scope": scope, "name": name})
    if not found:
        raise NotFound("dataset", did)
    return found[0]


def find(connection: Connection, dids: Collection[str]) -> dict[str, int]:
    """dataset_id by `scope:name`, for those that exist. Raises Invalid."""
    names = [split_did(did, "dataset") for did in dids]
    found = rows(connection, FIND, {"scopes": [s for s, _ in names], "names": [n for _, n in names]})
    return {row.dataset: row.dataset_id for row in found}


def datasets(connection: Connection, after: str = "", limit: int = 500) -> list[Row[Any]]:
    """Datasets by name, those beyond the dataset `after`; columns as in `show`. Raises Invalid."""
    scope, name = split_did(after, "after") if after else ("", "")
    return rows(connection, DATASETS, {"scope": scope, "name": name, "limit": limit})


def close(connection: Connection, did: str) -> bool:
    """No file joins it any more. Returns whether it was open.

    Raises:
        NotFound: no such dataset.
    """
    show(connection, did)
    scope, name = split_did(did, "dataset")
    return run(connection, CLOSE, {"scope": scope, "name": name}) == 1


def freeze(connection: Connection, did: str) -> None:
    """No file joins it, for ever. Freezing a frozen one changes nothing.

    Raises:
        NotFound: no such dataset. Conflict: it is being deleted.
    """
    _change(connection, FREEZE, did, then="frozen")


def reopen(connection: Connection, did: str) -> None:
    """Files may join it again. Opening an open one changes nothing.

    Raises:
        NotFound: no such dataset. Conflict: it is frozen (`dataset_frozen`), or being deleted.
    """
    _change(connection, REOPEN, did, then="open")


def _change(connection: Connection, sql: str, did: str, *, then: str) -> None:
    scope, name = split_did(did, "dataset")
    status = show(connection, did).status
    if status == then or run(connection, sql, {"scope": scope, "name": name}):
        return
    status = show(connection, did).status  # it may have changed since
    if status == "frozen":
        raise Conflict(f"dataset {did} is frozen, for ever", code="dataset_frozen")
    if status != then:
        raise closed(did, status)


def files_of(connection: Connection, did: str, *, after: str = "", limit: int = 500) -> list[Row[Any]]:
    """Files of a dataset in order of name, those beyond `after`: lfn, size_bytes, adler32, guid and `storages`,
    the names of the storages that have it.

    Raises:
        NotFound: no such dataset. Conflict: it is a container (`is_container`).
    """
    _check_has_files(did, show(connection, did).kind)
    scope, name = split_did(did, "dataset")
    return rows(connection, FILES, {"scope": scope, "name": name, "after": after, "limit": limit})


def put(
    begin: Begin,
    did: str,
    lfn: str,
    stream: Stream,
    *,
    storage: str,
    owner: str,
    cap_bytes: int,
    told: Told = UNTOLD,
    announced_bytes: int = 0,
) -> Row[Any]:
    """Store a file and register it; the very same file again is no error.

    The bytes are on disk under a draft's name before the catalogue hears of them; they get their own
    name and their row in one transaction.

    Args:
        announced_bytes: how large it is said to be: what has no room is refused before it is read.
    Returns: its row, as `files_of` has it.
    Raises:
        Invalid: a bad name, or bytes that are not what was `told` of them (`wrong_checksum`).
        NotFound: no such dataset or storage.
        Conflict: the dataset is closed (`dataset_closed`) or has another file of that name (`file_exists`); or the
            dataset's owner may keep no more there (`storage_quota_reached`).
        TooLarge: more than `cap_bytes`.
        Unavailable: the storage is offline, refuses or is full (`no_room`).
    """
    scope, name = split_did(did, "dataset")
    key = {"scope": scope, "name": name, "lfn": checked(lfn, "lfn")}
    with begin() as connection:
        dataset = show(connection, did)
        _check_has_files(did, dataset.kind)
        is_new = not rows(connection, FILE, key)
        if dataset.status != "open" and is_new:
            raise closed(did, dataset.status)
        mover, root = _writable(connection, storage)
        if is_new:
            space.require_room(connection, storage, dataset.owner, announced_bytes)
    draft = Place(root, draft_path(scope, name, uuid.uuid4().hex))
    path = file_path(scope, name, lfn)
    try:
        hashed = Hashed(stream, told)
        content = mover.write(draft, hashed, cap_bytes, still)
        hashed.check(content, lfn)
        with begin() as connection:
            file = NewFile(
                dataset_id=find(connection, [did])[did], lfn=lfn, guid=told.guid or str(uuid.uuid4()),
                size_bytes=content.size_bytes, adler32=content.adler32, sha256=hashed.sha256, storage=storage,
                path=path,
            )  # fmt: skip
            done = register(connection, [file])
            if done.refused:
                raise done.refused[file.key]
            if told.md5 is not None:
                run(connection, NOTE_MD5, {"md5": told.md5, "file_ids": [done.file_ids[file.key]]})
            [stored] = rows(connection, FILE, key)
            if stored.sha256 not in (None, hashed.sha256):  # the same adler32 by chance
                raise exists(did, lfn, None)
            if is_new:
                space.require_room(connection, storage, dataset.owner, 0)  # it is counted already
            mover.rename(draft, path)  # nobody else can: the dataset's row is ours until the commit
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            raise space.NoRoom(f"storage {storage} is full: {problem.strerror}") from problem
        raise Unavailable(f"storage {storage}: {problem.strerror or problem}") from problem
    finally:
        with suppress(OSError):
            mover.remove(draft)
    log.info("file stored", dataset=did, lfn=lfn, storage=storage, by=owner, size_bytes=content.size_bytes)
    return stored


def open_file(begin: Begin, did: str, lfn: str) -> tuple[BinaryIO, int, str]:
    """The bytes of a file from the first replica that can be read; its size in bytes, its adler32.

    Raises:
        NotFound: no such file.
        Unavailable: no replica can be read now. OnTape: it lies on tape alone; it is being brought online.
    """
    scope, name = split_did(did, "dataset")
    key = {"scope": scope, "name": name, "lfn": checked(lfn, "lfn")}
    with begin() as connection:
        found = rows(connection, FILE, key)
        replicas = rows(connection, REPLICAS, key)
    if not found:
        raise NotFound("file", f"{did}/{lfn}")
    for replica in replicas:
        if replica.on_tape:
            continue
        try:
            stream = mover_of(replica.kind).open(Place(replica.root, replica.path))
        except OSError as problem:
            log.warning("replica cannot be read", path=replica.path, root=replica.root, problem=str(problem))
        else:
            return stream, found[0].size_bytes, found[0].adler32
    tapes = [replica for replica in replicas if replica.on_tape]
    if tapes:
        with begin() as connection:
            recalls.want_for_reader(connection, (tapes[0].file_id, tapes[0].storage))
        raise OnTape(f"{did}/{lfn} lies on tape {tapes[0].storage}; it is being brought online: ask again")
    raise Unavailable(f"no replica of {did}/{lfn} can be read now")


def register(connection: Connection, files: Sequence[NewFile]) -> Registered:
    """Enter files and their replicas. One that cannot be is refused alone; the others are entered."""
    if not files:
        return Registered({}, {})
    dataset_ids = sorted({file.dataset_id for file in files})
    locked = {row.dataset_id: row for row in rows(connection, LOCK, {"dataset_ids": dataset_ids})}
    known = known_files(connection, [file.key for file in files])
    file_ids: dict[FileKey, int] = {}
    refused: dict[FileKey, Conflict] = {}
    new: dict[FileKey, NewFile] = {}
    for file in files:
        dataset = locked[file.dataset_id]
        there = known.get(file.key)
        if there is not None and is_same(there, file):
            file_ids[file.key] = there.file_id
        elif there is not None or file.key in new:
            refused[file.key] = exists(dataset.dataset, file.lfn, there)
        elif dataset.status != "open":
            refused[file.key] = closed(dataset.dataset, dataset.status)
        else:
            new[file.key] = file
    file_ids |= _enter(connection, list(new.values()))
    place_replicas(connection, [(file_ids[f.key], f.storage, f.path) for f in files if f.key not in refused])
    return Registered(file_ids, refused)


def known_files(connection: Connection, keys: Sequence[FileKey]) -> dict[FileKey, Row[Any]]:
    """What the catalogue has under these names: file_id, size_bytes, adler32, panda_id."""
    found = rows(connection, KNOWN, {"dataset_ids": [k[0] for k in keys], "lfns": [k[1] for k in keys]})
    return {(row.dataset_id, row.lfn): row for row in found}


def is_same(known: Row[Any], file: NewFile) -> bool:
    """Whether `file` is the one that the catalogue has: same content, same origin."""
    same_content = (known.size_bytes, known.adler32) == (file.size_bytes, file.adler32)
    return same_content and known.panda_id == file.panda_id


def exists(dataset: str, lfn: str, known: Row[Any] | None) -> Conflict:
    """The error for a name that is taken."""
    by = f", from job {known.panda_id}" if known is not None and known.panda_id else ""
    return Conflict(f"dataset {dataset} has another file {lfn} already{by}", code="file_exists")


def place_replicas(connection: Connection, replicas: Sequence[tuple[int, str, str]], *, is_copy: bool = False) -> None:
    """Enter replicas (file_id, storage, path); those that are known stay as they are. `is_copy`: they are there for
    jobs alone, and go when none needs them."""
    ordered = sorted(set(replicas))
    values = {"file_ids": [r[0] for r in ordered], "storages": [r[1] for r in ordered]}
    run(connection, PLACE, values | {"paths": [r[2] for r in ordered], "is_copy": is_copy})


def _check_has_files(did: str, kind: str) -> None:
    if kind == "container":
        raise Conflict(f"{did} is a container: its datasets have the files", code="is_container")


def closed(did: str, status: str) -> Conflict:
    """The error for a dataset that takes nothing more."""
    if status == "deleting":
        return Conflict(f"dataset {did} is being deleted", code="dataset_deleting")
    return Conflict(f"dataset {did} is {status}", code="dataset_closed")


def _writable(connection: Connection, storage: str) -> tuple[Mover, str]:
    """The mover and the root of a storage that is online."""
    found = rows(connection, STORAGE, {"name": storage})
    if not found:
        raise NotFound("storage", storage)
    if found[0].status != "online":
        raise Unavailable(f"storage {storage} is {found[0].status}")
    return mover_of(found[0].kind), found[0].root


def _enter(connection: Connection, files: Sequence[NewFile]) -> dict[FileKey, int]:
    if not files:
        return {}
    made = rows(
        connection,
        REGISTER,
        {"dataset_ids": [f.dataset_id for f in files], "lfns": [f.lfn for f in files],
         "guids": [f.guid for f in files], "sizes": [f.size_bytes for f in files],
         "adler32s": [f.adler32 for f in files], "panda_ids": [f.panda_id for f in files],
         "attempt_nrs": [f.attempt_nr for f in files], "sha256s": [f.sha256 for f in files]},
    )  # fmt: skip
    return {(row.dataset_id, row.lfn): row.file_id for row in made}

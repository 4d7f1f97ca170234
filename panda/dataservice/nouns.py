"""Datasets and files as they can be listed."""

from panda.db.lists import Noun, Order, Walk
from panda.query import Cost, Expression, Field, Fields, Kind, words_of
from panda.states import DatasetStatus

_DID = "(r.scope || ':' || r.name)"
DATASETS_SHOWN = """
SELECT d.dataset_id, d.scope || ':' || d.name AS dataset, d.kind, d.status, d.owner, d.n_files + c.n_files AS n_files,
    d.size_bytes + c.size_bytes AS size_bytes, d.jobset_id, d.created_at, d.closed_at, d.pinned, d.expires_at
FROM (SELECT * FROM datasets WHERE dataset_id = ANY(%(ids)s) OFFSET 0) d, LATERAL (
    SELECT coalesce(sum(m.n_files), 0)::bigint AS n_files, coalesce(sum(m.size_bytes), 0)::bigint AS size_bytes
    FROM dataset_members x JOIN datasets m ON m.dataset_id = x.dataset_id WHERE x.container_id = d.dataset_id) c
"""
FILES_SHOWN = """
SELECT f.file_id, d.scope || ':' || d.name AS dataset, f.lfn, f.size_bytes, f.adler32, f.sha256, f.md5, f.guid,
    f.panda_id, f.attempt_nr, f.created_at,
    ARRAY(SELECT r.storage FROM replicas r WHERE r.file_id = f.file_id ORDER BY r.storage) AS storages
FROM (SELECT * FROM files WHERE file_id = ANY(%(ids)s) OFFSET 0) f,
    LATERAL (SELECT scope, name FROM datasets WHERE dataset_id = f.dataset_id OFFSET 0) d
"""
_BY_JOBSET = (
    """dataset_id = ANY(ARRAY(SELECT dataset_id FROM datasets WHERE jobset_id = %(w_jobset)s LIMIT {window}))"""
)
_DATASET_ID = "(SELECT dataset_id FROM datasets WHERE scope = %(w_scope)s AND name = %(w_name)s)"


def _halves(did: str) -> dict[str, str]:
    scope, _, name = did.partition(":")
    return {"w_scope": scope, "w_name": name}


def walk_datasets(expression: Expression) -> Walk:
    """By name or by job set, if there is one."""
    names, jobsets = words_of(expression, "dataset"), words_of(expression, "jobset")
    if names is not None and len(names) == 1:
        values = _halves(str(names[0]))
        return Walk(("datasets",), where="(scope, name) = (%(w_scope)s, %(w_name)s)", values=values)
    if jobsets is not None and len(jobsets) == 1:
        return Walk(("datasets",), where=_BY_JOBSET, values={"w_jobset": jobsets[0]})
    return Walk(("datasets",))


DATASETS = Noun(
    name="dataset",
    fields=Fields(
        Field("dataset", Kind.TEXT, _DID, "`scope:name`", Cost.INDEX, aliases=("did",)),
        Field("scope", Kind.TEXT, "r.scope"),
        Field("name", Kind.TEXT, "r.name"),
        Field("owner", Kind.TEXT, "r.owner", aliases=("user",)),
        Field("kind", Kind.WORD, "r.kind", words=("dataset", "container")),
        Field("status", Kind.WORD, "r.status", words=tuple(map(str, DatasetStatus)), aliases=("state",)),
        Field("jobset", Kind.WHOLE, "r.jobset_id", "that made it", Cost.INDEX, is_nullable=True, aliases=("set",)),
        Field("n_files", Kind.WHOLE, "r.n_files", aliases=("files",)),
        Field("size", Kind.WHOLE, "r.size_bytes", "in bytes", aliases=("size_bytes",)),
        Field("created", Kind.TIME, "r.created_at", aliases=("created_at",)),
        Field("pinned", Kind.FLAG, "r.pinned"),
        Field("expires", Kind.TIME, "r.expires_at", is_nullable=True, aliases=("expires_at",)),
        Field("closed", Kind.TIME, "r.closed_at", is_nullable=True, aliases=("closed_at",)),
    ),
    columns="dataset_id, scope, name, kind, owner, status, jobset_id, n_files, size_bytes, created_at, closed_at, "
    "pinned, expires_at",
    identity=("dataset_id",),
    orders={
        "name": Order(("scope", "name"), ("text", "text"), newest_first=False, separator=":"),
        "created": Order(("dataset_id",)),
    },
    walk=walk_datasets,
    show=DATASETS_SHOWN,
)


def walk_files(expression: Expression) -> Walk:
    """By dataset, if there is one: then by name."""
    ids, datasets = words_of(expression, "file"), words_of(expression, "dataset")
    if ids is not None:
        return Walk(("files",), where="file_id = ANY(%(w_ids)s::bigint[])", values={"w_ids": list(ids)})
    if datasets is not None and len(datasets) == 1:
        by_name = Order(("lfn",), ("text",), newest_first=False)
        values = _halves(str(datasets[0]))
        return Walk(("files",), equal=(("dataset_id", _DATASET_ID),), values=values, order=by_name)
    return Walk(("files",))


FILES = Noun(
    name="file",
    fields=Fields(
        Field("file", Kind.WHOLE, "r.file_id", cost=Cost.INDEX, aliases=("id", "file_id")),
        Field(
            "dataset",
            Kind.TEXT,
            "(SELECT d.scope || ':' || d.name FROM datasets d WHERE d.dataset_id = r.dataset_id)",
            "`scope:name`",
            Cost.INDEX,
            aliases=("did",),
        ),
        Field("lfn", Kind.TEXT, "r.lfn", aliases=("name",)),
        Field("guid", Kind.TEXT, "r.guid"),
        Field("adler32", Kind.TEXT, "r.adler32"),
        Field("size", Kind.WHOLE, "r.size_bytes", "in bytes", aliases=("size_bytes",)),
        Field("job", Kind.WHOLE, "r.panda_id", "that wrote it", is_nullable=True, aliases=("panda_id",)),
        Field(
            "storage",
            Kind.WORDS,
            "ARRAY(SELECT p.storage FROM replicas p WHERE p.file_id = r.file_id)",
            "where it lies",
            Cost.PROBE,
        ),
        Field("created", Kind.TIME, "r.created_at", aliases=("created_at",)),
    ),
    columns="file_id, dataset_id, lfn, guid, adler32, size_bytes, panda_id, created_at",
    identity=("file_id",),
    orders={"created": Order(("file_id",))},
    walk=walk_files,
    show=FILES_SHOWN,
)

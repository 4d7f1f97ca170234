"""Datasets and files: what there is, where it lies, and who made it."""

import shlex
from dataclasses import replace
from urllib.parse import quote

import falcon
from sqlalchemy.engine import Connection

from monitoring.pages.listing import Listing, ListPage, ask
from monitoring.pages.page import session_of
from monitoring.reads.queries import Facts, facts
from monitoring.show import render, tables
from panda.auth import policy
from panda.auth.policy import Action
from panda.dataservice import lineage
from panda.dataservice.nouns import DATASETS, FILES
from panda.errors import NotFound
from panda.names import split_did
from panda.query import equal_to

FILES_SHOWN = 100
#: Of a dataset: files that replicas are counted of, and files whose readers are looked for.
FILES_COUNTED, FILES_ASKED = 10_000, 50
#: Readers of a file that its page names.
READERS_SHOWN = 50

#: A container has what its datasets have.
_SHOWN = """
SELECT d.dataset_id, d.scope, d.name, d.kind, d.status, d.owner, d.jobset_id, d.n_files + c.n_files AS n_files,
    d.size_bytes + c.size_bytes AS size_bytes, d.created_at, d.closed_at
"""
_INSIDE = """
LATERAL (
    SELECT coalesce(sum(m.n_files), 0)::bigint AS n_files, coalesce(sum(m.size_bytes), 0)::bigint AS size_bytes
    FROM dataset_members x JOIN datasets m ON m.dataset_id = x.dataset_id WHERE x.container_id = d.dataset_id) c
"""
SHOWN = f"""
{_SHOWN} FROM (SELECT * FROM datasets WHERE dataset_id = ANY(%(ids)s) OFFSET 0) d, {_INSIDE}
"""
DATASET = f"""
{_SHOWN} FROM (SELECT * FROM datasets WHERE scope = %(scope)s AND name = %(name)s OFFSET 0) d, {_INSIDE}
"""
MEMBERS = """
SELECT d.scope, d.name, d.status, d.owner, d.n_files, d.size_bytes, d.created_at
FROM dataset_members m JOIN datasets d ON d.dataset_id = m.dataset_id WHERE m.container_id = %(dataset_id)s
ORDER BY d.scope, d.name LIMIT 500
"""
#: Where it is wanted, and how much lacked there at the last look.
RULES = """
SELECT storage, made_by, n_lacking, error, done_at FROM dataset_rules WHERE dataset_id = %(dataset_id)s ORDER BY storage
"""
REPLICAS = """
SELECT storage, path, created_at FROM replicas WHERE file_id = %(file_id)s ORDER BY file_id, storage LIMIT 2000
"""
FILE = """
SELECT file_id, lfn, guid, size_bytes, adler32, panda_id, attempt_nr, created_at FROM files
WHERE dataset_id = %(dataset_id)s AND lfn = %(lfn)s
"""
#: On the way, and those that ended in the last week: then they are forgotten.
MOVED = """
SELECT transfer_id, source, destination, status, tries, error, created_at, ended_at, jobset_id, owner FROM (
    SELECT * FROM transfers WHERE file_id = %(file_id)s ORDER BY file_id LIMIT 1000) AS mine
ORDER BY transfer_id DESC LIMIT 50
"""
WRITERS = """
SELECT jobset_id, name, owner, n_finished FROM jobsets WHERE output_dataset_id = %(dataset_id)s
ORDER BY output_dataset_id LIMIT 50
"""
#: Where the files of a dataset lie, of the first 10,000 by name.
BY_STORAGE = f"""
SELECT r.storage, s.site, count(*) AS n_files, sum(f.size_bytes)::bigint AS size_bytes, max(r.created_at) AS last_at
FROM (SELECT file_id, size_bytes FROM files WHERE dataset_id = %(dataset_id)s
        ORDER BY dataset_id, lfn LIMIT {FILES_COUNTED}) f,
    LATERAL (SELECT storage, created_at FROM replicas WHERE file_id = f.file_id OFFSET 0) r
LEFT JOIN storages s ON s.name = r.storage
GROUP BY r.storage, s.site ORDER BY n_files DESC, r.storage LIMIT 200
"""
#: Job sets whose jobs read files of a dataset: of its first files by name, the newest readers of each.
READERS = f"""
SELECT x.jobset_id, s.name, s.owner, count(DISTINCT x.panda_id) AS n_jobs, count(DISTINCT x.file_id) AS n_files
FROM (
    SELECT f.file_id, r.panda_id, coalesce(j.jobset_id, a.jobset_id) AS jobset_id
    FROM (SELECT file_id FROM files WHERE dataset_id = %(dataset_id)s
            ORDER BY dataset_id, lfn LIMIT {FILES_ASKED}) f,
        LATERAL (SELECT panda_id FROM job_files WHERE file_id + 0 = f.file_id AND kind = 'input'
            ORDER BY file_id + 0, -panda_id LIMIT 20) r
    LEFT JOIN LATERAL (SELECT jobset_id FROM jobs WHERE panda_id = r.panda_id OFFSET 0) j ON true
    LEFT JOIN LATERAL (SELECT jobset_id FROM jobs_archive WHERE panda_id = r.panda_id OFFSET 0) a ON true) x
JOIN LATERAL (SELECT name, owner FROM jobsets WHERE jobset_id = x.jobset_id OFFSET 0) s ON true
GROUP BY x.jobset_id, s.name, s.owner ORDER BY x.jobset_id DESC LIMIT 50
"""
#: Transfers of the first files of a dataset, by way: under way, and of the last week.
WAYS = f"""
SELECT source, destination, status, count(*) AS n, max(coalesce(ended_at, created_at)) AS last_at,
    max(error) FILTER (WHERE status <> 'done') AS error
FROM (SELECT source, destination, status, ended_at, created_at, error FROM transfers
    WHERE file_id = ANY(ARRAY(SELECT file_id FROM files WHERE dataset_id = %(dataset_id)s
        ORDER BY dataset_id, lfn LIMIT {FILES_SHOWN})) LIMIT 5000) AS moved
GROUP BY source, destination, status ORDER BY last_at DESC LIMIT 50
"""


LISTING = Listing(
    replace(DATASETS, show=SHOWN), "/datasets", "datasets", "panda datasets",
    "owner:anna name:*reco status:open size>1000000 created:7d", sort="-created",
)  # fmt: skip
FILES_LISTED = Listing(
    FILES, "/files", "files", "panda files", "dataset:user.anna:input lfn:*.root storage:NORTH-DISK created:24h"
)
#: In a dataset.
EXAMPLE = "lfn:*.root size>1000000 storage:NORTH-DISK job:4711"


class Datasets(ListPage):
    """/datasets?q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.READ_DATA)
        asked = ask(req, LISTING, tables.COLUMNS["datasets.html"])
        self._list(req, resp, "datasets.html", asked, asked.expression)


class Files(ListPage):
    """/files?q="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        policy.require(session_of(req).identity, Action.READ_DATA)
        asked = ask(req, FILES_LISTED, tables.COLUMNS["files.html"])
        self._list(req, resp, "files.html", asked, asked.expression)


class Dataset(ListPage):
    """/datasets/{did}?q=: one dataset, and the list of its files."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        identity = session_of(req).identity
        policy.require(identity, Action.READ_DATA)
        owner = policy.scope(identity, Action.READ_JOBS, None)
        within = equal_to(FILES.fields["dataset"], did)
        listing = replace(
            FILES_LISTED, path=f"/datasets/{quote(did, safe=':')}", within=within, example=EXAMPLE, size=FILES_SHOWN
        )
        asked = ask(req, listing, tables.COLUMNS["dataset.html"])
        dataset = self._find(did)
        reader, this = self._parts.reader, {"dataset_id": dataset["dataset_id"]}
        data = {} if render.wants_csv(req) else {
            "dataset": dataset,
            "members": reader.block(lambda c: facts(c, MEMBERS, this)),
            "rules": reader.block(lambda c: facts(c, RULES, this)),
            "written_by": reader.block(lambda c: _named(facts(c, WRITERS, this), owner)),
            "read_by": reader.block(lambda c: _named(facts(c, READERS, this), owner)),
            "by_storage": reader.block(lambda c: facts(c, BY_STORAGE, this)),
            "moved": reader.block(lambda c: facts(c, WAYS, this)),
        }  # fmt: skip
        self._list(req, resp, "dataset.html", asked, asked.expression, data=data, n_asked=FILES_ASKED,
                   n_counted=FILES_COUNTED, n_moved=FILES_SHOWN)  # fmt: skip

    def _find(self, did: str) -> dict[str, object]:
        scope, name = split_did(did, "dataset")
        found = self._parts.reader.ask(lambda c: facts(c, DATASET, {"scope": scope, "name": name}))
        if not found:
            raise NotFound("dataset", did)
        return found[0]


class File(Dataset):
    """/files/{did}/{lfn}"""

    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str, lfn: str = "") -> None:
        policy.require(session_of(req).identity, Action.READ_DATA)
        dataset, reader = self._find(did), self._parts.reader
        found = reader.ask(lambda c: facts(c, FILE, {"dataset_id": dataset["dataset_id"], "lfn": lfn}))
        if not found:
            raise NotFound("file", f"{did}/{lfn}")
        file_id = found[0]["file_id"]
        data = {
            "dataset": dataset, "file": found[0],
            "replicas": reader.block(lambda c: facts(c, REPLICAS, {"file_id": file_id})),
            "transfers": reader.block(lambda c: facts(c, MOVED, {"file_id": file_id})),
            "lineage": reader.block(lambda c: _lineage(c, found[0])),
        }  # fmt: skip
        self._answer(req, resp, "file.html", data, self._now(), csv="replicas", most=READERS_SHOWN,
                     cli=shlex.join(["panda", "lineage", did, lfn]))  # fmt: skip


def _named(jobsets: list[Facts], owner: str | None) -> list[Facts]:
    """Job sets; of others than `owner`'s not what they are called. None: of all of them."""
    return [row if owner in (None, row["owner"]) else {**row, "name": None} for row in jobsets]


def _lineage(connection: Connection, file: Facts) -> Facts:
    """`made_from`: inputs of the job that wrote it; `read_by`: the newest jobs that it is an input of; `n_read_by`."""
    made_from = facts(connection, lineage.MADE_FROM, {"panda_id": file["panda_id"]}) if file["panda_id"] else []
    asked = {"file_id": file["file_id"], "limit": lineage.MOST_READERS}
    readers = facts(connection, lineage.READ_BY, asked)
    return {"made_from": made_from, "read_by": readers[:READERS_SHOWN], "n_read_by": len(readers),
            "most": lineage.MOST_READERS}  # fmt: skip

"""Datasets and files: what there is, where it lies, and who made it."""

from urllib.parse import quote

import falcon

from monitoring.pages.page import Page, check_words, number_of, session_of
from monitoring.reads.queries import facts
from panda.auth import policy
from panda.auth.policy import Action
from panda.errors import NotFound
from panda.names import split_did

PAGE_SIZE = 50
FILES_SHOWN = 100

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
DATASETS = f"""
{_SHOWN} FROM (
    SELECT * FROM datasets WHERE dataset_id < %(before)s ORDER BY dataset_id DESC LIMIT %(n)s) d, {_INSIDE}
ORDER BY d.dataset_id DESC
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
FILES = """
SELECT file_id, lfn, guid, size_bytes, adler32, panda_id, attempt_nr, created_at FROM files
WHERE dataset_id = %(dataset_id)s AND lfn > %(after)s ORDER BY dataset_id, lfn LIMIT %(n)s
"""
#: Of the files that a page shows: where they lie.
REPLICAS = """
SELECT file_id, storage, path, created_at FROM replicas WHERE file_id = ANY(%(file_ids)s) ORDER BY file_id, storage
LIMIT 2000
"""
FILE = """
SELECT file_id, lfn, guid, size_bytes, adler32, panda_id, attempt_nr, created_at FROM files
WHERE dataset_id = %(dataset_id)s AND lfn = %(lfn)s
"""
MOVING = """
SELECT transfer_id, source, destination, status, tries, error, created_at, due_at FROM transfers
WHERE file_id = %(file_id)s AND status IN ('queued', 'moving') ORDER BY file_id, destination LIMIT 50
"""
READERS = """
SELECT jobset_id, name, owner FROM jobsets WHERE output_dataset_id = %(dataset_id)s ORDER BY output_dataset_id LIMIT 50
"""


class Datasets(Page):
    """/datasets?before="""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        check_words(req, "before")
        policy.require(session_of(req).identity, Action.READ_DATA)
        before = number_of(req, "before") or 2**62
        found = self._parts.reader.block(lambda c: facts(c, DATASETS, {"before": before, "n": PAGE_SIZE + 1}))
        items = (found.value or [])[:PAGE_SIZE]
        onward = items[-1]["dataset_id"] if len(found.value or []) > PAGE_SIZE else None
        data = {"datasets": items, "next": onward, "trouble": found.trouble}
        self._answer(req, resp, "datasets.html", data, self._now(), csv="datasets")


class Dataset(Page):
    """/datasets/{did}?after="""

    def on_get(self, req: falcon.Request, resp: falcon.Response, did: str) -> None:
        check_words(req, "after")
        policy.require(session_of(req).identity, Action.READ_DATA)
        dataset = self._find(did)
        reader, after = self._parts.reader, req.get_param("after") or ""
        asked = {"dataset_id": dataset["dataset_id"], "after": after.replace("\x00", ""), "n": FILES_SHOWN + 1}
        found = reader.block(lambda c: facts(c, FILES, asked))
        files = (found.value or [])[:FILES_SHOWN]
        replicas = reader.block(lambda c: facts(c, REPLICAS, {"file_ids": [file["file_id"] for file in files]}))
        for file in files:
            file["storages"] = [row["storage"] for row in replicas.value or [] if row["file_id"] == file["file_id"]]
        onward = files[-1]["lfn"] if len(found.value or []) > FILES_SHOWN else None
        data = {
            "dataset": dataset, "files": files, "next": onward, "trouble": found.trouble,
            "members": reader.block(lambda c: facts(c, MEMBERS, asked)),
            "rules": reader.block(lambda c: facts(c, RULES, asked)),
            "written_by": reader.block(lambda c: facts(c, READERS, {"dataset_id": dataset["dataset_id"]})),
        }  # fmt: skip
        self._answer(req, resp, "dataset.html", data, self._now(), csv="files",
                     next_link=f"/datasets/{quote(did)}?after={quote(onward)}" if onward else None)  # fmt: skip

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
            "replicas": reader.block(lambda c: facts(c, REPLICAS, {"file_ids": [file_id]})),
            "transfers": reader.block(lambda c: facts(c, MOVING, {"file_id": file_id})),
        }  # fmt: skip
        self._answer(req, resp, "file.html", data, self._now(), csv="replicas")

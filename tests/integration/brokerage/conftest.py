"""Queues and defined jobs, made with SQL."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from panda.db.session import Begin, rows, run

MakeQueue = Callable[..., str]
MakeJobs = Callable[..., list[int]]


@pytest.fixture
def make_queue(begin: Begin) -> MakeQueue:
    """`make_queue("NORTH-Q", memory_mb=4000)`: a queue at site NORTH with storage NORTH-DISK, all online."""

    def make(name: str, *, storage_status: str = "online", **values: Any) -> str:
        site = name.removesuffix("-Q")
        given = {
            "name": name, "site": site, "storage": f"{site}-DISK", "status": "online", "status_reason": "",
            "cores": 4, "memory_mb": 4000, "disk_mb": 10_000, "walltime_s": 86_400, "tags": ["linux"],
            "submitter": "local", "max_ready": 0,
        } | values  # fmt: skip
        with begin() as connection:
            run(connection, "INSERT INTO sites (name, cloud) VALUES (%(site)s, 'LOCAL') ON CONFLICT DO NOTHING", given)
            run(
                connection,
                "INSERT INTO storages (name, site, kind, root, status)"
                " VALUES (%(storage)s, %(site)s, 'local', '/nowhere', %(storage_status)s) ON CONFLICT DO NOTHING",
                given | {"storage_status": storage_status},
            )
            columns = ", ".join(given)
            marks = ", ".join(f"%({column})s" for column in given)
            run(connection, f"INSERT INTO queues ({columns}) VALUES ({marks})", given)
        return name

    return make


@pytest.fixture
def make_jobs(begin: Begin) -> MakeJobs:
    """`make_jobs(5, memory_mb=2000, sites=["NORTH"])`: a job set of jobs that are due for brokerage."""

    def make(
        n: int,
        *,
        share: str = "default",
        sites: Sequence[str] = (),
        exclude: Sequence[str] = (),
        brokerage: Mapping[str, Any] | None = None,
        document: Mapping[str, Any] | None = None,
        **shape: Any,
    ) -> list[int]:
        wishes = {"sites": list(sites), "exclude": list(exclude)} | dict(brokerage or {})
        text = json.dumps({"brokerage": wishes} | dict(document or {}))
        needs = {"cores": 1, "memory_mb": 1000, "disk_mb": 1000, "walltime_s": 3600, "tags": [], "gpus": 0} | shape
        with begin() as connection:
            run(
                connection,
                "INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s, tags, gpus) VALUES"
                " (%(cores)s, %(memory_mb)s, %(disk_mb)s, %(walltime_s)s, %(tags)s::text[], %(gpus)s) ON CONFLICT DO NOTHING",
                needs,
            )
            [shape_row] = rows(
                connection,
                "SELECT shape_id FROM shapes WHERE cores = %(cores)s AND memory_mb = %(memory_mb)s"
                " AND disk_mb = %(disk_mb)s AND walltime_s = %(walltime_s)s AND tags = %(tags)s::text[]"
                " AND gpus = %(gpus)s",
                needs,
            )
            [first] = rows(connection, "SELECT panda_take_ids(%(n)s) AS panda_id", {"n": n})
            [jobset] = rows(
                connection,
                "INSERT INTO jobsets (name, owner, share, idempotency_key, document_hash, document, bindings,"
                " first_panda_id, n_jobs, n_expanded, n_open, created_at) VALUES ('set', 'alice', %(share)s, %(key)s, %(hash)s,"
                " %(document)s::jsonb, '{}', %(first)s, %(n)s, %(n)s, %(n)s, panda_now()) RETURNING jobset_id",
                {"share": share, "key": str(first.panda_id), "hash": hashlib.sha256(text.encode()).digest(),
                 "document": text, "first": first.panda_id, "n": n},
            )  # fmt: skip
            values = {"first": first.panda_id, "n": n, "jobset_id": jobset.jobset_id, "share": share,
                      "shape_id": shape_row.shape_id}  # fmt: skip
            run(
                connection,
                "INSERT INTO jobs (panda_id, jobset_id, seq, name, owner, share, priority, status, max_attempts,"
                " shape_id, created_at, changed_at, spec) SELECT %(first)s + i, %(jobset_id)s, i, 'job', 'alice',"
                " %(share)s, 0, 'defined', 3, %(shape_id)s, panda_now(), panda_now(), '{}'"
                " FROM generate_series(0, %(n)s - 1) AS i",
                values,
            )
            run(
                connection,
                "INSERT INTO job_due (panda_id, stage, due_at) SELECT %(first)s + i, 'broker', panda_now()"
                " FROM generate_series(0, %(n)s - 1) AS i",
                values,
            )
        return list(range(first.panda_id, first.panda_id + n))

    return make

"""Two sites with real folders, files in them, and jobs that want these; made with SQL."""

import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from panda.dataservice import binding, catalog
from panda.db.session import Begin, rows, run
from panda.jobs import audit
from panda.settings import Settings

WORLD = """
INSERT INTO sites (name, cloud) SELECT s, 'LOCAL' FROM unnest(ARRAY['NORTH', 'SOUTH', 'WEST']) AS s;
INSERT INTO storages (name, site, kind, root) SELECT s || '-DISK', s, 'local', '{root}/' || lower(s)
    FROM unnest(ARRAY['NORTH', 'SOUTH', 'WEST']) AS s;
INSERT INTO queues (name, site, storage, cores, memory_mb, disk_mb, walltime_s)
    SELECT s || '-Q', s, s || '-DISK', 1, 1000, 1000, 1000 FROM unnest(ARRAY['NORTH', 'SOUTH', 'WEST']) AS s;
INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s) VALUES (1, 1, 1, 1);
"""
JOBSET = """
INSERT INTO jobsets (name, owner, share, idempotency_key, document_hash, document, bindings, first_panda_id, n_jobs,
    n_expanded, n_open, created_at, output_storage)
VALUES ('set', 'alice', 'default', %(first)s::text, '', '{}', '{}', %(first)s, %(n)s, %(n)s, %(n)s, panda_now(),
    %(output_storage)s)
RETURNING jobset_id
"""
JOBS = """
WITH jobs AS (
    INSERT INTO jobs (panda_id, jobset_id, seq, name, owner, share, priority, status, max_attempts, shape_id, n_inputs,
        n_outputs, computing_site, created_at, changed_at, spec)
    SELECT %(first)s + i, %(jobset_id)s, i, 'job', 'alice', 'default', 0, %(status)s, 3, 1, %(n_inputs)s, %(n_outputs)s,
        %(queue)s, panda_now(), panda_now(), '{}'
    FROM generate_series(0, %(n)s - 1) AS i RETURNING panda_id)
INSERT INTO job_due (panda_id, stage, due_at) SELECT panda_id, %(stage)s, panda_now() FROM jobs
"""
JOB_FILE = """
INSERT INTO job_files (panda_id, kind, lfn, did, status)
SELECT i, %(kind)s, %(lfn)s, %(did)s, %(status)s FROM unnest(%(panda_ids)s::bigint[]) AS i
"""


class Lab:
    """A small world, and questions about it."""

    def __init__(self, begin: Begin, root: Path, settings: Settings) -> None:
        self.begin = begin
        self.root = root
        self.settings = settings

    def put(
        self, reference: str, content: bytes, storage: str = "NORTH-DISK", *, owner: str = "alice", **more: Any
    ) -> Path:
        """Put a file into a dataset; where it lies."""
        did, _, lfn = reference.partition("/")
        with self.begin() as connection:
            catalog.create(connection, did, owner=owner)
        catalog.put(
            self.begin, did, lfn, io.BytesIO(content), storage=storage, owner=owner, cap_bytes=10**9, **more
        )  # fmt: skip
        return self.where(reference, storage)

    def where(self, reference: str, storage: str) -> Path:
        """Where a replica lies."""
        did, _, lfn = reference.partition("/")
        [replica] = self.query(
            "SELECT s.root || '/' || r.path AS path FROM replicas r JOIN storages s ON s.name = r.storage"
            " JOIN files f USING (file_id) JOIN datasets d USING (dataset_id)"
            " WHERE d.scope || ':' || d.name = %(did)s AND f.lfn = %(lfn)s AND s.name = %(storage)s",
            did=did, lfn=lfn, storage=storage,
        )  # fmt: skip
        return Path(replica.path)

    def jobs(
        self,
        n: int = 1,
        *,
        queue: str = "SOUTH-Q",
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        stage: str = "stage_in",
        status: str = "assigned",
        output_storage: str | None = None,
    ) -> list[int]:
        """Jobs at a queue with inputs (`scope:dataset/lfn` or `scope:dataset`) and outputs (the same)."""
        with self.begin() as connection:
            [taken] = rows(connection, "SELECT panda_take_ids(%(n)s) AS first", {"n": n})
            values: dict[str, Any] = {
                "first": taken.first, "n": n, "queue": queue, "stage": stage, "status": status,
                "n_inputs": len(inputs), "n_outputs": len(outputs), "output_storage": output_storage,
            }  # fmt: skip
            [jobset] = rows(connection, JOBSET, values)
            run(connection, JOBS, values | {"jobset_id": jobset.jobset_id})
            panda_ids = list(range(taken.first, taken.first + n))
            for kind, references in (("input", inputs), ("output", outputs)):
                for reference in references:
                    did, slash, lfn = reference.partition("/")
                    file = {"panda_ids": panda_ids, "did": did, "kind": kind if slash else "dataset"}
                    state = "defined" if kind == "output" else "unknown"
                    run(connection, JOB_FILE, file | {"lfn": lfn or did, "status": state})
        return panda_ids

    def bound_jobs(self, n: int = 1, **what: Any) -> list[int]:
        """Jobs whose inputs are bound to the catalogue."""
        panda_ids = self.jobs(n, **what)
        with self.begin() as connection:
            assert binding.bind_inputs(connection, panda_ids) == {}
        return panda_ids

    def write_output(self, panda_id: int, lfn: str, content: bytes) -> Path:
        """What a pilot does: write where it was told, and report it."""
        [row] = self.query(
            "SELECT s.root || '/' || f.path AS path FROM job_files f JOIN storages s ON s.name = f.storage"
            " WHERE f.panda_id = %(id)s AND f.kind = 'output' AND f.lfn = %(lfn)s",
            id=panda_id, lfn=lfn,
        )  # fmt: skip
        path = Path(row.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.do(
            "UPDATE job_files SET status = 'written', size_bytes = %(size)s, adler32 = %(adler32)s"
            " WHERE panda_id = %(id)s AND kind = 'output' AND lfn = %(lfn)s",
            id=panda_id, lfn=lfn, size=len(content), adler32=f"{zlib.adler32(content):08x}",
        )  # fmt: skip
        return path

    def query(self, sql: str, **values: Any) -> list[Any]:
        with self.begin() as connection:
            return list(rows(connection, sql, values))

    def do(self, sql: str, **values: Any) -> int:
        with self.begin() as connection:
            return run(connection, sql, values)

    def due(self, panda_id: int) -> Any:
        """A job's row of `job_due`."""
        [row] = self.query("SELECT * FROM job_due WHERE panda_id = %(id)s", id=panda_id)
        return row

    def transfers(self) -> list[Any]:
        return self.query("SELECT * FROM transfers ORDER BY transfer_id")


@pytest.fixture
def lab(begin: Begin, tmp_path: Path, settings: Settings) -> Iterator[Lab]:
    """Sites NORTH, SOUTH and WEST, each with a folder as its storage and a queue. Jobs are rows made by hand; what
    the auditor asks about data must hold after the test."""
    with begin() as connection:
        for statement in WORLD.replace("{root}", str(tmp_path)).split(";\n"):
            if statement.strip():
                run(connection, statement)
    yield Lab(begin, tmp_path, settings)
    with begin() as connection:
        assert audit.audit(connection, everything=True, only=("I8", "I9", "I10b")) == []

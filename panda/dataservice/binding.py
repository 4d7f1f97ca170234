"""What a job asked for by name becomes files of the catalogue, when the job is defined."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows, run

ASKED = """
SELECT bool_or(kind = 'dataset') AS has_datasets, count(*) AS n FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind IN ('input', 'dataset')
"""
BIND_DATASETS = """
UPDATE job_files j SET dataset_id = d.dataset_id, status = 'ready' FROM datasets d
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.kind = 'dataset'
    AND d.scope = split_part(j.did, ':', 1) AND d.name = split_part(j.did, ':', 2)
"""
EXPAND_DATASETS = """
INSERT INTO job_files (panda_id, kind, lfn, did, status)
SELECT j.panda_id, 'input', f.lfn, j.did, 'unknown'
FROM job_files j JOIN files f ON f.dataset_id = j.dataset_id
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.kind = 'dataset'
ON CONFLICT DO NOTHING
"""
BIND_INPUTS = """
UPDATE job_files j SET dataset_id = d.dataset_id, file_id = f.file_id, size_bytes = f.size_bytes,
    adler32 = f.adler32, guid = f.guid, status = 'missing'
FROM datasets d JOIN files f ON f.dataset_id = d.dataset_id
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.kind = 'input' AND j.file_id IS NULL
    AND d.scope = split_part(j.did, ':', 1) AND d.name = split_part(j.did, ':', 2) AND f.lfn = j.lfn
"""
COUNT_INPUTS = """
UPDATE jobs SET n_inputs = c.n
FROM (SELECT panda_id, count(*) AS n FROM job_files WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'input'
    GROUP BY panda_id) AS c
WHERE jobs.panda_id = c.panda_id AND jobs.n_inputs <> c.n
"""
UNBOUND = """
SELECT panda_id, 'input ' || did || '/' || lfn || ' is in no catalogue' AS problem FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'input' AND file_id IS NULL
UNION ALL
SELECT panda_id, 'input dataset ' || did || ' is in no catalogue' FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'dataset' AND dataset_id IS NULL
"""
#: A job sees its inputs in one folder, so two of them cannot have one name.
BADLY_EXPANDED = """
SELECT j.panda_id, 'input dataset ' || j.did || ' is empty' AS problem
FROM job_files j
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.kind = 'dataset' AND j.dataset_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM files f WHERE f.dataset_id = j.dataset_id)
UNION ALL
SELECT j.panda_id, 'inputs ' || j.did || '/' || f.lfn || ' and ' || i.did || '/' || i.lfn || ' have the same name'
FROM job_files j JOIN files f ON f.dataset_id = j.dataset_id
JOIN job_files i ON i.panda_id = j.panda_id AND i.kind = 'input' AND i.lfn = f.lfn AND i.did <> j.did
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.kind = 'dataset'
"""


def bind_inputs(connection: Connection, panda_ids: Sequence[int]) -> dict[int, str]:
    """Bind the inputs of jobs to files: single ones, and every file that a whole dataset has now.

    The caller holds the jobs' rows of `job_due`. Run again, it binds what came since.

    Returns: by PandaID what is wrong, for jobs that name something that does not exist, an empty
    dataset, or two files of one name.
    """
    ids = {"panda_ids": list(panda_ids)}
    [asked] = rows(connection, ASKED, ids)
    if not asked.n:
        return {}
    if asked.has_datasets:
        run(connection, BIND_DATASETS, ids)
        run(connection, EXPAND_DATASETS, ids)
    run(connection, BIND_INPUTS, ids)
    found = rows(connection, UNBOUND, ids)
    if asked.has_datasets:
        run(connection, COUNT_INPUTS, ids)
        found += rows(connection, BADLY_EXPANDED, ids)
    problems: dict[int, list[str]] = {}
    for row in found:
        problems.setdefault(row.panda_id, []).append(row.problem)
    return {panda_id: _sentence(sorted(each)) for panda_id, each in sorted(problems.items())}


def _sentence(problems: list[str]) -> str:
    return problems[0] if len(problems) == 1 else f"{problems[0]}; and {len(problems) - 1} more like it"

"""What a job asked for by name becomes files of the catalogue, when the job is defined."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows, run

ASKED = """
SELECT bool_or(kind = 'dataset') AS has_datasets, count(*) AS n FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind IN ('input', 'dataset')
"""
BIND_DATASETS = """
UPDATE job_files j SET (dataset_id, status) = (
    SELECT dataset_id, 'ready' FROM datasets
    WHERE scope = split_part(j.did, ':', 1) AND name = split_part(j.did, ':', 2) AND status <> 'deleting')
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'dataset' AND EXISTS (
    SELECT FROM datasets WHERE scope = split_part(j.did, ':', 1) AND name = split_part(j.did, ':', 2)
        AND status <> 'deleting' OFFSET 0)
"""
#: The whole datasets that jobs want, each in its place in a container if it is in one, with their files.
_WITH_FILES = """
FROM (SELECT * FROM job_files WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'dataset' OFFSET 0) j,
    LATERAL (
        SELECT dataset_id, j.did FROM datasets WHERE dataset_id = j.dataset_id AND kind = 'dataset'
        UNION ALL SELECT d.dataset_id, d.scope || ':' || d.name
        FROM dataset_members m JOIN datasets d ON d.dataset_id = m.dataset_id
        WHERE m.container_id = j.dataset_id AND d.status <> 'deleting') s,
    LATERAL (SELECT lfn FROM files WHERE dataset_id = s.dataset_id OFFSET 0) f
"""
EXPAND_DATASETS = f"""
INSERT INTO job_files (panda_id, kind, lfn, did, status)
SELECT j.panda_id, 'input', f.lfn, s.did, 'unknown' {_WITH_FILES}
ORDER BY j.panda_id, f.lfn, s.did
ON CONFLICT DO NOTHING
"""
#: The file of the catalogue that a row `j` of `job_files` names.
_NAMED = """
FROM (SELECT dataset_id FROM datasets
        WHERE scope = split_part(j.did, ':', 1) AND name = split_part(j.did, ':', 2) AND status <> 'deleting'
        OFFSET 0) d,
    LATERAL (SELECT * FROM files WHERE dataset_id = d.dataset_id AND lfn = j.lfn OFFSET 0) f
"""
BIND_INPUTS = f"""
UPDATE job_files j SET (dataset_id, file_id, size_bytes, adler32, guid, status) = (
    SELECT f.dataset_id, f.file_id, f.size_bytes, f.adler32, f.guid, 'missing' {_NAMED})
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'input' AND file_id IS NULL AND EXISTS (SELECT {_NAMED} OFFSET 0)
"""
_N_INPUTS = "(SELECT count(*) FROM job_files f WHERE f.panda_id = j.panda_id AND f.kind = 'input')"
COUNT_INPUTS = f"""
UPDATE jobs j SET n_inputs = {_N_INPUTS}
WHERE panda_id = ANY(%(panda_ids)s) AND {_N_INPUTS} NOT IN (0, n_inputs)
"""
_WHY_UNBOUND = """
CASE WHEN EXISTS (SELECT FROM datasets WHERE scope = split_part(did, ':', 1) AND name = split_part(did, ':', 2)
    AND status = 'deleting' OFFSET 0) THEN ' is being deleted' ELSE ' is in no catalogue' END
"""
UNBOUND = f"""
SELECT panda_id, 'input ' || did || '/' || lfn || {_WHY_UNBOUND} AS problem FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'input' AND file_id IS NULL
UNION ALL
SELECT panda_id, 'input dataset ' || did || {_WHY_UNBOUND} FROM job_files
WHERE panda_id = ANY(%(panda_ids)s) AND kind = 'dataset' AND dataset_id IS NULL
"""
#: A job sees its inputs in one folder, so two of them cannot have one name.
BADLY_EXPANDED = f"""
SELECT j.panda_id, 'input dataset ' || j.did || ' is empty' AS problem
FROM job_files j
WHERE j.panda_id = ANY(%(panda_ids)s) AND j.kind = 'dataset' AND j.dataset_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM files f WHERE f.dataset_id = j.dataset_id OFFSET 0)
    AND NOT EXISTS (SELECT FROM dataset_members m, LATERAL (
        SELECT FROM files f WHERE f.dataset_id = m.dataset_id LIMIT 1) f WHERE m.container_id = j.dataset_id OFFSET 0)
UNION ALL
SELECT j.panda_id, 'inputs ' || s.did || '/' || f.lfn || ' and ' || i.did || '/' || i.lfn || ' have the same name'
{_WITH_FILES},
    LATERAL (SELECT lfn, did FROM job_files
        WHERE panda_id = j.panda_id AND kind = 'input' AND lfn = f.lfn AND did <> s.did OFFSET 0) i
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

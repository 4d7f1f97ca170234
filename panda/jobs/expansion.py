"""A job set becomes rows, chunk by chunk: jobs, what each needs next, its files, its first event.

One chunk is one transaction; the set's row is the cursor. Sets take turns, the one with the fewest rows
first, so that a job set of one does not wait for a million. A set that waits for its parents is expanded
at once and released in chunks when the last parent ends.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from psycopg.errors import ProgramLimitExceeded, QueryCanceled
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import OperationalError

from panda.db.session import Begin, asynchronous, rows, run
from panda.errors import PandaError
from panda.jobs import dealing, ending, templates
from panda.jobs.ending import Failure
from panda.jobs.specs import Defaults, JobSetRequest, JobSpec
from panda.settings import Engine
from panda.states import Stage, Wait

#: What a job needs when neither it nor its set says so.
CORES, MEMORY_MB, DISK_MB, WALLTIME_S = 1, 2_000, 1_000, 6 * 3600

#: Virtual time between two jobs of one user's burst (law 10). Only the order matters: the relay takes
#: new rows before their time when nothing else is due.
BURST_STEP_S = 0.001

#: What one chunk may weigh, in bytes of JSON; jobs with long commands go in smaller chunks.
CHUNK_BYTES = 16_000_000
#: Files of the jobs of one chunk.
CHUNK_FILES = 50_000

_COLUMNS = """
SELECT jobset_id, name, owner, share, document, bindings, cursors, first_panda_id, n_jobs, n_expanded, released_at,
    held_at, created_at, output_dataset_id,
    (SELECT d.scope || ':' || d.name FROM datasets d WHERE d.dataset_id = s.output_dataset_id) AS output_did
FROM jobsets s WHERE n_expanded < n_jobs
"""
NEXT = f"{_COLUMNS} ORDER BY n_expanded, jobset_id LIMIT 1 FOR UPDATE SKIP LOCKED"
THIS = f"{_COLUMNS} AND jobset_id = %(jobset_id)s FOR UPDATE"
FAIR_CLOCK = """
INSERT INTO fair_clock AS f (owner, share, at)
VALUES (%(owner)s, %(share)s, panda_now() + make_interval(secs => %(for_s)s))
ON CONFLICT (owner, share) DO UPDATE SET at = greatest(f.at, panda_now()) + make_interval(secs => %(for_s)s)
RETURNING at - make_interval(secs => %(for_s)s) AS start
"""
SHAPES = """
WITH wanted AS (SELECT DISTINCT cores, memory_mb, disk_mb, walltime_s, tags, gpus
    FROM jsonb_to_recordset(%(shapes)s)
        AS s(cores int, memory_mb int, disk_mb int, walltime_s int, tags text[], gpus int)),
made AS (INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s, tags, gpus) SELECT * FROM wanted
    ON CONFLICT DO NOTHING RETURNING *)
SELECT * FROM made UNION
SELECT s.* FROM shapes s JOIN wanted USING (cores, memory_mb, disk_mb, walltime_s, tags, gpus)
"""
JOBS = """
WITH new AS (
    SELECT * FROM jsonb_to_recordset(%(jobs)s) AS j(panda_id bigint, seq int, name text, priority int,
        max_attempts int, shape_id int, n_inputs int, n_outputs int, spec jsonb)),
jobs AS (
    INSERT INTO jobs (panda_id, jobset_id, seq, name, owner, share, priority, status, max_attempts, shape_id,
        n_inputs, n_outputs, created_at, changed_at, spec)
    SELECT panda_id, %(jobset_id)s, seq, name, %(owner)s, %(share)s, priority, 'pending', max_attempts, shape_id,
        n_inputs, n_outputs, %(created_at)s, panda_now(), spec FROM new),
due AS (
    INSERT INTO job_due (panda_id, stage, waits_for, due_at)
    SELECT panda_id, 'define', %(waits_for)s::text, CASE WHEN %(waits_for)s::text IS NULL
            THEN %(start)s::timestamptz + make_interval(secs => %(step_s)s * (seq - %(first_seq)s))
            ELSE panda_now() + make_interval(secs => %(wait_s)s) END
    FROM new),
counted AS (INSERT INTO job_count_deltas (status, queue, n) SELECT 'pending', '', count(*) FROM new)
INSERT INTO job_events (panda_id, at, was, now, attempt_nr, stage, by)
SELECT panda_id, panda_now(), NULL, 'pending', 1, NULL, %(owner)s FROM new
"""
FILES = """
INSERT INTO job_files (panda_id, kind, lfn, did, dataset_id, status)
SELECT panda_id, kind, lfn, coalesce(did, %(output_did)s),
    CASE WHEN kind = 'output' THEN %(output_dataset_id)s::bigint END,
    CASE WHEN kind = 'output' THEN 'defined' ELSE 'unknown' END
FROM jsonb_to_recordset(%(files)s) AS f(panda_id bigint, kind text, lfn text, did text)
"""
#: `cursors`: where the next chunk goes on in the datasets of the inputs; null: as before.
EXPANDED = """
UPDATE jobsets SET n_expanded = n_expanded + %(n)s, cursors = coalesce(%(cursors)s::jsonb, cursors)
WHERE jobset_id = %(jobset_id)s
"""
NEXT_RELEASE = """
SELECT jobset_id FROM jobsets WHERE released_at IS NULL AND open_parents = 0 AND n_expanded > n_released
ORDER BY n_released, jobset_id LIMIT 1
"""
#: One releaser per set. Not the set's row: it is locked after those of its jobs (law 5).
ONE_RELEASER = "SELECT pg_try_advisory_xact_lock(7000004, %(jobset_id)s::int) AS mine"
CURSOR = """
SELECT jobset_id, owner, share, first_panda_id, n_jobs, n_expanded, n_released, held_at FROM jobsets
WHERE jobset_id = %(jobset_id)s AND released_at IS NULL AND open_parents = 0
"""
LOCK_RELEASED = """
SELECT panda_id FROM job_due
WHERE panda_id >= %(first)s AND panda_id < %(end)s AND waits_for = 'parent' ORDER BY panda_id FOR UPDATE
"""
RELEASE = """
UPDATE job_due SET waits_for = NULL, deliveries = 0,
    due_at = %(start)s::timestamptz + make_interval(secs => %(step_s)s * (panda_id - %(first)s))
WHERE panda_id = ANY(%(panda_ids)s)
"""
HOLD = """
UPDATE job_due SET waits_for = 'quota', deliveries = 0, due_at = panda_now() + make_interval(secs => %(wait_s)s)
WHERE panda_id = ANY(%(panda_ids)s)
"""
RELEASED = """
UPDATE jobsets SET n_released = %(n)s, released_at = CASE WHEN %(n)s::int = n_jobs THEN panda_now() END
WHERE jobset_id = %(jobset_id)s
"""


#: The clock lets in what is held for a quota (quotas.admission); this is the deadline of that wait.
QUOTA_WAIT_S = 3_600.0


class NotExpandable(PandaError):
    """Some of the next `n_jobs` jobs of a set cannot be made; nothing was done."""

    code = "not_expandable"

    def __init__(self, jobset_id: int, n_jobs: int, problem: Exception) -> None:
        super().__init__(f"the next {n_jobs} jobs of job set {jobset_id} cannot be made: {problem}")
        self.jobset_id, self.n_jobs, self.problem = jobset_id, n_jobs, problem


def expand(begin: Begin, engine: Engine) -> int:
    """Expand the next chunk, whatever it holds. Returns the jobs made; 0: nothing to do.

    A chunk that cannot be made is tried again smaller, down to the one job that is to blame. That one is made
    as a failed job: it was promised, and the sets behind it must not wait for ever."""
    at_most = engine.chunk_jobs
    while True:
        try:
            with begin() as connection:
                return expand_chunk(connection, engine, at_most)
        except NotExpandable as refusal:
            if refusal.n_jobs == 1:
                with begin() as connection:
                    return _make_failed(connection, engine, refusal)
            at_most = max(1, refusal.n_jobs // 10)


def expand_chunk(connection: Connection, engine: Engine, at_most: int = 0) -> int:
    """Expand the next chunk of the set whose turn it is. Returns the jobs made; 0: nothing to do.

    Raises:
        NotExpandable: a job of it cannot be made.
    """
    found = rows(connection, NEXT)
    if not found:
        return 0
    jobset = found[0]
    asynchronous(connection)  # the document is safe; a lost chunk is expanded again
    n_jobs = 1
    try:
        request = msgspec.convert(jobset.document, JobSetRequest)
        first = jobset.n_expanded
        n_jobs = min(at_most or engine.chunk_jobs, jobset.n_jobs - first, _that_fit(request))
        specs, cursors = _specs(connection, request, jobset, first, first + n_jobs - 1)
        _insert(connection, jobset, request.defaults, specs, engine)
        run(connection, EXPANDED, {"n": len(specs), "jobset_id": jobset.jobset_id, "cursors": cursors})
    except OperationalError as problem:
        if isinstance(problem.orig, ProgramLimitExceeded) or (n_jobs > 1 and isinstance(problem.orig, QueryCanceled)):
            raise NotExpandable(jobset.jobset_id, n_jobs, problem) from problem
        raise  # the database is away or busy: that is no fault of the document
    except Exception as problem:  # whatever it is, it must not stop the sets behind this one
        raise NotExpandable(jobset.jobset_id, n_jobs, problem) from problem
    return len(specs)


def _that_fit(request: JobSetRequest) -> int:
    """How many jobs of this set one transaction can make: they are as large as their template."""
    n_bytes = len(msgspec.json.encode(request.defaults))
    n_files = 0
    if request.template is not None:
        n_bytes += templates.bytes_of_a_job(request.template)
        n_files = sum(each.files_per_job for each in request.template.inputs.values()) + len(request.template.outputs)
    return max(1, min(CHUNK_BYTES // n_bytes, CHUNK_FILES // max(1, n_files)))


def _make_failed(connection: Connection, engine: Engine, refusal: NotExpandable) -> int:
    """Make the next job of a set, which cannot be what its document says, as one that failed."""
    found = rows(connection, THIS, {"jobset_id": refusal.jobset_id})
    if not found:
        return 0
    jobset = found[0]
    panda_id = jobset.first_panda_id + jobset.n_expanded
    nothing = JobSpec(command=["false"], max_attempts=1)
    _insert(connection, jobset, Defaults(), [(jobset.n_expanded, nothing)], engine)
    run(connection, EXPANDED, {"n": 1, "jobset_id": jobset.jobset_id, "cursors": None})
    failure = Failure(panda_id, Stage.DEFINE, "define:bad_document", f"it cannot be made: {refusal.problem}")
    ending.fail_many(connection, [failure], by="expansion", engine=engine)
    return 1


def _specs(
    connection: Connection, request: JobSetRequest, jobset: Row[Any], first: int, last: int
) -> tuple[list[tuple[int, JobSpec]], str | None]:
    """Jobs `first` to `last` by number, and where the next ones go on in the datasets of their inputs, as JSON."""
    if request.jobs is not None:
        return list(enumerate(request.jobs[first : last + 1], start=first)), None
    assert request.template is not None
    bindings = {name: templates.Binding(*values) for name, values in jobset.bindings.items()}
    expansion = templates.Expansion(request.template, bindings)
    dealer = dealing.Dealer(connection, bindings, jobset.cursors or {})
    specs = [(seq, expansion.job(seq, dealer.files)) for seq in range(first, last + 1)]
    return specs, _text(dealer.places) if dealer.places else None


def _insert(
    connection: Connection, jobset: Row[Any], defaults: Defaults, specs: list[tuple[int, JobSpec]], engine: Engine
) -> None:
    shapes = [_shape(spec, defaults) for _, spec in specs]
    shape_ids = _shape_ids(connection, set(shapes))
    jobs: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    for (seq, spec), shape in zip(specs, shapes, strict=True):
        panda_id = jobset.first_panda_id + seq
        jobs.append(_job(panda_id, seq, spec, defaults, shape_ids[shape], jobset.name))
        files.extend(_files(panda_id, spec))
    start = _turn(connection, jobset, len(specs))
    run(
        connection,
        JOBS,
        {"jobs": _text(jobs), "jobset_id": jobset.jobset_id, "owner": jobset.owner, "share": jobset.share,
         "created_at": jobset.created_at,
         "waits_for": _first_wait(jobset), "start": start, "step_s": BURST_STEP_S, "first_seq": specs[0][0],
         "wait_s": QUOTA_WAIT_S if jobset.released_at else float(engine.parent_wait_s)},
    )  # fmt: skip
    if files:
        run(
            connection,
            FILES,
            {"files": _text(files), "output_did": jobset.output_did, "output_dataset_id": jobset.output_dataset_id},
        )


def _first_wait(jobset: Row[Any]) -> Wait | None:
    """What the jobs of a set wait for before anything else."""
    if not jobset.released_at:
        return Wait.PARENT
    return Wait.QUOTA if jobset.held_at else None


Shape = tuple[int, int, int, int, tuple[str, ...], int]


def _shape(spec: JobSpec, defaults: Defaults) -> Shape:
    tags = spec.tags if spec.tags is not None else defaults.tags
    return (
        spec.cores or defaults.cores or CORES,
        spec.memory_mb or defaults.memory_mb or MEMORY_MB,
        spec.disk_mb or defaults.disk_mb or DISK_MB,
        spec.walltime_s or defaults.walltime_s or WALLTIME_S,
        tuple(sorted(set(tags or ()))),
        (spec.gpus if spec.gpus is not None else defaults.gpus) or 0,
    )


def _shape_ids(connection: Connection, shapes: set[Shape]) -> dict[Shape, int]:
    names = ("cores", "memory_mb", "disk_mb", "walltime_s", "tags", "gpus")
    found: dict[Shape, int] = {}
    while len(found) < len(shapes):  # a second look sees the shapes that another process made meanwhile
        wanted = _text([dict(zip(names, shape, strict=True)) for shape in shapes])
        for row in rows(connection, SHAPES, {"shapes": wanted}):
            found[(row.cores, row.memory_mb, row.disk_mb, row.walltime_s, tuple(row.tags), row.gpus)] = row.shape_id
    return found


def _job(panda_id: int, seq: int, spec: JobSpec, defaults: Defaults, shape_id: int, jobset_name: str) -> dict[str, Any]:
    return {
        "panda_id": panda_id,
        "seq": seq,
        "name": spec.name or f"{jobset_name}.{seq}",
        "priority": defaults.priority if spec.priority is None else spec.priority,
        "max_attempts": spec.max_attempts or defaults.max_attempts,
        "shape_id": shape_id,
        "n_inputs": len(spec.inputs),
        "n_outputs": len(spec.outputs),
        "spec": {
            "command": spec.command,
            "env": {**defaults.env, **spec.env},
            "sandbox": spec.sandbox or defaults.sandbox,
            **({"direct_read": True} if defaults.direct_read else {}),
        },
    }


def _files(panda_id: int, spec: JobSpec) -> Iterator[dict[str, Any]]:
    for reference in spec.inputs:
        did, slash, lfn = reference.partition("/")
        kind = "input" if slash else "dataset"
        yield {"panda_id": panda_id, "kind": kind, "lfn": lfn or did, "did": did}
    for lfn in spec.outputs:
        yield {"panda_id": panda_id, "kind": "output", "lfn": lfn, "did": None}


def _text(document: Any) -> str:
    return msgspec.json.encode(document).decode()


def release_chunk(connection: Connection, engine: Engine) -> int:
    """Release the next chunk of a set whose last parent ended. Returns the ids passed; 0: nothing to do."""
    waiting = rows(connection, NEXT_RELEASE)
    if not waiting or not rows(connection, ONE_RELEASER, {"jobset_id": waiting[0].jobset_id})[0].mine:
        return 0
    found = rows(connection, CURSOR, {"jobset_id": waiting[0].jobset_id})
    if not found:
        return 0
    jobset = found[0]
    n = min(jobset.n_released + engine.chunk_jobs, jobset.n_expanded)
    first = jobset.first_panda_id + jobset.n_released
    end = jobset.first_panda_id + n
    panda_ids = [row.panda_id for row in rows(connection, LOCK_RELEASED, {"first": first, "end": end})]
    run(connection, RELEASED, {"n": n, "jobset_id": jobset.jobset_id})
    if jobset.held_at:
        run(connection, HOLD, {"panda_ids": panda_ids, "wait_s": QUOTA_WAIT_S})
    else:
        set_free(connection, jobset, panda_ids, first)
    return int(end - first)


def set_free(connection: Connection, jobset: Row[Any], panda_ids: Sequence[int], first: int) -> None:
    """Nothing keeps these jobs of a set any more; `first`: the PandaID that its turn begins with."""
    start = _turn(connection, jobset, len(panda_ids))
    run(connection, RELEASE, {"panda_ids": list(panda_ids), "first": first, "start": start, "step_s": BURST_STEP_S})


def _turn(connection: Connection, jobset: Row[Any], n_jobs: int) -> Any:
    """Where `n_jobs` of this user and share start in virtual time."""
    clock = {"owner": jobset.owner, "share": jobset.share, "for_s": BURST_STEP_S * n_jobs}
    return rows(connection, FAIR_CLOCK, clock)[0].start

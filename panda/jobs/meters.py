"""Counters for `/metrics` that only grow: runs of stages, attempts that failed, files that storages got.

Workers have no door of their own for Prometheus, so what they did is counted in the database. Nobody writes a hot row:
runs of stages and failed attempts come from the deltas that are there for pages, transfers append deltas of their own,
and one process folds them all, set-wise.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows, run
from panda.metrics import BUCKETS_S, Bins, Family, Sample, histogram

#: Series that a meter may have. What is new beyond them is counted under `other`: labels come from outside.
MAX_SERIES = 2_000
STAGE, FAILURE, TRANSFER = "stage", "stage_failure", "transfer"
#: The code of a transfer that arrived.
DONE = ""

_BOUNDS = f"ARRAY[{', '.join(repr(str(bound)) for bound in BUCKETS_S)}, '+Inf']"
#: A run that took exactly as long as a bound says is below it.
_ABOVE_MS = f"ARRAY[{', '.join(str(int(bound * 1000) + 1) for bound in BUCKETS_S)}]"

#: What a fold of `stage_run_deltas` AS gone adds: a run by stage and bucket, and its seconds.
STAGE_BUCKETS = f"""buckets AS (
INSERT INTO meters AS m (meter, labels, n, amount, changed_at)
SELECT '{STAGE}', ARRAY[stage, ({_BOUNDS})[width_bucket(busy_ms, {_ABOVE_MS}) + 1]], count(*), sum(busy_ms) / 1000.0,
    panda_now()
FROM gone GROUP BY 2
ON CONFLICT (meter, labels) DO UPDATE SET n = m.n + excluded.n, amount = m.amount + excluded.amount,
    changed_at = excluded.changed_at)"""


def _known(meter: str, labels: str) -> str:
    """`labels`, or `other` in place of each that says something if the meter has no room for them: what is empty says
    that nothing failed."""
    return f"""CASE WHEN EXISTS (SELECT FROM meters WHERE meter = {meter} AND labels = {labels})
        OR (SELECT count(*) FROM meters WHERE meter = {meter}) < {MAX_SERIES} THEN {labels}
        ELSE ARRAY(SELECT CASE WHEN label = '' THEN '' ELSE 'other' END
            FROM unnest({labels}) WITH ORDINALITY AS t(label, nr) ORDER BY nr) END"""


#: What a fold of `error_deltas` AS gone adds.
STAGE_FAILURES = f"""failures AS (
INSERT INTO meters AS m (meter, labels, n, amount, changed_at)
SELECT '{FAILURE}', {_known(f"'{FAILURE}'", "said.labels")}, sum(said.n), 0, panda_now()
FROM (SELECT ARRAY[failed_stage, error_code] AS labels, sum(n) AS n FROM gone GROUP BY 1) AS said
GROUP BY 2
ON CONFLICT (meter, labels) DO UPDATE SET n = m.n + excluded.n, changed_at = excluded.changed_at)"""
FOLD = f"""
WITH gone AS (DELETE FROM meter_deltas RETURNING *)
INSERT INTO meters AS m (meter, labels, n, amount, changed_at)
SELECT said.meter, {_known("said.meter", "said.labels")}, sum(said.n), sum(said.amount), panda_now()
FROM (SELECT meter, labels, sum(n) AS n, sum(amount) AS amount FROM gone GROUP BY 1, 2) AS said
GROUP BY 1, 2
ON CONFLICT (meter, labels) DO UPDATE SET n = m.n + excluded.n, amount = m.amount + excluded.amount,
    changed_at = excluded.changed_at
"""
COUNT_TRANSFER = f"""
INSERT INTO meter_deltas (meter, labels, n, amount)
VALUES ('{TRANSFER}', ARRAY[%(source)s::text, %(destination)s::text, %(code)s::text], 1, %(amount)s)
"""
ALL = f"SELECT meter, labels, n, amount FROM meters ORDER BY meter, labels LIMIT {4 * MAX_SERIES}"


def fold(connection: Connection) -> None:
    """Fold what transfers appended."""
    run(connection, FOLD)


def count_transfer(connection: Connection, source: str, destination: str, *, code: str = DONE, size_bytes: int) -> None:
    """A file arrived; or, with a `code`, a try to bring it failed."""
    run(connection, COUNT_TRANSFER,
        {"source": source, "destination": destination, "code": code, "amount": size_bytes})  # fmt: skip


def families(connection: Connection) -> list[Family]:
    """All of them."""
    found: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows(connection, ALL):
        found[row.meter].append(row)
    done = [row for row in found[TRANSFER] if row.labels[2] == DONE]
    failed = [row for row in found[TRANSFER] if row.labels[2] != DONE]
    links = ("source", "destination")
    return [
        *histogram("panda_stage_seconds", "How long runs of a stage took, each for a batch of jobs.",
                   "stage", _bins(found[STAGE])),
        Family("panda_stage_failures_total", "Attempts that failed, by stage and error code.",
               _samples(found[FAILURE], ("stage", "code")), "counter"),
        Family("panda_transfers_done_total", "Files that arrived, by storage.", _samples(done, links), "counter"),
        Family("panda_transfer_bytes_total", "Their bytes.",
               [({"source": r.labels[0], "destination": r.labels[1]}, r.amount) for r in done], "counter"),
        Family("panda_transfer_failures_total", "Tries to bring a file that failed, by storage and error code.",
               _samples(failed, (*links, "code")), "counter"),
    ]  # fmt: skip


def _samples(found: Iterable[Row[Any]], names: tuple[str, ...]) -> list[Sample]:
    return [(dict(zip(names, row.labels, strict=False)), row.n) for row in found]


def _bins(found: Iterable[Row[Any]]) -> dict[str, Bins]:
    """By stage. A bound that this version does not know any more counts with the next one that it knows."""
    bins: dict[str, Bins] = {}
    for row in found:
        stage, bound = row.labels
        nr = sum(float(bound) > known for known in BUCKETS_S)
        counts, total = bins.get(stage, ([0] * (len(BUCKETS_S) + 1), 0.0))
        counts[nr] += row.n
        bins[stage] = (counts, total + row.amount)
    return bins

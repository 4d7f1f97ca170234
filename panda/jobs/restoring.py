"""After the database came back from a backup: what was handed out since must never be handed out again.

Pilots, clients and storages know what the database forgot: PandaIDs, attempts, files. So numbers start behind
everything that may have been used, and every place where an output may be written gets a new name. What a pilot
then reports on something that the database does not know is fenced by its lease token and goes to quarantine.
"""

from typing import NamedTuple

from sqlalchemy.engine import Connection

from panda.auth import audit_log
from panda.db.session import rows, run, unhurried

#: More than any system accepts between two backups.
GAP_JOBS = 1_000_000
GAP_SETS = 100_000

NEW_ERA = """
INSERT INTO engine_state AS e (key, value) VALUES ('era', '1')
ON CONFLICT (key) DO UPDATE SET value = (e.value::int + 1)::text RETURNING value::int AS era
"""
SKIP_IDS = """
SELECT setval('panda_id_seq', last_value + %(jobs)s) AS last,
    setval(pg_get_serial_sequence('jobsets', 'jobset_id'),
        (SELECT coalesce(max(jobset_id), 0) FROM jobsets) + %(sets)s) AS last_set
FROM panda_id_seq
"""
PARTITIONS = "SELECT panda_ensure_partitions(%(last)s)"
#: Reserved, and maybe taken and written by a pilot of which this database knows nothing.
RENAME = """
UPDATE job_files SET path = path || '.' || %(era)s
WHERE kind = 'output' AND status = 'defined' AND path IS NOT NULL
    AND panda_id = ANY(ARRAY(SELECT panda_id FROM jobs WHERE status = 'activated'))
"""
FORGET_REDIS = "DELETE FROM engine_state WHERE key = 'redis_epoch'"
LEASES = "SELECT count(*)::int AS n FROM leases"


class Restored(NamedTuple):
    """What `after_restore` did."""

    era: int
    first_panda_id: int
    """New jobs begin above this."""
    n_renamed: int
    """Outputs whose place has a new name."""
    n_leases: int
    """Attempts that ran when the backup was made; those whose pilots are silent run again."""


def after_restore(connection: Connection, *, by: str) -> Restored:
    """Make a restored database safe to start. Nothing of the system may run yet; twice does no harm."""
    unhurried(connection)
    era = int(rows(connection, NEW_ERA)[0].era)
    last = int(rows(connection, SKIP_IDS, {"jobs": GAP_JOBS, "sets": GAP_SETS})[0].last)
    rows(connection, PARTITIONS, {"last": last + GAP_JOBS})
    n_renamed = run(connection, RENAME, {"era": era})
    run(connection, FORGET_REDIS)  # so that whatever was sent when the backup was made is due at once
    restored = Restored(era, last, n_renamed, int(rows(connection, LEASES)[0].n))
    audit_log.record(connection, by, "recover", "database", reason="restored from a backup", facts=restored._asdict())
    return restored

"""What upstream's clients said, forgotten when its time is over: words of jobs, uploads, notes of harvesters.

Everything else of a job stays in the archive. Each step takes a piece from where the oldest rows are; the clock
comes again.
"""

from sqlalchemy.engine import Connection

from panda.db.session import run

#: Rows that one step looks at.
CHUNK = 5_000

#: By PandaID, the oldest first: those that ended long ago.
JOBS = """
DELETE FROM upstream_jobs WHERE panda_id = ANY(ARRAY(
    SELECT u.panda_id FROM (SELECT panda_id FROM upstream_jobs ORDER BY panda_id LIMIT %(chunk)s) u
        LEFT JOIN LATERAL (SELECT panda_id FROM jobs WHERE panda_id = u.panda_id OFFSET 0) j ON true
        LEFT JOIN LATERAL (SELECT archived_at FROM jobs_archive WHERE panda_id = u.panda_id OFFSET 0) a ON true
    WHERE j.panda_id IS NULL AND a.archived_at < (SELECT panda_now()) - make_interval(days => %(keep_days)s)))
"""
REPORTS = """
DELETE FROM upstream_reports WHERE panda_id = ANY(ARRAY(
    SELECT DISTINCT u.panda_id FROM (
        SELECT panda_id, changed_at FROM upstream_reports ORDER BY panda_id, attempt_nr LIMIT %(chunk)s) u
        LEFT JOIN LATERAL (SELECT panda_id FROM jobs WHERE panda_id = u.panda_id OFFSET 0) j ON true
    WHERE j.panda_id IS NULL AND u.changed_at < (SELECT panda_now()) - make_interval(days => %(keep_days)s)))
"""
FILES = """
DELETE FROM upstream_files WHERE name = ANY(ARRAY(
    SELECT name FROM upstream_files
    WHERE created_at < (SELECT panda_now()) - make_interval(days => %(keep_days)s) LIMIT %(chunk)s))
"""
#: The newest worker of each harvester stays: by its number the next one is counted.
NOTES = """
DELETE FROM upstream_notes n USING (
    SELECT harvester_id, kind, key FROM upstream_notes o
    WHERE changed_at < (SELECT panda_now()) - make_interval(days => %(keep_days)s) AND kind <> 'instance'
        AND NOT (kind = 'worker' AND key ~ '^[0-9]{1,18}$' AND key::bigint = (
            SELECT max(key::bigint) FROM upstream_notes
            WHERE harvester_id = o.harvester_id AND kind = 'worker' AND key ~ '^[0-9]{1,18}$'))
    LIMIT %(chunk)s) old
WHERE n.harvester_id = old.harvester_id AND n.kind = old.kind AND n.key = old.key
"""
COMMANDS = """
DELETE FROM upstream_commands WHERE command_id = ANY(ARRAY(
    SELECT command_id FROM (SELECT * FROM upstream_commands ORDER BY command_id LIMIT %(chunk)s) c
    WHERE created_at < (SELECT panda_now()) - make_interval(days => %(keep_days)s)))
"""


def tidy(connection: Connection, keep_days: int) -> int:
    """A piece of each. Returns the rows that went."""
    values = {"keep_days": keep_days, "chunk": CHUNK}
    return sum(run(connection, statement, values) for statement in (JOBS, REPORTS, FILES, NOTES, COMMANDS))

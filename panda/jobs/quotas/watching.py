"""Ready jobs carry their owner where a quota binds them, so that a claim can pass over whole owners.

`ready.offer` marks a job when it becomes ready. When a quota, a ban or a limit changes, a walk through `ready` marks
those that were there already: at once, and once more when every process has seen the change and what it began before
is done. Claims skip a row that the walk holds, and the walk one that a claim holds; both are short.
"""

from sqlalchemy.engine import Connection

from panda.db.session import rows, run
from panda.jobs.quotas import picture

#: Rows that one transaction looks at.
CHUNK = 2_000
#: After a change, whatever was begun with the old picture is over after this: a process trusts its picture for a
#: second, and a transaction of ours lasts five at most.
SEEN_S = 10.0

STATE = f"""
SELECT after_panda_id, began_at < changed_at
        OR (began_at < changed_at + make_interval(secs => {SEEN_S})
            AND panda_now() >= changed_at + make_interval(secs => {SEEN_S})) AS is_due
FROM quota_walk FOR UPDATE SKIP LOCKED
"""
BEGIN = "UPDATE quota_walk SET began_at = panda_now(), after_panda_id = 0"
NEXT = """
SELECT r.panda_id, r.who, j.owner
FROM (SELECT panda_id, who FROM ready WHERE panda_id > %(after)s ORDER BY panda_id LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED) r,
    LATERAL (SELECT owner FROM jobs WHERE panda_id = r.panda_id OFFSET 0) j
ORDER BY r.panda_id
"""
MARK = """
UPDATE ready SET who = (%(whos)s::text[])[array_position(%(panda_ids)s::bigint[], panda_id)]
WHERE panda_id = ANY(%(panda_ids)s)
"""
GO_ON = "UPDATE quota_walk SET after_panda_id = %(after)s"


def walk(connection: Connection, limit: int = CHUNK) -> bool:
    """The next step of a walk that is due. Returns whether there was one."""
    found = rows(connection, STATE)
    if not found or (found[0].after_panda_id is None and not found[0].is_due):
        return False
    after = found[0].after_panda_id
    if after is None:
        run(connection, BEGIN)
        after = 0
    now = picture.fresh(connection)
    seen = rows(connection, NEXT, {"after": after, "limit": limit})
    wanted = {row.panda_id: row.owner if now.watches_everybody or now.is_watched(row.owner) else "" for row in seen}
    wrong = {row.panda_id: wanted[row.panda_id] for row in seen if row.who != wanted[row.panda_id]}
    if wrong:
        run(connection, MARK, {"panda_ids": list(wrong), "whos": list(wrong.values())})
    run(connection, GO_ON, {"after": seen[-1].panda_id if seen else None})
    return True

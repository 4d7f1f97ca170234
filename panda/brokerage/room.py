"""What a job that waits for room is filed under.

Its *room group* is the set of queues that refused it because they were full. There are as many groups as such sets,
whatever the number of jobs; one index gives the first jobs of a group. So a clock can ask what room there is now, and
wake just as many (`waking`).
"""

import hashlib
import json
from collections.abc import Sequence

from sqlalchemy.engine import Connection

from panda.db.session import rows, run

KNOWN = """
SELECT room_group, key, seen_at < (SELECT panda_now()) - interval '10 minutes' AS is_old
FROM room_groups WHERE key = ANY(%(keys)s::bytea[])
"""
ADD = """
INSERT INTO room_groups (key, policy, queues, seen_at)
SELECT g.key, g.policy, ARRAY(SELECT jsonb_array_elements_text(g.queues::jsonb)), panda_now()
FROM unnest(%(keys)s::bytea[], %(policies)s::text[], %(queues)s::text[]) AS g(key, policy, queues) ORDER BY g.key
ON CONFLICT (key) DO NOTHING
"""
#: Groups that nobody touches for a day are tidied away. Whoever holds one touches it, too.
TOUCH = """
UPDATE room_groups SET seen_at = panda_now() WHERE room_group = ANY(ARRAY(
    SELECT room_group FROM room_groups WHERE room_group = ANY(%(groups)s) FOR UPDATE SKIP LOCKED))
"""


def groups_for(connection: Connection, wanted: Sequence[tuple[str, tuple[str, ...]]]) -> list[int | None]:
    """The room group of each (policy, full queues by name), made if there is none; None where no queue is full."""
    key_of = {each: hashlib.sha256(json.dumps(each).encode()).digest() for each in set(wanted) if each[1]}
    if not key_of:
        return [None] * len(wanted)
    keys = {"keys": list(key_of.values())}
    known = rows(connection, KNOWN, keys)
    missing = [each for each, key in key_of.items() if key not in {bytes(row.key) for row in known}]
    if missing:
        run(
            connection,
            ADD,
            {
                "keys": [key_of[each] for each in missing],
                "policies": [policy for policy, _ in missing],
                "queues": [json.dumps(queues) for _, queues in missing],
            },
        )
        known = rows(connection, KNOWN, keys)
    old = [row.room_group for row in known if row.is_old]
    if old:
        run(connection, TOUCH, {"groups": old})
    number_of = {bytes(row.key): row.room_group for row in known}
    return [number_of[key_of[each]] if each[1] else None for each in wanted]

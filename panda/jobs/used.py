"""What was used, by whom or where, summed over days; from the daily roll-up, which is some seconds late."""

from typing import Any

from sqlalchemy.engine import Connection, Row

from panda.db.session import rows
from panda.errors import UnknownName

#: Days that can be looked back at.
MOST_DAYS = 3_660
#: What a sum can be told by: where its word stands.
GROUPS = {
    "user": "u.owner",
    "share": "u.share",
    "queue": "u.queue",
    "site": "coalesce((SELECT q.site FROM queues q WHERE q.name = u.queue), '')",
    "day": "u.day::text",
}

_SUMS = """
SELECT {group} AS name, sum(u.n_finished)::bigint AS n_finished, sum(u.n_failed)::bigint AS n_failed,
    sum(u.n_cancelled)::bigint AS n_cancelled, sum(u.wall_s)::float8 AS wall_s, sum(u.cpu_s)::float8 AS cpu_s,
    sum(u.core_s)::float8 AS core_s
FROM usage u
WHERE u.day > ((SELECT panda_now()) - make_interval(days => %(days)s))::date
    AND (%(owner)s::text IS NULL OR u.owner = %(owner)s)
GROUP BY 1 ORDER BY {order}
"""
SUMS = {
    name: _SUMS.format(group=group, order="name" if name == "day" else "core_s DESC, name")
    for name, group in GROUPS.items()
}


def sums(connection: Connection, by: str, days: int, owner: str | None = None) -> list[Row[Any]]:
    """The sums of the last `days` days, today's among them; most core time first, days in order.

    Args:
        by: a word of GROUPS. owner: what was used by this one; None: by everybody.
    Returns: rows with `name` (empty: at no queue, at no site), jobs (`n_failed`: attempts), and seconds.
    Raises:
        UnknownName: `unknown_group`.
    """
    if by not in GROUPS:
        raise UnknownName("group", by[:60], list(GROUPS), where="by")
    return rows(connection, SUMS[by], {"days": days, "owner": owner})

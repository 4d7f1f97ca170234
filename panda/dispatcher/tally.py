"""How pilots' asks ended, and what they had too little of, counted in each process and written every few seconds.

No claim writes anything for it: what a process noticed stays in its memory until `FLUSH_S` has passed, then one of its
threads writes it all in one statement. What a process that is killed had not written yet is lost, which harms nobody.
"""

import time
from collections.abc import Iterable
from threading import Lock

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from panda.db.session import Begin, asynchronous, run

FLUSH_S = 5.0
#: Kinds that one process counts between two writings; what is new beyond them is not counted.
MAX_KINDS = 5_000
#: The shape of what is said of a queue as a whole.
WHOLE = 0

#: How an ask ended.
GOT, OFFLINE, PAUSED, QUICKER = "got", "offline", "paused", "quicker"
NOTHING_READY, NOTHING_FITS = "nothing_ready", "nothing_fits"

#: In one order, so that two processes never wait for each other in a ring.
WRITE = """
INSERT INTO dispatch_counts AS c (hour, queue, shape_id, word, n, most, last_at)
SELECT date_trunc('hour', panda_now()), queue, shape_id, word, n, most, panda_now()
FROM unnest(%(queues)s::text[], %(shape_ids)s::int[], %(words)s::text[], %(ns)s::bigint[], %(mosts)s::bigint[])
    AS t(queue, shape_id, word, n, most)
ORDER BY queue, shape_id, word
ON CONFLICT (queue, shape_id, hour, word) DO UPDATE SET n = c.n + excluded.n, most = greatest(c.most, excluded.most),
    last_at = excluded.last_at
"""
TIDY = "DELETE FROM dispatch_counts WHERE hour < panda_now() - interval '7 days'"

Key = tuple[str, int, str]


class Tally:
    """What one process counted and has not written."""

    def __init__(self) -> None:
        self._counts: dict[Key, tuple[int, int]] = {}
        self._guard, self._writing = Lock(), Lock()
        self._due_at = time.monotonic() + FLUSH_S

    def ask(self, queue: str, outcome: str, misfits: Iterable[tuple[int, str, int]] = ()) -> None:
        """An ask at `queue` ended.

        Args:
            misfits: shape, word and how much the pilot had, for jobs of each shape that it could not take.
        """
        with self._guard:
            self._note((queue, WHOLE, outcome), 0)
            for shape_id, word, has in misfits:
                self._note((queue, shape_id, word), has)

    def _note(self, key: Key, has: int) -> None:
        known = self._counts.get(key)
        if known is not None:
            self._counts[key] = (known[0] + 1, max(known[1], has))
        elif len(self._counts) < MAX_KINDS:
            self._counts[key] = (1, has)

    def write_if_due(self, begin: Begin) -> None:
        """Write what was counted, if the last writing was `FLUSH_S` ago. The caller's work is done and stays so: what
        cannot be written now is kept."""
        if time.monotonic() < self._due_at or not self._writing.acquire(blocking=False):
            return
        try:
            self._due_at = time.monotonic() + FLUSH_S
            self.write(begin)
        except (DBAPIError, PoolTimeout):
            pass
        finally:
            self._writing.release()

    def write(self, begin: Begin) -> None:
        """Write what was counted. Raises what the database does; nothing is lost then."""
        with self._guard:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            with begin() as connection:
                asynchronous(connection)
                run(connection, WRITE, _columns(counts))
        except BaseException:
            self._put_back(counts)
            raise

    def _put_back(self, counts: dict[Key, tuple[int, int]]) -> None:
        with self._guard:
            for key, (n, most) in counts.items():
                newer = self._counts.get(key, (0, 0))
                self._counts[key] = (newer[0] + n, max(newer[1], most))


def forget_old(connection: Connection) -> None:
    """Counts of more than a week ago."""
    run(connection, TIDY)


def _columns(counts: dict[Key, tuple[int, int]]) -> dict[str, list[str] | list[int]]:
    keys = sorted(counts)
    return {
        "queues": [key[0] for key in keys],
        "shape_ids": [key[1] for key in keys],
        "words": [key[2] for key in keys],
        "ns": [counts[key][0] for key in keys],
        "mosts": [min(counts[key][1], 2**62) for key in keys],
    }


#: This process's.
tally = Tally()

"""Files that are brought online from tape before they can be moved.

Whoever wants a file whose source is a tape writes a row of `recalls`: one for the file, however many want it. A tick
asks the tape systems in bulk, looks how far they are, lets the transfers go on whose file is online (or cannot be
had), and gives back what nobody moves any more. A tick that dies in the middle asks twice, which does no harm.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy.engine import Connection, Row

from panda import plugins
from panda.dataservice.stagers.base import Recall, Stager
from panda.db.session import Begin, once, rows, run
from panda.jobs.downs import STORAGES_DOWN
from panda.logs import Log
from panda.settings import Data

log = Log("panda.recalls")

T = TypeVar("T")

#: Files of one request, and rows that one tick takes of each kind.
BATCH, TAKEN = 1_000, 5_000
#: Whoever asks has this long to say what came of it, in seconds.
LEASE_S = 60.0
#: Between two looks at a request: a tenth of its age, within these bounds, in seconds.
FIRST_LOOK_S, LONGEST_LOOK_S = 1.0, 60.0
#: A tape system that refuses is asked again after this, twice as long each further time up to the longest, in seconds.
BACK_OFF_S, LONGEST_BACK_OFF_S = 5.0, 600.0
#: A pin is renewed this part of its length before its end.
RENEW = 0.1
#: A file that somebody fetches stays online for this long, in seconds.
FETCH_S = 3600.0
#: A failure that nobody heard of is forgotten after this, in seconds.
FAILED_S = 3600.0

WANT = """
INSERT INTO recalls (file_id, storage, due_at, created_at, wanted_until)
SELECT w.file_id, w.storage, panda_now(), panda_now(), panda_now() + make_interval(secs => %(for_s)s::float8)
FROM (SELECT DISTINCT * FROM unnest(%(file_ids)s::bigint[], %(storages)s::text[]) AS w(file_id, storage)) w
ORDER BY 1, 2
ON CONFLICT (file_id, storage) DO NOTHING
"""
PROLONG = """
UPDATE recalls SET wanted_until = panda_now() + make_interval(secs => %(for_s)s)
WHERE file_id = %(file_id)s AND storage = %(storage)s
"""
FORGET_FAILED = "DELETE FROM recalls WHERE file_id = %(file_id)s AND storage = %(storage)s AND status = 'failed'"
#: The next ones of a status, for a while ours; with what a stager needs to know.
TAKE = f"""
WITH next AS (
    SELECT r.file_id, r.storage FROM recalls r JOIN storages s ON s.name = r.storage AND s.status = 'online'
        AND s.name <> ALL({STORAGES_DOWN})
    WHERE r.due_at <= (SELECT panda_now()) AND r.status = %(status)s ORDER BY r.due_at LIMIT %(n)s
    FOR UPDATE OF r SKIP LOCKED)
UPDATE recalls r SET due_at = panda_now() + make_interval(secs => %(lease_s)s),
    tries = tries + CASE WHEN r.status = 'wanted' THEN 1 ELSE 0 END
FROM next n, storages s,
    LATERAL (SELECT path FROM replicas WHERE file_id = n.file_id AND storage = n.storage OFFSET 0) p
WHERE r.file_id = n.file_id AND r.storage = n.storage AND s.name = n.storage
RETURNING r.file_id, r.storage, r.request, r.tries, p.path, s.root, s.stager,
    extract(epoch FROM panda_now() - coalesce(r.asked_at, r.created_at))::float8 AS age_s
"""
_THESE = """
FROM unnest(%(file_ids)s::bigint[], %(storages)s::text[]) AS w(file_id, storage)
WHERE r.file_id = w.file_id AND r.storage = w.storage
"""
ASKED = f"""
UPDATE recalls r SET status = 'asked', request = %(request)s, asked_at = panda_now(), error = NULL,
    due_at = panda_now() + make_interval(secs => %(for_s)s)
{_THESE} AND r.status = 'wanted'
"""
ONLINE = f"""
UPDATE recalls r SET status = 'online', error = NULL, pinned_until = panda_now() + make_interval(secs => %(pin_s)s),
    due_at = panda_now() + make_interval(secs => %(look_s)s)
{_THESE} AND r.status = 'asked'
"""
FAILED = f"""
UPDATE recalls r SET status = 'failed', error = %(error)s, due_at = panda_now() + make_interval(secs => %(for_s)s)
{_THESE} AND r.status IN ('wanted', 'asked')
"""
LATER = f"""
UPDATE recalls r SET error = %(error)s, due_at = panda_now() + make_interval(secs => %(for_s)s) {_THESE}
"""
#: What waited for these looks at once; transfers are found by their file.
LET_GO_ON = """
UPDATE transfers SET due_at = panda_now() WHERE transfer_id = ANY(ARRAY(
    SELECT t.transfer_id FROM (SELECT DISTINCT unnest(%(file_ids)s::bigint[]) AS file_id) w,
        LATERAL (SELECT transfer_id, status, due_at FROM transfers WHERE file_id = w.file_id OFFSET 0) t
    WHERE t.status = 'queued' AND t.due_at > (SELECT panda_now()) ORDER BY t.transfer_id))
"""
_IS_WANTED = """
(coalesce(r.wanted_until > panda_now(), false) OR EXISTS (
    SELECT FROM (SELECT status FROM transfers WHERE file_id = r.file_id OFFSET 0) t
    WHERE t.status IN ('queued', 'moving')))
"""
#: Pins that nobody needs any more, or that end soon; and failures that nobody came for.
OVER = f"""
SELECT r.file_id, r.storage, r.request, p.path, s.root, s.stager, r.status, {_IS_WANTED} AS is_wanted
FROM (SELECT * FROM recalls WHERE due_at <= (SELECT panda_now()) AND status IN ('online', 'failed')
        ORDER BY due_at LIMIT %(n)s) r
JOIN storages s ON s.name = r.storage
LEFT JOIN LATERAL (SELECT path FROM replicas WHERE file_id = r.file_id AND storage = r.storage OFFSET 0) p ON true
"""
AGAIN = f"""
UPDATE recalls r SET status = 'wanted', due_at = panda_now()
{_THESE} AND r.status IN ('online', 'failed') AND r.pinned_until < panda_now() + make_interval(secs => %(margin_s)s)
"""
LOOK_AGAIN = f"UPDATE recalls r SET due_at = panda_now() + make_interval(secs => %(look_s)s) {_THESE}"
DROP = f"""
DELETE FROM recalls r USING unnest(%(file_ids)s::bigint[], %(storages)s::text[]) AS w(file_id, storage)
WHERE r.file_id = w.file_id AND r.storage = w.storage AND NOT {_IS_WANTED}
RETURNING r.file_id, r.storage
"""
BY_STORAGE = """
SELECT storage, status, count(*)::int AS n, min(created_at) AS since, max(error) AS error FROM recalls
GROUP BY storage, status ORDER BY storage, status
"""

#: A file on a tape: file_id, storage.
OnTape = tuple[int, str]


@cache
def stager_of(name: str) -> Stager:
    """The stager of that name. Raises UnknownName."""
    stager: Stager = plugins.load("panda.stagers", name)()
    return stager


def want(connection: Connection, files: Sequence[OnTape], *, for_s: float | None = None) -> None:
    """Have these brought online; one that is on its way is not asked for again. `for_s`: also without a transfer that
    waits for it."""
    run(connection, WANT, _columns(files) | {"for_s": for_s})


def want_for_reader(connection: Connection, file: OnTape) -> None:
    """Somebody fetches this file."""
    want(connection, [file], for_s=FETCH_S)
    run(connection, PROLONG, {"file_id": file[0], "storage": file[1], "for_s": FETCH_S})


def forget_failed(connection: Connection, file: OnTape) -> None:
    """Whoever wanted it has heard that it failed: the next one who wants it asks anew."""
    run(connection, FORGET_FAILED, {"file_id": file[0], "storage": file[1]})


def by_storage(connection: Connection) -> list[Row[Any]]:
    """Recalls by storage and status: n, since (the oldest), error (one of them)."""
    return rows(connection, BY_STORAGE)


def advance(begin: Begin, data: Data) -> int:
    """Ask, look and give back, each in bulk. Returns how many files came online or failed."""
    _ask(begin, data)
    n = _look(begin, data)
    _give_back(begin, data)
    return n


def _take(begin: Begin, status: str) -> list[Row[Any]]:
    with begin() as connection:
        return rows(connection, TAKE, {"status": status, "n": TAKEN, "lease_s": LEASE_S})


def _ask(begin: Begin, data: Data) -> None:
    for found in _batches(_take(begin, "wanted"), lambda row: (row.storage,)):
        first = found[0]
        try:
            name = stager_of(first.stager).request(first.root, [row.path for row in found], data.recall_pin_s)
        except OSError as problem:
            _later(begin, found, problem)
            continue
        with once(begin) as connection:
            run(connection, ASKED, _columns(_files(found)) | {"request": name, "for_s": FIRST_LOOK_S})


def _look(begin: Begin, data: Data) -> int:
    n = 0
    for found in _batches(_take(begin, "asked"), lambda row: (row.storage, row.request)):
        first = found[0]
        try:
            states = stager_of(first.stager).poll(first.root, first.request, [row.path for row in found])
        except OSError as problem:
            _later(begin, found, problem)
            continue
        n += _settle(begin, data, found, states)
    return n


def _settle(begin: Begin, data: Data, found: Sequence[Row[Any]], states: Mapping[str, Recall]) -> int:
    """Write down how far the files of one request are. Returns how many of them have an end."""
    online = [row for row in found if states.get(row.path, _WAITING).state == "online"]
    failed: dict[str, list[Row[Any]]] = defaultdict(list)
    waiting = []
    for row in found:
        state = states.get(row.path, _WAITING)
        if state.state == "failed":
            failed[state.problem or "the tape system gave it up"].append(row)
        elif state.state == "waiting" and row.age_s > data.recall_deadline_s:
            failed[f"it was not online within {data.recall_deadline_s / 3600:g} h"].append(row)
        elif state.state == "waiting":
            waiting.append(row)
    ended = [*online, *(row for each in failed.values() for row in each)]
    with begin() as connection:
        if online:
            pin = {"pin_s": float(data.recall_pin_s), "look_s": _look_at_pin_s(data)}
            run(connection, ONLINE, _columns(_files(online)) | pin)
        for problem, each in failed.items():
            log.warning("files cannot be brought online", storage=each[0].storage, n=len(each), problem=problem)
            run(connection, FAILED, _columns(_files(each)) | {"error": problem[:2000], "for_s": FAILED_S})
        if waiting:
            for_s = min(LONGEST_LOOK_S, max(FIRST_LOOK_S, waiting[0].age_s / 10))
            run(connection, LATER, _columns(_files(waiting)) | {"error": None, "for_s": for_s})
        if ended:
            run(connection, LET_GO_ON, {"file_ids": [row.file_id for row in ended]})
    return len(ended)


_WAITING = Recall("waiting")


def _give_back(begin: Begin, data: Data) -> None:
    """Pins that nobody needs end; those that somebody needs are renewed before they end."""
    with once(begin) as connection:
        over = rows(connection, OVER, {"n": TAKEN})
    wanted = [row for row in over if row.is_wanted]
    if wanted:
        with begin() as connection:
            run(connection, LOOK_AGAIN, _columns(_files(wanted)) | {"look_s": _look_at_pin_s(data)})
            margin_s = 2 * RENEW * data.recall_pin_s
            run(connection, AGAIN, _columns(_files(wanted)) | {"margin_s": margin_s})
    unwanted = {(row.file_id, row.storage): row for row in over if not row.is_wanted}
    if not unwanted:
        return
    with begin() as connection:
        dropped = rows(connection, DROP, _columns(sorted(unwanted)))
    gone = [unwanted[row.file_id, row.storage] for row in dropped]
    pinned = [row for row in gone if row.status == "online" and row.path is not None]
    for found in _batches(pinned, lambda row: (row.storage, row.request)):
        try:
            stager_of(found[0].stager).release(found[0].root, found[0].request, [row.path for row in found])
        except OSError as problem:  # the pin ends by itself
            log.warning("files cannot be given back", storage=found[0].storage, problem=str(problem))


def _look_at_pin_s(data: Data) -> float:
    """When a file that is online is looked at again: often enough that its pin is renewed in time."""
    return min(LONGEST_LOOK_S, RENEW * data.recall_pin_s)


def _later(begin: Begin, found: Sequence[Row[Any]], problem: OSError) -> None:
    """The tape system refuses: it is asked again, ever less often. That is no end for the files."""
    told = f"the tape system does not answer: {problem.strerror or problem}"
    log.warning("a tape system does not answer", storage=found[0].storage, problem=told)
    for_s = min(LONGEST_BACK_OFF_S, BACK_OFF_S * 2 ** min(found[0].tries, 20))
    with once(begin) as connection:
        run(connection, LATER, _columns(_files(found)) | {"error": told[:2000], "for_s": for_s})


def _batches(found: Sequence[Row[Any]], key: Callable[[Row[Any]], tuple[Any, ...]]) -> list[list[Row[Any]]]:
    """Rows of one key together, at most `BATCH` of them."""
    by_key: dict[tuple[Any, ...], list[Row[Any]]] = defaultdict(list)
    for row in found:
        by_key[key(row)].append(row)
    return [each[start : start + BATCH] for each in by_key.values() for start in range(0, len(each), BATCH)]


def _files(found: Sequence[Row[Any]]) -> list[OnTape]:
    return sorted((row.file_id, row.storage) for row in found)


def _columns(files: Sequence[OnTape]) -> dict[str, Any]:
    return {"file_ids": [file_id for file_id, _ in files], "storages": [storage for _, storage in files]}

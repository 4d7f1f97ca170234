"""Actions on many jobs: previewed, confirmed, then carried out in chunks (law 18).

A preview says what a filter reaches now and gives a token. The token, given back with the same words, makes
the action a row that the clock advances chunk by chunk, from the newest PandaID down to the oldest. What fits
when its chunk comes is acted on, but never more jobs than were previewed; jobs that were submitted after the
preview are never reached. Only live jobs are: an archived one has to be submitted again.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy.engine import Connection, Row

from panda.auth import audit_log
from panda.db import lists
from panda.db.session import Begin, once, rows, run
from panda.errors import Conflict, Invalid, NotFound
from panda.jobs import hold, kill, places, priority, rebroker, retry
from panda.jobs.nouns import JOB_FIELDS, JOBS
from panda.query import BadFilter, Comparison, Expression, Op, all_of, equal_to, read, settled, write
from panda.settings import Api
from panda.states import FINAL, RETRY_STATUS, JobStatus, Stage, Wait

Verb = Literal["retry", "cancel", "priority", "hold", "release", "rebroker"]

CHUNK = 500
#: Rows that one statement of a preview counts.
WINDOW = 50_000
#: Jobs that a preview shows.
SHOWN = 20
#: Of a retry: jobs that a preview looks at one by one, the newest ones.
FORESEEN = 1_000


class Reach(NamedTuple):
    """Which jobs an action is for."""

    statuses: frozenset[JobStatus]
    why_not: str
    """Why it leaves those of another status (`{0}`) alone."""
    held: bool | None = None
    """Whether somebody holds them; None: no matter."""
    why_not_held: str = ""


REACHES: dict[str, Reach] = {
    "retry": Reach(frozenset({JobStatus.FAILED}), "it is {0}; only a failed job can be retried"),
    "cancel": Reach(frozenset(JobStatus) - FINAL, "it is {0} already"),
    "priority": Reach(frozenset(priority.WAITING), "it is {0}; only a waiting job has use of it"),
    "hold": Reach(frozenset(priority.WAITING), hold.WHY_NOT, False, "it is held already"),
    "release": Reach(frozenset(hold.HELD), "it is not held", True, "it is not held"),
    "rebroker": Reach(rebroker.REACHES, rebroker.WHY_NOT, False, "it is held; release it first"),
}

NOW = "SELECT panda_now() AS now, (SELECT last_value FROM panda_id_seq) AS newest"
PREVIEW = """
INSERT INTO bulk_actions (action, stage, priority, exclude, said, filter, owner, asked_by, reason, status, token_hash,
    expires_at, n_previewed, after_panda_id, created_at)
VALUES (%(action)s, %(stage)s, %(priority)s, %(exclude)s, %(said)s, %(filter)s, %(owner)s, %(by)s, %(reason)s,
    'previewed', %(token_hash)s, panda_now() + make_interval(secs => %(preview_s)s), %(n)s, %(newest)s + 1, panda_now())
RETURNING action_id, expires_at
"""
BEGIN_AT_ONCE = """
INSERT INTO bulk_actions (action, stage, said, filter, owner, asked_by, reason, status, after_panda_id, created_at,
    confirmed_at, advanced_at, request_id)
VALUES (%(action)s, %(stage)s, %(filter)s, %(filter)s, %(owner)s, %(by)s, %(reason)s, 'running',
    (SELECT last_value FROM panda_id_seq) + 1, panda_now(), panda_now(), panda_now(), %(request_id)s)
RETURNING *
"""
BY_TOKEN = """
SELECT *, expires_at <= panda_now() AS is_late FROM bulk_actions WHERE token_hash = %(token_hash)s FOR UPDATE
"""
CONFIRM = """
UPDATE bulk_actions SET status = 'running', confirmed_at = panda_now(), advanced_at = panda_now(),
    request_id = %(request_id)s
WHERE action_id = %(action_id)s RETURNING *
"""
NEXT = """
SELECT * FROM bulk_actions WHERE status = 'running' ORDER BY advanced_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""
ADVANCE = """
UPDATE bulk_actions SET after_panda_id = %(after)s, n_done = n_done + %(n_done)s, n_refused = n_refused + %(n_refused)s,
    refused = %(refused)s, status = %(status)s, note = %(note)s, advanced_at = panda_now(),
    ended_at = CASE WHEN %(status)s::text = 'running' THEN NULL ELSE panda_now() END
WHERE action_id = %(action_id)s
"""
#: Whoever began an action may be banned before it ends.
BANNED = "SELECT 1 FROM users WHERE name = %(who)s AND banned_at IS NOT NULL"
TIDY = "DELETE FROM bulk_actions WHERE status = 'previewed' AND expires_at < panda_now() - interval '1 day'"


class Wish(NamedTuple):
    """What somebody asks of many jobs. `owner`: of whose jobs alone; None: of anybody's."""

    action: Verb
    filter: str
    stage: Stage | None
    priority: int | None
    by: str
    owner: str | None
    reason: str
    exclude: tuple[str, ...] = ()
    """Where a rebrokerage must not go."""


class Preview(NamedTuple):
    """What would be done. `untouched`: why, and how many of those that the filter finds among the live jobs."""

    action_id: int
    token: str
    expires_at: Any
    n: int
    first: list[Row[Any]]
    untouched: dict[str, int]
    refused: dict[str, int]
    """Of a retry: why, and how many of the newest `n_looked` that it reaches would get no new attempt as they stand."""
    n_looked: int


class Chunk(NamedTuple):
    """What one step did, and whether it was the last one."""

    done: list[int]
    refused: dict[int, str]
    is_last: bool


def preview(begin: Begin, wish: Wish, limits: Api) -> Preview:
    """Count what a wish reaches; nothing is done.

    It looks at live jobs window by window, each in a transaction of its own.

    Raises:
        BadFilter. Invalid: `bad_stage`, `bad_priority`, `no_filter`, `too_wide`, `unknown_place`.
    """
    _check(wish)
    with once(begin) as connection:
        [at] = rows(connection, NOW)
        places.check_excluded(connection, wish.exclude)
    found = settled(read(wish.filter, JOB_FIELDS), at.now)
    reached = _own(found, wish.owner)
    n, untouched = _reached(_counted(begin, reached, wish.action, int(at.newest), limits.max_looked), wish.action)
    with begin() as connection:
        ids = lists.scan(
            connection, JOBS, all_of(reached, reachable(wish.action)), after=(at.newest + 1,),
            limit=FORESEEN if wish.action == "retry" else SHOWN,
        ).ids  # fmt: skip
        panda_ids = [each[0] for each in ids]
        first = rows(connection, JOBS.show, {"ids": panda_ids[:SHOWN]}) if ids else []
        looked_at = panda_ids if wish.action == "retry" else []
        refused = Counter(retry.foresee(connection, looked_at, wish.stage)[1].values()) if looked_at else {}
        token = secrets.token_urlsafe(24)
        [made] = rows(
            connection,
            PREVIEW,
            {"action": wish.action, "stage": wish.stage, "priority": wish.priority, "said": wish.filter,
             "exclude": list(wish.exclude),
             "filter": write(found), "owner": wish.owner, "by": wish.by, "reason": wish.reason,
             "token_hash": _hash(token), "preview_s": float(limits.preview_s), "n": n, "newest": at.newest},
        )  # fmt: skip
    return Preview(made.action_id, token, made.expires_at, n, first, untouched, dict(refused), len(looked_at))


def confirm(
    connection: Connection, wish: Wish, token: str, count: int | None, limits: Api, *, request_id: str | None
) -> Row[Any]:
    """Begin what was previewed. The same token again finds the action that it began.

    Args:
        count: the previewed number, said again; needed above `limits.confirm_above`.
    Returns: the action's row.
    Raises:
        NotFound: no such preview of this person.
        Conflict: `preview_expired`, `preview_differs`, `count_not_confirmed`.
    """
    found = rows(connection, BY_TOKEN, {"token_hash": _hash(token)})
    if not found or found[0].asked_by != wish.by:
        raise NotFound("preview", "with this token")
    action = found[0]
    asked = (wish.action, wish.filter, wish.stage, wish.priority, wish.owner, list(wish.exclude))
    if asked != (action.action, action.said, action.stage, action.priority, action.owner, action.exclude):
        raise Conflict("this is not what was previewed; preview it again", code="preview_differs")
    if action.status != "previewed":
        return action
    if action.is_late:
        raise Conflict("the preview is too old; preview it again", code="preview_expired")
    if count != action.n_previewed and (count is not None or action.n_previewed > limits.confirm_above):
        raise Conflict(
            f"it reaches {action.n_previewed} jobs; say that number, as `count`, to go on", code="count_not_confirmed"
        )
    audit_log.record(
        connection, wish.by, f"bulk_{wish.action}", f"action {action.action_id}", reason=action.reason,
        facts={"filter": action.filter, "n": action.n_previewed, "stage": action.stage, "priority": action.priority,
               "exclude": action.exclude},
        request_id=request_id,
    )  # fmt: skip
    return rows(connection, CONFIRM, {"action_id": action.action_id, "request_id": request_id})[0]


def begin_at_once(
    connection: Connection,
    verb: Verb,
    said: str,
    *,
    stage: Stage | None,
    by: str,
    reason: str,
    request_id: str | None,
    owner: str | None = None,
) -> tuple[int, Chunk]:
    """An action whose reach is plain without a preview (one job set): its first chunk, and its id for the rest.

    `owner`: of whose jobs alone."""
    if stage is not None and stage not in RETRY_STATUS:
        raise Invalid(f"an attempt starts at one of {', '.join(RETRY_STATUS)}", where="stage", code="bad_stage")
    values = {"action": verb, "stage": stage, "filter": said, "owner": owner, "by": by, "reason": reason}
    [action] = rows(connection, BEGIN_AT_ONCE, values | {"request_id": request_id})
    return action.action_id, _step(connection, action, CHUNK)


def advance(connection: Connection, limit: int = CHUNK) -> bool:
    """The next chunk of the action that waited longest. Returns whether there was one."""
    found = rows(connection, NEXT)
    if found:
        _step(connection, found[0], limit)
    return bool(found)


def tidy(connection: Connection) -> None:
    """Forget previews that nobody confirmed."""
    run(connection, TIDY)


def _step(connection: Connection, action: Row[Any], limit: int) -> Chunk:
    if rows(connection, BANNED, {"who": action.asked_by}):
        _note(connection, action, Chunk([], {}, True), action.after_panda_id, f"stopped: {action.asked_by} is banned")
        return Chunk([], {}, True)
    try:
        wanted = all_of(_own(read(action.filter, JOB_FIELDS), action.owner), reachable(action.action))
    except BadFilter as problem:  # a field that an update of ours took away
        _note(connection, action, Chunk([], {}, True), action.after_panda_id, f"stopped: {problem}")
        return Chunk([], {}, True)
    n_left = None if action.n_previewed is None else action.n_previewed - action.n_done - action.n_refused
    found = lists.scan(
        connection,
        JOBS,
        wanted,
        after=(action.after_panda_id,),
        limit=limit if n_left is None else max(1, min(limit, n_left)),
    )
    if found.ids and n_left == 0:
        _note(connection, action, Chunk([], {}, True), action.after_panda_id, "stopped: more jobs fit now than before")
        return Chunk([], {}, True)
    panda_ids = [each[0] for each in found.ids]
    done, refused = _ACTS[action.action](connection, panda_ids, action) if panda_ids else ([], {})
    chunk = Chunk(done, refused, found.next is None)
    _note(connection, action, chunk, action.after_panda_id if found.next is None else found.next[0])
    return chunk


def _note(connection: Connection, action: Row[Any], chunk: Chunk, after: int, note: str = "") -> None:
    refused = Counter(action.refused)
    refused.update(chunk.refused.values())
    status = "stopped" if note else "done" if chunk.is_last else "running"
    run(
        connection,
        ADVANCE,
        {"action_id": action.action_id, "after": after, "n_done": len(chunk.done), "n_refused": len(chunk.refused),
         "refused": msgspec.json.encode(refused).decode(), "status": status, "note": note},
    )  # fmt: skip


def _retry(connection: Connection, panda_ids: Sequence[int], action: Row[Any]) -> tuple[list[int], dict[int, str]]:
    stage = Stage(action.stage) if action.stage else None
    outcome = retry.retry(connection, panda_ids, stage=stage, by=action.asked_by, reason=action.reason)
    return outcome.retried, outcome.refused


def _cancel(connection: Connection, panda_ids: Sequence[int], action: Row[Any]) -> tuple[list[int], dict[int, str]]:
    outcome = kill.request(connection, panda_ids, by=action.asked_by, reason=action.reason)
    return outcome.asked, outcome.refused


def _prioritise(connection: Connection, panda_ids: Sequence[int], action: Row[Any]) -> tuple[list[int], dict[int, str]]:
    return priority.set_priority(connection, panda_ids, action.priority)


def _hold(connection: Connection, panda_ids: Sequence[int], action: Row[Any]) -> tuple[list[int], dict[int, str]]:
    return hold.hold(connection, panda_ids, by=action.asked_by, reason=action.reason, may_all=action.owner is None)


def _release(connection: Connection, panda_ids: Sequence[int], action: Row[Any]) -> tuple[list[int], dict[int, str]]:
    return hold.release(connection, panda_ids, by=action.asked_by, may_all=action.owner is None)


def _rebroker(connection: Connection, panda_ids: Sequence[int], action: Row[Any]) -> tuple[list[int], dict[int, str]]:
    return rebroker.rebroker(connection, panda_ids, exclude=action.exclude, by=action.asked_by, reason=action.reason)


_ACTS: dict[str, Callable[[Connection, Sequence[int], Row[Any]], tuple[list[int], dict[int, str]]]] = {
    "retry": _retry,
    "cancel": _cancel,
    "priority": _prioritise,
    "hold": _hold,
    "release": _release,
    "rebroker": _rebroker,
}


def _check(wish: Wish) -> None:
    if not wish.filter.strip():
        raise Invalid("an action needs a filter; say which jobs", where="filter", code="no_filter")
    if wish.stage is not None and (wish.action != "retry" or wish.stage not in RETRY_STATUS):
        raise Invalid(f"a retry starts at one of {', '.join(RETRY_STATUS)}", where="stage", code="bad_stage")
    if (wish.priority is None) == (wish.action == "priority"):
        raise Invalid("goes with the action `priority`, and only with it", where="priority", code="bad_priority")
    if wish.exclude and wish.action != "rebroker":
        raise Invalid("goes with the action `rebroker`, and only with it", where="exclude", code="bad_exclude")
    rebroker.check_places(wish.exclude)


def _own(expression: Expression, owner: str | None) -> Expression:
    live = equal_to(JOB_FIELDS["archived"], False)
    return all_of(expression, live) if owner is None else all_of(expression, live, equal_to(JOB_FIELDS["owner"], owner))


def why_not(verb: str, status: str, waits_for: str | None) -> str | None:
    """Why an action leaves a live job alone; None: it reaches it."""
    reach = REACHES[verb]
    if status not in reach.statuses:
        return reach.why_not.format(status)
    if reach.held is not None and (waits_for == Wait.OPERATOR) is not reach.held:
        return reach.why_not_held
    return None


def reachable(verb: str) -> Expression:
    """Which live jobs an action reaches, as a filter."""
    reach = REACHES[verb]
    statuses = equal_to(JOB_FIELDS["status"], *sorted(map(str, reach.statuses)))
    if reach.held is None:
        return statuses
    return all_of(statuses, Comparison(JOB_FIELDS["waits_for"], Op.IS if reach.held else Op.IS_NOT, (Wait.OPERATOR,)))


def _reached(by_place: Counter[tuple[str, str | None]], verb: str) -> tuple[int, dict[str, int]]:
    """How many jobs an action reaches; and why, and how many, it leaves alone."""
    n, untouched = 0, Counter[str]()
    for (status, waits_for), n_there in sorted(by_place.items(), key=str):
        why = why_not(verb, status, waits_for)
        if why is None:
            n += n_there
        else:
            untouched[why] += n_there
    return n, dict(untouched)


def _counted(
    begin: Begin, expression: Expression, verb: str, newest: int, max_looked: int
) -> Counter[tuple[str, str | None]]:
    """Jobs by status and, where it matters, by what they wait for."""
    total: Counter[tuple[str, str | None]] = Counter()
    by = ["status"] if REACHES[verb].held is None else ["status", "waits_for"]
    after: tuple[Any, ...] | None = (newest + 1,)
    n_looked = 0
    while after is not None:
        if n_looked >= max_looked:
            message = f"more than {max_looked} live jobs would have to be looked at; name a job set or an owner"
            raise Invalid(message, where="filter", code="too_wide")
        with once(begin) as connection:
            found = lists.counts(connection, JOBS, expression, by, after=after, window=WINDOW)
        total.update({(place[0], place[1] if len(place) > 1 else None): n for place, n in found.groups})
        n_looked, after = n_looked + WINDOW, found.down_to
    return total


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()

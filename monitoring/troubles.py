"""What is wrong, since when, whom it hits, and where it is mended: worked out from what the pages know anyway.

Each finder looks at one kind of trouble and knows nothing of the others; a threshold stands beside the finder that
uses it. Nothing here is kept: a trouble is there as long as what it is read from.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

import msgspec

from monitoring import codes
from monitoring.looks import count, duration, percent
from monitoring.queries import Facts
from monitoring.trouble_seen import Seen
from panda.jobs.switches import What

Act = tuple[str, str]
"""What mends it: words and a link to the sheet that asks before it does anything."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """`key` tells one from another for as long as it lasts. `since`: None, before anybody looked."""

    kind: str
    key: str
    title: str
    is_bad: bool = True
    since: datetime | None = None
    hits: str = ""
    told: str = ""
    link: str = ""
    acts: list[Act] = []


Finder = Callable[[Seen], Iterable[Trouble]]

#: What stands still while a part is down, and what to do about it.
PARTS = {
    "API": "Nothing is accepted and no pilot gets work. Look at its log; the supervisor starts it again by itself.",
    "Database": "Everything waits and goes on by itself afterwards. Look at PostgreSQL.",
    "Redis": "Nothing is lost: submissions and reports are taken, stages wait. Start Redis again; what was sent is "
    "then sent anew by itself.",
    "Celery": "Stages wait. Start the workers: `panda up` does, or the service that runs them.",
    "Relay": "Jobs are due and nobody sends them on. Look whether the relay and the workers run.",
    "Beat": "Deadlines pass and nobody looks. Start the clock again.",
    "Transfers": "Jobs wait for their files. Look at the data workers and at the storages.",
}
STORAGE_FULL = "pilot:1333"
POISON = ("dispatch:kills_pilots",)
#: What payloads say of themselves.
OWN = "payload:"
#: A code is worth a word from so many failures of the day on.
MIN_FAILURES = 5
#: That much of a code's failures at one queue: the place is to blame.
AT_ONE_PLACE = 0.8
#: A node that failed so many times in three hours, and that much of what it ended, ...
NODE_FAILURES, NODE_SHARE = 8, 0.7
#: ... while the others of its queue failed less than this.
OTHERS_SHARE = 0.4
#: One user has that many of all open jobs, and that many at least, while others wait.
FLOOD_SHARE, FLOOD_JOBS = 0.8, 1_000
CANARY_LATE_S = 150.0


def find(seen: Seen) -> list[Trouble]:
    """Every trouble, the bad ones first, then the oldest."""
    found = [trouble for finder in FINDERS for trouble in finder(seen)]
    unique = {trouble.key: trouble for trouble in reversed(found)}
    return sorted(unique.values(), key=lambda t: (not t.is_bad, t.since or seen.now, t.key))


def parts_down(seen: Seen) -> Iterator[Trouble]:
    """A process or a store does not answer, or is late."""
    for part in seen.parts:
        if part.state in ("down", "warn") and part.name in PARTS:
            word = "does not answer" if part.state == "down" else "is late"
            yield Trouble(
                kind="part", key=f"part {part.name}", title=f"{part.name} {word}", is_bad=part.state == "down",
                since=part.since, hits=_under_way(seen), told=f"{part.told}. {PARTS[part.name]}",
                link=part.link or "/celery",
            )  # fmt: skip


def workers_stuck(seen: Seen) -> Iterator[Trouble]:
    """A stage that outlives its limit, a lane that consumes nothing."""
    for row in seen.begun:
        yield Trouble(
            kind="worker", key=f"worker {row['worker']}", title=f"Worker {row['worker']} is stuck in a stage",
            since=row["since"], hits=f"{count(row['n_jobs'])} jobs in its hands; others follow once it is ended",
            told="It began a stage and did not end it within 20 s. The hard limit ends it after 30 s; if it does not, "
            "end its task in Flower, or the process: what it held is sent again.",
            link="/celery", acts=[("Its tasks in Flower", f"/flower/worker/{quote(row['worker'], safe='')}")],
        )  # fmt: skip
    for row in seen.canaries:
        if row["age_s"] > CANARY_LATE_S:
            yield Trouble(
                kind="worker", key=f"lane {row['lane']}", title=f"No worker consumes lane {row['lane']}",
                since=row["at"], hits=_under_way(seen),
                told=f"The last canary was taken {duration(row['age_s'])} ago; one is sent each minute. A worker that "
                "is connected and takes nothing has to be started again; no job is lost.",
                link="/celery", acts=[("Workers in Flower", "/flower/workers")],
            )  # fmt: skip


def queues_closed(seen: Seen) -> Iterator[Trouble]:
    """Jobs stand ready at a queue that is not online."""
    for queue in seen.queues:
        waiting = queue["ready"] + queue["jobs"].get("assigned", 0)
        if queue["status"] == "online" or not waiting:
            continue
        name, until = queue["name"], queue["status_until"]
        told = (queue["status_reason"] or "no reason was given") + (
            f" ({queue['status_by']})" if queue["status_by"] else ""
        )
        yield Trouble(
            kind="closed", key=f"closed {name}", title=f"Queue {name} is {queue['status']}", is_bad=False,
            since=queue["status_at"], told=told + (f", until {until:%d %b %H:%M} UTC" if until else ""),
            hits=f"{count(queue['ready'])} jobs are ready there, {count(waiting - queue['ready'])} wait for data",
            link=f"/queues/{quote(name)}",
            acts=[("Set the status…", f"/queues/{quote(name)}/status?to=online"),
                  ("Broker its ready jobs anew…", _bulk("rebroker", f"status:activated queue:{name}"))],
        )  # fmt: skip


def pilots_away(seen: Seen) -> Iterator[Trouble]:
    """Jobs stand ready at an open queue and no pilot asks; a token that ended explains it."""
    last = {row["queue"]: row["last_seen_at"] for row in seen.last_seen}
    over = [token for token in seen.tokens if token["is_over"]]
    explained: set[int] = set()
    for queue in seen.queues:
        name = queue["name"]
        if queue["status"] == "offline" or not queue["ready"] or queue["pilots"]:
            continue
        since = last.get(name)
        hits = f"{count(queue['ready'])} ready jobs at {queue['site']}"
        token = next((t for t in over if _serves(t, name) and _ended_with(t, since)), None)
        if token is not None:
            explained.add(token["token_id"])
            yield Trouble(
                kind="token", key=f"token {token['token_id']}", title=f"The token of the pilots of {name} has expired",
                since=token["expires_at"], hits=hits, link=f"/pilots?queue={quote(name)}",
                told=f"Token “{token['label'] or token['owner']}” ended; since then no pilot of this queue is let in. "
                "Make a new one and give it to them.",
                acts=[("New token…", "/tokens/new?" + urlencode({"role": "pilot", "queue": name,
                                                                "owner": token["owner"], "label": token["label"]}))],
            )  # fmt: skip
            continue
        yield Trouble(
            kind="pilots", key=f"pilots {name}", title=f"No pilot asks at {name}", since=since, hits=hits,
            told="Is the submitter running? Is the token of its pilots good? Is the site up?",
            link=f"/pilots?queue={quote(name)}",
            acts=[("Set the status…", f"/queues/{quote(name)}/status?to=brokeroff"),
                  ("Broker its ready jobs anew…", _bulk("rebroker", f"status:activated queue:{name}"))],
        )  # fmt: skip
    for token in seen.tokens:
        if not token["is_over"]:
            bound = _queue_of(token)
            yield Trouble(
                kind="token", key=f"token {token['token_id']}", is_bad=False, link="/tokens",
                title=f"Token “{token['label'] or token['owner']}” of pilots ends soon",
                hits=f"pilots of {bound or 'every queue'}", told=f"It ends at {token['expires_at']:%d %b %H:%M} UTC.",
                acts=[("New token…", "/tokens/new?" + urlencode({"role": "pilot", "queue": bound}))],
            )  # fmt: skip


def black_holes(seen: Seen) -> Iterator[Trouble]:
    """A node that fails what it takes, while the others of its queue do not."""
    taken_out = {(p.place.queue, p.place.node) for p in seen.pauses if p.place.node}
    by_queue: dict[str, list[Facts]] = defaultdict(list)
    for row in seen.ended:
        by_queue[row["queue"]].append(row)
    for row in seen.nodes:
        queue, node = row["queue"], row["node"]
        mine = next((each for each in by_queue[queue] if each["node"] == node), None)
        others = [each for each in by_queue[queue] if each["node"] != node]
        n_others = sum(each["n"] for each in others)
        if mine is None or row["n"] < NODE_FAILURES or mine["n_failed"] < NODE_SHARE * mine["n"] or not n_others:
            continue
        share = sum(each["n_failed"] for each in others) / n_others
        if share >= OTHERS_SHARE or (queue, node) in taken_out:
            continue
        same = [each for each in seen.resting if each["queue"] == queue and each["node"] == node]
        path = f"/nodes/{quote(queue, safe='')}/{quote(node, safe='')}"
        yield Trouble(
            kind="node", key=f"node {queue}/{node}", title=f"Node {node} of {queue} fails what it takes",
            since=min((each["first_at"] for each in same), default=row["first_at"]),
            hits=_whom(same) or f"{count(row['n'])} attempts",
            told=f"{count(mine['n_failed'])} of {count(mine['n'])} attempts failed there in a day, "
            f"{percent(share)} on the other nodes.",
            link=path, acts=[("Take the node out…", f"{path}/pause"),
                             ("Retry its failed jobs…", _bulk("retry", f'status:failed queue:{queue} node:"{node}"'))],
        )  # fmt: skip


def failures(seen: Seen) -> Iterator[Trouble]:
    """Codes of the day that are new, that rise, that have one place in common, or that name their culprit."""
    holes = {trouble.key.removeprefix("node ") for trouble in black_holes(seen)}
    for code in sorted({row["code"] for row in seen.resting} | {row["error_code"] for row in seen.codes}):
        same = [row for row in seen.resting if row["code"] == code]
        listed = [row for row in seen.codes if row["error_code"] == code]
        n = sum(row["n"] for row in same)
        mark = next((row["mark"] for row in listed if row["mark"]), "")
        is_poison = code in POISON or code.endswith((":poison", ":raised"))
        if same and all(f"{row['queue']}/{row['node']}" in holes for row in same):
            continue  # its node is the trouble
        if code.startswith(OWN) and mark != "rising" and len({row["owner"] for row in same}) < 2:
            continue  # a payload's end is its owner's business
        if not (is_poison and n) and max(n, sum(row["n"] for row in listed)) < MIN_FAILURES:
            continue
        stage = next((row["stage"] for row in same), listed[0]["failed_stage"] if listed else "")
        yield from _failing(code, stage, same, listed, mark, is_poison=is_poison)


def _failing(
    code: str, stage: str, same: list[Facts], listed: list[Facts], mark: str, *, is_poison: bool
) -> Iterator[Trouble]:
    by_queue: dict[str, int] = defaultdict(int)
    for row in same:
        by_queue[row["queue"]] += row["n"]
    n, queue = sum(by_queue.values()), max(by_queue, key=lambda name: by_queue[name], default="")
    is_one_place = bool(queue) and by_queue[queue] >= AT_ONE_PLACE * n
    kind = _kind(code, stage, is_poison=is_poison)
    if kind == "errors" and not mark and not (is_one_place and len(by_queue) > 1):
        return
    words = {"new": "A new error: ", "rising": "An error rises: "}.get(mark, "") if kind == "errors" else ""
    where = f" at {queue}" if is_one_place and kind != "poison" else ""
    first = min((row["first_at"] for row in same), default=None)
    marked = min((row["since"] for row in listed if row["since"]), default=None)
    tried_again = f"{count(sum(row['n'] for row in listed))} attempts, all tried again"
    yield Trouble(
        kind=kind, key=f"code {code}", title=f"{words}{codes.meaning(code)}{where}",
        since=marked if mark == "rising" else first or marked, is_bad=kind != "errors" or mark == "rising",
        hits=_whom(same) or tried_again, told=f"{code}. {codes.advice(code)}".strip(),
        link=f"/errors/{quote(code, safe='')}", acts=_cures(kind, code, same, queue if where else ""),
    )  # fmt: skip


def _kind(code: str, stage: str, *, is_poison: bool) -> str:
    if is_poison:
        return "poison"
    return "storage" if code == STORAGE_FULL else "stage_out" if stage == "stage_out" else "errors"


def _cures(kind: str, code: str, same: list[Facts], queue: str) -> list[Act]:
    if kind == "poison":
        sets = sorted({row["jobset_id"] for row in same})
        return [(f"Cancel job set {jobset_id}…", f"/jobsets/{jobset_id}/cancel") for jobset_id in sets[:3]]
    acts = [("Retry them…", _bulk("retry", f'status:failed error:"{code}"'))] if same else []
    if kind in ("storage", "stage_out") and queue:
        acts.append(("Close the queue to new jobs…", f"/queues/{quote(queue)}/status?to=brokeroff"))
    return acts


def storages_full(seen: Seen) -> Iterator[Trouble]:
    """A storage that takes nothing any more."""
    for storage in seen.storages:
        name = storage["name"]
        near = [queue for queue in seen.queues if queue["storage"] == name]
        acts = [
            (f"Close {queue['name']} to new jobs…", f"/queues/{quote(queue['name'])}/status?to=brokeroff")
            for queue in near
            if queue["status"] == "online"
        ]
        coming = sum(queue["jobs"].get("assigned", 0) + queue["running"] for queue in near)
        yield Trouble(
            kind="storage", key=f"storage {name}", title=f"Storage {name} takes nothing", told=storage["full_because"],
            hits=f"{count(coming)} jobs that run there or wait for data", link=f"/sites/{quote(storage['site'])}",
            acts=acts[:2],
        )  # fmt: skip


def floods(seen: Seen) -> Iterator[Trouble]:
    """One user's jobs crowd out those of others."""
    total, others = sum(row["n_open"] for row in seen.owners), len(seen.owners) - 1
    for row in seen.owners[:1]:
        n, owner = row["n_open"], row["owner"]
        if n < FLOOD_JOBS or n < FLOOD_SHARE * total or not others:
            continue
        waiting = f"status:pending,defined,assigned,activated owner:{owner}"
        yield Trouble(
            kind="flood", key=f"flood {owner}", title=f"{owner} has {percent(n / total)} of all open jobs",
            is_bad=False, since=row["since"], link=f"/users/{quote(owner)}",
            hits=f"{others} other user{'s' if others > 1 else ''} with {count(total - n)} open jobs",
            told=f"{count(n)} open jobs in {row['n_jobsets']} job set{'s' if row['n_jobsets'] > 1 else ''}. "
            "Shares keep other shares going; within a share the priority decides.",
            acts=[("Lower their priority…", _bulk("priority", waiting, priority="-500")),
                  ("Cancel what waits…", _bulk("cancel", waiting))],
        )  # fmt: skip


def pauses(seen: Seen) -> Iterator[Trouble]:
    """What an operator paused."""
    for pause in seen.pauses:
        place = pause.place
        status = "activated" if pause.what is What.DISPATCH else "defined"
        at = [q for q in seen.queues if place.site in ("", q["site"]) and place.queue in ("", q["name"])]
        waiting = sum(queue["jobs"].get(status, 0) for queue in at)
        until = f" until {pause.until:%d %b %H:%M} UTC" if pause.until else ""
        title = f"{pause.what.title()} is paused: {place.words}"
        yield Trouble(
            kind="paused", key=f"paused {pause.what} {place.words}", is_bad=False, since=pause.at, link="/admin",
            title=f"Node {place.node} of {place.queue} is taken out" if place.node else title,
            hits=f"{count(waiting)} jobs wait there", told=f"{pause.reason} ({pause.by}{until})",
            acts=[("Resume…", "/admin/switches/resume?" + urlencode({"what": pause.what, **place._asdict()}))],
        )  # fmt: skip


def stuck(seen: Seen) -> Iterator[Trouble]:
    """Jobs that stay in a status far longer than others did."""
    by_status: dict[str, list[Facts]] = defaultdict(list)
    for row in seen.stuck:
        by_status[row["status"]].append(row)
    for status, found in by_status.items():
        n, owners = len(found), {row["owner"] for row in found}
        are = f"{n} jobs are" if n > 1 else "A job is"
        yield Trouble(
            kind="stuck", key=f"stuck {status}", is_bad=False, since=min(row["changed_at"] for row in found),
            title=f"{are} {status} for far longer than others were", hits=f"{n} jobs of {len(owners)} users",
            told=f"99 % leave this status within {duration(found[0]['p99_s'])}.", link="/admin",
        )  # fmt: skip


FINDERS: tuple[Finder, ...] = (
    parts_down, workers_stuck, pilots_away, black_holes, failures, storages_full, queues_closed, pauses, floods, stuck,
)  # fmt: skip


def _under_way(seen: Seen) -> str:
    return f"{count(seen.n_active)} jobs on their way"


def _whom(same: list[Facts]) -> str:
    """Jobs and users of these groups, in words."""
    n = sum(row["n"] for row in same)
    owners = sorted({row["owner"] for row in same})
    if not n:
        return ""
    some = ", ".join(owners[:3]) + (", …" if len(owners) > 3 else "")
    named = owners[0] if len(owners) == 1 else f"{len(owners)} users ({some})"
    return f"{count(n)} job{'s' if n > 1 else ''} of {named}"


def _queue_of(token: Facts) -> str:
    return next((role.partition("@")[2] for role in token["roles"] if "@" in role), "")


def _serves(token: Facts, queue: str) -> bool:
    return _queue_of(token) in ("", queue)


def _ended_with(token: Facts, last_seen: datetime | None) -> bool:
    """Whether pilots were seen until about then, and not after."""
    return last_seen is None or last_seen <= token["expires_at"] + timedelta(minutes=1)


def _bulk(verb: str, q: str, **more: str) -> str:
    return f"/jobs/bulk/{verb}?" + urlencode({"q": q, **more})

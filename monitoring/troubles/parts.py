"""Troubles of parts, places and people: what is down, closed, silent, full, paused, or crowded out.

Each finder looks at one kind and knows nothing of the others; its thresholds stand above.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from monitoring.reads.queries import Facts
from monitoring.show.looks import count, duration, percent, several
from monitoring.troubles.seen import Seen, queue_of
from monitoring.troubles.words import Trouble, bulk_link, silent_s, under_way, whom
from panda.jobs.switches import What

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
#: One user has that many of all open jobs, and that many at least, while others wait.
FLOOD_SHARE, FLOOD_JOBS = 0.8, 1_000
CANARY_LATE_S = 150.0
#: A worker sends a heartbeat every two seconds.
WORKER_SILENT_S = 20.0
#: Pilots ask more often than this; a queue whose token ended and that is quiet for so long is not waited for.
QUIET_S = 20.0


def parts_down(seen: Seen) -> Iterator[Trouble]:
    """A process or a store does not answer, or is late."""
    for part in seen.parts:
        if part.state in ("down", "warn") and part.name in PARTS:
            word = "does not answer" if part.state == "down" else "is late"
            yield Trouble(
                kind="part", key=f"part {part.name}", title=f"{part.name} {word}", is_bad=part.state == "down",
                since=part.since, hits=under_way(seen), told=f"{part.told}. {PARTS[part.name]}",
                link=part.link or "/celery",
            )  # fmt: skip


def workers_stuck(seen: Seen) -> Iterator[Trouble]:
    """A stage that outlives its limit, a lane that consumes nothing."""
    for row in seen.begun:
        yield Trouble(
            kind="worker", key=f"worker {row['worker']}", title=f"Worker {row['worker']} is stuck in a stage",
            since=row["since"], hits=f"{several(row['n_jobs'], 'job')} in its hands; others follow once it is ended",
            told="It began a stage and did not end it within 20 s. The hard limit ends it after 30 s; if it does not, "
            "end its task in Flower, or the process: what it held is sent again.",
            link="/celery", acts=[("Its tasks in Flower", f"/flower/worker/{quote(row['worker'], safe='')}")],
        )  # fmt: skip
    for row in seen.canaries:
        if row["age_s"] > CANARY_LATE_S:
            yield Trouble(
                kind="worker", key=f"lane {row['lane']}", title=f"No worker consumes lane {row['lane']}",
                since=row["at"], hits=under_way(seen),
                told=f"The last canary was taken {duration(row['age_s'])} ago; one is sent each minute. A worker that "
                "is connected and takes nothing has to be started again; no job is lost.",
                link="/celery", acts=[("Workers in Flower", "/flower/workers")],
            )  # fmt: skip


def workers_silent(seen: Seen) -> Iterator[Trouble]:
    """A worker that neither works nor says goodbye, while others are heard: else it is Redis, or who listens."""
    silent = [w for w in seen.workers if w.heard_at and silent_s(seen, w.heard_at) >= WORKER_SILENT_S]
    if not any(w.heard_at and silent_s(seen, w.heard_at) < WORKER_SILENT_S for w in seen.workers):
        return
    for worker in silent:
        yield Trouble(
            kind="worker", key=f"worker {worker.name}", title=f"Worker {worker.name} is silent",
            since=worker.heard_at, hits=under_way(seen), link="/celery",
            told=f"It says nothing any more. If process {worker.pid} on {worker.name.partition('@')[2]} is there, "
            f"end it: kill -9 {worker.pid}. Whoever started it starts it again; what it held is sent anew.",
            acts=[("Workers in Flower", "/flower/workers")],
        )  # fmt: skip


def queues_closed(seen: Seen) -> Iterator[Trouble]:
    """Jobs stand ready at a queue that is not online, or were called back from it and have nowhere else to go."""
    called_back = {row["queue"]: row["n"] for row in seen.called_back}
    for queue in seen.queues:
        back = called_back.get(queue["name"], 0)
        waiting = queue["ready"] + queue["jobs"].get("assigned", 0) + back
        if queue["status"] == "online" or not waiting:
            continue
        name, until = queue["name"], queue["status_until"]
        told = (queue["status_reason"] or "no reason was given") + (
            f" ({queue['status_by']})" if queue["status_by"] else ""
        )
        yield Trouble(
            kind="closed", key=f"closed {name}", title=f"Queue {name} is {queue['status']}", is_bad=False,
            since=queue["status_at"], told=told + (f", until {until:%d %b %H:%M} UTC" if until else ""),
            hits=f"{several(queue['ready'], 'ready job')} there, {count(queue['jobs'].get('assigned', 0))} waiting for "
            "data" + (f", {count(back)} called back that fit no other queue" if back else ""),
            link=f"/queues/{quote(name)}",
            acts=[("Set the status…", f"/queues/{quote(name)}/status?to=online"),
                  *[("Broker its ready jobs anew…", bulk_link("rebroker", f"status:activated queue:{name}"))]
                  * bool(queue["ready"])],
        )  # fmt: skip


def pilots_away(seen: Seen) -> Iterator[Trouble]:
    """Jobs stand ready at an open queue and no pilot asks; a token that ended explains it."""
    last = {row["queue"]: row["last_seen_at"] for row in seen.last_seen}
    over = [token for token in seen.tokens if token["is_over"]]
    explained: set[int] = set()
    for queue in seen.queues:
        name = queue["name"]
        if queue["status"] == "offline" or not queue["ready"]:
            continue
        since = last.get(name)
        hits = f"{several(queue['ready'], 'ready job')} at {queue['site']}"
        token = next((t for t in over if _serves(t, name) and _ended_with(t, since)), None)
        if queue["pilots"] and not (token and queue_of(token) and since and silent_s(seen, since) > QUIET_S):
            continue
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
                  ("Broker its ready jobs anew…", bulk_link("rebroker", f"status:activated queue:{name}"))],
        )  # fmt: skip
    for token in seen.tokens:
        if not token["is_over"]:
            bound = queue_of(token)
            yield Trouble(
                kind="token", key=f"token {token['token_id']}", is_bad=False, link="/tokens",
                title=f"Token “{token['label'] or token['owner']}” of pilots ends soon",
                hits=f"pilots of {bound or 'every queue'}", told=f"It ends at {token['expires_at']:%d %b %H:%M} UTC.",
                acts=[("New token…", "/tokens/new?" + urlencode({"role": "pilot", "queue": bound}))],
            )  # fmt: skip


def _serves(token: Facts, queue: str) -> bool:
    return queue_of(token) in ("", queue)


def _ended_with(token: Facts, last_seen: datetime | None) -> bool:
    """Whether pilots were seen until about then, and not after."""
    return last_seen is None or last_seen <= token["expires_at"] + timedelta(minutes=1)


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
            hits=f"{several(coming, 'job')} running there or waiting for data", link=f"/sites/{quote(storage['site'])}",
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
            hits=f"{others} other user{'s' if others > 1 else ''} with {several(total - n, 'open job')}",
            told=f"{several(n, 'open job')} in {row['n_jobsets']} job set{'s' if row['n_jobsets'] > 1 else ''}. "
            "Shares keep other shares going; within a share the priority decides.",
            acts=[("Lower their priority…", bulk_link("priority", waiting, priority="-500")),
                  ("Cancel what waits…", bulk_link("cancel", waiting))],
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
            hits=f"{several(waiting, 'waiting job')} there", told=f"{pause.reason} ({pause.by}{until})",
            acts=[("Resume…", "/admin/switches/resume?" + urlencode({"what": pause.what, **place._asdict()}))],
        )  # fmt: skip


def stuck(seen: Seen) -> Iterator[Trouble]:
    """Jobs that stay in a status far longer than others did."""
    by_status: dict[str, list[Facts]] = defaultdict(list)
    for row in seen.stuck:
        by_status[row["status"]].append(row)
    for status, found in by_status.items():
        n = len(found)
        are = f"{n} jobs are" if n > 1 else "A job is"
        yield Trouble(
            kind="stuck", key=f"stuck {status}", is_bad=False, since=min(row["changed_at"] for row in found),
            title=f"{are} {status} for far longer than others were",
            hits=whom([{**row, "n": 1} for row in found]),
            told=f"99 % leave this status within {duration(found[0]['p99_s'])}. The page of each tells why it waits.",
            link="/jobs?" + urlencode({"q": f"status:{status}"}),
        )  # fmt: skip

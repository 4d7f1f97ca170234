"""The whole answer to "why is my job not running?": the story that `panda.jobs.why` tells, and what would change it.

The story rests on what the system went by. Changes are tried against the queues as they are now (`changes`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from panda.brokerage import policies, snapshot
from panda.brokerage.broker import opened
from panda.brokerage.changes import MOST, NAMED, OPERATOR, OWNER, TIME, Change, changes, files, wait_until
from panda.brokerage.deciding import Fault, sift
from panda.brokerage.policies import Policy
from panda.brokerage.subjects import Away, Kind, Planned, Queue
from panda.errors import PandaError
from panda.jobs import switches
from panda.jobs.caps import Cap
from panda.jobs.quotas import standing
from panda.jobs.why import Answer, why
from panda.names import amount_of, counted
from panda.settings import Settings
from panda.states import JobStatus, QueueStatus, Stage, Wait

#: Pauses whose end is tried, the newest first.
PAUSES = 20
#: Pilots that asked, before anything is said of what they have.
LEAST_ASKS = 1


class Explanation(NamedTuple):
    """A story, and single changes that would let the job run."""

    answer: Answer
    changes: list[Change]


def explain(connection: Connection, panda_id: int, settings: Settings) -> Explanation:
    """Why a job is where it is, and what would change that. Raises NotFound."""
    answer = why(connection, panda_id)
    if answer.waits_for in (Wait.QUEUE, Wait.DATA) and answer.stage in (Stage.BROKER, Stage.ACTIVATE):
        answer = _with_data(answer, snapshot.storages_away(connection, panda_id))
    if answer.waits_for == Wait.QUEUE and (taking := _takes(connection, answer, settings, _queues(connection))):
        return _in_a_moment(answer, [queue.name for queue in taking])
    return Explanation(answer, _changes(connection, answer, settings)[:MOST])


def _in_a_moment(answer: Answer, queues: Sequence[str]) -> Explanation:
    """Nothing is in its way any more: it waits for the next look."""
    look = f"brokerage looks again at {answer.until:%H:%M:%S} UTC" if answer.until else "brokerage looks again"
    named = ", ".join(queues[:NAMED]) + (", …" if len(queues) > NAMED else "")
    now = f"{named} would take it now, and {look}. When it looked last: "
    command = f"panda rebroker {answer.panda_id}"
    say = f"nothing: {counted(len(queues), 'queue')} ({named}) would take it now; {look}"
    return Explanation(
        answer._replace(summary=now + answer.summary),
        [Change(TIME, say, ()), Change(OWNER, "have brokerage look at once", (), command)],
    )


def _with_data(answer: Answer, away: Away) -> Answer:
    """The answer, with the downtimes that keep the job's inputs from being read."""
    if not away.down:
        return answer
    told = [
        f"storage {storage}, which has {files(n)} that no other one has, is in downtime until"
        f" {down.ends_at:%Y-%m-%d %H:%M} UTC" + (f" ({down.reason})" if down.reason else "")
        for storage, (n, down) in away.down.items()
    ]
    words = "; ".join(told[:NAMED]) + (f"; and {len(told) - NAMED} more" if len(told) > NAMED else "")
    return answer._replace(summary=f"{answer.summary} {words[:1].upper()}{words[1:]}.")


def _queues(connection: Connection) -> list[Queue]:
    """The queues as brokerage would see them now."""
    return opened(snapshot.queues_seen(connection), switches.picture(connection))


def _changes(connection: Connection, answer: Answer, settings: Settings) -> list[Change]:
    if answer.status == JobStatus.FAILED:
        return _after_a_failure(answer)
    if answer.waits_for == Wait.QUEUE:
        return _for_a_queue(connection, answer, settings)
    if answer.waits_for == Wait.QUOTA or (answer.waits_for == Wait.PILOT and "quotas" in answer.facts):
        return _for_quotas(answer, settings)
    if answer.waits_for == Wait.PILOT:
        return _for_a_pilot(connection, answer, settings)
    if answer.waits_for == Wait.DATA:
        return _for_data(connection, answer, settings) if answer.stage == Stage.ACTIVATE else _for_outputs(answer)
    if answer.waits_for == Wait.PARENT:
        return _for_parents(answer)
    if answer.waits_for == Wait.OPERATOR:
        return [Change(OPERATOR, "release it", (), f"panda release {answer.panda_id}")]
    return []


def _after_a_failure(answer: Answer) -> list[Change]:
    if not answer.facts.get("can_retry"):
        return [Change(OWNER, "submit it again", ())]
    stage = answer.facts["retry_from"]
    return [Change(OWNER, f"give it another attempt, from stage {stage}", (), f"panda retry {answer.panda_id}")]


def _for_a_queue(connection: Connection, answer: Answer, settings: Settings) -> list[Change]:
    try:
        known = policies.current(settings)
    except PandaError as problem:
        return [Change(OPERATOR, f"mend the policies of brokerage: {problem}", ())]
    kind = snapshot.kind_of(connection, answer.panda_id)
    if kind is None:
        return []
    block = standing.throttled(connection, kind.owner, kind.shape_id) if kind.barred else None
    if block is not None:
        return _for_quotas(answer._replace(facts={"quotas": [block._asdict()]}), settings)
    away = snapshot.storages_away(connection, answer.panda_id)
    policy = known.of(kind.wishes)
    resumed = _resumed(connection, kind, policy)
    return (resumed + changes(kind, _queues(connection), policy, storages_away=away))[:MOST]


def _resumed(connection: Connection, kind: Kind, policy: Policy) -> list[Change]:
    """Pauses of brokerage whose end would open queues, each tried by itself."""
    seen, pauses = snapshot.queues_seen(connection), switches.picture(connection)
    found = []
    for pause in [each for each in pauses.pauses if each.what is switches.What.BROKERAGE][:PAUSES]:
        others = pauses._replace(pauses=[each for each in pauses.pauses if each is not pause])
        faults: list[Fault] = []
        taking = sift(kind, opened(seen, others), policy.criteria, faults)[1]
        if taking:
            say = f"let brokerage go on ({pause.place.words}): {pause.words}"
            found.append(Change(OPERATOR, say, tuple(queue.name for queue in taking), pause.end_command))
    return found


def _for_quotas(answer: Answer, settings: Settings) -> list[Change]:
    found = []
    for block in answer.facts["quotas"]:
        subject, limit = block["subject"], block["limit"]
        if limit == "ban":
            return [
                Change(OPERATOR, f"let {answer.owner} in again", (), f"panda users unban {answer.owner} --reason …")
            ]
        if block["is_limited"]:
            command = f"panda users unlimit {answer.owner} --reason …"
            found.append(Change(OPERATOR, f"give {answer.owner} their own quotas back", (), command))
        else:
            words, command = (
                limit.replace("_", " "),
                f"panda quota set {subject} --{limit.replace('_', '-')} N --reason …",
            )
            found.append(Change(OPERATOR, f"let {subject} have more {words}", (), command))
        found.append(Change(TIME, _until(subject, limit, settings), ()))
    return found or [Change(TIME, "nothing: it goes on in a moment", ())]


def _until(subject: str, limit: str, settings: Settings) -> str:
    if limit == "core_hours":
        return f"wait until what {subject} used is more than {settings.quotas.period_days} days ago"
    does = "are taken by pilots" if limit == "queued_jobs" else "end"
    return f"wait until jobs of {subject} {does}"


def _for_a_pilot(connection: Connection, answer: Answer, settings: Settings) -> list[Change]:
    queue, facts = str(answer.queue), answer.facts
    elsewhere = _elsewhere(connection, answer, settings)
    if facts["queue_status"] == QueueStatus.OFFLINE:
        return [
            *elsewhere,
            Change(OPERATOR, f"open queue {queue}", (), f"panda site set {queue} online --reason …"),
        ]
    if "downtime" in facts:
        down = facts["downtime"]
        return [*elsewhere, Change(TIME, wait_until(down["what"], down["ends_at"]), ())]
    found = [*_less_for_pilots(queue, facts), *elsewhere]
    if "paused" in facts:
        found.append(Change(OPERATOR, f"let jobs be handed out again: {facts['paused']}", (), facts["resume"]))
    elif "cap" in facts:
        cap = Cap(**facts["cap"])
        found.append(Change(TIME, f"wait until fewer than {cap.max_running} jobs run at {cap.kind} {cap.name}", ()))
        found.append(Change(OPERATOR, f"raise max_running of {cap.kind} {cap.name}, {cap.max_running} now", ()))
    elif not facts["pilots_in_10_minutes"]:
        found.append(Change(OPERATOR, f"start pilots at {queue}", ()))
    share = facts["share"]
    if share["ahead"]:
        say = f"give share {share['name']} a larger weight; its part is {share['part']:.0%} now"
        found.append(Change(OPERATOR, say, (), f"panda shares set {share['name']} WEIGHT --reason …"))
        found.append(Change(TIME, f"wait until share {share['name']} is the furthest below its part", ()))
    if answer.estimate is not None:
        found.append(Change(TIME, "wait for its turn", ()))
    return found


def _less_for_pilots(queue: str, facts: Mapping[str, Any]) -> list[Change]:
    """What pilots have too little of, if none of them could take such a job."""
    n_asks = sum(facts["asks"].values())
    if sum(each["asks"] for each in facts["too_little"].values()) < max(n_asks, LEAST_ASKS):
        return []
    return [
        Change(
            OWNER,
            f"ask for at most {amount_of(word, each['most'])}: no pilot at {queue} had more in the last two hours"
            if word != "tags"
            else f"do without a tag: no pilot at {queue} offered all of them in the last two hours",
            (),
        )
        for word, each in facts["too_little"].items()
        if word == "tags" or each["most"] > 0
    ]


def _for_data(connection: Connection, answer: Answer, settings: Settings) -> list[Change]:
    failing = [each for each in answer.facts["transfers"] if each["error"]]
    down = _down(connection, answer)
    found = _elsewhere(connection, answer, settings) if failing or down else []
    away = snapshot.storages_away(connection, answer.panda_id)
    found += [
        Change(OPERATOR, f"bring storage {storage} back, which has {n} of its input files", ())
        for storage, n in away.offline.items()
    ]
    down |= {planned.what: planned for _, planned in away.down.values()}
    found += [Change(TIME, wait_until(each.what, each.ends_at), ()) for each in down.values()]
    places = sorted({each["destination"] for each in failing} | {each["source"] for each in failing if each["source"]})
    if failing and not away.offline and not down:
        found.append(Change(OPERATOR, f"mend what {' or '.join(places)} says: {failing[0]['error']}", ()))
    if not down:
        found.append(Change(TIME, "wait: its transfers are tried again by themselves", ()))
    return found


def _for_outputs(answer: Answer) -> list[Change]:
    """Its files are to be shipped, and it has run already: there is no elsewhere."""
    transfers = answer.facts["transfers"]
    failing = [each for each in transfers if each["error"]]
    found = []
    if failing:
        places = sorted({each["destination"] for each in failing} | {e["source"] for e in failing if e["source"]})
        found.append(Change(OPERATOR, f"mend what {' or '.join(places)} says: {failing[0]['error']}", ()))
    held = {each["held_because"]: each["destination"] for each in transfers if each["held_because"]}
    found += [Change(TIME, f"wait for {where}: {because}", ()) for because, where in held.items()][:NAMED]
    if not held:
        found.append(Change(TIME, "wait: its transfers are tried again by themselves", ()))
    return found


def _down(connection: Connection, answer: Answer) -> dict[str, Planned]:
    """The downtime that the queue of a job is in, or one of its storages, by what it is of."""
    found = [queue.downtime for queue in _queues(connection) if queue.name == answer.queue]
    return {each.what: each for each in found if each is not None and each.starts_in_s <= 0}


def _elsewhere(connection: Connection, answer: Answer, settings: Settings) -> list[Change]:
    """Other queues that would take it."""
    queues = _queues(connection)
    taking = [each for each in _takes(connection, answer, settings, queues) if each.name != answer.queue]
    if not taking:
        return []
    names = tuple(queue.name for queue in sorted(taking, key=lambda each: (-each.load.n_pilots, each.name)))
    command = f"panda rebroker {answer.panda_id} --exclude {answer.queue}"
    return [Change(OWNER, f"let brokerage look elsewhere than at {answer.queue}", names, command)]


def _takes(connection: Connection, answer: Answer, settings: Settings, queues: Sequence[Queue]) -> list[Queue]:
    """The queues that would take the job now."""
    kind = snapshot.kind_of(connection, answer.panda_id)
    if kind is None:
        return []
    try:
        policy = policies.current(settings).of(kind.wishes)
    except PandaError:
        return []
    faults: list[Fault] = []
    return sift(kind, queues, policy.criteria, faults)[1]


def _for_parents(answer: Answer) -> list[Change]:
    parents = answer.facts["parents"]
    failed = [each for each in parents if each["has_ended"] or each["n_failed"]]
    if failed:
        names = [f"set:{each['jobset_id']}" for each in failed]
        say = f"give the failed jobs of {', '.join(names)} another attempt"
        return [
            Change(OWNER, say, (), f"panda retry {' '.join(names)}"),
            Change(OWNER, "submit it again with on_parent_failure: run, to do without them", ()),
        ]  # fmt: skip
    if not parents:
        return []
    n_open = sum(each["n_open"] for each in parents)
    return [Change(TIME, f"wait for {counted(n_open, 'job')} of {counted(len(parents), 'job set')}", ())]

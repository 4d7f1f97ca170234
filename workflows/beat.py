"""The clock's ticks. Celery's beat only says when; a lease in the database lets one of several run.

Two beats, or none for ten minutes, do no harm: each tick does whatever is due by the database's clock.
"""

import time
from collections.abc import Callable
from functools import wraps
from socket import gethostname

from sqlalchemy.engine import Connection

from panda.brokerage import stalled
from panda.brokerage import waking as room
from panda.dataservice import copies, deletion, recalls, space, transfers
from panda.dataservice import rules as dataset_rules
from panda.db.session import rows, run
from panda.dispatcher import notes
from panda.dispatcher import tally as dispatch_counts
from panda.errors import PandaError
from panda.jobs import audit, bulk, counters, estimates, foreign, hold, notices, quarantine, share_usage, sweeping
from panda.jobs.quotas import admission, watching
from panda.jobs.quotas import history as usage_history
from panda.logs import Log
from panda.settings import current
from panda.sites import collecting, downtimes, ends, judging, leaving, removing, rules, status, trying, waking
from panda.states import Stage
from workflows.app import TICKS, app, begin
from workflows.chain import TASK_OF

log = Log("panda.tick")

#: Removing the bytes of a large dataset takes turns with the other ticks.
DELETE_FOR_S = 8.0
#: So does a walk through all ready jobs.
QUOTAS_FOR_S = 5.0

#: A lease that reaches further than any can is of a time before the clock was set back: nobody waits for it.
TAKE = """
INSERT INTO tick_leases AS t (name, lease_until, holder) VALUES (%(name)s, panda_now() + interval '35 s', %(holder)s)
ON CONFLICT (name) DO UPDATE SET lease_until = excluded.lease_until, holder = excluded.holder
    WHERE t.lease_until NOT BETWEEN panda_now() AND panda_now() + interval '35 s'
RETURNING name
"""
DROP = "UPDATE tick_leases SET lease_until = panda_now(), last_run_at = panda_now() WHERE name = %(name)s"


def tick(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """A task that at most one worker runs at a time, whoever sent it."""

    def decorate(body: Callable[[], None]) -> Callable[[], None]:
        @wraps(body)
        def once() -> None:
            with begin()() as connection:
                if not rows(connection, TAKE, {"name": name, "holder": gethostname()}):
                    return
            try:
                body()
            finally:
                with begin()() as connection:
                    run(connection, DROP, {"name": name})

        task: Callable[[], None] = app.task(name=f"panda.tick.{name}", queue=TICKS, send_events=False)(once)
        return task

    return decorate


@tick("sweep")
def sweep() -> None:
    """Waits whose deadline passed; at most 20 batches a tick."""
    for _ in range(20):
        if not sweeping.sweep(begin(), current()):
            return


@tick("actions")
def advance_actions() -> None:
    """Actions on many jobs, a chunk of each in turn; at most 20 chunks a tick."""
    for _ in range(20):
        with begin()() as connection:
            if not bulk.advance(connection):
                return


@tick("queues")
def wake_for_queues() -> None:
    """Jobs that fit no queue look again after a queue was opened: in chunks, until all have. Those that wait for room
    do where there is some."""
    woken = 1
    while woken:
        with begin()() as connection:
            woken = waking.wake_waiting_for_queue(connection)
    with begin()() as connection:
        room.wake(connection, current())


@tick("sites")
def look_after_sites() -> None:
    """What places do by the clock: ends of statuses and downtimes, queues that are on their way out."""
    with begin()() as connection:
        status.put_back(connection)
    with begin()() as connection:
        downtimes.see_ends(connection)
    removing.carry_out(begin(), current().engine.retry_window_s)


@tick("rules")
def obey_rules() -> None:
    """Rules look at how attempts ended, and at test jobs."""
    ends.count(begin())
    try:
        found = rules.current(current())
    except PandaError as problem:  # the file was changed into something that cannot be meant
        log.warning("the rules of sites cannot be read", problem=str(problem))
        return
    judging.judge(begin(), found)
    trying.look(begin(), found.tests, current().api)


@tick("collect")
def collect_sites() -> None:
    """Documents about places that are read again and again."""
    sites = current().sites
    collecting.collect_if_due(
        begin(), sites.collect_from, current().data_dir, every_s=sites.collect_s,
        gone_percent=sites.collect_gone_percent, with_status=sites.collect_status,
    )  # fmt: skip


@tick("quotas")
def see_to_quotas() -> None:
    """Jobs that were held back are let in as there is room, what everybody used is worked out; after a change of a
    quota or a ban it is marked whose ready jobs are whose, then those that brokerage kept waiting for it look again. In
    chunks, for at most a few seconds."""
    until = time.monotonic() + QUOTAS_FOR_S
    while admission.admit(begin()) and time.monotonic() < until:
        pass
    with begin()() as connection:
        usage_history.make_if_due(connection, current().quotas)
    n_steps, going = 0, True
    while going and time.monotonic() < until:
        with begin()() as connection:
            going = watching.walk(connection)
        n_steps += going
    if n_steps and not going:
        with begin()() as connection:
            waking.look_again(connection)


@tick("rebroker")
def leave_closed_queues() -> None:
    """Jobs that wait at queues which went offline, or into downtime, are brokered anew; so are those where no pilot
    comes."""
    known = current().brokerage
    leaving.leave_closed(begin(), known.leave_offline_s, known.stay_in_downtime_s)
    stalled.leave_stalled(begin(), current())


@tick("fold")
def fold() -> None:
    """Deltas into counters, and a count of running cores if the last one is old."""
    with begin()() as connection:
        counters.fold(connection)
    with begin()() as connection:
        share_usage.current(connection)


@tick("history")
def history() -> None:
    """One point of the charts."""
    with begin()() as connection:
        counters.remember(connection)


@tick("estimates")
def keep_estimates() -> None:
    """When some waiting jobs will start; and what became of what was said before."""
    with begin()() as connection:
        estimates.compare(connection)
    with begin()() as connection:
        estimates.predict(connection)


@tick("transfers")
def requeue_transfers() -> None:
    """Transfers whose mover went silent, and those that nobody waits for any more."""
    with begin()() as connection:
        transfers.requeue_expired(connection)
    with begin()() as connection:
        transfers.forget_unwanted(connection)


@tick("space")
def settle_space() -> None:
    """How much room there is, and whose quota is reached; jobs that could go nowhere look again when that ends."""
    with begin()() as connection:
        if space.settle(connection):
            waking.look_again(connection)


@tick("storages")
def ask_storages() -> None:
    """What the storages say is free."""
    space.ask(begin())


@tick("recalls")
def advance_recalls() -> None:
    """Files that come from tape: asked for, looked after, given back."""
    recalls.advance(begin(), current().data)


@tick("dataset_rules")
def advance_dataset_rules() -> None:
    """Datasets that are wanted on a storage; at most 20 passes a tick."""
    for _ in range(20):
        if not dataset_rules.advance(begin()):
            return


@tick("copies")
def let_copies_go() -> None:
    """Copies that were brought for jobs, and that no job needs any more."""
    copies.let_go(begin(), stay_s=current().data.copies_stay_s)


@tick("deletions")
def carry_out_deletions() -> None:
    """Datasets that expired or were let go, and old outputs that count for nothing; then the bytes of those that nobody
    reads, for at most a few seconds."""
    until = time.monotonic() + DELETE_FOR_S
    with begin()() as connection:
        deletion.expire(connection)
    quarantine.let_go(begin(), stay_s=current().data.quarantine_stays_s)
    while time.monotonic() < until and (deletion.take_out_unread(begin()) or deletion.carry_out(begin())):
        pass


@tick("notices")
def tell_people() -> None:
    """What happened that somebody has a rule for."""
    with begin()() as connection:
        notices.tell(connection)


@tick("audit")
def run_audit() -> None:
    """The invariants; what does not hold becomes an incident."""
    with begin()() as connection:
        findings = audit.audit(connection)
        audit.report(connection, findings)


@tick("canary")
def canary() -> None:
    """A stage with nothing to do, down each lane: a worker that consumes leaves its mark."""
    for stage in (Stage.DEFINE, Stage.ARCHIVE):
        TASK_OF[stage].delay([])


@tick("tidy")
def tidy() -> None:
    """Partitions ahead of the ids, and rows that are of no use any more."""
    with begin()() as connection:
        _tidy(connection)


def _tidy(connection: Connection) -> None:
    counters.tidy(connection)
    bulk.tidy(connection)
    hold.tidy(connection)
    notes.forget_old(connection)
    dispatch_counts.forget_old(connection)
    estimates.forget_old(connection)
    foreign.tidy(connection, current().upstream.keep_days)
    ends.tidy(connection)
    judging.tidy(connection)

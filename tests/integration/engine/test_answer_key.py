"""Jobs that are stuck, and the key: what `why` must name as the cause, and a change that would help.

Each case is a real one: the job got stuck by the engine itself, and where the key says so, the change is made and the
job goes on.
"""

from pathlib import Path

import pytest

from panda.auth import users
from panda.brokerage.explaining import explain
from panda.dataservice import catalog
from panda.db.session import run
from panda.dispatcher import matching, pilot_why, quotas
from panda.dispatcher.tally import Tally, tally
from panda.dispatcher.words import OutputReport
from panda.jobs import counters, estimates, kill, rebroker, retry, switches
from panda.jobs.quotas import table
from panda.jobs.switches import Place
from panda.sites.status import set_queue_status
from panda.sites.waking import look_again
from panda.states import JobStatus
from workflows import beat

#: A job's name here, and words that its answer must have: in the sentence, and in one of the changes.
KEY = {
    "too much memory": (
        ["No queue fits it", "needs 16 GB of memory, the queue has 8 GB"],
        "ask for 8 GB of memory instead of 16 GB: 2 more queues (NORTH-Q, SOUTH-Q)",
    ),
    "too much memory and a missing tag": (
        ["No queue fits it", "needs 20 GB of memory, the queue has 8 GB"],
        "ask for 8 GB of memory instead of 20 GB, and do without the tag nosuch: 2 more queues (NORTH-Q, SOUTH-Q)",
    ),
    "all replicas at an offline storage": (
        ["No queue fits it", "1 of its input files is on no storage that is online"],
        "if storage SOUTH-DISK, which has 1 input file, were online: 2 more queues (NORTH-Q, SOUTH-Q)",
    ),
    "share": (
        ["It is ready at NORTH-Q", "share prod goes first"],
        "give share test a larger weight; its part is",
    ),
    "downtime": (
        ["No queue fits it", "is in downtime until", "(new cooling)"],
        "wait until the downtime of site NORTH ends",
    ),
    "a queue that would take it now": (
        ["NORTH-Q would take it now, and brokerage looks again at", "UTC. When it looked last: No queue fits it"],
        "nothing: 1 queue (NORTH-Q) would take it now; brokerage looks again at",
    ),
    "paused brokerage": (
        ["No queue fits it", "brokerage is paused by olga: the disk burns"],
        "let brokerage go on (site NORTH): brokerage is paused by olga: the disk burns: 1 more queue (NORTH-Q)",
    ),
    "paused dispatch": (
        ["It is ready at NORTH-Q", "dispatch is paused by olga: the disk burns"],
        "let jobs be handed out again: dispatch is paused by olga",
    ),
    "data only at a storage in downtime": (
        [
            "1 of its input files is on no storage that is online",
            "Storage SOUTH-DISK, which has 1 input file that no",
            "is in downtime until",
            "(new cooling)",
        ],
        ": storage SOUTH-DISK has 1 input file: 1 more queue (NORTH-Q)",
    ),
    "ready job at a queue in downtime": (
        ["It is ready at NORTH-Q, where site NORTH is in downtime until", "(new cooling)"],
        "wait until the downtime of site NORTH ends",
    ),
    "brokeroff queue that still runs its ready jobs": (
        [
            "It is ready at NORTH-Q, next in line; the queue is brokeroff (power cut), and still runs what is ready there"
        ],
        "start pilots at NORTH-Q",
    ),
    "quota of bytes": (
        ["No queue fits it", "alice may keep no more on NORTH-DISK: 3 of 2 GB"],
        "delete datasets that are kept on storage NORTH-DISK: 1 more queue (NORTH-Q)",
    ),
    "quota": (
        ["It is ready at NORTH-Q", "a quota keeps it from being started: user:alice runs 1 of 1 jobs"],
        "let user:alice have more running jobs",
    ),
    "quota of queued jobs": (
        ["It is held back: group:higgs has 0 of 2 jobs queued", "after 1 that were held before it"],
        "let group:higgs have more queued jobs",
    ),
    "limited user": (
        ["It is ready at NORTH-Q", "user:alice runs 2 of 3 cores, and 2 more are too many"],
        "give alice their own quotas back",
    ),
    "banned user": (
        ["It is ready at NORTH-Q", "none of its owner's jobs is started: alice is banned: spam"],
        "let alice in again",
    ),
    "missing tag": (
        ["No queue fits it", "needs avx512, which the queue does not offer"],
        "do without the tag avx512: 2 more queues (NORTH-Q, SOUTH-Q)",
    ),
    "transfer failing": (
        ["1 input file is on the way", "failed:"],
        "let brokerage look elsewhere than at NORTH-Q: 1 more queue (SOUTH-Q)",
    ),
    "outputs that cannot be shipped": (
        ["1 output file is on the way", "failed: storage SOUTH-DISK is offline"],
        "mend what SOUTH-DISK says: storage SOUTH-DISK is offline",
    ),
    "parent set failed": (["which it depends on, did not finish; it is held"], "give the failed jobs of set:"),
    "no pilots": (["It is ready at NORTH-Q", "no pilot has asked there for 10 minutes"], "start pilots at NORTH-Q"),
    "pilots too small": (
        ["It is ready at NORTH-Q", "none came with enough memory (at most 1.5 GB)"],
        "ask for at most 1.5 GB of memory: no pilot at NORTH-Q had more",
    ),
    "queue closed": (
        ["No queue fits it", "the queue is offline"],
        "if queues that are offline were online: 2 more queues (NORTH-Q, SOUTH-Q)",
    ),
    "requirement": (
        ["No queue fits it", "the job set requires `queue.corepower > 15`, but queue.corepower is 10"],
        "do not require `queue.corepower > 15`: 2 more queues (NORTH-Q, SOUTH-Q)",
    ),
}


@pytest.fixture(autouse=True)
def nothing_counted(monkeypatch):
    """What other tests of this process counted is not this world's, and nothing is written before it is asked for."""
    monkeypatch.setattr(tally, "_counts", {})
    monkeypatch.setattr(tally, "_due_at", float("inf"))


def told(world, panda_id):
    with world.begin() as connection:
        return explain(connection, panda_id, world.settings)


def solved(world, case, panda_id):
    """What the key demands of an answer; returns the change that helps."""
    answer, changes = told(world, panda_id)
    words, helps = KEY[case]
    for word in words:
        assert word in answer.summary, answer.summary
    assert answer.since is not None
    found = [change for change in changes if helps in change.sentence]
    assert found, [change.sentence for change in changes]
    return found[0]


def set_status(world, queue, status):
    with world.begin() as connection:
        set_queue_status(connection, queue, status, by="olga", reason="power cut")


def submitted(world, **document):
    [panda_id] = world.jobs(1, **document)
    world.settle()
    return panda_id


def test_too_much_memory(world):
    stuck = submitted(world, defaults={"memory_mb": 16_000})

    assert solved(world, "too much memory", stuck).who == "owner"
    assert world.status(submitted(world, defaults={"memory_mb": 8_000})) == "activated"


def test_too_much_memory_and_a_missing_tag(world):
    stuck = submitted(world, defaults={"memory_mb": 20_000, "tags": ["nosuch"]})

    assert solved(world, "too much memory and a missing tag", stuck).who == "owner"


def a_file(world, storage):
    world.query(
        "INSERT INTO datasets (scope, name, owner, created_at, n_files, size_bytes)"
        " VALUES ('s', 'd', 'alice', panda_now(), 1, 5) RETURNING 1"
    )
    world.query(
        "INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)"
        " SELECT dataset_id, 'f', 'g', 5, '00000001', panda_now() FROM datasets WHERE name = 'd' RETURNING 1"
    )
    [file] = world.query("SELECT file_id FROM files WHERE lfn = 'f'")
    with world.begin() as connection:
        catalog.place_replicas(connection, [(file.file_id, storage, "p")])


def with_input(world, **document):
    accepted = world.submit(jobs=[{"command": ["true"], "inputs": ["s:d/f"]}], **document)
    return accepted.first_panda_id


def test_all_replicas_at_an_offline_storage(world):
    a_file(world, "SOUTH-DISK")
    world.query("UPDATE storages SET status = 'offline' WHERE name = 'SOUTH-DISK' RETURNING 1")
    stuck = with_input(world)
    world.settle()

    assert solved(world, "all replicas at an offline storage", stuck).who == "operator"


def test_share(world):
    world.query("INSERT INTO shares (name, weight, file_weight) VALUES ('prod', 90, 90), ('test', 1, 1) RETURNING 1")
    only_north = {"sites": ["NORTH"]}
    running = world.jobs(4, share="test", brokerage=only_north)
    world.settle()
    assert len(world.acquire(4, queue="NORTH-Q", cores=8, memory_mb=64_000)) == 4
    world.jobs(3, share="prod", brokerage=only_north)
    stuck = submitted(world, share="test", brokerage=only_north)
    world.acquire(1, queue="NORTH-Q", pilot_id="pilot-2")

    assert solved(world, "share", stuck).command == "panda shares set test WEIGHT --reason …"
    assert "share" in [each.rule for each in told(world, stuck).answer.ahead]
    assert running


def downtime(world, kind, target, *, minutes=60):
    world.query(
        "INSERT INTO downtimes (name, kind, target, starts_at, ends_at, reason, made_by) VALUES (%(target)s, %(kind)s,"
        " %(target)s, panda_now(), panda_now() + make_interval(mins => %(minutes)s), 'new cooling', 'olga')"
        " RETURNING 1", kind=kind, target=target, minutes=minutes,
    )  # fmt: skip
    matching.forget()


def test_downtime(world):
    for site in ("NORTH", "SOUTH"):
        downtime(world, "site", site)
    stuck = submitted(world)

    assert solved(world, "downtime", stuck).who == "time"


@pytest.mark.parametrize(("kind", "target"), [("storage", "SOUTH-DISK"), ("site", "SOUTH")])
def test_data_only_at_a_storage_in_downtime(world, kind, target):
    a_file(world, "SOUTH-DISK")
    downtime(world, kind, target)
    stuck = with_input(world, brokerage={"sites": ["NORTH"]})
    world.settle()

    change = solved(world, "data only at a storage in downtime", stuck)

    assert change.say.startswith(f"wait until the downtime of {kind} {target} ends")
    world.query("DELETE FROM downtimes RETURNING 1")
    world.pass_time(60)
    world.sweep()
    world.settle()
    assert world.job(stuck)["computing_site"] == "NORTH-Q"


def test_files_on_their_way_wait_for_the_end_of_a_downtime(world):
    a_file(world, "SOUTH-DISK")
    stuck = with_input(world, brokerage={"sites": ["NORTH"]})
    world.settle()
    downtime(world, "storage", "SOUTH-DISK")

    answer, changes = told(world, stuck)

    assert "is held: all that have it are in downtime, storage SOUTH-DISK until" in answer.summary
    assert "Storage SOUTH-DISK, which has 1 input file that no other one has, is in downtime" in answer.summary
    assert [each.say.split(",")[0] for each in changes] == ["wait until the downtime of storage SOUTH-DISK ends"]


def test_ready_job_at_a_queue_in_downtime(world):
    world.jobs(3, brokerage={"sites": ["NORTH", "SOUTH"], "prefer": ["NORTH"]})
    world.settle()
    assert world.acquire(1, queue="NORTH-Q")
    fold(world)
    [stuck] = [row.panda_id for row in world.query("SELECT panda_id FROM ready WHERE queue = 'NORTH-Q' LIMIT 1")]
    downtime(world, "site", "NORTH", minutes=20)

    solved(world, "ready job at a queue in downtime", stuck)

    answer, changes = told(world, stuck)
    assert [each.who for each in changes] == ["owner", "time"]
    assert changes[0].sentence == "let brokerage look elsewhere than at NORTH-Q: 1 more queue (SOUTH-Q)"
    assert changes[0].command == f"panda rebroker {stuck} --exclude NORTH-Q"
    assert answer.estimate is None
    assert world.acquire(1, queue="NORTH-Q", pilot_id="other") == []


def test_brokeroff_queue_that_still_runs_its_ready_jobs(world):
    mine = submitted(world, brokerage={"sites": ["NORTH"]})
    set_status(world, "NORTH-Q", "brokeroff")

    assert solved(world, "brokeroff queue that still runs its ready jobs", mine).command == ""
    assert not [each for each in told(world, mine).changes if "open queue" in each.say]
    assert [each.panda_id for each in world.acquire(1, queue="NORTH-Q")] == [mine]


def test_quota_of_bytes(world):
    for storage in ("NORTH-DISK", "SOUTH-DISK"):
        world.query(
            "INSERT INTO storage_quotas_reached (storage, owner, because) VALUES (%(storage)s, 'alice', '3 of 2 GB')"
            " RETURNING 1", storage=storage,
        )  # fmt: skip
    accepted = world.submit(jobs=[{"command": ["true"], "outputs": ["o"]}], brokerage={"sites": ["NORTH"]})
    world.settle()

    assert solved(world, "quota of bytes", accepted.first_panda_id).who == "owner"


def quota_of(world, subject, **values):
    with world.begin() as connection:
        table.set_quota(connection, subject, values, by="olga", reason="test")
    beat.see_to_quotas()
    matching.forget()


def with_count_of_now(world):
    world.query("UPDATE share_usage SET counted_at = 'epoch' RETURNING 1")


def test_quota(world, monkeypatch):
    monkeypatch.setattr(quotas, "OVERLAP_S", 0.0)
    quota_of(world, "user:alice", running_jobs=1)
    _, stuck = world.jobs(2, brokerage={"sites": ["NORTH"]})
    world.settle()
    [job] = world.acquire(1, queue="NORTH-Q")
    with_count_of_now(world)

    change = solved(world, "quota", stuck)

    assert (change.who, change.command) == ("operator", "panda quota set user:alice --running-jobs N --reason …")
    assert "wait until jobs of user:alice end" in [each.say for each in told(world, stuck).changes]
    assert world.acquire(1, queue="NORTH-Q", pilot_id="other") == []
    world.report(job, "finished")
    with_count_of_now(world)
    assert [each.panda_id for each in world.acquire(1, queue="NORTH-Q", pilot_id="other")] == [stuck]


def test_quota_of_queued_jobs(world):
    quota_of(world, "group:higgs", queued_jobs=2, beyond="hold", members=["alice", "bob"])
    _, stuck, _ = world.jobs(3)
    world.settle()

    change = solved(world, "quota of queued jobs", stuck)

    assert change.command == "panda quota set group:higgs --queued-jobs N --reason …"
    beat.see_to_quotas()
    answer, changes = told(world, stuck)
    assert (answer.waits_for, changes) == (None, [])


def standing_of_alice(world, deed):
    with world.begin() as connection:
        users.create(connection, "alice", ["user"], by="olga", reason="", request_id=None)
        deed(connection, "alice", by="olga", reason="spam", request_id=None)
    matching.forget()


def test_limited_user(world):
    quota_of(world, "limited", running_cores=3)
    standing_of_alice(world, users.limit)
    _, stuck = world.jobs(2, brokerage={"sites": ["NORTH"]}, defaults={"cores": 2})
    world.settle()
    world.acquire(1, queue="NORTH-Q")
    with_count_of_now(world)

    assert solved(world, "limited user", stuck).command == "panda users unlimit alice --reason …"


def test_banned_user(world):
    stuck = submitted(world, brokerage={"sites": ["NORTH"]})
    standing_of_alice(world, users.ban)

    assert solved(world, "banned user", stuck).command == "panda users unban alice --reason …"


def test_core_hours_that_are_used_up_come_back_with_time(world):
    quota_of(world, "user:alice", core_hours=1)
    world.query("INSERT INTO owner_usage VALUES ('alice', 1, 0, 2, panda_now()) RETURNING 1")
    matching.forget()
    stuck = submitted(world, brokerage={"sites": ["NORTH"]})

    answer, changes = told(world, stuck)

    assert "user:alice used 2 of 1 core hours of this period" in answer.summary
    assert changes[-1].say == "wait until what user:alice used is more than 30 days ago"


def test_missing_tag(world):
    stuck = submitted(world, defaults={"tags": ["avx512"]})

    solved(world, "missing tag", stuck)


def test_transfer_failing(world):
    a_file(world, "SOUTH-DISK")  # its file is not there, whatever the catalogue says
    stuck = with_input(world, brokerage={"sites": ["NORTH", "SOUTH"], "prefer": ["NORTH"]}, defaults={"priority": 1})
    world.query("UPDATE queues SET status = 'offline' WHERE name = 'SOUTH-Q' RETURNING 1")
    world.settle()
    world.query("UPDATE queues SET status = 'online' WHERE name = 'SOUTH-Q' RETURNING 1")

    change = solved(world, "transfer failing", stuck)

    assert change.command == f"panda rebroker {stuck} --exclude NORTH-Q"


def test_outputs_that_cannot_be_shipped(world):
    accepted = world.submit(
        jobs=[{"command": ["true"], "outputs": ["o"]}], brokerage={"sites": ["NORTH"]}, output_storage="SOUTH-DISK"
    )
    world.settle()
    [job] = world.acquire(queue="NORTH-Q")
    place = Path(job.outputs[0].url.removeprefix("file://"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"result")
    world.query("UPDATE storages SET status = 'offline' WHERE name = 'SOUTH-DISK' RETURNING 1")
    world.report(job, "finished", outputs=[OutputReport(lfn="o", size_bytes=6, adler32="092202a0")])
    world.settle()

    assert solved(world, "outputs that cannot be shipped", accepted.first_panda_id).who == "operator"
    assert told(world, accepted.first_panda_id).changes[-1].say == "wait: its transfers are tried again by themselves"


def test_parent_set_failed(world):
    parent = world.submit(jobs=[{"command": ["false"]}])
    stuck = world.submit(
        jobs=[{"command": ["true"]}], depends_on=[parent.jobset_id], on_parent_failure="hold"
    ).first_panda_id
    world.settle()
    [job] = world.acquire()
    world.fail(job)
    world.pass_time(world.engine.retry_window_s + 1)
    world.sweep()
    world.settle()

    change = solved(world, "parent set failed", stuck)

    assert change.command == f"panda retry set:{parent.jobset_id}"


def test_no_pilots(world):
    stuck = submitted(world, brokerage={"sites": ["NORTH"]})

    assert solved(world, "no pilots", stuck).who == "operator"


def test_pilots_too_small(world):
    stuck = submitted(world, brokerage={"sites": ["NORTH"]}, defaults={"memory_mb": 2_000})
    for n in range(3):
        assert world.acquire(1, queue="NORTH-Q", pilot_id=f"small-{n}", memory_mb=1_000 + 250 * n) == []
    tally.write(world.begin)

    assert solved(world, "pilots too small", stuck).who == "owner"


def test_queue_closed(world):
    for queue in ("NORTH-Q", "SOUTH-Q"):
        set_status(world, queue, "offline")
    stuck = submitted(world)

    assert solved(world, "queue closed", stuck).who == "operator"
    world.query("UPDATE queues SET status = 'online' RETURNING 1")  # and nobody told the waiting jobs
    answer, changes = told(world, stuck)
    assert answer.summary.startswith(
        f"NORTH-Q, SOUTH-Q would take it now, and brokerage looks again at {answer.until:%H:%M}"
    )
    assert changes[0].say.startswith(
        "nothing: 2 queues (NORTH-Q, SOUTH-Q) would take it now; brokerage looks again at "
    )


def test_a_queue_that_would_take_it_now(world):
    world.query("UPDATE queues SET max_ready = 1 WHERE name = 'NORTH-Q' RETURNING 1")
    world.jobs(2, brokerage={"sites": ["NORTH"]})
    world.settle()
    [stuck] = [row.panda_id for row in world.query("SELECT panda_id FROM job_due WHERE waits_for = 'queue'")]
    assert told(world, stuck).changes[-1].say == "wait until there is room"
    assert len(world.acquire(1, queue="NORTH-Q")) == 1

    change = solved(world, "a queue that would take it now", stuck)

    assert (change.who, change.command) == ("time", "")
    assert [each.command for each in told(world, stuck).changes] == ["", f"panda rebroker {stuck}"]
    with world.begin() as connection:
        rebroker.rebroker(connection, [stuck], by="alice", reason="")
    world.settle()
    assert world.status(stuck) == "activated"


def test_paused_brokerage(world):
    pause = Place(site="NORTH")
    with world.begin() as connection:
        switches.pause(connection, "brokerage", pause, by="olga", reason="the disk burns")
    stuck = submitted(world, brokerage={"sites": ["NORTH"]})

    change = solved(world, "paused brokerage", stuck)

    assert (change.who, change.command) == ("operator", "panda resume brokerage --site NORTH --reason …")
    assert not [each for each in told(world, stuck).changes if "were online" in each.say]
    with world.begin() as connection:
        switches.resume(connection, "brokerage", pause, by="olga", reason="it is out")
        look_again(connection)
    world.settle()
    assert world.status(stuck) == "activated"


def test_paused_dispatch(world):
    stuck = submitted(world, brokerage={"sites": ["NORTH"]})
    with world.begin() as connection:
        switches.pause(connection, "dispatch", Place(queue="NORTH-Q"), by="olga", reason="the disk burns")

    assert solved(world, "paused dispatch", stuck).command == "panda resume dispatch --queue NORTH-Q --reason …"


def test_requirement(world):
    stuck = submitted(world, brokerage={"requirements": "queue.cores >= 1 and queue.corepower > 15"})

    solved(world, "requirement", stuck)


@pytest.mark.parametrize("case", KEY)
def test_each_case_of_the_key_has_its_test(case):
    assert f"test_{case.replace(' ', '_')}" in globals()


# ---- what goes with it ------------------------------------------------------------------------


def test_a_failed_job_may_be_retried_and_a_finished_one_wants_nothing(world):
    panda_id = submitted(world)
    [job] = world.acquire()
    world.fail(job)

    [change] = told(world, panda_id).changes
    assert change.command == f"panda retry {panda_id}"
    with world.begin() as connection:
        retry.retry(connection, [panda_id], stage=None, by="alice", reason="")
    world.settle()
    [job] = world.acquire()
    world.report(job, "finished")
    world.settle()
    assert told(world, panda_id).changes == []


def test_who_comes_first_by_rank_is_counted_by_size(world):
    world.jobs(2, brokerage={"sites": ["NORTH"]}, defaults={"priority": 5})
    world.jobs(3, brokerage={"sites": ["NORTH"]}, defaults={"priority": 5, "cores": 2})
    mine = submitted(world, brokerage={"sites": ["NORTH"]})

    ahead = told(world, mine).answer.ahead

    assert [(each.rule, each.n) for each in ahead] == [("rank", 2), ("rank", 3)]


def test_a_runnable_job_knows_its_turn(world):
    world.jobs(3)
    world.turn_expansion()
    [mine] = world.jobs(1)
    world.turn_expansion()

    answer = told(world, mine).answer

    assert [(each.rule, each.n) for each in answer.ahead] == [("turn", 3)]


def fold(world):
    with world.begin() as connection:
        counters.fold(connection)


def test_the_pace_of_a_queue_is_counted_where_counters_are_folded(world):
    submitted(world, brokerage={"sites": ["NORTH"]})
    [job] = world.acquire(queue="NORTH-Q")
    fold(world)
    world.report(job, "running")
    fold(world)

    assert [(row.queue, row.n) for row in world.query("SELECT queue, n FROM queue_starts")] == [("NORTH-Q", 1)]


def test_a_start_is_estimated_from_the_pace_and_what_comes_before(world):
    world.jobs(12, brokerage={"sites": ["NORTH"]})
    world.settle()
    assert len(world.acquire(6, queue="NORTH-Q")) == 6
    fold(world)
    last = world.query("SELECT panda_id FROM ready ORDER BY rank DESC, panda_id DESC LIMIT 1")[0].panda_id

    guess = told(world, last).answer.estimate

    assert guess.because == "5 jobs of its share come before it; 6 jobs started there in the last hour"
    [now] = world.query("SELECT panda_now() AS now")
    assert (
        600 < (guess.earliest_at - now.now).total_seconds() <= 0.2 * 3600
    )  # a fifth of an hour: nothing is learnt yet
    assert (guess.coverage, guess.n_compared) == (None, 0)


def test_predictions_are_kept_compared_and_measured(world):
    world.jobs(30, brokerage={"sites": ["NORTH"]})
    world.settle()
    world.acquire(6, queue="NORTH-Q")
    fold(world)
    beat.keep_estimates()
    predicted = [row.panda_id for row in world.query("SELECT panda_id FROM start_predictions")]
    assert len(predicted) == 1  # one kind of job waits: its newest
    beat.keep_estimates()
    assert len(world.query("SELECT 1 FROM start_predictions")) == 1

    taken = world.acquire(40, queue="NORTH-Q", pilot_id="pilot-2")
    beat.keep_estimates()

    assert predicted[0] in {job.panda_id for job in taken}
    [row] = world.query("SELECT * FROM start_predictions WHERE started_at IS NOT NULL")
    assert row.panda_id == predicted[0]
    with world.begin() as connection:
        assert estimates.measure(connection).n_compared == 1


def test_a_prediction_for_a_job_that_never_starts_there_does_not_count(world):
    world.jobs(3, brokerage={"sites": ["NORTH"]})
    world.settle()
    world.acquire(1, queue="NORTH-Q")
    fold(world)
    beat.keep_estimates()
    [predicted] = [row.panda_id for row in world.query("SELECT panda_id FROM start_predictions")]

    with world.begin() as connection:
        kill.request(connection, [predicted], by="alice", reason="")
    beat.keep_estimates()

    [row] = world.query("SELECT * FROM start_predictions WHERE panda_id = %(id)s", id=predicted)
    assert (row.is_gone, row.started_at) == (True, None)


# ---- pilots -----------------------------------------------------------------------------------


def of_pilot(world, pilot_id):
    with world.begin() as connection:
        return pilot_why.why(connection, pilot_id)


def test_a_pilot_that_is_too_small_hears_of_what(world):
    world.jobs(2, brokerage={"sites": ["NORTH"]}, defaults={"cores": 2})
    world.jobs(1, brokerage={"sites": ["NORTH"]}, defaults={"cores": 4})
    world.settle()
    assert world.acquire(1, queue="NORTH-Q", cores=1) == []
    tally.write(world.begin)

    answer = of_pilot(world, "pilot-1")

    assert answer.summary == (
        "All 3 ready jobs do not fit it: needs 2 cores, the pilot has 1; needs 4 cores, the pilot has 1."
    )
    assert answer.changes[0].say == "start pilots with at least 2 cores and 2 GB of memory at NORTH-Q"
    assert answer.asks == {"nothing_fits": 1}
    assert [(kind.n, kind.misfit) for kind in answer.ready] == [
        (2, "needs 2 cores, the pilot has 1"), (1, "needs 4 cores, the pilot has 1"),
    ]  # fmt: skip
    assert answer.facts["nothing_because"] == "needs 2 cores, the pilot has 1; needs 4 cores, the pilot has 1"


def test_a_pilot_at_a_queue_without_jobs_hears_what_brokerage_keeps_from_there(world):
    submitted(world, defaults={"memory_mb": 16_000})
    assert world.acquire(1, queue="NORTH-Q") == []

    answer = of_pilot(world, "pilot-1")

    assert answer.summary == (
        "No job is ready at NORTH-Q; brokerage kept 1 job from there: "
        "needs 16 GB of memory, the queue has 8 GB (resources)."
    )
    assert answer.refusals == {"needs 16 GB of memory, the queue has 8 GB (resources)": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE pilots SET last_seen_at = panda_now() - interval '20 minutes'", "It has not asked for 20 minutes."),
        (
            "INSERT INTO pilot_notes (pilot_id, queue, version, facts, problems, warnings, began_at, ended_at, why)"
            " VALUES ('pilot-1', 'NORTH-Q', '', '{}', '[]', '[]', panda_now(), panda_now(), 'its slot ends')",
            "It has left: its slot ends.",
        ),
        ("SELECT 1", "No job is ready at NORTH-Q, and brokerage has none that it keeps from there."),
    ],
)
def test_a_pilot_hears_what_else_may_be_so(world, change, words):
    world.acquire(1, queue="NORTH-Q")
    with world.begin() as connection:
        run(connection, change)

    assert words in of_pilot(world, "pilot-1").summary


def test_a_pilot_at_a_queue_that_is_offline_hears_so(world):
    world.acquire(1, queue="NORTH-Q")
    set_status(world, "NORTH-Q", "offline")

    assert of_pilot(world, "pilot-1").summary == "Its queue NORTH-Q is offline (power cut)."


def test_a_pilot_with_work_has_work(world):
    mine = submitted(world, brokerage={"sites": ["NORTH"]})
    assert len(world.acquire(1, queue="NORTH-Q")) == 1

    assert of_pilot(world, "pilot-1").summary == f"It has work: job {mine} of its last ask."


def test_counts_of_asks_outlive_a_database_that_is_away(world, monkeypatch):
    mine = Tally()
    mine.ask("NORTH-Q", "nothing_fits", [(1, "cores", 3)])
    mine.ask("NORTH-Q", "nothing_fits", [(1, "cores", 2)])

    def away():
        raise ConnectionError

    with pytest.raises(ConnectionError):
        mine.write(away)
    mine.ask("NORTH-Q", "got")
    mine.write(world.begin)
    mine.write(world.begin)

    found = world.query("SELECT shape_id, word, n, most FROM dispatch_counts ORDER BY shape_id, word")
    assert [tuple(row) for row in found] == [(0, "got", 1, 0), (0, "nothing_fits", 2, 0), (1, "cores", 2, 3)]


def test_no_claim_writes_a_count_itself(world, monkeypatch):
    monkeypatch.setattr(tally, "_due_at", float("inf"))
    tally.write(world.begin)
    world.query("DELETE FROM dispatch_counts RETURNING 1")
    submitted(world)

    world.acquire(1)
    world.acquire(1)

    assert world.query("SELECT 1 FROM dispatch_counts") == []
    assert JobStatus.SENT in [row.status for row in world.query("SELECT status FROM jobs")]

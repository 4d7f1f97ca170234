"""A storage takes what fits, an owner keeps what they may, and whoever waits for room is told so."""

import threading

import pytest

from panda.brokerage import broker
from panda.dataservice import admission, catalog, copies, outputs, space, storage_file, transfers
from panda.dataservice.movers.base import Space
from panda.dataservice.movers.local import LocalMover
from panda.errors import ConfigError, Conflict, UnknownName
from panda.jobs import audit, why

MB = 10**6


def settle(lab):
    with lab.begin() as connection:
        return space.settle(connection)


def quota(lab, name="users", owners=("%",), storages=("%",), *, limit, each=False):
    lab.do("INSERT INTO users VALUES ('alice', '{user}', panda_now())")
    lab.do(
        "INSERT INTO storage_quotas VALUES (%(name)s, %(owners)s, %(storages)s, %(owners)s, %(storages)s, %(each)s, %(limit)s)",
        name=name, owners=list(owners), storages=list(storages), each=each, limit=limit,
    )  # fmt: skip
    settle(lab)


def limit(lab, storage, n_bytes):
    """So much may lie there: that much is free, and was before anything came."""
    lab.do(
        "INSERT INTO storage_space (storage, free_bytes) VALUES (%(name)s, %(n)s)"
        " ON CONFLICT (storage) DO UPDATE SET free_bytes = excluded.free_bytes",
        n=n_bytes, name=storage,
    )  # fmt: skip
    return settle(lab)


def storage(lab, name):
    [row] = lab.query("SELECT * FROM storage_space WHERE storage = %(name)s", name=name)
    return row


def request(lab, panda_ids):
    with lab.begin() as connection:
        return transfers.request_inputs(connection, panda_ids, deadline_s=3600)


def move_all(lab):
    with lab.begin() as connection:
        ids = admission.due_ids(connection, 100, 60)
    return transfers.carry_out(lab.begin, ids, lab.settings)


def told(lab, panda_id):
    with lab.begin() as connection:
        return why.why(connection, panda_id).summary


def counted(lab):
    settle(lab)
    return {(r.storage, r.owner): r.n_bytes for r in lab.query("SELECT * FROM storage_use WHERE n_bytes <> 0")}


def findings(lab):
    with lab.begin() as connection:
        return audit.audit(connection, everything=True, only=["I8", "I8b"])


def test_what_lies_where_is_counted_for_its_owner_and_copies_for_nobody(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:d/b", b"defgh", "SOUTH-DISK")
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))
    move_all(lab)

    assert counted(lab) == {("NORTH-DISK", "alice"): 3, ("SOUTH-DISK", "alice"): 5, ("SOUTH-DISK", ""): 3}
    assert findings(lab) == []
    lab.do("UPDATE storage_use SET n_bytes = 7 WHERE owner = ''")
    assert [finding.invariant for finding in findings(lab)] == ["I8b"]


def test_a_file_that_has_no_room_is_refused_before_and_after_its_bytes_are_known(lab):
    limit(lab, "NORTH-DISK", 4)
    lab.put("s:d/a", b"abc")

    with pytest.raises(space.NoRoom, match="has room for 1 B, this needs 2 B"):
        lab.put("s:d/b", b"xy", announced_bytes=2)
    with pytest.raises(space.NoRoom, match="has room for 0 B"):
        lab.put("s:d/b", b"xy")
    lab.put("s:d/b", b"x")
    settle(lab)
    with pytest.raises(space.NoRoom, match="NORTH-DISK is full: 0 B are free"):
        lab.put("s:d/c", b"")
    lab.put("s:d/a", b"abc")  # the same bytes again need no room

    assert [r.lfn for r in lab.query("SELECT lfn FROM files ORDER BY lfn")] == ["a", "b"]
    assert len([path for path in lab.root.rglob("*") if path.is_file()]) == 2


def test_a_storage_may_hold_less_than_fits(lab):
    lab.do("UPDATE storages SET limit_mb = 2")
    lab.put("s:d/a", bytes(2 * MB))
    settle(lab)

    with pytest.raises(space.NoRoom, match="NORTH-DISK is full: 2 MB of the 2 MB that it may hold are used"):
        lab.put("s:d/b", b"")


@pytest.mark.parametrize("each", [True, False])
def test_an_owner_keeps_no_more_than_their_quota(lab, each):
    quota(lab, owners=("al%", "bob"), limit=5, each=each)
    lab.put("s:d/a", b"abc")
    with lab.begin() as connection:
        catalog.create(connection, "s:bobs", owner="bob")

    with pytest.raises(Conflict, match="of quota users, 3 B of 5 B are used; 3 B more of alice do not fit") as refused:
        lab.put("s:d/b", b"abc", announced_bytes=3)
    assert refused.value.code == "storage_quota_reached"
    with pytest.raises(Conflict, match="6 B of 5 B are used"):
        lab.put("s:d/b", b"abc")
    if each:
        lab.put("s:bobs/b", b"abcde", owner="bob")
    else:
        with pytest.raises(Conflict, match="more of bob do not fit"):
            lab.put("s:bobs/b", b"abc", owner="bob", announced_bytes=3)
    with lab.begin() as connection:
        catalog.create(connection, "s:carols", owner="carol")
    lab.put("s:carols/b", b"abcdefgh", owner="carol")


def test_of_two_puts_at_once_only_what_the_quota_bears_is_kept(lab):
    quota(lab, limit=5)
    with lab.begin() as connection:
        for name in "ab":
            catalog.create(connection, f"s:{name}", owner="alice")
    refused = []

    def put(name):
        try:
            lab.put(f"s:{name}/x", b"abc")
        except Conflict as problem:
            refused.append(problem.code)

    threads = [threading.Thread(target=put, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert refused == ["storage_quota_reached"]
    assert [r.n for r in lab.query("SELECT count(*) AS n FROM files")] == [1]


def test_transfers_to_a_full_storage_wait_and_their_jobs_say_so(lab):
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    limit(lab, "SOUTH-DISK", 1)
    lab.put("s:d/x", b"x", "SOUTH-DISK")
    settle(lab)

    assert move_all(lab) == []
    assert [t.status for t in lab.transfers()] == ["queued"]
    assert told(lab, job) == ("1 input file is on the way; a to SOUTH-DISK is held: the storage is full: 0 B are free.")
    assert limit(lab, "SOUTH-DISK", 4) is True
    move_all(lab)
    assert lab.due(job).waits_for is None


def test_no_more_is_sent_at_once_than_fits(lab):
    for lfn in "abc":
        lab.put(f"s:d/{lfn}", b"xyz")
    jobs = lab.bound_jobs(inputs=["s:d"])
    limit(lab, "SOUTH-DISK", 7)
    request(lab, jobs)

    with lab.begin() as connection:
        first = admission.due_ids(connection, 10, 60)
    with lab.begin() as connection:
        assert admission.due_ids(connection, 10, 60) == []
    transfers.carry_out(lab.begin, first, lab.settings)

    assert len(first) == 2
    assert [t.status for t in lab.transfers()].count("queued") == 1
    assert lab.query("SELECT 1 FROM transfers WHERE status = 'queued' AND due_at > panda_now() + interval '10 s'")
    settle(lab)
    assert "it holds 3 bytes, there is room for 1" in told(lab, jobs[0])


def test_outputs_beyond_the_quota_wait_for_their_place(lab):
    with lab.begin() as connection:
        catalog.create(connection, "s:out", owner="alice")
    [job] = lab.jobs(1, outputs=["s:out/o"], stage="stage_out", status="holding", output_storage="NORTH-DISK")
    with lab.begin() as connection:
        outputs.reserve(connection, [job])
    lab.write_output(job, "o", b"abc")
    quota(lab, storages=("NORTH%",), limit=0)
    with lab.begin() as connection:
        assert outputs.register(connection, [job], outputs.reported(connection, [job]), deadline_s=60) == []

    assert move_all(lab) == []
    assert "o to NORTH-DISK is held: alice may keep no more there: of quota users, 0 B of 0 B are used" in told(
        lab, job
    )
    lab.do("DELETE FROM storage_quotas")
    assert settle(lab) is True
    lab.do("UPDATE transfers SET due_at = panda_now()")
    move_all(lab)
    assert counted(lab) == {("SOUTH-DISK", "alice"): 3, ("NORTH-DISK", "alice"): 3}


def place(lab, jobs):
    with lab.begin() as connection:
        return broker.place(connection, jobs, by="broker", settings=lab.settings)


def refusals(lab, job):
    [row] = lab.query("SELECT funnel FROM brokerage_decisions ORDER BY decision_id DESC LIMIT 1")
    return {queue: reason for each in row.funnel for queue, reason in each["refused"].items()}


def test_brokerage_passes_over_a_full_storage_for_jobs_that_bring_something(lab):
    limit(lab, "SOUTH-DISK", 1)
    lab.put("s:d/x", b"x", "SOUTH-DISK")
    lab.put("s:d/a", b"abc", "NORTH-DISK")
    settle(lab)
    ready = {"stage": "broker", "status": "defined"}
    lab.do("DELETE FROM queues WHERE name <> 'SOUTH-Q'")
    writes, brings, reads, idle = (
        lab.jobs(outputs=["s:d/o"], **ready),
        lab.bound_jobs(inputs=["s:d/a"], **ready),
        lab.bound_jobs(inputs=["s:d/x"], **ready),
        lab.jobs(**ready),
    )

    assert place(lab, writes + brings + reads + idle) == reads + idle
    assert "its storage SOUTH-DISK is full: 0 B are free" in told(lab, writes[0])


def test_brokerage_sends_no_writer_where_its_owner_may_keep_nothing(lab):
    quota(lab, owners=("alice",), storages=("SOUTH-DISK", "NORTH-DISK"), limit=0)
    ready = {"stage": "broker", "status": "defined"}
    writes, idle = lab.jobs(2, outputs=["s:d/o"], **ready), lab.jobs(1, **ready)

    assert place(lab, writes) == writes
    assert refusals(lab, writes[0]) == {
        f"{site}-Q": f"alice may keep no more on {site}-DISK: of quota users, 0 B of 0 B are used"
        for site in ("NORTH", "SOUTH")
    }
    assert place(lab, idle) == idle
    assert refusals(lab, idle[0]) == {}


def test_what_a_storage_says_is_free_counts_and_one_that_hangs_delays_nobody(lab, monkeypatch):
    stop = threading.Event()

    def say(_, root):
        if root.endswith("north"):
            stop.wait(30)
        if root.endswith("west"):
            raise OSError(5, "no answer")
        return Space(10 * MB, 100 * MB)

    monkeypatch.setattr(LocalMover, "space", say)
    lab.do("UPDATE storages SET keep_free_mb = 8")
    try:
        assert space.ask(lab.begin, within_s=0.3) == 2
    finally:
        stop.set()
    lab.put("s:d/a", bytes(2 * MB), "SOUTH-DISK")
    settle(lab)

    south, north, west = (storage(lab, f"{name}-DISK") for name in ("SOUTH", "NORTH", "WEST"))
    assert (south.free_bytes, south.total_bytes, south.room_bytes) == (10 * MB, 100 * MB, 0)
    assert south.full_because == "8 MB are free, 8 MB are to stay free"
    assert (north.free_bytes, north.ask_error) == (None, "it did not say how much is free within 0.3 s")
    assert (west.free_bytes, west.ask_error) == (None, "no answer")
    assert space.ask(lab.begin) == 0  # a minute has not passed
    assert [row.key for row in lab.query("SELECT key FROM incidents")] == ["full:SOUTH-DISK"]


# ---- copies ----


def let_go(lab, stay_s=0.0):
    return copies.let_go(lab.begin, stay_s=stay_s, grace_s=0.0)


def replicas(lab):
    found = lab.query("SELECT storage, is_copy, going_at IS NOT NULL AS goes FROM replicas ORDER BY storage, file_id")
    return [(r.storage, r.is_copy, r.goes) for r in found]


@pytest.fixture
def brought(lab):
    """A job at SOUTH whose input was brought there from NORTH."""
    lab.put("s:d/a", b"abc")
    [job] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [job])
    move_all(lab)
    return job


def test_a_copy_stays_while_a_job_needs_it_and_goes_in_two_steps(lab, brought):
    path = lab.where("s:d/a", "SOUTH-DISK")
    assert let_go(lab) == 0
    assert replicas(lab) == [("NORTH-DISK", False, False), ("SOUTH-DISK", True, False)]

    lab.do("UPDATE jobs SET status = 'finished'")
    assert let_go(lab, stay_s=60.0) == 0
    assert let_go(lab) == 0
    assert replicas(lab)[1] == ("SOUTH-DISK", True, True)
    assert path.exists()
    assert let_go(lab) == 1
    assert replicas(lab) == [("NORTH-DISK", False, False)]
    assert [row.path in str(path) for row in lab.query("SELECT path FROM deletions")] == [True]
    assert counted(lab) == {("NORTH-DISK", "alice"): 3}


def test_a_job_that_comes_while_a_copy_is_going_keeps_it(lab, brought):
    lab.do("UPDATE jobs SET status = 'finished'")
    let_go(lab)
    [late] = lab.bound_jobs(inputs=["s:d/a"])

    assert request(lab, [late]) == [late]
    assert replicas(lab)[1] == ("SOUTH-DISK", True, False)
    assert let_go(lab) == 0
    assert len(lab.transfers()) == 1


def test_a_job_that_saw_a_copy_before_it_began_to_go_keeps_it(lab, brought):
    lab.do("UPDATE replicas SET going_at = panda_now() - interval '1 h' WHERE is_copy")

    assert let_go(lab) == 0
    assert replicas(lab)[1] == ("SOUTH-DISK", True, False)


def test_the_last_replica_stays_even_if_it_is_a_copy(lab, brought):
    lab.do("UPDATE jobs SET status = 'finished'")
    lab.do("DELETE FROM replicas WHERE storage = 'NORTH-DISK'")

    let_go(lab)
    let_go(lab)
    assert replicas(lab) == [("SOUTH-DISK", True, False)]


def test_a_full_storage_lets_go_at_once_of_what_nobody_needs(lab, brought):
    lab.do("UPDATE jobs SET status = 'finished'")
    assert let_go(lab, stay_s=3600.0) == 0
    assert replicas(lab)[1] == ("SOUTH-DISK", True, False)

    limit(lab, "SOUTH-DISK", 3)
    let_go(lab, stay_s=3600.0)
    assert let_go(lab, stay_s=3600.0) == 1
    assert settle(lab) is True


def test_a_copy_that_is_an_output_in_its_place_is_kept_from_then_on(lab):
    with lab.begin() as connection:
        catalog.create(connection, "s:out", owner="alice")
    [writer] = lab.jobs(1, outputs=["s:out/o"], stage="stage_out", status="holding", output_storage="NORTH-DISK")
    with lab.begin() as connection:
        outputs.reserve(connection, [writer])
    lab.write_output(writer, "o", b"abc")
    lab.do("UPDATE jobsets SET output_storage = NULL")
    with lab.begin() as connection:
        outputs.register(connection, [writer], outputs.reported(connection, [writer]), deadline_s=60)
    request(lab, lab.bound_jobs(queue="NORTH-Q", inputs=["s:out/o"]))
    move_all(lab)
    assert replicas(lab) == [("NORTH-DISK", True, False), ("SOUTH-DISK", False, False)]

    lab.do("UPDATE jobsets SET output_storage = 'NORTH-DISK' WHERE jobset_id = 1")
    with lab.begin() as connection:
        assert outputs.ship(connection, [writer], deadline_s=60) == [writer]

    assert replicas(lab) == [("NORTH-DISK", False, False), ("SOUTH-DISK", False, False)]
    assert counted(lab) == {("NORTH-DISK", "alice"): 3, ("SOUTH-DISK", "alice"): 3}
    assert findings(lab) == []


def test_a_transfer_that_a_reader_asked_for_first_still_keeps_the_output(lab):
    with lab.begin() as connection:
        catalog.create(connection, "s:out", owner="alice")
    [writer] = lab.jobs(1, outputs=["s:out/o"], stage="stage_out", status="holding", output_storage="NORTH-DISK")
    with lab.begin() as connection:
        outputs.reserve(connection, [writer])
    lab.write_output(writer, "o", b"abc")
    lab.do("UPDATE jobsets SET output_storage = NULL")
    with lab.begin() as connection:
        outputs.register(connection, [writer], outputs.reported(connection, [writer]), deadline_s=60)
    request(lab, lab.bound_jobs(queue="NORTH-Q", inputs=["s:out/o"]))
    lab.do("UPDATE jobsets SET output_storage = 'NORTH-DISK' WHERE jobset_id = 1")
    with lab.begin() as connection:
        assert outputs.ship(connection, [writer], deadline_s=60) == []
    move_all(lab)

    assert len(lab.transfers()) == 1
    assert replicas(lab) == [("NORTH-DISK", False, False), ("SOUTH-DISK", False, False)]


def test_a_copy_that_comes_again_never_meets_the_deletion_of_the_one_before(lab, brought):
    first = lab.where("s:d/a", "SOUTH-DISK")
    lab.do("UPDATE jobs SET status = 'finished'")
    let_go(lab)
    let_go(lab)
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))
    move_all(lab)

    assert lab.where("s:d/a", "SOUTH-DISK") != first
    assert first.exists()


# ---- the file ----

FILE = """
[quotas.users]
owners = ["a_b*", "bob"]
storages = ["NORTH-DISK"]
limit_mb = 3
each = true
[archiving.raw]
datasets = "mc:*.RAW"
storage = "WEST-DISK"
"""


def load(lab, text=FILE):
    path = lab.root / "storage.toml"
    path.write_text(text)
    return storage_file.load_file(path)


def test_quotas_and_archiving_follow_the_file(lab):
    with lab.begin() as connection:
        storage_file.sync(connection, load(lab))
    [row] = lab.query("SELECT * FROM storage_quotas")
    matches = lab.query(
        "SELECT o FROM unnest(ARRAY['a_bc', 'axbc', 'bob', 'bobby']) AS o, storage_quotas"
        " WHERE o LIKE ANY (owners_like)"
    )
    assert (row.limit_bytes, row.each, row.owners, row.storages) == (3 * MB, True, ["a_b*", "bob"], ["NORTH-DISK"])
    assert [row.o for row in matches] == ["a_bc", "bob"]
    assert [tuple(row) for row in lab.query("SELECT * FROM archiving")] == [("raw", "mc:%.RAW", "WEST-DISK")]

    with lab.begin() as connection:
        storage_file.sync(connection, load(lab, ""))
    assert lab.query("SELECT name FROM storage_quotas UNION SELECT name FROM archiving") == []


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ('owners = ["a_b*", "bob"]', "owners = []", r"length >= 1 - at `\$.quotas\[...\].owners`"),
        ('owners = ["a_b*", "bob"]', "", "missing required field `owners`"),
        ('"bob"', '"b%b"', "matching regex"),
        ("limit_mb = 3", "limit_mb = -1", ">= 0"),
        ("limit_mb = 3", "limit = 3", "missing required field `limit_mb`|unknown field `limit`"),
        ("each = true", "each = 1", "Expected `bool`"),
        ("[quotas.users]", "[quota.users]", "unknown field `quota`"),
        ('datasets = "mc:*.RAW"', 'datasets = "mc"', "matching regex"),
        ("[archiving.raw]", "[archiving.raw", "storage.toml: "),
    ],
)
def test_a_mistake_in_the_file_is_named(lab, was, now, words):
    with pytest.raises(ConfigError, match=words):
        load(lab, FILE.replace(was, now))


def test_a_rule_for_a_storage_that_is_not_there_is_named(lab):
    said = load(lab, FILE.replace("WEST", "WET"))
    words = r"\[archiving.raw\]: unknown storage 'WET-DISK'; did you mean 'WEST-DISK'"
    with pytest.raises(UnknownName, match=words), lab.begin() as connection:
        storage_file.sync(connection, said)

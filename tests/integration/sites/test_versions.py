"""What is known of places has versions: who changed what, when and why; what is different; and a way back."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from panda.db.session import rows, run, undone
from panda.errors import ConfigError, Conflict, Invalid, NotFound, UnknownName
from panda.sites import removing, status, versions
from panda.sites.rollback import roll_back
from panda.sites.status import set_queue_status
from panda.sites.versions import Change


def known(query):
    return [tuple(row) for row in query("SELECT who, source, n_changed FROM site_versions ORDER BY version_id")]


def queue(query, name="NORTH-Q"):
    return query("SELECT * FROM queues WHERE name = %(name)s", name=name)[0]


def set_status(begin, word, name="NORTH-Q", reason="cooling", by="olga", **more):
    with begin() as connection:
        return set_queue_status(connection, name, word, by=by, reason=reason, **more)


def in_hours(n):
    return datetime.now(UTC) + timedelta(hours=n)


def let_time_pass(begin, hours):
    with begin() as connection:
        run(
            connection,
            "CREATE OR REPLACE FUNCTION panda_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS"
            f" 'SELECT clock_timestamp() + interval ''{hours} hours'''",
        )


# ---- versions ---------------------------------------------------------------------------------------------


def test_a_file_makes_a_version_and_the_same_file_none(sync, query):
    first, second = sync(), sync()

    assert known(query) == [("sites.toml", "file", 6)]
    assert [change.change for change in first.changes] == ["added"] * 6
    assert (second.version_id, second.changes) == (None, [])


def test_a_changed_file_tells_each_field(sync):
    sync()

    recorded = sync(("cores = 8", "cores = 16"), ('tags = ["linux"]', 'tags = ["linux", "fast"]'))

    assert recorded.changes == [
        Change("queue", "NORTH-Q", "changed", "cores", 8, 16),
        Change("queue", "NORTH-Q", "changed", "tags", ["linux"], ["linux", "fast"]),
    ]


def test_a_status_makes_a_version_with_its_author_and_reason(sync, begin, query):
    sync()

    set_status(begin, "offline")

    [_, made] = query("SELECT * FROM site_versions ORDER BY version_id")
    assert (made.who, made.source, made.why) == ("olga", "http", "cooling")
    with begin() as connection:
        changes = versions.changes_of(connection, made.version_id)
    assert {change.field: (change.was, change.now) for change in changes} == {
        "status": ("online", "offline"), "status_by": ("", "olga"), "status_reason": ("", "cooling"),
    }  # fmt: skip


def test_what_was_changed_past_us_stands_in_a_version_of_nobody(sync, begin, query):
    sync()
    with begin() as connection:
        run(connection, "UPDATE queues SET cores = 2 WHERE name = 'SOUTH-Q'")

    set_status(begin, "offline")

    assert known(query)[1:] == [("", "found", 1), ("olga", "http", 1)]


def test_what_an_operator_changed_stays_until_the_file_says_something_else(sync, begin, query):
    sync()
    with begin() as connection, versions.changing(connection, versions.Deed("olga", "import")):
        run(connection, "UPDATE queues SET cores = 2 WHERE name = 'NORTH-Q'")

    sync()
    assert queue(query).cores == 2
    sync(("memory_mb = 16000", "memory_mb = 32000"))
    assert (queue(query).cores, queue(query).memory_mb) == (2, 32_000)
    sync(("cores = 8", "cores = 12"))
    assert queue(query).cores == 12


def test_a_file_that_contradicts_what_was_changed_meanwhile_is_refused_whole(sync, begin, query):
    sync()
    with begin() as connection:
        run(connection, "UPDATE queues SET min_cores = 6 WHERE name = 'NORTH-Q'")

    with pytest.raises(ConfigError, match="min_cores is 6, more than cores = 4: no job would fit"):
        sync(("cores = 8", "cores = 4\nmin_cores = 0"), ('cloud = "EU"', 'cloud = "US"'))

    assert queue(query).cores == 8
    assert {row.cloud for row in query("SELECT cloud FROM sites")} == {"EU"}


def test_a_difference_is_told_between_any_two_versions(sync, begin):
    first = sync().version_id
    sync(("cores = 8", "cores = 16"))
    last = sync(("cores = 8", "cores = 32"), more="[sites.EAST]\n").version_id

    with begin() as connection:
        assert versions.diff(connection, first, last) == [
            Change("queue", "NORTH-Q", "changed", "cores", 8, 32),
            Change("site", "EAST", "added", None, None, {"cloud": "LOCAL", "description": "", "max_running": 0}),
        ]
        assert versions.diff(connection, last, first)[1].change == "removed"
        assert versions.diff(connection, last, last) == []
        with pytest.raises(NotFound, match="no version 99"):
            versions.diff(connection, first, 99)


def test_changes_at_once_follow_one_another(sync, begin, query):
    sync()
    errors = []

    def change(word):
        try:
            for _ in range(5):
                set_status(begin, word, reason=word)
        except Exception as problem:
            errors.append(problem)

    threads = [threading.Thread(target=change, args=(word,)) for word in ("offline", "test", "brokeroff")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with begin() as connection:
        made = rows(connection, "SELECT version_id FROM site_versions ORDER BY version_id")
        statuses = [versions.state_at(connection, row.version_id)["queue", "NORTH-Q"]["status"] for row in made]
        for before, now, row in zip(statuses, statuses[1:], made[1:], strict=False):
            found = {
                change.field: (change.was, change.now) for change in versions.changes_of(connection, row.version_id)
            }
            assert found["status"] == (before, now)


# ---- the end of a status ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("was", "word", "then", "expected"),
    [
        ("online", "offline", None, "online"),
        ("brokeroff", "offline", None, "brokeroff"),
        ("offline", "offline", None, "online"),
        ("online", "offline", "test", "test"),
    ],
)
def test_a_status_that_has_an_end_is_put_back_by_the_clock(sync, begin, query, was, word, then, expected):
    sync()
    set_status(begin, was)
    set_status(begin, word, until=in_hours(2), then=then)
    with begin() as connection:
        assert status.put_back(connection) == 0

    let_time_pass(begin, 3)
    with begin() as connection:
        assert status.put_back(connection) == 1
        assert status.put_back(connection) == 0

    found = queue(query)
    assert (found.status, found.status_by, found.status_until, found.status_then) == (expected, "clock", None, None)
    assert "olga set it offline until" in found.status_reason
    assert "(cooling)" in found.status_reason
    assert known(query)[-1] == ("clock", "clock", 1)
    [entry] = query("SELECT who, facts FROM audit_log ORDER BY audit_id DESC LIMIT 1")
    assert tuple(entry) == ("clock", {"was": "offline", "now": expected})


def test_an_end_upon_an_end_goes_back_to_what_lies_below_both(sync, begin, query):
    sync()
    set_status(begin, "brokeroff", until=in_hours(1))
    set_status(begin, "offline", until=in_hours(2))

    assert queue(query).status_then == "online"
    set_status(begin, "offline")
    assert (queue(query).status_then, queue(query).status_until) == (None, None)


@pytest.mark.parametrize(
    ("until", "then", "code"),
    [
        (datetime(2020, 1, 1, tzinfo=UTC), None, "bad_until"),
        (datetime(9999, 12, 31, tzinfo=UTC), None, "bad_until"),
        (datetime(2030, 1, 1), None, "bad_until"),
        (None, "online", "bad_until"),
        (None, "sometimes", "unknown_queue_status"),
    ],
)
def test_an_end_that_cannot_be_meant_changes_nothing(sync, begin, query, until, then, code):
    sync()

    with pytest.raises(Invalid) as problem:
        set_status(begin, "offline", until=until, then=then)

    assert problem.value.code == code
    assert queue(query).status == "online"
    assert len(known(query)) == 1


# ---- the way back -----------------------------------------------------------------------------------------


def back(begin, version_id, **more):
    with begin() as connection:
        return roll_back(connection, version_id, by="olga", reason="typo", **more)


def test_a_rollback_restores_settings_and_leaves_statuses_alone(sync, begin, query):
    first = sync().version_id
    sync(("cores = 8", "cores = 16"), ('root = "/north"', 'root = "/other"'), ('cloud = "EU"', 'cloud = "US"'))
    set_status(begin, "offline")

    done = back(begin, first)

    assert (queue(query).cores, queue(query).status) == (8, "offline")
    assert query("SELECT root FROM storages WHERE name = 'NORTH-DISK'")[0].root == "/north"
    assert {row.cloud for row in query("SELECT cloud FROM sites")} == {"EU"}
    assert (len(done.recorded.changes), done.kept) == (4, [])
    [version] = query("SELECT who, source, why FROM site_versions WHERE version_id = %(v)s", v=done.recorded.version_id)
    assert tuple(version) == ("olga", "rollback", f"back to version {first}: typo")
    [entry] = query("SELECT action, target, reason FROM audit_log ORDER BY audit_id DESC LIMIT 1")
    assert tuple(entry) == ("roll_back_sites", f"site version {first}", "typo")


def test_a_rollback_outlives_the_next_start(sync, begin, query):
    first = sync().version_id
    changed = ("cores = 8", "cores = 16")
    sync(changed)
    back(begin, first)

    sync(changed)

    assert queue(query).cores == 8


def test_a_rollback_can_be_rolled_back(sync, begin, query):
    first = sync().version_id
    second = sync(("cores = 8", "cores = 16")).version_id
    back(begin, first)

    back(begin, second)

    assert queue(query).cores == 16


def test_a_rollback_of_one_thing_leaves_the_others(sync, begin, query):
    first = sync().version_id
    sync(("cores = 8", "cores = 16"), ("cores = 4", "cores = 2"))

    back(begin, first, names=["NORTH-Q"])

    assert (queue(query).cores, queue(query, "SOUTH-Q").cores) == (8, 2)


def test_a_rollback_restores_statuses_when_asked(sync, begin, query):
    sync()
    set_status(begin, "brokeroff", reason="drain")
    [then] = query("SELECT max(version_id) AS version_id FROM site_versions")
    set_status(begin, "offline")

    back(begin, then.version_id, with_status=True)

    found = queue(query)
    reason = f"as at version {then.version_id}: drain"
    assert (found.status, found.status_by, found.status_reason) == ("brokeroff", "olga", reason)


def test_a_rollback_takes_away_queues_and_links_that_are_new_and_keeps_places(sync, begin, query):
    first = sync().version_id
    more = """
    [sites.EAST]
    [storages.EAST-DISK]
    site = "EAST"
    root = "/east"
    [links.UP]
    source = "SOUTH"
    destination = "NORTH"
    [queues.EAST-Q]
    site = "EAST"
    storage = "EAST-DISK"
    cores = 1
    memory_mb = 1
    disk_mb = 1
    walltime_s = 1
    """
    sync(more=more)

    done = back(begin, first)

    assert done.kept == ["EAST", "EAST-DISK"]
    assert query("SELECT FROM links") == []
    assert (queue(query, "EAST-Q").status, queue(query, "EAST-Q").removed_at is None) == ("offline", False)


def test_a_dry_run_tells_the_same_and_changes_nothing(sync, begin, query):
    first = sync().version_id
    sync(("cores = 8", "cores = 16"))

    with begin() as connection, undone(connection):
        tried = roll_back(connection, first, by="olga", reason="typo").recorded.changes

    assert tried == [Change("queue", "NORTH-Q", "changed", "cores", 16, 8)]
    assert queue(query).cores == 16
    assert len(known(query)) == 2
    assert query("SELECT FROM audit_log") == []


@pytest.mark.parametrize(
    ("version", "words", "error"),
    [
        (99, {}, NotFound),
        (1, {"names": ["NORTH-X"]}, UnknownName),
        (1, {"reason": " "}, Invalid),
    ],
)
def test_a_rollback_that_cannot_be_meant_changes_nothing(sync, begin, query, version, words, error):
    sync()
    sync(("cores = 8", "cores = 16"))

    with pytest.raises(error), begin() as connection:
        roll_back(connection, version, **({"by": "olga", "reason": "typo"} | words))

    assert queue(query).cores == 16


def test_a_rollback_to_what_cannot_be_any_more_changes_nothing(sync, begin, query):
    first = sync().version_id
    with begin() as connection:
        run(
            connection,
            "UPDATE site_revisions SET document = document || '{\"kind\": \"floppy\"}' WHERE name = 'NORTH-DISK'",
        )
    sync(("cores = 8", "cores = 16"))

    with pytest.raises(Invalid, match="unknown mover 'floppy'") as problem:
        back(begin, first)

    assert problem.value.code == "bad_site_data"
    assert queue(query).cores == 16


# ---- a queue is taken away --------------------------------------------------------------------------------


def remove(begin, name="NORTH-Q", reason="the cluster is closed"):
    with begin() as connection:
        return removing.remove_queue(connection, name, by="olga", reason=reason)


def test_a_queue_that_never_had_a_job_goes_at_once_and_stays_away(sync, begin, query):
    sync()

    assert remove(begin) == ("NORTH-Q", 0)
    removing.carry_out(begin, 3600)
    sync()

    assert [row.name for row in query("SELECT name FROM queues")] == ["SOUTH-Q"]
    assert known(query)[1:] == [("olga", "http", 1), ("clock", "clock", 1)]
    sync(("cores = 8", "cores = 12"))
    assert queue(query).cores == 12  # the file says something new of it


def test_a_queue_on_its_way_out_comes_back_with_a_rollback(sync, begin, query):
    first = sync().version_id
    remove(begin)

    back(begin, first)

    assert (queue(query).removed_at, queue(query).status, queue(query).status_reason) == (None, "online", "")


@pytest.mark.parametrize(
    ("name", "reason", "error", "code"),
    [
        ("X", "why", NotFound, "not_found"),
        ("NORTH-Q", " ", Invalid, "no_reason"),
        ("SOUTH-Q", "x", Conflict, "queue_removed"),
    ],
)
def test_a_removal_that_makes_no_sense_changes_nothing(sync, begin, query, name, reason, error, code):
    sync()
    remove(begin, "SOUTH-Q")

    with pytest.raises(error) as problem:
        remove(begin, name, reason)

    assert problem.value.code == code
    assert queue(query).status == "online"


def test_nobody_opens_a_queue_that_is_on_its_way_out(sync, begin, query):
    sync()
    remove(begin)

    with pytest.raises(Conflict, match="on its way out"):
        set_status(begin, "online")

    assert queue(query).status == "offline"

"""Downtimes close queues for a while that is known beforehand; brokerage says until when."""

from datetime import UTC, datetime, timedelta

import pytest

from panda.brokerage.snapshot import queues_now
from panda.db.session import run
from panda.errors import ConfigError, Conflict, Invalid, NotFound, UnknownName
from panda.sites import downtimes, siteinfo
from panda.sites.rollback import roll_back

NOW = datetime.now(UTC).replace(microsecond=0)
FILED = """
[downtimes.cooling]
kind = "site"
target = "NORTH"
starts_at = 2035-02-01T08:00:00+01:00
ends_at = 2035-02-01T18:00:00+01:00
reason = "new cooling"
"""


def hours(n):
    return NOW + timedelta(hours=n)


def plan(begin, kind, target, since, until, **more):
    with begin() as connection:
        return downtimes.plan(
            connection, **{"kind": kind, "target": target, "starts_at": hours(since), "ends_at": hours(until),
                           "by": "olga", "reason": "kernel"} | more,
        )  # fmt: skip


def seen(begin, name="NORTH-Q"):
    with begin() as connection:
        [queue] = [queue for queue in queues_now(connection) if queue.name == name]
    return queue.downtime


def test_brokerage_sees_the_downtime_that_a_queue_is_in_or_the_next_one(sync, begin):
    sync()
    assert seen(begin) is None

    plan(begin, "site", "NORTH", 30, 40)
    plan(begin, "queue", "NORTH-Q", 20, 25)
    plan(begin, "storage", "SOUTH-DISK", 1, 2)
    found = seen(begin)
    assert (found.what, found.ends_at, found.reason) == ("queue NORTH-Q", hours(25), "kernel")
    assert 19 * 3600 < found.starts_in_s <= 20 * 3600
    assert seen(begin, "SOUTH-Q").what == "storage SOUTH-DISK"

    # of several that go on the one that ends last
    plan(begin, "storage", "NORTH-DISK", -1, 3)
    plan(begin, "site", "NORTH", -2, 5, name="long")
    found = seen(begin)
    assert (found.what, found.ends_at, found.starts_in_s <= 0) == ("site NORTH", hours(5), True)

    # what is over is none; where outputs go counts too
    with begin() as connection:
        run(
            connection,
            "UPDATE downtimes SET starts_at = starts_at - interval '3 days', ends_at = ends_at - interval '3 days'",
        )
        run(connection, "UPDATE queues SET write_storage = 'SOUTH-DISK' WHERE name = 'NORTH-Q'")
    assert seen(begin) is None
    plan(begin, "storage", "SOUTH-DISK", 5, 6)
    assert seen(begin).what == "storage SOUTH-DISK"


def test_a_downtime_is_planned_changed_cancelled_and_all_of_it_is_kept(sync, begin, query):
    first = sync().version_id
    name = plan(begin, "site", "NORTH", 1, 2)

    with begin() as connection:
        downtimes.change(connection, name, by="otto", reason="it takes longer", ends_at=hours(9))
    [row] = query("SELECT ends_at, made_by FROM downtimes")
    assert tuple(row) == (hours(9), "otto")
    with begin() as connection:
        downtimes.cancel(connection, name, by="olga", reason="postponed")

    assert query("SELECT FROM downtimes") == []
    assert name == f"NORTH-{hours(1):%Y%m%dT%H%M}"
    done = query("SELECT who, action, target, reason FROM audit_log ORDER BY audit_id")
    assert [tuple(row) for row in done] == [
        ("olga", "plan_downtime", f"downtime {name}", "kernel"),
        ("otto", "change_downtime", f"downtime {name}", "it takes longer"),
        ("olga", "cancel_downtime", f"downtime {name}", "postponed"),
    ]
    assert [row.why for row in query("SELECT why FROM site_versions ORDER BY version_id")][1:] == [
        "kernel", "it takes longer", "postponed",
    ]  # fmt: skip
    with begin() as connection:
        roll_back(connection, first + 2, by="olga", reason="it takes place after all")
    assert query("SELECT ends_at FROM downtimes")[0].ends_at == hours(9)


def test_the_end_of_a_downtime_lets_waiting_jobs_look_again_once(sync, begin, query):
    sync()
    plan(begin, "site", "NORTH", -2, 1)
    with begin() as connection:
        run(connection, "DELETE FROM engine_state")
        assert downtimes.see_ends(connection) == 0
        run(connection, "UPDATE downtimes SET ends_at = panda_now() - interval '1 second'")

    with begin() as connection:
        assert downtimes.see_ends(connection) == 1
        assert downtimes.see_ends(connection) == 0


def test_the_file_plans_downtimes_and_takes_them_back(sync, begin, query):
    sync(more=FILED)
    [row] = query("SELECT * FROM downtimes")
    assert (row.kind, row.target, row.made_by) == ("site", "NORTH", "sites.toml")
    assert row.starts_at == datetime(2035, 2, 1, 7, tzinfo=UTC)
    assert sync(more=FILED).changes == []

    # what an operator changed stays until the file says something else
    with begin() as connection:
        downtimes.change(connection, "cooling", by="olga", reason="later", ends_at=datetime(2035, 2, 2, tzinfo=UTC))
    sync(more=FILED)
    assert query("SELECT ends_at FROM downtimes")[0].ends_at == datetime(2035, 2, 2, tzinfo=UTC)
    sync(more=FILED.replace("18:00:00+01:00", "19:00:00+01:00"))
    assert query("SELECT ends_at FROM downtimes")[0].ends_at == datetime(2035, 2, 1, 18, tzinfo=UTC)
    sync()
    assert query("SELECT FROM downtimes") == []


def test_a_downtime_that_cannot_be_meant_changes_nothing(sync, begin, query):
    sync()
    plan(begin, "site", "NORTH", 1, 2, name="known")
    for words, error, code in (
        ({"reason": " "}, Invalid, "no_reason"),
        ({"kind": "cloud"}, Invalid, "bad_downtime"),
        ({"target": "NORTH-Q"}, Invalid, "bad_downtime"),
        ({"ends_at": hours(-1)}, Invalid, "bad_downtime"),
        ({"ends_at": hours(1)}, Invalid, "bad_downtime"),
        ({"ends_at": datetime(2099, 1, 1, tzinfo=UTC)}, Invalid, "bad_downtime"),
        ({"ends_at": datetime(2035, 1, 1)}, Invalid, "bad_downtime"),
        ({"starts_at": datetime(1999, 1, 1, tzinfo=UTC)}, Invalid, "bad_downtime"),
        ({"name": "../x"}, Invalid, "bad_name"),
        ({"name": "known"}, Conflict, "downtime_exists"),
    ):
        with pytest.raises(error) as problem:
            plan(begin, **{"kind": "site", "target": "NORTH", "since": 1, "until": 2} | words)
        assert problem.value.code == code, words
    for deed in (downtimes.change, downtimes.cancel):
        with pytest.raises(NotFound), begin() as connection:
            deed(connection, "unknown", by="olga", reason="x")
    with pytest.raises(Invalid), begin() as connection:
        downtimes.change(connection, "known", by="olga", reason="x", ends_at=hours(1))
    assert [(row.name, row.ends_at) for row in query("SELECT * FROM downtimes")] == [("known", hours(2))]


@pytest.mark.parametrize(
    ("was", "now", "error", "words"),
    [
        ('kind = "site"', 'kind = "cloud"', UnknownName, "unknown kind 'cloud'"),
        ('target = "NORTH"', 'target = "NORT"', UnknownName, "unknown site 'NORT'; did you mean 'NORTH'"),
        ("2035-02-01T18", "2035-02-01T08", ConfigError, "ends_at is not later than starts_at"),
        ("2035-02-01T18:00:00+01:00", "2035-02-01T18:00:00", ConfigError, "wants a time with its zone"),
        ("2035-02-01T18:00:00+01:00", '"soon"', ConfigError, "wants a time with its zone"),
        ("2035-02-01T18:00:00+01:00", "7", ConfigError, "wants a time with its zone"),
        ("2035-02-01T18:00:00+01:00", "9999-12-31T23:59:59Z", ConfigError, "wants a time with its zone"),
        ("ends_at = 2035-02-01T18:00:00+01:00\n", "", ConfigError, "ends_at is missing"),
    ],
)
def test_a_mistake_in_a_downtime_of_the_file_is_named(tmp_path, was, now, error, words):
    path = tmp_path / "sites.toml"
    assert was in FILED
    path.write_text("[sites.NORTH]\n" + FILED.replace(was, now))

    with pytest.raises(error, match=words):
        siteinfo.load_file(path)

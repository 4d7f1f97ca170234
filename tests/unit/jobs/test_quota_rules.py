"""What follows from quotas, and the file that they stand in."""

import pytest

from panda.errors import ConfigError, Invalid, UnknownName
from panda.jobs.quotas.file import load_file
from panda.jobs.quotas.rules import Held, Limits, Picture, Quota, Rooms, Used, subject_parts

INF = float("inf")


def quota(subject, members=(), beyond=None, **limits):
    kind, _, name = subject.partition(":")
    return Quota(kind, name, Limits(**limits), beyond, tuple(members))


def cores_of(picture, owner):
    """Every limit of cores that binds an owner, by subject."""
    return {bound.subject: bound.running_cores for bound in picture.bounds(owner)}


def test_what_a_users_own_quota_leaves_open_the_default_says():
    picture = Picture([
        quota("default", running_cores=100, queued_jobs=50),
        quota("user:ann", running_cores=500),
        quota("user:bob", running_cores=0),
    ])  # fmt: skip

    assert cores_of(picture, "ann") == {"user:ann": 500}
    assert cores_of(picture, "bob") == {"user:bob": None}
    assert cores_of(picture, "eve") == {"user:eve": 100}
    assert [picture.bounds(owner)[0].queued_jobs for owner in ("ann", "bob", "eve")] == [50, 50, 50]


def test_nobody_is_bound_where_nothing_is_set():
    assert list(Picture().bounds("ann")) == []
    assert not Picture([quota("group:higgs", ["ann"], running_cores=0)]).watches


def test_of_a_limited_user_the_smaller_limit_counts():
    picture = Picture(
        [quota("default", running_cores=100), quota("limited", running_cores=10, running_jobs=5, beyond="hold"),
         quota("user:bob", running_cores=4)],
        {"ann": Held(limited="noisy"), "bob": Held(limited="noisy")},
    )  # fmt: skip

    assert cores_of(picture, "ann") == {"user:ann": 10}
    assert cores_of(picture, "bob") == {"user:bob": 4}
    assert picture.bounds("ann")[0].running_jobs == 5
    assert [picture.bounds(owner)[0].beyond for owner in ("ann", "eve")] == ["hold", "refuse"]


def test_every_group_binds_its_members_together():
    picture = Picture(
        [quota("group:higgs", ["ann", "bob"], running_cores=10), quota("group:top", ["ann"], running_jobs=2)]
    )
    rooms = Rooms(picture, {"ann": (1, 4), "bob": (2, 5), "eve": (9, 90)})

    assert rooms.left("ann")[:2] == (1, 1)
    assert rooms.left("bob")[:2] == (INF, 1)
    assert rooms.left("eve")[:2] == (INF, INF)
    rooms.add("bob", 1, 1)
    assert rooms.left("ann") == (1, 0, "group:higgs runs 10 of 10 cores", "group:higgs", "running_cores")
    assert rooms.left("eve", cores=100) == (INF, INF, "", "", "")


def test_a_job_that_is_wider_than_what_is_left_is_refused_with_the_numbers():
    rooms = Rooms(Picture([quota("user:ann", running_cores=8)]), {"ann": (1, 5)})

    assert rooms.left("ann", cores=3).because == ""
    assert rooms.left("ann", cores=4).because == "user:ann runs 5 of 8 cores, and 4 more are too many"


def test_a_limit_is_that_of_the_limited_only_where_it_is_the_smaller_one():
    picture = Picture(
        [quota("limited", running_cores=5, running_jobs=9), quota("default", running_jobs=3),
         quota("group:higgs", ["ann"], running_cores=5)],
        {"ann": Held(limited="noisy")},
    )  # fmt: skip
    own, group = picture.bounds("ann")

    assert picture.is_of_the_limited(own, "running_cores")
    assert not picture.is_of_the_limited(own, "running_jobs")
    assert not picture.is_of_the_limited(group, "running_cores")


def test_dispatch_watches_those_whom_something_binds():
    picture = Picture(
        [quota("limited", running_cores=1), quota("user:ann", queued_jobs=5), quota("user:bob", core_hours=5),
         quota("group:higgs", ["carl"], running_jobs=3)],
        {"dora": Held(banned="spam"), "eve": Held(limited="noisy")},
    )  # fmt: skip

    assert picture.watched == ["bob", "carl", "dora", "eve"]
    assert not picture.watches_everybody
    assert Picture([quota("default", running_jobs=3)]).watches_everybody
    assert not Picture([quota("default", queued_jobs=3)]).watches_everybody


def test_the_banned_start_nothing_and_who_used_up_their_hours_neither():
    picture = Picture(
        [quota("user:ann", core_hours=100), quota("group:higgs", ["bob", "carl"], core_hours=50)],
        {"dora": Held(banned="spam")},
        {"ann": Used(0.5, 0, 100.0), "bob": Used(0.1, 0, 20.0), "carl": Used(0.1, 0, 29.0)},
    )
    rooms = Rooms(picture, {})

    assert rooms.left("ann")[2:] == ("user:ann used 100 of 100 core hours of this period", "user:ann", "core_hours")
    assert rooms.left("bob")[:2] == (INF, INF)
    assert rooms.left("dora") == (0, 0, "dora is banned: spam", "user:dora", "ban")


@pytest.mark.parametrize(
    ("wanted", "n", "allotted"),
    [
        ([("", 1)], 5, [5]),
        ([("ann", 1)], 3, [3]),
        ([("ann", 1)], 20, [10]),
        ([("ann", 4)], 20, [2]),
        ([("ann", 16)], 20, [0]),
        ([("ann", 4), ("ann", 1)], 20, [2, 2]),  # what the first one may take is set aside
        ([("ann", 1), ("bob", 1)], 20, [10, 2]),  # and so it is in the group of both
        ([("ann", 1), ("", 1), ("eve", 1)], 20, [10, 20, 20]),
    ],
)
def test_a_claim_for_several_jobs_passes_nobodys_quota(wanted, n, allotted):
    picture = Picture([quota("user:ann", running_cores=10), quota("group:both", ["ann", "bob"], running_cores=12)])

    assert Rooms(picture, {}).allot(wanted, n) == allotted


@pytest.mark.parametrize("subject", ["", "ann", "users:ann", "user:", "default:x", "limited:"])
def test_a_quota_is_somebodys(subject):
    with pytest.raises(Invalid, match="is nobody's quota") as problem:
        subject_parts(subject)
    assert problem.value.code == "unknown_subject"


GOOD = """
[default]
queued_jobs = 1000
beyond = "hold"
[limited]
running_cores = 1
[users.ann]
core_hours = 12.5
[groups.higgs]
members = ["bob", "ann", "bob"]
running_jobs = 3
"""


def test_the_file_says_who_may_have_how_much(tmp_path):
    (tmp_path / "quotas.toml").write_text(GOOD)

    assert load_file(tmp_path / "quotas.toml") == [
        quota("default", beyond="hold", queued_jobs=1000), quota("limited", running_cores=1),
        quota("user:ann", core_hours=12.5), quota("group:higgs", ["ann", "bob"], running_jobs=3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("was", "now", "error", "said"),
    [
        ("[default]", "[defaults]", UnknownName, "did you mean 'default'"),
        ("queued_jobs", "queued_job", UnknownName, "did you mean 'queued_jobs'"),
        ("= 1000", "= -1", ConfigError, "queued_jobs is -1"),
        ("= 1000", "= 1e3", ConfigError, "queued_jobs wants a whole number"),
        ("= 1000", "= true", ConfigError, "queued_jobs wants a whole number"),
        ('"hold"', '"wait"', ConfigError, "beyond wants 'refuse' or 'hold'"),
        ("= 12.5", '= "many"', ConfigError, "core_hours wants a number"),
        ("[users.ann]", "[users.'a b']", Invalid, "is no name"),
        ("[users.ann]", "[users]\nann = 3\n[users.bob]", ConfigError, "[users.ann]: wants a table"),
        ('members = ["bob", "ann", "bob"]', "", ConfigError, "members wants a list of users"),
        ('["bob", "ann", "bob"]', "[]", ConfigError, "members wants a list of users"),
        ("[limited]\n", "[limited]\nmembers = ['x']\n", UnknownName, "unknown setting 'members'"),
        ("[default]", "[default", ConfigError, "quotas.toml: "),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path, was, now, error, said):
    (tmp_path / "quotas.toml").write_text(GOOD.replace(was, now, 1))

    with pytest.raises(error) as problem:
        load_file(tmp_path / "quotas.toml")

    assert "quotas.toml" in str(problem.value)
    assert said in str(problem.value)

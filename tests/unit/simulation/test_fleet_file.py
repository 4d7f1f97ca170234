"""The fleet file, and what follows from it alone."""

from pathlib import Path

import pytest

from panda.errors import ConfigError, NotFound, UnknownName
from panda.jobs import shares
from panda.simulation.books import Books, JobSets
from panda.simulation.fleet import places
from panda.simulation.fleetfile import Profile, load_file, read
from panda.simulation.pilots import fate_of, span_of
from panda.simulation.report import deviation
from panda.sites import siteinfo

EXAMPLES = Path(__file__).parents[3] / "examples" / "fleet"
GROUP = {"queues": ["*"], "pilots": 1}


@pytest.mark.parametrize("name", ["fleet.toml", "fair.toml"])
def test_the_ready_fleets_fill_fifty_queues_at_fifty_sites(name):
    sites = siteinfo.load_file(EXAMPLES / "sites.toml")
    fleet = load_file(EXAMPLES / name)
    known = {share.name for share in shares.load_file(EXAMPLES / "shares.toml")}

    found = places(fleet.groups, [{"name": queue.name} for queue in sites.queues])

    assert len(sites.sites) >= 50
    assert len({queue["name"] for _, queue in found}) >= 50
    assert {load.share for load in fleet.load} <= known
    n_slots = sum(fleet.groups[number].pilots * fleet.groups[number].slots for number, _ in found)
    assert n_slots >= 1000


def test_the_large_fleet_has_every_way_of_going_wrong():
    fleet = load_file(EXAMPLES / "fleet.toml")

    assert {group.profile for group in fleet.groups} == {
        "busy", "slow", "black-hole", "silent", "late", "expired-token", "failing-stage-out", "down",
    }  # fmt: skip
    assert sum(group.pilots for group in fleet.groups[:1]) * 50 >= 1800


@pytest.mark.parametrize(
    ("document", "error", "said"),
    [
        ({}, ConfigError, "missing required field `groups`"),
        ({"groups": []}, ConfigError, "groups"),
        ({"groups": [GROUP], "pilot": 1}, ConfigError, "unknown field `pilot`"),
        ({"groups": [GROUP | {"pilots": 0}]}, ConfigError, "`$.groups[0].pilots`"),
        ({"groups": [GROUP | {"cores": "many"}]}, ConfigError, "Expected `int"),
        ({"groups": [GROUP | {"profile": "blackhole"}]}, UnknownName, "did you mean 'black-hole'"),
        ({"groups": [GROUP], "profiles": {"x": {"fails": 2}}}, ConfigError, "profile x: Expected `float` <= 1"),
        ({"groups": [GROUP], "profiles": {"x": {"like": "y"}}}, UnknownName, "unknown profile 'y'"),
        ({"groups": [GROUP], "profiles": {"x": {"like": 3}}}, ConfigError, "like wants the name of a profile"),
        (
            {"groups": [GROUP], "profiles": {"x": {"like": "y"}, "y": {"like": "x"}}}, ConfigError,
            "profile x is like itself, by way of x, y",
        ),
        ({"groups": [GROUP], "profiles": {"x": {"wall_s": [5, 1]}}}, ConfigError, "must not end before it begins"),
        ({"groups": [GROUP], "load": [{"wall_s": [2, 1]}]}, ConfigError, "must not end before it begins"),
        ({"groups": [GROUP], "events": [{"at_s": 1, "queues": ["Q"], "status": "shut"}]}, ConfigError, "status"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_said(document, error, said):
    with pytest.raises(error) as problem:
        read(document, "fleet.toml")

    assert "fleet.toml" in str(problem.value) or error is UnknownName
    assert said in str(problem.value)


def test_a_file_that_is_no_toml_says_where(tmp_path):
    (tmp_path / "fleet.toml").write_text("groups = [")

    with pytest.raises(ConfigError, match=r"fleet\.toml"):
        load_file(tmp_path / "fleet.toml")


def test_a_profile_begins_with_the_one_that_it_is_like():
    fleet = read(
        {
            "groups": [GROUP],
            "profiles": {"mine": {"like": "slow", "fails": 0.5}, "slow": {"like": "slow", "idle_s": 9}},
        },
        "f",
    )

    assert fleet.profile("mine") == Profile(speed=0.2, fails=0.5, idle_s=9.0)
    assert fleet.profile("silent").silent == 1


def test_a_group_that_fits_no_queue_is_an_error():
    fleet = read({"groups": [GROUP | {"queues": ["NOWHERE-*", "X"]}]}, "f")

    with pytest.raises(NotFound, match=r"there is no queue like NOWHERE-\* or X"):
        places(fleet.groups, [{"name": "SIM-01-Q"}])


def test_the_seed_decides_what_becomes_of_a_job():
    profile = Profile(wall_s=(2.0, 4.0), fails=0.5, silent=0.5)
    fates = [fate_of(1, profile, panda_id, 1) for panda_id in range(200)]

    assert fates == [fate_of(1, profile, panda_id, 1) for panda_id in range(200)]
    assert fates != [fate_of(2, profile, panda_id, 1) for panda_id in range(200)]
    assert fates != [fate_of(1, profile, panda_id, 2) for panda_id in range(200)]
    assert all(2 <= fate.wall_s <= 4 for fate in fates)
    assert 60 < sum(fate.fails for fate in fates) < 140
    assert 60 < sum(fate.is_silent for fate in fates) < 140


@pytest.mark.parametrize(
    ("text", "span"),
    [("3", (3, 3)), ("6-12", (6, 12)), ("0.5-1", (0.5, 1)), ("", None), ("soon", None), ("9-3", None), ("-1", None),
     ("nan", None), ("1e9", None)],
)  # fmt: skip
def test_a_job_may_say_how_long_it_lasts(text, span):
    assert span_of(text) == span
    assert fate_of(1, Profile(wall_s=(7, 7), speed=2), 1, 1, "10").wall_s == 5


def test_the_share_of_a_job_follows_from_its_set():
    jobsets = JobSets()
    jobsets.learn({"first_panda_id": 11, "last_panda_id": 20}, "b")
    jobsets.learn({"first_panda_id": 1, "last_panda_id": 5}, "a", load=3)
    jobsets.learn({"first_panda_id": 1, "last_panda_id": 5}, "a")

    assert [jobsets.share_of(panda_id) for panda_id in (1, 5, 6, 11, 20, 21)] == [
        "a",
        "a",
        *["unknown", "b", "b"],
        "unknown",
    ]
    assert (jobsets.load_of(4), jobsets.load_of(12)) == (3, None)


def test_a_deviation_is_the_largest_one_of_all_shares():
    books = Books()
    books.jobsets.learn({"first_panda_id": 1, "last_panda_id": 9}, "a")
    books.jobsets.learn({"first_panda_id": 10, "last_panda_id": 19}, "b")
    books.begin(1, 1, 3)
    books.begin(10, 1, 1)

    sample = books.sample(1.0)

    assert deviation(sample, {"a": 0.6, "b": 0.3, "c": 0.1}) == pytest.approx(0.15)
    assert deviation(Books().sample(1.0), {"a": 1.0}) == 1

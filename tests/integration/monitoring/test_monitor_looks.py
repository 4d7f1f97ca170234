"""Numbers as people read them, and pictures that hold what they were given."""

import hashlib
import inspect
import json
from datetime import UTC, date, datetime, timedelta

import pytest

from monitoring.celery_side import flower_url, shown_url
from monitoring.show import looks, pictures, render
from monitoring.show.usage_plot import arranged, bins, figure, plot
from panda import states
from panda.settings import client_url
from panda.states import JobStatus, Stage

AT = datetime(2026, 11, 22, 16, 44, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "\N{EN DASH}"), (0.4, "400 ms"), (5.1, "5.1 s"), (59.7, "1 min"), (860, "14 min 20 s"), (10471, "2 h 54 min"),
     (86_400 * 2.5, "2 d 12 h"), (-3, "0 s"), (0, "0 s"), (0.0001, "< 1 ms")],
)  # fmt: skip
def test_a_duration_has_at_most_two_units(seconds: float | None, told: str) -> None:
    assert looks.duration(seconds) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "\N{EN DASH}"), (0, "0 h"), (39, "39 s"), (860, "14 min 20 s"), (10_471, "2.9 h"), (3.6e8, "100k h")],
)
def test_machine_time_is_in_hours_once_it_is_one(seconds: float | None, told: str) -> None:
    assert looks.hours(seconds) == told


def test_a_plot_of_machine_time_takes_the_unit_that_its_highest_day_needs() -> None:
    days = [AT.date()]

    assert plot([("anna", [7200.0])], days, "core_s", "stack")["unit"] == "h"
    assert plot([("anna", [90.0]), ("bob", [90.0])], days, "core_s", "stack")["unit"] == "min"
    assert plot([("anna", [5.0])], days, "core_s", "lines")["series"][0]["values"] == [5.0]
    assert plot([("anna", [30.0]), ("bob", [10.0])], days, "core_s", "share")["series"][0]["values"] == [75.0]
    assert plot([], days, "core_s", "share")["series"] == []


def test_what_others_wrote_is_what_the_lock_says() -> None:
    folder = render.FOLDER / "static" / "vendor"
    lock = json.loads((folder / "vendor.lock.json").read_text())
    known = {name: facts["sha256"] for package in lock.values() for name, facts in package["files"].items()}

    assert {file.name for file in folder.iterdir()} == {*known, "vendor.lock.json"}
    for name, digest in known.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize(
    ("n", "told"),
    [(None, "\N{EN DASH}"), (0, "0"), (31_482, "31,482"), (118_600, "119k"), (1_096_240, "1.1M"), (2e9, "2,000M")],
)
def test_a_count_is_short_once_it_is_long(n: float | None, told: str) -> None:
    assert looks.count(n) == told


@pytest.mark.parametrize(("n", "told"), [(0, "0 B"), (2.04e9, "2.04 GB"), (412e6, "412 MB"), (None, "\N{EN DASH}")])
def test_sizes_are_decimal(n: float | None, told: str) -> None:
    assert looks.size(n) == told


def test_instants_are_told_from_now() -> None:
    assert looks.ago(AT - timedelta(minutes=40), AT) == "40 min ago"
    assert looks.ago(AT + timedelta(hours=2), AT) == "in 2 h"
    assert looks.moment(AT, AT + timedelta(minutes=1)) == "16:44:12"
    assert looks.moment(AT, AT + timedelta(days=1)) == "22 Nov 16:44"


def test_every_status_and_stage_has_a_look() -> None:
    assert set(looks.JOB) == set(JobStatus)
    assert set(looks.STAGE_OF) == set(JobStatus)
    assert set(looks.STAGE_TITLE) == set(looks.STAGE_COLOUR) == set(Stage)


def test_a_chart_holds_only_what_happened_and_escapes_words() -> None:
    times = [AT, AT + timedelta(minutes=30)]

    drawn = pictures.stacked(times, [("<b>", "running", [1, 2]), ("none", "sent", [0, 0])], AT, times[1])

    assert "&lt;b&gt;" in drawn
    assert "<b>" not in drawn
    assert "c-sent" not in drawn


def test_pictures_of_nothing_are_no_error() -> None:
    assert pictures.spark([], "running") == ""
    assert "empty" in pictures.mix([("running", 0, "none")])
    assert pictures.stacked([], [("running", "running", [])], AT, AT)
    assert pictures.timeline({}, {}, AT, AT)


@pytest.mark.parametrize("value", [0, 1, 3.9, 7, 19, 61_000, 1e7])
def test_an_axis_ends_above_its_largest_value(value: float) -> None:
    assert value <= pictures.nice(value) <= max(4, 2.6 * value)


def test_redis_urls_are_told_apart() -> None:
    socket = "redis+socket:///run/my%20data/redis.sock?virtual_host=2"

    assert client_url(socket) == "unix:///run/my%20data/redis.sock?db=2"
    assert flower_url(socket) == "redis+socket:///run/my data/redis.sock"
    assert client_url("redis://host:6379/0") == flower_url("redis://host:6379/0") == "redis://host:6379/0"
    assert shown_url("redis://:secret@host:6379/0") == "redis://:**@host:6379/0"


def test_what_is_counted_by_the_hour_is_told_by_the_hour() -> None:
    at = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

    assert looks.hour_of(at, at + timedelta(minutes=50)) == "09-10 h"
    assert looks.hour_of(at, at + timedelta(days=1)) == "22 Nov 09-10 h"


def test_one_is_not_several() -> None:
    assert [looks.several(n, "job") for n in (0, 1, 2, 1200)] == ["0 jobs", "1 job", "2 jobs", "1,200 jobs"]


def test_bins_of_what_was_used_begin_with_their_week_or_month() -> None:
    today = date(2026, 3, 3)  # a Tuesday

    assert bins(3, "day", today) == [date(2026, 3, 1), date(2026, 3, 2), today]
    assert bins(8, "week", today) == [date(2026, 2, 23), date(2026, 3, 2)]
    assert bins(60, "month", today) == [date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)]


def test_of_what_was_used_the_named_come_in_their_order_and_then_the_others() -> None:
    days = [date(2026, 3, 2), date(2026, 3, 3)]
    rows = [{"day": day, "name": name, "is_rest": is_rest, "core_s": value}
            for day, name, is_rest, value in ((days[0], "", True, 7.0), (days[0], "others", False, 1.0),
                                              (days[1], "", False, 2.0), (date(2025, 1, 1), "", False, 9.0))]  # fmt: skip

    assert arranged(rows, ["", "others"], "core_s", days) == [
        ("none", [0.0, 2.0]), ("others", [1.0, 0.0]), ("others", [7.0, 0.0])
    ]  # fmt: skip
    assert plot([("a", [2e12])], days[:1], "in_bytes", "stack")["unit"] == "TB"
    assert [figure(value) for value in (0, 12_345_678.9, 0.1234567, 42.0, 7.2e-8)] == [
        "0", "12,345,679", "0.1235", "42", "< 0.001"]  # fmt: skip


def test_a_year_of_days_is_drawn_as_areas() -> None:
    days = [date(2026, 1, 1) + timedelta(days=k) for k in range(365)]
    drawn = pictures.daily(days, [("<b>", "running", [1.0] * 365), ("b", "failed", [2.0] * 365)], "core time")

    assert drawn.count("<path") == 2
    assert "<rect" not in drawn
    assert "&lt;b&gt;" in drawn
    assert len(drawn) < 30_000


def test_the_help_says_of_each_status_what_the_states_say() -> None:
    told = inspect.getsource(states)
    assert list(looks.MEANING) == list(JobStatus)
    assert [means for means in looks.MEANING.values() if f"#: {means}\n" not in told] == []

"""What -o writes, byte for byte; bars; cards."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panda.cli import columns
from panda.cli.bars import CELLS, WIDTH, bar, counts
from panda.cli.commands.status import job_card, jobset_card
from panda.cli.commands.why import pilot_story, story
from panda.cli.show import Column, Look, emit, plain
from panda.cli.tables import ago, size

ITEMS: list[dict[str, Any]] = [
    {
        "panda_id": 7,
        "status": "failed",
        "queue": None,
        "tags": ["a", "b"],
        "ledger": {"failed": 1},
        "name": "tab\there",
    },
    {"panda_id": 8, "status": "running", "queue": "N-Q", "tags": [], "ledger": {"failed": 0}, "name": 'q"uote, ü'},
]
COLUMNS = (Column("panda_id", "job", "number"), Column("status"), Column("queue"), Column("tags"), Column("ledger.failed"),
           Column("name"))  # fmt: skip

GOLDEN = {
    "plain": '7\tfailed\t\ta,b\t1\ttab here\n8\trunning\tN-Q\t\t0\tq"uote, ü\n',
    "table": (
        "JOB  STATUS   QUEUE  TAGS  FAILED  NAME\n"
        "7    failed          a,b   1       tab here\n"
        '8    running  N-Q          0       q"uote, ü\n'
    ),
    "csv": 'panda_id,status,queue,tags,ledger.failed,name\n7,failed,,"a,b",1,tab here\n8,running,N-Q,,0,"q""uote, ü"\n',
    "name": "7\n8\n",
    "jsonl": (
        '{"panda_id": 7, "status": "failed", "queue": null, "tags": ["a", "b"], "ledger": {"failed": 1}, '
        '"name": "tab\\there"}\n'
        '{"panda_id": 8, "status": "running", "queue": "N-Q", "tags": [], "ledger": {"failed": 0}, '
        '"name": "q\\"uote, ü"}\n'
    ),
}


@pytest.mark.parametrize("form", GOLDEN)
def test_each_form_is_written_just_so(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    n = emit(Look(form), ITEMS, COLUMNS, columns.job_name)

    assert capsys.readouterr().out == GOLDEN[form]
    assert n == 2


def test_json_is_a_list_with_the_chosen_fields(capsys: pytest.CaptureFixture[str]) -> None:
    emit(Look("json", ("panda_id", "ledger.failed")), ITEMS[:1], COLUMNS, columns.job_name)

    assert capsys.readouterr().out == '[\n  {\n    "panda_id": 7,\n    "ledger.failed": 1\n  }\n]\n'


def test_one_thing_in_json_is_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    emit(Look("json", ("panda_id",)), ITEMS[:1], COLUMNS, columns.job_name, single=True)

    assert capsys.readouterr().out == '{\n  "panda_id": 7\n}\n'


def test_in_a_pipe_the_form_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    emit(Look(), ITEMS, COLUMNS, columns.job_name)

    assert capsys.readouterr().out == GOLDEN["plain"]


def test_a_field_that_does_not_exist_is_a_usage_error_with_the_nearest_one() -> None:
    with pytest.raises(click.UsageError, match="no field 'statuss'; there is status"):
        emit(Look("csv", ("statuss",)), ITEMS, COLUMNS, columns.job_name)


def test_an_empty_list_is_empty_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    written = {}
    for form in ("plain", "json", "jsonl", "name"):
        emit(Look(form), [], COLUMNS, columns.job_name)
        written[form] = capsys.readouterr().out

    assert written == {"plain": "", "json": "[]\n", "jsonl": "", "name": ""}


@given(st.text())
def test_a_plain_value_never_breaks_its_line_or_commands_a_terminal(text: str) -> None:
    shown = plain(text)

    assert len(shown) == len(text)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


@given(st.dictionaries(st.sampled_from([*CELLS, "unexpanded"]), st.integers(0, 10**7)))
def test_a_bar_has_its_width_and_a_cell_for_whatever_has_a_job(ledger: dict[str, int]) -> None:
    drawn = bar(ledger)

    assert sum(len(cells) for _, cells in drawn) == WIDTH
    if sum(ledger.values()):
        assert {state for state, cells in drawn if cells} == {state for state, n in counts(ledger).items() if n}


def test_a_job_sets_card_tells_its_ledger() -> None:
    ledger = {"accepted": 10, "unexpanded": 2, "waiting": 1, "running": 3, "finished": 3, "failed": 1, "cancelled": 0}
    jobset = {
        "jobset_id": 9, "name": "skim", "status": "running", "ledger": ledger, "by_status": {"running": 3, "failed": 1},
        "first_panda_id": 1, "last_panda_id": 10, "output_dataset": "user.ann:x", "created_at": "2026-01-01T00:00:00Z",
        "ended_at": None, "depends_on": [],
    }  # fmt: skip

    assert jobset_card(jobset) == [
        "set:9  skim  running",
        "  ████████████✗✗✗✗▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░",
        "  accepted 10 = waiting 3 + running 3 + final 4 (finished 3, failed 1, cancelled 0)",
        "  of those that wait, 2 are accepted and not made yet",
        "  3 running, 1 failed",
        "  jobs     1-10",
        "  outputs  user.ann:x",
        "  created  2026-01-01T00:00:00Z",
    ]


def test_a_jobs_card_leaves_out_what_is_empty() -> None:
    job = {"panda_id": 7, "status": "failed", "exit_code": 0, "queue": None, "archived": False, "command": ["a", "b c"]}

    assert job_card(job) == [
        "job 7",
        "  status             failed",
        "  exit code          0",
        "  command            a,b c",
    ]


def test_why_prints_the_funnel_with_every_refusal() -> None:
    why = {
        "panda_id": 7, "status": "assigned", "summary": "It waits for 2 files.", "waits_for": "data",
        "since": "2026-01-01T06:00:00Z", "until": "2026-01-02T00:00:00Z", "policy": "analysis", "decided_at": "2026-01-01T00:00:00Z", "chosen": "N-Q",
        "funnel": [
            {"criterion": "status", "left": 2, "refused": {"W-Q": "it is offline"}},
            {"criterion": "memory", "left": 1, "refused": {"S-Q": "2000 MB < 4000 MB"}},
        ],
        "weights": {"N-Q": 1.5}, "terms": {"N-Q": {"backlog": 1.5}}, "facts": {"missing_files": 2, "nothing": None},
        "ahead": [{"rule": "transfers", "who": "N-DISK", "n": 3, "say": "3 files for N-DISK are queued before its own"}],
        "changes": [
            {"who": "owner", "say": "look elsewhere: 1 more queue (S-Q)", "queues": ["S-Q"], "command": "panda rebroker 7"},
            {"who": "time", "say": "wait", "queues": [], "command": ""},
        ],
        "estimate": {"earliest_at": "2026-01-03T00:00:00Z", "latest_at": "2026-01-04T00:00:00Z", "coverage": 0.8,
                     "n_compared": 120, "because": "12 jobs come before it"},
    }  # fmt: skip

    assert story(why, [7]) == [
        "job 7 (assigned)",
        "  It waits for 2 files.",
        "  waits for data since 2026-01-01T06:00:00Z, until 2026-01-02T00:00:00Z",
        "  before it: 3 files for N-DISK are queued before its own",
        "  starts between 2026-01-03T00:00:00Z and 2026-01-04T00:00:00Z"
        " (of the last 120 such estimates 80% were right)",
        "    12 jobs come before it",
        "  what would let it run:",
        "    you: look elsewhere: 1 more queue (S-Q)   panda rebroker 7",
        "    wait",
        "  brokerage by policy analysis at 2026-01-01T00:00:00Z:",
        "    status  2 queues left",
        "              not W-Q: it is offline",
        "    memory  1 queue left",
        "              not S-Q: 2000 MB < 4000 MB",
        "    weight of N-Q: 1.5 (backlog 1.5)  <- chosen",
        "  missing files: 2",
    ]


def test_why_of_a_pilot_tells_what_is_ready_and_does_not_fit() -> None:
    ready = {"share": "default", "n": 3, "cores": 8, "memory_mb": 9000, "disk_mb": 1, "walltime_s": 60, "gpus": 0,
             "tags": [], "misfit": "needs 8 cores, the pilot has 1"}  # fmt: skip
    why = {
        "pilot_id": "N-Q-1", "queue": "N-Q", "summary": "All 3 ready jobs do not fit it.", "ready": [ready],
        "changes": [{"who": "operator", "say": "start larger pilots", "queues": [], "command": ""}],
        "asks": {"got": 1, "nothing_fits": 4}, "refusals": {"it is full (occupancy)": 2}, "facts": {"node": "n1"},
    }  # fmt: skip

    assert pilot_story(why) == [
        "pilot N-Q-1 (N-Q)",
        "  All 3 ready jobs do not fit it.",
        "  what would bring it jobs:",
        "    an operator: start larger pilots",
        "  ready: 3 jobs of share default (8 cores, 9000 MB, 60 s): needs 8 cores, the pilot has 1",
        "  asks at its queue in two hours: got 1, nothing fits 4",
        "  kept from there: 2 jobs: it is full (occupancy)",
        "  node: n1",
    ]


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (10**13, "10.0 TB"), (10**16, "10000.0 TB")]
)
def test_bytes_are_told_in_the_unit_that_suits_them(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (timedelta(seconds=5), "5s ago"),
        (timedelta(minutes=3), "3m ago"),
        (timedelta(hours=30), "1d ago"),
        (timedelta(hours=-2), "in 1h"),
    ],
)
def test_times_are_told_from_now(before: timedelta, text: str) -> None:
    assert ago((datetime.now(UTC) - before).isoformat()) == text


@pytest.mark.parametrize("text", ["soon", "", "2026-01-01T00:00:00"])
def test_what_is_no_instant_is_shown_as_it_is(text: str) -> None:
    assert ago(text) == text

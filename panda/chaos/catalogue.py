"""What can go wrong, F1 to F40: what it is, and the tests that do it beside the lab.

A fault of the list is injected by the lab (`faults`), by a test, or by both; where neither can, the reason stands here.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from panda.chaos.lab import Fault


class Entry(NamedTuple):
    """One line of the list."""

    what: str
    tests: Sequence[str] = ()
    """`file::name` under `tests/`; the start of a name stands for all that begin with it."""
    why_not: str = ""
    """What of it is not injected anywhere, and why."""


_FAULTS = "faults/test_faults.py::test_"
_LANES = "integration/engine/test_interleavings.py::test_"
_HOSTILE = "integration/engine/test_hostile.py::test_"
_ROBUST = "integration/engine/test_robust.py::test_"
_PILOT = "unit/pilot/test_pilot_"

ENTRIES: dict[str, Entry] = {
    "F1": Entry(
        "an API worker dies at any byte of a submission",
        ["integration/dataservice/test_catalog.py::test_a_broken_upload"],
    ),
    "F2": Entry("a child of Celery's pool dies in the middle of a stage", [_FAULTS + "a_pool_child_that_is_killed"]),
    "F3": Entry("a process of ours dies", [_FAULTS + "a_process_that_is_killed"]),
    "F4": Entry("a message is popped and its worker dies", [_FAULTS + "a_worker_that_is_killed_with_work"]),
    "F5": Entry(
        "a worker stands still, beyond the visibility timeout too, and goes on",
        [_FAULTS + "a_worker_that_stood_still", _HOSTILE + "what_a_worker_found_out"],
    ),
    "F6": Entry("Redis dies and comes back with its files", [_FAULTS + "a_process_that_is_killed"]),
    "F7": Entry("Redis dies and comes back empty", [_FAULTS + "redis_killed_and_its_files_gone"]),
    "F8": Entry("Redis hangs", ["faults/test_load_shed.py::test_a_submission_is_taken_while_redis_hangs"]),
    "F9": Entry("Redis is erased under load", [_FAULTS + "redis_erased", _LANES + "redis_erased"]),
    "F10": Entry("Redis is out of memory"),
    "F11": Entry("a backend, or all of PostgreSQL, dies", [_LANES + "a_database_that_dies_after_a_claim"]),
    "F12": Entry(
        "a connection breaks just after COMMIT was sent", ["integration/engine/test_commit_unknown.py::test_"]
    ),
    "F13": Entry("deadlocks, and locks held by others", [_ROBUST + "a_database_that_refuses"]),
    "F14": Entry(
        "no connection to the database is left",
        [
            "faults/test_load_shed.py::test_a_database_that_answers_nobody",
            "faults/test_load_shed.py::test_no_connection_is_left",
        ],
    ),
    "F15": Entry(
        "a pilot dies: in stage-in, run, stage-out, between upload and report",
        ["acceptance/test_killed_pilots.py::test_", _PILOT + "deaths.py::test_"],
    ),
    "F16": Entry("a pilot is silent for longer than its lease, and comes back", [_FAULTS + "pilots_that_are_killed"]),
    "F17": Entry(
        "many pilots ask at one moment", [_LANES + "of_two_dispatchers", "faults/test_load_shed.py::test_200_pilots"]
    ),
    "F18": Entry(
        "reports twice and out of order; the lab's pilots do it all the time",
        ["acceptance/test_pilot_reports.py::test_reports_out_of_order", _LANES + "finished_before_running"],
    ),
    "F19": Entry(
        "the answer to a pilot's claim is lost",
        [_LANES + "an_answer_that_was_lost", _PILOT + "server.py::test_a_lost_answer"],
    ),
    "F20": Entry(
        "the answer to a submission is lost", ["acceptance/test_refused_submissions.py::test_the_same_submission"]
    ),
    "F21": Entry(
        "partitions that drop, between clients, pilots, API, database and Redis",
        ["acceptance/test_pilots_anywhere.py::test_in_a_network_of_its_own"],
    ),
    "F22": Entry("a network that is slow, cuts, and passes a few bytes at a time"),
    "F23": Entry(
        "wrong clocks: the database's leaps, those of the processes differ by hours (every second seed)",
        ["integration/engine/test_clocks.py::test_", _HOSTILE + "a_clock_that_leaps_back"],
        "the machine's own clock is set by root, for everybody on it",
    ),
    "F24": Entry(
        "a disk is full: of the spool, of Redis, of the database", ["integration/api/test_spool.py::test_a_full_disk"]
    ),
    "F25": Entry(
        "a disk is read-only, or broken",
        [
            "integration/api/test_spool.py::test_a_disk_that_cannot_be_used",
            "integration/api/test_spool.py::test_a_chunk_that_the_disk",
        ],
    ),
    "F26": Entry("no file handles, no memory", [_PILOT + "limits.py::test_a_memory_hog"]),
    "F27": Entry(
        "payloads that use all memory, fork, write without end, ignore TERM, kill their pilot",
        [_PILOT + "limits.py::test_", _ROBUST + "a_payload_that_ends_its_pilot"],
    ),
    "F28": Entry("malformed requests", ["integration/api/test_fuzz.py::test_", "integration/api/test_input.py::test_"]),
    "F29": Entry("malformed messages", ["faults/test_upgrade.py::test_messages_of_another_version"]),
    "F30": Entry(
        "wicked sandboxes: paths that lead out, links, bombs, a million entries", [_PILOT + "sandbox.py::test_"]
    ),
    "F31": Entry(
        "two beats, or none",
        ["faults/test_copies.py::test_two_of_everything", "integration/engine/test_clocks.py::test_ticks"],
    ),
    "F32": Entry(
        "an upgrade under load: old pilots, old processes, newer messages, a migration",
        [
            "faults/test_upgrade.py::test_",
            "integration/db/test_migrations.py::test_",
            "faults/test_load_shed.py::test_a_pilot_that_is_older_or_newer",
        ],
    ),
    "F33": Entry(
        "people who contradict each other: kills, retries and ends at one moment",
        [
            _HOSTILE + "a_job_that_is_retried_twice",
            _HOSTILE + "a_retry_a_kill",
            _HOSTILE + "an_action_that_cancels",
            _LANES + "a_kill_and_a_final_report",
        ],
    ),
    "F34": Entry(
        "a queue goes offline under its jobs, a file or a storage vanishes",
        [
            "integration/dataservice/test_transfers.py::test_a_source_that_vanished",
            "integration/dataservice/test_transfers.py::test_an_offline_destination",
        ],
    ),
    "F35": Entry("one row among many makes a statement fail", [_ROBUST + "a_job_whose_wait_cannot_be_handled"]),
    "F36": Entry(
        "the archive dies between copy and deletion", [_HOSTILE + "a_database_that_dies_between_the_archives"]
    ),
    "F37": Entry(
        "tokens expire, are revoked, change in the middle of a job",
        [
            _PILOT + "server.py::test_a_rotated_token",
            _PILOT + "server.py::test_a_refused_token",
            "integration/api/test_tokens.py::test_",
        ],
    ),
    "F38": Entry(
        "a job set of a million: submitted, listed, cancelled",
        ["integration/engine/test_million.py::test_"],
        "whole only by `pytest -m slow`; its times are measured by B4, B6 and B8 of `make bench`",
    ),
    "F39": Entry("a failover to a Redis that lagged behind"),
    "F40": Entry("the database is restored from a backup while pilots report", ["faults/test_restore.py::test_"]),
}


def lines(faults: Sequence[Fault]) -> Iterator[str]:
    """The list as a table."""
    yield from ("| | fault | in the lab | in tests | |", "|---|---|---|---|---|")
    for number, entry in ENTRIES.items():
        names = ", ".join(f"`{fault.name}`" for fault in faults if fault.number == number)
        tests = "<br>".join(f"`{test.removesuffix('test_')}`" for test in entry.tests)
        yield f"| {number} | {entry.what} | {names} | {tests} | {entry.why_not} |"

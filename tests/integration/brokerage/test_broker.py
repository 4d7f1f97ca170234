"""Jobs are dealt to the queues that fit, and what fits none waits with a reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from panda import plugins
from panda.brokerage.broker import place
from panda.db.session import Begin, rows, run
from panda.settings import Settings, Store


def queues_of(begin: Begin, panda_ids: list[int]) -> Counter[str | None]:
    with begin() as connection:
        found = rows(connection, "SELECT computing_site FROM jobs WHERE panda_id = ANY(%(i)s)", {"i": panda_ids})
    return Counter(row.computing_site for row in found)


def decisions(begin: Begin) -> list[Any]:
    with begin() as connection:
        return rows(connection, "SELECT * FROM brokerage_decisions ORDER BY decision_id")


def refused(decision: Any, criterion: str) -> dict[str, str]:
    return next(step["refused"] for step in decision.funnel if step["criterion"] == criterion)


def due_rows(begin: Begin, panda_ids: list[int]) -> list[Any]:
    with begin() as connection:
        return rows(
            connection,
            "SELECT stage, waits_for, extract(epoch FROM due_at - panda_now())::float8 AS for_s"
            " FROM job_due WHERE panda_id = ANY(%(i)s) ORDER BY panda_id",
            {"i": panda_ids},
        )


def test_jobs_go_to_equal_queues_in_equal_parts_and_contiguous_runs(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q")
    jobs = make_jobs(10)

    with begin() as connection:
        placed = place(connection, jobs, by="broker", settings=Settings(), chain_id="c1")

    assert placed == jobs
    assert queues_of(begin, jobs[:5]) == {"NORTH-Q": 5}
    assert queues_of(begin, jobs[5:]) == {"SOUTH-Q": 5}
    with begin() as connection:
        events = rows(connection, "SELECT DISTINCT was, now, by, stage, chain_id FROM job_events")
    assert [tuple(event) for event in events] == [("defined", "assigned", "broker", "broker", "c1")]


def test_a_queue_that_runs_jobs_gets_more_than_one_with_a_backlog(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q")
    with begin() as connection:
        run(connection, "INSERT INTO job_counts VALUES ('running', 'NORTH-Q', 8), ('activated', 'SOUTH-Q', 80)")
        run(connection, "INSERT INTO job_count_deltas VALUES ('running', 'NORTH-Q', 1), ('assigned', 'SOUTH-Q', 10)")
    jobs = make_jobs(110)

    with begin() as connection:
        place(connection, jobs, by="broker", settings=Settings())

    assert queues_of(begin, jobs) == {"NORTH-Q": 109, "SOUTH-Q": 1}  # weights (9 + 1) / 10 and 1 / 100
    assert decisions(begin)[0].weights == {"NORTH-Q": 1.0, "SOUTH-Q": 0.01}


def test_groups_of_one_pass_see_what_the_groups_before_them_got(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q", memory_mb=500)
    large, small = make_jobs(90, memory_mb=1000), make_jobs(110, memory_mb=500)

    with begin() as connection:
        place(connection, large + small, by="broker", settings=Settings())

    assert queues_of(begin, large) == {"NORTH-Q": 90}
    assert queues_of(begin, small) == {"NORTH-Q": 5, "SOUTH-Q": 105}  # 1 / (100 * 2) against 1 / 10


def test_equal_jobs_make_one_decision_and_others_their_own(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    jobs = make_jobs(3) + make_jobs(2) + make_jobs(4, cores=2) + make_jobs(1, share="express")

    with begin() as connection:
        place(connection, jobs, by="broker", settings=Settings())

    made = decisions(begin)
    assert [decision.n_jobs for decision in made] == [5, 4, 1]
    assert made[0].jobset_id is None
    assert made[1].jobset_id is not None


def test_what_fits_no_queue_waits_and_knows_why(begin, make_queue, make_jobs):
    make_queue("EAST-Q", status="offline", status_reason="cooling")
    make_queue("NORTH-Q", memory_mb=4000)
    make_queue("SOUTH-Q", memory_mb=64_000, storage_status="offline")
    make_queue("WEST-Q", memory_mb=64_000, tags=["windows"])
    jobs = make_jobs(3, memory_mb=16_000, tags=["linux"])

    with begin() as connection:
        placed = place(connection, jobs, by="broker", settings=Settings())

    assert placed == []
    [decision] = decisions(begin)
    assert decision.chosen == {}
    assert [(step["criterion"], step["left"], step["refused"]) for step in decision.funnel] == [
        ("status", 3, {"EAST-Q": "the queue is offline (cooling)"}),
        ("downtime", 3, {}),
        ("access", 3, {}),
        ("storage", 2, {"SOUTH-Q": "its storage SOUTH-DISK is offline"}),
        ("wishes", 2, {}),
        (
            "resources",
            1,
            {"NORTH-Q": "needs 16 GB of memory, the queue has 4 GB"},
        ),
        ("capabilities", 0, {"WEST-Q": "needs linux, which the queue does not offer"}),
        ("requirements", 0, {}),
        ("locality", 0, {}),
        ("occupancy", 0, {}),
        ("limits", 0, {}),
    ]
    for row in due_rows(begin, jobs):
        assert (row.stage, row.waits_for) == ("broker", "queue")
        assert 25 < row.for_s <= 30
    with begin() as connection:
        found = rows(connection, "SELECT DISTINCT status, decision_id FROM jobs")
    assert [tuple(row) for row in found] == [("defined", decision.decision_id)]


def test_a_job_that_waited_long_is_looked_at_less_often(begin, make_queue, make_jobs):
    make_queue("NORTH-Q", status="offline")
    new, old, oldest = make_jobs(3)
    with begin() as connection:
        for panda_id, age_s in ((old, 150), (oldest, 90_000)):
            run(
                connection,
                "UPDATE jobs SET changed_at = panda_now() - make_interval(secs => %(s)s) WHERE panda_id = %(i)s",
                {"s": age_s, "i": panda_id},
            )

    with begin() as connection:
        place(connection, [new, old, oldest], by="broker", settings=Settings())

    assert [round(row.for_s, -1) for row in due_rows(begin, [new, old, oldest])] == [30, 120, 600]


def test_a_full_queue_gets_no_more_than_its_limit(begin, make_queue, make_jobs):
    make_queue("NORTH-Q", max_ready=4)
    make_queue("SOUTH-Q", max_ready=3)
    jobs = make_jobs(10)

    with begin() as connection:
        placed = place(connection, jobs, by="broker", settings=Settings())

    assert queues_of(begin, jobs) == {"NORTH-Q": 4, "SOUTH-Q": 3, None: 3}
    assert placed == jobs[:7]
    assert decisions(begin)[0].funnel[-1] == {
        "criterion": "room",
        "left": 0,
        "refused": {
            "NORTH-Q": "took 4 of these jobs, and has room for no more",
            "SOUTH-Q": "took 3 of these jobs, and has room for no more",
        },
    }

    with begin() as connection:
        place(connection, jobs[7:], by="broker", settings=Settings())

    assert refused(decisions(begin)[-1], "occupancy") == {
        "NORTH-Q": "4 jobs wait there already, its limit is 4",
        "SOUTH-Q": "3 jobs wait there already, its limit is 3",
    }


def test_the_queues_of_a_site_share_its_cap(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("NORTH-2", site="NORTH", storage="NORTH-DISK")
    make_queue("SOUTH-Q", max_ready=1)
    with begin() as connection:
        run(connection, "UPDATE sites SET max_running = 6 WHERE name = 'NORTH'")
        run(connection, "INSERT INTO job_counts VALUES ('running', 'NORTH-Q', 6), ('activated', 'NORTH-2', 2)")
    jobs, more = make_jobs(10), make_jobs(1, memory_mb=2000)

    with begin() as connection:
        place(connection, jobs + more, by="broker", settings=Settings())

    placed = queues_of(begin, jobs)
    assert placed["NORTH-Q"] + placed["NORTH-2"] == 4  # two wait there already
    assert (placed["SOUTH-Q"], placed[None]) == (1, 5)
    assert refused(decisions(begin)[1], "limits") == dict.fromkeys(
        ["NORTH-2", "NORTH-Q"], "only 6 jobs may run at site NORTH, and 6 wait for that already"
    )


@pytest.mark.parametrize(
    ("sites", "exclude", "expected"),
    [
        (["NORTH"], [], {"NORTH-Q"}),
        (["SOUTH-*"], [], {"SOUTH-Q"}),
        ([], ["NORTH*"], {"SOUTH-Q"}),
        (["*"], ["SOUTH-Q"], {"NORTH-Q"}),
        (["!SOUTH*"], [], {"NORTH-Q"}),
        (["*-Q", "!NORTH"], [], {"SOUTH-Q"}),
        ([], [], {"NORTH-Q", "SOUTH-Q"}),
        (["WEST"], [], {None}),
    ],
)
def test_a_job_set_goes_where_it_wishes(begin, make_queue, make_jobs, sites, exclude, expected):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q")
    jobs = make_jobs(4, sites=sites, exclude=exclude)

    with begin() as connection:
        place(connection, jobs, by="broker", settings=Settings())

    assert set(queues_of(begin, jobs)) == expected


def test_a_queue_in_test_takes_only_jobs_that_name_it(begin, make_queue, make_jobs):
    make_queue("NORTH-Q", status="test", status_reason="new kernel")
    named, any_of_them = make_jobs(1, sites=["NORTH-Q"]), make_jobs(1, sites=["N*"])

    with begin() as connection:
        placed = place(connection, named + any_of_them, by="broker", settings=Settings())

    assert placed == named
    assert decisions(begin)[1].funnel[0]["refused"] == {"NORTH-Q": "the queue is test (new kernel)"}


def give_input(begin: Begin, panda_ids: list[int], lfn: str, size_bytes: int, storages: list[str]) -> None:
    with begin() as connection:
        run(
            connection,
            "INSERT INTO datasets (scope, name, owner, created_at) VALUES ('s', 'd', 'alice', panda_now())"
            " ON CONFLICT DO NOTHING",
        )
        [file] = rows(
            connection,
            "INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)"
            " SELECT dataset_id, %(lfn)s, 'g', %(size)s, '00000001', panda_now() FROM datasets RETURNING file_id",
            {"lfn": lfn, "size": size_bytes},
        )
        for storage in storages:
            run(
                connection,
                "INSERT INTO replicas VALUES (%(file)s, %(storage)s, 'p', panda_now())",
                {"file": file.file_id, "storage": storage},
            )
        run(
            connection,
            "INSERT INTO job_files (panda_id, kind, lfn, did, file_id, status, size_bytes)"
            " SELECT i, 'input', %(lfn)s, 's:d', %(file)s, 'missing', %(size)s FROM unnest(%(ids)s::bigint[]) AS i",
            {"lfn": lfn, "file": file.file_id, "size": size_bytes, "ids": panda_ids},
        )
        run(connection, "UPDATE jobs SET n_inputs = n_inputs + 1 WHERE panda_id = ANY(%(ids)s)", {"ids": panda_ids})


def test_jobs_prefer_the_queue_where_their_bytes_are(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q")
    jobs = make_jobs(22)
    give_input(begin, jobs, "big", 1_000_000, ["SOUTH-DISK"])

    with begin() as connection:
        place(connection, jobs, by="broker", settings=Settings())

    assert queues_of(begin, jobs) == {"SOUTH-Q": 20, "NORTH-Q": 2}


def test_what_only_a_tape_has_goes_where_a_disk_has_the_rest(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q")
    with begin() as connection:
        run(
            connection,
            "INSERT INTO storages (name, site, kind, root, stager) VALUES ('T', 'NORTH', 'local', '/', 'any')",
        )
    on_tape, on_both = make_jobs(2), make_jobs(2)
    give_input(begin, on_tape, "old", 1_000_000, ["T"])
    give_input(begin, on_both, "kept", 1_000_000, ["T", "SOUTH-DISK"])

    with begin() as connection:
        place(connection, on_tape + on_both, by="broker", settings=Settings())

    first, second = decisions(begin)
    assert [first.terms[queue]["recall"] for queue in ("NORTH-Q", "SOUTH-Q")] == [0.1, 0.1]
    assert "recall" not in second.terms["NORTH-Q"] | second.terms["SOUTH-Q"]
    assert queues_of(begin, on_both) == {"SOUTH-Q": 2}


def test_jobs_with_inputs_of_about_the_same_place_are_one_group(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    jobs = make_jobs(5)
    for nr, panda_id in enumerate(jobs):
        give_input(begin, [panda_id], f"part{nr}", 1_000 + 37 * nr, ["NORTH-DISK"])

    with begin() as connection:
        place(connection, jobs, by="broker", settings=Settings())

    assert [decision.n_jobs for decision in decisions(begin)] == [5]


def test_an_input_on_no_online_storage_refuses_every_queue(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q", storage_status="offline")
    jobs = make_jobs(2)
    give_input(begin, jobs, "lost", 100, ["SOUTH-DISK"])
    give_input(begin, jobs, "kept", 100, ["NORTH-DISK"])

    with begin() as connection:
        placed = place(connection, jobs, by="broker", settings=Settings())

    assert placed == []
    assert refused(decisions(begin)[0], "locality") == {
        "NORTH-Q": "1 of its input files is on no storage that is online"
    }


def test_jobs_that_are_not_defined_are_left_alone(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    jobs = make_jobs(3)
    with begin() as connection:
        run(connection, "UPDATE jobs SET status = 'cancelled' WHERE panda_id = %(i)s", {"i": jobs[1]})

    with begin() as connection:
        placed = place(connection, jobs, by="broker", settings=Settings())
        again = place(connection, jobs, by="broker", settings=Settings())

    assert (placed, again) == ([jobs[0], jobs[2]], [])


def test_without_any_queue_jobs_wait(begin, make_jobs):
    jobs = make_jobs(2)

    with begin() as connection:
        assert place(connection, jobs, by="broker", settings=Settings()) == []

    assert {row.waits_for for row in due_rows(begin, jobs)} == {"queue"}


def test_both_sides_may_require_what_they_like(begin, make_queue, make_jobs):
    make_queue("NORTH-Q", memory_mb=4000)
    make_queue("SOUTH-Q", memory_mb=8000, requirements="job.owner != 'alice' or job.cores >= 4")
    make_queue("WEST-Q", memory_mb=8000)
    wanted = {"requirements": "queue.memory_mb >= 6 * job.memory_mb"}
    jobs = make_jobs(3, memory_mb=1000, brokerage=wanted)
    wide = make_jobs(2, memory_mb=2000, cores=4)

    with begin() as connection:
        place(connection, jobs + wide, by="broker", settings=Settings())

    assert queues_of(begin, jobs) == {"WEST-Q": 3}
    assert queues_of(begin, wide) == {"NORTH-Q": 1, "SOUTH-Q": 1}
    assert refused(decisions(begin)[0], "requirements") == {
        "NORTH-Q": "the job set requires `queue.memory_mb >= 6 * job.memory_mb`, but queue.memory_mb is 4000,"
        " job.memory_mb is 1000",
        "SOUTH-Q": "the queue requires `job.owner != 'alice' or job.cores >= 4`, but job.owner is 'alice',"
        " job.cores is 1",
    }


def test_a_requirement_of_a_queue_that_cannot_be_read_closes_that_queue_alone(begin, make_queue, make_jobs):
    make_queue("NORTH-Q", requirements="job.cores >")
    make_queue("SOUTH-Q")
    jobs = make_jobs(2)

    with begin() as connection:
        place(connection, jobs, by="broker", settings=Settings())

    assert queues_of(begin, jobs) == {"SOUTH-Q": 2}
    [incident] = incidents(begin)
    assert (incident.component, incident.key, incident.n) == ("brokerage", "criterion:requirements", 1)
    assert "criterion requirements raised when it was asked about NORTH-Q: BadRequirement" in incident.message


def incidents(begin: Begin) -> list[Any]:
    with begin() as connection:
        return rows(connection, "SELECT * FROM incidents ORDER BY incident_id")


class Odd:
    """A plug-in of somebody else's."""

    name = "odd"

    def refuse(self, kind: Any, queue: Any) -> str | None:
        if kind.cores == 2:
            raise RuntimeError(f"no idea of {kind.cores} cores")
        return None


def test_jobs_that_a_criterion_raises_on_wait_and_the_others_go_on(begin, make_queue, make_jobs, monkeypatch, tmp_path):
    plain = plugins.load
    monkeypatch.setattr(plugins, "load", lambda group, name: Odd if name == "odd" else plain(group, name))
    make_queue("NORTH-Q")
    settings = with_policies(tmp_path, '[policies.all]\ncriteria=["status", "odd", "resources"]\n')
    jobs, bad = make_jobs(2), make_jobs(3, cores=2)

    with begin() as connection:
        placed = place(connection, jobs + bad, by="broker", settings=settings)

    assert placed == jobs
    assert {(row.stage, row.waits_for) for row in due_rows(begin, bad)} == {("broker", "queue")}
    assert refused(decisions(begin)[1], "odd") == {
        "NORTH-Q": "its check of odd failed (RuntimeError: no idea of 2 cores); operators were told"
    }
    [incident] = incidents(begin)
    assert (incident.level, incident.key) == ("error", "criterion:odd")


def test_policies_that_cannot_be_read_let_nobody_go_and_are_told(begin, make_queue, make_jobs, tmp_path):
    make_queue("NORTH-Q")
    jobs = make_jobs(2)

    with begin() as connection:
        placed = place(connection, jobs, by="broker", settings=with_policies(tmp_path, "[policies.all"))

    assert placed == []
    assert {row.waits_for for row in due_rows(begin, jobs)} == {"queue"}
    assert "the policies of brokerage cannot be read" in refused(decisions(begin)[0], "policies")["NORTH-Q"]
    assert [incident.key for incident in incidents(begin)] == ["criterion:policies"]


def test_the_policy_of_a_kind_is_kept_with_the_decision(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q")
    analysis, production = make_jobs(11), make_jobs(11, document={"kind": "production"})
    give_input(begin, analysis + production, "big", 1_000_000, ["SOUTH-DISK"])

    with begin() as connection:
        place(connection, analysis, by="broker", settings=Settings())
        run(connection, "DELETE FROM job_count_deltas")
        place(connection, production, by="broker", settings=Settings())

    assert [(decision.policy, decision.chosen) for decision in decisions(begin)] == [
        ("analysis", {"NORTH-Q": 1, "SOUTH-Q": 10}),
        ("production", {"NORTH-Q": 3, "SOUTH-Q": 8}),  # 1 to the root of 10
    ]
    assert decisions(begin)[1].terms["NORTH-Q"]["locality"] == 0.316228


def test_inputs_are_weighed_by_their_way_and_by_what_nodes_read(begin, make_queue, make_jobs):
    queues = ("HOME-Q", "READER-Q", "NEAR-Q", "FAR-Q")
    for name in queues:
        make_queue(name, read_storages=["HOME-DISK"] if name == "READER-Q" else [])
    jobs = make_jobs(4)
    give_input(begin, jobs, "big", 8_000_000_000, ["HOME-DISK"])
    with begin() as connection:
        run(connection, "INSERT INTO links (name, source, destination, distance) VALUES ('l', 'HOME', 'NEAR', 2)")
        run(connection, "INSERT INTO queue_starts VALUES ('FAR-Q', panda_now(), 3), "
            "('HOME-Q', panda_now() - interval '90 minutes', 3), ('NEAR-Q', panda_now() - interval '3 hours', 3)")  # fmt: skip

    with begin() as connection:
        place(connection, jobs, by="broker", settings=Settings())

    found = decisions(begin)[0].terms
    told = {term: [found[queue].get(term, 1) for queue in queues] for term in ("transfer", "locality", "pace")}
    # 8192 MB at 100 MB/s, times 1.2 by the link, times 2 within a cloud, and a minute
    assert told["transfer"] == pytest.approx([1, 1, 3600 / (3660 + 98.304), 3600 / (3660 + 163.84)], rel=1e-4)
    assert told["locality"] == [1, 1, 0.1, 0.1]
    assert told["pace"] == [1, 1, 1, 2]


def test_a_job_set_rather_goes_where_it_prefers(begin, make_queue, make_jobs):
    make_queue("NORTH-Q")
    make_queue("SOUTH-Q")
    jobs = make_jobs(12, brokerage={"prefer": ["SOUTH"]})

    with begin() as connection:
        place(connection, jobs, by="broker", settings=Settings())

    assert queues_of(begin, jobs) == {"NORTH-Q": 2, "SOUTH-Q": 10}


def with_policies(folder: Path, text: str) -> Settings:
    """Settings whose policies are `text`."""
    (folder / "brokerage.toml").write_text(text)
    return Settings(store=Store(data_dir=str(folder)))

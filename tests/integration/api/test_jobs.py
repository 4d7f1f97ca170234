"""Jobs over HTTP: lists, facts, and the answer to why."""

import dataclasses

import pytest

from panda.db import lists
from panda.db.session import rows, run
from panda.jobs.nouns import JOBS
from panda.query import read

TEN = {"name": "ten", "template": {"command": ["echo", "${seq}"], "count": 10}}


@pytest.fixture
def ten(anna, engine, sites):
    """Anna's ten pending jobs."""
    accepted = anna.submit(TEN).json
    engine.expand()
    return list(range(accepted["first_panda_id"], accepted["last_panda_id"] + 1))


def test_a_job_tells_its_facts(anna, ten):
    job = anna.get(f"/v1/jobs/{ten[0]}").json

    assert (job["status"], job["stage"], job["owner"], job["command"]) == ("pending", "define", "anna", ["echo", "0"])
    assert job["archived"] is False
    assert job["due_at"].endswith("Z")


def test_a_job_is_shown_the_same_after_it_was_archived(anna, ten, engine):
    engine.fail(ten[0])
    live = anna.get(f"/v1/jobs/{ten[0]}").json

    engine.archive(ten[0])

    archived = anna.get(f"/v1/jobs/{ten[0]}").json
    gone = {"stage": None, "waits_for": None, "due_at": None, "archived": True}
    assert archived == {**live, **gone}


def test_a_job_that_was_promised_says_so_until_it_is_made(anna):
    panda_id = anna.submit(TEN).json["last_panda_id"]

    answer = anna.get(f"/v1/jobs/{panda_id}")

    assert (answer.status_code, answer.json["code"]) == (404, "not_expanded")
    assert anna.get(f"/v1/jobs/{panda_id + 1}").json["code"] == "not_found"


def test_pages_of_jobs_hold_each_job_once_live_or_archived(anna, ten, engine):
    engine.fail(*ten[3:6])
    engine.archive(*ten[3:6])

    seen, after = [], ""
    while after is not None:
        page = anna.get(f"/v1/jobs?limit=4{after and f'&after={after}'}").json
        seen += [job["panda_id"] for job in page["data"]]
        after = page["page"]["next"]

    assert seen == ten[::-1]


def test_filters_narrow_a_list(anna, ten, engine, operator):
    engine.activate(*ten[:3])
    engine.fail(ten[9])
    jobset_id = anna.get(f"/v1/jobs/{ten[0]}").json["jobset_id"]

    def found(query):
        return [job["panda_id"] for job in operator.get(f"/v1/jobs?{query}").json["data"]]

    assert found("status=failed") == [ten[9]]
    assert found("status=failed,activated") == [ten[9], ten[2], ten[1], ten[0]]
    assert found("status=failed&status=activated") == [ten[9], ten[2], ten[1], ten[0]]
    assert found("queue=HOLLAND-CPU&owner=anna") == [ten[2], ten[1], ten[0]]
    assert len(found(f"jobset={jobset_id}")) == 10
    assert found(f"jobset={jobset_id}&owner=bert") == []
    assert found("owner=bert") == []


@pytest.mark.usefixtures("by_hand")
def test_a_page_stops_looking_after_its_window_and_says_where(begin, ten):
    noun = dataclasses.replace(JOBS, window=4)
    running = read("status:finished,running", JOBS.fields)
    with begin() as connection:
        run(connection, "UPDATE jobs SET status = 'running' WHERE panda_id = %(id)s", {"id": ten[0]})

    seen, after, n_pages = [], None, 0
    while n_pages == 0 or after is not None:
        with begin() as connection:
            page = lists.page(connection, noun, running, after=after and str(after))
        seen += [row.panda_id for row in page.items]
        after, n_pages = page.next, n_pages + 1

    assert seen == [ten[0]]
    assert n_pages == 3


def test_events_attempts_and_files_are_listed(anna, ten, engine):
    engine.activate(ten[0])
    engine.fail(ten[0])

    events = anna.get(f"/v1/jobs/{ten[0]}/events").json["data"]
    attempts = anna.get(f"/v1/jobs/{ten[0]}/attempts").json["data"]

    assert [event["now"] for event in events] == ["pending", "defined", "assigned", "activated", "failed"]
    assert [(each["attempt_nr"], each["outcome"]) for each in attempts] == [(1, "failed")]
    assert anna.get(f"/v1/jobs/{ten[0]}/attempts/1").json == {"panda_id": ten[0], **attempts[0]}
    for there_is_none in ("2", "0", "x"):
        assert anna.get(f"/v1/jobs/{ten[0]}/attempts/{there_is_none}").status_code == 404
    assert anna.get(f"/v1/jobs/{ten[0]}/files").json == {"data": [], "page": {"next": None}}
    assert anna.get(f"/v1/jobs/{ten[0]}/logs").json["data"] == []


def test_files_go_page_by_page(anna, engine):
    names = [f"part-{i:03d}.root" for i in range(5)]
    panda_id = anna.submit({"name": "out", "jobs": [{"command": ["x"], "outputs": names}]}).json["first_panda_id"]
    engine.expand()

    seen, after = [], ""
    while after is not None:
        page = anna.get(f"/v1/jobs/{panda_id}/files?limit=2{after and f'&after={after}'}").json
        seen += [file["lfn"] for file in page["data"]]
        after = page["page"]["next"]

    assert seen == names


@pytest.mark.parametrize(
    "part", ["", "/events", "/files", "/attempts", "/attempts/1", "/why", "/logs", "/logs/payload.stdout"]
)
def test_somebody_elses_job_is_nobodys_business(caller, ten, part):
    assert caller("bert", "user").get(f"/v1/jobs/{ten[0]}{part}").status_code == 403


@pytest.mark.parametrize(
    "part", ["", "/events", "/files", "/attempts", "/attempts/1", "/why", "/logs", "/logs/payload.stdout"]
)
def test_a_job_that_does_not_exist_is_not_found(anna, part):
    assert anna.get(f"/v1/jobs/4711{part}").status_code == 404


def test_a_failed_job_is_retried_once(anna, ten, engine, begin):
    engine.fail(ten[0])

    first = anna.post(f"/v1/jobs/{ten[0]}/retry", {"reason": "disk is back"})
    second = anna.post(f"/v1/jobs/{ten[0]}/retry")

    assert (first.status_code, first.json["n"]) == (200, 1)
    assert (second.status_code, second.json["code"]) == (409, "cannot_retry")
    with begin() as connection:
        audit = rows(connection, "SELECT who, action, target, reason FROM audit_log")
    assert [tuple(row) for row in audit] == [("anna", "retry", f"job {ten[0]}", "disk is back")]


def test_a_waiting_job_is_brokered_anew_and_its_new_place_is_not_the_old_one(anna, caller, ten, engine, begin):
    engine.activate(ten[0])
    first = anna.post(f"/v1/jobs/{ten[0]}/rebroker", {"exclude": ["SIT*"], "reason": "slow"})
    again = anna.post(f"/v1/jobs/{ten[0]}/rebroker")
    engine.fail(ten[1])

    assert (first.status_code, first.json["n"], again.json["n"]) == (200, 1, 1)
    with begin() as connection:
        [avoided] = rows(connection, "SELECT place FROM job_avoids WHERE panda_id = %(id)s", {"id": ten[0]})
        audit = rows(connection, "SELECT action, reason, facts FROM audit_log ORDER BY audit_id LIMIT 1")
    assert avoided.place == "SIT*"
    assert [tuple(row) for row in audit] == [("rebroker", "slow", {"exclude": ["SIT*"]})]
    refused = anna.post(f"/v1/jobs/{ten[1]}/rebroker")
    assert (refused.status_code, refused.json["code"]) == (409, "cannot_rebroker")
    assert caller("bert", "user").post(f"/v1/jobs/{ten[0]}/rebroker").status_code == 403
    assert anna.post(f"/v1/jobs/{ten[0]}/rebroker", {"exclude": [" "]}).json["code"] == "bad_name"
    unknown = anna.post(f"/v1/jobs/{ten[0]}/rebroker", {"exclude": ["HOLLAND*", "HOLAND-CPU"]})
    assert (unknown.status_code, unknown.json["code"], unknown.json["where"]) == (422, "unknown_place", "exclude[1]")
    assert "did you mean 'HOLLAND-CPU'" in unknown.json["detail"]


def test_a_waiting_job_is_cancelled_at_once_and_asking_again_does_no_harm(anna, ten):
    first = anna.post(f"/v1/jobs/{ten[0]}/cancel", {"reason": "typo"})
    second = anna.post(f"/v1/jobs/{ten[0]}/cancel")

    assert (first.status_code, first.json) == (202, {"n": 1, "refused": {}})
    assert (second.status_code, second.json["n"]) == (202, 0)
    assert anna.get(f"/v1/jobs/{ten[0]}").json["status"] == "cancelled"


# ---- why ------------------------------------------------------------------------------------


def summary(anna, panda_id):
    return anna.get(f"/v1/jobs/{panda_id}/why").json["summary"]


def test_why_a_job_is_not_made_yet(anna):
    panda_id = anna.submit(TEN).json["last_panda_id"]

    assert "accepted and not made yet: 0 of the 10 jobs" in summary(anna, panda_id)


def test_why_a_job_waits_for_its_parents(anna, engine):
    parent = anna.submit(TEN, key="parent").json["jobset_id"]
    child = anna.submit({**TEN, "depends_on": [parent]}, key="child").json["first_panda_id"]
    engine.expand()

    answer = anna.get(f"/v1/jobs/{child}/why").json

    assert answer["summary"] == f"It waits for the end of job set {parent} (ten, 10 jobs to go)."
    assert (answer["waits_for"], answer["facts"]["parents"][0]["jobset_id"]) == ("parent", parent)


@pytest.mark.usefixtures("by_hand")
def test_why_no_queue_fits(anna, ten, begin):
    with begin() as connection:
        run(
            connection,
            """WITH decided AS (INSERT INTO brokerage_decisions (at, n_jobs, funnel, weights, chosen)
            VALUES (panda_now(), 10, '[{"criterion": "status", "left": 1, "refused": {"OLD": "it is offline"}},
            {"criterion": "memory", "left": 0, "refused": {"HOLLAND-CPU": "needs 64000 MB, has 16000 MB"}}]',
            '{"HOLLAND-CPU": 0.5}', '{}') RETURNING decision_id)
            UPDATE jobs SET status = 'defined', decision_id = (SELECT decision_id FROM decided)
            WHERE panda_id = %(id)s""",
            {"id": ten[0]},
        )
        run(
            connection,
            "UPDATE job_due SET stage = 'broker', waits_for = 'queue' WHERE panda_id = %(id)s",
            {"id": ten[0]},
        )
        run(connection, "UPDATE queues SET status = 'offline'")

    answer = anna.get(f"/v1/jobs/{ten[0]}/why").json

    assert answer["summary"] == (
        "No queue fits it. All 2 queues refuse it: OLD: it is offline (status); "
        "HOLLAND-CPU: needs 64000 MB, has 16000 MB (memory). Brokerage looks again by itself."
    )
    assert [verdict["criterion"] for verdict in answer["funnel"]] == ["status", "memory"]
    assert answer["weights"] == {"HOLLAND-CPU": 0.5}
    assert answer["until"]


@pytest.mark.usefixtures("by_hand")
def test_why_a_job_waits_for_data(anna, ten, begin):
    with begin() as connection:
        run(
            connection,
            """WITH dataset AS (INSERT INTO datasets (scope, name, owner, created_at)
                VALUES ('mc', 'ten', 'anna', panda_now()) RETURNING dataset_id),
            file AS (INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
                SELECT dataset_id, 'a.root', 'g', 1, '00000001', panda_now() FROM dataset RETURNING file_id),
            transfer AS (INSERT INTO transfers (file_id, source, destination, status, due_at, tries, error, created_at)
                SELECT file_id, 'CERN-DISK', 'HOLLAND-DISK', 'queued', panda_now(), 2, 'disk is full', panda_now()
                FROM file RETURNING transfer_id)
            INSERT INTO transfer_waiters (transfer_id, panda_id) SELECT transfer_id, %(id)s FROM transfer""",
            {"id": ten[0]},
        )
        run(connection, "UPDATE jobs SET status = 'assigned' WHERE panda_id = %(id)s", {"id": ten[0]})
        run(
            connection,
            "UPDATE job_due SET stage = 'activate', waits_for = 'data', missing = 1 WHERE panda_id = %(id)s",
            {"id": ten[0]},
        )

    assert summary(anna, ten[0]) == (
        "1 input file is on the way; a.root to HOLLAND-DISK from CERN-DISK is queued; try 2 failed: disk is full."
    )


def test_why_a_job_waits_for_a_pilot(anna, ten, engine, acquire):
    engine.activate(*ten[:3])

    lonely = anna.get(f"/v1/jobs/{ten[2]}/why").json
    acquire(1)
    accompanied = anna.get(f"/v1/jobs/{ten[2]}/why").json

    assert lonely["summary"] == (
        "It is ready at HOLLAND-CPU, behind 2 like it, but no pilot has asked there for 10 minutes."
    )
    assert (
        accompanied["summary"] == "It is ready at HOLLAND-CPU, behind 1 like it; 1 pilot was seen there in 10 minutes."
    )
    assert accompanied["facts"]["jobs_ahead"] == 1


def test_why_a_pilot_got_nothing(anna, caller, ten, engine, acquire):
    engine.activate(ten[0])
    acquire(1)
    pilot_id = anna.get("/v1/pilots").json["data"][0]["pilot_id"]

    answer = anna.get(f"/v1/pilots/{pilot_id}/why").json

    assert answer["summary"] == f"It has work: job {ten[0]} of its last ask."
    assert anna.get("/v1/pilots/nobody/why").status_code == 404
    assert caller("pia", "pilot").get(f"/v1/pilots/{pilot_id}/why").status_code == 403


def test_why_tells_what_would_change_it(anna, ten, engine):
    engine.activate(ten[0])

    answer = anna.get(f"/v1/jobs/{ten[0]}/why").json

    assert {"who": "operator", "say": "start pilots at HOLLAND-CPU", "queues": [],
            "command": ""} in answer["changes"]  # fmt: skip
    assert answer["since"]
    assert (answer["ahead"], answer["estimate"]) == ([], None)


def test_why_a_job_waits_at_a_queue_that_is_offline(anna, ten, engine, operator):
    engine.activate(ten[0])
    operator.post("/v1/queues/HOLLAND-CPU/status", {"status": "offline", "reason": "power cut"})

    assert summary(anna, ten[0]) == "It is ready at HOLLAND-CPU, which is offline (power cut)."


def test_why_a_job_runs_and_that_its_end_was_asked_for(anna, ten, engine, acquire):
    engine.activate(ten[0])
    acquire(1)

    assert summary(anna, ten[0]).startswith("A pilot took it on node-7 at HOLLAND-CPU; the pilot was heard of")
    anna.post(f"/v1/jobs/{ten[0]}/cancel")
    assert summary(anna, ten[0]).startswith("anna asked for its end; its pilot will hear of it")


def test_why_a_job_failed_and_what_a_retry_would_do(anna, ten, engine):
    engine.activate(ten[0])
    engine.fail(ten[0], message="the payload ended with exit code 3")

    answer = anna.get(f"/v1/jobs/{ten[0]}/why").json

    assert answer["summary"] == (
        "Attempt 1 failed in stage dispatch at HOLLAND-CPU: the payload ended with exit code 3 (payload:3). "
        "A retry would start attempt 2 from stage broker."
    )
    engine.archive(ten[0])
    assert summary(anna, ten[0]).endswith("It is archived; to run it again, submit it again.")


def test_why_a_job_was_cancelled(anna, ten):
    anna.post(f"/v1/jobs/{ten[0]}/cancel", {"reason": "typo"})

    assert summary(anna, ten[0]) == "It was cancelled by anna: typo."


def test_why_a_job_is_on_its_way_and_what_trouble_it_had(anna, ten, begin):
    assert summary(anna, ten[0]) == "It is in line for stage define."
    with begin() as connection:
        run(connection, "UPDATE job_due SET tries = 2, error = 'KeyError' WHERE panda_id = %(id)s", {"id": ten[0]})
    assert summary(anna, ten[0]) == "Stage define had trouble (2 times: KeyError); it is tried again."

"""Upstream's pilots and harvesters: claims with a long lease, reports of every kind, commands, words that are wrong."""

import gzip
import hashlib
import io
import json
import pickle
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from falcon.testing import TestClient
from upstreamcalls import Upstreamer

from panda.api.app import create_app
from panda.db.session import begin_of, make_engine
from panda.dispatcher import matching
from panda.jobs.spool import Spool
from panda.settings import Upstream
from panda.upstream import harvesters

REPORT = {"siteName": "NORTH-Q", "node": "vm", "schedulerID": "unknown", "pilotID": "unknown|PR|3.7.0.36",
          "startTime": "1795368525.25", "coreCount": "1", "timestamp": "2026-11-22T17:28:45+00:00"}  # fmt: skip
END = REPORT | {"endTime": "1795368535.25", "pilotErrorCode": "0", "pilotErrorDiag": "", "transExitCode": "0",
                "exeErrorCode": "0", "exeErrorDiag": "", "pilotTiming": "0|0|7|0|1|0", "pilotLog": "",
                "cpuConsumptionTime": "8", "maxRSS": "204800", "totRCHAR": "2048", "jobMetrics": "a=1 b=2"}  # fmt: skip


@pytest.fixture
def upstream(world):
    return Upstreamer(world)


def update(upstream, offer, state, **words):
    said = {"jobId": offer["PandaID"], "attemptNr": offer["attemptNr"], "state": state} | words
    return upstream.legacy("updateJob", **((REPORT if state in ("starting", "running") else END) | said))


def write(world, offer, lfn, content):
    """What the pilot's copy tool does: scope with dots as folders, two folders of a hash, the name."""
    digest = hashlib.md5(f"{offer['scopeOut'].split(',')[0]}:{lfn}".encode()).hexdigest()
    path = world.settings.data_dir / "storage/north/upstream" / offer["scopeLog"].replace(".", "/")
    path = path / digest[:2] / digest[2:4] / lfn
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {
        "guid": "",
        "fsize": len(content),
        "adler32": f"{zlib.adler32(content):08x}",
        "surl": f"file://localhost{path}",
    }


def test_a_job_runs_and_its_outputs_join_the_dataset(world, upstream):
    panda_id = upstream.ready_job(outputs=["out.txt"])
    offer = upstream.get_job()
    assert update(upstream, offer, "starting") == {"StatusCode": 0, "command": "NULL"}
    assert update(upstream, offer, "running") == {"StatusCode": 0, "command": "NULL"}
    assert world.status(panda_id) == "running"
    xml = {"out.txt": write(world, offer, "out.txt", b"hello"), offer["logFile"]: {"guid": "", "fsize": 3}}

    answer = update(upstream, offer, "finished", xml=json.dumps(xml), metaData='{"n": 1}')
    world.settle()

    assert answer == {"StatusCode": 0, "command": "NULL"}
    job = world.job(panda_id)
    assert (job["status"], job["exit_code"], job["wall_s"], job["cpu_s"], job["max_rss_mb"]) == (
        "finished",
        0,
        10,
        8,
        200,
    )
    [replica] = world.query("SELECT f.lfn, r.path FROM files f JOIN replicas r USING (file_id)")
    assert replica.lfn == "out.txt"
    assert Path(world.settings.data_dir, "storage/north", replica.path).read_bytes() == b"hello"


def test_every_word_of_a_report_is_kept_and_shown(world, upstream):
    panda_id = upstream.ready_job(owner="anonymous")
    offer = upstream.get_job()
    update(upstream, offer, "finished", metaData='{"n": 1}', stdout="tail" * 1_000)
    world.settle()

    [job] = upstream.v1("job/get_description", job_ids=[panda_id])["data"]
    [kept] = world.query("SELECT fields FROM upstream_reports")

    assert (job["jobMetrics"], job["pilotTiming"], job["maxRSS"], job["totRCHAR"]) == (
        "a=1 b=2",
        "0|0|7|0|1|0",
        204800,
        2,
    )
    assert (job["transExitCode"], job["pilotErrorCode"], job["actualCoreCount"]) == ("0", 0, 1)
    assert set(job["startTime"]) == {"__datetime__"}
    assert len(job) == 127
    assert len(kept.fields["stdout"]) == 2048
    assert kept.fields["startTime"] == END["startTime"]
    jobset_id = job["jobsetID"]
    assert upstream.v1("job/get_metadata_for_analysis_jobs", "GET", task_id=jobset_id)["data"] == {
        str(panda_id): {"n": 1}
    }


def test_a_payload_that_fails_fails_by_its_exit_code(world, upstream):
    panda_id = upstream.ready_job()
    offer = upstream.get_job()

    update(upstream, offer, "failed", pilotErrorCode="1305", transExitCode="3", pilotErrorDiag="it failed",
           pilotLog="the end")  # fmt: skip

    job = world.job(panda_id)
    assert (job["status"], job["error_code"], job["exit_code"]) == ("failed", "payload:3", 3)
    assert [row.name for row in world.query("SELECT name FROM job_logs")] == ["pilot"]


def test_what_the_payload_printed_is_taken_out_of_the_pilots_log_file(world, upstream):
    panda_id = upstream.ready_job()
    offer = upstream.get_job()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("tarball_PandaJob/payload.stdout")
        entry.size = 6
        archive.addfile(entry, io.BytesIO(b"hello\n"))
    write(world, offer | {"scopeOut": offer["scopeLog"]}, offer["logFile"], packed.getvalue())

    update(upstream, offer, "finished", xml="{}")

    with world.begin() as connection:
        log = Spool(world.settings.data_dir).read_log(connection, panda_id, "stdout", attempt_nr=1, offset=0, limit=99)
    assert log.content == b"hello\n"
    assert not [path for path in (world.settings.data_dir / "storage").rglob("*") if path.is_file()]
    world.settle()


def test_its_lease_is_two_hours_and_a_silence_of_one_is_none(world, upstream):
    panda_id = upstream.ready_job()
    offer = upstream.get_job()
    update(upstream, offer, "running")

    world.pass_time(3_600)
    world.sweep()
    assert world.status(panda_id) == "running"
    update(upstream, offer, "running")
    world.pass_time(5_000)
    world.sweep()
    assert world.status(panda_id) == "running"

    world.pass_time(2_300)
    world.sweep()
    assert world.status(panda_id) == "failed"
    assert update(upstream, offer, "running") == {"StatusCode": 0, "command": "alreadydone,tobekilled"}
    assert update(upstream, offer, "finished", xml="{}") == {"StatusCode": 0, "command": "alreadydone"}


def test_a_superseded_attempt_is_told_so_and_changes_nothing(world, upstream):
    panda_id = upstream.ready_job(max_attempts=2, outputs=["out.txt"])
    first = upstream.get_job()
    world.pass_time(8_000)
    world.sweep()
    world.settle()
    second = upstream.get_job()
    assert (first["attemptNr"], second["attemptNr"]) == (1, 2)
    assert first["scopeLog"] != second["scopeLog"]

    assert update(upstream, first, "running")["command"] == "badattemptnr,tobekilled"
    assert update(upstream, first, "finished", xml=json.dumps({"out.txt": {"fsize": 1, "adler32": "00000001"}})) == {
        "StatusCode": 0, "command": "badattemptnr",
    }  # fmt: skip

    assert world.status(panda_id) == "sent"
    xml = json.dumps({"out.txt": write(world, second, "out.txt", b"2")})
    update(upstream, second, "finished", xml=xml)
    world.settle()
    assert world.status(panda_id) == "finished"


def test_a_kill_goes_out_with_the_answer_and_comes_back_as_1144(world, upstream):
    panda_id = upstream.ready_job(owner="anonymous")
    offer = upstream.get_job()
    update(upstream, offer, "running")

    assert upstream.v1("job/kill", job_ids=[panda_id])["data"] == [True]
    assert update(upstream, offer, "running")["command"] == "tobekilled"
    assert upstream.v1("job/get_status", "GET", job_ids=[panda_id])["data"] == [
        {"status": "running", "command": "tobekilled"}
    ]
    update(upstream, offer, "failed", pilotErrorCode="1144")

    assert world.status(panda_id) == "cancelled"
    world.settle()


def test_debug_mode_is_told_and_its_tail_becomes_a_log(world, upstream):
    panda_id = upstream.ready_job(owner="anonymous")
    offer = upstream.get_job()

    assert upstream.v1("job/set_debug_mode", job_id=panda_id, mode=True)["message"] == "Succeeded"
    assert update(upstream, offer, "running")["command"] == "debug"
    update(upstream, offer, "running", stdout="line 1")
    update(upstream, offer, "running", stdout="line 2")

    [log] = world.query("SELECT name, size_bytes FROM job_logs")
    assert (log.name, log.size_bytes) == ("debug", 14)


def test_the_newer_pilots_dialect_is_packed_json_without_saying_so(upstream):
    upstream.ready_job()
    offer = upstream.get_job()
    said = {"jobId": offer["PandaID"], "attemptNr": 1, "state": "running", "coreCount": 1, "startTime": 1795368525.5}
    headers = {"Content-Type": "application/json", "User-Agent": "pilot/3.11.5.1 (Python 3.11.7; Linux x86_64)"}

    body = gzip.compress(json.dumps(said).encode())
    result = upstream.send("POST", "/server/panda/updateJob", body=body, headers=headers)

    assert result.json == {"StatusCode": 0, "command": "NULL"}
    upstream.ready_job()
    body = gzip.compress(json.dumps({"siteName": "NORTH-Q", "diskSpace": 10000, "mem": 3000.5}).encode())
    matching.forget()
    offer = upstream.send("POST", "/server/panda/getJob", body=body, headers=headers).json
    assert offer["transformation"] == "http://falconframework.org/trf/user/runGen"


def test_harvesters_take_jobs_and_report_in_bulk(world, upstream):
    ids = [upstream.ready_job(), upstream.ready_job()]
    matching.forget()
    got = upstream.v1("pilot/acquire_jobs", site_name="NORTH-Q", n_jobs=5, harvester_id="h1", worker_id=7,
                      resource_type="SCORE", node="n")  # fmt: skip
    assert [job["PandaID"] for job in got["data"]["jobs"]] == ids
    assert upstream.v1("pilot/acquire_jobs", site_name="NORTH-Q", n_jobs=5, node="n") == {
        "success": False, "message": "No jobs in PanDA", "data": None,
    }  # fmt: skip

    reports = [{"job_id": ids[0], "job_status": "running", "attempt_nr": 1},
               {"job_id": ids[1], "job_status": "failed", "attempt_nr": 1, "pilot_error_code": 1305,
                "trans_exit_code": 2},
               {"job_id": 999, "job_status": "running", "attempt_nr": 1}]  # fmt: skip
    answers = upstream.v1("pilot/update_jobs_bulk", job_list=reports, harvester_id="h1")["data"]

    assert [each["data"]["command"] for each in answers] == [None, None, "tobekilled"]
    assert [world.status(each) for each in ids] == ["running", "failed"]
    statuses = upstream.v1("pilot/get_job_status", "GET", job_ids=[*ids, 999])["data"]
    assert [each["status"] for each in statuses] == ["running", "failed", "not found"]
    text = upstream.legacy("getStatus", ids=f"{ids[0]},{ids[1]},999")
    assert text == "StatusCode=0&status=running+failed+notfound&attemptNr=1+1+0"
    done, items = upstream.legacy("updateJobsInBulk", jobList=json.dumps([{"jobId": ids[0], "state": "running"}]))
    assert (done, json.loads(items[0]["content"])) == (True, {"StatusCode": 0, "command": "NULL"})


def test_harvesters_report_on_themselves_and_hear_commands(world, upstream):
    beat = upstream.v1("harvester/heartbeat", harvester_id="h1", data={"sw_version": "0.7.5"})
    assert beat["success"]
    workers = [{"workerID": 41, "batchID": "x.1", "status": "running"}, {"workerID": 42, "status": "submitted"}]
    assert upstream.v1("harvester/update_workers", harvester_id="h1", workers=workers)["data"] == [True, True]
    assert upstream.v1("pilot/update_worker_status", worker_id=41, harvester_id="h1", status="started")["success"]
    assert upstream.v1("harvester/get_current_worker_id", "GET", harvester_id="h1")["data"] == 42
    statistics = json.dumps({"user": {"SCORE": {"running": 2}}})
    upstream.v1("harvester/report_worker_statistics", harvester_id="h1", panda_queue="NORTH-Q", statistics=statistics)
    assert upstream.v1("harvester/get_worker_statistics", "GET")["data"] == {
        "NORTH-Q": {"h1": {"user": {"SCORE": {"running": 2}}}}
    }
    dialog = {"diagID": 1, "moduleName": "m", "messageLevel": "ERROR", "diagMessage": "no"}
    assert upstream.v1("harvester/add_dialogs", harvester_id="h1", dialogs=[dialog])["success"]
    assert upstream.v1("harvester/update_service_metrics", harvester_id="h1", metrics=[["now", "host", {}]])["success"]
    with world.begin() as connection:
        number = harvesters.order(connection, "h1", "SYNC_WORKERS_KILL", {"a": 1}, ack_requested=True)
    [command] = upstream.v1("harvester/acquire_commands", harvester_id="h1", n_commands=5)["data"]
    assert (command["command_id"], command["command"], command["params"]) == (number, "SYNC_WORKERS_KILL", {"a": 1})
    assert upstream.v1("harvester/acquire_commands", harvester_id="h1", n_commands=5)["data"] == []
    assert upstream.v1("harvester/acknowledge_commands", command_ids=[number])["success"]
    [kept] = world.query("SELECT facts FROM upstream_notes WHERE key = '41'")
    assert (kept.facts["status"], kept.facts["pilotStatus"]) == ("running", "started")
    names = [each["resource_name"] for each in upstream.v1("metaconfig/get_resource_types", "GET")["data"]]
    assert names == ["SCORE", "SCORE_HIMEM", "MCORE", "MCORE_HIMEM"]
    upstream.ready_job()
    assert upstream.v1("statistics/active_job_stats_by_site", "GET")["data"] == {"NORTH-Q": {"activated": 1}}


def test_jobs_without_events_have_none(upstream):
    assert upstream.legacy("getEventRanges", pandaID=1, jobsetID=1) == {"StatusCode": 0, "eventRanges": []}
    ranges = json.dumps([{"eventRangeID": "1-2-3"}, {"eventRanges": [{}, {}]}])
    assert upstream.legacy("updateEventRanges", eventRanges=ranges)["Returns"] == [False] * 3
    assert upstream.v1("event/get_available_event_range_count", "GET", job_id=1)["data"] == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"jobId": "abc", "state": "running"}, "no whole number"),
        ({"state": "running"}, "no PandaID"),
        ({"jobId": "-4", "state": "running"}, "no PandaID"),
        ({"jobId": "1e400", "state": "running"}, "no whole number"),
        ({"state": "running", "attemptNr": "x"}, "no whole number"),
        ({"state": "running", "attemptNr": "70000"}, "no attempt 70000"),
        ({"state": "finished", "xml": "{half"}, "no JSON"),
        ({"state": "finished", "xml": '{"out.txt": {"fsize": "many", "adler32": "00000001"}}'}, "no whole number"),
    ],
)
def test_a_report_that_cannot_be_meant_is_refused_and_changes_nothing(world, upstream, words, problem):
    panda_id = upstream.ready_job(outputs=["out.txt"])
    upstream.get_job()
    said = {"jobId": panda_id} | words if "attemptNr" in words or "xml" in words else words

    answer = upstream.legacy("updateJob", **said)

    assert answer["StatusCode"] == 30
    assert problem in answer["errorDialog"]
    assert world.status(panda_id) == "sent"


def test_unknown_jobs_and_words_are_answered_like_upstream(upstream):
    assert upstream.legacy("updateJob", jobId=999, state="running", attemptNr=1)["command"] == "tobekilled"
    assert upstream.legacy("updateJob", jobId="NULL", state="running") == {"StatusCode": 0, "command": "NULL"}
    panda_id = upstream.ready_job()
    upstream.get_job()
    assert upstream.legacy("updateJob", jobId=panda_id, state="dancing", what="ever")["command"] == "NULL"
    assert upstream.get_job("NOWHERE") == {"StatusCode": 20, "errorDialog": "no jobs in PanDA"}
    result = upstream.send("POST", "/server/panda/killJobs", body=b"")
    assert (result.status_code, result.text) == (403, "ERROR : method killJobs is forbidden")


@pytest.mark.parametrize(
    ("body", "headers", "problem"),
    [
        (gzip.compress(b'{"siteName": "NORTH-Q"}', mtime=0)[:-9], {"Content-Type": "application/json"}, "cut short"),
        (pickle.dumps({"siteName": "NORTH-Q"}), {"Content-Type": "application/octet-stream"}, "pickle"),
        (pickle.dumps({"siteName": "NORTH-Q"}, 0), {"Content-Type": "application/x-www-form-urlencoded"}, "site_name"),
        (b"[1]", {"Content-Type": "application/json"}, "no object"),
        (b"\xff\xfe", {"Content-Type": "application/x-www-form-urlencoded"}, "no form"),
        (b"[" * 100_000, {"Content-Type": "application/json"}, "no JSON"),
        (b"<a/>", {"Content-Type": "application/xml"}, "not read here"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(upstream, body, headers, problem):
    result = upstream.send("POST", "/server/panda/getJob", body=body, headers=headers)

    assert result.status_code == 200
    assert result.json["StatusCode"] == 30
    assert problem in result.json["errorDialog"]


def test_a_pilots_token_opens_its_own_queue_alone(world):
    upstream = Upstreamer(world, anonymous=False)
    panda_id = upstream.ready_job("SOUTH-Q")
    north, south = upstream.token("p", "pilot", queue="NORTH-Q"), upstream.token("q", "pilot", queue="SOUTH-Q")
    assert upstream.send("POST", "/server/panda/getJob", body=b"").status_code == 403
    assert upstream.get_job("SOUTH-Q", token=north)["StatusCode"] == 70
    assert upstream.get_job("SOUTH-Q", token=south)["PandaID"] == panda_id

    refused = upstream.legacy("updateJob", jobId=panda_id, state="failed", attemptNr=1, token=north)

    assert refused["StatusCode"] == 70
    assert world.status(panda_id) == "sent"
    user = upstream.token("maria", "user")
    assert upstream.send("POST", "/server/panda/getJob", body=b"", token=user).status_code == 403


def test_a_guest_is_only_who_calls_from_this_machine(world):
    upstream = Upstreamer(world)

    near = upstream.send("POST", "/server/panda/getJob", body=b"siteName=X")
    far = upstream.send("POST", "/server/panda/getJob", body=b"siteName=X", remote_addr="10.0.0.7")
    through = upstream.send("POST", "/server/panda/getJob", body=b"siteName=X", headers={"X-Forwarded-For": "10.0.0.7"})

    assert (near.status_code, far.status_code, through.status_code) == (200, 403, 403)
    assert upstream.send("GET", "/v1/jobs").status_code == 401


def test_a_lease_of_ours_cannot_be_used_with_upstreams_words(world, upstream):
    panda_id = upstream.ready_job()
    [job] = world.acquire(queue="NORTH-Q")

    answer = upstream.legacy("updateJob", jobId=panda_id, state="finished", attemptNr=1, xml="{}")

    assert answer["command"] == "badattemptnr"
    assert world.status(panda_id) == "sent"
    assert world.report(job, "finished").outcome == "ok"
    world.settle()


def test_while_the_database_is_away_a_pilot_asks_and_reports_again(world):
    nowhere = begin_of(make_engine("postgresql://panda@/none?host=/nowhere"))
    settings = replace(world.settings, upstream=Upstream(enabled=True, anonymous=True))
    app = TestClient(create_app(nowhere, settings))
    near = {"remote_addr": "127.0.0.1", "headers": {"Accept": "application/json"}}

    asked = app.simulate_post("/server/panda/getJob", query_string="siteName=X", **near)
    reported = app.simulate_post("/server/panda/updateJob", query_string="jobId=1&state=running", **near)

    assert (asked.status_code, asked.json["StatusCode"]) == (200, 20)
    assert (reported.status_code, reported.headers["content-type"]) == (503, "text/plain; charset=utf-8")


def test_without_the_switch_nothing_of_it_is_there(world):
    app = TestClient(create_app(world.begin, world.settings))

    assert app.simulate_get("/api/v1/system/is_alive").status_code == 404
    assert app.simulate_post("/server/panda/getJob").status_code == 404

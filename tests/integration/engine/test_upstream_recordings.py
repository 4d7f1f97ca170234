"""What upstream's released clients were recorded to say, said again; the answers are compared with what they got.

The recordings' other side was a stub with upstream's answers. `DIFFERENT` lists every answer that is meant to be
another one here, and why; docs/how-to/coming-from-panda.md says the same to people.
"""

import gzip
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from upstreamcalls import Upstreamer

RECORDED = sorted((Path(__file__).parents[2] / "data" / "upstream").glob("*.json"))
NO_TASKS = {"success": False, "message": "this server has no tasks and no workflows; submit jobs", "data": None}
NO_WORKFLOWS = [False, "this server has no tasks and no workflows; submit jobs"]
#: What is answered instead, by the method's name.
DIFFERENT = {
    # the task side: upstream's envelope of a refusal
    "task/*": NO_TASKS,
    "workflow/*": NO_TASKS,
    "file_server/upload_file_recovery_request": NO_TASKS,
    "relay_idds_command": NO_WORKFLOWS,
    "execute_idds_workflow_command": NO_WORKFLOWS,
    "put_workflow_request": NO_WORKFLOWS,
    # the stub pretended that the range existed
    "event/update_event_ranges": {
        "success": True, "message": "", "data": {"StatusCode": 0, "Returns": [False], "Command": {}},
    },
    # upstream's real server says no in both words
    "file_server/validate_cache_file": {"success": False, "message": "NOTFOUND:", "data": None},
}  # fmt: skip
#: What the stub's queues did not say, and CRIC's do.
TOLD_TOO = {"cloud", "corepower", "minrss", "mintime"}
#: Words of getJob that belong to the job at hand, not to the protocol.
OF_THE_JOB = {
    "PandaID", "jobName", "jobPars", "transformation", "cloud", "outFiles", "destinationDblock", "realDatasets",
    "scopeOut", "scopeLog", "logFile", "logGUID", "ddmEndPointOut", "prodUserID", "processingType", "taskID", "jobsetID",
    "currentPriority", "minRamCount", "maxDiskCount", "maxWalltime", "reqID", "jobDefinitionID",
}  # fmt: skip


def method(recorded):
    path = urlsplit(recorded["target"]).path
    return path.removeprefix("/server/panda/").removeprefix("/api/v1/")


def different(name):
    return DIFFERENT.get(name) or DIFFERENT.get(name.partition("/")[0] + "/*")


@pytest.fixture
def upstream(world):
    return Upstreamer(world)


def prepare(upstream, recorded):
    """What the stub had when it was asked."""
    name, said = method(recorded), recorded["body_parsed"] or {}
    if name == "getJob":
        upstream.ready_job(said["siteName"], outputs=["out.1002.txt"])
    elif name == "updateJob":
        job, queue = int(said["jobId"]), said["siteName"]
        outputs = [lfn for lfn in json.loads(said.get("xml", "{}")) if lfn.startswith("out.")]
        upstream.ready_job(queue, panda_id=job, outputs=outputs)
        offer = upstream.get_job(queue)
        assert offer["PandaID"] == job
        if said.get("pilotErrorCode") == "1144":
            upstream.world.query("UPDATE jobs SET kill_requested_at = panda_now() RETURNING 1")
    elif name == "job/submit":
        upstream.queue("LOCAL_TEST")
        upstream.next_panda_id(1004)
    elif name.startswith("job/"):
        upstream.ready_job("LOCAL_TEST", panda_id=1004, owner="anonymous", outputs=["out.txt"])
    elif name.startswith("/cache/schedconfig"):
        upstream.queue("Q1")
    elif name.startswith("/cache/sources"):
        replay(upstream, next(each for each in map(load, RECORDED) if "upload_cache_file" in each["path"]))


def load(file):
    return json.loads(file.read_text())


def replay(upstream, recorded):
    raw = (recorded["body_raw"] or "").encode()
    headers = {n: v for n, v in recorded["headers"].items()
               if n in ("Accept", "Content-Type", "User-Agent", "Origin")}  # fmt: skip
    if "multipart" in headers.get("Content-Type", ""):
        boundary = headers["Content-Type"].partition("boundary=")[2]
        packed = gzip.compress(b"hello", mtime=0)
        raw = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="sources.test.tar.gz"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode() + packed + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip
    if recorded["body_was_gzip"]:
        raw = gzip.compress(raw)
    parts = urlsplit(recorded["target"])
    return upstream.send(recorded["method"], parts.path, query_string=parts.query, body=raw, headers=headers)


def shape(value):
    """Types all the way down; what is null may be anything."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    return type(value).__name__


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_what_was_recorded_is_answered(upstream, file):
    recorded = load(file)
    name = method(recorded)
    prepare(upstream, recorded)

    result = replay(upstream, recorded)

    expected = different(name) or recorded["response"]
    assert result.status_code == (200 if different(name) else recorded["response_status"]), result.text
    compare(name, result, expected)


def compare(name, result, expected):
    if name == "getJob":
        compare_offer(result.json, expected)
    elif name.startswith("job/get_description"):
        compare_description(result.json["data"][0], expected["data"][0])
    elif name == "system/get_attributes":
        assert set(result.json["data"]) == set(expected["data"])
        assert set(expected["data"]["environment"]) <= set(result.json["data"]["environment"])
    elif name.startswith("/cache/schedconfig"):
        found, [recorded] = result.json, [expected.get("Q1", expected)]
        found = found.get("Q1", found)
        assert shape({key: value for key, value in found.items() if key not in TOLD_TOO}) == shape(recorded)
        same = {
            "nickname",
            "panda_resource",
            "state",
            "status",
            "type",
            "copytools",
            "acopytools",
            "catchall",
            "params",
        }
        assert {each: found[each] for each in same} == {each: recorded[each] for each in same}
    elif name == "/cache/ddmendpoints.json":
        assert set(result.json) == {"NORTH-DISK", "SOUTH-DISK"}
        assert shape(result.json["NORTH-DISK"]) == shape(expected["LOCAL_DATADISK"])
    elif name.startswith("/trf/"):
        assert result.text.startswith("#!/usr/bin/env python3")
    elif name.startswith("/cache/"):
        assert gzip.decompress(result.content) == b"hello"
    else:
        assert result.json == expected


def compare_offer(found, expected):
    """Every word is there, of the same kind, and those that are not the job's own are equal."""
    assert set(found) - set(expected) <= {"maxCpuCount"}
    assert set(expected) <= set(found)
    assert {each: shape(found[each]) for each in expected} == shape(expected)
    assert {n: found[n] for n in expected if n not in OF_THE_JOB} == {
        n: v for n, v in expected.items() if n not in OF_THE_JOB
    }
    n_files = len(found["outFiles"].split(","))
    for each in ("destinationDblock", "realDatasets", "ddmEndPointOut", "dispatchDBlockTokenForOut"):
        assert len(found[each].split(",")) == n_files
    assert len(found["scopeOut"].split(",")) == n_files - 1
    assert found["outFiles"].split(",")[-1] == found["logFile"]


def compare_description(found, expected):
    assert found["PandaID"] == expected["PandaID"]
    assert found["computingSite"] == expected["computingSite"]
    assert found["jobStatus"] == expected["jobStatus"]
    assert set(expected["Files"][0]) <= set(found["Files"][0])
    assert (found["Files"][0]["lfn"], found["Files"][0]["type"]) == ("out.txt", "output")

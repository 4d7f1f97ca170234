"""panda-client's jobs: attribute lists in, descriptions out, kills, sandboxes, secrets; and who may do what to whose."""

import gzip
import hashlib
import json
import struct

import pytest
from upstreamcalls import Upstreamer, plain

from panda.auth import secrets
from panda.dataservice import catalog
from panda.upstream.words import FILE_ATTRIBUTES, JOB_ATTRIBUTES

TRF = "http://pandaserver-doma.cern.ch:25080/trf/user/runGen-00-00-02"
BOUNDARY = "b0undary"


@pytest.fixture
def upstream(world):
    return Upstreamer(world, anonymous=False)


@pytest.fixture
def maria(upstream):
    return upstream.token("maria", "user")


def file(lfn, kind="output", dataset="user.maria.out", **said):
    return [*plain(FILE_ATTRIBUTES, {"lfn": lfn, "type": kind, "dataset": dataset} | said), None]


def job(*files, queue="NORTH-Q", **said):
    words = {"jobDefinitionID": 7, "jobName": "myjob", "transformation": TRF, "computingSite": queue,
             "jobParameters": "-p echo", "currentPriority": 1000, "maxAttempt": 1} | said  # fmt: skip
    return [*plain(JOB_ATTRIBUTES, words), list(files)]


def submit(upstream, token, *jobs):
    return upstream.v1("job/submit", jobs=json.dumps(jobs), token=token)


def upload(upstream, token, name, content, part="file"):
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{part}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()  # fmt: skip
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return upstream.send("POST", "/api/v1/file_server/upload_cache_file", body=body, headers=headers, token=token).json


def test_submitted_jobs_become_job_sets_by_queue_and_dataset(world, upstream, maria):
    answer = submit(
        upstream, maria,
        job(file("a.txt"), file("a.log.tgz", "log")),
        job(file("b.txt", dataset="user.maria.other")),
        job(file("c.txt"), queue="SOUTH-Q"),
        job(file("d.txt"), jobDefinitionID=8, coreCount=2, minRamCount="3000"),
    )  # fmt: skip
    world.settle()

    data = answer["data"]
    assert [each[1] for each in data] == [7, 7, 7, 8]
    sets = [each[2]["jobsetID"] for each in data]
    assert sets[0] == sets[3]
    assert len(set(sets)) == 3
    assert len({each[0] for each in data}) == 4
    rows = {row.panda_id: row for row in world.query(
        "SELECT j.panda_id, j.owner, j.computing_site, s.cores, s.memory_mb, f.did FROM jobs j JOIN shapes s USING (shape_id)"
        " JOIN job_files f USING (panda_id)")}  # fmt: skip
    assert {row.owner for row in rows.values()} == {"maria"}
    assert [rows[each[0]].did for each in data] == [
        "user.maria:user.maria.out", "user.maria:user.maria.other", "user.maria:user.maria.out", "user.maria:user.maria.out",
    ]  # fmt: skip
    assert rows[data[2][0]].computing_site == "SOUTH-Q"
    assert (rows[data[3][0]].cores, rows[data[3][0]].memory_mb) == (2, 3000)


def test_upstreams_pilot_gets_what_was_submitted(world, upstream, maria):
    upstream.v1("creds/set_user_secrets", key="k", value="v", token=maria)
    [[panda_id, _, _]] = submit(
        upstream, maria, job(file("a.txt"), file("a.log.tgz", "log"), specialHandling="us", cmtConfig="x86_64")
    )["data"]
    world.settle()
    pilot = upstream.token("p", "pilot")

    offer = upstream.get_job(token=pilot)

    assert (offer["PandaID"], offer["transformation"], offer["jobPars"]) == (panda_id, TRF, "-p echo")
    assert (offer["outFiles"], offer["logFile"]) == ("a.txt,a.log.tgz", "a.log.tgz")
    assert (offer["realDatasets"], offer["jobDefinitionID"], offer["cmtConfig"]) == (
        "user.maria.out,user.maria.out", 7, "x86_64",
    )  # fmt: skip
    assert json.loads(offer["secrets"]) == {"k": "v"}
    assert offer["prodUserID"] == "maria"


def test_our_pilot_gets_the_runner_in_a_sandbox(world, upstream, maria):
    [[panda_id, _, _]] = submit(upstream, maria, job(file("a.txt")))["data"]
    world.settle()

    [offer] = world.acquire(queue="NORTH-Q")

    assert offer.panda_id == panda_id
    assert offer.command == ["/usr/bin/env", "python3", "./runGen", "--trf", TRF, "--pars", "-p echo"]
    result = upstream.send("GET", f"/cache/sandbox.{offer.sandbox}.tar.gz")
    assert hashlib.sha256(result.content).hexdigest() == offer.sandbox
    world.report(offer, "failed", error_code=1305, exit_code=1)


def test_a_description_has_every_attribute_and_null_for_what_was_not_said(world, upstream, maria):
    [[panda_id, _, _]] = submit(upstream, maria, job(file("a.txt"), file("a.log.tgz", "log"), processingType="mine"))[
        "data"
    ]
    world.settle()

    [found, unknown] = upstream.v1("job/get_description_incl_archive", job_ids=[panda_id, 999], token=maria)["data"]

    assert unknown is None
    assert set(found) == {*JOB_ATTRIBUTES, "Files"}
    assert (found["jobStatus"], found["processingType"], found["transformation"]) == ("activated", "mine", TRF)
    assert (found["pilotErrorCode"], found["pilotErrorDiag"], found["VO"]) == (0, None, None)
    assert [(each["lfn"], each["type"]) for each in found["Files"]] == [("a.txt", "output"), ("a.log.tgz", "log")]


def test_other_peoples_jobs_can_neither_be_seen_nor_killed_nor_debugged(world, upstream, maria):
    [[panda_id, _, _]] = submit(upstream, maria, job(file("a.txt")))["data"]
    world.settle()
    piet = upstream.token("piet", "user")

    assert upstream.v1("job/get_description", job_ids=[panda_id], token=piet)["data"] == [None]
    assert upstream.v1("job/kill", job_ids=[panda_id], token=piet)["data"] == [False]
    debug = upstream.v1("job/set_debug_mode", job_id=panda_id, mode=True, token=piet)
    assert (debug["success"], "may not" in debug["message"]) == (False, True)
    [row] = world.query("SELECT jobset_id FROM jobs")
    metadata = upstream.v1("job/get_metadata_for_analysis_jobs", "GET", task_id=row.jobset_id, token=piet)
    assert not metadata["success"]
    assert world.status(panda_id) == "activated"
    assert upstream.v1("job/kill", job_ids=[panda_id, 999], token=maria)["data"] == [True, False]
    assert world.status(panda_id) == "cancelled"
    world.settle()


@pytest.mark.parametrize(
    ("jobs", "problem"),
    [
        ("(dp0\nS'a'\n.", "no JSON"),
        ("[]", "no list of jobs"),
        ("{}", "no list of jobs"),
        ("[[]]", "no list of attributes"),
        ('[["NULL", 1, {}]]', "no list of attributes"),
        (json.dumps([job("file")]), "no list of attributes"),
        (json.dumps([job(file("../etc/passwd"))]), "no name"),
        (json.dumps([job(file("a.txt", "poem"))]), "type poem"),
        (json.dumps([job(file("a.txt"), minRamCount="much")]), "no whole number"),
        (json.dumps([job(file("a.txt"), transformation="NULL")]), "without a transformation"),
        (json.dumps([job(file("a.txt"), file("b.txt", dataset="user.maria.two"))]), "several datasets"),
        (json.dumps([job(file("a.txt", dataset="bad name"))]), "no name"),
        (json.dumps([job(file("a.txt")), job(file("b.txt", dataset="user.piet.his"))]), "belongs to piet"),
    ],
)
def test_jobs_that_cannot_be_meant_are_refused_and_none_is_kept(world, upstream, maria, jobs, problem):
    with world.begin() as connection:
        catalog.create(connection, "user.piet:user.piet.his", owner="piet")

    answer = upstream.v1("job/submit", jobs=jobs, token=maria)

    assert not answer["success"]
    assert problem in answer["message"]
    assert world.query("SELECT 1 FROM jobsets") == []
    assert world.query("SELECT 1 FROM upstream_jobs") == []


def test_words_of_the_wrong_type_and_missing_ones_are_told_apart(upstream, maria):
    assert upstream.v1("job/kill", token=maria)["message"].startswith("Argument error: ")
    assert upstream.v1("job/kill", job_ids="many", token=maria)["message"].startswith("Type error: ")
    assert upstream.v1("job/kill", job_ids=[0], token=maria)["message"].endswith("a PandaID is above 0")
    assert upstream.v1("job/kill", "GET", token=maria)["message"] == "expecting POST, received GET"
    assert upstream.v1("job/submit", jobs=[1], token=maria)["message"].startswith("Type error: ")


def test_a_sandbox_is_found_again_by_its_checksum_and_fetched_by_name(upstream, maria):
    packed = gzip.compress(b"hello" * 100)
    checksum = struct.unpack("<II", packed[-8:])[0]
    words = {"file_size": len(packed), "checksum": checksum}

    assert upstream.v1("file_server/validate_cache_file", **words, token=maria)["message"] == "NOTFOUND:"
    assert upload(upstream, maria, "./sources.1.tar.gz", packed)["success"]
    found = upstream.v1("file_server/validate_cache_file", **words, token=maria)

    assert found["success"]
    assert found["message"].endswith(":sources.1.tar.gz")
    assert upstream.send("GET", "/cache/sources.1.tar.gz").content == packed
    piet = upstream.token("piet", "user")
    assert upstream.v1("file_server/validate_cache_file", **words, token=piet)["message"] == "NOTFOUND:"
    assert "somebody else" in upload(upstream, piet, "sources.1.tar.gz", b"other bytes")["message"]
    assert upstream.send("GET", "/cache/sources.1.tar.gz").content == packed
    assert upstream.send("GET", "/cache/sources.2.tar.gz").status_code == 404


def test_uploads_are_taken_up_to_their_cap_and_no_further(world, maria):
    upstream = Upstreamer(world, anonymous=False, max_sources_mb=2, max_file_mb=1)

    assert upload(upstream, maria, "sources.a.tgz", b"x" * 2_000_000)["success"]
    assert "at most 2000000 bytes" in upload(upstream, maria, "sources.b.tgz", b"x" * 2_000_001)["message"]
    assert upload(upstream, maria, "jobO.a.tgz", b"x" * 1_000_000)["success"]
    assert "at most 1000000 bytes" in upload(upstream, maria, "jobO.b.tgz", b"x" * 1_000_001)["message"]
    assert upstream.send("GET", "/cache/jobO.b.tgz").status_code == 404


@pytest.mark.parametrize(
    ("name", "part", "problem"),
    [("..", "file", "no name"), ("a b", "file", "no name"), ("a.tgz", "poem", "no part named")],
)
def test_an_upload_without_a_proper_name_is_refused(upstream, maria, name, part, problem):
    assert problem in upload(upstream, maria, name, b"x", part)["message"]


def test_an_upload_that_breaks_off_leaves_nothing(world, upstream, maria):
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.tgz"\r\n\r\nhal'.encode()

    answer = upstream.send("POST", "/api/v1/file_server/upload_cache_file", body=body, headers=headers, token=maria)

    assert answer.json["success"] is False
    assert world.query("SELECT 1 FROM upstream_files") == []


def test_secrets_belong_to_their_owner(upstream, maria):
    piet = upstream.token("piet", "user")
    upstream.v1("creds/set_user_secrets", key="k", value="v", token=maria)

    assert json.loads(upstream.v1("creds/get_user_secrets", "GET", token=maria)["data"]) == {"k": "v"}
    assert json.loads(upstream.v1("creds/get_user_secrets", "GET", token=piet)["data"]) == {}
    assert "at most" in upstream.v1("creds/set_user_secrets", key="k", value="v" * 10_001, token=maria)["message"]


SECRET = "tr0ub4dor&3"


def test_a_secret_is_sealed_at_rest_and_stands_nowhere_else(world, upstream, maria, capfd):
    upstream.v1("creds/set_user_secrets", key="grid", value=SECRET, token=maria)
    [[panda_id, _, _]] = submit(upstream, maria, job(file("a.txt"), specialHandling="us"))["data"]
    world.settle()
    offer = upstream.get_job(token=upstream.token("p", "pilot"))
    upstream.v1("creds/get_user_secrets", "GET", token=maria)

    assert json.loads(offer["secrets"]) == {"grid": SECRET}
    tables = [row.name for row in world.query("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")]
    holding = [t for t in tables if world.query(f"SELECT 1 FROM {t} x WHERE strpos(x::text, %(s)s) > 0", s=SECRET)]
    assert holding == []
    shown = [
        upstream.v1("job/get_description", job_ids=[panda_id], token=maria),
        upstream.send("GET", f"/v1/jobs/{panda_id}", token=maria).json,
        upstream.send("GET", f"/v1/jobs/{panda_id}/events", token=maria).json,
    ]
    assert SECRET not in json.dumps(shown) + "".join(capfd.readouterr())
    assert (world.settings.data_dir / "secrets.key").stat().st_mode & 0o777 == 0o600


def test_secrets_live_through_a_change_of_keys(world, upstream, maria):
    vault = secrets.vault_of(world.settings.data_dir)
    for name in ("one", "two", "three"):
        upstream.v1("creds/set_user_secrets", key=name, value=SECRET, token=maria)
    world.query("INSERT INTO upstream_secrets VALUES ('piet', 'old', 'from before') RETURNING 1")
    world.query("INSERT INTO upstream_secrets VALUES ('piet', 'lost', 'sealed:1:00000000:AAAA') RETURNING 1")

    assert secrets.rotate(world.begin, vault, by="root") == (4, 1)
    assert secrets.rotate(world.begin, vault, by="root") == (4, 1)

    stored = {row.key: row.value for row in world.query("SELECT key, value FROM upstream_secrets")}
    assert all(vault.is_fresh(value) for key, value in stored.items() if key != "lost")
    assert json.loads(upstream.v1("creds/get_user_secrets", "GET", token=maria)["data"]) == dict.fromkeys(
        ("one", "two", "three"), SECRET
    )
    with world.begin() as connection:
        assert secrets.of(connection, vault, "piet") == {"old": "from before"}
    assert [row.action for row in world.query("SELECT action FROM audit_log WHERE who = 'root'")] == [
        "rotate_secrets"
    ] * 2


def test_a_key_that_others_can_read_opens_nothing_and_loses_no_job(world, upstream, maria):
    upstream.v1("creds/set_user_secrets", key="k", value=SECRET, token=maria)
    submit(upstream, maria, job(file("a.txt"), specialHandling="us"))
    world.settle()
    (world.settings.data_dir / "secrets.key").chmod(0o644)

    told = upstream.v1("creds/get_user_secrets", "GET", token=maria)
    offer = upstream.get_job(token=upstream.token("p", "pilot"))

    assert (told["success"], "can be read by others" in told["message"]) == (False, True)
    assert (offer["StatusCode"], "secrets" in offer) == (0, False)


def test_the_server_says_who_is_asking_and_not_with_which_token(upstream, maria):
    data = upstream.v1("system/get_attributes", "GET", a="1", token=maria)["data"]

    assert data["environment"]["SSL_CLIENT_S_DN"] == "maria"
    assert data["params"] == {"a": "1"}
    assert maria not in json.dumps(data)


def test_a_wrong_token_is_told_in_text(upstream):
    result = upstream.send("GET", "/api/v1/creds/get_user_secrets", token="panda_wrong")

    assert (result.status_code, result.headers["content-type"]) == (403, "text/plain; charset=utf-8")
    assert result.text.startswith("ERROR : ")


def test_payload_runners_of_the_operator_are_served_and_nothing_else(world, upstream):
    (world.settings.data_dir / "trf").mkdir(parents=True)
    (world.settings.data_dir / "trf" / "buildGen-00-00-01").write_text("#!/bin/sh\n")

    assert upstream.send("GET", "/trf/user/buildGen-00-00-01").text == "#!/bin/sh\n"
    assert upstream.send("GET", "/trf/user/runGen-00-00-02").text.startswith("#!/usr/bin/env python3")
    assert upstream.send("GET", "/trf/user/rmGen").status_code == 404
    assert upstream.send("GET", "/trf/user/..").status_code in (404, 422)

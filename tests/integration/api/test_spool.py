"""Sandboxes and logs: bytes that come whole, or not at all."""

import errno
import gzip
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from falcon.testing import TestClient

from panda.api.app import create_app
from panda.db.session import rows
from panda.jobs import spool

CONTENT = gzip.compress(b"print('hello')" * 1000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def put(anna, content=CONTENT, sha256=SHA256, **options):
    return anna("PUT", f"/v1/sandboxes/{sha256}", body=content, **options)


def files_in(settings):
    return [path for path in (settings.data_dir / "spool").rglob("*") if path.is_file()]


def test_a_sandbox_comes_back_as_it_went_in(anna, pilot):
    first, again = put(anna), put(anna)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == {"sha256": SHA256, "size_bytes": len(CONTENT)}
    answer = pilot.get(f"/v1/sandboxes/{SHA256}")
    assert answer.content == CONTENT
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_head_tells_whether_a_sandbox_is_here(anna):
    assert anna("HEAD", f"/v1/sandboxes/{SHA256}").status_code == 404
    put(anna)
    answer = anna("HEAD", f"/v1/sandboxes/{SHA256}")
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(CONTENT)))


def test_bytes_with_another_hash_are_not_kept(anna, begin, settings):
    answer = put(anna, content=b"something else")

    assert (answer.status_code, answer.json["code"]) == (422, "hash_mismatch")
    assert files_in(settings) == []
    with begin() as connection:
        assert rows(connection, "SELECT 1 FROM spool_objects") == []


def test_an_upload_that_breaks_off_is_not_kept(anna, settings):
    answer = put(anna, content=CONTENT[:-5], headers={"Content-Length": str(len(CONTENT))})

    assert (answer.status_code, answer.json["code"]) == (400, "cut_short")
    assert files_in(settings) == []


def test_an_endless_upload_ends_at_the_cap(anna, begin, settings, endless):
    small = replace(settings, api=replace(settings.api, max_upload_mb=1))
    client = TestClient(create_app(begin, small))

    answer = client.simulate_put(
        f"/v1/sandboxes/{SHA256}", headers={"Authorization": f"Bearer {anna.token}"},
        extras={"wsgi.input": endless, "wsgi.input_terminated": True},
    )  # fmt: skip

    assert (answer.status_code, answer.json["code"]) == (413, "too_large")
    assert endless.n_read < 2_000_000
    assert files_in(settings) == []


@pytest.mark.parametrize("sha256", ["x" * 64, "AB" * 32, "a" * 63, "..", "%2e%2e%2f%2e%2e"])
def test_the_client_does_not_choose_the_name(anna, settings, sha256):
    assert put(anna, sha256=sha256).status_code in (404, 422)
    assert not (settings.data_dir / "spool").exists()


def test_a_full_disk_gets_its_own_answer(anna, settings, monkeypatch):
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "_sync_folder", full)

    answer = put(anna)

    assert (answer.status_code, answer.json["code"]) == (507, "storage_full")
    assert answer.headers["Retry-After"] == "60"


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO, errno.EMFILE])
def test_a_disk_that_cannot_be_used_is_a_clear_answer_and_nothing_is_kept(anna, settings, monkeypatch, code):
    def broken(path: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(spool, "_sync_folder", broken)
    answer = put(anna)
    monkeypatch.undo()

    assert (answer.status_code, answer.json["code"]) == (503, "spool_down")
    assert answer.headers["Retry-After"] == "60"
    assert put(anna).status_code == 201


# ---- logs -----------------------------------------------------------------------------------


@pytest.fixture
def job(anna, engine, sites, acquire):
    """A job that a pilot has."""
    panda_id = anna.submit().json["first_panda_id"]
    engine.expand()
    engine.activate(panda_id)
    return acquire(1)[0]


@pytest.fixture
def append(pilot, job):
    def send(offset, chunk, *, token=None, attempt_nr=1, name="payload.stdout"):
        return pilot(
            "PUT", f"/v1/pilots/logs/{job['panda_id']}/{attempt_nr}/{name}", query_string=f"offset={offset}",
            body=chunk, headers={"X-Lease-Token": token or job["token"]},
        )  # fmt: skip

    return send


@pytest.fixture
def log(anna, job):
    def read(name="payload.stdout", **options):
        return anna.get(f"/v1/jobs/{job['panda_id']}/logs/{name}", **options)

    return read


def test_a_log_grows_chunk_by_chunk_and_can_be_read_meanwhile(append, log, anna, job):
    assert append(0, b"hello ").json["size_bytes"] == 6
    assert log().content == b"hello "
    assert append(6, b"world\n").json["size_bytes"] == 12

    answer = log()

    assert answer.content == b"hello world\n"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Log-Size"] == "12"
    listed = anna.get(f"/v1/jobs/{job['panda_id']}/logs").json["data"]
    assert [(each["name"], each["attempt_nr"], each["size_bytes"]) for each in listed] == [("payload.stdout", 1, 12)]


def test_a_chunk_that_came_before_changes_nothing(append, log):
    append(0, b"hello ")
    append(6, b"world")

    assert append(0, b"hello ").json["size_bytes"] == 11
    assert append(6, b"world").json["size_bytes"] == 11
    assert log().content == b"hello world"


def test_a_chunk_that_came_in_part_is_completed(append, log):
    append(0, b"hello ")

    assert append(3, b"lo world").json["size_bytes"] == 11
    assert log().content == b"hello world"


def test_a_chunk_that_the_disk_did_not_take_is_not_counted_and_comes_again(append, log, monkeypatch):
    append(0, b"hello ")

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool.os, "pwrite", broken)
    refused = append(6, b"world")
    monkeypatch.undo()

    assert (refused.status_code, refused.json["code"]) == (503, "spool_down")
    assert log().content == b"hello "
    assert append(6, b"world").json["size_bytes"] == 11


def test_a_gap_is_refused_and_told_where_to_go_on(append, log):
    append(0, b"hello ")

    answer = append(100, b"far")

    assert (answer.status_code, answer.json["code"], answer.json["size_bytes"]) == (409, "log_gap", 6)
    assert log().content == b"hello "


def test_only_the_holder_of_the_lease_writes(append, log):
    wrong = append(0, b"x", token="somebody-elses")
    old = append(0, b"x", attempt_nr=2)

    assert (wrong.status_code, wrong.json["code"]) == (409, "stale_lease")
    assert (old.status_code, old.json["code"]) == (409, "stale_lease")
    assert log().status_code == 404


def test_after_the_final_report_nothing_is_taken_any_more(append, pilot, job):
    append(0, b"hello")
    report = {"panda_id": job["panda_id"], "attempt_nr": 1, "token": job["token"], "status": "finished"}
    pilot.post("/v1/pilots/update", {"pilot_id": "pilot-1", "reports": [report]})

    assert append(5, b" world").json["code"] == "stale_lease"


def test_a_log_has_a_cap_and_an_attempt_so_many_logs(append, monkeypatch):
    monkeypatch.setattr(spool, "MAX_LOG_BYTES", 10)
    monkeypatch.setattr(spool, "MAX_LOGS", 2)

    assert append(0, b"0123456789").status_code == 200
    assert append(10, b"x").json["code"] == "too_large"
    assert append(0, b"x", name="b").status_code == 200
    assert append(0, b"x", name="c").json["code"] == "too_large"


@pytest.mark.parametrize("name", ["..", "-x", ".hidden", "a%00b", "a b"])
def test_a_log_has_a_plain_name(append, name, settings):
    assert append(0, b"x", name=name).status_code in (400, 422)
    assert files_in(settings) == []


def test_a_chunk_without_a_lease_token_is_no_request(pilot, job):
    answer = pilot("PUT", f"/v1/pilots/logs/{job['panda_id']}/1/payload.stdout", body=b"x")

    assert (answer.status_code, answer.json["where"]) == (400, "X-Lease-Token")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("offset=6", b"world"),
        ("offset=6&limit=3", b"wor"),
        ("offset=-5", b"world"),
        ("offset=-500", b"hello world"),
        ("offset=500", b""),
        ("attempt=1", b"hello world"),
    ],
)
def test_a_log_is_read_from_where_it_is_asked_for(append, log, query, expected):
    append(0, b"hello world")

    assert log(query_string=query).content == expected


@pytest.mark.parametrize(
    ("asked", "status", "told", "expected"),
    [
        ("bytes=6-", 206, "bytes 6-10/11", b"world"),
        ("bytes=0-4", 206, "bytes 0-4/11", b"hello"),
        ("bytes=-5", 206, "bytes 6-10/11", b"world"),
        ("bytes=11-", 416, "bytes */11", b""),
    ],
)
def test_a_range_of_a_log_is_served(append, log, asked, status, told, expected):
    append(0, b"hello world")

    answer = log(headers={"Range": asked})

    assert (answer.status_code, answer.headers["Content-Range"], answer.content) == (status, told, expected)


def test_a_range_that_is_none_is_a_bad_request(append, log):
    append(0, b"hello world")

    assert log(headers={"Range": "bytes=x-y"}).json["where"] == "Range"


def test_each_attempt_keeps_its_own_log(append, log, engine, acquire, pilot, job):
    append(0, b"first try")
    engine.fail(job["panda_id"])

    assert log(query_string="attempt=1").content == b"first try"
    assert log(query_string="attempt=2").status_code == 404

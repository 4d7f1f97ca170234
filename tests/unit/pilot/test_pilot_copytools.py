"""Copytools: both kinds of URL, whole files or none."""

import os
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pilot import copytools
from pilot.errors import Abandoned, ErrorCode, JobFailure
from pilot.wire import Input, Output, Place

CONTENT = b"some bytes " * 200_000
ADLER32 = f"{zlib.adler32(CONTENT):08x}"


@pytest.fixture
def storage():
    """A web storage that keeps what is PUT; `full` says no, `away` is busy at the first call of each verb."""
    stored: dict[str, bytes] = {}
    seen: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def is_away(self):
            if self.path != "/away" or self.command in seen:
                return False
            seen.add(self.command)
            self.send_error(503)
            return True

        def do_GET(self):
            if self.is_away():
                return
            content = stored.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def do_PUT(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            assert "Authorization" not in self.headers
            if self.is_away():
                return
            if self.path != "/full":
                stored[self.path] = content
            self.send_response(507 if self.path == "/full" else 201)
            self.send_header("Content-Length", "0")
            self.end_headers()

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", stored
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_file_goes_out_by_http_and_comes_back(storage, tmp_path):
    url, stored = storage
    (tmp_path / "out").write_bytes(CONTENT)

    sent = copytools.stage_out(Output("out", f"{url}/a/out?sig=x"), str(tmp_path / "out"), threading.Event())
    wanted = Input("in", len(CONTENT), ADLER32, f"{url}/a/out?sig=x")
    copytools.stage_in(wanted, str(tmp_path / "in"), threading.Event())

    assert sent == ("out", len(CONTENT), ADLER32, "")
    assert stored["/a/out?sig=x"] == CONTENT
    assert (tmp_path / "in").read_bytes() == CONTENT


def test_http_refusals_get_pandas_numbers_and_no_signature_is_told(storage, tmp_path):
    url, _stored = storage
    (tmp_path / "out").write_bytes(b"x")

    with pytest.raises(JobFailure) as gone:
        copytools.stage_in(Input("in", 1, ADLER32, f"{url}/gone?sig=secret"), str(tmp_path / "in"), _event())
    with pytest.raises(JobFailure) as full:
        copytools.stage_out(Output("out", f"{url}/full"), str(tmp_path / "out"), _event())

    assert gone.value.code is ErrorCode.NOSUCHFILE
    assert "secret" not in gone.value.message
    assert full.value.code is ErrorCode.NOREMOTESPACE


def test_a_storage_that_is_away_for_a_moment_is_asked_again(storage, tmp_path, monkeypatch):
    url, stored = storage
    monkeypatch.setattr(copytools, "AGAIN_AFTER_S", (0.01,))
    (tmp_path / "out").write_bytes(CONTENT)

    copytools.stage_out(Output("out", f"{url}/away"), str(tmp_path / "out"), _event())
    copytools.stage_in(Input("in", len(CONTENT), ADLER32, f"{url}/away"), str(tmp_path / "in"), _event())

    assert stored["/away"] == CONTENT == (tmp_path / "in").read_bytes()


def _event(is_set=False):
    event = threading.Event()
    if is_set:
        event.set()
    return event


def test_a_copy_that_is_given_up_leaves_nothing(tmp_path):
    (tmp_path / "out").write_bytes(CONTENT)
    target = tmp_path / "storage" / "out"

    with pytest.raises(Abandoned):
        copytools.stage_out(Output("out", target.as_uri()), str(tmp_path / "out"), _event(is_set=True))

    assert os.listdir(target.parent) == []


def test_a_size_that_differs_is_told(tmp_path):
    (tmp_path / "replica").write_bytes(CONTENT)
    wanted = Input("in", 5, ADLER32, (tmp_path / "replica").as_uri())

    with pytest.raises(JobFailure, match="the catalogue says 5") as failure:
        copytools.stage_in(wanted, str(tmp_path / "in"), _event())

    assert failure.value.code is ErrorCode.STAGEINFAILED


@pytest.mark.parametrize("url", ["gsiftp://host/file", "file", "file://other-host/file"])
def test_other_urls_are_refused(url, tmp_path):
    with pytest.raises(JobFailure) as failure:
        copytools.stage_in(Input("in", 1, ADLER32, url), str(tmp_path / "in"), _event())

    assert failure.value.code is ErrorCode.UNKNOWNCOPYTOOL


def test_an_output_that_cannot_be_stored_is_a_failed_stage_out(tmp_path):
    (tmp_path / "out").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(JobFailure) as failure:
        copytools.stage_out(Output("out", (tmp_path / "file/below").as_uri()), str(tmp_path / "out"), _event())

    assert failure.value.code is ErrorCode.STAGEOUTFAILED


def test_an_output_goes_to_the_next_place_when_the_first_does_not_take_it(tmp_path, storage):
    url, _ = storage
    (tmp_path / "out").write_bytes(CONTENT)
    output = Output("out", f"{url}/full", (Place("SECOND", (tmp_path / "second/out").as_uri()),))
    told = []

    sent = copytools.stage_out(output, str(tmp_path / "out"), _event(), told.append)

    assert sent.told() == {"lfn": "out", "size_bytes": len(CONTENT), "adler32": ADLER32, "storage": "SECOND"}
    assert (tmp_path / "second/out").read_bytes() == CONTENT
    assert len(told) == 1
    assert "HTTP 507" in told[0]


def test_an_output_that_no_place_takes_tells_of_all(tmp_path):
    (tmp_path / "out").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"")
    output = Output("out", (tmp_path / "file/a").as_uri(), (Place("SECOND", "gsiftp://host/file"),))

    with pytest.raises(JobFailure, match=r"file/a failed.*; then no copytool for gsiftp") as failure:
        copytools.stage_out(output, str(tmp_path / "out"), _event())

    assert failure.value.code is ErrorCode.STAGEOUTFAILED


def test_a_payload_opens_files_by_path_and_everything_else_by_url():
    assert copytools.address_of("file:///disk/a%20b") == "/disk/a b"
    assert copytools.address_of("root://host//a?authz=x") == "root://host//a?authz=x"

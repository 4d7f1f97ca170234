"""Files go from storage to storage without us where both are meant to and able to; else through us, and it is said."""

import io
import threading
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import storage_servers
import urllib3

from panda import settings
from panda.dataservice.movers import http, refusals, xrootd
from panda.dataservice.movers.base import Content, Place, WrongContent, still
from panda.dataservice.movers.http import HttpMover
from panda.dataservice.movers.xrootd import XrootdMover
from panda.dataservice.transfers import carry_out, request_inputs

HELD = bytes(range(256)) * 8192
EXPECTED = Content(len(HELD), f"{zlib.adler32(HELD):08x}")
REFUSED = "third-party copy refused, the bytes go through us"


@pytest.fixture(autouse=True)
def unsaid(monkeypatch):
    monkeypatch.setattr(refusals, "_told", set())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return storage_servers.certificate_in(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def servers(tmp_path_factory, certificate):
    """Storage servers, each started when it is first asked for."""
    kinds = {
        "https-1": partial(storage_servers.xrootd_http, certificate=certificate),
        "https-2": partial(storage_servers.xrootd_http, certificate=certificate),
        "https-without": partial(storage_servers.xrootd_http, certificate=certificate, third_party=False),
        "nginx": storage_servers.nginx,
        "webdav": partial(storage_servers.webdav, is_open=True),
        "root-1": storage_servers.xrootd, "root-2": storage_servers.xrootd,
        "root-without": partial(storage_servers.xrootd, third_party=False),
    }  # fmt: skip
    with ExitStack() as stack:
        started = {}

        def address(name):
            if name not in started:
                started[name] = stack.enter_context(kinds[name](tmp_path_factory.mktemp(name) / "server"))
            return started[name]

        yield address


@pytest.fixture
def said(tmp_path, monkeypatch):
    """Writes the credentials file: `said((address, "token", True), …)`."""

    def write(*entries, ca=""):
        file = tmp_path / "credentials.toml"
        file.write_text(
            "".join(
                f'[[credentials]]\nprefix = "{prefix}"\ntoken = "{token}"\nca = "{ca if "https" in prefix else ""}"\n'
                f"third_party_copy = {str(takes_part).lower()}\n"
                for prefix, token, takes_part in entries
            )
        )
        file.chmod(0o600)
        monkeypatch.setenv("PANDA_DATA_CREDENTIALS", str(file))
        settings.current.cache_clear()

    yield write
    settings.current.cache_clear()


@pytest.fixture
def ways(monkeypatch):
    """How XRootD's client was asked to copy, and whether HTTP bytes were read by us."""
    seen = []
    run, read = xrootd._run, HttpMover.open

    def noted_run(source, arriving, third_party, tick):
        seen.append(third_party)
        return run(source, arriving, third_party, tick)

    def noted_read(self, place):
        seen.append("through us")
        return read(self, place)

    monkeypatch.setattr(xrootd, "_run", noted_run)
    monkeypatch.setattr(HttpMover, "open", noted_read)
    return seen


class Site(BaseHTTPRequestHandler):
    """A server of ours for what real ones do not do on demand. Its `memory`: files, what it was asked, and what it
    answers to COPY."""

    protocol_version = "HTTP/1.1"
    memory: dict

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        held = self.memory["files"].get(self.path)
        self.memory["asked"].append((self.command, self.headers.get("Authorization", "")))
        if self.memory["token"] and self.headers.get("Authorization") != f"Bearer {self.memory['token']}":
            self.answer(403)
        elif held is None:
            self.answer(404)
        else:
            self.answer(200, held if self.command == "GET" else b"", length=len(held))

    def do_MKCOL(self):
        self.answer(405)

    def do_PUT(self):
        held = b""
        while size := int(self.rfile.readline(), 16):
            held += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.memory["files"][self.path] = held
        self.answer(201)

    def do_MOVE(self):
        self.memory["files"][urlsplit(self.headers["Destination"]).path] = self.memory["files"].pop(self.path)
        self.answer(201)

    def do_DELETE(self):
        self.memory["asked"].append(("DELETE", ""))
        self.answer(204 if self.memory["files"].pop(self.path, None) is not None else 404)

    def do_COPY(self):
        self.memory["asked"].append(("COPY", self.headers.get("TransferHeaderAuthorization", "")))
        self.memory["copy"](self)

    def answer(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def marked(self, *parts):
        """202 and some parts of a stream that only ends with the connection."""
        self.send_response(202)
        self.send_header("Connection", "close")
        self.end_headers()
        for part in parts:
            part() if callable(part) else self.wfile.write(part)
            self.wfile.flush()

    def log_message(self, *_):
        pass


@contextmanager
def site(token=""):
    memory = {"files": {}, "asked": [], "token": token, "copy": lambda request: request.answer(501)}
    handler = type("Handler", (Site,), {"memory": memory})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", memory
        server.shutdown()


def marker(n):
    return b"Perf Marker\nStripe Index: 0\nStripe Bytes Transferred: %d\nTotal Stripe Count: 1\nEnd\n" % n


@pytest.fixture
def pair(servers, said, certificate):
    """A file on one of two XRootD servers that speak HTTPS, and where it is to go on the other."""
    first, second = servers("https-1"), servers("https-2")
    said((first, "", True), (second, "", True), ca=certificate)
    source, there = (Place(f"{each}/{uuid4().hex[:8]}", "s/d/a") for each in (first, second))
    HttpMover().write(source, io.BytesIO(HELD), len(HELD), still)
    return source, there


def nothing_at(mover, place):
    """Neither the file nor a part of it is there."""
    return [entry.path for entry in mover.walk(place.root, "")] == []


def test_one_server_fetches_from_the_other_and_what_arrived_is_measured(pair, ways):
    source, there = pair
    ticks = []

    HttpMover().copy(source, there, EXPECTED, lambda: ticks.append(1))

    assert ways == []
    assert HttpMover().measure(there, still) == EXPECTED
    assert [entry.path for entry in HttpMover().walk(there.root, "")] == ["s/d/a"]
    assert len(ticks) > 5


def test_a_server_fetches_from_itself_too(pair, ways):
    source, _ = pair
    there = Place(source.root, "s/d/b")

    HttpMover().copy(source, there, EXPECTED, still)

    assert ways == []
    assert HttpMover().measure(there, still) == EXPECTED


def test_a_file_that_is_not_at_the_source_leaves_nothing(pair):
    source, there = pair
    with pytest.raises(OSError, match=r"could not fetch it: failure: .*404"):
        HttpMover().copy(Place(source.root, "s/d/none"), there, EXPECTED, still)
    assert nothing_at(HttpMover(), there)


def test_other_bytes_than_the_catalogue_knows_leave_nothing(pair):
    source, there = pair
    with pytest.raises(WrongContent):
        HttpMover().copy(source, there, Content(len(HELD), "00000001"), still)
    assert nothing_at(HttpMover(), there)


def test_more_bytes_than_the_catalogue_knows_leave_nothing(pair):
    source, there = pair
    with pytest.raises((WrongContent, OSError)):
        HttpMover().copy(source, there, Content(3, "024d0127"), still)
    assert nothing_at(HttpMover(), there)


def test_a_tick_that_raises_while_servers_copy_leaves_nothing(pair):
    source, there = pair
    ticks = []

    def stop():
        ticks.append(1)
        if len(ticks) == 3:
            raise InterruptedError("stop")

    with pytest.raises(InterruptedError):
        HttpMover().copy(source, there, EXPECTED, stop)
    assert nothing_at(HttpMover(), there)


def test_the_destination_is_told_what_opens_the_source(servers, said, certificate, ways):
    second = servers("https-2")
    with site(token="of-the-source") as (first, memory):
        memory["files"]["/p/s/a"] = HELD
        said((first, "of-the-source", True), (second, "", True), ca=certificate)
        there = Place(f"{second}/{uuid4().hex[:8]}", "s/d/a")

        HttpMover().copy(Place(f"{first}/p", "s/a"), there, EXPECTED, still)

    assert ways == []
    assert {each[1] for each in memory["asked"]} == {"Bearer of-the-source"}
    assert HttpMover().measure(there, still) == EXPECTED


@pytest.mark.parametrize(("first_takes_part", "second_takes_part"), [(True, False), (False, True), (False, False)])
def test_nothing_is_lent_unless_both_are_meant_to(said, ways, first_takes_part, second_takes_part):
    with site(token="of-the-source") as (first, here), site() as (second, there):
        here["files"]["/p/s/a"] = HELD
        said((first, "of-the-source", first_takes_part), (second, "", second_takes_part))

        HttpMover().copy(Place(f"{first}/p", "s/a"), Place(f"{second}/p", "s/a"), EXPECTED, still)

    assert "COPY" not in [verb for verb, _ in there["asked"]]
    assert there["files"] == {"/p/s/a": HELD}
    assert ways[0] == "through us"


def test_what_opens_a_source_behind_tls_is_not_sent_in_the_clear(said):
    said(("https://a.org", "secret", True), ("http://b.org", "", True), ("https://c.org", "", True))
    assert http._rights_to_lend("https://a.org/x", "http://b.org/x") is None
    assert http._rights_to_lend("https://a.org/x", "https://c.org/x") == {"Authorization": "Bearer secret"}
    assert http._rights_to_lend("https://c.org/x", "http://b.org/x") == {}
    assert http._rights_to_lend("https://a.org/x", "https://c.org.evil/x") is None


@pytest.mark.parametrize("refuses", ["nginx", "webdav", "https-without"])
def test_a_server_that_does_not_fetch_gets_the_bytes_from_us_and_it_is_said_once(
    pair, servers, said, certificate, ways, caplog, refuses
):
    source, _ = pair
    second = servers(refuses)
    said((urlsplit(source.root)._replace(path="").geturl(), "", True), (second, "", True), ca=certificate)
    there = Place(f"{second}/{uuid4().hex[:8]}", "s/d/a")

    for _ in range(2):
        HttpMover().copy(source, there, EXPECTED, still)

    assert ways[0] == "through us"
    assert HttpMover().measure(there, still) == EXPECTED
    assert [record.message for record in caplog.records].count(REFUSED) == 1


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_refusal_is_no_failure(said, ways, status):
    with site() as (first, here), site() as (second, there):
        here["files"]["/p/s/a"] = HELD
        there["copy"] = lambda request: request.answer(status)
        said((first, "", True), (second, "", True))

        HttpMover().copy(Place(f"{first}/p", "s/a"), Place(f"{second}/p", "s/a"), EXPECTED, still)

    assert there["files"] == {"/p/s/a": HELD}


def test_a_credential_that_is_lent_follows_no_redirect(said, ways):
    with site("of-the-source") as (first, here), site() as (second, there), site() as (third, elsewhere):
        here["files"]["/p/s/a"] = HELD
        there["copy"] = lambda request: request.answer(307, Location=f"{third}/p/s/a")
        said((first, "of-the-source", True), (second, "", True), (third, "", True))

        HttpMover().copy(Place(f"{first}/p", "s/a"), Place(f"{second}/p", "s/a"), EXPECTED, still)

    assert elsewhere["asked"] == []
    assert there["files"] == {"/p/s/a": HELD}


@pytest.mark.parametrize(
    ("copy", "problem"),
    [
        (lambda request: request.answer(403), "403"),
        (lambda request: request.answer(503), "503"),
        (lambda request: request.answer(404), "no such file"),
        (lambda request: request.marked(marker(1), b"failure: checksum mismatch"), "checksum mismatch"),
        (lambda request: request.marked(marker(1)), "could not fetch it"),
        (lambda request: request.marked(marker(1), threading.Event().wait), "broke off"),
        (lambda request: request.marked(b"success: Created"), "no such file"),
        (lambda request: request.answer(200, b"<html>maintenance</html>"), "could not fetch it: <html>"),
        (lambda request: request.answer(201), "no such file"),
    ],
)  # fmt: skip
def test_a_failure_is_one_and_nothing_goes_through_us(said, ways, monkeypatch, copy, problem):
    monkeypatch.setattr(http, "MARKER_TIMEOUT", urllib3.Timeout(connect=1, read=0.3))
    with site() as (first, here), site() as (second, there):
        here["files"]["/p/s/a"] = HELD
        there["copy"] = copy
        said((first, "", True), (second, "", True))

        with pytest.raises(OSError, match=problem):
            HttpMover().copy(Place(f"{first}/p", "s/a"), Place(f"{second}/p", "s/a"), EXPECTED, still)

    assert "through us" not in ways[:1] or problem == "no such file"
    assert there["files"] == {}


def test_half_a_file_that_a_server_calls_a_success_is_thrown_away(said):
    def half(request):
        request.memory["files"][request.path] = HELD[:1000]
        request.marked(marker(1000), b"success: Created")

    with site() as (first, _), site() as (second, there):
        there["copy"] = half
        said((first, "", True), (second, "", True))

        with pytest.raises(WrongContent, match="holds 1000 bytes"):
            HttpMover().copy(Place(f"{first}/p", "s/a"), Place(f"{second}/p", "s/a"), EXPECTED, still)

    assert there["files"] == {}


@pytest.fixture
def roots(servers):
    """A file on one of two XRootD servers, and where it is to go on the other."""
    source, there = (Place(f"{servers(name)}{uuid4().hex[:8]}", "s/d/a") for name in ("root-1", "root-2"))
    XrootdMover().write(source, io.BytesIO(HELD), len(HELD), still)
    return source, there


def test_xrootd_servers_copy_among_themselves(roots, ways):
    source, there = roots
    ticks = []

    XrootdMover().copy(source, there, EXPECTED, lambda: ticks.append(1))

    assert ways == ["only"]
    assert XrootdMover().measure(there, still) == EXPECTED
    assert len(ticks) > 1


@pytest.mark.parametrize("which", ["source", "destination"])
def test_an_xrootd_server_that_does_not_gets_the_bytes_from_us_and_it_is_said_once(roots, servers, ways, caplog, which):
    source, there = roots
    other = Place(f"{servers('root-without')}{uuid4().hex[:8]}", "s/d/a")
    if which == "source":
        XrootdMover().write(other, io.BytesIO(HELD), len(HELD), still)
        source = other
    else:
        there = other

    for _ in range(2):
        XrootdMover().copy(source, there, EXPECTED, still)

    assert ways == ["only", "none"] * 2
    assert XrootdMover().measure(there, still) == EXPECTED
    assert [entry.path for entry in XrootdMover().walk(there.root, "")] == ["s/d/a"]
    assert [record.message for record in caplog.records].count(REFUSED) == 1


def test_xrootd_failures_are_failures_and_leave_nothing(roots, ways):
    source, there = roots
    with pytest.raises(FileNotFoundError):
        XrootdMover().copy(Place(source.root, "s/d/none"), there, EXPECTED, still)
    with pytest.raises(WrongContent):
        XrootdMover().copy(source, there, Content(len(HELD), "00000001"), still)
    assert ways == ["only", "only"]
    assert nothing_at(XrootdMover(), there)


def test_a_tick_that_raises_stops_xrootd_s_client(roots):
    source, there = roots
    ticks = []

    def stop():
        ticks.append(1)
        if len(ticks) == 2:  # the first one is before the copy
            raise InterruptedError("stop")

    with pytest.raises(InterruptedError):
        XrootdMover().copy(source, there, EXPECTED, stop)
    assert nothing_at(XrootdMover(), there)


@pytest.fixture
def asked_for(lab):
    """A transfer between two storages of one kind, due now, by `asked_for(kind, source's root, destination's)`."""

    def make(kind, first, second):
        for name, root in (("NORTH-DISK", first), ("SOUTH-DISK", second)):
            lab.do("UPDATE storages SET kind = %(kind)s, root = %(root)s WHERE name = %(name)s",
                   kind=kind, root=root, name=name)  # fmt: skip
        lab.put("s:d/a", HELD)
        [job] = lab.bound_jobs(inputs=["s:d/a"])
        with lab.begin() as connection:
            assert request_inputs(connection, [job], deadline_s=3600.0) == []
        lab.do("UPDATE transfers SET status = 'moving'")
        return lab.transfers()[0].transfer_id

    return make


@pytest.mark.parametrize("kind", ["http", "xrootd"])
def test_a_transfer_is_carried_out_by_the_storages_and_its_replica_is_verified(
    lab, asked_for, servers, said, certificate, ways, kind
):
    if kind == "http":
        roots = [f"{servers(name)}/{uuid4().hex[:8]}" for name in ("https-1", "https-2")]
        said(*((root, "", True) for root in roots), ca=certificate)
    else:
        roots = [f"{servers(name)}{uuid4().hex[:8]}" for name in ("root-1", "root-2")]
    transfer_id = asked_for(kind, *roots)

    assert carry_out(lab.begin, [transfer_id], lab.settings) == []

    assert [t.status for t in lab.transfers()] == ["done"]
    assert [r.storage for r in lab.query("SELECT storage FROM replicas ORDER BY storage")] == [
        "NORTH-DISK",
        "SOUTH-DISK",
    ]
    assert ways == ([] if kind == "http" else ["only"])


def test_a_transfer_that_the_storages_fail_is_tried_again(lab, asked_for, said, ways):
    with site() as (first, _), site() as (second, there):
        said((first, "", True), (second, "", True))
        transfer_id = asked_for("http", f"{first}/p", f"{second}/p")
        there["copy"] = lambda request: request.marked(marker(1), b"failure: no route to host")

        assert carry_out(lab.begin, [transfer_id], lab.settings) == []

        [failed] = lab.transfers()
        assert (failed.status, failed.tries) == ("queued", 1)
        assert "no route to host" in failed.error
        assert len(lab.query("SELECT * FROM replicas")) == 1


def test_markers_keep_the_lease_and_a_carrier_that_lost_it_stops(lab, asked_for, said):
    at_every_line = replace(lab.settings, data=replace(lab.settings.data, transfer_lease_s=0))
    leases = []

    def lease():
        leases.append(lab.transfers()[0].lease_until)

    def lease_is_renewed():
        while len(set(leases)) < 2:  # as fast as the other side reads
            lease()

    with site() as (first, _), site() as (second, there):
        said((first, "", True), (second, "", True))
        transfer_id = asked_for("http", f"{first}/p", f"{second}/p")

        def lose(request):
            request.memory["files"][request.path] = HELD[:10]
            request.marked(lease, marker(1), lease_is_renewed, lambda: lab.do("UPDATE transfers SET tries = tries + 1"),
                           marker(3), marker(4), threading.Event().wait)  # fmt: skip

        there["copy"] = lose

        assert carry_out(lab.begin, [transfer_id], at_every_line) == []

        assert len(set(leases)) == 2
        assert [t.status for t in lab.transfers()] == ["moving"]  # the other carrier's now
        assert there["files"] == {}
        assert len(lab.query("SELECT * FROM replicas")) == 1

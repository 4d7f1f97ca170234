"""Storages that are no folders of ours are compared with the catalogue too, by what real servers list."""

import io
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from uuid import uuid4

import pytest
import storage_servers

from panda import settings
from panda.dataservice.movers import s3 as s3_mover
from panda.dataservice.movers.base import Place, still
from panda.dataservice.movers.listing import Entry
from panda.dataservice.scan import Finding, scan
from panda.dataservice.storage import mover_of
from panda.errors import Invalid

KINDS = {"webdav": "http", "s3": "s3", "xrootd": "xrootd", "xrootd_http": "http"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Addresses of servers, each started when it is first asked for, and the certificate of those with TLS."""
    with ExitStack() as stack:
        started = {}

        def address(server):
            if server not in started:
                more, folder = {}, tmp_path_factory.mktemp(server)
                if server == "xrootd_http":
                    more["certificate"] = storage_servers.certificate_in(folder)
                made = getattr(storage_servers, server)(folder / "server", **more)
                started[server] = stack.enter_context(made), more.get("certificate", "")
            return started[server]

        yield address


@pytest.fixture(params=list(KINDS))
def server(request):
    return request.param


@pytest.fixture
def storage(lab, server, servers, tmp_path, monkeypatch):
    """NORTH-DISK on a server, empty: its mover and its root."""
    address, ca = servers(server)
    credentials = tmp_path / "credentials.toml"
    credentials.write_text(
        f'[[credentials]]\nprefix = "{address}"\nuser = "{storage_servers.KEY}"\npassword = "{storage_servers.SECRET}"\n'
        f'access_key = "{storage_servers.KEY}"\nsecret_key = "{storage_servers.SECRET}"\nca = "{ca}"\n'
    )
    credentials.chmod(0o600)
    monkeypatch.setenv("PANDA_DATA_CREDENTIALS", str(credentials))
    settings.current.cache_clear()
    kind, root = KINDS[server], f"{address}/{uuid4().hex[:8]}"
    lab.do("UPDATE storages SET kind = %(kind)s, root = %(root)s WHERE name = 'NORTH-DISK'", kind=kind, root=root)
    yield mover_of(kind), root
    settings.current.cache_clear()


def findings(lab, min_age_s=-60.0):
    return sorted(scan(lab.begin, "NORTH-DISK", min_age_s=min_age_s), key=lambda each: (each.kind, each.path))


def put(lab, lfn):
    """A file of three bytes in the catalogue; its path on the storage."""
    lab.put(f"s:d/{lfn}", b"abc")
    sql = "SELECT r.path FROM replicas r JOIN files f USING (file_id) WHERE f.lfn = %(lfn)s"
    return lab.query(sql, lfn=lfn)[0].path


def test_dark_files_lost_replicas_and_wrong_sizes_are_found_and_the_rest_is_not(lab, storage):
    mover, root = storage
    good, lost, cut = (put(lab, lfn) for lfn in ("good", "lost", "cut"))
    mover.remove(Place(root, lost))
    mover.write(Place(root, cut), io.BytesIO(b"a"), 10, still)
    dark = f"{good.rpartition('/')[0]}/dark"
    for path, held in ((dark, b"dark!"), ("old/dataset/deep/er/a", b"12"), ("stray", b"1"), ("s/stray", b"1")):
        mover.write(Place(root, path), io.BytesIO(held), 10, still)

    assert findings(lab) == sorted(
        [
            Finding("dark", "old/dataset/deep/er/a", 2), Finding("dark", "s/stray", 1), Finding("dark", "stray", 1),
            Finding("dark", dark, 5), Finding("lost", lost, None, 3), Finding("wrong_size", cut, 1, 3),
        ],
        key=lambda each: (each.kind, each.path),
    )  # fmt: skip


def test_a_file_that_is_young_may_be_on_its_way(lab, storage):
    mover, root = storage
    put(lab, "a")
    mover.write(Place(root, "s/d/young"), io.BytesIO(b"x"), 10, still)

    assert findings(lab, min_age_s=3600) == []


def test_a_storage_whose_root_is_not_there_is_not_called_empty(lab, storage, server):
    if server == "s3":  # there are no folders: what no key begins with is empty
        return
    put(lab, "a")
    lab.do("UPDATE storages SET root = root || '-not-here' WHERE name = 'NORTH-DISK'")

    with pytest.raises(Invalid, match="cannot be listed: no such file") as refused:
        findings(lab)
    assert refused.value.code == "cannot_scan"


@pytest.mark.parametrize("name", ["a b", "a%41", "a+b", "é", "a&amp;<b", "a#b?c=d", "'q\"", "%2e%2e"])
def test_a_strange_name_is_told_as_it_is_or_not_at_all(lab, storage, name):
    mover, root = storage
    put(lab, "a")
    mover.write(Place(root, f"s/d/{name}"), io.BytesIO(b"x"), 10, still)
    mover.write(Place(root, "s/d/aA"), io.BytesIO(b"xy"), 10, still)

    found = findings(lab)

    assert Finding("dark", "s/d/aA", 2) in found
    [other] = [each for each in found if each.path != "s/d/aA"]
    assert other.kind in ("dark", "odd")
    if other.kind == "dark":  # whoever removes it by this name removes no other file
        mover.remove(Place(root, other.path))
        assert findings(lab) == [Finding("dark", "s/d/aA", 2)]


@pytest.mark.parametrize("server", ["webdav", "s3"])
def test_a_name_with_a_line_break_is_odd(lab, storage):
    mover, root = storage
    put(lab, "a")
    mover.write(Place(root, "s/d/new\nline"), io.BytesIO(b"x"), 10, still)

    assert findings(lab) == [Finding("odd", r"'s/d/new\nline'", None)]


@pytest.mark.parametrize("server", ["xrootd"])
def test_a_name_that_breaks_the_list_is_an_error_and_nothing_is_called_lost(lab, storage):
    mover, root = storage
    put(lab, "a")
    mover.write(Place(root, "s/d/new\nline"), io.BytesIO(b"x"), 10, still)

    with pytest.raises(OSError, match="line break"):
        findings(lab)


@pytest.mark.parametrize("server", ["xrootd_http"])
def test_a_name_that_breaks_webdav_s_list_calls_nothing_dark_or_lost(lab, storage):
    mover, root = storage
    put(lab, "a")
    mover.write(Place(root, "s/d/new\nline"), io.BytesIO(b"x"), 10, still)

    assert {each.kind for each in findings(lab)} <= {"odd"}


@pytest.mark.parametrize("server", ["s3"])
def test_pages_of_keys_are_read_to_the_end(storage):
    mover, root = storage
    written = {f"s/d/f{n:02}" for n in range(7)}
    for path in written:
        mover.write(Place(root, path), io.BytesIO(b"x"), 10, still)
    _, client = s3_mover._open(Place(root, ""))
    n_pages = []

    def small(params, **_):
        n_pages.append(1)
        params["MaxKeys"] = 2

    client.meta.events.register("provide-client-params.s3.ListObjectsV2", small, unique_id="small")
    try:
        listed = [entry.path for entry in mover.walk(root, "s")]
    finally:
        client.meta.events.unregister("provide-client-params.s3.ListObjectsV2", unique_id="small")

    assert sorted(listed) == sorted(written)
    assert len(n_pages) == 4


@pytest.mark.parametrize(
    ("path", "folder"), [("other/a", "s"), ("base/sx/a", "s"), ("base/", ""), ("base", "")],
)  # fmt: skip
def test_a_key_that_is_not_below_the_prefix_is_an_error(path, folder):
    with pytest.raises(OSError, match="not in the folder"):
        s3_mover._below("base/", path, folder)


@pytest.fixture
def answering():
    """A WebDAV server that says one thing to PROPFIND: `answering(status, body)` gives its address."""
    running = []

    def start(status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_PROPFIND(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_HEAD(self):
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/p"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b"<html>maintenance</html>", "PROPFIND with 200"), (207, b"<html>maintenance</html>", "no list of files"),
        (405, b"", "does not know PROPFIND"), (401, b"", "401"), (302, b"", "elsewhere"),
        (207, b'<m:multistatus xmlns:m="DAV:"><m:response><m:href>/etc/passwd</m:href></m:response></m:multistatus>',
         "not in the folder"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_list_ends_the_scan(lab, answering, status, body, why):
    lab.do("UPDATE storages SET kind = 'http', root = %(root)s WHERE name = 'NORTH-DISK'", root=answering(status, body))

    with pytest.raises(Invalid, match=why) as refused:
        findings(lab)
    assert refused.value.code == "cannot_scan"


def test_a_file_whose_size_is_not_listed_and_that_is_gone_is_left_out(answering):
    one = "<m:response><m:href>/p/{}</m:href></m:response>"
    body = f'<m:multistatus xmlns:m="DAV:">{one.format("")}{one.format("a")}</m:multistatus>'.encode()

    assert list(mover_of("http").entries(answering(207, body), "")) == []


def test_a_storage_that_fails_in_the_middle_calls_nothing_lost(lab, monkeypatch):
    lab.put("s:d/a", b"abc").unlink()

    def fail(self, place):
        raise OSError(5, "the storage does not answer")

    monkeypatch.setattr("panda.dataservice.movers.local.LocalMover.size", fail)
    with pytest.raises(OSError, match="does not answer"):
        findings(lab)


def test_a_folder_that_was_listed_and_cannot_be_reached_is_odd(lab, monkeypatch):
    lab.put("s:d/a", b"abc")
    monkeypatch.setattr("panda.dataservice.movers.local.LocalMover.walk", lambda *_: iter([Entry("s/d/\x1b", True)]))
    assert findings(lab) == [Finding("odd", r"'s/d/\x1b'", None)]

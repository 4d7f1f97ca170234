"""Every mover keeps the same promises."""

import errno
import io
import shutil
import ssl
import subprocess
import threading
import zlib
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
import storage_servers
import urllib3

from panda import settings
from panda.dataservice.credentials import credential_for
from panda.dataservice.movers import stub
from panda.dataservice.movers.base import Content, Place, WrongContent, still
from panda.dataservice.movers.http import HttpMover
from panda.dataservice.movers.local import LocalMover
from panda.dataservice.movers.s3 import S3Mover
from panda.dataservice.movers.stub import StubMover
from panda.dataservice.movers.xrootd import XrootdMover
from panda.dataservice.stagers.simulated import TapeMover
from panda.dataservice.storage import file_path, output_path
from panda.errors import ConfigError, TooLarge, UnknownName
from pilot import copytools
from pilot.wire import Output

KINDS = {
    "local": LocalMover, "stub": StubMover, "nginx": HttpMover, "webdav": HttpMover, "s3": S3Mover,
    "xrootd": XrootdMover, "xrootd_http": HttpMover, "tape": TapeMover,
}  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Storage servers, each started when it is first asked for."""
    with ExitStack() as stack:
        started = {}

        def address(kind):
            if kind not in started:
                folder = tmp_path_factory.mktemp(kind)
                more = {"certificate": storage_servers.certificate_in(folder)} if kind == "xrootd_http" else {}
                made = getattr(storage_servers, kind)(folder / "server", **more)
                started[kind] = stack.enter_context(made), more.get("certificate", "")
            return started[kind]

        yield address


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture
def mover(kind, monkeypatch):
    monkeypatch.setattr(stub, "FILES", {})
    return KINDS[kind]()


@pytest.fixture
def root(kind, servers, tmp_path, monkeypatch):
    """The root of an empty storage."""
    if kind in ("local", "stub", "tape"):
        yield str(tmp_path / "storage")
        return
    address, ca = servers(kind)
    credentials = tmp_path / "credentials.toml"
    credentials.write_text(
        f"""[[credentials]]
prefix = "{address}"
user = "{storage_servers.KEY}"
password = "{storage_servers.SECRET}"
access_key = "{storage_servers.KEY}"
secret_key = "{storage_servers.SECRET}"
ca = "{ca}"
"""
    )
    credentials.chmod(0o600)
    monkeypatch.setenv("PANDA_DATA_CREDENTIALS", str(credentials))
    settings.current.cache_clear()
    yield f"{address}/{uuid4().hex[:8]}"
    settings.current.cache_clear()


def content(held: bytes) -> Content:
    return Content(len(held), f"{zlib.adler32(held):08x}")


@pytest.fixture
def held(mover, root):
    place = Place(root, "s/d/a")
    mover.write(place, io.BytesIO(b"abc"), 10, still)
    return place


def read(mover, place):
    with mover.open(place) as stream:
        return stream.read()


def test_a_storage_whose_folder_is_still_to_be_made_has_the_room_of_its_disk(mover, root):
    for folder in (root, f"{root}/deeper/still"):
        room = mover.space(folder)

        assert room is None or (room.free_bytes > 1_000_000 and (room.total_bytes or room.free_bytes) > 1_000_000)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 3 << 20])
def test_what_was_written_is_read_measured_and_copied(mover, root, size):
    here, there = Place(f"{root}-here", "s/a"), Place(f"{root}-there", "s/deep/a")
    held = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    ticks = []

    written = mover.write(here, io.BytesIO(held), size, lambda: ticks.append(1))
    mover.copy(here, there, written, lambda: ticks.append(1))

    assert written == content(held) == mover.measure(there, still)
    assert mover.size(there) == size
    assert read(mover, there) == held
    assert ticks or not size


def test_too_much_is_refused_and_not_kept(mover, root, tmp_path):
    place = Place(root, "s/d/a")

    with pytest.raises(TooLarge):
        mover.write(place, io.BytesIO(b"abcdef"), 5, still)

    with pytest.raises(FileNotFoundError):
        mover.open(place)
    assert [path for path in tmp_path.glob("storage/**/*") if path.is_file()] == []


def test_a_copy_of_something_else_never_replaces_what_is_there(mover, held):
    there = Place(held.root, "s/d/b")
    mover.write(there, io.BytesIO(b"good"), 10, still)

    with pytest.raises(WrongContent, match="s/d/a holds 3 bytes with adler32 024d0127, not 4 with"):
        mover.copy(held, there, content(b"good"), still)

    assert read(mover, there) == b"good"


def test_a_tick_that_raises_stops_the_mover_and_nothing_is_kept(mover, root):
    place = Place(root, "s/d/a")

    def stop():
        raise InterruptedError("stop")

    with pytest.raises(InterruptedError):
        mover.write(place, io.BytesIO(b"abc"), 10, stop)

    with pytest.raises(FileNotFoundError):
        mover.measure(place, still)


def test_a_file_is_renamed_into_a_folder_that_is_not_there_yet(mover, held):
    mover.rename(held, "s/d/3f/a1/b")

    assert read(mover, Place(held.root, "s/d/3f/a1/b")) == b"abc"


def test_a_file_is_renamed_over_another_and_removed_twice(mover, held):
    mover.write(Place(held.root, "s/d/b"), io.BytesIO(b"old"), 10, still)

    mover.rename(held, "s/d/b")

    assert read(mover, Place(held.root, "s/d/b")) == b"abc"
    with pytest.raises(FileNotFoundError):
        mover.open(held)
    mover.remove(Place(held.root, "s/d/b"))
    mover.remove(Place(held.root, "s/d/b"))


def test_a_link_opens_one_file_for_a_node_that_has_no_credential(mover, kind, held):
    link = mover.link(held.root, held.path, "GET", 60)

    if kind in ("nginx", "s3"):
        with urlopen(link) as reply:
            assert reply.read() == b"abc"
        there = Place(held.root, "s/d/by-a-node")
        with urlopen(Request(mover.link(there.root, there.path, "PUT", 60), data=b"abcd", method="PUT")):
            pass
        assert read(mover, there) == b"abcd"
    if kind == "s3":
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(link, data=b"other", method="PUT"))
    assert storage_servers.SECRET not in link


def test_a_node_writes_into_a_folder_that_is_not_there_yet(tmp_path):
    (tmp_path / "out").write_bytes(b"abc")
    with storage_servers.webdav(tmp_path / "dav", is_open=True) as address:
        link = HttpMover().link(f"{address}/panda", "s/d/3f/a1/out@1.1", "PUT", 60)
        copytools.stage_out(Output("out", link), str(tmp_path / "out"), threading.Event())

        assert HttpMover().measure(Place(f"{address}/panda", "s/d/3f/a1/out@1.1"), still) == content(b"abc")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../../b"])
def test_no_path_leads_out_of_any_storage(mover, root, kind, path):
    if kind == "stub":
        return
    with pytest.raises(OSError, match="no path below the storage"):
        mover.open(Place(root, path))


def test_a_link_does_not_lead_out_of_a_folder(tmp_path):
    mover, root = LocalMover(), tmp_path / "storage"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_bytes(b"secret")
    root.mkdir()
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "file").symlink_to(tmp_path / "outside" / "a")

    for path in ("folder/a", "file"):
        with pytest.raises(OSError, match="leads out of the storage"):
            mover.open(Place(str(root), path))
        with pytest.raises(OSError, match="leads out of the storage"):
            mover.write(Place(str(root), path), io.BytesIO(b"x"), 10, still)
    assert (tmp_path / "outside" / "a").read_bytes() == b"secret"


@pytest.mark.parametrize("kind", ["nginx"])
def test_a_server_that_is_full_keeps_nothing_and_says_so(mover, root, kind):
    address = root.rpartition("/")[0]
    with pytest.raises(OSError, match="507") as full:
        mover.write(Place(f"{address}/full", "s/a"), io.BytesIO(b"abc"), 10, still)
    assert full.value.errno == errno.ENOSPC


def test_a_disk_that_fills_up_in_the_middle_keeps_what_was_there_and_nothing_of_the_new(tmp_path):
    mover, large = LocalMover(), Place(str(tmp_path / "large"), "s/a")
    mover.write(large, io.BytesIO(b"x" * (3 << 20)), 10**8, still)
    with storage_servers.small_disk(tmp_path / "small") as disk:
        there = Place(str(disk), "s/a")
        mover.write(there, io.BytesIO(b"abc"), 10, still)

        for bring in (
            lambda: mover.write(there, io.BytesIO(b"x" * (3 << 20)), 10**8, still),
            lambda: mover.copy(large, there, content(b"x" * (3 << 20)), still),
        ):
            with pytest.raises(OSError, match="No space left") as full:
                bring()
            assert full.value.errno == errno.ENOSPC
            assert [each.name for each in disk.rglob("*") if each.is_file()] == ["a"]
        assert read(mover, there) == b"abc"


@pytest.fixture
def https(tmp_path):
    """A server whose certificate nobody knows; yields its address and the certificate."""
    pem = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", pem, "-out", tmp_path / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", pem)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_bytes(b"abc")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "files"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"https://localhost:{server.server_port}", tmp_path / "ca.pem"
        server.shutdown()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_server_that_nobody_vouches_for_is_not_spoken_to(https, tmp_path, monkeypatch):
    address, ca = https
    with pytest.raises(OSError, match="certificate"):
        HttpMover().open(Place(address, "a"))

    credentials = tmp_path / "credentials.toml"
    credentials.write_text(f'[[credentials]]\nprefix = "{address}"\nca = "{ca}"\n')
    credentials.chmod(0o600)
    monkeypatch.setenv("PANDA_DATA_CREDENTIALS", str(credentials))
    settings.current.cache_clear()
    try:
        assert read(HttpMover(), Place(address, "a")) == b"abc"
    finally:
        settings.current.cache_clear()


@pytest.mark.parametrize("kind", ["nginx"])
@pytest.mark.parametrize(("place", "problem"), [("full", "507"), ("nowhere", "no such file")])
def test_a_server_that_refuses_is_an_oserror(mover, root, kind, place, problem):
    address = root.rpartition("/")[0]
    with pytest.raises(OSError, match=problem):
        mover.size(Place(f"{address}/{place}", "a"))


@pytest.mark.parametrize("kind", ["nginx"])
def test_a_page_in_place_of_the_file_is_found_out(mover, root, kind):
    address = root.rpartition("/")[0]
    with pytest.raises(WrongContent, match="not 3 with"):
        mover.copy(Place(f"{address}/html", "a"), Place(root, "s/a"), content(b"abc"), still)
    with pytest.raises(FileNotFoundError):
        mover.size(Place(root, "s/a"))


@pytest.mark.parametrize("kind", ["nginx"])
def test_a_credential_does_not_follow_a_redirect_elsewhere(mover, root, kind):
    address = root.rpartition("/")[0]
    assert read(mover, Place(f"{address}/echo", "a")).startswith(b"authorization=Basic")
    assert read(mover, Place(f"{address}/elsewhere", "a")) == b"authorization="


@pytest.mark.parametrize("kind", ["nginx"])
def test_a_server_that_says_nothing_is_given_up(mover, root, kind, monkeypatch):
    monkeypatch.setattr("panda.dataservice.movers.http.TIMEOUT", urllib3.Timeout(connect=1, read=0.2))
    address = root.rpartition("/")[0]
    with pytest.raises(OSError, match="does not answer"):
        mover.size(Place(f"{address}/hangs", "a"))


@pytest.mark.parametrize("kind", ["webdav", "s3"])
def test_without_its_credential_a_storage_stays_closed(mover, root, kind, monkeypatch):
    monkeypatch.delenv("PANDA_DATA_CREDENTIALS")
    settings.current.cache_clear()
    with pytest.raises(OSError, match=r"401|Access|Signature|credentials"):
        mover.size(Place(root, "a"))


def test_credentials_that_others_may_read_are_refused(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[[credentials]]\nprefix = "https://a"\n')
    with pytest.raises(ConfigError, match="chmod 600"):
        credential_for("https://a/b", str(file))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "Expected"), ("a = 1", "only"), ("[[credentials]]\nprefx = 'https://a'", "did you mean 'prefix'"),
        ("[[credentials]]\nprefix = 'a'", "scheme"), ("[[credentials]]\nprefix = 1", "string"),
        ("[[credentials]]\nprefix = 'https://a'\nthird_party_copy = 'yes'", "true or false"),
    ],
)  # fmt: skip
def test_a_credentials_file_with_a_typo_is_refused(tmp_path, text, problem):
    file = tmp_path / "c.toml"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises((ConfigError, UnknownName), match=problem):
        credential_for("https://a/b", str(file))


def test_the_longest_prefix_counts_and_a_longer_host_is_another(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(
        '[[credentials]]\nprefix = "https://a.org"\ntoken = "1"\n[[credentials]]\nprefix = "https://a.org/x/"\ntoken = "2"\n'
    )
    file.chmod(0o600)
    assert [credential_for(url, str(file)).token for url in
            ("https://a.org", "https://a.org/x/y", "https://a.org.evil/x", "https://a.org/xy")] == ["1", "2", "", "1"]  # fmt: skip


def test_where_the_kernel_cannot_copy_we_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "cross-device link")

    monkeypatch.setattr("os.copy_file_range", refuse)
    mover, here, there = LocalMover(), Place(str(tmp_path), "a"), Place(str(tmp_path), "b")
    mover.write(here, io.BytesIO(b"abc"), 10, still)

    mover.copy(here, there, content(b"abc"), still)

    assert read(mover, there) == b"abc"


def test_paths_fit_a_file_system_and_differ_where_names_do():
    long = "x" * 249
    paths = {
        file_path("s", "d", "a"), output_path("s", "d", "a", 1, 1), output_path("s", "d", "a", 1, 2),
        file_path("s", "d", long + "a"), file_path("s", "d", long + "b"), output_path("s", "d", long + "a", 2**60, 99),
    }  # fmt: skip

    assert len(paths) == 6
    assert all(len(part) <= 255 for path in paths for part in path.split("/"))

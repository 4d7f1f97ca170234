"""The client over a real socket: lost connections, early refusals, files."""

import hashlib
import io
import socket
import threading
import zlib
from pathlib import Path

import pytest
from cli_scripted import Reply, Scripted

from panda.client import ChecksumMismatch, Client, DatasetFile, Invalid, TooLarge, Unauthenticated, Unavailable
from panda.client.datasets import content_told
from panda.client.partial import PartFile
from panda.client.sandbox import pack

ACCEPTED = {"jobset_id": 1, "first_panda_id": 10, "last_panda_id": 19, "n_jobs": 10}
JOB = {"panda_id": 1, "status": "running"}
LOST = Reply(status=0)


@pytest.fixture
def client(script: Scripted) -> Client:
    return Client(script.url, "secret", sleep=lambda _: None)


def test_a_submission_whose_answer_was_lost_is_sent_again_under_the_same_key(client: Client, script: Scripted) -> None:
    script.on("POST", "/v1/jobsets", LOST, LOST, Reply(200, ACCEPTED))

    client.submit({"name": "a"})

    keys = [each.headers["Idempotency-Key"] for each in script.received]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert {each.headers["Authorization"] for each in script.received} == {"Bearer secret"}


def test_an_answer_that_breaks_off_is_asked_for_again(client: Client, script: Scripted) -> None:
    script.on("GET", "/v1/jobs/1", Reply(document=JOB, n_bytes=5), JOB)

    assert client.job(1).status == "running"
    assert len(script.received) == 2


def test_one_connection_serves_many_calls(client: Client, script: Scripted) -> None:
    script.on("GET", "/v1/jobs/1", JOB)

    for _ in range(5):
        client.job(1)

    assert script.n_connections == 1


def test_a_retry_uses_a_connection_of_its_own(client: Client, script: Scripted) -> None:
    script.on("GET", "/v1/jobs/1", JOB)
    script.on("POST", "/v1/jobs/1/retry", {"n": 1})
    client.job(1)

    client.retry(1)

    assert script.n_connections == 2


def test_nobody_listening_is_unavailable(script: Scripted) -> None:
    with pytest.raises(Unavailable, match=r"no server at 127\.0\.0\.1:1"):
        Client("http://127.0.0.1:1", sleep=lambda _: None).job(1)


def test_a_silent_server_is_given_up(script: Scripted) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match="timed out") as given_up:
            Client(url, read_s=0.05, sleep=lambda _: None).job(1)

    assert given_up.value.code == "lost_reply"


def test_something_else_that_listens_is_no_server_of_ours(script: Scripted) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            for _ in range(5):
                connection, _address = other.accept()
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable):
            Client(f"http://127.0.0.1:{other.getsockname()[1]}", sleep=lambda _: None).job(1)
        thread.join()


def put_path(name: str) -> str:
    return f"/v1/datasets/user.ann:in/files/{name}"


def test_a_file_travels_with_its_checksum(client: Client, script: Scripted, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "a.root").write_bytes(content)
    adler32 = f"{zlib.adler32(content):08x}"
    script.on("PUT", put_path("a.root"), LOST, {"lfn": "a.root", "size_bytes": len(content), "adler32": adler32})
    moved: list[int] = []

    registered = client.datasets.put("user.ann:in", tmp_path / "a.root", storage="N DISK", moved=moved.append)

    assert registered.adler32 == adler32
    assert [each.body for each in script.received] == [content, content]
    assert script.received[1].headers["X-Adler32"] == adler32
    assert script.received[1].headers["X-Sha256"] == hashlib.sha256(content).hexdigest()
    assert script.received[1].target == put_path("a.root") + "?storage=N+DISK"
    assert sum(moved) == 2 * len(content)


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthenticated), (413, TooLarge), (422, Invalid)])
def test_a_server_that_refuses_an_upload_before_it_read_it_is_understood(
    client: Client, script: Scripted, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    (tmp_path / "big").write_bytes(b"x" * 8_000_000)
    refusal = Reply(status, {"code": "no", "detail": "not like this"}, reads_body=False)
    script.on("PUT", put_path("big"), refusal)

    with pytest.raises((kind, Unavailable)) as refused:
        client.datasets.put("user.ann:in", tmp_path / "big")

    # The kernel may drop the answer together with what was not read: then all that is known is that.
    assert isinstance(refused.value, kind) or refused.value.code == "lost_reply"


CONTENT = b"0123456789" * 1000
FILE = DatasetFile(lfn="o.root", size_bytes=len(CONTENT), adler32=f"{zlib.adler32(CONTENT):08x}")
FILE_PATH = "/v1/datasets/user.ann:out/files/o.root"


def test_a_file_that_is_fetched_is_verified_and_not_fetched_again(
    client: Client, script: Scripted, tmp_path: Path
) -> None:
    script.on("GET", FILE_PATH, Reply(document=CONTENT))

    assert client.datasets.get("user.ann:out", FILE, tmp_path / "new") is True
    assert client.datasets.get("user.ann:out", FILE, tmp_path / "new") is False

    assert (tmp_path / "new" / "o.root").read_bytes() == CONTENT
    assert len(script.received) == 1


def part_of(first: int, n_bytes: int | None = None) -> Reply:
    told = {"Content-Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"}
    return Reply(206, CONTENT[first:], told, n_bytes=n_bytes)


def test_a_download_that_breaks_off_goes_on_where_it_was(client: Client, script: Scripted, tmp_path: Path) -> None:
    # More often than a download is begun in vain: each brings something.
    pieces = [part_of(first, 100) for first in range(100, 600, 100)]
    script.on("GET", FILE_PATH, Reply(document=CONTENT, n_bytes=100), *pieces, part_of(600))
    moved: list[int] = []

    client.datasets.get("user.ann:out", FILE, tmp_path, moved=moved.append)

    assert (tmp_path / "o.root").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["o.root"]
    assert [each.headers.get("Range") for each in script.received] == [
        None, *(f"bytes={first}-" for first in range(100, 700, 100)),
    ]  # fmt: skip
    assert sum(moved) == len(CONTENT)


def test_a_later_call_goes_on_from_what_an_earlier_one_left(client: Client, script: Scripted, tmp_path: Path) -> None:
    script.on("GET", FILE_PATH, Reply(document=CONTENT, n_bytes=5000), Reply(0))
    with pytest.raises(Unavailable):
        client.datasets.get("user.ann:out", FILE, tmp_path)
    [left] = tmp_path.iterdir()
    script.on("GET", FILE_PATH, part_of(5000))
    moved: list[int] = []

    client.datasets.get("user.ann:out", FILE, tmp_path, moved=moved.append)

    assert left.name == f".o.root.{FILE.adler32}.part"
    assert (moved[0], sum(moved)) == (5000, len(CONTENT))
    assert script.received[-1].headers["Range"] == "bytes=5000-"
    assert [path.name for path in tmp_path.iterdir()] == ["o.root"]
    assert (tmp_path / "o.root").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("left", "answers"),
    [
        (b"X" * 5000, [part_of(5000), Reply(document=CONTENT)]),  # damaged on this disk
        (b"X" * 20_000, [Reply(document=CONTENT)]),  # longer than the file
        (CONTENT[:5000], [Reply(document=CONTENT)]),  # a server that knows no parts
        (CONTENT, []),  # all but its name
    ],
)
def test_what_an_earlier_call_left_is_not_trusted(
    client: Client, script: Scripted, tmp_path: Path, left: bytes, answers: list[Reply]
) -> None:
    (tmp_path / f".o.root.{FILE.adler32}.part").write_bytes(left)
    if answers:
        script.on("GET", FILE_PATH, *answers)

    client.datasets.get("user.ann:out", FILE, tmp_path)

    assert (tmp_path / "o.root").read_bytes() == CONTENT
    assert len(script.received) == len(answers)


def test_a_part_of_another_file_is_refused(client: Client, script: Scripted, tmp_path: Path) -> None:
    (tmp_path / f".o.root.{FILE.adler32}.part").write_bytes(CONTENT[:5000])
    script.on("GET", FILE_PATH, Reply(206, b"abc", {"Content-Range": "bytes 5000-5002/5003"}))

    with pytest.raises(Invalid, match="a moment ago"):
        client.datasets.get("user.ann:out", FILE, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_two_that_fetch_one_file_do_not_spoil_each_other(client: Client, script: Scripted, tmp_path: Path) -> None:
    script.on("GET", FILE_PATH, Reply(document=CONTENT))

    with PartFile(tmp_path / "o.root", content_told(FILE)) as other:
        other.append([CONTENT[:10]], lambda _: None)
        client.datasets.get("user.ann:out", FILE, tmp_path)

    assert (tmp_path / "o.root").read_bytes() == CONTENT
    assert other.n_bytes == 10


@pytest.mark.parametrize("arrived", [CONTENT[:-1], CONTENT[:-1] + b"X", b""])
def test_a_damaged_file_is_not_kept(client: Client, script: Scripted, tmp_path: Path, arrived: bytes) -> None:
    script.on("GET", FILE_PATH, Reply(document=arrived))

    with pytest.raises(ChecksumMismatch, match=r"o\.root arrived with"):
        client.datasets.get("user.ann:out", FILE, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_file_with_the_right_adler32_and_the_wrong_sha256_is_not_kept(
    client: Client, script: Scripted, tmp_path: Path
) -> None:
    file = DatasetFile(lfn="o.root", size_bytes=3, adler32="024d0126", sha256=hashlib.sha256(b"aca").hexdigest())
    script.on("GET", FILE_PATH, Reply(document=b"bab"), Reply(document=b"aca"))
    (tmp_path / "o.root").write_bytes(b"bab")  # nor is one that was there taken for it

    with pytest.raises(ChecksumMismatch, match="SHA-256"):
        client.datasets.get("user.ann:out", file, tmp_path)

    assert client.datasets.get("user.ann:out", file, tmp_path) is True
    assert client.datasets.get("user.ann:out", file, tmp_path) is False
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"aca"]


@pytest.mark.parametrize("lfn", ["../o.root", "/etc/passwd", "..", "a/b", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(client: Client, tmp_path: Path, lfn: str) -> None:
    with pytest.raises(Invalid, match="cannot be the name"):
        client.datasets.get("x:y", DatasetFile(lfn=lfn, size_bytes=1, adler32="00000001"), tmp_path)


def test_a_sandbox_is_uploaded_once(client: Client, script: Scripted, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    script.on("PUT", "/v1/sandboxes/" + client_hash(tmp_path), LOST, Reply(201, {}))
    script.on("HEAD", "/v1/sandboxes/" + client_hash(tmp_path), Reply(404), Reply(200))

    first = client.upload_sandbox(["a.py"], tmp_path)
    second = client.upload_sandbox(["a.py"], tmp_path)

    bodies = [each.body for each in script.received if each.method == "PUT"]
    assert first == second
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert len(bodies[0]) == first.size_bytes


def client_hash(folder: Path) -> str:
    return pack(["a.py"], io.BytesIO(), folder).sha256

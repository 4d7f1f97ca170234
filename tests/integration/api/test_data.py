"""Datasets over HTTP: made, filled, listed, fetched, closed."""

import hashlib
import io
import zlib

import pytest

from panda.db.session import run

CONTENT = b"events" * 1000
GUID = "6F9619FF-8B86-D011-B42D-00CF4FC964FF"
ADLER32 = f"{zlib.adler32(CONTENT):08x}"


@pytest.fixture
def dataset(anna, sites):
    anna.post("/v1/datasets", {"dataset": "mc:ten"})
    return "/v1/datasets/mc:ten"


def put(caller, dataset, lfn="a.root", content=CONTENT, query="", **headers):
    return caller("PUT", f"{dataset}/files/{lfn}", body=content, query_string=query, headers=headers)


def test_a_dataset_is_made_once_and_again_by_its_owner(anna, caller):
    first = anna.post("/v1/datasets", {"dataset": "mc:ten"})
    again = anna.post("/v1/datasets", {"dataset": "mc:ten"})
    stolen = caller("bert", "user").post("/v1/datasets", {"dataset": "mc:ten"})

    assert (first.status_code, first.headers["Location"]) == (201, "/v1/datasets/mc:ten")
    assert (first.json["owner"], first.json["status"], first.json["n_files"]) == ("anna", "open", 0)
    assert again.status_code == 201
    assert (stolen.status_code, stolen.json["code"]) == (409, "dataset_exists")


def test_a_file_comes_back_as_it_went_in(anna, dataset):
    stored = put(anna, dataset, query="storage=HOLLAND-DISK", **{"X-Adler32": ADLER32})

    assert stored.status_code == 201
    assert (stored.json["size_bytes"], stored.json["adler32"]) == (len(CONTENT), ADLER32)
    assert stored.json["storages"] == ["HOLLAND-DISK"]
    fetched = anna.get(f"{dataset}/files/a.root")
    assert (fetched.content, fetched.headers["X-Adler32"]) == (CONTENT, ADLER32)
    assert anna.get(dataset).json["n_files"] == 1


def test_what_is_told_of_a_file_is_verified_and_kept(anna, dataset):
    told = {"X-Sha256": hashlib.sha256(CONTENT).hexdigest(), "X-Md5": hashlib.md5(CONTENT).hexdigest(), "X-Guid": GUID}

    stored = put(anna, dataset, **told)
    again = put(anna, dataset)

    assert stored.status_code == again.status_code == 201
    assert {f"X-{name.title()}": again.json[name] for name in ("sha256", "md5", "guid")} == told
    [listed] = anna.get(f"{dataset}/files").json["data"]
    assert listed == again.json
    assert anna.get("/v1/files").json["data"][0]["md5"] == told["X-Md5"]


def test_other_bytes_that_have_the_same_adler32_are_refused(anna, dataset):
    put(anna, dataset, content=b"aca")

    refused = put(anna, dataset, content=b"bab")

    assert zlib.adler32(b"aca") == zlib.adler32(b"bab")
    assert (refused.status_code, refused.json["code"]) == (409, "file_exists")
    assert anna.get(f"{dataset}/files/a.root").content == b"aca"


@pytest.fixture(params=[True, False], ids=["a file", "a stream that cannot jump"])
def seekable(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr("panda.dataservice.movers.local.LocalMover.open", lambda self, place: OneWay(self, place))


class OneWay(io.BytesIO):
    def __init__(self, mover, place):
        with open(f"{place.root}/{place.path}", "rb") as file:
            super().__init__(file.read())

    def seekable(self):
        return False


@pytest.mark.parametrize(
    ("asked", "status", "first", "end"),
    [
        ("bytes=0-", 206, 0, 6000), ("bytes=10-", 206, 10, 6000), ("bytes=10-19", 206, 10, 20),
        ("bytes=5999-", 206, 5999, 6000), ("bytes=-7", 206, 5993, 6000), ("bytes=-9000", 206, 0, 6000),
        ("bytes=10-9000", 206, 10, 6000), ("lines=1-2", 200, 0, 6000),
    ],
)  # fmt: skip
def test_a_part_of_a_file_is_fetched(anna, dataset, seekable, asked, status, first, end):
    content = bytes(range(250)) * 24
    put(anna, dataset, content=content)

    fetched = anna.get(f"{dataset}/files/a.root", headers={"Range": asked})

    assert (fetched.status_code, fetched.content) == (status, content[first:end])
    assert fetched.headers["X-Adler32"] == f"{zlib.adler32(content):08x}"
    assert fetched.headers["Content-Length"] == str(end - first)
    if status == 206:
        assert fetched.headers["Content-Range"] == f"bytes {first}-{end - 1}/6000"


@pytest.mark.parametrize(
    ("asked", "status"), [("bytes=6000-", 416), ("bytes=x-", 400), ("bytes=1-2,4-5", 400), ("bytes=9-3", 400)]
)
def test_a_part_that_is_none_is_refused(anna, dataset, asked, status):
    put(anna, dataset)

    refused = anna.get(f"{dataset}/files/a.root", headers={"Range": asked})

    assert (refused.status_code, refused.json["code"]) == (status, "invalid")


QUOTA = """
INSERT INTO storage_quotas VALUES ('users', '{*}', '{*}', '{%%}', '{%%}', true, 7000), ('bert', '{bert}', '{*}', '{bert}', '{%%}', false, 9)
"""


def test_a_quota_is_told_to_those_whom_it_concerns_and_kept(anna, operator, dataset, begin):
    with begin() as connection:
        run(connection, QUOTA, {"nothing": None})
    put(anna, dataset)

    refused = put(anna, dataset, lfn="b.root")
    told = anna.get("/v1/storage-quotas").json["data"]
    everything = operator.get("/v1/storage-quotas").json["data"]

    assert (refused.status_code, refused.json["code"]) == (409, "storage_quota_reached")
    assert [(q["quota"], q["owner"], q["used_bytes"], q["limit_bytes"]) for q in told] == [
        ("users", "anna", 6000, 7000)
    ]
    assert [(q["quota"], q["owner"]) for q in everything] == [("bert", None), ("users", "anna")]
    assert anna.get("/v1/storage-quotas?owner=bert").status_code == 403
    assert anna.get(dataset).json["n_files"] == 1


def test_a_storage_without_room_refuses_and_shows_it(anna, dataset, begin):
    with begin() as connection:
        run(connection, "INSERT INTO storage_space (storage, room_bytes) VALUES ('HOLLAND-DISK', 100)")

    refused = put(anna, dataset)
    [storage] = anna.get("/v1/storages").json["data"]

    assert (refused.status_code, refused.json["code"]) == (507, "no_room")
    assert (storage["room_bytes"], storage["limit_mb"], storage["used_bytes"]) == (100, 0, 0)
    assert [s["name"] for s in anna.get("/v1/storages?filter=full:false+room<200").json["data"]] == ["HOLLAND-DISK"]


def test_the_only_storage_need_not_be_named(anna, dataset):
    assert put(anna, dataset).json["storages"] == ["HOLLAND-DISK"]


def test_without_a_storage_no_file_is_taken(anna):
    anna.post("/v1/datasets", {"dataset": "mc:ten"})

    assert put(anna, "/v1/datasets/mc:ten").json["code"] == "storage_missing"


def test_files_go_page_by_page(anna, dataset):
    for name in ("a", "b", "c"):
        put(anna, dataset, lfn=name)

    first = anna.get(f"{dataset}/files?limit=2").json
    second = anna.get(f"{dataset}/files?limit=2&after={first['page']['next']}").json

    assert [file["lfn"] for file in first["data"] + second["data"]] == ["a", "b", "c"]
    assert second["page"]["next"] is None


def test_datasets_go_page_by_page(anna):
    for name in ("a", "b", "c"):
        anna.post("/v1/datasets", {"dataset": f"mc:{name}"})

    first = anna.get("/v1/datasets?limit=2").json
    second = anna.get(f"/v1/datasets?limit=2&after={first['page']['next']}").json

    assert [each["dataset"] for each in first["data"] + second["data"]] == ["mc:a", "mc:b", "mc:c"]


def test_a_closed_dataset_takes_no_more_files(anna, dataset):
    closed = anna.post(f"{dataset}/close")

    assert (closed.status_code, closed.json["status"]) == (200, "closed")
    assert put(anna, dataset).json["code"] == "dataset_closed"
    assert anna.post(f"{dataset}/close").status_code == 200


def test_only_the_owner_fills_and_closes_a_dataset_and_everybody_reads_it(anna, caller, dataset):
    put(anna, dataset)
    bert = caller("bert", "user")

    assert put(bert, dataset, lfn="b.root").status_code == 403
    assert bert.post(f"{dataset}/close").status_code == 403
    assert bert.get(f"{dataset}/files/a.root").content == CONTENT


@pytest.mark.parametrize(
    ("lfn", "query", "headers", "status", "code"),
    [
        ("a.root", "", {"X-Adler32": "00000001"}, 422, "wrong_checksum"),
        ("a.root", "", {"X-Sha256": "0" * 64}, 422, "wrong_checksum"),
        ("a.root", "", {"X-Md5": "0" * 32}, 422, "wrong_checksum"),
        ("a.root", "", {"X-Adler32": "no"}, 400, "invalid"),
        ("a.root", "", {"X-Sha256": "A" * 64}, 400, "invalid"),
        ("a.root", "", {"X-Md5": "0" * 31}, 400, "invalid"),
        ("a.root", "", {"X-Guid": "../../x"}, 400, "invalid"),
        ("a.root", "storage=NOWHERE", {}, 404, "not_found"),
        ("..", "", {}, 422, "bad_name"),
        ("a%20b", "", {}, 422, "bad_name"),
        ("a.root", "", {"Content-Length": "9000000"}, 400, "cut_short"),
        ("a.root", "", {"Content-Length": "9000000000"}, 413, "too_large"),
    ],
)
def test_a_bad_upload_leaves_nothing(anna, dataset, settings, lfn, query, headers, status, code):
    answer = put(anna, dataset, lfn=lfn, query=query, **headers)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert anna.get(f"{dataset}/files").json["data"] == []
    assert [path for path in (settings.data_dir / "HOLLAND").rglob("*") if path.is_file()] == []


def test_a_body_of_unknown_length_needs_a_checksum(anna, dataset):
    chunked = {"wsgi.input": io.BytesIO(CONTENT), "wsgi.input_terminated": True}

    without = anna("PUT", f"{dataset}/files/a.root", extras=dict(chunked))
    with_one = anna("PUT", f"{dataset}/files/a.root", headers={"X-Adler32": ADLER32}, extras=dict(chunked))

    assert (without.status_code, without.json["code"]) == (400, "length_required")
    assert (with_one.status_code, with_one.json["size_bytes"]) == (201, len(CONTENT))


@pytest.mark.parametrize("did", ["mc", "mc:", ":ten", "mc:../x", "mc:ten:more"])
def test_a_name_that_is_none_is_refused(anna, did):
    answer = anna.post("/v1/datasets", {"dataset": did})

    assert (answer.status_code, answer.json["code"]) == (422, "bad_name")


@pytest.mark.parametrize("path", ["", "/files", "/files/a.root"])
def test_a_dataset_that_does_not_exist_is_not_found(anna, path):
    assert anna.get(f"/v1/datasets/mc:none{path}").status_code == 404


def test_a_dataset_is_kept_as_long_as_its_owner_says(anna, caller, dataset):
    kept = anna("PUT", f"{dataset}/lifetime", {"lifetime_s": 3600, "pinned": True})

    assert kept.status_code == 200
    assert kept.json["pinned"]
    assert kept.json["expires_at"] is not None
    assert anna("DELETE", dataset).json["code"] == "dataset_pinned"
    assert caller("bert", "user")("PUT", f"{dataset}/lifetime", {}).status_code == 403
    assert anna("PUT", f"{dataset}/lifetime", {}).json["expires_at"] is None
    assert anna("PUT", f"{dataset}/lifetime", {"lifetime_s": 0}).status_code == 422


def test_a_dataset_that_is_let_go_takes_no_file_and_stays_until_it_is_gone(anna, caller, dataset):
    put(anna, dataset)

    assert caller("bert", "user")("DELETE", dataset).status_code == 403
    gone = anna("DELETE", dataset)

    assert (gone.status_code, gone.json["status"]) == (202, "deleting")
    assert anna("DELETE", dataset).status_code == 202
    assert put(anna, dataset, lfn="b").json["code"] == "dataset_deleting"
    assert anna.post("/v1/datasets", {"dataset": "mc:ten"}).json["code"] == "dataset_deleting"
    assert anna("PUT", f"{dataset}/lifetime", {}).json["code"] == "dataset_deleting"
    assert anna("DELETE", "/v1/datasets/mc:none").status_code == 404


def test_a_file_tells_where_it_comes_from(anna, dataset):
    put(anna, dataset)

    found = anna.get(f"{dataset}/files/a.root/lineage").json

    assert (found["panda_id"], found["made_from"], found["read_by"]) == (None, [], [])
    assert anna.get(f"{dataset}/files/none/lineage").status_code == 404


def test_transfers_and_ways_are_listed(anna, begin, dataset):
    put(anna, dataset)
    with begin() as connection:
        run(
            connection,
            "INSERT INTO transfers (file_id, destination, due_at, created_at)"
            " SELECT file_id, 'HOLLAND-DISK', panda_now(), panda_now() FROM files",
        )

    [transfer] = anna.get("/v1/transfers?filter=status:queued,moving").json["data"]
    [way] = anna.get("/v1/links").json["data"]

    assert (transfer["lfn"], transfer["destination"], transfer["status"]) == ("a.root", "HOLLAND-DISK", "queued")
    assert anna.get(f"/v1/transfers/{transfer['transfer_id']}").json == transfer
    assert anna.get("/v1/transfers/99").status_code == 404
    assert (way["source"], way["destination"], way["n_queued"]) == (None, "HOLLAND-DISK", 1)
    assert anna.get("/v1/transfers?filter=colour:red").status_code == 400

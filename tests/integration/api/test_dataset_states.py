"""Datasets that are closed, frozen and opened again, containers, and rules, over HTTP."""

import pytest

from panda.db.session import run

CONTENT = b"events"


@pytest.fixture
def world(anna, sites):
    """Datasets mc:one (a file) and mc:two, container mc:box with mc:one; all anna's."""
    for did in ("mc:one", "mc:two"):
        assert anna.post("/v1/datasets", {"dataset": did}).status_code == 201
    assert anna("PUT", "/v1/datasets/mc:one/files/a.root", body=CONTENT).status_code == 201
    made = anna.post("/v1/datasets", {"dataset": "mc:box", "kind": "container"})
    assert (made.status_code, made.json["kind"]) == (201, "container")
    assert anna.post("/v1/datasets/mc:box/members", {"datasets": ["mc:one"]}).json["n_files"] == 1
    return anna


def refused(answer):
    return answer.status_code, answer.json["code"]


def test_a_dataset_is_closed_opened_and_frozen(world):
    deeds = ("close", "close", "reopen", "reopen", "close", "freeze", "freeze", "close")

    told = [world.post(f"/v1/datasets/mc:two/{deed}").json["status"] for deed in deeds]

    assert told == ["closed", "closed", "open", "open", "closed", "frozen", "frozen", "frozen"]
    assert refused(world.post("/v1/datasets/mc:two/reopen")) == (409, "dataset_frozen")
    assert refused(world("PUT", "/v1/datasets/mc:two/files/b", body=CONTENT)) == (409, "dataset_closed")
    world("DELETE", "/v1/datasets/mc:two")
    assert refused(world.post("/v1/datasets/mc:two/reopen")) == (409, "dataset_deleting")
    assert refused(world.post("/v1/datasets/mc:two/freeze")) == (409, "dataset_deleting")


def test_a_container_lists_its_datasets_and_lets_them_go(world):
    added = world.post("/v1/datasets/mc:box/members", {"datasets": ["mc:two", "mc:one"]})
    inside = world.get("/v1/datasets/mc:box/members").json["data"]
    removed = world("DELETE", "/v1/datasets/mc:box/members/mc:one")

    assert (added.json["n_files"], added.json["size_bytes"]) == (1, len(CONTENT))
    assert [(each["dataset"], each["kind"], each["n_files"]) for each in inside] == [
        ("mc:one", "dataset", 1), ("mc:two", "dataset", 0),
    ]  # fmt: skip
    assert (removed.json["dataset"], removed.json["n_files"]) == ("mc:box", 0)
    assert [each["dataset"] for each in world.get("/v1/datasets?filter=kind:container").json["data"]] == ["mc:box"]


def test_a_dataset_is_wanted_on_a_storage_and_no_more(world):
    made = world("PUT", "/v1/datasets/mc:one/rules/HOLLAND-DISK")
    listed = world.get("/v1/datasets/mc:one/rules")
    dropped = world("DELETE", "/v1/datasets/mc:one/rules/HOLLAND-DISK")

    assert [(each["storage"], each["made_by"], each["done_at"]) for each in made.json["data"]] == [
        ("HOLLAND-DISK", "anna", None)
    ]
    assert listed.json == made.json
    assert dropped.json["data"] == []


BOX, ONE = "/v1/datasets/mc:box", "/v1/datasets/mc:one"


@pytest.mark.parametrize(
    ("method", "path", "document", "told"),
    [
        ("POST", "/v1/datasets", {"dataset": "mc:new", "kind": "folder"}, (422, "invalid")),
        ("POST", "/v1/datasets", {"dataset": "mc:one", "kind": "container"}, (409, "dataset_exists")),
        ("POST", "/v1/datasets", {"dataset": "mc:box"}, (409, "dataset_exists")),
        ("POST", "/v1/datasets/mc:gone/freeze", None, (404, "not_found")),
        ("POST", "/v1/datasets/gone/reopen", None, (422, "bad_name")),
        ("POST", f"{BOX}/members", {"datasets": []}, (422, "invalid")),
        ("POST", f"{BOX}/members", {"datasets": ["one"]}, (422, "bad_name")),
        ("POST", f"{BOX}/members", {"datasets": ["mc:two", "mc:gone"]}, (404, "not_found")),
        ("POST", f"{BOX}/members", {"datasets": ["mc:box"]}, (409, "is_container")),
        ("POST", f"{ONE}/members", {"datasets": ["mc:two"]}, (409, "no_container")),
        ("GET", f"{ONE}/members", None, (409, "no_container")),
        ("DELETE", f"{BOX}/members/mc:two", None, (404, "not_found")),
        ("DELETE", f"{ONE}/members/mc:two", None, (409, "no_container")),
        ("GET", f"{BOX}/files", None, (409, "is_container")),
        ("PUT", f"{BOX}/rules/HOLLAND-DISK", None, (409, "is_container")),
        ("PUT", f"{ONE}/rules/NOWHERE", None, (404, "not_found")),
        ("DELETE", f"{ONE}/rules/HOLLAND-DISK", None, (404, "not_found")),
        ("GET", "/v1/datasets/mc:gone/rules", None, (404, "not_found")),
    ],
)
def test_what_cannot_be_meant_is_told_and_changes_nothing(world, method, path, document, told):
    assert refused(world(method, path, document)) == told
    assert [each["dataset"] for each in world.get(f"{BOX}/members").json["data"]] == ["mc:one"]


def test_nothing_is_put_into_a_container_over_http(world):
    assert refused(world("PUT", f"{BOX}/files/b", body=CONTENT)) == (409, "is_container")


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", f"{ONE}/freeze", None),
        ("POST", f"{ONE}/reopen", None),
        ("POST", f"{BOX}/members", {"datasets": ["mc:two"]}),
        ("DELETE", f"{BOX}/members/mc:one", None),
        ("PUT", f"{ONE}/rules/HOLLAND-DISK", None),
        ("DELETE", f"{ONE}/rules/HOLLAND-DISK", None),
    ],
)
def test_only_the_owner_changes_a_dataset(world, caller, method, path, document):
    assert refused(caller("bert", "user")(method, path, document)) == (403, "forbidden")


def test_the_parts_of_a_job_set_are_told(world, begin, caller):
    accepted = world.submit(
        {
            "name": "skim",
            "template": {"command": ["true"], "inputs": {"IN": {"dataset": "mc:box"}}},
            "output_dataset": "mc:out",
        }
    ).json
    with begin() as connection:
        run(
            connection,
            "INSERT INTO transfers (file_id, destination, status, owner, jobset_id, due_at, created_at)"
            " SELECT file_id, 'HOLLAND-DISK', 'failed', owner, %(jobset_id)s, panda_now(), panda_now()"
            " FROM files, unnest(ARRAY[NULL, 'anna']) AS owner",
            accepted,
        )
    path = f"/v1/jobsets/{accepted['jobset_id']}/datasets"

    told = world.get(path).json["data"]

    assert [(part["role"], part["dataset"] or part["storage"], part["n_files"], part["n_failed"]) for part in told] == [
        ("input", "mc:box", 1, None),
        ("dispatch", "HOLLAND-DISK", 1, 1),
        ("output", "mc:out", 0, None),
        ("destination", "HOLLAND-DISK", 1, 1),
    ]
    assert refused(world.get("/v1/jobsets/999/datasets")) == (404, "not_found")


def test_an_output_dataset_cannot_be_a_container(world):
    document = {"name": "x", "jobs": [{"command": ["true"]}], "output_dataset": "mc:box"}
    assert refused(world.submit(document)) == (409, "is_container")

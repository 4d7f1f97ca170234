"""/v1/shares: the tree as it stands, and weights that operators change."""

import pytest

from panda.db.session import run
from panda.jobs import shares
from panda.jobs.share_tree import Share

TREE = [
    Share("production", None, 60), Share("simulation", "production", 3), Share("reconstruction", "production", 1),
    Share("default", None, 40),
]  # fmt: skip


@pytest.fixture
def tree(begin):
    with begin() as connection:
        shares.sync(connection, TREE)


def test_the_tree_shows_parts_running_cores_ready_jobs_and_deficits(begin, anna, sites, tree, engine, acquire):
    document = {"name": "x", "template": {"command": ["true"], "count": 3, "cores": 2}, "share": "simulation"}
    first = anna.submit(document, key="sim").json["first_panda_id"]
    other = anna.submit(key="default").json["first_panda_id"]
    engine.expand()
    engine.activate(first, first + 1, first + 2, other)
    taken = acquire(2)
    with begin() as connection:
        run(connection, "UPDATE share_usage SET counted_at = 'epoch'")

    answer = anna.get("/v1/shares")

    assert len(taken) == 2
    found = {each["name"]: each for each in answer.json["data"]}
    assert list(found) == ["default", "production", "reconstruction", "simulation"]
    assert found["simulation"] == {
        "name": "simulation", "parent": "production", "kind": "share", "weight": 3.0, "part": 0.6, "running_cores": 2,
        "n_ready": 2, "deficit_cores": -0.2,
    }  # fmt: skip
    assert (found["production"]["kind"], found["production"]["n_ready"], found["production"]["part"]) == (
        "group", 2, 0.6,
    )  # fmt: skip
    assert (found["default"]["running_cores"], found["default"]["n_ready"]) == (1, 0)
    assert (found["reconstruction"]["part"], found["reconstruction"]["deficit_cores"]) == (0, 0)


def test_an_operator_changes_a_weight_and_it_is_written_down(operator, anna, tree, begin):
    answer = operator("PUT", "/v1/shares/production", {"weight": 12.5, "reason": "campaign is over"})

    assert (answer.status_code, answer.json) == (200, {"share": "production", "weight": 12.5, "was": 60.0})
    assert {each["name"]: each["weight"] for each in anna.get("/v1/shares").json["data"]}["production"] == 12.5
    with begin() as connection:
        [entry] = connection.exec_driver_sql("SELECT who, target, reason, request_id FROM audit_log")
    assert tuple(entry)[:3] == ("otto", "share production", "campaign is over")
    assert entry.request_id == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("name", "document", "status", "code"),
    [
        ("nothing", {"weight": 1, "reason": "x"}, 404, "not_found"),
        ("default", {"weight": 0, "reason": "x"}, 422, "invalid"),
        ("default", {"weight": -1, "reason": "x"}, 422, "invalid"),
        ("default", {"weight": 1e-300, "reason": "x"}, 422, "bad_weight"),
        ("default", {"weight": 1e7, "reason": "x"}, 422, "invalid"),
        ("default", {"weight": "1", "reason": "x"}, 422, "invalid"),
        ("default", {"weight": True, "reason": "x"}, 422, "invalid"),
        ("default", {"weight": 1, "reason": " "}, 422, "no_reason"),
        ("default", {"weight": 1}, 422, "invalid"),
        ("default", {"wieght": 1, "reason": "x"}, 422, "invalid"),
        ("default%00", {"weight": 1, "reason": "x"}, 400, "invalid"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(operator, tree, name, document, status, code):
    answer = operator("PUT", f"/v1/shares/{name}", document)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert {each["name"]: each["weight"] for each in operator.get("/v1/shares").json["data"]}["default"] == 40


def test_a_user_sees_shares_and_changes_none(anna, pilot, tree):
    assert anna("PUT", "/v1/shares/default", {"weight": 1, "reason": "more for me"}).status_code == 403
    assert pilot.get("/v1/shares").status_code == 403


@pytest.mark.parametrize("share", ["simulatoin", "production"])
def test_a_job_set_that_names_no_leaf_is_refused(anna, tree, share):
    answer = anna.submit({"name": "x", "jobs": [{"command": ["true"]}], "share": share})

    assert (answer.status_code, answer.json["code"], answer.json["where"]) == (422, "unknown_share", "share")
    assert "simulation" in answer.json["detail"]
    assert anna.get("/v1/jobsets").json["data"] == []

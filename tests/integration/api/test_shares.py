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


def standing(who):
    return {each["name"]: (each["parent"], each["weight"]) for each in who.get("/v1/shares").json["data"]}


def start(begin, found=TREE):
    with begin() as connection:
        shares.sync(connection, found)


def test_shares_come_move_and_go_and_it_is_written_down(operator, anna, tree, begin):
    made = operator.post(
        "/v1/shares", {"name": "nightly", "weight": 5, "parent": "production", "reason": "tests at night"}
    )
    assert (made.status_code, made.json) == (201, {"share": "nightly", "parent": "production"})
    assert standing(anna)["nightly"] == ("production", 5)
    assert anna.submit({"name": "x", "jobs": [{"command": ["true"]}], "share": "nightly"}).status_code == 201

    moved = operator.post("/v1/shares/nightly/move", {"parent": "", "reason": "for itself"})
    assert (moved.status_code, standing(anna)["nightly"]) == (200, (None, 5))

    gone = operator.post("/v1/shares/nightly/remove", {"reason": "over"})
    assert (gone.status_code, gone.json) == (200, {"share": "nightly"})
    assert anna.submit({"name": "x", "jobs": [{"command": ["true"]}], "share": "nightly"}, key="2").status_code == 422
    with begin() as connection:
        found = connection.exec_driver_sql("SELECT action, target, reason FROM audit_log ORDER BY audit_id").all()
    assert [tuple(row) for row in found] == [
        ("add_share", "share nightly", "tests at night"), ("move_share", "share nightly", "for itself"),
        ("remove_share", "share nightly", "over"),
    ]  # fmt: skip


def test_what_changed_stays_over_a_start_until_the_file_says_another_thing(operator, anna, tree, begin):
    operator.post("/v1/shares", {"name": "nightly", "weight": 5, "parent": "production", "reason": "x"})
    operator.post("/v1/shares/simulation/move", {"parent": "", "reason": "x"})
    operator.post("/v1/shares/reconstruction/remove", {"reason": "x"})
    operator("PUT", "/v1/shares/simulation", {"weight": 9, "reason": "x"})
    as_changed = {
        "default": (None, 40), "production": (None, 60), "simulation": (None, 9), "nightly": ("production", 5),
    }  # fmt: skip

    start(begin)
    assert standing(anna) == as_changed

    # another weight of the one, the other one known, and without the parent of the third
    start(begin, [Share("default", None, 40), Share("simulation", None, 7), Share("nightly", "simulation", 1)])
    assert standing(anna) == {"default": (None, 40), "simulation": (None, 7), "nightly": ("simulation", 1)}
    start(begin)
    assert standing(anna) == {share.name: (share.parent, share.weight) for share in TREE}


def test_a_share_whose_parent_the_file_takes_away_goes_to_the_top(operator, anna, tree, begin):
    operator.post("/v1/shares", {"name": "nightly", "weight": 5, "parent": "production", "reason": "x"})

    start(begin, [Share("default", None, 40)])

    assert standing(anna) == {"default": (None, 40), "nightly": (None, 5)}


def test_where_file_and_operators_contradict_each_other_the_file_counts(operator, anna, begin):
    start(begin, [Share("default", None, 1), Share("a", None, 1), Share("b", None, 1)])
    operator.post("/v1/shares/a/move", {"parent": "b", "reason": "x"})

    start(begin, [Share("default", None, 1), Share("a", None, 1), Share("b", "a", 1)])

    assert standing(anna) == {"default": (None, 1), "a": (None, 1), "b": ("a", 1)}


@pytest.mark.parametrize(
    ("path", "document", "status", "code"),
    [
        ("", {"name": "simulation", "weight": 1, "reason": "x"}, 409, "share_exists"),
        ("", {"name": "a/b", "weight": 1, "reason": "x"}, 422, "bad_name"),
        ("", {"name": "a", "weight": 1e-300, "reason": "x"}, 422, "bad_weight"),
        ("", {"name": "a", "weight": 1, "parent": "nothing", "reason": "x"}, 404, "not_found"),
        ("", {"name": "a", "weight": 1, "parent": "default", "reason": "x"}, 422, "bad_share"),
        ("", {"name": "a", "weight": 1, "reason": " "}, 422, "no_reason"),
        ("/nothing/move", {"parent": "", "reason": "x"}, 404, "not_found"),
        ("/production/move", {"parent": "simulation", "reason": "x"}, 422, "bad_share"),
        ("/production/move", {"parent": "production", "reason": "x"}, 422, "bad_share"),
        ("/simulation/move", {"parent": "default", "reason": "x"}, 422, "bad_share"),
        ("/simulation/move", {"parent": "nothing", "reason": "x"}, 404, "not_found"),
        ("/default/remove", {"reason": "x"}, 409, "share_in_use"),
        ("/production/remove", {"reason": "x"}, 409, "share_in_use"),
        ("/nothing/remove", {"reason": "x"}, 404, "not_found"),
        ("/simulation/remove", {"reason": ""}, 422, "no_reason"),
    ],
)
def test_a_tree_that_makes_no_sense_is_refused(operator, anna, tree, path, document, status, code):
    before = standing(anna)

    answer = operator.post(f"/v1/shares{path}", document)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert standing(anna) == before

"""Versions of places over HTTP, who may change them, and queues that are taken away."""

import pytest

from panda.db.session import run
from panda.sites import judging

DOWNTIME = {"kind": "queue", "target": "HOLLAND-CPU", "ends_at": "2035-01-31T18:00:00Z", "reason": "kernel"}


@pytest.fixture
def changed(operator, sites):
    """Two versions: as it was found, and an operator's."""
    operator.post("/v1/queues/HOLLAND-CPU/status", {"status": "offline", "reason": "power cut"})


def ids(caller, **params):
    return [each["version_id"] for each in caller.get("/v1/site-versions", params=params).json["data"]]


def test_versions_are_listed_with_who_and_why(anna, changed):
    [newest, found] = anna.get("/v1/site-versions").json["data"]

    assert (newest["who"], newest["source"], newest["why"], newest["names"]) == (
        "otto", "http", "power cut", ["HOLLAND-CPU"],
    )  # fmt: skip
    assert (found["source"], found["n_changed"]) == ("found", 3)
    assert ids(anna, filter="name:HOLLAND-DISK") == [found["version_id"]]
    assert ids(anna, filter="who:otto at:1h") == [newest["version_id"]]


def test_a_version_tells_what_it_changed_and_two_what_is_different(anna, operator, changed):
    newest, found = ids(anna)

    told = anna.get(f"/v1/site-versions/{newest}").json
    assert told["version"]["version_id"] == newest
    assert {"kind": "queue", "name": "HOLLAND-CPU", "change": "changed", "field": "status", "was": "online",
            "now": "offline"} in told["changes"]  # fmt: skip
    assert anna.get("/v1/site-versions/diff", params={"since": found}).json["changes"] == told["changes"]
    assert anna.get("/v1/site-versions/diff", params={"since": found, "until": newest}).json["version_id"] == newest


def test_an_operator_rolls_back_first_dry(anna, operator, changed):
    _, found = ids(anna)
    wish = {"reason": "it was a drill", "status": True}

    dry = operator.post(f"/v1/site-versions/{found}/rollback", wish | {"dry_run": True}).json
    assert (dry["version_id"], operator.get("/v1/queues/HOLLAND-CPU").json["status"]) == (None, "offline")
    done = operator.post(f"/v1/site-versions/{found}/rollback", wish).json

    assert [each["field"] for each in done["changes"]] == [each["field"] for each in dry["changes"]]
    assert done["version_id"] in ids(anna)
    shown = operator.get("/v1/queues/HOLLAND-CPU").json
    assert (shown["status"], shown["status_by"], shown["status_reason"]) == ("online", "otto", f"as at version {found}")


def test_a_status_has_an_end(operator, anna, sites):
    wish = {"status": "offline", "reason": "move", "until": "2035-01-31T18:00:00+02:00", "then": "test"}
    assert operator.post("/v1/queues/HOLLAND-CPU/status", wish).status_code == 200

    shown = anna.get("/v1/queues/HOLLAND-CPU").json
    assert (shown["status_until"], shown["status_then"]) == ("2035-01-31T16:00:00Z", "test")
    assert anna.get("/v1/queues", params={"filter": "until>2034-01-01 status_by:otto"}).json["data"] == [shown]


def test_a_downtime_is_planned_changed_and_cancelled(operator, anna, sites):
    wish = {"kind": "queue", "target": "HOLLAND-CPU", "ends_at": "2035-01-31T18:00:00Z", "reason": "kernel"}
    answer = operator.post("/v1/downtimes", wish)
    address = answer.headers["location"]

    assert (answer.status_code, answer.json["status"], answer.json["made_by"]) == (201, "now", "otto")
    later = {"starts_at": "2035-01-31T08:00:00+01:00", "ends_at": "2035-02-01T18:00:00+01:00", "reason": "later"}
    assert operator.post(address, later).json["ends_at"] == "2035-02-01T17:00:00Z"
    [shown] = anna.get("/v1/downtimes", params={"filter": "status:planned queue:HOLLAND*"}).json["data"]
    assert (shown, anna.get(address).json) == (anna.get(address).json, shown)
    assert operator.post("/v1/downtimes", wish | {"name": shown["name"]}).status_code == 409
    assert operator.post(f"{address}/cancel", {"reason": "postponed"}).json == {"n": 1, "refused": {}}
    assert anna.get("/v1/downtimes").json["data"] == []
    assert anna.post("/v1/downtimes", wish).status_code == 403


def test_rules_and_what_they_did_can_be_seen(anna, begin, sites):
    with begin() as connection:
        judging.act(connection, "queue-fails", "HOLLAND-CPU", "", "test", "9 of 9 failed", is_passive=False)

    queue_rule, node_rule, tests = anna.get("/v1/site-rules").json["data"]
    assert [each["of"] for each in (queue_rule, node_rule, tests)] == ["queues", "nodes", "tests"]
    assert (queue_rule["settings"]["failed_percent"], queue_rule["n_acted"]) == (80, 1)
    assert (node_rule["acted_at"], tests["settings"]["needed"]) == (None, 4)
    [act] = anna.get("/v1/site-rule-acts", params={"filter": "rule:queue-* passive:false"}).json["data"]
    assert (act["queue"], act["did"], act["because"]) == ("HOLLAND-CPU", "test", "9 of 9 failed")


def test_rules_that_cannot_be_read_are_told(anna, settings):
    settings.data_dir.mkdir(exist_ok=True)
    (settings.data_dir / "site-rules.toml").write_text("[rules.x]\n")

    answer = anna.get("/v1/site-rules")
    assert (answer.status_code, "unknown of 'None'" in answer.json["detail"]) == (503, True)


def test_a_queue_is_taken_away(operator, anna, sites):
    answer = operator.post("/v1/queues/HOLLAND-CPU/remove", {"reason": "closed"})

    assert (answer.status_code, answer.json) == (202, {"queue": "HOLLAND-CPU", "n_live": 0})
    assert anna.get("/v1/queues/HOLLAND-CPU").json["removed_at"] is not None


def test_an_operator_imports_first_dry(operator, anna, sites):
    wish = {"documents": [{"queues": {"HOLLAND-CPU": {"gpus": 2, "architecture": "aarch64"}}}], "reason": "new nodes"}

    dry = operator.post("/v1/site-imports", wish | {"dry_run": True}).json
    assert (dry["version_id"], anna.get("/v1/queues/HOLLAND-CPU").json["gpus"]) == (None, 0)
    done = operator.post("/v1/site-imports", wish).json

    assert (done["changes"], done["n_things"], done["inactive"]) == (dry["changes"], 1, [])
    assert [each["field"] for each in done["changes"]] == ["architecture", "gpus"]
    assert anna.get("/v1/queues", params={"filter": "tag:gpu arch:aarch64"}).json["data"][0]["gpus"] == 2
    assert anna.post("/v1/site-imports", wish).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "document", "status", "code"),
    [
        ("POST", "/v1/queues/HOLLAND-CPU/status", {"status": "offline", "reason": "x", "until": "2001-01-01T00:00Z"}, 422, "invalid"),
        ("POST", "/v1/queues/HOLLAND-CPU/status", {"status": "offline", "reason": "x", "until": "2001-01-01T00:00:00Z"}, 422, "bad_until"),
        ("POST", "/v1/queues/HOLLAND-CPU/status", {"status": "offline", "reason": "x", "until": "2035-01-01T00:00:00"}, 422, "invalid"),
        ("POST", "/v1/queues/HOLLAND-CPU/status", {"status": "offline", "reason": "x", "then": "online"}, 422, "bad_until"),
        ("POST", "/v1/queues/HOLLAND-CPU/status", {"status": "offline", "reason": "x", "tried": True}, 422, "not_in_test"),
        ("POST", "/v1/queues/HOLLAND-GPU/remove", {"reason": "x"}, 404, "not_found"),
        ("POST", "/v1/queues/HOLLAND-CPU/remove", {"reason": "  "}, 422, "no_reason"),
        ("POST", "/v1/queues/HOLLAND-CPU/remove", {}, 422, "invalid"),
        ("POST", "/v1/downtimes", DOWNTIME | {"ends_at": "2001-01-01T00:00:00Z"}, 422, "bad_downtime"),
        ("POST", "/v1/downtimes", DOWNTIME | {"ends_at": "2035-01-01T00:00:00"}, 422, "invalid"),
        ("POST", "/v1/downtimes", DOWNTIME | {"ends_at": "soon"}, 422, "invalid"),
        ("POST", "/v1/downtimes", DOWNTIME | {"starts_at": "2036-01-01T00:00:00Z"}, 422, "bad_downtime"),
        ("POST", "/v1/downtimes", DOWNTIME | {"starts_at": "0001-01-01T00:00:00+23:59"}, 422, "bad_downtime"),
        ("POST", "/v1/downtimes", DOWNTIME | {"target": "HOLLAND-GPU"}, 422, "bad_downtime"),
        ("POST", "/v1/downtimes", DOWNTIME | {"kind": "cloud"}, 422, "invalid"),
        ("POST", "/v1/downtimes", DOWNTIME | {"reason": ""}, 422, "no_reason"),
        ("POST", "/v1/downtimes", DOWNTIME | {"name": "a/b"}, 422, "bad_name"),
        ("POST", "/v1/downtimes/none", {"reason": "x"}, 404, "not_found"),
        ("POST", "/v1/downtimes/none/cancel", {"reason": "x"}, 404, "not_found"),
        ("GET", "/v1/downtimes?filter=status:soon", None, 400, "bad_filter"),
        ("GET", "/v1/site-versions/999", None, 404, "not_found"),
        ("GET", "/v1/site-versions/x", None, 404, "no_such_path"),
        ("GET", "/v1/site-versions/diff", None, 400, "invalid"),
        ("GET", "/v1/site-versions/diff?since=0", None, 400, "invalid"),
        ("GET", "/v1/site-versions/diff?since=1&until=999", None, 404, "not_found"),
        ("GET", "/v1/site-versions?filter=when:1h", None, 400, "bad_filter"),
        ("POST", "/v1/site-imports", {"documents": [], "reason": "x"}, 422, "invalid"),
        ("POST", "/v1/site-imports", {"documents": [3], "reason": "x"}, 422, "invalid"),
        ("POST", "/v1/site-imports", {"documents": [{}], "reason": ""}, 422, "no_reason"),
        ("POST", "/v1/site-imports", {"documents": [{"queues": 1}], "reason": "x"}, 422, "bad_document"),
        ("POST", "/v1/site-imports", {"documents": [{"queues": {"HOLLAND-CPU": {"cores": "8"}}}], "reason": "x"}, 422, "bad_site_data"),
        ("POST", "/v1/site-imports", {"documents": [{"queues": {"..": {}}}], "reason": "x"}, 422, "bad_name"),
        ("POST", "/v1/site-imports", {"documents": [{"queues": {}, "x": {}}], "reason": "x"}, 422, "unknown_section"),
        ("POST", "/v1/site-versions/999/rollback", {"reason": "x"}, 404, "not_found"),
        ("POST", "/v1/site-versions/1/rollback", {"reason": "x", "names": ["NOWHERE"]}, 422, "unknown_thing"),
        ("POST", "/v1/site-versions/1/rollback", {"reason": " "}, 422, "no_reason"),
        ("POST", "/v1/site-versions/1/rollback", {"reason": "x", "all": True}, 422, "invalid"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_changes_nothing(refused, method, path, document, status, code):
    address, _, query = path.partition("?")
    answer = refused(method, address, document, query_string=query)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    with refused.begin() as connection:
        assert run(connection, "SELECT FROM queues WHERE status = 'online' AND removed_at IS NULL") == 1


@pytest.fixture(scope="module")
def refused(shared):
    """An operator on places that the cases share: nothing is stored by any of them."""
    operator = shared.caller("operator")
    operator.begin = shared.begin
    with shared.begin() as connection:
        if not run(connection, "SELECT FROM sites"):
            run(connection, "INSERT INTO sites (name, cloud) VALUES ('HOLLAND', 'NL')")
            run(
                connection,
                "INSERT INTO storages (name, site, kind, root) VALUES ('HOLLAND-DISK', 'HOLLAND', 'local', '/x')",
            )
            run(connection, "INSERT INTO queues (name, site, storage, cores, memory_mb, disk_mb, walltime_s)"
                            " VALUES ('HOLLAND-CPU', 'HOLLAND', 'HOLLAND-DISK', 8, 16000, 100000, 86400)")  # fmt: skip
    operator.post("/v1/queues/HOLLAND-CPU/status", {"status": "online", "reason": "a first version"})
    return operator

"""Who is let in, and what the roles may do, asked at the door."""

import pytest

from panda.db.session import run

SANDBOX = "/v1/sandboxes/" + "0" * 64
CALLS = {
    "submit": ("POST", "/v1/jobsets"),
    "read": ("GET", "/v1/jobs"),
    "read_data": ("GET", "/v1/queues"),
    "sandbox": ("PUT", SANDBOX),
    "acquire": ("POST", "/v1/pilots/acquire"),
    "update": ("POST", "/v1/pilots/update"),
    "heartbeat": ("POST", "/v1/pilots/heartbeat"),
    "log": ("PUT", "/v1/pilots/logs/1/1/payload.stdout"),
    "queue": ("POST", "/v1/queues/HOLLAND-CPU/status"),
    "shares": ("GET", "/v1/shares"),
    "share": ("PUT", "/v1/shares/default"),
    "token": ("POST", "/v1/tokens"),
}
MAY = {
    "viewer": {"read", "read_data", "shares"},
    "user": {"submit", "read", "read_data", "sandbox", "shares"},
    "production": {"submit", "read", "read_data", "sandbox", "shares"},
    "pilot": {"read_data", "acquire", "update", "heartbeat", "log"},
    "operator": {"submit", "read", "read_data", "sandbox", "queue", "shares", "share"},
    "admin": {"submit", "read", "read_data", "sandbox", "queue", "shares", "share", "token"},
}


@pytest.mark.parametrize("role", MAY)
def test_each_role_reaches_what_it_may_and_nothing_else(shared, role):
    somebody = shared.caller(role)

    reached = {call for call, (method, path) in CALLS.items() if somebody(method, path).status_code != 403}

    assert reached == MAY[role]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("header", [None, "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer \udcff"])
def test_without_a_good_token_nobody_gets_in(shared, call, header):
    method, path = CALLS[call]
    headers = {} if header is None else {"Authorization": header.encode("utf-8", "surrogateescape").decode("latin-1")}

    answer = shared.client.simulate_request(method, path, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_expired_token_does_not_open(anna, begin):
    with begin() as connection:
        run(connection, "UPDATE tokens SET expires_at = panda_now() - interval '1 second'")

    assert anna.get("/v1/whoami").status_code == 401


def test_whoami_tells_name_and_roles(caller):
    answer = caller("anna", "user", "production").get("/v1/whoami")

    assert answer.json == {"subject": "anna", "roles": ["production", "user"], "queue": None}


def test_an_admin_makes_a_token_and_it_is_written_down_without_it(caller, begin, client):
    admin = caller("root", "admin")

    answer = admin.post("/v1/tokens", {"owner": "bert", "roles": ["user"], "label": "laptop", "ttl_s": 60})

    assert answer.status_code == 201
    plain = answer.json["token"]
    assert client.simulate_get("/v1/whoami", headers={"Authorization": f"Bearer {plain}"}).json["subject"] == "bert"
    with begin() as connection:
        audit = connection.exec_driver_sql("SELECT a::text FROM audit_log a").scalar_one()
    assert "create_token,bert" in audit
    assert plain not in audit


def test_a_token_with_an_unknown_role_is_not_made(caller):
    answer = caller("root", "admin").post("/v1/tokens", {"owner": "bert", "roles": ["usr"]})

    assert (answer.status_code, answer.json["code"]) == (422, "unknown_role")


def test_a_token_for_a_queue_that_there_is_not_is_not_made(caller, sites, begin):
    root = caller("root", "admin")

    answer = root.post("/v1/tokens", {"owner": "north", "roles": ["pilot"], "queue": "HOLLAND-CPV"})
    right = root.post("/v1/tokens", {"owner": "north", "roles": ["pilot"], "queue": "HOLLAND-CPU"})
    again = root.post("/v1/tokens", {"owner": "north", "roles": ["pilot"], "queue": "HOLLAND-CPU"})

    assert (answer.status_code, answer.json["code"], answer.json["where"]) == (422, "unknown_queue", "queue")
    assert "did you mean 'HOLLAND-CPU'?" in answer.json["detail"]
    assert (right.status_code, right.json["user_made"]) == (201, True)
    assert (again.status_code, again.json["user_made"]) == (201, False)


def test_a_queue_goes_with_a_pilots_token_alone(caller, sites):
    root = caller("root", "admin")

    answer = root.post("/v1/tokens", {"owner": "ann", "roles": ["user"], "queue": "HOLLAND-CPU"})
    both = root.post("/v1/tokens", {"owner": "ann", "roles": ["user", "pilot"], "queue": "HOLLAND-CPU"})

    assert (answer.status_code, answer.json["code"], answer.json["where"]) == (422, "queue_without_pilot", "queue")
    assert both.status_code == 201


def test_an_operator_closes_a_queue_and_says_why(operator, sites, begin):
    answer = operator.post("/v1/queues/HOLLAND-CPU/status", {"status": "offline", "reason": "power cut"})

    assert (answer.status_code, answer.json) == (200, {"queue": "HOLLAND-CPU", "status": "offline", "n_woken": 0})
    assert operator.get("/v1/queues").json["data"][0]["status_reason"] == "power cut"
    with begin() as connection:
        assert connection.exec_driver_sql("SELECT who FROM audit_log").scalar_one() == "otto"


@pytest.mark.parametrize(
    ("queue", "document", "status", "code"),
    [
        ("HOLLAND-CPU", {"status": "ofline", "reason": "x"}, 422, "unknown_queue_status"),
        ("HOLLAND-CPU", {"status": "offline", "reason": ""}, 422, "no_reason"),
        ("HOLLAND-GPU", {"status": "offline", "reason": "x"}, 404, "not_found"),
    ],
)
def test_a_queue_change_that_makes_no_sense_changes_nothing(operator, sites, queue, document, status, code):
    answer = operator.post(f"/v1/queues/{queue}/status", document)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert operator.get("/v1/queues").json["data"][0]["status"] == "online"


def test_sites_and_storages_are_listed(anna, sites):
    assert anna.get("/v1/sites").json["data"] == [
        {"name": "HOLLAND", "cloud": "NL", "description": "", "max_running": 0}
    ]
    assert [storage["name"] for storage in anna.get("/v1/storages?limit=500").json["data"]] == ["HOLLAND-DISK"]

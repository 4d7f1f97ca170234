"""/v1/switches: pauses are made, seen and ended, and written down."""

import pytest


@pytest.fixture
def paused(operator, sites):
    return operator(
        "POST", "/v1/switches/dispatch", {"paused": True, "queue": "HOLLAND-CPU", "for_s": 60, "reason": "hot"}
    )


def test_what_is_paused_is_seen_by_everybody_until_it_is_resumed(operator, anna, paused):
    [seen] = anna.get("/v1/switches").json["data"]
    resumed = operator("POST", "/v1/switches/dispatch", {"paused": False, "queue": "HOLLAND-CPU", "reason": "cooled"})

    assert paused.json == {
        "what": "dispatch", "site": "", "queue": "HOLLAND-CPU", "node": "", "paused": True, "n_woken": 0,
    }  # fmt: skip
    assert (seen["what"], seen["queue"], seen["by"], seen["reason"]) == ("dispatch", "HOLLAND-CPU", "otto", "hot")
    assert seen["until"] > seen["at"]
    assert (resumed.status_code, resumed.json["paused"]) == (200, False)
    assert anna.get("/v1/switches").json["data"] == []


def test_brokerage_that_goes_on_wakes_who_waits(operator, anna, sites, engine):
    operator("POST", "/v1/switches/brokerage", {"paused": True, "reason": "upgrade"})

    answer = operator("POST", "/v1/switches/brokerage", {"paused": False, "reason": "done"})

    assert (answer.status_code, answer.json["n_woken"]) == (200, 0)


@pytest.mark.parametrize(
    ("what", "document", "status", "code"),
    [
        ("lunch", {"paused": True, "reason": "hungry"}, 422, "unknown_switch"),
        ("dispatch", {"paused": True, "reason": " "}, 422, "no_reason"),
        ("dispatch", {"paused": True, "reason": "x", "queue": "NOWHERE"}, 404, "not_found"),
        ("dispatch", {"paused": True, "reason": "x", "site": "HOLLAND", "queue": "HOLLAND-CPU"}, 422, "bad_place"),
        ("brokerage", {"paused": True, "reason": "x", "queue": "HOLLAND-CPU", "node": "n"}, 422, "bad_place"),
        ("dispatch", {"paused": False, "reason": "x"}, 404, "not_found"),
    ],
)
def test_what_cannot_be_meant_is_refused(operator, sites, anna, what, document, status, code):
    answer = operator("POST", f"/v1/switches/{what}", document)

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert anna.get("/v1/switches").json["data"] == []


def test_a_user_pauses_nothing(anna, sites):
    assert anna("POST", "/v1/switches/dispatch", {"paused": True, "reason": "mine first"}).status_code == 403

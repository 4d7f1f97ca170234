"""/v1/views: a filter under a name, everybody's own."""

import pytest

from panda.errors import NotFound
from panda.jobs import views


def test_a_view_is_kept_shown_replaced_and_forgotten(anna, operator):
    kept = anna("PUT", "/v1/views/lost", {"filter": "status:failed error:dispatch:*"})
    anna("PUT", "/v1/views/lost", {"filter": "status:failed"})

    assert (kept.status_code, kept.json["n"]) == (200, 1)
    assert [(view["name"], view["filter"]) for view in anna.get("/v1/views").json["data"]] == [
        ("lost", "status:failed")
    ]
    assert operator.get("/v1/views").json["data"] == []
    assert operator("DELETE", "/v1/views/lost").status_code == 404
    assert anna("DELETE", "/v1/views/lost").status_code == 200
    assert anna.get("/v1/views").json["data"] == []


@pytest.mark.parametrize(
    ("name", "text", "status", "code"),
    [
        ("lost", "stauts:failed", 400, "bad_filter"), ("lost", " ", 422, "invalid"), ("lost", "@other", 422, "invalid"),
        ("a%20b", "status:failed", 422, "bad_name"),
    ],
)  # fmt: skip
def test_what_is_no_view_is_refused(anna, name, text, status, code):
    answer = anna("PUT", f"/v1/views/{name}", {"filter": text})

    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert anna.get("/v1/views").json["data"] == []


def test_nobody_keeps_views_without_end(anna, monkeypatch):
    monkeypatch.setattr(views, "MAX_VIEWS", 1)
    anna("PUT", "/v1/views/one", {"filter": "status:failed"})

    assert anna("PUT", "/v1/views/two", {"filter": "status:failed"}).json["code"] == "too_many_views"
    assert anna("PUT", "/v1/views/one", {"filter": "status:running"}).status_code == 200


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("@lost", "(status:failed)"), ("owner:anna @lost", "owner:anna (status:failed)"), ("not @lost", "not (status:failed)"),
        ('name:"a @lost b"', 'name:"a @lost b"'), ("name:me@lost", "name:me@lost"), ("owner:@lost", "owner:@lost"),
        ("status:failed", "status:failed"),
    ],
)  # fmt: skip
def test_a_name_stands_for_its_filter_where_a_filter_may_stand(text, meant):
    assert views.expanded(text, {"lost": "status:failed"}) == meant


def test_a_view_that_nobody_saved_is_not_found():
    with pytest.raises(NotFound):
        views.expanded("@found", {})

"""What nobody sends who means well, and sheets that the world has left behind."""

from urllib.parse import quote

import pytest

from monitoring.pages.page import Parts
from tests.integration.monitoring.conftest import Browser, Token, World
from tests.integration.monitoring.test_monitor_acts import form

#: What no field of any form can mean.
ODD = ("%00", "a%00b", "1" * 5_000, "0" * 5_000, "00000000099999999999999999", "9" * 30, "%FF%FE", "%D9%A1", "-", "inf")


@pytest.mark.parametrize(
    ("path", "name", "more"),
    [
        ("/jobs/4/priority", "priority", {}),
        ("/jobs/4/priority", "key", {"priority": "1%00"}),
        ("/jobs/bulk/priority", "number", {"said": "status:activated", "priority": "1", "token": "x"}),
        ("/jobs/bulk/priority", "action_id", {"said": "status:activated", "priority": "1", "token": "x"}),
        ("/jobs/bulk/priority", "priority", {"said": "status:activated", "token": "x"}),
        ("/admin/switches/pause", "place", {"what": "dispatch"}),
        ("/admin/switches/pause", "for_s", {"what": "dispatch"}),
        ("/nodes/north/wn-1/pause", "for_s", {}),
        ("/queues/north/status", "for_s", {"status": "offline"}),
        ("/tokens/new", "ttl_s", {"owner": "dave", "role": "user"}),
        ("/tokens/new", "label", {"owner": "dave", "role": "user%00"}),
        ("/incidents/1/answer", "action", {}),
    ],
)
def test_an_odd_value_is_refused_and_nothing_is_done(
    world: World, parts: Parts, token: Token, path: str, name: str, more: dict[str, str]
) -> None:
    world.furnish()
    admin = Browser(parts, token("ada", "admin"))
    n_rows = "SELECT (SELECT count(*) FROM audit_log) + (SELECT count(*) FROM page_deeds)"
    before = world.count(n_rows)

    for odd in ODD:
        answer = admin.post(path, **form(admin, parts, **{**more, name: odd}))
        assert 400 <= answer.status_code < 500, (odd[:30], answer.text)
    assert world.count(n_rows) == before
    assert world.count("SELECT count(*) FROM switches") == 0


def test_a_name_that_cannot_be_stored_is_not_found(world: World, operator: Browser) -> None:
    for path in ("/queues/a%00b/status", "/users/%00", "/nodes/%00/x/pause", "/me/views/%00/forget", "/sites/%00"):
        assert operator.get(path).status_code == 404, path


def test_a_place_that_is_none_never_means_everywhere(world: World, operator: Browser, parts: Parts) -> None:
    for k, place in enumerate(("north", "queue", "queue:", "node:wn-1", "site", "sites:NORTH")):
        answer = operator.post(
            "/admin/switches/pause", **form(operator, parts, key=f"k{k}", what="dispatch", place=place)
        )
        assert (answer.status_code, "bad_place" in answer.text or "is no place" in answer.text) == (400, True), place
        assert operator.get(f"/admin/switches/pause?what=dispatch&place={place}").status_code == 400
    gone = operator.json("/admin/switches/pause?what=dispatch&place=site:GONE")["data"]["sheet"]

    assert next(field for field in gone["fields"] if field["name"] == "place")["value"] == "site:GONE"
    assert world.count("SELECT count(*) FROM switches") == 0


def test_the_page_of_a_node_takes_out_that_node_alone(world: World, operator: Browser, parts: Parts) -> None:
    """Whatever the form says or leaves out: without a node it would be the whole queue."""
    for k, fields in enumerate(({}, {"queue": "", "node": ""}, {"queue": "south", "what": "brokerage"})):
        done = operator.post("/nodes/north/wn-1/pause", **form(operator, parts, key=f"k{k}", **fields))
        assert done.status_code == 303, fields

    assert "Node wn-1 of queue north is taken out." in operator.get("/nodes/north/wn-1?done=k0").text
    assert world.count("SELECT count(*) FROM switches") == 1
    assert (
        world.count("SELECT count(*) FROM switches WHERE queue = 'north' AND node = 'wn-1' AND what = 'dispatch'") == 1
    )


def test_a_link_writes_no_command_for_an_operator(world: World, operator: Browser) -> None:
    answer = operator.get("/queues/north/status?to=" + quote("online; rm -rf ~"))

    assert answer.status_code == 400
    assert "panda site set" not in answer.text

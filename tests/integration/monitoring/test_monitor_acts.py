"""What people do from pages: with leave, a reason, once, and written down."""

import html
from typing import Any

import pytest

from monitoring.pages.page import Parts
from tests.integration.monitoring.conftest import Browser, Token, World


def form(browser: Browser, parts: Parts, **fields: str) -> dict[str, str]:
    """The fields that every form of this session carries."""
    session = parts.sessions.get(next(iter(browser.cookies.values())))
    assert session is not None
    return {"seal": session.seal, "key": "k1", "reason": "because", **fields}


def test_a_job_is_retried_from_its_page_once_and_it_is_written_down(
    world: World, operator: Browser, parts: Parts
) -> None:
    panda_id = world.jobs["failed"]
    fields = form(operator, parts)

    first = operator.post(f"/jobs/{panda_id}/retry", **fields)
    again = operator.post(f"/jobs/{panda_id}/retry", **fields)

    assert first.status_code == again.status_code == 303
    assert first.headers["location"] == again.headers["location"] == f"/jobs/{panda_id}?done=k1"
    assert "has a new attempt" in operator.get(f"/jobs/{panda_id}?done=k1").text
    assert world.count("SELECT attempt_nr FROM jobs WHERE panda_id = %(id)s", id=panda_id) == 2
    assert world.count("SELECT count(*) FROM audit_log WHERE who = 'olga' AND reason = 'because'") == 1


def test_another_start_is_another_sheet(world: World, operator: Browser) -> None:
    """What runs again, where, at what cost, and the command: all of it follows the stage that is chosen."""
    panda_id = world.jobs["failed"]
    world.sql("UPDATE jobs SET wall_s = 2 WHERE panda_id = %(id)s", id=panda_id)

    kept = operator.json(f"/jobs/{panda_id}/retry")["data"]["sheet"]
    whole = operator.json(f"/jobs/{panda_id}/retry?stage=broker")["data"]["sheet"]
    page = operator.get(f"/jobs/{panda_id}/retry?stage=broker").text

    assert kept["choice"]["value"] == "stage_out"
    assert dict(kept["facts"])["It costs"] == "nothing: no payload runs again"
    assert (
        dict(whole["facts"])["It costs"]
        == "at most 4.0 h of core time (wall time times cores); the last attempt took 8.0 s"
    )
    assert dict(whole["facts"])["Where"] == "a queue is chosen anew"
    assert whole["cli"] == f"panda retry {panda_id} --stage broker"
    assert '<option value="broker" selected>' in page
    assert '<input type="hidden" name="stage" value="broker">' in page
    assert page.index('class="choose"') < page.index('method="post" action="/jobs/')


def test_what_is_refused_does_nothing(world: World, operator: Browser, parts: Parts) -> None:
    panda_id = world.jobs["failed"]
    refused = {
        "no reason": form(operator, parts, reason=""),
        "another seal": form(operator, parts, seal="guessed"),
        "no key": form(operator, parts, key=""),
        "no such stage": form(operator, parts, stage="lunch"),
    }
    for why, fields in refused.items():
        assert operator.post(f"/jobs/{panda_id}/retry", **fields).status_code in (400, 403), why
    elsewhere = operator.post(f"/jobs/{panda_id}/retry", {"Sec-Fetch-Site": "cross-site"}, **form(operator, parts))
    running = operator.post(f"/jobs/{world.jobs['running']}/retry", **form(operator, parts))

    assert elsewhere.status_code == 403
    assert running.status_code == 409
    assert world.count("SELECT attempt_nr FROM jobs WHERE panda_id = %(id)s", id=panda_id) == 1
    assert world.count("SELECT count(*) FROM audit_log") == 0
    assert world.count("SELECT count(*) FROM page_deeds") == 0


def test_a_user_acts_on_their_own_jobs_alone(world: World, parts: Parts, token: Token) -> None:
    world.job(600, "running", owner="bob")
    alice = Browser(parts, token("alice", "user"))
    fields = form(alice, parts)

    assert alice.post("/jobs/600/cancel", **fields).status_code == 403
    assert alice.get("/jobs/600/cancel").status_code == 403
    assert alice.post(f"/jobs/{world.jobs['running']}/cancel", **fields).status_code == 303
    assert alice.post("/queues/north/status", **{**fields, "status": "offline"}).status_code == 403
    for path in ("/admin/switches/pause", "/admin/switches/resume", "/nodes/north/wn-1/pause"):
        assert alice.post(path, **{**fields, "what": "dispatch", "queue": "north", "node": "wn-1"}).status_code == 403
    assert world.count("SELECT count(*) FROM switches") == 0
    for path in (
        "/admin",
        "/audit",
        "/users",
        "/incidents",
        "/troubles",
        "/admin/switches/pause",
        "/nodes/north/wn-1/pause",
    ):
        assert alice.get(path).status_code == 403, path
    assert world.count("SELECT count(*) FROM jobs WHERE kill_requested_at IS NOT NULL") == 1


def test_a_queue_is_switched_with_a_reason(world: World, operator: Browser, parts: Parts) -> None:
    done = operator.post("/queues/north/status", **form(operator, parts, status="offline"))
    page = operator.get("/queues/north").text

    assert done.status_code == 303
    assert "because" in page
    assert world.count("SELECT count(*) FROM queues WHERE status = 'offline'") == 1
    assert "online → offline" in page
    assert "set by olga" in page
    assert operator.post("/queues/north/status", **form(operator, parts, status="gone", key="k2")).status_code == 400
    wrong = form(operator, parts, status="online", for_s="7", key="k3")
    assert operator.post("/queues/north/status", **wrong).status_code == 400


def test_a_queue_is_switched_for_a_while(world: World, operator: Browser, parts: Parts) -> None:
    operator.post("/queues/north/status", **form(operator, parts, status="test", for_s="3600"))

    assert "online again" in operator.get("/queues/north").text
    assert world.count("SELECT count(*) FROM queues WHERE status_until > panda_now() + interval '59 minutes'") == 1


def test_the_page_of_a_queue_names_the_rule_and_its_test_jobs(world: World, operator: Browser) -> None:
    world.sql(
        "UPDATE queues SET status = 'test', status_by = 'rule:queue-fails', status_rule = 'queue-fails',"
        " status_reason = 'rule queue-fails: 9 of 9 attempts failed' WHERE name = 'north'"
    )
    assert "Test jobs are sent in a moment" in operator.get("/queues/north").text
    world.sql(
        "INSERT INTO queue_tests (jobset_id, queue, rule, n_jobs, sent_at)"
        f" VALUES ({world.jobset_id}, 'north', 'back-online', 5, panda_now())"
    )

    page = operator.get("/queues/north").text
    assert "rule queue-fails: 9 of 9 attempts failed" in page
    assert f'href="/jobsets/{world.jobset_id}"' in page


def test_a_downtime_stands_on_the_pages_of_its_queue_and_site(world: World, operator: Browser) -> None:
    world.sql(
        "INSERT INTO downtimes (name, kind, target, starts_at, ends_at, reason, made_by)"
        " SELECT 'd', 'site', site, panda_now() - interval '1 hour', panda_now() + interval '1 day', 'new cooling', 'otto'"
        " FROM queues WHERE name = 'north'"
    )

    site = operator.json("/queues/north")["data"]["queue"]["site"]
    for path in ("/queues/north", f"/sites/{site}"):
        page = operator.get(path).text
        assert "is in downtime until" in page
        assert "new cooling" in page


def test_all_that_match_are_acted_on_after_a_preview(world: World, operator: Browser, parts: Parts) -> None:
    preview = operator.json("/jobs/bulk/retry?q=status:failed")["data"]["sheet"]
    hidden = hidden_of(preview)

    done = operator.post("/jobs/bulk/retry", **form(operator, parts, **hidden))

    assert dict(preview["facts"])["Jobs"] == "1"
    assert done.headers["location"].startswith("/jobs/actions/")
    assert world.count("SELECT count(*) FROM bulk_actions WHERE status = 'running' AND reason = 'because'") == 1
    assert operator.get(done.headers["location"]).status_code == 200
    assert world.count("SELECT count(*) FROM audit_log WHERE action = 'bulk_retry'") == 1


def hidden_of(sheet: dict[str, Any]) -> dict[str, str]:
    """The fields that a sheet sends besides what people type."""
    fields = {field["name"]: field["value"] for field in sheet["fields"] if field["kind"] == "hidden"}
    return fields | ({sheet["choice"]["name"]: sheet["choice"]["value"]} if sheet["choice"] else {})


def test_the_retry_of_a_set_is_what_its_sheet_showed(world: World, operator: Browser, parts: Parts) -> None:
    path = f"/jobsets/{world.jobset_id}/retry"
    sheet = operator.json(f"{path}?stage=broker")["data"]["sheet"]
    fields = form(operator, parts, **hidden_of(sheet))

    unseen = operator.post(path, **form(operator, parts, key="k0"))
    another = operator.post(path, **{**fields, "key": "k2", "stage": "define"})
    done = operator.post(path, **fields)

    assert dict(sheet["facts"])["Jobs"] == "1"
    assert sheet["cli"] == f"panda retry set:{world.jobset_id} --stage broker"
    assert unseen.status_code == 404
    assert (another.status_code, "preview it again" in another.text) == (409, True)
    assert done.headers["location"].startswith("/jobs/actions/")
    assert world.count("SELECT count(*) FROM bulk_actions WHERE status = 'running' AND stage = 'broker'") == 1
    assert world.count("SELECT n_previewed FROM bulk_actions WHERE status = 'running'") == 1


def test_where_many_start_again_is_chosen_on_their_sheet(world: World, operator: Browser) -> None:
    page = operator.get("/jobs/bulk/retry?q=status:failed&stage=broker")
    ticked = operator.get(f"/jobs/bulk/retry?job={world.jobs['failed']}")

    assert '<select id="c-stage" name="stage" data-submit>' in page.text
    assert '<option value="broker" selected>' in page.text
    assert '<input type="hidden" name="q" value="status:failed">' in page.text
    assert f'<input type="hidden" name="q" value="panda_id:{world.jobs["failed"]}">' in ticked.text
    assert "1 from broker" in page.text
    assert "c-stage" not in operator.get("/jobs/bulk/cancel?q=status:running").text


def test_a_sheet_of_many_lists_what_will_be_another(world: World, operator: Browser, parts: Parts) -> None:
    """Of each job; and the same words are a command and Python."""
    sheets = {
        verb: operator.json(f"/jobs/bulk/{verb}?q=status:{status}{more}")["data"]["sheet"]
        for verb, status, more in (
            ("retry", "failed", "&stage=define"), ("priority", "activated", "&priority=9"),
            ("rebroker", "activated", "&exclude=north,SOUTH*"),
        )
    }  # fmt: skip
    hidden = hidden_of(sheets["rebroker"])

    for k, name in enumerate(("action_id", "number")):
        huge = form(operator, parts, **{**hidden, "exclude": "west", "key": f"h{k}", name: "9" * 5000})
        assert operator.post("/jobs/bulk/rebroker", **huge).status_code == 409
    unlike = operator.post("/jobs/bulk/rebroker", **form(operator, parts, **{**hidden, "exclude": "west", "key": "k0"}))
    done = operator.post("/jobs/bulk/rebroker", **form(operator, parts, **{**hidden, "exclude": "north%2CSOUTH*"}))

    assert sheets["retry"]["columns"][-2:] == ["Runs again", "Attempt"]
    assert sheets["retry"]["rows"][0][-2:] == ["define …", "1 → 2 of 3"]
    assert sheets["priority"]["rows"][0][-1] == "0 → 9"
    assert sheets["rebroker"]["cli"] == "panda rebroker 'status:activated' --exclude north --exclude 'SOUTH*'"
    assert "exclude=['north', 'SOUTH*']" in sheets["rebroker"]["python"]
    assert dict(sheets["rebroker"]["facts"])["Never again at"] == "north, SOUTH*"
    assert (unlike.status_code, "/jobs/actions/" in done.headers["location"]) == (409, True)
    assert world.count("SELECT count(*) FROM bulk_actions WHERE exclude = '{north,SOUTH*}' AND status = 'running'") == 1


def test_a_long_sheet_leads_to_the_list_of_all_that_it_reaches(world: World, operator: Browser) -> None:
    for number in range(100, 125):
        world.job(number, "failed")

    sheet = operator.json("/jobs/bulk/retry?q=owner:alice")["data"]["sheet"]

    assert sheet["note"] == "The first 20 of 26 are listed."
    assert len(operator.json(sheet["more"])["data"]["jobs"]) == 26


def test_an_incident_is_acknowledged_and_closed_once(world: World, operator: Browser, parts: Parts) -> None:
    world.furnish()
    answers = [
        operator.post("/incidents/1/answer", **form(operator, parts, key=f"k{k}", action=action)).status_code
        for k, action in enumerate(("acknowledge", "close", "close"))
    ]

    assert answers == [303, 303, 409]
    assert operator.json("/incidents")["data"]["incidents"][0]["closed_by"] == "olga"


def test_who_closes_a_queue_is_told_what_becomes_of_its_jobs(world: World, operator: Browser) -> None:
    world.sql("DELETE FROM job_counts; DELETE FROM job_count_deltas")
    world.sql(
        "INSERT INTO job_counts VALUES ('activated', 'north', 5), ('assigned', 'north', 1), ('running', 'north', 2)"
    )

    page = " ".join(html.unescape(operator.get("/queues/north/status?to=offline").text).split())

    both = "5 ready jobs and 1 job whose files are on their way"
    assert f"offline: after 1 min {both} will leave it, unless it is opened before" in page
    assert (
        f"test or brokeroff: {both} will stay, and pilots still take them; without a pilot they are brokered again after"
        in page
    )
    assert "2 jobs that pilots have will go on to the end." in page


def test_an_incident_leads_to_what_it_is_about(world: World, operator: Browser, parts: Parts) -> None:
    facts = '{"queue": "north", "node": "wn 1", "error_code": "payload:1", "panda_id": 7, "jobset_id": "x"}'
    world.sql(f"""INSERT INTO incidents (component, level, key, message, context, n, first_at, last_at, comment)
        VALUES ('x', 'error', 'k', 'm', '{facts}', 1, panda_now(), panda_now(), 'olga: <b>I look</b>')""")

    page = operator.get("/incidents/1").text

    for url in ("/queues/north", "/nodes/north/wn%201", "/errors/payload%3A1", "/jobs/7"):
        assert f'href="{url}"' in page
    assert "/jobsets/x" not in page
    assert "<li>olga: &lt;b&gt;I look&lt;/b&gt;</li>" in page
    assert operator.json("/incidents/1")["data"]["links"][0]["url"] == "/queues/north"


def test_a_node_is_taken_out_and_let_in_again_from_its_page(world: World, operator: Browser, parts: Parts) -> None:
    fields = {"what": "dispatch", "queue": "north", "node": "wn-1"}

    out = operator.post("/nodes/north/wn-1/pause", **form(operator, parts, for_s="3600", **fields))
    page = operator.get("/nodes/north/wn-1").text

    assert out.headers["location"] == "/nodes/north/wn-1?done=k1"
    assert "Taken out" in page
    assert "because" in page
    assert [t["key"] for t in operator.json("/troubles")["data"]["troubles"]][
        -1
    ] == "paused dispatch node wn-1 of queue north"
    assert world.count("SELECT count(*) FROM switches WHERE until > panda_now() + interval '59 minutes'") == 1

    again = operator.post("/admin/switches/resume", **form(operator, parts, key="k2", **fields))
    twice = operator.post("/admin/switches/resume", **form(operator, parts, key="k3", **fields))

    assert (again.status_code, twice.status_code) == (303, 404)
    assert world.count("SELECT count(*) FROM switches") == 0
    assert world.count("SELECT count(*) FROM audit_log WHERE action IN ('pause_dispatch', 'resume_dispatch')") == 2


def test_a_pause_that_cannot_be_meant_is_refused(world: World, operator: Browser, parts: Parts) -> None:
    refused = [
        {"what": "lunch"}, {"what": "dispatch", "place": "site:NOWHERE"}, {"what": "dispatch", "for_s": "soon"},
        {"what": "dispatch", "place": "queue:north", "site": "NORTH"}, {"what": "dispatch", "reason": ""},
    ]  # fmt: skip
    for k, fields in enumerate(refused):
        answer = operator.post("/admin/switches/pause", **form(operator, parts, key=f"k{k}", **fields))
        assert answer.status_code in (400, 404), fields
    everywhere = operator.post("/admin/switches/pause", **form(operator, parts, key="last", what="brokerage", place=""))

    assert everywhere.status_code == 303
    assert world.count("SELECT count(*) FROM switches") == 1
    assert "everywhere" in operator.get("/admin").text


def test_waiting_jobs_are_brokered_anew_or_get_another_priority(world: World, operator: Browser, parts: Parts) -> None:
    for verb, words in (("rebroker", ""), ("priority", "&priority=-5")):
        sheet = operator.json(f"/jobs/bulk/{verb}?q=status:activated{words}")["data"]["sheet"]
        hidden = {field["name"]: field["value"] for field in sheet["fields"] if field["kind"] == "hidden"}
        done = operator.post(f"/jobs/bulk/{verb}", **form(operator, parts, **{**hidden, "key": verb}))

        assert dict(sheet["facts"])["Jobs"] == "1", verb
        assert sheet["cli"].startswith(f"panda {verb} 'status:activated'")
        assert done.headers["location"].startswith("/jobs/actions/"), done.text
    assert world.count("SELECT count(*) FROM bulk_actions WHERE status = 'running' AND priority = -5") == 1
    for path in (
        "/jobs/bulk/priority?q=status:activated&priority=lots",
        "/jobs/bulk/priority?q=status:activated&priority=99999",
    ):
        assert operator.get(path).status_code == 400


def test_what_is_wrong_stands_on_the_overview_for_those_who_can_mend_it(
    world: World, operator: Browser, parts: Parts, token: Token
) -> None:
    world.sql("UPDATE queues SET status = 'offline', status_reason = 'upgrade'")

    data = operator.json("/")["data"]["troubles"]

    assert "closed north" in [trouble["key"] for trouble in data]
    assert "What is wrong" in operator.get("/").text
    assert Browser(parts, token("alice", "user")).json("/")["data"]["troubles"] == []


def test_a_view_is_saved_used_and_forgotten(world: World, operator: Browser, parts: Parts) -> None:
    saved = operator.post("/me/views/new", **form(operator, parts, reason="", name="lost", filter="status:failed"))
    found = operator.json("/jobs?q=@lost")["data"]

    assert saved.status_code == 303
    assert [job["status"] for job in found["jobs"]] == ["failed"]
    assert dict(operator.json("/jobs/bulk/retry?q=@lost")["data"]["sheet"]["facts"])["Filter"] == "status:failed"
    assert "@lost" in operator.get("/me").text
    assert operator.get("/jobs?q=@found").status_code == 404
    assert operator.post("/me/views/new", **form(operator, parts, key="k2", name="bad", filter="(")).status_code == 400
    assert operator.post("/me/views/lost/forget", **form(operator, parts, key="k3", reason="")).status_code == 303
    assert operator.get("/jobs?q=@lost").status_code == 404


def test_rules_for_notices_are_made_and_dropped_and_the_feed_is_read(
    world: World, operator: Browser, parts: Parts, token: Token
) -> None:
    alice = Browser(parts, token("alice", "user"))
    fields = {"reason": "", "kind": "set_failing", "above_percent": "10"}

    made = operator.post("/me/notices/new", **form(operator, parts, **fields))
    world.sql(
        "INSERT INTO notices (owner, at, key, message, link) VALUES ('olga', panda_now(), 'k', 'set 1 fails', '/jobsets/1')"
    )

    assert made.status_code == 303
    assert "set 1 fails" in operator.get("/me").text
    assert operator.post("/me/notices/read", **form(operator, parts, key="k2", reason="")).status_code == 303
    assert world.count("SELECT count(*) FROM notices WHERE read_at IS NOT NULL") == 1
    rule = world.count("SELECT rule_id FROM notice_rules")
    assert alice.post(f"/me/notices/{rule}/drop", **form(alice, parts)).status_code == 404
    assert alice.post("/me/notices/new", **form(alice, parts, key="k2", kind="incident")).status_code == 403
    assert (
        operator.post(
            "/me/notices/new", **form(operator, parts, **{**fields, "key": "k3", "above_percent": "x"})
        ).status_code
        == 400
    )
    assert operator.post(f"/me/notices/{rule}/drop", **form(operator, parts, key="k4", reason="")).status_code == 303
    assert world.count("SELECT count(*) FROM notice_rules") == 0


def test_a_token_is_shown_once_and_ended(world: World, parts: Parts, token: Token, operator: Browser) -> None:
    ada = Browser(parts, token("ada", "admin"))
    fields = {"owner": "harvester", "role": "pilot", "queue": "north", "label": "north+pilots", "ttl_s": "86400"}

    made = ada.post("/tokens/new", **form(ada, parts, **fields))
    again = ada.post("/tokens/new", **form(ada, parts, **fields))
    number = world.count("SELECT token_id FROM tokens WHERE label = 'north pilots'")

    assert made.text.count("panda_") > 1
    assert again.status_code == 303
    assert "panda_" not in ada.get(again.headers["location"]).text.replace("panda_session", "").replace(
        "panda_theme", ""
    )
    assert world.count("SELECT count(*) FROM tokens WHERE roles = '{pilot@north}' AND expires_at IS NOT NULL") == 1
    assert "north pilots" in ada.get("/tokens").text
    assert operator.get("/tokens/new").status_code == 403
    assert operator.get("/tokens?owner=harvester").status_code == 403
    assert operator.post(f"/tokens/{number}/revoke", **form(operator, parts)).status_code == 403
    assert ada.post(f"/tokens/{number}/revoke", **form(ada, parts, key="k2")).status_code == 303
    assert world.count("SELECT count(*) FROM tokens WHERE revoked_at IS NOT NULL") == 1
    for k, bad in enumerate(({"role": "king"}, {"owner": "a b"}, {"ttl_s": "soon"}, {"reason": ""})):
        assert ada.post("/tokens/new", **form(ada, parts, **{**fields, "key": f"b{k}", **bad})).status_code == 400, bad


#: Sheets and pages of other people's things -> who may open them; a form sent there by anybody else does nothing.
OPERATORS, KEEPERS = ("operator", "admin"), ("viewer", "production", "operator", "admin")
SHEETS = {
    "/jobs/11/retry": OPERATORS, "/jobs/7/cancel": OPERATORS, "/jobs/4/hold": OPERATORS, "/jobs/4/release": OPERATORS,
    "/jobs/4/priority": OPERATORS, "/jobs/4/rebroker": OPERATORS, "/jobs/7/debug": OPERATORS, "/jobsets/{jobset}/retry": OPERATORS,
    "/jobsets/{jobset}/cancel": OPERATORS, "/jobs/bulk/retry?q=owner:alice": OPERATORS,
    "/jobs/bulk/cancel?q=owner:alice": OPERATORS, "/jobs/bulk/hold?q=owner:alice": OPERATORS,
    "/jobs/bulk/release?q=owner:alice": OPERATORS, "/jobs/bulk/rebroker?q=owner:alice": OPERATORS,
    "/jobs/bulk/priority?q=owner:alice&priority=5": OPERATORS, "/queues/north/status?to=offline": OPERATORS,
    "/nodes/north/wn-1/pause": OPERATORS, "/admin/switches/pause?what=dispatch": OPERATORS,
    "/admin/switches/resume?what=dispatch&queue=north": OPERATORS, "/incidents/1/answer": OPERATORS,
    "/jobs/7": KEEPERS, "/jobsets/{jobset}": KEEPERS, "/incidents/1": KEEPERS, "/admin": OPERATORS,
    "/audit": OPERATORS, "/users": OPERATORS, "/troubles": KEEPERS,
}  # fmt: skip


@pytest.mark.parametrize("role", ["viewer", "user", "production", "operator", "admin"])
def test_each_role_opens_what_it_may_and_whoever_may_not_does_nothing(
    world: World, parts: Parts, token: Token, role: str
) -> None:
    world.furnish("x")
    somebody = Browser(parts, token(f"some-{role}", role))
    opened, sent = {}, {}
    for path, roles in SHEETS.items():
        address = path.format(jobset=world.jobset_id)
        page = somebody.get(address)
        is_nothing = role not in roles and " 0 jobs" in page.text  # a filter means what somebody may do that to
        opened[path] = page.status_code != 403 and not is_nothing
        if role not in roles:
            query = dict(part.split("=") for part in address.partition("?")[2].split("&") if part)
            fields = {
                **query,
                "status": "offline",
                "node": "wn-1",
                "number": "1",
                "answer": "close",
                "on": "yes",
                "priority": "5",
            }
            sent[path] = somebody.post(address.partition("?")[0], **form(somebody, parts, **fields)).status_code

    assert opened == {path: role in roles for path, roles in SHEETS.items()}
    assert {path: status for path, status in sent.items() if not 400 <= status < 500} == {}
    assert world.count("SELECT count(*) FROM audit_log WHERE who = %(who)s", who=f"some-{role}") == 0
    assert world.count("SELECT count(*) FROM page_deeds WHERE who = %(who)s", who=f"some-{role}") == 0

"""Lists of every noun: filters, pages, orders, fields, CSV, and answers that the caller has already."""

import csv
import io
from datetime import date, timedelta

import pytest

from panda.db.session import rows, run
from panda.jobs import used

TEN = {"name": "ten", "template": {"command": ["echo", "${seq}"], "count": 10, "outputs": ["${seq}.root"]}}
#: Each noun that has pages, and the role that sees all of it.
NOUNS = {
    "jobs": "user", "jobsets": "user", "attempts": "user", "datasets": "user", "files": "user", "sites": "user",
    "queues": "user", "storages": "user", "pilots": "user", "nodes": "user", "actions": "user", "users": "admin",
    "tokens": "admin", "incidents": "operator", "audit": "operator",
}  # fmt: skip
MORE = """
INSERT INTO sites (name, cloud) SELECT 'SITE-' || i, 'NL' FROM generate_series(1, 5) i;
INSERT INTO storages (name, site, kind, root) SELECT 'DISK-' || i, 'SITE-' || i, 'local', '/x' FROM generate_series(1, 5) i;
INSERT INTO queues (name, site, storage, cores, memory_mb, disk_mb, walltime_s, tags)
    SELECT 'QUEUE-' || i, 'SITE-' || i, 'DISK-' || i, i, 1000, 1000, 3600, ARRAY['gpu'] FROM generate_series(1, 5) i;
INSERT INTO pilots (pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at)
    SELECT 'pilot-' || i, 'QUEUE-' || i, 'node-' || i, '1', 8, 1000, panda_now(), panda_now() - make_interval(hours => i)
    FROM generate_series(1, 5) i;
INSERT INTO datasets (scope, name, owner, created_at) SELECT 'mc', 'set-' || i, 'anna', panda_now() FROM generate_series(1, 5) i;
INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
    SELECT min(dataset_id), 'part-' || i, 'g', i, '00000001', panda_now() FROM datasets, generate_series(1, 5) i
    WHERE scope = 'mc' GROUP BY i;
INSERT INTO incidents (component, level, key, message, first_at, last_at)
    SELECT 'audit', 'error', 'key-' || i, 'broken', panda_now(), panda_now() FROM generate_series(1, 5) i;
INSERT INTO audit_log (at, who, action, target) SELECT panda_now(), 'otto', 'retry', 'job ' || i FROM generate_series(1, 5) i;
INSERT INTO bulk_actions (action, said, filter, asked_by, reason, status, after_panda_id, created_at)
    SELECT 'retry', 'status:failed', 'status:failed', 'anna', '', 'done', i, panda_now() FROM generate_series(1, 5) i;
INSERT INTO users (name, roles, created_at) SELECT 'user-' || i, ARRAY['user'], panda_now() FROM generate_series(1, 5) i;
INSERT INTO tokens (token_hash, owner, label, roles, created_at)
    SELECT decode(lpad(i::text, 4, '0'), 'hex'), 'user-' || i, 'laptop', ARRAY['user'], panda_now() FROM generate_series(1, 5) i
"""  # fmt: skip

SHORT_ROWS = """
INSERT INTO saved_views (owner, name, filter, created_at) SELECT 'anna', 'view-' || i, 'status:failed', panda_now() FROM generate_series(1, 3) i;
INSERT INTO switches (what, site, queue, node, set_by, reason, set_at) SELECT 'dispatch', '', 'QUEUE-' || i, '', 'otto', 'r', panda_now() FROM generate_series(1, 3) i;
INSERT INTO storage_quotas SELECT 'quota-' || i, ARRAY['anna'], ARRAY['*'], ARRAY['anna'], ARRAY['%%'], true, i FROM generate_series(1, 3) i;
INSERT INTO quotas (subject, queued_jobs) SELECT 'user:user-' || i, i FROM generate_series(1, 3) i
"""  # fmt: skip


@pytest.fixture
def ten(anna, engine, sites):
    accepted = anna.submit(TEN).json
    engine.expand()
    return list(range(accepted["first_panda_id"], accepted["last_panda_id"] + 1))


@pytest.fixture
def full(anna, begin, ten, engine):
    """Some of every noun."""
    anna.submit(TEN, key="another")
    with begin() as connection:
        for statement in MORE.split(";"):
            run(connection, statement)
    engine.fail(*ten[:5])


def pages_of(caller, address, limit=2):
    seen, after = [], ""
    while after is not None:
        joint = "&" if "?" in address else "?"
        page = caller.get(f"{address}{joint}limit={limit}{(after != '' and f'&after={after}') or ''}")
        assert page.status_code == 200, page.text
        assert ("Link" in page.headers) == (page.json["page"]["next"] is not None)
        seen += page.json["data"]
        after = page.json["page"]["next"]
    return seen


@pytest.mark.usefixtures("by_hand")
def test_every_noun_is_listed_page_by_page_in_order_and_shown(caller, full):
    for noun, role in NOUNS.items():
        somebody = caller("anna", role)

        seen = pages_of(somebody, f"/v1/{noun}")
        whole = somebody.get(f"/v1/{noun}").json["data"]

        assert len(seen) >= 2, noun
        assert seen == whole, noun
        identity = "did" if noun == "datasets" else next(iter(seen[0]))
        name = seen[0]["dataset"] if identity == "did" else seen[0][identity]
        at = f"/v1/{noun}/{name}"
        if noun == "attempts":
            at = f"/v1/jobs/{seen[0]['panda_id']}/attempts/{seen[0]['attempt_nr']}"
        shown = somebody.get(at).json
        assert {**shown, "failures_left": None} == {"failures_left": None, **seen[0]}, noun


@pytest.mark.usefixtures("by_hand")
def test_every_noun_comes_from_the_other_end_too(caller, full):
    for noun in ("jobs", "jobsets", "attempts", "datasets", "queues", "pilots"):
        anna = caller("anna", "user")
        order = {"jobs": "panda_id", "jobsets": "jobset_id", "attempts": "panda_id", "pilots": "pilot_id"}.get(
            noun, "name"
        )

        rising, falling = pages_of(anna, f"/v1/{noun}?sort={order}"), pages_of(anna, f"/v1/{noun}?sort=-{order}")

        assert rising == falling[::-1], noun
        assert len(rising) >= 5 or noun == "jobsets"


def test_filters_of_jobs_mean_what_they_say(anna, ten, engine, begin):
    engine.activate(*ten[:3])
    engine.fail(ten[9])
    engine.archive(ten[9])
    with begin() as connection:
        run(connection, "UPDATE jobs SET priority = 7, node = 'n_1' WHERE panda_id = %(id)s", {"id": ten[5]})

    def found(text):
        answer = anna.get("/v1/jobs", params={"filter": text})
        assert answer.status_code == 200, answer.text
        return [job["panda_id"] - ten[0] for job in answer.json["data"]]

    assert found("status:failed") == [9]
    assert found("status:failed archived:no") == []
    assert found("archived:yes") == [9]
    assert found("status:activated") == [2, 1, 0]
    assert found("site:HOL* not queue:none") == [2, 1, 0]
    assert found("queue:none status!=failed") == [8, 7, 6, 5, 4, 3]
    assert found("priority>=5 or status:failed") == [9, 5]
    assert found("node:n_*") == [5]
    assert found("node:n%*") == []
    assert found(f"panda_id:{ten[1]},{ten[9]}") == [9, 1]
    assert found("waits_for:pilot") == [2, 1, 0]
    assert found("stage:define priority<7") == [8, 7, 6, 4, 3]
    assert len(found("created:1h cores:1")) == 10
    assert found("created!=1h") == []
    assert found("owner:bert") == []
    assert found("error:payload:* message:*code*") == [9]
    assert found("name:none") == []


def test_nobody_gets_more_than_their_own_by_a_filter(caller, ten):
    bert = caller("bert", "user")

    assert bert.get("/v1/jobs", params={"filter": "owner:anna"}).json["data"] == []
    assert bert.get("/v1/jobs", params={"filter": "owner:bert or owner:anna"}).json["data"] == []
    assert bert.get("/v1/jobs?owner=anna").status_code == 403
    assert bert.get("/v1/jobs/counts?by=owner").json["n"] == 0
    assert bert.get("/v1/tokens").json["data"][0]["owner"] == "bert"
    assert [user["name"] for user in bert.get("/v1/users").json["data"]] == ["bert"]
    assert bert.get("/v1/users/anna").status_code == 403
    assert bert.get("/v1/incidents").status_code == 403


def test_no_hash_of_a_token_is_told(caller, anna):
    text = caller("root", "admin").get("/v1/tokens").text

    assert "hash" not in text
    assert anna.token not in text


@pytest.mark.usefixtures("by_hand")
def test_filters_of_other_nouns(caller, full):
    admin = caller("root", "admin")

    def n(noun, text):
        return len(admin.get(f"/v1/{noun}", params={"filter": text}).json["data"])

    assert n("queues", "tag:gpu cores>2") == 3
    assert n("queues", "cloud:NL site:SITE-1") == 1
    assert n("pilots", "seen:150m") == 2
    assert n("nodes", "node:node-* seen:150m queue:QUEUE-1") == 1
    assert n("datasets", "scope:mc name:set-*") == 5
    assert n("datasets", "dataset:mc:set-3") == 1
    assert n("files", "dataset:mc:set-1") == 5
    assert n("files", "dataset:mc:set-1 size>3") == 2
    assert n("files", "lfn:part-2") == 1
    assert n("incidents", "level:error key:key-1,key-2") == 2
    assert n("audit", "who:otto target:*3") == 1
    assert n("users", "role:user name:user-*") == 5
    assert n("tokens", "owner:user-2 revoked:none") == 1
    assert n("attempts", "outcome:failed owner:anna") == 5
    assert n("attempts", "owner:bert") == 0
    assert n("jobsets", "status:running open>0") == 2


def test_fields_and_csv(anna, ten):
    some = anna.get("/v1/jobs?fields=panda_id,status&limit=2").json["data"]
    assert [list(each) for each in some] == [["panda_id", "status"]] * 2

    for options in ({"headers": {"Accept": "text/csv"}}, {"params": {"format": "csv"}}):
        answer = anna.get("/v1/jobs", **options)
        table = list(csv.DictReader(io.StringIO(answer.text)))
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert [int(row["panda_id"]) for row in table] == ten[::-1]
        assert (table[0]["command"], table[0]["queue"], table[0]["archived"]) == ("echo 9", "", "false")

    page = anna.get("/v1/jobs?format=csv&fields=panda_id&limit=3&filter=status:pending")
    assert page.text.splitlines() == ["panda_id", *map(str, ten[:-4:-1])]
    assert page.headers["Link"].startswith("</v1/jobs?")
    following = anna.get(page.headers["Link"].partition(">")[0].removeprefix("<"))
    assert following.text.splitlines()[1] == str(ten[6])


def test_what_the_caller_has_is_not_sent_again(anna, ten):
    first = anna.get(f"/v1/jobs/{ten[0]}")
    mark = {"If-None-Match": first.headers["ETag"]}

    assert anna.get(f"/v1/jobs/{ten[0]}", headers=mark).status_code == 304
    assert anna.get(f"/v1/jobs/{ten[0]}", headers=mark).text == ""
    anna.post(f"/v1/jobs/{ten[0]}/cancel")
    assert anna.get(f"/v1/jobs/{ten[0]}", headers=mark).json["status"] == "cancelled"
    listed = anna.get("/v1/queues")
    assert anna.get("/v1/queues", headers={"If-None-Match": f'"x", W/{listed.headers["ETag"]}'}).status_code == 304


def test_jobs_are_counted_by_what_is_asked(anna, ten, engine):
    engine.activate(*ten[:3])
    engine.fail(ten[9])
    engine.archive(ten[9])

    by_two = anna.get("/v1/jobs/counts?by=status,site").json
    assert {(each["by"]["status"], each["by"]["site"]): each["n"] for each in by_two["data"]} == {
        ("pending", None): 6, ("activated", "HOLLAND"): 3, ("failed", None): 1}  # fmt: skip
    assert (by_two["n"], by_two["exact"], by_two["down_to"]) == (10, True, None)
    only = anna.get("/v1/jobs/counts", params={"filter": "status:pending", "by": "owner"}).json
    assert only["data"] == [{"by": {"owner": "anna"}, "n": 6}]


#: Lists that are known as a whole, and the role that sees them; what a page of two is made of.
SHORT = {
    "views": "anna", "switches": "anna", "site-rules": "anna", "shares": "anna", "quotas": "root",
    "storage-quotas": "anna",
}  # fmt: skip


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("noun", SHORT)
def test_short_lists_read_what_they_are_asked(noun, anna, caller, full, begin):
    with begin() as connection:
        for statement in SHORT_ROWS.split(";"):
            run(connection, statement)
    somebody = anna if SHORT[noun] == "anna" else caller("root", "admin")
    whole = somebody.get(f"/v1/{noun}").json["data"]

    for wrong in ("limit=0", "limit=1000000", "limit=x", "after=0", "format=xml"):
        answer = somebody.get(f"/v1/{noun}?{wrong}")
        assert (answer.status_code, answer.json["code"]) == (400, "invalid"), wrong
    assert somebody.get(f"/v1/{noun}?fields=no").json["code"] == "unknown_field"
    assert len(whole) >= (3 if noun != "shares" else 1)
    assert pages_of(somebody, f"/v1/{noun}") == whole
    first = next(iter(whole[0]))
    assert somebody.get(f"/v1/{noun}?fields={first}&limit=1").json["data"] == [{first: whole[0][first]}]
    table = list(csv.DictReader(io.StringIO(somebody.get(f"/v1/{noun}?format=csv").text)))
    assert [row[first] for row in table] == [str(each[first]) for each in whole]


@pytest.mark.usefixtures("by_hand")
def test_what_was_used_is_summed_by_what_is_asked(anna, caller, sites, begin):
    with begin() as connection:
        run(connection, """
INSERT INTO usage (day, owner, share, queue, n_finished, n_failed, n_cancelled, wall_s, cpu_s, core_s)
SELECT panda_now()::date - ago, owner, 'default', queue, 1, 2, 0, 10, 5, core_s FROM (VALUES
    (0, 'anna', 'HOLLAND-CPU', 40), (1, 'anna', '', 2), (40, 'anna', 'HOLLAND-CPU', 1000), (1, 'bert', 'HOLLAND-CPU', 100)
) AS t(ago, owner, queue, core_s)""")  # fmt: skip
    operator = caller("otto", "operator")

    def told(somebody, query):
        return [(each["name"], each["core_s"]) for each in somebody.get(f"/v1/usage?{query}").json["data"]]

    assert told(operator, "") == [("bert", 100), ("anna", 42)]
    assert told(operator, "days=90") == [("anna", 1042), ("bert", 100)]
    assert told(operator, "by=site&owner=anna") == [("HOLLAND", 40), ("", 2)]
    assert [core_s for _, core_s in told(operator, "by=day&days=2")] == [102, 40]
    assert told(anna, "") == [("anna", 42)]
    assert anna.get("/v1/usage?owner=bert").status_code == 403
    assert operator.get("/v1/usage?by=moon").json["code"] == "unknown_group"
    assert operator.get("/v1/usage?days=0").status_code == 400
    [sum_of_anna] = anna.get("/v1/usage").json["data"]
    assert sum_of_anna == {"name": "anna", "n_finished": 2, "n_failed": 4, "n_cancelled": 0, "wall_s": 20, "cpu_s": 10,
                           "core_s": 42, "day": None, "in_bytes": 0, "out_bytes": 0}  # fmt: skip


def test_jobs_have_one_order(anna, ten):
    for word in ("changed", "priority", "queue"):
        assert anna.get(f"/v1/jobs?sort={word}").json["code"] == "unknown_sort"


@pytest.fixture
def used_days(begin, sites):
    """Days of three users, two working groups and two kinds; some of it folded by an earlier release."""
    with begin() as connection:
        run(connection, """
INSERT INTO usage_days SELECT panda_now()::date - ago, owner, share, queue, working_group, kind, 1, 2, 0, 10, 5, core_s,
    100, 200
FROM (VALUES
    (0, 'anna', 'default', 'HOLLAND-CPU', 'higgs', 'production', 40), (1, 'anna', 'default', '', '', 'analysis', 2),
    (1, 'bert', 'default', 'HOLLAND-CPU', 'higgs', 'analysis', 100), (40, 'bert', 'ml', 'HOLLAND-CPU', 'top', 'test', 7)
) AS t(ago, owner, share, queue, working_group, kind, core_s)""")  # fmt: skip
        run(connection, """
INSERT INTO usage SELECT panda_now()::date - 1, 'carl', 'default', 'HOLLAND-CPU', 3, 0, 0, 10, 5, 1""")  # fmt: skip


@pytest.mark.usefixtures("by_hand", "used_days")
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("by=group", [("higgs", 140), ("", 3)]),
        ("by=group&days=90", [("higgs", 140), ("top", 7), ("", 3)]),
        ("by=kind", [("analysis", 102), ("production", 40), ("", 1)]),
        ("by=user", [("bert", 100), ("anna", 42), ("carl", 1)]),
        ("by=site", [("HOLLAND", 141), ("", 2)]),
        ("by=user&group=higgs", [("bert", 100), ("anna", 40)]),
        ("by=user&kind=analysis&group=higgs", [("bert", 100)]),
        ("by=user&site=HOLLAND", [("bert", 100), ("anna", 40), ("carl", 1)]),
        ("by=kind&queue=HOLLAND-CPU&owner=anna", [("production", 40)]),
        ("by=user&share=ml&days=90", [("bert", 7)]),
        ("by=user&share=nothing", []),
    ],
)
def test_what_was_used_is_told_by_group_kind_and_site_and_restricted(caller, query, told):
    answer = caller("otto", "operator").get(f"/v1/usage?{query}")

    assert [(each["name"], each["core_s"]) for each in answer.json["data"]] == told
    assert all(each["day"] is None for each in answer.json["data"])


@pytest.mark.usefixtures("by_hand", "used_days")
def test_a_series_of_more_rows_than_anybody_reads_is_refused(caller, monkeypatch):
    monkeypatch.setattr(used, "MOST_ROWS", 2)

    refused = caller("otto", "operator").get("/v1/usage?by=group&bin=day")

    assert (refused.status_code, refused.json["code"]) == (422, "too_wide")


@pytest.mark.usefixtures("by_hand", "used_days")
def test_what_was_used_is_told_as_a_series_and_the_series_as_csv(anna, caller, begin):
    operator = caller("otto", "operator")
    with begin() as connection:
        today = rows(connection, "SELECT panda_now()::date AS day")[0].day
    days = [(today - timedelta(days=ago)).isoformat() for ago in (1, 0)]

    series = operator.get("/v1/usage?by=group&bin=day").json["data"]
    assert [(each["day"], each["name"], each["core_s"]) for each in series] == [
        (days[0], "higgs", 100), (days[0], "", 3), (days[1], "higgs", 40)
    ]  # fmt: skip
    assert (series[0]["in_bytes"], series[0]["out_bytes"]) == (100, 200)
    table = list(csv.DictReader(io.StringIO(operator.get("/v1/usage?by=group&bin=day&format=csv").text)))
    assert [(row["day"], row["name"], float(row["core_s"])) for row in table] == [
        (days[0], "higgs", 100), (days[0], "", 3), (days[1], "higgs", 40)
    ]  # fmt: skip
    whole = pages_of(operator, "/v1/usage?by=group&bin=day")
    assert whole == series
    months = operator.get("/v1/usage?by=day&bin=month&days=90").json["data"]
    assert {each["day"][-2:] for each in months} == {"01"}
    assert sum(each["core_s"] for each in months) == 150
    weeks = operator.get("/v1/usage?by=user&bin=week").json["data"]
    assert {date.fromisoformat(each["day"]).weekday() for each in weeks} == {0}
    assert [each["name"] for each in anna.get("/v1/usage?by=user&bin=day").json["data"]] == ["anna", "anna"]
    assert anna.get("/v1/usage?by=group&owner=bert").status_code == 403
    wrong = operator.get("/v1/usage?bin=fortnight")
    assert (wrong.status_code, wrong.json["code"]) == (422, "unknown_bin")

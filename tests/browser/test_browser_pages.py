"""Every page in both themes: no violation of WCAG 2.2 A and AA, no script of others, nothing asked of other hosts."""

import re
from urllib.parse import quote

import pytest

from panda.db.session import run
from tests.browser.conftest import AXE, NASTIER, NASTY

PAGES = (
    "/", "/jobs", "/jobs?q=status:failed", "/jobs/{failed}", "/jobs/{failed}/retry", "/jobsets", "/jobsets/{jobset}",
    "/jobs/bulk/retry?q=status:failed", "/jobs/actions", "/sites", "/sites/NORTH", "/queues/NORTH-Q",
    "/queues/NORTH-Q/status?to=offline", "/pilots", "/datasets", "/me", "/users", "/usage",
    "/usage?by=group&bin=week&as=table&days=90&kind=analysis", "/errors", "/errors/pilot:1305", "/incidents",
    "/incidents/{incident}", "/incidents/{incident}/answer", "/celery", "/admin", "/audit", "/help", "/nowhere", "/jobs/{running}",
    "/jobs/{running}/cancel", "/jobsets/{jobset}/retry", "/transfers",
    "/troubles", "/tokens?all", "/tokens/new", "/files", "/jobsets?q=name:none+created:24h", "/jobsets?q=stauts:failed",
    "/datasets?sort=name", "/errors?q=queue:none-such", "/transfers?q=", "/queues?q=name:N*&edit=1", "/users/anna", "/nodes/NORTH-Q/{node}", "/nodes/NORTH-Q/{nastier}",
    "/pilots/{nastier}", "/datasets/user.anna:axe", "/files/user.anna:axe/{nastier}",
    "/admin/switches/pause?what=dispatch", "/search?q=nothing-is-called-so", "/login",
    "/jobs/{held}", "/jobs/{held}/release", "/jobs/{held}/priority", "/jobs/{held}/rebroker", "/jobs/{waiting}/hold",
    "/usage?by=kind&as=lines&group={nasty}&owner={nasty}", "/usage?by=group&as=share", "/jobs?q=name:{nasty_word}",
    "/jobsets?q=kind:{nasty_word}", "/nodes/NORTH-Q/{node}/pause",
)  # fmt: skip
#: Of these pages some say that there is nothing here, one that its filter cannot be meant.
SAYS_NO = re.compile(r"\b40[04]\b")
RULES = """() => axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})"""
#: What a theme changes is colours alone: of the second one nothing else is asked again.
COLOURS = """() => axe.run(document, {runOnly: {type: "rule", values: ["color-contrast", "link-in-text-block"]}})"""
ASKED = {"light": RULES, "dark": COLOURS}
INCIDENT = """
INSERT INTO incidents (component, level, key, message, context, first_at, last_at)
VALUES ('relay', 'warning', 'k', %(text)s, jsonb_build_object('fact', %(text)s::text), panda_now(), panda_now())
RETURNING incident_id
"""


#: A pilot and a file with names that nobody checks.
NAMED = """
WITH made AS (
    INSERT INTO pilots (pilot_id, queue, node, version, cores, memory_mb, started_at, last_seen_at, nothing_because)
    VALUES (%(n)s, 'NORTH-Q', %(n)s, %(n)s, 1, 1000, panda_now(), panda_now(), %(n)s)),
failed AS (INSERT INTO node_failures VALUES (date_trunc('hour', panda_now()), 'NORTH-Q', %(n)s, 9, 18)),
dataset AS (
    INSERT INTO datasets (scope, name, owner, n_files, size_bytes, created_at)
    VALUES ('user.anna', 'axe', 'anna', 1, 12, panda_now()) RETURNING dataset_id)
INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
SELECT dataset_id, %(n)s, 'g', 12, '00000001', panda_now() FROM dataset
"""


#: Where else people write: a view's name, what a job set is of, what was said to an incident, why places were changed.
WRITTEN = """
WITH viewed AS (INSERT INTO saved_views (owner, name, filter, created_at)
    VALUES ('ada', %(n)s, 'status:failed', panda_now())),
used AS (INSERT INTO usage_days VALUES (panda_now()::date, %(n)s, %(n)s, 'NORTH-Q', %(n)s, %(n)s, 5, 1, 0, 36, 30, 72, 1, 2)),
said AS (UPDATE incidents SET comment = %(n)s WHERE incident_id = %(incident)s),
because AS (UPDATE site_versions SET why = %(n)s)
UPDATE jobsets SET kind = %(n)s, working_group = %(n)s, cancel_reason = %(n)s WHERE jobset_id = %(jobset)s
"""


@pytest.fixture(scope="package")
def paths(begin, failed_job, running_job, worked, token_of):
    """The pages with numbers in them."""
    panda_ids = worked.submit(
        ["echo", NASTY], ["sh", "-c", f"echo '{NASTY}'; exit 1"], name="nasty", env={"SAID": NASTY}
    )
    held, waiting = worked.submit(["true"], ["true"], name="too-large", cores=64)
    worked.reaches(held, "defined")
    worked.client.hold(held, reason=NASTY)
    for panda_id in panda_ids:
        worked.reaches(panda_id, "finished", "failed")
    token_of("ada", "admin")  # views are kept for who is known
    with begin() as connection:
        incident = connection.exec_driver_sql(INCIDENT, {"text": NASTY}).scalar_one()
        jobset = connection.exec_driver_sql(
            "SELECT jobset_id FROM jobs WHERE panda_id = %(id)s", {"id": panda_ids[1]}
        ).scalar_one()
        run(connection, WRITTEN, {"n": NASTY, "incident": incident, "jobset": jobset})
        run(connection, "UPDATE jobs SET name = %(n)s, error_message = %(n)s WHERE panda_id = %(id)s",
            {"n": NASTY, "id": panda_ids[1]})  # fmt: skip
        run(connection, "UPDATE queues SET status_reason = %(n)s WHERE name = 'NORTH-Q'", {"n": NASTY})
        run(connection, NAMED, {"n": NASTIER})
        node = connection.exec_driver_sql(
            "SELECT node FROM jobs WHERE panda_id = %(id)s", {"id": running_job}
        ).scalar_one()
    words = {"failed": panda_ids[1], "running": running_job, "jobset": jobset, "incident": incident, "node": node,
             "held": held, "waiting": waiting, "nasty": quote(NASTY, safe=""),
             "nasty_word": quote('"' + NASTY.replace('"', '\\"') + '"', safe=""),
             "nastier": quote(NASTIER.replace("/", "%2F"), safe="%").replace("%252F", "%2F")}  # fmt: skip
    return [page.format(**words) for page in PAGES]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("scheme", list(ASKED))
def test_every_page_is_accessible_quiet_and_stays_here(person, paths, scheme):
    found: dict[str, object] = {}
    with person("ada", "admin", scheme=scheme) as ada:
        for path in (*paths, "/login?next=%2Fjobs"):
            if path.startswith("/login?"):
                ada.context.clear_cookies()  # who is not known yet sees the form
            ada.go(path)
            ada.page.evaluate(AXE.read_text(encoding="utf-8"))
            for each in ada.page.evaluate(ASKED[scheme])["violations"]:
                nodes = [f"{node['html'][:120]} :: {node['failureSummary'][:160]}" for node in each["nodes"][:3]]
                found[f"{path} {each['id']}"] = nodes
        troubles = [trouble for trouble in ada.troubles if not SAYS_NO.search(trouble)]

    assert found == {}, found
    assert troubles == []


#: What of a page reaches over its right edge, and commands that have no room for a word.
CRAMPED = """() => [
    ...(document.documentElement.scrollWidth > innerWidth ? [...document.querySelectorAll("body *")].filter((each) =>
        each.getBoundingClientRect().right > innerWidth + 1 && !each.closest(".scroll, .log, pre, svg, .hid")) : []),
    ...[...document.querySelectorAll(".cli code")].filter((each) => each.offsetParent && each.offsetWidth < 100),
    ...[...document.querySelectorAll("#logs h2 a")].filter((each) => {
        const panel = each.closest(".panel").getBoundingClientRect(), link = each.getBoundingClientRect();
        return link.right > panel.right + 1 || link.left < panel.left - 1; }),
].slice(0, 4).map((each) => each.outerHTML.slice(0, 110))"""


@pytest.mark.parametrize("width", [480, 900, 1400])
def test_pages_fit_into_windows_of_any_width(person, paths, width):
    with person("ada", "admin") as ada:
        ada.page.set_viewport_size({"width": width, "height": 900})
        found = {}
        for path in paths:
            ada.go(path)
            cramped = ada.page.evaluate(CRAMPED)
            if cramped:
                found[path] = cramped

    assert found == {}


def test_what_people_write_is_never_run(person, paths):
    with person("ada", "admin") as ada:
        for path in paths:
            ada.go(path)
            assert ada.page.locator("img[src=x], main script, [onmouseover], [onfocus], [onclick]").count() == 0, path
            assert ada.page.locator("a[href^='javascript'], form[action^='javascript']").count() == 0, path
        assert not [trouble for trouble in ada.troubles if not SAYS_NO.search(trouble)]


#: What each role is offered on a job that failed, one that runs, a queue, many jobs, an incident, what is switched,
#: tokens; and in the menu.
OPERATES = {"retry", "cancel", "hold", "priority", "rebroker", "queue", "node", "bulk", "incident", "switch"}
MATRIX = {
    "viewer": (set(), {"Incidents"}),
    "user": ({"bulk"}, {"Overview", "Errors"}),
    "production": ({"bulk"}, {"Incidents"}),
    "operator": (OPERATES, {"Incidents", "Admin", "Audit", "Users"}),
    "admin": (OPERATES | {"token"}, {"Incidents", "Admin", "Audit", "Users"}),
}


@pytest.mark.parametrize("role", MATRIX)
def test_each_role_is_offered_what_it_may_do_and_refused_the_rest(person, begin, running_job, worked, role):
    acts, menu = MATRIX[role]
    panda_id = worked.submit(["sh", "-c", "exit 7"], name="roles")[0]
    waiting = worked.submit(["true"], name="roles-wait", cores=64)[0]
    worked.reaches(panda_id, "failed")
    worked.reaches(waiting, "defined")
    with begin() as connection:
        incident = connection.exec_driver_sql(INCIDENT, {"text": f"for {role}"}).scalar_one()
        [(queue, node)] = connection.exec_driver_sql(
            "SELECT computing_site, node FROM jobs WHERE panda_id = %(id)s", {"id": running_job}
        ).all()
    sheets = {
        "retry": (f"/jobs/{panda_id}", f"/jobs/{panda_id}/retry"),
        "cancel": (f"/jobs/{running_job}", f"/jobs/{running_job}/cancel"),
        **{word: (f"/jobs/{waiting}", f"/jobs/{waiting}/{word}") for word in ("hold", "priority", "rebroker")},
        "node": (f"/nodes/{queue}/{node}", f"/nodes/{queue}/{node}/pause"),
        "queue": ("/queues/WEST-Q", "/queues/WEST-Q/status?to=online"),
        "bulk": ("/jobs?q=status:failed", "/jobs/bulk/cancel?q=status:failed"),
        "incident": (f"/incidents/{incident}", f"/incidents/{incident}/answer"),
        "switch": ("/admin", "/admin/switches/pause?what=dispatch"),
        "token": ("/tokens", "/tokens/new"),
    }
    with person(f"some-{role}", role) as somebody:
        ask = somebody.context.request
        may_see = ask.get(f"/jobs/{panda_id}").status == 200
        offered = set()
        for word, (page, sheet) in sheets.items():
            somebody.go(page)
            address = sheet.partition("?q")[0]
            offers = somebody.page.locator(f"a[href^='{address}'], button[formaction='{address}']")
            is_offered = any(offer.is_visible() for offer in offers.all())
            assert is_offered == (ask.get(sheet).status == 200), (word, role)
            if is_offered:
                offered.add(word)
        somebody.go("/")
        shown = {text.strip() for text in somebody.page.locator("nav.side a").all_inner_texts()}

    assert offered == acts
    assert may_see == (role != "user")
    assert menu <= {text.split("\n")[0] for text in shown}
    assert ("Admin" in {text.split("\n")[0] for text in shown}) == (role in ("operator", "admin"))


#: What has the focus now: of which part of the page it is, and whether one sees that.
FOCUSED = """() => {
    const here = document.activeElement, looks = getComputedStyle(here.closest(".search") ?? here), inside = (words) => here.closest(words) !== null;
    return {part: here.matches(".skip") ? "skip" : inside("nav.side") ? "menu" : inside(".search") ? "search"
            : inside("main table") ? "table" : inside(".bulk") ? "actions" : inside("main") ? "main" : "",
        isSeen: (looks.outlineStyle !== "none" && looks.outlineWidth !== "0px") || looks.boxShadow !== "none",
        html: here.outerHTML.slice(0, 90)}; }"""


def test_the_tab_key_reaches_every_part_of_a_page_and_one_sees_where(person, failed_job):
    with person("ada", "admin") as ada:
        ada.go("/jobs?q=status:failed")
        parts, unseen = [], []
        for _ in range(150):
            ada.page.keyboard.press("Tab")
            focused = ada.page.evaluate(FOCUSED)
            parts.append(focused["part"])
            if focused["part"] and not focused["isSeen"]:
                unseen.append(focused["html"])
            if {"table", "actions"} <= set(parts):
                break

    assert unseen == []
    assert [part for part in dict.fromkeys(parts) if part in ("skip", "menu", "search")] == ["skip", "menu", "search"]
    assert {"table", "actions"} <= set(parts)

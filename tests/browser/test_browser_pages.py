"""Every page in both themes: no violation of WCAG 2.2 A and AA, no script of others, nothing asked of other hosts."""

import pytest

from panda.db.session import run
from tests.browser.conftest import AXE, NASTY

PAGES = (
    "/", "/jobs", "/jobs?q=status:failed", "/jobs/{failed}", "/jobs/{failed}/retry", "/jobsets", "/jobsets/{jobset}",
    "/jobs/bulk/retry?q=status:failed", "/jobs/actions", "/sites", "/sites/NORTH", "/queues/NORTH-Q",
    "/queues/NORTH-Q/status?to=offline", "/pilots", "/datasets", "/me", "/users", "/usage", "/errors",
    "/errors/pilot:1305", "/incidents", "/incidents/{incident}", "/incidents/{incident}/answer", "/celery", "/admin",
    "/audit", "/help", "/nowhere",
)  # fmt: skip
RULES = """() => axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})"""
#: What a theme changes is colours alone: of the second one nothing else is asked again.
COLOURS = """() => axe.run(document, {runOnly: {type: "rule", values: ["color-contrast", "link-in-text-block"]}})"""
ASKED = {"light": RULES, "dark": COLOURS}
INCIDENT = """
INSERT INTO incidents (component, level, key, message, context, first_at, last_at)
VALUES ('relay', 'warning', 'k', %(text)s, jsonb_build_object('fact', %(text)s::text), panda_now(), panda_now())
RETURNING incident_id
"""


@pytest.fixture(scope="package")
def paths(begin, failed_job, worked):
    """The pages with numbers in them."""
    panda_ids = worked.submit(["echo", NASTY], ["sh", "-c", f"echo '{NASTY}'; exit 1"], name="nasty")
    for panda_id in panda_ids:
        worked.reaches(panda_id, "finished", "failed")
    with begin() as connection:
        incident = connection.exec_driver_sql(INCIDENT, {"text": NASTY}).scalar_one()
        jobset = connection.exec_driver_sql("SELECT max(jobset_id) FROM jobsets").scalar_one()
        run(connection, "UPDATE jobs SET name = %(n)s, error_message = %(n)s WHERE panda_id = %(id)s",
            {"n": NASTY, "id": panda_ids[1]})  # fmt: skip
        run(connection, "UPDATE queues SET status_reason = %(n)s WHERE name = 'NORTH-Q'", {"n": NASTY})
    return [page.format(failed=panda_ids[1], jobset=jobset, incident=incident) for page in PAGES]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("scheme", list(ASKED))
def test_every_page_is_accessible_quiet_and_stays_here(person, paths, scheme):
    found: dict[str, object] = {}
    with person("ada", "admin", scheme=scheme) as ada:
        for path in paths:
            ada.go(path)
            ada.page.evaluate(AXE.read_text(encoding="utf-8"))
            for each in ada.page.evaluate(ASKED[scheme])["violations"]:
                nodes = [f"{node['html'][:120]} :: {node['failureSummary'][:160]}" for node in each["nodes"][:3]]
                found[f"{path} {each['id']}"] = nodes
        troubles = [trouble for trouble in ada.troubles if "404" not in trouble]

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
            assert ada.page.locator("img[src=x], main script").count() == 0, path
        assert not [trouble for trouble in ada.troubles if "404" not in trouble]


#: What each role is offered on a job that failed, on a queue, and in the menu.
MATRIX = {
    "viewer": (set(), {"Incidents"}),
    "user": (set(), {"Overview", "Errors"}),
    "production": (set(), {"Incidents"}),
    "operator": ({"retry", "queue"}, {"Incidents", "Admin", "Audit", "Users"}),
    "admin": ({"retry", "queue"}, {"Incidents", "Admin", "Audit", "Users"}),
}


@pytest.mark.parametrize("role", MATRIX)
def test_each_role_is_offered_what_it_may_do_and_refused_the_rest(person, failed_job, worked, role):
    acts, menu = MATRIX[role]
    panda_id = worked.submit(["sh", "-c", "exit 7"], name="roles")[0]
    worked.reaches(panda_id, "failed")
    with person(f"some-{role}", role) as somebody:
        ask = somebody.context.request
        may_see = ask.get(f"/jobs/{panda_id}").status == 200
        offered = set()
        for word, page, sheet in (("retry", f"/jobs/{panda_id}", f"/jobs/{panda_id}/retry"),
                                  ("queue", "/queues/WEST-Q", "/queues/WEST-Q/status?to=online")):  # fmt: skip
            somebody.go(page)
            is_offered = somebody.page.locator(f"a[href^='{sheet}']").count() > 0
            assert is_offered == (ask.get(sheet).status == 200), (word, role)
            if is_offered:
                offered.add(word)
        somebody.go("/")
        shown = {text.strip() for text in somebody.page.locator("nav.side a").all_inner_texts()}

    assert offered == acts
    assert may_see == (role != "user")
    assert menu <= {text.split("\n")[0] for text in shown}
    assert ("Admin" in {text.split("\n")[0] for text in shown}) == (role in ("operator", "admin"))

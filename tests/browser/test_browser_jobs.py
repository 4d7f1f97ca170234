"""The list of jobs and the page of one, with the mouse and the keyboard."""

import re

from playwright.sync_api import expect

#: The key after `g`, and where it leads.
PLACES = {"o": "/", "j": "/jobs", "s": "/sites", "e": "/errors", "m": "/me"}


def test_every_key_does_what_the_help_says(person, failed_job):
    with person("olga", "operator") as olga:
        page, press = olga.page, olga.page.keyboard.press
        olga.go(f"/jobs?q=panda_id:{failed_job}")
        press("/")
        expect(page.locator(".search input")).to_be_focused()
        page.evaluate("document.activeElement.blur()")
        press("f")
        expect(page.locator(".filter input[name=add]")).to_be_focused()
        page.evaluate("document.activeElement.blur()")
        press("j")
        press("x")
        expect(page.locator(".n-chosen")).to_have_text("1 ticked")
        press(".")
        expect(page.locator(".live")).to_have_text("Paused")
        press(".")
        press("r")
        page.wait_for_url(re.compile("/jobs/bulk/retry"))
        olga.go("/jobs")
        press("j")
        press("j")
        press("k")
        expect(page.locator("tbody tr a.l").first).to_be_focused()
        press("Enter")
        page.wait_for_url(re.compile("/jobs/[0-9]+$"))
        olga.go("/usage")
        press("t")
        expect(page.locator(".astable").first).to_have_attribute("open", "")
        for key, path in PLACES.items():
            press("g")
            press(key)
            page.wait_for_url(lambda url, path=path: url.split("?")[0].endswith(path) and url.count("/") == 3)
        press("?")
        page.wait_for_url(re.compile("/help$"))
        told = page.locator("main table").first.inner_text()

    assert all(key in told for key in ("/", "f", "j k", "Enter", "x", "r", "t", ".", "?", "g then o"))


def test_columns_and_views_are_kept_and_a_drag_over_the_histogram_is_a_time_range(person, worked, failed_job):
    worked.reaches(worked.submit(["true"], name="later")[0], "finished")
    with person("olga", "operator") as olga:
        page = olga.page
        olga.go("/jobs?q=status:failed")
        page.click("summary:has-text('Columns')")
        page.check("[name=cols][value=node]")
        page.click(".menu button:has-text('Show')")
        expect(page.locator("th:has-text('Node')")).to_be_visible()
        page.click(".facet a:has-text('dispatch')")
        expect(page.locator(".chip")).to_have_count(2)
        expect(page.locator("th:has-text('Node')")).to_be_visible()
        page.click("a:has-text('Save view')")
        page.fill("[name=name]", "mine")
        page.click("form.ask button")
        olga.go("/jobs")
        page.click("summary:has-text('Views')")
        page.click(".saved a:has-text('@mine')")
        expect(page.locator(".chip")).to_have_count(2)

        olga.go("/jobs")
        box = page.locator("svg.histogram").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=4)
        expect(page.locator("svg.histogram .dragged")).to_be_attached()
        page.mouse.up()
        expect(page.locator(".chip")).to_contain_text("changed:")
        assert olga.troubles == []


def test_a_job_that_waits_is_held_from_its_page_and_released(person, worked, token_of):
    [panda_id] = worked.submit(["true"], name="large", cores=64)
    worked.reaches(panda_id, "defined")
    with person("olga", "operator") as olga:
        page = olga.page
        for word, after in (("Hold", "stands still"), ("Release", "goes on")):
            olga.go(f"/jobs/{panda_id}")
            page.click(f"main .bar a:has-text('{word}')")
            expect(page.locator(".sheet .cli")).to_contain_text(f"panda {word.lower()} {panda_id}")
            page.fill("#f-reason", "a test")
            page.click("form.ask button")
            expect(page.locator(".told")).to_contain_text(after)
        expect(page.locator("main .bar a:has-text('Hold')")).to_be_visible(timeout=10_000)
        assert olga.troubles == []


def test_a_log_grows_while_one_looks_and_its_first_error_is_a_click_away(person, worked):
    script = "for k in $(seq 300); do echo line $k; test $k = 7 && echo ERROR one; done; for k in $(seq 600); do echo tick $k; sleep 0.3; done"
    [panda_id] = worked.submit(["sh", "-c", script], name="talks", walltime_s=600)
    worked.reaches(panda_id, "running")
    with person("olga", "operator") as olga:
        page = olga.page
        olga.go(f"/jobs/{panda_id}")
        expect(page.locator(".log")).to_contain_text("tick", timeout=40_000)
        before = page.locator(".log div").last.inner_text()
        expect(page.locator(".log div").last).not_to_have_text(before, timeout=40_000)
        page.click("#logs a.bad")
        expect(page.locator("#first-error")).to_be_in_viewport()
        expect(page.locator("#first-error")).to_contain_text("ERROR one")
        page.click("#logs a:has-text('the end')")
        expect(page.locator(".log")).to_contain_text("tick")
        assert page.locator("#logs a:has-text('raw')").get_attribute("href").startswith(f"/jobs/{panda_id}/logs/1/")
        assert olga.troubles == []
    worked.client.cancel(panda_id, reason="seen")

"""What people do on the pages, with the mouse and in order."""

from playwright.sync_api import expect

from tests.browser.line import Line


def test_a_failed_job_is_found_read_retried_and_seen_to_finish(person, failed_job, system):
    with person("olga", "operator") as olga:
        page = olga.page
        olga.go("/jobs")
        page.click("a[href*='status%3Afailed']:has-text('failed') >> nth=0")
        page.click(f"a.l:text-is('{failed_job}')")

        expect(page.locator("h1")).to_contain_text("failed")
        expect(page.locator(".log")).to_contain_text("ERROR the disk is full")
        page.fill("input[name=find]", "disk")
        page.click("button:has-text('Find')")
        expect(page.locator("#logs")).to_contain_text("1 line holds")

        (system.folder / "mended").touch()
        olga.go(f"/jobs/{failed_job}")
        page.click("a:has-text('Retry')  >> nth=0")
        expect(page.locator(".sheetfacts")).to_contain_text("Runs again")
        page.fill("#f-reason", "the disk was emptied")
        page.click("form.ask button")

        expect(page.locator(".told")).to_contain_text("has a new attempt")
        expect(page.locator("h1")).to_contain_text("finished", timeout=60_000)
        assert page.evaluate("performance.getEntriesByType('navigation').length") == 1
        assert olga.troubles == []


def test_many_are_retried_after_a_preview_that_asks_for_their_number(person, worked, client):
    panda_ids = worked.submit(*[["sh", "-c", f"exit {k + 1}"] for k in range(3)], name="bulk")
    for panda_id in panda_ids:
        worked.reaches(panda_id, "failed")
    with person("olga", "operator") as olga:
        page = olga.page
        olga.go("/jobs?q=status:failed")
        page.fill(".filter input[name=add]", "panda_id:" + ",".join(map(str, panda_ids)))
        page.keyboard.press("Enter")
        expect(page.locator(".n-chosen")).to_have_text("All 3 that match")
        page.click(".bulk button:has-text('Retry stage')")

        expect(page.locator("h1")).to_have_text("Retry 3 jobs")
        expect(page.locator(".sheet tbody tr")).to_have_count(3)
        page.fill("#f-reason", "the queue was mended")
        page.fill("#f-number", "2")
        page.click("form.ask button")
        expect(page.locator("h1")).to_contain_text("Not possible now")

        page.go_back()
        page.fill("#f-number", "3")
        page.fill("#f-reason", "the queue was mended")
        page.click("form.ask button")

        expect(page.locator("h1")).to_contain_text("Retry of 3 jobs")
        expect(page.locator(".kpi")).to_contain_text("done", timeout=60_000)
        assert {worked.reaches(panda_id, "failed", "running", "sent", "activated") for panda_id in panda_ids}
        assert all(client.wait(jobs=[i], until=lambda _: True).jobs[0].attempt_nr == 2 for i in panda_ids)


def test_a_queue_set_offline_shows_its_effect_and_who_did_it(person, worked):
    with person("olga", "operator") as olga:
        page = olga.page
        olga.go("/queues/SOUTH-Q")
        page.click(".seg a:has-text('offline')")
        expect(page.locator(".warned").first).to_contain_text("no pilot gets a job")
        page.fill("#f-reason", "the storage is being moved")
        page.click("form.ask button")

        expect(page.locator(".told")).to_contain_text("SOUTH-Q is offline now")
        expect(page.locator("h1")).to_contain_text("offline")
        expect(page.locator("[data-live=changes]")).to_contain_text("the storage is being moved")
        olga.go("/audit")
        expect(page.locator("tbody tr").first).to_contain_text("olga")

        [job] = worked.submit(["true"], name="only-south", sites=["SOUTH"])
        worked.reaches(job, "pending", "defined")
        olga.go(f"/jobs/{job}")
        cure = "if queues that are offline were online: 1 more queue (SOUTH-Q)"
        expect(page.locator("#why")).to_contain_text(cure, timeout=30_000)
        expect(page.locator("h1")).to_contain_text("defined")

        olga.go("/queues/SOUTH-Q/status?to=online")
        page.fill("#f-reason", "done")
        page.click("form.ask button")
        expect(page.locator("h1")).to_contain_text("online")
        olga.go(f"/jobs/{job}")
        expect(page.locator("h1")).to_contain_text("finished", timeout=60_000)


def test_a_form_that_is_sent_twice_acts_once(person, begin):
    with person("olga", "operator") as olga:
        olga.go("/queues/WEST-Q/status?to=brokeroff")
        form = {i: olga.page.locator(f".ask [name={i}]").input_value() for i in ("seal", "key", "status")}
        form["reason"] = "once"
        for _ in range(2):
            assert olga.context.request.post("/queues/WEST-Q/status", form=form).status == 200
        forged = olga.context.request.post("/queues/WEST-Q/status", form={**form, "seal": "guessed", "key": "other"})

        assert forged.status == 403
        with begin() as connection:
            n = connection.exec_driver_sql("SELECT count(*) FROM audit_log WHERE reason = 'once'").scalar_one()
        assert n == 1


def test_a_page_whose_line_broke_says_so_and_catches_up_by_itself(person, worked, system):
    mark = system.folder / "may-end"
    [panda_id] = worked.submit(["sh", "-c", f"until test -e {mark}; do sleep 0.2; done"], name="live")
    worked.reaches(panda_id, "running")
    with Line(system.monitor) as line, person("olga", "operator", url=line.url) as olga:
        page, live, head = olga.page, olga.page.locator(".live"), olga.page.locator("h1")
        olga.go(f"/jobs/{panda_id}")
        expect(live).to_have_attribute("data-state", "live")
        expect(head).to_contain_text("running", timeout=30_000)
        page.evaluate("window.isTheSame = true")

        line.cut()
        expect(live).to_have_attribute("data-state", "stale", timeout=20_000)
        mark.touch()
        worked.reaches(panda_id, "finished")
        expect(head).to_contain_text("running")
        line.mend()

        expect(live).to_have_text("Live", timeout=30_000)
        expect(head).to_contain_text("finished", timeout=30_000)
        assert page.evaluate("window.isTheSame")

"""One installation of real processes, and people who look at it with a real browser."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from livesystem import System, await_that

from panda.auth import tokens
from panda.client import Client
from panda.db.session import begin_of, make_engine

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

AXE = Path(__file__).parents[1] / "data" / "axe.min.js"
#: Names under which Debian and others install it.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1400, "height": 900}
SMALL = {"memory_mb": 100, "disk_mb": 100, "walltime_s": 60, "max_attempts": 1}
NASTY = """<script>alert('x')</script>"><img src=x onerror=alert(1)>' onmouseover='alert(2)"""
#: The same for places that become addresses, or the data of a plot.
NASTIER = """javascript:alert(3)//' onfocus='alert(4)' x="</script><script>alert(5)</script>{"x": [1]}\x1b[31m<b onclick=alert(6)>"""


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where the browser is; without one, the tests here are skipped before a system is started for them."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no browser: apt-get install -y chromium, or name one in CHROMIUM")
    return path


@pytest.fixture(scope="module")
def chromium(chromium_path: str):
    """For one module: while Playwright runs it keeps an event loop in this thread, where other tests want theirs."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory, chromium_path: str) -> Iterator[System]:
    """Three sites, and some history: sets that finished, failed and wait; nasty words where people write."""
    system = System.started(
        tmp_path_factory.mktemp("browser"), dispatcher_lease_s=15, dispatcher_heartbeat_s=1, api_confirm_above=2
    )
    try:
        yield system
    finally:
        system.stop()


@pytest.fixture(scope="package")
def begin(system: System):
    """The installation's own database."""
    engine = make_engine(system.database_url)
    yield begin_of(engine)
    engine.dispose()


class Person:
    """Somebody in front of a browser of their own."""

    def __init__(self, chromium, url: str, token: str, scheme: str = "light") -> None:
        self.context = chromium.new_context(base_url=url, viewport=SIZE, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        #: What went wrong in the page, and where it went that is not ours.
        self.troubles: list[str] = []
        self.page.on("pageerror", lambda problem: self.troubles.append(str(problem)))
        self.page.on("console", lambda m: self.troubles.append(m.text) if m.type == "error" else None)
        self.page.on("dialog", lambda dialog: (self.troubles.append("a dialog opened"), dialog.dismiss()))
        self.page.on("request", lambda r: None if r.url.startswith((url, "data:")) else self.troubles.append(r.url))
        self.page.goto("/login")
        self.page.fill("#token", token)
        self.page.click("button:has-text('Log in')")
        self.page.wait_for_selector("h1:has-text('Overview')")

    def go(self, path: str) -> None:
        self.page.goto(path, wait_until="domcontentloaded")

    def close(self) -> None:
        self.context.close()


@pytest.fixture(scope="package")
def token_of(system: System, begin):
    """token_of(name, *roles): a new token."""

    def make(owner: str, *roles: str) -> str:
        with begin() as connection:
            return tokens.create(connection, owner, roles, "browser tests", None)

    return make


@pytest.fixture
def person(chromium, system: System, token_of):
    """person(name, *roles): logged in; `with` closes the browser. `url`: another way to the monitor."""

    @contextmanager
    def open_browser(name: str, *roles: str, scheme: str = "light", url: str = "") -> Iterator[Person]:
        somebody = Person(chromium, url or system.monitor.rstrip("/"), token_of(name, *roles), scheme)
        try:
            yield somebody
        finally:
            somebody.close()

    return open_browser


@pytest.fixture(scope="package")
def client(system: System, token_of) -> Iterator[Client]:
    """Anna's, who submits jobs."""
    client = Client(system.api, token_of("anna", "user"))
    yield client
    client.close()


class Worked:
    """What was done before anybody looked: numbers of jobs and sets."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def submit(
        self, *commands: list[str], name: str = "analysis", sites: Sequence[str] = (), **more: object
    ) -> list[int]:
        """PandaIDs of a new set with these commands."""
        document = {"name": name, "jobs": [{"command": command} for command in commands], "defaults": {**SMALL, **more}}
        document["brokerage"] = {"sites": list(sites)}
        accepted = self.client.submit(document)
        return [accepted.first_panda_id + k for k in range(accepted.n_jobs)]

    def reaches(self, panda_id: int, *statuses: str) -> str:
        """Its status, once it is one of these."""

        def look() -> str | None:
            job = self.client.wait(jobs=[panda_id], until=lambda _: True).jobs[0]
            return job.status if job.status in statuses else None

        return await_that(look, 60, lambda: self.client.why(panda_id).summary)


@pytest.fixture(scope="package")
def worked(system: System, client: Client) -> Worked:
    return Worked(client)


@pytest.fixture(scope="package")
def failed_job(worked: Worked, system: System) -> int:
    """Fails at its first attempt, and succeeds once the mark is there."""
    mark = system.folder / "mended"
    script = f"echo line one; echo 'ERROR the disk is full' >&2; test -e {mark} || exit 3; sleep 2; echo mended"
    [panda_id] = worked.submit(["sh", "-c", script], name="needs-mending")
    worked.reaches(panda_id, "failed")
    return panda_id


@pytest.fixture(scope="package")
def running_job(worked: Worked, system: System) -> int:
    """Runs until the installation ends."""
    [panda_id] = worked.submit(["sleep", "3600"], name="runs-on", walltime_s=3600)
    worked.reaches(panda_id, "running")
    return panda_id

"""Ten prepared troubles on a system of fifty simulated sites: the pages say what is broken, since when and whom it
hits, and it is mended there. The answer key is ten_troubles.toml."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from livesystem import System, await_that, clean_environ
from playwright.sync_api import expect

from browser.conftest import Person
from panda.auth import tokens
from panda.client import Client
from panda.db.session import begin_of, make_engine, rows, run

ROOT = Path(__file__).parents[3]
KEY = tomllib.loads((Path(__file__).parent / "ten_troubles.toml").read_text())
SMALL = {"memory_mb": 100, "disk_mb": 100, "walltime_s": 600, "max_attempts": 1}
SICK = ("12", "13", "14", "17", "18", "19", "20")
LATER = ("15", "16")
#: Nothing is mended by itself here.
NO_RULES = "[rules]\n"
#: Rare all week: what comes now is more than it was.
RARE = """
INSERT INTO error_hours (hour, error_code, failed_stage, queue, n, wall_s)
SELECT date_trunc('hour', panda_now()) - make_interval(days => d), 'pilot:1171', 'dispatch', 'SIM-17-Q', 1, 1
FROM generate_series(2, 6) d
"""


def names(*numbers: str) -> list[str]:
    return [f"SIM-{number}-Q" for number in numbers]


def groups(*each: dict[str, object]) -> str:
    """A fleet file. Each group: queues, and what else is not as usual."""
    told = ["starting = false", "[profiles.quick]", "wall_s = [0.1, 0.4]", "idle_s = 1.0"]
    sick = {
        "full": (1333, "507 insufficient storage"),
        "unreachable": (1137, "no route to host"),
        "torn": (1171, "adler32 differs"),
    }
    for name, (code, message) in sick.items():
        told += [
            f"[profiles.{name}]",
            'like = "quick"',
            "fails = 1.0",
            f"error_code = {code}",
            f'message = "{message}"',
        ]
    told += ["[profiles.killed]", 'like = "quick"', "silent = 1.0"]
    for group in each:
        settings = {"pilots": 1, "slots": 2, "profile": "quick", "starts_s": [0.0, 1.0], **group}
        told += ["[[groups]]"] + [f"{name} = {value!r}".replace("'", '"') for name, value in settings.items()]
    return "\n".join(told) + "\n"


class Broken:
    """The system with its troubles, and what the answer key cannot know beforehand."""

    def __init__(self, system: System) -> None:
        self.system, self.folder = system, system.folder
        self.engine = make_engine(system.database_url)
        self.begin = begin_of(self.engine)
        self.fleets: dict[str, subprocess.Popen[bytes]] = {}
        self.since: dict[str, datetime] = {}
        self.known: dict[str, str] = {}

    def fleet(self, name: str, text: str, token: str | None = None) -> None:
        """Pilots come, and stay until `gone`."""
        file, token_file = self.folder / f"{name}.toml", self.folder / f"{name}.token"
        file.write_text(text)
        token_file.write_text(token or self.system.pilot_token)
        words = ["simulate", "fleet", str(file), "--pilots-only", "--seconds", "3000", "--drain", "0"]
        self.fleets[name] = subprocess.Popen(
            [sys.executable, "-m", "panda.cli.main", *words, "--pilot-token-file", str(token_file)],
            env=clean_environ() | {"PANDA_URL": self.system.api}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def gone(self, name: str) -> None:
        fleet = self.fleets.pop(name)
        fleet.kill()
        fleet.wait()

    def token(self, owner: str, *roles: str, **more: object) -> str:
        with self.begin() as connection:
            return tokens.create(connection, owner, roles, more.pop("label", "test"), more.pop("ttl_s", None), **more)

    def ask(self, sql: str, **values: object) -> list[tuple[object, ...]]:
        with self.begin() as connection:
            return rows(connection, sql, values)

    def submit(
        self, owner: str, n: int, *sites: str, wall: str = "0.2", jobs: Sequence[object] = (), **more: object
    ) -> int:
        """A set of `n` jobs, or of these, that go to these sites alone; its number."""
        client = Client(self.system.api, self.token(owner, "user"))
        document = {
            "name": f"{owner}-work", **({"jobs": jobs} if jobs else {"template": {"command": ["true"], "count": n}}),
            "defaults": {**SMALL, "env": {"SIM_WALL_S": wall}, **more}, "brokerage": {"sites": [f"SIM-{s}" for s in sites]},
        }  # fmt: skip
        with client:
            return client.submit(document).jobset_id

    def counted(self, jobset_id: int, **wanted: int) -> None:
        """Wait until so many jobs of a set have each status."""

        def look() -> bool:
            found = dict(self.ask("""SELECT status, count(*) FROM (SELECT status FROM jobs WHERE jobset_id = %(id)s
                UNION ALL SELECT status FROM jobs_archive WHERE jobset_id = %(id)s) j GROUP BY status""", id=jobset_id))  # fmt: skip
            return all(found.get(status, 0) == n for status, n in wanted.items())

        await_that(look, 120, lambda: f"{wanted} of set {jobset_id}: {self.ask('SELECT * FROM jobsets')}")

    def stop(self) -> None:
        for name in list(self.fleets):
            self.gone(name)
        self.engine.dispose()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, chromium_path: str) -> Iterator[Broken]:
    sites = (ROOT / "examples" / "fleet" / "sites.toml").read_text()
    folder = tmp_path_factory.mktemp("troubles")
    (folder / "site-rules.toml").write_text(NO_RULES)
    system = System.started(
        folder, sites=sites, dispatcher_lease_s=8, dispatcher_heartbeat_s=2, api_confirm_above=100,
        brokerage_leave_offline_s=3600,
    )  # fmt: skip
    made = Broken(system)
    try:
        _break(made)
        yield made
    finally:
        made.stop()
        system.stop()


def _break(it: Broken) -> None:
    """Everything goes wrong. Who waits for what stands in the answer key."""
    well = [f"{n:02}" for n in range(1, 51) if f"{n:02}" not in (*SICK, *LATER)]
    it.since["all"] = datetime.now(UTC) - timedelta(seconds=5)
    with it.begin() as connection:
        run(connection, RARE)
    dying = it.token("harvester", "pilot", label="pilots of SIM-15", ttl_s=3.0, queue="SIM-15-Q")
    it.known["token"] = str(it.ask("SELECT token_id FROM tokens WHERE label = 'pilots of SIM-15'")[0][0])
    it.fleet("well", groups({"queues": names(*well)}, {"queues": names("11"), "profile": "black-hole"}))
    it.fleet("sick", groups(
        {"queues": names("12"), "profile": "full"}, {"queues": names("13"), "profile": "unreachable"},
        {"queues": names("14"), "profile": "killed", "memory_mb": 1000},
        {"queues": names("17", "18", "19", "20"), "profile": "torn"},
    ))  # fmt: skip
    it.fleet("dying", groups({"queues": names("15")}), dying)
    closed = it.submit("bert", 7, "16")
    it.submit("anna", 36, "11")
    it.submit("anna", 12, "12")
    it.submit("bert", 9, "13")
    large = [{"command": ["true"], "memory_mb": 2000}] * 4
    it.known["set"] = str(it.submit("bert", 0, "14", max_attempts=2, jobs=[{"command": ["true"]}, *large]))
    for owner in ("anna", "bert"):
        it.submit(owner, 20, "17", "18", "19", "20")
    it.counted(closed, activated=7)
    olga = Client(it.system.api, it.token("olga", "operator"))
    with olga:
        until = datetime.now(UTC) + timedelta(days=1)
        olga.set_queue_status("SIM-16-Q", "offline", reason="cooling is repaired", until=until)
    await_that(lambda: it.ask("SELECT 1 FROM tokens WHERE expires_at < panda_now() AND label = 'pilots of SIM-15'"), 30)
    it.submit("anna", 6, "15")
    it.submit("floria", 1_500, "41", "42", wall="900")
    it.known["worker"], it.known["pid"] = f"data@{os.uname().nodename}", str(it.system.pid("data"))
    os.kill(it.system.pid("data"), signal.SIGSTOP)


@pytest.fixture(scope="module")
def ada(chromium, broken: Broken) -> Iterator[Person]:
    """An admin, who looks at the page of troubles."""
    somebody = Person(chromium, broken.system.monitor.rstrip("/"), broken.token("ada", "admin"))
    yield somebody
    somebody.close()


def told(broken: Broken, name: str, **more: str) -> dict[str, str]:
    return {word: text.format(**broken.known, **more) for word, text in KEY[name].items()}


def card(ada: Person, broken: Broken, wanted: dict[str, str]):
    """The trouble on the page, as soon as it stands there."""
    selector = f'article[data-key="{wanted["key"]}"]'

    def look() -> bool:
        ada.go("/troubles")
        return ada.page.locator(selector).count() > 0

    await_that(look, 150, lambda: [ada.page.locator("article h2").all_inner_texts(), wanted["key"]])
    return ada.page.locator(selector)


def is_gone(ada: Person, wanted: dict[str, str]) -> bool:
    ada.go("/troubles")
    return ada.page.locator(f'article[data-key="{wanted["key"]}"]').count() == 0


def read(ada: Person, broken: Broken, wanted: dict[str, str], since: datetime | None = None):
    """What is broken, since when, whom it hits; and all of it in words."""
    found = card(ada, broken, wanted)
    expect(found.locator("h2")).to_contain_text(wanted["title"])
    expect(found).to_contain_text(wanted["hits"])
    expect(found).to_contain_text(wanted["told"])
    at = found.locator("time").first.get_attribute("datetime")
    assert at is not None
    began = since or broken.since["all"]
    assert (
        began - timedelta(hours=1) * ("An error rises" in wanted["title"])
        <= datetime.fromisoformat(at)
        <= datetime.now(UTC)
    )
    return found


def carry_out(ada: Person, n: int | None = None) -> None:
    """Fill in the sheet that a button leads to, and confirm."""
    page = ada.page
    page.fill("#f-reason", "the cause is mended")
    if n is not None and page.locator("#f-number").count():
        page.fill("#f-number", str(n))
    page.click("form.ask button")
    expect(page.locator(".told")).to_be_visible()


def finishes(broken: Broken, owner: str, site: str) -> None:
    """Nothing of somebody's at a site is left that failed."""
    await_that(
        lambda: broken.ask("SELECT count(*) FROM jobs WHERE owner = %(o)s AND computing_site = %(q)s AND status <> 'finished'",
                           o=owner, q=f"SIM-{site}-Q")[0][0] == 0, 120,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["black-hole", "storage-full", "stage-out", "downtime", "rising", "flood"])
def test_the_page_says_what_is_broken_since_when_and_whom_it_hits(broken, ada, name):
    found = read(ada, broken, told(broken, name))

    expect(found.locator(".btns a").first).to_have_text(told(broken, name)["mends"])


def test_a_black_hole_is_taken_out_and_what_it_ate_runs_elsewhere(broken, ada):
    found = card(ada, broken, told(broken, "black-hole"))
    retry = found.locator("a:has-text('Retry its failed jobs')").get_attribute("href")
    found.locator("a:has-text('Take the node out')").click()
    carry_out(ada)
    expect(ada.page.locator("h1")).to_contain_text("Node sim-11-1-000")
    expect(ada.page.locator("main")).to_contain_text("Taken out")

    ada.go(retry)
    carry_out(ada, n=int(re.search(r"\d+", ada.page.locator("h1").inner_text())[0]))

    finishes(broken, "anna", "11")
    expect(card(ada, broken, {"key": "paused dispatch node sim-11-1-000 of queue SIM-11-Q"})).to_contain_text(
        "is taken out"
    )


def test_who_floods_the_system_waits_behind_the_others(broken, ada):
    card(ada, broken, told(broken, "flood")).locator("a:has-text('Lower their priority')").click()
    expect(ada.page.locator(".sheetfacts")).to_contain_text("owner:floria")
    carry_out(ada, n=int(re.search(r"[\d,]+", ada.page.locator("h1").inner_text())[0].replace(",", "")))
    expect(ada.page.locator(".kpi")).to_contain_text("done", timeout=60_000)

    [(n,)] = broken.ask("SELECT count(*) FROM jobs WHERE owner = 'floria' AND priority = -500")
    assert n > 1_000


def test_poison_is_cancelled_with_its_set_before_it_ends_more_pilots(broken, ada):
    found = read(ada, broken, told(broken, "poison"))
    button = found.locator(".btns a").first
    expect(button).to_have_text(told(broken, "poison")["mends"])
    button.click()
    carry_out(ada)

    broken.counted(int(broken.known["set"]), failed=1, cancelled=4)


def test_pilots_with_a_new_token_from_the_page_are_let_in_again(broken, ada):
    read(ada, broken, told(broken, "token")).locator("a:has-text('New token')").click()
    expect(ada.page.locator("#f-queue")).to_have_value("SIM-15-Q")
    ada.page.fill("#f-reason", "the old one ended")
    ada.page.click("form.ask button")
    fresh = ada.page.locator(".cli code").inner_text()
    broken.gone("dying")
    broken.fleet("renewed", groups({"queues": names("15")}), fresh)

    finishes(broken, "anna", "15")


@pytest.fixture(scope="module")
def repaired(broken: Broken, ada: Person) -> None:
    """Outside of PanDA the causes are mended: storages have room, disks are whole, pilots are well. Only once every
    trouble of theirs was read."""
    for name in ("storage-full", "stage-out", "rising", "poison"):
        card(ada, broken, told(broken, name))
    broken.gone("sick")
    broken.fleet("cured", groups({"queues": names(*SICK, "16")}))


def test_what_failed_at_a_place_is_retried_once_the_place_is_mended(broken, ada, repaired):
    progress = []
    for name in ("storage-full", "stage-out", "rising"):
        card(ada, broken, told(broken, name)).locator("a:has-text('Retry them')").click()
        expect(ada.page.locator(".sheetfacts")).to_contain_text("It costs")
        carry_out(ada)
        progress.append(ada.page.url)

    expect(ada.page.locator(".kpi")).to_contain_text("done", timeout=60_000)
    for url in progress:
        ada.go(url)
        expect(ada.page.locator(".kpi")).to_contain_text("done", timeout=60_000)
    for owner, site in (("anna", "12"), ("bert", "13"), ("anna", "17"), ("bert", "20")):
        finishes(broken, owner, site)


def test_a_queue_in_downtime_is_opened_again(broken, ada, repaired):
    card(ada, broken, told(broken, "downtime")).locator("a:has-text('Set the status')").click()
    expect(ada.page.locator("#f-status")).to_have_value("online")
    carry_out(ada)
    expect(ada.page.locator("h1")).to_contain_text("online")

    finishes(broken, "bert", "16")


def test_a_worker_that_hangs_is_named_with_the_process_to_end(broken, ada):
    found = read(ada, broken, told(broken, "worker"))
    pid = re.search(r"kill -9 (\d+)", found.inner_text())[1]

    assert pid == broken.known["pid"]
    os.kill(int(pid), signal.SIGKILL)


def test_redis_that_is_away_is_told_and_nothing_is_lost_meanwhile(broken, ada):
    pid, since = broken.system.pid("redis"), datetime.now(UTC)
    os.kill(pid, signal.SIGSTOP)
    try:
        read(ada, broken, told(broken, "redis"), since - timedelta(seconds=1))
        jobset_id = broken.submit("anna", 3, "01")
    finally:
        os.kill(pid, signal.SIGCONT)

    broken.counted(jobset_id, finished=3)


def test_in_the_end_the_page_tells_no_more_of_what_was_mended(broken, ada):
    mended = [told(broken, name) for name in ("redis", "worker", "token", "downtime", "black-hole")]

    for wanted in mended:
        assert await_that(lambda wanted=wanted: is_gone(ada, wanted), 60, lambda wanted=wanted: wanted["title"])

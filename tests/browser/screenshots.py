"""`make screenshots`: a system with some history, and a picture of each page in both themes under build/screenshots.

`--url` and `--token-file` look at a system that runs already.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
from playwright.sync_api import sync_playwright

from browser.scene import Scene
from panda.client import Client

PAGES = (
    "/", "/?hours=3", "/jobs", "/jobs?q=status:failed", "/jobs?q=kind:analysis cores:1 memory:100 attempt:1",
    "/jobs?q=statos:failed", "/jobs/{job}", "/jobs/{job}/retry", "/jobs/{waiting}", "/jobs/{running}",
    "/jobs/{waiting}/hold", "/jobs/{waiting}/priority", "/jobs/{waiting}/rebroker", "/jobs/{waiting}/cancel",
    "/jobsets", "/jobsets/{jobset}", "/jobs/bulk/retry?q=status:failed", "/jobs/actions", "/sites", "/sites/{site}",
    "/queues/{queue}", "/queues/{queue}/status?to=offline", "/nodes/{queue}/{node}", "/pilots", "/pilots/{pilot}",
    "/transfers", "/datasets", "/datasets/{dataset}", "/files", "/files/{dataset}/run1.txt", "/me", "/me/notices/new",
    "/me/views/new", "/tokens", "/tokens/new", "/users", "/users/anna", "/usage",
    "/usage?measure=n_failed&by=queue&days=7&as=lines", "/usage?measure=n_finished&by=kind&as=share",
    "/usage?measure=in_bytes&by=site&days=7&as=table", "/errors", "/errors?q=error:pilot:*", "/errors/pilot:1333",
    "/incidents", "/troubles", "/celery", "/admin", "/admin/switches/pause?what=dispatch", "/audit", "/search?q=SIM",
    "/search?q=nothing-has-this-name", "/nowhere", "/help",
)  # fmt: skip
NAMES = ("job", "waiting", "running", "jobset", "queue", "site", "node", "pilot", "dataset")
#: Of a system that has done nothing yet.
FIRST_PAGES = ("/login", "/", "/jobs", "/jobsets", "/me")


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--url", help="of the monitor of a system that runs")
    asked.add_argument("--api", help="of its API")
    asked.add_argument("--token-file", type=Path)
    asked.add_argument("--out", type=Path, default=Path("build/screenshots"))
    asked.add_argument("--only", default="", help="part of the addresses to look at")
    asked.add_argument("--after-s", type=float, default=60, help="let the charts fill for this long")
    given = asked.parse_args()
    if given.url:
        token = given.token_file.read_text().strip()
        pictures(given.url, token, Client(given.api, token), given.out, given.only)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="screenshots-"))
    scene = Scene.started(folder)
    system = scene.system
    try:
        shots(system.monitor, system.token, {}, given.out, [p for p in FIRST_PAGES if given.only in p], "first-")
        scene.begin()
        until = time.monotonic() + given.after_s
        while time.monotonic() < until:
            time.sleep(min(60.0, max(0.0, until - time.monotonic())))
            scene.more()
        pictures(system.monitor, system.token, system.client, given.out, given.only)
    finally:
        scene.end()
        shutil.rmtree(folder)
    return 0


def pictures(url: str, token: str, client: Client, out: Path, only: str) -> None:
    """Every page, of a system that has some failed job."""
    shots(url, token, facts_of(client), out, [page for page in PAGES if only in page])


def facts_of(client: Client) -> dict[str, object]:
    """What stands in the addresses: things that there are."""
    found: dict[str, object] = {"dataset": "user.admin:raw.2026"}
    for name, asked in (
        ("job", {"status": "failed"}),
        ("waiting", {"status": "defined"}),
        ("running", {"status": "running"}),
    ):
        mine = list(client.jobs(owner="admin", limit=1, **asked)) or list(client.jobs(limit=1, **asked))
        if mine:
            found[name] = mine[0].panda_id
            found |= {"jobset": mine[0].jobset_id} if name == "job" else {}
    sick = list(client.jobs(status="failed", queue="SIM-12-Q", limit=1)) or list(client.jobs(status="failed", limit=1))
    if sick:
        job = client.job(sick[0].panda_id)
        queue = str(job.queue)
        found |= {"queue": queue, "site": queue.removesuffix("-Q"), "node": job.node, "pilot": job.pilot_id}
    return found


def shots(url: str, token: str, facts: dict[str, object], out: Path, pages: Sequence[str], prefix: str = "") -> None:
    """A picture of each page in both themes; those whose address names what there is not are left out."""
    out.mkdir(parents=True, exist_ok=True)
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            page = browser.new_context(
                base_url=url.rstrip("/"), viewport={"width": 1400, "height": 900}, color_scheme=scheme
            ).new_page()
            page.goto("/login")
            page.fill("#token", token)
            page.click("button:has-text('Log in')")
            page.wait_for_selector("h1")
            for path in pages:
                if any(f"{{{name}}}" in path and not facts.get(name) for name in NAMES):
                    continue
                page.goto(path.format(**facts), wait_until="domcontentloaded")
                name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "overview"
                page.screenshot(path=out / f"{prefix}{name}-{scheme}.png", full_page=True)
        browser.close()
    print(f"{len(list(out.glob('*.png')))} pictures in {out}")


if __name__ == "__main__":
    sys.exit(main())

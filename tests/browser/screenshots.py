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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
from livesystem import System
from playwright.sync_api import sync_playwright

from panda.client import Client

PAGES = (
    "/", "/jobs", "/jobs?q=status:failed", "/jobs/{job}", "/jobs/{job}/retry", "/jobsets", "/jobsets/{jobset}",
    "/jobs/bulk/retry?q=status:failed", "/sites", "/queues/{queue}", "/pilots", "/datasets", "/me", "/usage", "/errors",
    "/errors/pilot:1305", "/incidents", "/celery", "/admin", "/audit", "/help",
)  # fmt: skip
SCRIPTS = ("exit 0", "exit 0", "sleep 3; exit 0", "exit 3", "echo ERROR no such file >&2; exit 65", "sleep 40")


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
    system = System.started(Path(tempfile.mkdtemp(prefix="screenshots-")), dispatcher_heartbeat_s=1)
    try:
        work(system.client)
        time.sleep(given.after_s)
        pictures(system.monitor, system.token, system.client, given.out, given.only)
    finally:
        system.stop()
        shutil.rmtree(system.folder)
    return 0


def work(client: Client) -> None:
    """A few sets of every kind; waits until some failed."""
    small = {"memory_mb": 100, "disk_mb": 100, "walltime_s": 90, "max_attempts": 1}
    for n in range(3):
        jobs = [
            {"command": ["sh", "-c", f"echo job {k}; {script}"]} for k in range(4) for script in SCRIPTS[: 4 + n % 3]
        ]
        done = client.submit({"name": f"analysis-{n}", "jobs": jobs, "defaults": small})
    busy = [
        {"command": ["sh", "-c", f"for i in 1 2 3 4 5 6; do echo event $i of {k}; sleep 4; done"]} for k in range(60)
    ]
    client.submit({"name": "reco-mc26", "jobs": busy, "defaults": {**small, "walltime_s": 600}})
    client.wait(jobs=[done.first_panda_id + 3], until=lambda seen: seen.jobs[0].status == "failed", timeout_s=120)


def pictures(url: str, token: str, client: Client, out: Path, only: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    failed = list(client.jobs(status="failed", limit=1))
    facts = {"job": failed[0].panda_id, "jobset": failed[0].jobset_id, "queue": failed[0].queue} if failed else {}
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
            for path in PAGES:
                if facts or "{" not in path:
                    if only not in path:
                        continue
                    page.goto(path.format(**facts), wait_until="domcontentloaded")
                    name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "overview"
                    page.screenshot(path=out / f"{name}-{scheme}.png", full_page=True)
        browser.close()
    print(f"{len(list(out.glob('*.png')))} pictures in {out}")


if __name__ == "__main__":
    sys.exit(main())

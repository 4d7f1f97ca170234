"""The example board and alerts name only what the API and the monitor of a running system tell."""

import re
import urllib.request

from livesystem import System, await_that

from tests.acceptance.conftest import User
from tests.integration.api.test_metrics import expressions, names, sampled


def test_every_metric_of_the_board_and_the_alerts_is_told(system: System, user: User) -> None:
    [job] = user.run(["true"])
    assert job.status == "finished"

    def told() -> str:
        return scrape(system.api)

    await_that(lambda: 'panda_stage_seconds_count{stage="archive"}' in sampled(told()), 20)
    known = names(told()) | names(scrape(system.monitor))

    for title, expression in expressions():
        used = set(re.findall(r"\bpanda_\w+", expression))
        assert used, title
        assert used <= known, title


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text

"""`python -m panda.harvester`: keep as many pilots as the queues want."""

import secrets
import signal
import time
from typing import Any

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from panda import collector, incident_log, logs, plugins
from panda.db.session import Begin, begin_from
from panda.harvester.demand import Demand, demands
from panda.harvester.submitters.base import Order, Submitter
from panda.logs import Log
from panda.settings import Settings, current

log = Log("panda.harvester")

#: A queue whose pilots fail waits 1, 2, 4 … seconds between two of them, at most this.
MAX_PAUSE_S = 60.0


class Harvester:
    """Looks at the demand and starts pilots; one per installation."""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings
        self._submitters: dict[str, Submitter] = {}
        self._not_before: dict[str, float] = {}
        self._stopped = False

    def stop(self, *_: Any) -> None:
        """Leave after this look, and end the pilots."""
        self._stopped = True

    def run(self) -> None:
        """Look, start, sleep; until stopped."""
        while not self._stopped:
            try:
                self.look()
            except (OperationalError, PoolTimeout) as problem:
                log.warning("the database is away", problem=str(problem).split("\n")[0])
            time.sleep(self._settings.harvester.poll_s)
        for submitter in self._submitters.values():
            submitter.stop()

    def look(self) -> None:
        """Start what is wanted now."""
        with self._begin() as connection:
            wanted = demands(connection)
        for demand in wanted:
            if demand.submitter == "local" and not self._settings.harvester.local_queues:
                continue
            self._serve(demand, self._submitter(demand.submitter))

    def _serve(self, demand: Demand, submitter: Submitter) -> None:
        more = demand.more(submitter.alive(demand.queue))
        if not more or time.monotonic() < self._not_before.get(demand.queue, 0):
            return
        failures = submitter.failures(demand.queue)
        if failures:  # one at a time, ever slower, until one does well again
            more = 1
            self._not_before[demand.queue] = time.monotonic() + min(MAX_PAUSE_S, 2.0**failures)
        for _ in range(more):
            pilot_id = f"{demand.queue}-{secrets.token_hex(5)}"
            submitter.submit(
                Order(
                    pilot_id, demand.queue, demand.cores, demand.memory_mb, demand.disk_mb, demand.walltime_s,
                    demand.tags, demand.options,
                )
            )  # fmt: skip
        log.info("pilots started", queue=demand.queue, n=more, ready=demand.n_ready, failures=failures)

    def _submitter(self, name: str) -> Submitter:
        if name not in self._submitters:
            api = self._settings.api
            made: Submitter = plugins.load("panda.submitters", name)(
                self._settings.data_dir, f"http://{api.host}:{api.port}", self._settings.harvester.idle_s
            )
            self._submitters[name] = made
        return self._submitters[name]


def main() -> None:
    logs.setup()
    incident_log.install("pilots", current())
    harvester = Harvester(begin_from(current()), current())
    signal.signal(signal.SIGTERM, harvester.stop)
    signal.signal(signal.SIGINT, harvester.stop)
    collector.spare()
    harvester.run()


if __name__ == "__main__":
    main()

"""One run of the lab: start, load, break, come to rest, prove, report."""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import psycopg

from panda.chaos import clocks, people, stores
from panda.chaos.ask import Line
from panda.chaos.faults import FAULTS, REFUSED
from panda.chaos.given import EMBEDDED, Given
from panda.chaos.history import History
from panda.chaos.lab import Broken, Fault, Lab, NotPossible
from panda.chaos.load import Load
from panda.chaos.pilots import PlayedPilot, Seen
from panda.chaos.proof import OPEN, STATUSES, TIMES, prove
from panda.chaos.proxy import Proxy
from panda.chaos.report import Report
from panda.chaos.system import DISKS_MB, System

N_PILOTS = 6
#: Before the first fault: what the system does when nothing breaks.
CALM_S = 8.0


@dataclass(frozen=True)
class Plan:
    """What a run shall do."""

    seconds: float
    seed: int
    rate: float = 70.0
    """Played jobs submitted per second."""
    faults: Sequence[Fault] = FAULTS
    pause_s: tuple[float, float] = (0.5, 2.5)
    """Between two faults."""
    rest_s: float = 240.0
    """The system comes to rest within this after the last fault, or jobs count as lost."""
    calm_s: float = CALM_S


def run(
    plan: Plan, environ: Mapping[str, str], keep: Path | None, say: Callable[[str], None], given: Given = EMBEDDED
) -> Report:
    """Run the lab; its system is ended and its folder removed whatever happens, and given stores are empty again.

    Args:
        keep: folder that gets the history and the logs; None: they go when the lab closes.
    Raises:
        Conflict: a given store holds something; nothing was done.
        Unavailable: a store does not answer, the system does not start.
    """
    given.check()
    folder = Path(tempfile.mkdtemp(prefix="panda-chaos-"))
    try:
        say(f"seed {plan.seed}: starting a system in {folder}")
        system = System.started(
            folder, {**environ, **given.environ(), **clocks.environ(plan.seed)}, disks_mb=given.disks(DISKS_MB)
        )
        try:
            return _Run(plan, system, say).carry_out()
        finally:
            system.stop()
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / "history.jsonl", keep / f"history-{plan.seed}.jsonl")
                shutil.copytree(folder / "log", keep / f"log-{plan.seed}", dirs_exist_ok=True)
    finally:
        given.clear()
        shutil.rmtree(folder, ignore_errors=True)


class _Run:
    def __init__(self, plan: Plan, system: System, say: Callable[[str], None]) -> None:
        self._plan, self._system, self._say = plan, system, say
        self._history = History(system.folder / "history.jsonl")
        self._random = random.Random(f"faults/{plan.seed}")
        api = urlsplit(system.api)
        self._proxy = Proxy(str(api.hostname), int(api.port or 80), plan.seed)
        self._proxy.start()
        self._seen = Seen()
        self._stop_load, self._stop_pilots = Event(), Event()
        direct = Line(system.api, system.token)
        self._load = Load(
            Line(self._proxy.url, system.token), self._history, self._stop_load,
            rate=plan.rate, real_every_s=3.0, seed=plan.seed,
        )  # fmt: skip
        self._pilots = [
            PlayedPilot(nr, Line(self._proxy.url, system.pilot_token), self._history, self._seen, self._stop_pilots,
                        plan.seed)
            for nr in range(N_PILOTS)
        ]  # fmt: skip
        self._n_newcomers = N_PILOTS
        self._lab = Lab(
            system,
            self._proxy,
            self._pilots,
            direct,
            self._random,
            self._stop_load,
            self._load.accepted,
            self._newcomer,
        )
        self._injected: Counter[str] = Counter()
        self._skipped: dict[str, str] = {}
        self._broken: list[dict[str, str]] = []

    def _newcomer(self) -> PlayedPilot:
        self._n_newcomers += 1
        line = Line(self._proxy.url, self._system.pilot_token)
        return PlayedPilot(self._n_newcomers, line, self._history, self._seen, self._stop_pilots, self._plan.seed, n=1)

    def carry_out(self) -> Report:
        try:
            return self._carry_out()
        finally:
            self._stop_load.set()
            self._stop_pilots.set()
            for pilot in self._pilots:
                pilot.is_silent.clear()
                pilot.join(15)
            self._proxy.stop()
            self._history.close()

    def _carry_out(self) -> Report:
        for pilot in self._pilots:
            pilot.start()
        self._load.start()
        began = time.monotonic()
        time.sleep(self._plan.calm_s)
        calm = self._times()
        deadline = began + self._plan.calm_s + self._plan.seconds
        for fault in self._order():
            if time.monotonic() >= deadline:
                break
            self._inject(fault)
            time.sleep(min(self._random.uniform(*self._plan.pause_s), max(0.0, deadline - time.monotonic())))
        load_s = time.monotonic() - began
        self._stop_load.set()
        self._load.join(60)
        people.open_queue_again(self._lab.line)
        stores.cure(self._lab)
        n_done = self._n_ended()
        self._say(f"seed {self._plan.seed}: {sum(self._injected.values())} faults; coming to rest")
        rest_s = self._come_to_rest()
        proof = prove(self._system, self._load.accepted, self._seen, self._load.changed_ids)
        proof.faults_that_found = self._broken
        return Report(
            seed=self._plan.seed, clocks=clocks.told(self._plan.seed), load_s=load_s, rest_s=rest_s,
            n_sets=len(self._load.accepted),
            n_jobs=sum(each.n_jobs for each in self._load.accepted), n_ended_under_load=n_done,
            by_status={row.status: row.n for row in self._system.query(STATUSES)},
            faults={fault.name: (fault.number, self._injected[fault.name]) for fault in self._plan.faults
                    if self._injected[fault.name]},
            skipped=self._skipped, n_starts=sum(self._seen.starts.values()), n_started=len(self._seen.starts),
            calm=calm, all_in_all=self._times(), operations={
                f"{name}/{outcome}": n for (name, outcome), n in sorted(self._history.counts.items())},
            proof=proof,
        )  # fmt: skip

    def _order(self) -> "Sequence[Fault]":
        """Every fault once before any comes again, each time in another order."""
        order: list[Fault] = []
        for _ in range(50):
            order += self._random.sample(list(self._plan.faults), len(self._plan.faults))
        return order

    def _inject(self, fault: Fault) -> None:
        with self._history.operation("fault", "lab", fault=fault.name, number=fault.number) as operation:
            try:
                fault.inject(self._lab)
            except NotPossible as reason:
                operation.fail(why=str(reason))
                self._skipped[fault.name] = str(reason)
                return
            except Broken as found:
                self._broken.append({"fault": fault.name, "found": str(found)})
            except REFUSED as problem:
                operation.fail(why=repr(problem)[:200])
                self._skipped[fault.name] = f"refused: {type(problem).__name__}"
                return
            operation.ok()
        self._injected[fault.name] += 1
        self._skipped.pop(fault.name, None)

    def _come_to_rest(self) -> float:
        began = time.monotonic()
        while time.monotonic() - began < self._plan.rest_s:
            if self._n_open() == 0:
                break
            time.sleep(0.5)
        return time.monotonic() - began

    def _n_open(self) -> int:
        try:
            return int(self._system.query(OPEN)[0].n)
        except psycopg.Error:
            return -1

    def _n_ended(self) -> int:
        final = ("finished", "failed", "cancelled", "closed")
        for _ in range(30):
            try:
                return sum(row.n for row in self._system.query(STATUSES) if row.status in final)
            except psycopg.Error:
                time.sleep(1)
        return 0

    def _times(self) -> dict[str, float]:
        """Seconds from acceptance to the end, of the jobs that finished so far."""
        try:
            [row] = self._system.query(TIMES)
        except psycopg.Error:
            return {}
        return {name: round(value, 2) for name, value in row._asdict().items() if value is not None}
